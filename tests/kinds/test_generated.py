"""What is generated from the kinds: structural schemas, definitions, files that are not stale."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mizzen.kinds import KINDS, Resource
from mizzen.kinds.crd import crd_of, crds
from mizzen.kinds.definitions import definitions
from mizzen.kinds.generate import files, main
from mizzen.kinds.schema import editor, structural

ROOT = Path(__file__).parents[2]
PACKAGE = "src/mizzen/kinds"
KEYWORDS = {
    "description", "type", "format", "enum", "minimum", "maximum", "minLength", "maxLength", "pattern", "minItems",
    "maxItems", "required", "properties", "items", "additionalProperties", "default", "oneOf", "anyOf",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "x-kubernetes-validations",
}  # fmt: skip


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema inside a schema, outside of combinations."""
    yield path, schema
    for name, sub in schema.get("properties", {}).items():
        yield from nodes(sub, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


def at(kind: type[Resource], path: str) -> dict[str, Any]:
    return dict(nodes(structural(kind)))[path]


def kind(name: str) -> type[Resource]:
    return next(kind for kind in KINDS if kind.__name__ == name)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_structural_schema_says_every_type_and_nothing_foreign(kind: type[Resource]) -> None:
    for path, schema in nodes(structural(kind)):
        assert set(schema) <= KEYWORDS, path
        open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string")
        assert "type" in schema or open_ended, path
        assert schema.get("additionalProperties") is not False, path
        if schema.get("type") == "array":
            assert "items" in schema, path


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_status_has_no_defaults_and_metadata_is_open(kind: type[Resource]) -> None:
    schema = structural(kind)
    assert [path for path, sub in nodes(schema["properties"]["status"]) if "default" in sub] == []
    assert schema["properties"]["metadata"] == {"type": "object"}


def test_defaults_of_whole_objects_are_told_once() -> None:
    endpoint = kind("InferenceEndpoint")
    assert at(endpoint, ".spec.scaling.replicas")["default"] == 1
    assert at(endpoint, ".spec.scaling")["default"] == {}
    assert at(endpoint, ".spec.worker")["default"] == {}
    own = {name: sub["default"] for name, sub in at(endpoint, ".spec.worker.resources")["properties"].items()}
    told = at(endpoint, ".spec.worker.resources")["default"]
    assert [name for name, value in told.items() if value == own[name]] == []
    assert "default" not in at(endpoint, ".spec.worker.env")


def test_what_a_structural_schema_cannot_say_is_left_open() -> None:
    dataset = kind("Dataset")
    assert at(dataset, ".spec.expectations[].min")["x-kubernetes-preserve-unknown-fields"] is True
    assert at(dataset, ".spec.expectations[].inSet[]") == {"x-kubernetes-preserve-unknown-fields": True}
    parameters = at(kind("TrainingJob"), ".spec.parameters")
    assert (parameters["type"], parameters["x-kubernetes-preserve-unknown-fields"]) == ("object", True)


def test_notations_are_checked_by_pattern() -> None:
    cpu = at(kind("Dataset"), ".spec.resources.cpu")
    assert cpu["x-kubernetes-int-or-string"] is True
    assert cpu["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert at(kind("Dataset"), ".spec.timeout")["pattern"].startswith("^(")


def test_maps_with_checked_keys_have_checked_values() -> None:
    assert at(kind("Model"), ".spec.aliases[]") == {"type": "integer", "minimum": 1}


def test_a_definition_names_its_kind_and_its_subresources() -> None:
    definition = crd_of(kind("InferenceEndpoint"))
    assert definition["metadata"]["name"] == "inferenceendpoints.mizzen.dev"
    assert definition["spec"]["names"] == {
        "plural": "inferenceendpoints",
        "singular": "inferenceendpoint",
        "kind": "InferenceEndpoint",
        "listKind": "InferenceEndpointList",
        "shortNames": ["ie"],
        "categories": ["mizzen", "all"],
    }
    version = definition["spec"]["versions"][0]
    assert version["subresources"]["scale"]["specReplicasPath"] == ".spec.scaling.replicas"
    assert version["additionalPrinterColumns"][-1] == {
        "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
    }  # fmt: skip
    assert "scale" not in crd_of(kind("Model"))["spec"]["versions"][0]["subresources"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_printer_columns_and_scale_paths_name_fields_that_are_there(kind: type[Resource]) -> None:
    fields = {path for path, _ in nodes(structural(kind))}
    told = [column.json_path for column in kind.columns if "[?(" not in column.json_path]
    if kind.scale is not None:
        told += [kind.scale.spec_replicas_path, kind.scale.status_replicas_path, kind.scale.label_selector_path]
    assert [path for path in told if path not in fields and not path.startswith(".metadata.")] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_editor_is_told_what_a_user_may_write(kind: type[Resource]) -> None:
    schema = editor(kind)
    assert "status" not in schema["properties"]
    assert schema["additionalProperties"] is False
    text = str(schema)
    assert [word for word in ("x-kubernetes", "x-mizzen", "'null'") if word in text] == []
    for reference in [part.split("'")[0] for part in text.split("'#/$defs/")[1:]]:
        assert reference in schema["$defs"]


def test_no_generated_file_is_stale() -> None:
    """`python -m mizzen.kinds.generate` was run after the last change to the kinds; its folders hold nothing else."""
    wanted = {path.as_posix(): text for path, text in files().items()}
    generated = [
        *(ROOT / "deploy/crds").iterdir(),
        *(ROOT / "docs/schemas").iterdir(),
        *(ROOT / PACKAGE).glob("*.json"),
    ]
    there = {path.relative_to(ROOT).as_posix(): path.read_text() for path in generated}
    assert sorted(there) == sorted(wanted)
    assert [name for name, text in wanted.items() if there[name] != text] == []


def test_generating_twice_gives_the_same_bytes_and_removes_what_is_gone(tmp_path: Path) -> None:
    main(tmp_path)
    (tmp_path / "deploy/crds/gone.mizzen.dev.yaml").write_text("x")
    first = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if "gone" not in path.name}
    main(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == first


def test_the_files_say_what_the_definitions_are() -> None:
    written = [yaml.safe_load(text) for path, text in files().items() if path.suffix == ".yaml"]
    assert written == crds() == definitions()
