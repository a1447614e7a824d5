"""Why an object is wrong: the same schema walked once more, slowly, for Kubernetes' texts.

The order of causes and the choice among alternatives (the errors of the one that fits best, by `matches`) are those of
Kubernetes' validator. With the object that was there before an update, errors in parts that did not change are left out
(Kubernetes calls it ratcheting), so that a schema made stricter does not lock the objects that are there.
"""

from dataclasses import dataclass, field
from typing import Any, Self

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import causes, formats, rules
from mizzen.local.apiserver.schema.nodes import (
    CLASSES,
    MISSING,
    Node,
    compiled,
    enum_values,
    is_multiple,
    is_whole,
    items_before,
    number_range,
    repeated,
    same,
    text_check,
)
from mizzen.local.apiserver.types import Json


@dataclass
class Found:
    """Causes so far, and how many checks passed or were made: what Kubernetes ranks alternatives by."""

    causes: list[Cause] = field(default_factory=list)
    matches: int = 0

    def merge(self, other: "Found") -> Self:
        self.causes += other.causes
        self.matches += other.matches
        return self


def explain(node: Node, value: Any, path: str = "", old: Any = MISSING) -> Found:
    """What is wrong with the value; nothing where `node.accepts(value)`."""
    if old is not MISSING and same(value, old):
        return Found()
    if value is None and node.native and type(None) in node.table:
        return Found()
    found = Found()
    schema = node.schema
    _type(schema, value, path, found)
    if value is None:
        _enum(node, value, path, found)
        return found
    found.matches += 1
    found.merge(_combinations(node, value, path, old))
    if isinstance(value, str):
        _string(node, value, path, found)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _number(schema, value, path, found)
    elif isinstance(value, list):
        _list(node, value, path, old, found)
    _enum(node, value, path, found)
    if isinstance(value, dict):
        _object(node, value, path, old, found)
    return found


def type_name(value: Any) -> str:
    """The JSON type of a value, as Kubernetes calls it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names[value.__class__]


def known_format(schema: Json) -> str:
    """The schema's format where Kubernetes knows it for the type, else empty."""
    name: str = schema.get("format", "")
    numbers = {"integer": ("int32", "int64"), "number": ("float", "double")}
    kind = schema.get("type", "")
    known = name in numbers[kind] if kind in numbers else kind == "string" and formats.check_of(name) is not None
    return name if known else ""


def _types(schema: Json) -> list[str]:
    if schema.get("x-kubernetes-int-or-string"):
        return ["integer", "string"]
    return [schema["type"]] if "type" in schema else []


def _type(schema: Json, value: Any, path: str, found: Found) -> None:
    types = _types(schema)
    if not types:
        return
    whole = isinstance(value, float) and is_whole(value)
    fits = any(
        value.__class__ in CLASSES[name] and (name != "integer" or value.__class__ is int or whole) for name in types
    )
    if fits or (value is None and schema.get("nullable")):
        found.matches += 1
        return
    actual, expected = type_name(value), ",".join(types)
    form = known_format(schema)
    if form and not isinstance(value, str | list | None):
        # Where there is a format, Kubernetes' validator compares it with Go's name of the value's type.
        go_names = {int: "int64", float: "float64"}
        actual, expected = go_names.get(value.__class__, ""), form
    detail = f"{path} in body must be of type {expected}: {causes.quoted(actual)}"
    found.causes.append(causes.type_invalid(path or causes.NO_FIELD, actual, detail))


def _enum(node: Node, value: Any, path: str, found: Found) -> None:
    allowed = node.schema.get("enum")
    if allowed and (value is None or not any(same(value, item) for item in enum_values(node.schema, node.native))):
        found.causes.append(causes.not_supported(path or causes.NO_FIELD, value, allowed))


def _string(node: Node, value: str, path: str, found: Found) -> None:
    schema = node.schema
    longest, shortest, expression = schema.get("maxLength"), schema.get("minLength"), schema.get("pattern")
    if longest is not None and len(value) > longest:
        found.causes.append(causes.too_long(path, longest))
    elif shortest is not None and len(value) < shortest:
        found.causes.append(causes.invalid(path, value, f"{path} in body should be at least {shortest} chars long"))
    elif expression and formats.pattern(expression)(value) is None:
        found.causes.append(causes.invalid(path, value, f"{path} in body should match '{expression}'"))
    else:
        found.matches += 1
    name = schema.get("format", "")
    if node.native and name == "quantity" and not formats.is_quantity(value):
        found.causes.append(causes.type_invalid(path, value, "must be a quantity such as 500m, 2 or 1Gi"))
    check = text_check(node)
    if check is not None and not check(value):
        detail = f"{path} in body must be of type {name}: {causes.quoted(value)}"
        found.causes.append(causes.type_invalid(path, value, detail))


def _number(schema: Json, value: float, path: str, found: Found) -> None:
    low, high = number_range(schema)
    whole = isinstance(value, int) or value.is_integer() or schema.get("type") != "integer"
    if low is not None and high is not None and not (whole and low <= value <= high):
        name = schema.get("format")
        kind = f"of type {schema['type']} with format {name}" if name else f"of type {schema['type']} (default format)"
        found.causes.append(causes.invalid(causes.NO_FIELD, "", f"Checked value must be {kind} in {path}"))
    factor, least, most = schema.get("multipleOf"), schema.get("minimum"), schema.get("maximum")
    if factor is not None and not is_multiple(value, factor):
        found.causes.append(
            causes.invalid(path, value, f"{path} in body should be a multiple of {causes.number(factor)}")
        )
    if least is not None and (value <= least if schema.get("exclusiveMinimum") else value < least):
        bound = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        found.causes.append(causes.invalid(path, value, f"{path} in body should be {bound} {causes.number(least)}"))
    if most is not None and (value >= most if schema.get("exclusiveMaximum") else value > most):
        bound = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        found.causes.append(causes.invalid(path, value, f"{path} in body should be {bound} {causes.number(most)}"))
    found.matches += 1


def _list(node: Node, value: list[Any], path: str, old: Any, found: Found) -> None:
    schema = node.schema
    if node.items is not None:
        before = items_before(schema, old)
        for index, item in enumerate(value):
            found.merge(explain(node.items, item, f"{path}[{index}]", before(index, item)))
    shortest, longest = schema.get("minItems"), schema.get("maxItems")
    if shortest is not None and len(value) < shortest:
        found.causes.append(causes.invalid(path, len(value), f"{path} in body should have at least {shortest} items"))
    if longest is not None and len(value) > longest:
        found.causes.append(causes.too_many(path, len(value), longest))
    if not node.native and schema.get("x-kubernetes-list-type") in {"map", "set"}:
        for index, key in repeated(schema, value):
            place = f"{path}[{index}]"
            if key is MISSING:
                detail = "must be an object for an array of list-type map"
                found.causes.append(causes.invalid(place, value[index], detail))
            else:
                found.causes.append(causes.duplicate(place, key))
    found.matches += 1


def _object(node: Node, value: Json, path: str, old: Any, found: Found) -> None:
    schema = node.schema
    before = old if isinstance(old, dict) else {}
    fewest, most = schema.get("minProperties"), schema.get("maxProperties")
    if fewest is not None and len(value) < fewest:
        found.causes.append(
            causes.invalid(path, len(value), f"{path} in body should have at least {fewest} properties")
        )
    if most is not None and len(value) > most:
        found.causes.append(causes.too_many(path, len(value), most))
    for name, item in value.items():
        if name not in node.properties and node.additional is not None:
            found.merge(explain(node.additional, item, causes.child(path, name), before.get(name, MISSING)))
    for name, sub in node.properties.items():
        if name in value:
            found.merge(explain(sub, value[name], causes.child(path, name), before.get(name, MISSING)))
    for name in () if node.native else schema.get("required", ()):
        if name not in value:
            found.causes.append(causes.required(causes.child(path, name)))
    typed = not any(cause.reason == "FieldValueTypeInvalid" for cause in found.causes)
    for cause in (
        *(node.check(value) if node.check and typed else ()),  # such checks rely on the types of the fields
        *(rules.embedded_resource(value) if node.embedded else ()),
    ):
        found.causes.append(Cause(cause.reason, cause.message, causes.child(path, cause.field)))


def _combinations(node: Node, value: Any, path: str, old: Any) -> Found:
    schema, found = node.schema, Found()
    name = causes.quoted(path)

    def alternatives(keyword: str) -> list[Found]:
        return [explain(compiled(part, native=node.native), value, path, old) for part in schema.get(keyword, ())]

    any_of = alternatives("anyOf")
    if any_of and all(result.causes for result in any_of):
        detail = f"{name} must validate at least one schema (anyOf)"
        found.causes.append(causes.invalid(causes.NO_FIELD, "", detail))
        found.merge(max(any_of, key=lambda result: result.matches))
    if one_of := alternatives("oneOf"):
        valid = sum(not result.causes for result in one_of)
        if valid != 1:
            count = "Found none valid" if valid == 0 else f"Found {valid} valid alternatives"
            detail = f"{name} must validate one and only one schema (oneOf). {count}"
            found.causes.append(causes.invalid(causes.NO_FIELD, "", detail))
            if valid == 0:
                found.merge(max(one_of, key=lambda result: result.matches))
    if all_of := alternatives("allOf"):
        failed = sum(bool(result.causes) for result in all_of)
        for result in all_of:
            found.merge(result)
        if failed:
            detail = (
                f"{name} must validate all the schemas (allOf){'. None validated' if failed == len(all_of) else ''}"
            )
            found.causes.append(causes.invalid(causes.NO_FIELD, "", detail))
    if "not" in schema and not explain(compiled(schema["not"], native=node.native), value, path).causes:
        found.causes.append(causes.invalid(causes.NO_FIELD, "", f"{name} must not validate the schema (not)"))
    found.matches += 1
    return found
