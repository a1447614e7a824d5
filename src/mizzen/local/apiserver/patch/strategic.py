"""Strategic merge patch: a merge patch that knows, from the schema, how each list is to be merged.

A list whose schema says `x-kubernetes-patch-strategy: merge` is merged: objects by their
`x-kubernetes-patch-merge-key`, scalars as a set. Every other list is replaced. Directives in the patch change that:

* `$patch: replace | delete` in an object replaces it by the rest of the patch, or removes it; in an element of a
  merged list it replaces the whole list, or removes the element with that merge key.
* `$deleteFromPrimitiveList/NAME` removes scalars from the list NAME.
* `$setElementOrder/NAME` gives the order of the list NAME; elements only the server knows keep their places among
  them.
* `$retainKeys` removes the fields of an object that it does not name (a union's other members).

The patch is Kubernetes' own (k8s.io/apimachinery `strategicpatch`); the order of merged lists follows it exactly. In
two cases this means what the patch says where Kubernetes does not: directives inside something new are obeyed too
(there, `$patch: delete` would leave an element behind and `$patch: replace` would lose its content), and a patch that
contradicts itself is always a bad request, never an internal error. Custom resources answer 415 before this is
reached.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from mizzen.local.apiserver.errors import BadRequest, Invalid
from mizzen.local.apiserver.types import Json

_DIRECTIVE = "$patch"
_RETAIN_KEYS = "$retainKeys"
_DELETE_FROM = "$deleteFromPrimitiveList/"
_SET_ORDER = "$setElementOrder/"


class _Meta(NamedTuple):
    """What the schema says of one field. `schema` is that of an element where the field is a list."""

    schema: Json
    merge: bool
    replace: bool
    merge_key: str


def apply(document: Json, patch: Any, schema: Json) -> Json:
    """The document after the patch; unchanged members are shared with `document`."""
    if not isinstance(patch, dict):
        raise BadRequest("error decoding patch: expected an object with the fields to change")
    return _merge_object(document, patch, schema)


def _meta(schema: Json, name: str) -> _Meta:
    field: Json = schema.get("properties", {}).get(name) or schema.get("additionalProperties") or {}
    if not isinstance(field, dict):  # `additionalProperties: true`
        field = {}
    strategies = str(field.get("x-kubernetes-patch-strategy", "")).split(",")
    return _Meta(
        schema=field.get("items", field),
        merge="merge" in strategies,
        replace="replace" in strategies,
        merge_key=str(field.get("x-kubernetes-patch-merge-key", "")),
    )


def _merge_object(original: Json, patch: Json, schema: Json) -> Json:
    if _DIRECTIVE in patch:
        if patch[_DIRECTIVE] == "replace":
            return _plain_object(patch)
        if patch[_DIRECTIVE] == "delete":
            return {}
        raise BadRequest(f"unknown patch type: {patch[_DIRECTIVE]} in map: {_go_text(patch)}")
    merged = _retain_keys(original, patch)
    ordered = _merge_ordered_lists(merged, patch, schema)
    for name, value in patch.items():
        if name == _RETAIN_KEYS or name in ordered or name.startswith(_SET_ORDER):
            continue
        if name.startswith(_DELETE_FROM):
            listed = name.removeprefix(_DELETE_FROM)
            if listed in merged:
                merged[listed] = _without(merged[listed], value)
        elif value is None:
            merged.pop(name, None)
        elif (merge := _merger(merged.get(name), value)) is not None:
            merged[name] = merge(merged[name], value, _meta(schema, name))
        else:
            plain = _plain(value)
            if plain is None:
                merged.pop(name, None)
            else:
                merged[name] = plain
    return merged


def _merger(current: Any, value: Any) -> Callable[[Any, Any, _Meta], Any] | None:
    """How two values of one type are merged; None where the new one simply takes the place."""
    if isinstance(current, dict) and isinstance(value, dict):
        return _merge_field
    if isinstance(current, list) and isinstance(value, list):
        return _merge_list
    return None


def _merge_field(current: Json, value: Json, meta: _Meta) -> Json:
    return _plain_object(value) if meta.replace else _merge_object(current, value, meta.schema)


def _retain_keys(original: Json, patch: Json) -> Json:
    """A copy of `original` with only the fields that the patch retains."""
    if _RETAIN_KEYS not in patch:
        return original.copy()
    retained = patch[_RETAIN_KEYS]
    if not isinstance(retained, list) or any(
        value is not None and name not in retained
        for name, value in patch.items()
        if name != _RETAIN_KEYS and not name.startswith((_DELETE_FROM, _SET_ORDER))
    ):
        raise BadRequest("invalid patch format of retainKeys")
    return {name: value for name, value in original.items() if name in retained}


def _plain(value: Any) -> Any:
    """A value that meets nothing to merge with: without nulls, directives and what they would delete."""
    if isinstance(value, dict):
        return None if value.get(_DIRECTIVE) == "delete" else _plain_object(value)
    if isinstance(value, list):
        return [plain for plain in map(_plain, value) if plain is not None]
    return value


def _plain_object(value: Json) -> Json:
    members = ((name, _plain(member)) for name, member in value.items() if not _is_directive(name))
    return {name: member for name, member in members if member is not None}


def _is_directive(name: str) -> bool:
    return name in {_DIRECTIVE, _RETAIN_KEYS} or name.startswith((_DELETE_FROM, _SET_ORDER))


def _without(current: Any, removed: Any) -> Any:
    if not isinstance(current, list) or not isinstance(removed, list):
        raise BadRequest("invalid patch format of primitive list")
    return [element for element in current if element not in removed]


# Lists


def _merge_list(current: list[Any], value: list[Any], meta: _Meta) -> list[Any]:
    if not meta.merge:
        plain: list[Any] = _plain(value)
        return plain
    return _merge_elements(current, value, meta, order=None)


def _merge_elements(current: list[Any], value: list[Any], meta: _Meta, order: list[Any] | None) -> list[Any]:
    """`current` and `value` merged, in the patch's own order unless `order` gives another."""
    if not current and not value:
        return current
    if any(isinstance(element, list) for element in (*current, *value)):
        raise Invalid("lists of lists are not supported")
    if not any(isinstance(element, dict) for element in (*current, *value)):
        merged = list(dict.fromkeys((*current, *value)))
        return _in_order(merged, order=value if order is None else order, live=current, merge_key="")
    if not meta.merge_key:
        raise BadRequest("cannot merge lists without merge key for struct")
    live, added = _apply_element_directives(current, value, meta.merge_key)
    merged = list(live)
    places = {_key(element, meta.merge_key): place for place, element in reversed(list(enumerate(merged)))}
    for element in added:
        key = _key(element, meta.merge_key)
        if key in places:
            merged[places[key]] = _merge_object(merged[places[key]], element, meta.schema)
        else:
            places[key] = len(merged)
            merged.append(_plain(element))
    return _in_order(merged, order=added if order is None else order, live=live, merge_key=meta.merge_key)


def _apply_element_directives(current: list[Any], value: list[Any], merge_key: str) -> tuple[list[Any], list[Any]]:
    """The live list after `$patch: delete` and `replace`, and the patch's elements without directives."""
    added: list[Any] = []
    deleted: set[Any] = set()
    replaced = False
    for element in value:
        directive = element.get(_DIRECTIVE) if isinstance(element, dict) else None
        if directive is None:
            added.append(element)
        elif directive == "delete":
            deleted.add(_key(element, merge_key))
        elif directive == "replace":
            replaced = True
        elif directive == "merge":
            raise BadRequest("merging lists cannot yet be specified in the patch")
        else:
            raise BadRequest(f"unknown patch type: {directive} in map: {_go_text(element)}")
    if replaced:
        return [], added
    return [element for element in current if _key(element, merge_key) not in deleted], added


def _key(element: Any, merge_key: str) -> Any:
    """What an element of a merged list is known by: the value of its merge key, or a scalar itself."""
    if not merge_key:
        return element
    if not isinstance(element, dict):
        raise BadRequest(f"expected a map with the key {merge_key}, but received {_go_text(element)}")
    if merge_key not in element:
        raise BadRequest(f"map: {_go_text(element)} does not contain declared merge key: {merge_key}")
    key = element[merge_key]
    return key if not isinstance(key, dict | list) else _go_text(key)


def _merge_ordered_lists(merged: Json, patch: Json, schema: Json) -> set[str]:
    """Merges, into `merged`, the lists for which the patch gives an order; their names."""
    done: set[str] = set()
    for directive, order in patch.items():
        if not directive.startswith(_SET_ORDER):
            continue
        name = directive.removeprefix(_SET_ORDER)
        current, value = merged.get(name), patch.get(name)
        if any(part is not None and not isinstance(part, list) for part in (order, current, value)) or order is None:
            raise BadRequest("invalid patch format of setElementOrder list")
        if current is None and value is None:
            continue
        meta = _meta(schema, name)
        _check_order(value or [], order, meta.merge_key)
        if current is None:
            live: list[Any] = []
            elements = _plain(value)
        elif value is None or not meta.merge:
            live = current
            elements = current if value is None else value
        else:
            live = current
            elements = _merge_elements(current, value, meta, order)
        merged[name] = _in_order(elements, order=order, live=live, merge_key=meta.merge_key)
        done.add(name)
    return done


def _check_order(value: list[Any], order: list[Any], merge_key: str) -> None:
    """The patch's own elements come in the order that the patch gives."""
    wanted = iter([_key(element, merge_key) for element in order])
    for element in value:
        if isinstance(element, dict) and _DIRECTIVE in element:
            continue
        key = _key(element, merge_key)
        if order and all(key != other for other in wanted):
            raise BadRequest(
                f"The order in patch list:\n{_go_text(value)}\n "
                f"doesn't match {_SET_ORDER[:-1]} list:\n{_go_text(order)}\n"
            )


def _in_order(elements: list[Any], *, order: list[Any], live: list[Any], merge_key: str) -> list[Any]:
    """Elements named in `order` in that order; the others in the live list's order, each before the first of the former
    that stands behind it in the live list."""
    order_of = {_key(element, merge_key): place for place, element in reversed(list(enumerate(order)))}
    live_of = {_key(element, merge_key): place for place, element in reversed(list(enumerate(live)))}
    keyed = [(_key(element, merge_key), element) for element in elements]
    ours = sorted((pair for pair in keyed if pair[0] in order_of), key=lambda pair: order_of[pair[0]])
    theirs = sorted((pair for pair in keyed if pair[0] not in order_of), key=lambda pair: live_of.get(pair[0], -1))
    merged: list[Any] = []
    while ours and theirs:
        left, right = live_of.get(theirs[0][0]), live_of.get(ours[0][0])
        taken = theirs if left is not None and right is not None and left < right else ours
        merged.append(taken.pop(0)[1])
    return merged + [element for _, element in (*theirs, *ours)]


def _go_text(value: Any) -> str:
    """A value as Go prints it, for messages."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{name}:{_go_text(value[name])}" for name in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_go_text, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)
