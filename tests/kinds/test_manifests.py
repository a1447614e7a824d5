"""What users write: right manifests pass as they are, wrong ones are told with place, expectation, finding and line."""

import copy
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.kinds import Dataset, InferenceEndpoint, Model, ModelVersion, TrainingJob
from mizzen.kinds.crd import crds
from mizzen.kinds.errors import ManifestErrors
from mizzen.kinds.manifests import BYTES_MAX, load
from mizzen.kinds.yamltext import dump
from mizzen.local.apiserver.schema.builtin import BUILTIN_TYPES
from mizzen.local.apiserver.schema.crd import resource_types
from mizzen.local.apiserver.schema.structural import default, prune, validate

FLIGHTS = """\
apiVersion: mizzen.dev/v1alpha1
kind: Dataset
metadata: {name: flights}
spec:
  source: {python: "flights:scheduled"}
  eventTime: scheduled_at
  resources: {cpu: 2, memory: 2Gi}
  timeout: 1h30m
  nodeSelector: {disk: ssd}
  env:
    - {name: MODE, value: fast}
    - name: KEY
      secret: {name: keys, key: api}
  expectations:
    - {column: distance, min: 1, max: 9999.5, onFailure: quarantine}
    - {column: carrier, inSet: [AA, 1, 2.5, true]}
    - {column: scheduled_at, min: "2024-01-01T00:00:00Z"}
    - {minRows: 10}
    - {column: scheduled_at, maxAge: 24h}
---
kind: Dataset   # apiVersion left out: the first one's
metadata: {name: planes, labels: {team: ml}}
spec:
  source: {files: ["data/*.csv", "s3://bucket/planes.parquet"]}
---
kind: Model
metadata: {name: late-arrival}
spec:
  task: binary-classification
  gates:
    - {metric: roc_auc, atLeast: 0.68}
    - {metric: roc_auc, comparedWith: production, noWorseBy: 0.005}
  aliases: {champion: 3}
---
# an empty document
---
kind: TrainingJob
metadata: {name: late-arrival}
spec:
  model: late-arrival
  entrypoint: "train:fit"
  datasets: [{name: flights, version: 0}]
  parameters: {depth: [1, null, {deep: yes}], rate: 0.1}
  seed: 7
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
data: {whatever: they, say: "here"}
---
kind: InferenceEndpoint
metadata: {name: late-arrival}
spec:
  model: late-arrival@production
  access: anonymous
  scaling: {replicas: 2}
  batching: {maxRows: 64}
  queue: {timeout: 10s, maxRows: 100}
  worker: {resources: {cpu: 500m}, startTimeout: 1m}
"""


def errors(text: str, source: str = "a.yaml") -> list[str]:
    with pytest.raises(ManifestErrors) as caught:
        load(text, source)
    assert str(caught.value).splitlines() == [str(error) for error in caught.value.errors]
    return [str(error) for error in caught.value.errors]


def test_right_manifests_pass_as_they_are() -> None:
    manifests = load(FLIGHTS, "flights.yaml")
    kinds = [type(manifest.resource) if manifest.resource else manifest.wire["kind"] for manifest in manifests]
    assert kinds == [Dataset, Dataset, Model, TrainingJob, "ConfigMap", InferenceEndpoint]
    lines = FLIGHTS.splitlines()
    begins = [lines[manifest.line - 1].partition(":")[0] for manifest in manifests]
    assert begins == ["apiVersion", "kind", "kind", "kind", "apiVersion", "kind"]
    assert {manifest.wire["apiVersion"] for manifest in manifests} == {"mizzen.dev/v1alpha1", "v1"}
    written = [document for document in yaml.safe_load_all(FLIGHTS) if document]
    assert [
        {**document, "apiVersion": manifest.wire["apiVersion"]}
        for document, manifest in zip(written, manifests, strict=True)
    ] == [manifest.wire for manifest in manifests]


def test_what_is_parsed_has_the_defaults_and_what_was_written_has_not() -> None:
    endpoint = load(FLIGHTS, "flights.yaml")[-1]
    assert isinstance(endpoint.resource, InferenceEndpoint)
    assert endpoint.resource.spec.worker.resources.memory == "2Gi"
    assert endpoint.resource.spec.worker.env == []
    assert endpoint.wire["spec"]["worker"] == {"resources": {"cpu": "500m"}, "startTimeout": "1m"}


def test_json_is_read_too() -> None:
    written = [manifest.wire for manifest in load(FLIGHTS, "flights.yaml")]
    assert [
        manifest.wire for manifest in load(json.dumps({"apiVersion": "v1", "kind": "List", "items": written}), "x")
    ] == written
    assert load(json.dumps(written[0]), "x")[0].wire == written[0]


WRONG = """\
apiVersion: mizzen.dev/v1alpha1
kind: InferenceEndpoint
metadata: {name: late-arrival}
spec:
  modle: late-arrival
  scaling: {replicas: -3, replica: 4}
  access: apikey
  batching: {maxRows: "5", max_rows: 3}
  queue: {timeout: 5 minutes}
  queue: {timeout: 5m}
---
kind: Datset
metadata: {}
---
kind: Dataset
metadata: {name: Bad_Name}
spec:
  source: {}
  expectations: [{column: a, min: [1]}, {minRows: 1.5}, 5, {}]
  resources: {cpu: -1, memory: x}
  env: [{name: "1 2"}]
  nodeSelector: [a]
---
- a
---
kind: Model
metadata: {name: a, lables: {}}
spec:
  task: binary_classification
  gates: [{metric: a, atLeast: 1, atMost: 2}]
  aliases: {b: 0}
---
kind: ie
metadata: {name: a}
---
apiVersion: mizzen.dev/v1
kind: Model
metadata: {name: a}
---
a: [
"""
TOLD = """\
spec.modle: expected a field that is known here, got modle; did you mean model? (endpoints.yaml:5)
spec.scaling.replicas: expected an integer of at least 0, got -3 (endpoints.yaml:6)
spec.scaling.replica: expected a field that is known here, got replica; did you mean replicas? (endpoints.yaml:6)
spec.access: expected one of api-key, anonymous, got "apikey"; did you mean api-key? (endpoints.yaml:7)
spec.batching.maxRows: expected an integer, got "5" (endpoints.yaml:8)
spec.batching.max_rows: expected a field that is known here, got max_rows; did you mean maxRows? (endpoints.yaml:8)
spec.queue: expected each field once, got it again (first in line 9) (endpoints.yaml:10)
kind: expected a kind of mizzen.dev, got "Datset"; did you mean Dataset? (endpoints.yaml:12)
metadata.name: expected the object's name, got nothing (endpoints.yaml:13)
metadata.name: expected a name of lower-case letters, digits and dashes that begins and ends with a letter or digit, \
at most 63 of them, got "Bad_Name" (endpoints.yaml:16)
spec.source: expected exactly one of python, files, sql, push and batchPrediction, got an empty mapping (endpoints.yaml:18)
spec.expectations[0].min: expected a number or a text, got a list (endpoints.yaml:19)
spec.expectations[1].minRows: expected an integer, got 1.5 (endpoints.yaml:19)
spec.expectations[2]: expected a mapping, got 5 (endpoints.yaml:19)
spec.expectations[3]: expected exactly one check: notNull, unique, min and/or max, inSet, regex, minRows and/or \
maxRows, or maxAge, got an empty mapping (endpoints.yaml:19)
spec.resources.cpu: expected a quantity that is not negative, got -1 (endpoints.yaml:20)
spec.resources.memory: expected a quantity such as 500m, 2 or 1Gi, got "x" (endpoints.yaml:20)
spec.env[0].name: expected the name of an environment variable, got "1 2" (endpoints.yaml:21)
spec.nodeSelector: expected a mapping, got a list (endpoints.yaml:22)
document 4: expected a mapping with apiVersion, kind and metadata, got a list (endpoints.yaml:24)
metadata.lables: expected a field that is known here, got lables; did you mean labels? (endpoints.yaml:27)
spec.task: expected one of binary-classification, multiclass-classification, regression, other, got \
"binary_classification"; did you mean binary-classification? (endpoints.yaml:29)
spec.gates[0]: expected exactly one of atLeast, atMost and comparedWith, got a mapping (endpoints.yaml:30)
spec.aliases.b: expected an integer of at least 1, got 0 (endpoints.yaml:31)
kind: expected a kind of mizzen.dev, got "ie"; did you mean InferenceEndpoint? (endpoints.yaml:33)
apiVersion: expected mizzen.dev/v1alpha1, got "mizzen.dev/v1" (endpoints.yaml:36)
document 8: expected YAML or JSON, got a text that is neither: did not find expected node content while parsing a flow \
node (endpoints.yaml:40)
"""


def test_everything_that_is_wrong_is_told_at_once_in_the_order_of_lines() -> None:
    assert errors(WRONG, "endpoints.yaml") == TOLD.splitlines()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\tkind: x", "document 1: expected YAML or JSON, got a text that is neither: found a tab"),
        ("x", 'document 1: expected a mapping with apiVersion, kind and metadata, got "x" (a.yaml:1)'),
        (
            "kind: Model\nmetadata: {name: a}",
            "apiVersion: expected an API version such as mizzen.dev/v1alpha1, got nothing",
        ),
        ("apiVersion: v1\nkind: 5\nmetadata: {name: a}", "kind: expected a kind, got 5 (a.yaml:2)"),
        ("apiVersion: mizzen.dev/v1alpha1\nkind: Modle\nmetadata: {name: a}", "; did you mean Model? (a.yaml:2)"),
        (
            "apiVersion: mizzen.dev/v1alpha1\nkind: Zebra\nmetadata: {name: a}",
            "; the kinds are Dataset, FeatureView, Model, ModelVersion",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: 5",
            "metadata: expected a mapping with the object's name, got 5 (a.yaml:3)",
        ),
        (
            "apiVersion: v1\nkind: List\nitems:\n- 5",
            "items[0]: expected a mapping with apiVersion, kind and metadata, got 5",
        ),
        ("a: &a [x]\nb: *c", "expected an anchor &c before *c (a.yaml:2)"),
        ("[" * 100_000, "expected at most 200 levels"),
        (
            "x" * (BYTES_MAX + 1),
            "document 1: expected at most 4 MiB of text, got 4.0 MiB; split it into several files (a.yaml:1)",
        ),
        ("# " + "x" * 10 * 1024 * 1024, "got 10.0 MiB"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_manifest_is_told(text: str, expected: str) -> None:
    assert any(expected in told for told in errors(text))


def test_nothing_is_found_in_nothing() -> None:
    assert load("", "a.yaml") == load("---\n---\n# x\n", "a.yaml") == []


def test_null_is_as_good_as_nothing() -> None:
    """An API server takes it so, too."""
    load("apiVersion: mizzen.dev/v1alpha1\nkind: Model\nmetadata: {name: a}\nspec: {gates: , task: ~}", "a.yaml")


def test_generated_names_need_no_name() -> None:
    manifest = load("apiVersion: mizzen.dev/v1alpha1\nkind: Model\nmetadata: {generateName: a-}", "a.yaml")[0]
    assert isinstance(manifest.resource, Model)


# -- a thousand wrong ones

VERSION = {
    "apiVersion": "mizzen.dev/v1alpha1",
    "kind": "ModelVersion",
    "metadata": {"name": "churn-3"},
    "spec": {
        "model": "churn",
        "version": 3,
        "artifact": {"digest": f"sha256:{'0' * 64}", "bytes": 10},
        "signature": {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1]}],
        },
        "metrics": {"roc_auc": 0.7},
    },
}
OURS = [manifest.wire for manifest in load(FLIGHTS, "x") if manifest.resource is not None] + [VERSION]
REQUIRED = [
    ("spec",), ("spec", "source"), ("spec", "model"), ("spec", "entrypoint"), ("spec", "signature", "inputs"),
    ("spec", "artifact", "digest"), ("spec", "signature", "inputs", 0, "datatype"), ("metadata", "name"), ("kind",),
]  # fmt: skip
FREE = {("spec", "parameters"), ("spec", "expectations", 1, "inSet")}
"""Where anything goes."""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if path in FREE:
        return [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


def holder(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path[:-1]:
        value = value[step]
    return value


@st.composite
def mutants(draw: st.DrawFn) -> dict[str, Any]:
    """A right manifest with one thing made wrong."""
    obj = copy.deepcopy(draw(st.sampled_from(OURS)))
    how = draw(st.sampled_from(["type", "rename", "extra", "remove", "range"]))
    paths = [path for path in places(obj) if path]
    if how == "remove":
        there = [path for path in REQUIRED if path in paths and (path != ("spec",) or obj["kind"] != "Model")]
        path = draw(st.sampled_from(there))
        del holder(obj, path)[path[-1]]
    elif how == "range":
        numbers = {("spec", "scaling", "replicas"): -1, ("spec", "batching", "maxRows"): 0, ("spec", "version"): 0,
                   ("spec", "gates", 1, "noWorseBy"): -0.1, ("spec", "expectations", 3, "minRows"): -1,
                   ("spec", "datasets", 0, "version"): -2, ("spec", "timeout"): "soon", ("spec", "model"): "A@b:c",
                   ("spec", "resources", "memory"): "2 gigs", ("spec", "access"): "everybody"}  # fmt: skip
        there = [path for path in numbers if path in paths]
        if not there:
            return {**obj, "kind": f"{obj['kind']}x"}
        path = draw(st.sampled_from(there))
        holder(obj, path)[path[-1]] = numbers[path]
    elif how in {"extra", "rename"}:
        mappings = [path for path in [(), *paths] if isinstance(holder(obj, (*path, None)), dict) and path not in FREE]
        path = draw(
            st.sampled_from(
                [
                    path
                    for path in mappings
                    if path[-1:] not in {("labels",), ("nodeSelector",), ("metrics",), ("aliases",)}
                ]
            )
        )
        mapping = holder(obj, (*path, None))
        name = draw(st.sampled_from(sorted(mapping))) if mapping and how == "rename" else "extra"
        wrong = draw(st.sampled_from([f"{name}x", name.upper(), f"_{name}", "spec.replicas", "été"]))
        mapping[wrong if wrong != name else f"{name}2"] = mapping.pop(name, 1) if how == "rename" else 1
    else:
        candidates = [path for path in paths if path not in FREE and path[0] != "apiVersion"]
        path = draw(st.sampled_from(candidates))
        place = holder(obj, path)
        old = place[path[-1]]
        if path[-1] in {"min", "max"}:
            place[path[-1]] = [old]
        elif isinstance(old, str):
            place[path[-1]] = draw(st.sampled_from([[old], {"a": old}, True]))
        else:
            place[path[-1]] = (
                draw(st.sampled_from([{"strange": [1]}, "text", ["text"]])) if not isinstance(old, dict) else "x"
            )
            if isinstance(old, list):
                place[path[-1]] = {"strange": old}
    return obj


@settings(max_examples=1000, deadline=None)
@given(mutants(), st.sampled_from(["block", "flow", "json"]))
def test_a_thousand_wrong_manifests_are_told_with_path_and_line(obj: dict[str, Any], form: str) -> None:
    """Whatever is wrong, and however it is written: each error has a path and a line, and none is a crash."""
    if form == "json":
        text = json.dumps(obj, indent=2)
    else:
        text = dump(obj) if form == "block" else json.dumps(obj, ensure_ascii=False)
    with pytest.raises(ManifestErrors) as caught:
        load(f"{text}\n", "m.yaml")
    assert caught.value.errors
    for error in caught.value.errors:
        assert all((error.path, error.expected, error.found))
        assert 1 <= error.line <= text.count("\n") + 1
        assert str(error).endswith(f"(m.yaml:{error.line})")


@pytest.mark.parametrize("wire", OURS, ids=lambda wire: wire["kind"])
def test_the_unmutated_ones_pass(wire: dict[str, Any]) -> None:
    assert load(dump(wire), "m.yaml")[0].wire == wire
    assert load(json.dumps(wire), "m.yaml")[0].wire == wire


def test_the_api_server_takes_what_the_models_take() -> None:
    """The definitions made from the models accept right manifests, know each of their fields, and complete them."""
    crd = next(rtype for rtype in BUILTIN_TYPES if rtype.kind == "CustomResourceDefinition")
    types = {rtype.kind: rtype for definition in crds() for rtype in resource_types(default(crd.schema, definition))}
    for wire in OURS:
        schema = types[wire["kind"]].schema
        pruned, unknown = prune(schema, wire)
        assert (unknown, pruned is wire) == ([], True)
        assert validate(schema, default(schema, wire)) == []


def leaves(value: Any, path: str = "") -> set[str]:
    """The paths of everything that says something."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = {leaf for key, item in items for leaf in leaves(item, f"{path}.{key}")}
    return below or (set() if value is None or isinstance(value, dict | list) else {path})


@pytest.mark.parametrize("wire", OURS, ids=lambda wire: wire["kind"])
def test_the_api_server_fills_in_what_the_models_fill_in(wire: dict[str, Any]) -> None:
    crd = next(rtype for rtype in BUILTIN_TYPES if rtype.kind == "CustomResourceDefinition")
    definition = next(definition for definition in crds() if definition["spec"]["names"]["kind"] == wire["kind"])
    filled = default(resource_types(default(crd.schema, definition))[0].schema, wire)
    ours, theirs = (load(json.dumps(written), "x")[0].resource for written in (wire, filled))
    assert ours is not None
    assert theirs == ours
    assert leaves(filled) == {leaf for leaf in leaves(ours.to_wire()) if not leaf.startswith(".status")}


def test_kinds_are_all_covered() -> None:
    assert {wire["kind"] for wire in OURS} == {
        kind.__name__ for kind in (Dataset, Model, ModelVersion, TrainingJob, InferenceEndpoint)
    }


@pytest.mark.parametrize(
    "scaling",
    ["profile: serverless", "scaling: {minReplicas: 0}", "scaling: {maxReplicas: 4}", "scaling: {replicas: 2}"],
)
def test_a_graphs_models_have_a_worker_each_at_least(scaling: str) -> None:
    text = f"""\
apiVersion: mizzen.dev/v1alpha1
kind: InferenceEndpoint
metadata: {{name: g}}
spec:
  {scaling}
  graph: {{nodes: [{{name: a, model: "m:1"}}]}}
"""
    if scaling in {"scaling: {replicas: 2}", "scaling: {maxReplicas: 4}"}:
        load(text, "g.yaml")
        return
    with pytest.raises(ManifestErrors, match="scaling.minReplicas of at least 1 with graph"):
        load(text, "g.yaml")
