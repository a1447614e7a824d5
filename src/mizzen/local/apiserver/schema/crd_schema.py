"""Whether a JSON Schema is structural: what Kubernetes asks of the schemas of custom resources.

Every field has a type outside of the logical combinations; those (`allOf`, `anyOf`, `oneOf`, `not`) only add value
checks to fields that are there; `$ref` and the like do not occur; defaults are valid and hold no unknown fields; list
and map types say what server-side apply needs.
"""

import re
from typing import Any

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import cel_rules, formats
from mizzen.local.apiserver.schema.causes import forbidden, invalid, not_supported, required
from mizzen.local.apiserver.schema.nodes import CLASSES, RULES
from mizzen.local.apiserver.schema.structural import prune, validate
from mizzen.local.apiserver.types import Json

_UNSUPPORTED = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")
_TYPES = tuple(sorted(CLASSES))
_ONLY_OUTSIDE: dict[str, tuple[Any, str]] = {
    "type": ("", "must be empty to be structural"),
    "additionalProperties": (None, "must be undefined to be structural"),
    "default": (None, "must be undefined to be structural"),
    "title": ("", "must be empty to be structural"),
    "description": ("", "must be empty to be structural"),
    "nullable": (False, "must be false to be structural"),
    "x-kubernetes-preserve-unknown-fields": (False, "must be false to be structural"),
    "x-kubernetes-embedded-resource": (False, "must be false to be structural"),
    "x-kubernetes-int-or-string": (False, "must be false to be structural"),
    "x-kubernetes-list-map-keys": ([], "must be empty to be structural"),
    "x-kubernetes-list-type": (None, "must be undefined to be structural"),
    "x-kubernetes-map-type": (None, "must be undefined to be structural"),
    "x-kubernetes-validations": ([], "must be empty to be structural"),
}
"""What may not occur under a logical combination, with the value that counts as absent."""
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_IS_KEY = "this property is in x-kubernetes-list-map-keys"
_EMPTY_TYPE = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}


def check_schema(schema: Json, path: str) -> list[Cause]:
    """What is wrong with the schema of one version."""
    found = _supported(schema, path)
    if found:
        return found
    found = sorted(_structural(schema, path, "root"), key=lambda cause: (cause.field, cause.message))
    if schema.get("nullable"):
        found.append(forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
    return found or _rules(schema, path) or _lists(schema, path) + _defaults(schema, path, "")


def _supported(schema: Any, path: str) -> list[Cause]:
    """Keywords that Kubernetes does not take at all, and values of the wrong JSON type."""
    if not isinstance(schema, dict):
        return [invalid(path, schema, "must be a schema object")]
    found = [forbidden(f"{path}.{name}", f"{name} is not supported") for name in _UNSUPPORTED if schema.get(name)]
    if schema.get("type") and schema["type"] not in CLASSES:
        found.append(not_supported(f"{path}.type", schema["type"], _TYPES))
    if schema.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        found.append(forbidden(f"{path}.uniqueItems", detail))
    if isinstance(schema.get("items"), list):
        return [*found, forbidden(f"{path}.items", "items must be a schema object and not an array")]
    if "additionalProperties" in schema and schema.get("properties"):
        detail = "additionalProperties and properties are mutual exclusive"
        found.append(forbidden(f"{path}.additionalProperties", detail))
    if schema.get("additionalProperties") is False:
        found.append(forbidden(f"{path}.additionalProperties", "additionalProperties cannot be set to false"))
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        found.append(invalid(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined"))
    for place, sub in _children(schema, path):
        found += _supported(sub, place)
    return found


def _rules(schema: Json, path: str) -> list[Cause]:
    """Rules that are no CEL. They come first: defaults are held against them."""
    found = list(cel_rules.check_declared(schema.get(RULES) or [], path))
    for place, sub in _children(schema, path):
        found += _rules(sub, place)
    return found


def _children(schema: Json, path: str) -> list[tuple[str, Any]]:
    """Every direct sub-schema with its path."""
    found = [(f"{path}.properties[{name}]", sub) for name, sub in (schema.get("properties") or {}).items()]
    if isinstance(schema.get("items"), dict):
        found.append((f"{path}.items", schema["items"]))
    if isinstance(schema.get("additionalProperties"), dict):
        found.append((f"{path}.additionalProperties", schema["additionalProperties"]))
    for name in ("allOf", "anyOf", "oneOf"):
        found += [(f"{path}.{name}[{index}]", sub) for index, sub in enumerate(schema.get(name) or ())]
    if "not" in schema:
        found.append((f"{path}.not", schema["not"]))
    return found


def _structural(schema: Json, path: str, level: str) -> list[Cause]:
    found: list[Cause] = []
    kind, embedded = schema.get("type", ""), schema.get("x-kubernetes-embedded-resource", False)
    preserve, int_or_string = (
        schema.get(f"x-kubernetes-{n}", False) for n in ("preserve-unknown-fields", "int-or-string")
    )
    if kind == "array" and "items" not in schema:
        found.append(required(f"{path}.items", "must be specified"))
    if embedded and kind != "object":
        detail = "must be object if x-kubernetes-embedded-resource is true"
        found.append(invalid(f"{path}.type", kind, detail) if kind else required(f"{path}.type", detail))
    elif not kind and not int_or_string and not preserve:
        found.append(required(f"{path}.type", _EMPTY_TYPE[level]))
    if level == "root" and kind and kind != "object":
        found.append(invalid(f"{path}.type", kind, "must be object at the root"))
    if level == "root" and "additionalProperties" in schema:
        found.append(forbidden(f"{path}.additionalProperties", "must not be used at the root"))
    if int_or_string and preserve:
        detail = "must be false if x-kubernetes-int-or-string is true"
        found.append(invalid(f"{path}.x-kubernetes-preserve-unknown-fields", True, detail))
    if embedded and not preserve and not schema.get("properties"):
        detail = (
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        )
        found.append(required(f"{path}.properties", detail))
    found += _metadata(schema, path, level)
    for name, sub in (schema.get("properties") or {}).items():
        found += _structural(sub, f"{path}.properties[{name}]", "field")
    if isinstance(schema.get("items"), dict):
        found += _structural(schema["items"], f"{path}.items", "item")
    if isinstance(schema.get("additionalProperties"), dict):
        found += _structural(schema["additionalProperties"], f"{path}.additionalProperties", "field")
    return found + _value_checks(schema, schema, path)


def _metadata(schema: Json, path: str, level: str) -> list[Cause]:
    if level != "root" and not schema.get("x-kubernetes-embedded-resource"):
        return []
    properties, found = schema.get("properties") or {}, list[Cause]()
    for name in ("kind", "apiVersion"):
        if name in properties and properties[name].get("type") != "string":
            found.append(invalid(f"{path}.properties[{name}].type", properties[name].get("type", ""), "must be string"))
    metadata = properties.get("metadata")
    if metadata is None:
        return found
    place = f"{path}.properties[metadata]"
    if metadata.get("type") != "object":
        found.append(invalid(f"{place}.type", metadata.get("type", ""), "must be object"))
    others = set(metadata.get("properties") or ()) - {"name", "generateName"}
    said = set(metadata) - {"type", "properties", "description", "default"}
    if level == "root" and (others or said or metadata.get("description")):
        detail = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        found.append(forbidden(place, detail))
    return found


def _value_checks(schema: Json, outer: Json | None, path: str) -> list[Cause]:
    """The logical combinations of a schema, and its pattern. `outer` is the structural schema of the same value."""
    found: list[Cause] = []
    for name in ("allOf", "anyOf", "oneOf"):
        if name == "anyOf" and schema.get(name) == _INT_OR_STRING and (outer or {}).get("x-kubernetes-int-or-string"):
            continue
        for index, sub in enumerate(schema.get(name) or ()):
            found += _nested(sub, outer, f"{path}.{name}[{index}]")
    if "not" in schema:
        found += _nested(schema["not"], outer, f"{path}.not")
    if schema.get("pattern"):
        try:
            formats.pattern(schema["pattern"])
        except re.error as error:
            detail = f"must be a valid regular expression, but isn't: {error}"
            found.append(invalid(f"{path}.pattern", schema["pattern"], detail))
    return found


def _nested(schema: Json, outer: Json | None, path: str) -> list[Cause]:
    found = []
    for name, (absent, detail) in _ONLY_OUTSIDE.items():
        if name in schema and schema[name] != absent:
            found.append(forbidden(f"{path}.{name}", detail))
    properties = schema.get("properties") or {}
    if "metadata" in properties:
        found.append(forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context"))
    known = (outer or {}).get("properties") or {}
    for name, sub in properties.items():
        place = f"{path}.properties[{name}]"
        if name not in known and outer is not None:
            field = re.sub(r"\.(?:allOf|anyOf|oneOf)\[\d+\]|\.not", "", place)
            found.append(required(field, f"because it is defined in {place}"))
        found += _nested(sub, known.get(name), place)
    if isinstance(schema.get("items"), dict):
        items = (outer or {}).get("items")
        if items is None and outer is not None:
            field = re.sub(r"\.(?:allOf|anyOf|oneOf)\[\d+\]|\.not", "", f"{path}.items")
            found.append(required(field, f"because it is defined in {path}.items"))
        found += _nested(schema["items"], items, f"{path}.items")
    return found + _value_checks(schema, outer, path)


def _lists(schema: Json, path: str) -> list[Cause]:
    """The rules of list types, map types and their keys, everywhere in the schema."""
    found: list[Cause] = []
    list_type, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or []
    kind = schema.get("type", "")
    if list_type is not None and kind != "array":
        detail = "must be array if x-kubernetes-list-type is specified"
        found.append(invalid(f"{path}.type", kind, detail) if kind else required(f"{path}.type", detail))
    if list_type is not None and list_type not in {"atomic", "set", "map"}:
        found.append(not_supported(f"{path}.x-kubernetes-list-type", list_type, ("atomic", "set", "map")))
    map_type = schema.get("x-kubernetes-map-type")
    if map_type is not None and kind != "object":
        detail = "must be object if x-kubernetes-map-type is specified"
        found.append(invalid(f"{path}.type", kind, detail) if kind else required(f"{path}.type", detail))
    if map_type is not None and map_type not in {"atomic", "granular"}:
        found.append(not_supported(f"{path}.x-kubernetes-map-type", map_type, ("atomic", "granular")))
    if keys and list_type != "map":
        detail, place = "must be map if x-kubernetes-list-map-keys is non-empty", f"{path}.x-kubernetes-list-type"
        found.append(invalid(place, list_type, detail) if list_type else required(place, detail))
    if list_type == "map":
        found += _map_keys(schema, keys, path)
    if list_type == "set":
        found += _set_items(schema.get("items") or {}, f"{path}.items")
    for place, sub in _children(schema, path):
        found += _lists(sub, place)
    return found


def _map_keys(schema: Json, keys: list[str], path: str) -> list[Cause]:
    if not keys:
        detail = "must not be empty if x-kubernetes-list-type is map"
        return [required(f"{path}.x-kubernetes-list-map-keys", detail)]
    items = schema.get("items") or {}
    if items.get("type") != "object":
        detail = "must be object if parent array's x-kubernetes-list-type is map"
        return [invalid(f"{path}.items.type", items.get("type", ""), detail)]
    found, properties = list[Cause](), items.get("properties") or {}
    if items.get("nullable"):
        detail = "cannot be nullable when x-kubernetes-list-type is map"
        found.append(forbidden(f"{path}.items.nullable", detail))
    for key in keys:
        place = f"{path}.items.properties[{key}]"
        if key not in properties:
            detail = "entries must all be names of item properties"
            found.append(invalid(f"{path}.x-kubernetes-list-map-keys", keys, detail))
        elif properties[key].get("type") in {"array", "object"}:
            detail = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            found.append(invalid(f"{place}.type", "object", detail))
        else:
            if key not in (items.get("required") or ()) and "default" not in properties[key]:
                detail = f"{_IS_KEY}, so it must have a default or be a required property"
                found.append(required(f"{place}.default", detail))
            if properties[key].get("nullable"):
                detail = f"{_IS_KEY}, so it cannot be nullable"
                found.append(forbidden(f"{place}.nullable", detail))
    if len(set(keys)) < len(keys):
        found.append(invalid(f"{path}.x-kubernetes-list-map-keys", keys, "must not contain duplicate entries"))
    return found


def _set_items(items: Json, path: str) -> list[Cause]:
    detail = "must be atomic as item of a list with x-kubernetes-list-type=set"
    found = []
    if items.get("nullable"):
        found.append(forbidden(f"{path}.nullable", "cannot be nullable when x-kubernetes-list-type is set"))
    if items.get("type") == "array" and items.get("x-kubernetes-list-type") not in {None, "atomic"}:
        found.append(invalid(f"{path}.x-kubernetes-list-type", items["x-kubernetes-list-type"], detail))
    if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
        found.append(invalid(f"{path}.x-kubernetes-map-type", items.get("x-kubernetes-map-type"), detail))
    return found


def _defaults(schema: Json, path: str, place: str) -> list[Cause]:
    """Defaults that are not valid, or hold fields that would be pruned."""
    found: list[Cause] = []
    if "default" in schema:
        value = schema["default"]
        wrapped, holder = {"type": "object", "properties": {"default": schema}}, {"default": value}
        found += [Cause(c.reason, c.message, f"{path}.{c.field}") for c in validate(wrapped, holder)]
        if prune(wrapped, holder)[1]:
            found.append(invalid(f"{path}.default", value, "must be pruned"))
    for sub_path, sub in _children(schema, path):
        found += _defaults(sub, sub_path, place)
    return found
