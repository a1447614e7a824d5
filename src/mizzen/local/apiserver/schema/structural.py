"""Structural schemas at work: is this object valid, what is not said in it, what does not belong into it.

The three functions take a schema as it is stored and never change what they are given: `default` and `prune` answer the
same object where there was nothing to do, and else one that shares what did not change. Schemas are compiled (`nodes`)
when first seen and the result is kept while they are in use.
"""

from typing import Any

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import causes, cel_rules
from mizzen.local.apiserver.schema.defaults import copied
from mizzen.local.apiserver.schema.explain import explain
from mizzen.local.apiserver.schema.formats import utc
from mizzen.local.apiserver.schema.nodes import META_FIELDS, MISSING, Node, compiled
from mizzen.local.apiserver.types import Json

_RULES_NOT_ASKED = causes.invalid(
    causes.NO_FIELD,
    None,
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete "
    "validation",
)
_COMPILED_MAX = 512
_compiled: dict[int, tuple[Json, Node]] = {}


def node_of(schema: Json) -> Node:
    """The compiled form of a schema object, from the cache.

    The cache goes by identity (a schema is never changed once it is in use) and holds the schema with its node, so that
    an identity cannot be taken by another object while the entry is there.
    """
    entry = _compiled.get(id(schema))
    if entry is not None:
        return entry[1]
    node = compiled(schema)
    while len(_compiled) >= _COMPILED_MAX:
        del _compiled[next(iter(_compiled))]
    _compiled[id(schema)] = schema, node
    return node


def validate(schema: Json, obj: Any, path: str = "", old: Any = MISSING) -> list[Cause]:
    """Everything that is wrong with the object, in Kubernetes' words; fields are named from `path` on.

    `old` is what was stored before an update: errors in parts that did not change are not reported.
    """
    node = node_of(schema)
    found = [] if node.accepts(obj) else explain(node, obj, path, old).causes
    if not node.ruled:
        return found
    return [*found, _RULES_NOT_ASKED] if found else cel_rules.check(node, obj, old)


def default(schema: Json, obj: Json) -> Json:
    """The object with what the schema says where it says nothing; nulls where none is allowed count as nothing."""
    filled = _default(node_of(schema), obj)
    assert isinstance(filled, dict)
    return filled


def _default(node: Node, value: Any) -> Any:
    if value.__class__ is dict:
        return _default_object(node, value)
    if value.__class__ is list and node.items is not None:
        items = node.items
        changed: list[Any] | None = None
        for index, item in enumerate(value):
            if item is None and node.null_item is not MISSING:
                new = _default(items, copied(node.null_item))
            elif item.__class__ is dict or item.__class__ is list:
                new = _default(items, item)
            else:
                continue
            if new is not item:
                changed = list(value) if changed is None else changed
                changed[index] = new
        return value if changed is None else changed
    return value


def _default_object(node: Node, value: Json) -> Json:
    result = value
    for name, preset, nullable in node.defaults:
        if name not in value or (value[name] is None and not nullable):
            if result is value:
                result = dict(value)
            result[name] = copied(preset)
    if node.fill is not None and (more := node.fill(result)):
        result = {**result, **more}
    properties, additional, left_out = node.properties, node.additional, node.left_out
    for name, item in list(result.items()) if result is not value else value.items():
        if item.__class__ is dict or item.__class__ is list:
            if not item and name in left_out:
                new = MISSING
            else:
                sub = properties.get(name, additional)
                if sub is None or (new := _default(sub, item)) is item:
                    continue
        elif item is None:
            sub = properties.get(name, additional)
            if sub is None or sub.nullable or name in node.null:
                continue
            new = copied(node.null_value)
        elif not item and name in left_out:
            new = MISSING
        else:
            continue
        if result is value:
            result = dict(value)
        if new is MISSING:
            del result[name]
        else:
            result[name] = new
    for name, digits in node.times:
        text = result.get(name)
        if text.__class__ is str and (written := utc(text, digits)) != text:
            result = {**result, name: written}
    zero = [name for name in node.null if not result.get(name) and result.get(name, MISSING) is not None]
    return {**result, **dict.fromkeys(zero)} if zero else result


def prune(schema: Json, obj: Json) -> tuple[Json, list[str]]:
    """The object without fields that the schema does not know, and their paths in order (`spec.template.foo`)."""
    unknown: list[str] = []
    pruned = _prune(node_of(schema), obj, "", unknown)
    assert isinstance(pruned, dict)
    return pruned, sorted(unknown)


def _prune(node: Node, value: Any, path: str, unknown: list[str]) -> Any:
    if value.__class__ is dict:
        return _prune_object(node, value, path, unknown)
    if value.__class__ is list and not (node.preserve and node.items is None):
        items = node.items or _NOTHING_KNOWN
        changed: list[Any] | None = None
        for index, item in enumerate(value):
            if item.__class__ is dict or item.__class__ is list:
                new = _prune(items, item, f"{path}[{index}]", unknown)
                if new is not item:
                    changed = list(value) if changed is None else changed
                    changed[index] = new
        return value if changed is None else changed
    return value


_NOTHING_KNOWN = Node({}, native=False)


def _prune_object(node: Node, value: Json, path: str, unknown: list[str]) -> Json:
    result = value
    properties, additional = node.properties, node.additional
    for name, item in value.items():
        sub = properties.get(name, additional)
        if sub is None:
            if node.preserve or (node.embedded and name in META_FIELDS):
                continue
            unknown.append(f"{path}.{name}" if path else name)
            if result is value:
                result = dict(value)
            del result[name]
        elif item.__class__ is dict or item.__class__ is list:
            new = _prune(sub, item, f"{path}.{name}" if path else name, unknown)
            if new is not item:
                if result is value:
                    result = dict(value)
                result[name] = new
    return result
