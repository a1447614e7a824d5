"""A value of the wrong JSON type in an object that Kubernetes decodes into Go structs, in Go's words.

Built-in types as a whole, and `metadata` of custom ones. Only the first such value is told, as Go does.
"""

import base64
import binascii
import re
from typing import Any

from mizzen.local.apiserver.schema import formats
from mizzen.local.apiserver.schema.causes import json_text, number
from mizzen.local.apiserver.schema.nodes import CLASSES, INTEGER_RANGES, Node
from mizzen.local.apiserver.schema.rules import DEFINITION
from mizzen.local.apiserver.schema.structural import node_of
from mizzen.local.apiserver.types import Json, ResourceType

_QUANTITY = re.compile(r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$")
QUANTITY_TEXT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_GO_TYPES = {"string": "string", "boolean": "bool", "number": "float64"}


def mistyped(rtype: ResourceType, obj: Json) -> str | None:
    """The first value that Go could not decode, or `None`."""
    node = node_of(rtype.schema)
    if not rtype.custom:
        return _find(node, obj, rtype.kind, "")
    for name in ("apiVersion", "kind"):
        if name in obj and not isinstance(obj[name], str):
            return f"json: cannot unmarshal {_go_kind(obj[name])} into Go struct field {name} of type string"
    metadata = obj.get("metadata")
    meta_node = node.properties.get("metadata")
    if meta_node is None or metadata is None:
        return None
    if not isinstance(metadata, dict):
        return f"json: cannot unmarshal {_go_kind(metadata)} into Go value of type v1.ObjectMeta"
    return _find(meta_node, metadata, "ObjectMeta", "")


def _go_kind(value: Any) -> str:
    return {dict: "object", list: "array", str: "string", bool: "bool"}.get(value.__class__, "number")


def go_type(node: Node) -> str:
    """The Go type of a node: `[]v1.Container`, `map[string]string`, `int32`."""
    schema = node.schema
    if schema.get("x-kubernetes-int-or-string"):
        return "int32"
    if schema.get("type") == "integer":
        return str(schema.get("format", "int64"))
    if node.items is not None:
        return f"[]{go_type(node.items)}"
    if node.additional is not None:
        return f"map[string]{go_type(node.additional)}"
    if DEFINITION in schema:
        version, name = schema[DEFINITION].split(".")[-2:]
        return f"{version}.{name}"
    return _GO_TYPES.get(schema.get("type", ""), "v1.FieldsV1")


def _find(node: Node, value: Any, struct: str, path: str) -> str | None:
    if value is None:
        return None
    schema = node.schema
    if schema.get("format") == "quantity":
        text = number(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        if not isinstance(text, str) or _QUANTITY.match(text) is None:
            return QUANTITY_TEXT
        return None if formats.is_quantity(text) else "unable to parse quantity's suffix"
    found = _wrong(node, value)
    if found is not None:
        return found if found[:1].islower() and " " in found else _cannot(value, struct, path, go_type(node))
    if isinstance(value, dict):
        own = schema[DEFINITION].rpartition(".")[2] if DEFINITION in schema else struct
        for name, item in value.items():
            sub = node.properties.get(name)
            place = f"{path}.{name}" if path else name
            result = None
            if sub is not None:
                result = _find(sub, item, own, place)
            elif node.additional is not None:
                result = _find(node.additional, item, own, path)
            if result is not None:
                return result
    if isinstance(value, list) and node.items is not None:
        for item in value:
            if (result := _find(node.items, item, struct, path)) is not None:
                return result
    return None


def _cannot(value: Any, struct: str, path: str, expected: str) -> str:
    shown = _go_kind(value)
    if shown == "number" and expected.startswith("int"):
        shown = f"number {json_text(value)}"
    return f"json: cannot unmarshal {shown} into Go struct field {struct}.{path} of type {expected}"


def _wrong(node: Node, value: Any) -> str | None:
    """`type` where the JSON type is wrong, else a sentence where Go could not read the text, else `None`."""
    schema = node.schema
    if schema.get("x-kubernetes-int-or-string"):
        return None if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)) else "type"
    kind = schema.get("type")
    if kind is not None and (value.__class__ not in CLASSES[kind] or (kind == "integer" and isinstance(value, float))):
        return "type"
    if kind == "integer":
        low, high = INTEGER_RANGES[schema.get("format", "int64")]
        return None if low <= value <= high else "type"
    if kind == "string" and schema.get("format") == "date-time" and value:
        return _no_time(value, micro=DEFINITION in schema)
    if kind == "string" and schema.get("format") == "byte":
        return _not_base64(value)
    return None


def _no_time(text: str, *, micro: bool) -> str | None:
    layout = "2006-01-02T15:04:05.000000Z07:00" if micro else "2006-01-02T15:04:05Z07:00"
    if not formats.is_rfc3339(text):
        return f'parsing time "{text}" as "{layout}": cannot parse "{text}" as "2006"'
    if micro and not formats.is_micro_time(text):
        return f'parsing time "{text}" as "{layout}": cannot parse "{text[19:]}" as ".000000"'
    return None


def _not_base64(text: str) -> str | None:
    bare = text.replace("\n", "").replace("\r", "")
    try:
        base64.b64decode(bare, validate=True)
    except (binascii.Error, ValueError):
        first = next((i for i, c in enumerate(bare) if not (c.isascii() and (c.isalnum() or c in "+/"))), len(bare))
        return f"illegal base64 data at input byte {first}"
    return None
