"""The kinds as JSON Schema, in two dialects: Kubernetes' structural schemas and JSON Schema for editors.

Both come from pydantic's own generator. A structural schema has no references, says the type of every field outside of
any combination, and leaves unknown fields to pruning; what it cannot say (a number or a text) it leaves open. Defaults
of the spec are kept, also those of whole objects, so that an API server fills in what a user may leave out; a status
has no defaults, since it says only what was observed.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from mizzen.kinds.meta import Resource, Wire

Json = dict[str, Any]

_KEPT = (
    "description", "type", "format", "enum", "minimum", "maximum", "multipleOf", "minLength", "maxLength", "pattern",
    "minItems", "maxItems", "minProperties", "maxProperties", "required", "oneOf", "anyOf", "allOf", "not",
)  # fmt: skip
"""Keywords that mean the same in a structural schema."""
_OPEN: Json = {"x-kubernetes-preserve-unknown-fields": True}
_FORMAT = "x-mizzen-format"
_NUMBER = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)"
_PATTERNS = {
    "duration": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d))+$",
    "quantity": rf"^\+?{_NUMBER}([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$",
}
"""By `x-mizzen-format`: what Kubernetes' notations look like, so that an API server and an editor can tell, too."""
_INT_OR_STRING: Json = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}


class _Documented(GenerateJsonSchema):
    """Tells what the text below a field says, and the defaults that a factory makes, too."""

    def model_schema(self, schema: core_schema.ModelSchema) -> Json:
        made = super().model_schema(schema)
        for name, text in _field_docstrings(schema["cls"]).items():
            made["properties"][name].setdefault("description", text)
        return made

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        factory: Callable[..., Any] | None = schema.get("default_factory")
        if factory is None or schema.get("default_factory_takes_data"):
            return super().get_default_value(schema)
        made = factory()
        return made.to_wire() if isinstance(made, Wire) else made


def _field_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """By the name on the wire. Read from the source when a schema is made, not in every process that has the class."""
    texts: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not issubclass(cls, Wire):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in pairwise(body.body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as said)):
                    texts[name] = inspect.cleandoc(said)
                case ast.AnnAssign(target=ast.Name(id=name)), _:
                    texts.pop(name, None)
                case _:
                    pass
    fields = model.model_fields
    return {fields[name].alias or name: text for name, text in texts.items() if name in fields}


def structural(kind: type[Resource]) -> Json:
    """The structural schema of a kind, for a CustomResourceDefinition."""
    whole = kind.model_json_schema(by_alias=True, schema_generator=_Documented)
    definitions = whole.get("$defs", {})
    inlined = _inlined(whole, definitions)
    parts = inlined["properties"]
    properties: Json = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": {key: value for key, value in parts["spec"].items() if key != "default"},
        "status": _without_defaults(parts["status"]),
    }
    required = [name for name in whole.get("required", ()) if name == "spec"]
    schema: Json = {"type": "object", "description": inlined.get("description", ""), "properties": properties}
    return {**schema, "required": required} if required else schema


def editor(kind: type[Resource]) -> Json:
    """The JSON Schema of what a user writes of a kind: everything but the status, unknown fields refused."""
    whole = kind.model_json_schema(by_alias=True, schema_generator=_Documented)
    definitions = {name: _plain(schema) for name, schema in whole.pop("$defs", {}).items()}
    del whole["properties"]["status"]
    body = _plain(whole)
    used = _reachable(body, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://mizzen.dev/schemas/{kind.__name__.lower()}.json",
        **body,
        "$defs": {name: definitions[name] for name in sorted(used)},
    }


def _inlined(node: Json, definitions: Json) -> Json:
    """One schema of pydantic's as a structural one."""
    if "$ref" in node:
        target = definitions[node["$ref"].removeprefix("#/$defs/")]
        return _inlined({**target, **{key: value for key, value in node.items() if key != "$ref"}}, definitions)
    alternatives = [part for part in node.get("anyOf", ()) if part != {"type": "null"}]
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    if len(alternatives) == 1:
        return _inlined({**alternatives[0], **rest}, definitions)
    if alternatives and any("type" in part or "$ref" in part or "anyOf" in part for part in alternatives):
        return {**_described(node), **_OPEN}
    kept = {key: node[key] for key in _KEPT if key in node}
    kept.update((key, value) for key, value in node.items() if key.startswith("x-kubernetes-"))
    if node.get(_FORMAT) in _PATTERNS:
        kept["pattern"] = _PATTERNS[node[_FORMAT]]
    if node.get(_FORMAT) == "quantity":
        del kept["type"]
        return _with_default({**kept, **_INT_OR_STRING}, node)
    if "const" in node:
        kept["enum"] = [node["const"]]
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        if exclusive in node:
            kept[bound], kept[exclusive] = node[exclusive], True
    kept.update(_parts(node, definitions))
    if "type" not in kept:
        kept.update(_OPEN)
    if "description" in kept:
        kept["description"] = _in_lines(kept["description"])
    return _with_default(kept, node)


def _parts(node: Json, definitions: Json) -> Json:
    """The schemas inside: of properties, of items, of the values of a map."""
    parts: Json = {}
    if "properties" in node:
        parts["properties"] = {name: _inlined(sub, definitions) for name, sub in node["properties"].items()}
    if isinstance(node.get("items"), dict):
        parts["items"] = _inlined(node["items"], definitions)
    values = node.get("additionalProperties")
    if "patternProperties" in node:
        values = next(iter(node["patternProperties"].values()))
    if isinstance(values, dict):
        parts["additionalProperties"] = _inlined(values, definitions)
    elif values is True:
        parts.update(_OPEN)
    return parts


def _described(node: Json) -> Json:
    return {"description": _in_lines(node["description"])} if node.get("description") else {}


def _in_lines(text: str) -> str:
    """Paragraphs without the line breaks of the source."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _with_default(schema: Json, node: Json) -> Json:
    """With the node's default, where it says something: nothing is as good as `None` and as an empty collection.

    Of an object's default, what its fields' own defaults say is left out.
    """
    default = node.get("default")
    if default is None or (default in ([], {}) and not schema.get("properties")):
        return schema
    if isinstance(default, dict) and "properties" in schema:
        default = _unsaid(default, schema)
        if not default and _filled({}, schema) == {}:
            return schema
    return {**schema, "default": default}


def _unsaid(default: Json, schema: Json) -> Json:
    """What of an object's default its fields' own defaults do not say."""
    own = _filled({}, schema)
    return {name: value for name, value in default.items() if value not in ([], {}, None) and value != own.get(name)}


def _filled(value: Any, schema: Json) -> Any:
    """The value with the defaults of the schema, as an API server fills them in."""
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for name, sub in schema.get("properties", {}).items():
        if name not in filled and "default" in sub:
            filled[name] = sub["default"]
        if name in filled:
            filled[name] = _filled(filled[name], sub)
    return filled


def _without_defaults(schema: Json) -> Json:
    kept = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in kept:
        kept["properties"] = {name: _without_defaults(sub) for name, sub in kept["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = _without_defaults(kept[key])
    return kept


def _plain(node: Any) -> Any:
    """A schema without the titles that pydantic makes up, the words of other dialects, and `null` as a way to say
    nothing."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    alternatives = [part for part in node.get("anyOf", ()) if part != {"type": "null"}]
    if len(alternatives) == 1:
        return _plain({**alternatives[0], **{key: value for key, value in node.items() if key != "anyOf"}})
    kept = {key: value for key, value in node.items() if not _dropped(key, value)}
    if node.get(_FORMAT) in _PATTERNS:
        kept["pattern"] = _PATTERNS[node[_FORMAT]]
    if node.get(_FORMAT) == "quantity":
        kept["type"] = ["string", "number"]
    if isinstance(kept.get("description"), str):
        kept["description"] = _in_lines(kept["description"])
    return {key: _plain(value) for key, value in kept.items()}


def _dropped(key: str, value: Any) -> bool:
    made_up = key == "title" and isinstance(value, str)
    return made_up or key.startswith("x-") or (key == "default" and not isinstance(value, str | int | float))


def _reachable(body: Any, definitions: Json) -> set[str]:
    found: set[str] = set()
    todo = [body]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            name = node.get("$ref", "").removeprefix("#/$defs/") if isinstance(node.get("$ref"), str) else ""
            if name and name not in found:
                found.add(name)
                todo.append(definitions[name])
            todo += node.values()
        elif isinstance(node, list):
            todo += node
    return found
