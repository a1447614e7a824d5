"""JSON Patch (RFC 6902) as the Kubernetes API server applies it.

Each operation copies the containers on its path and shares the rest, so that the document given stays as it was and a
patch of one field costs one path. Where Kubernetes departs from the RFC, so does this: `replace` sets a member that
is not there, negative indices count from the end, `copy` of a missing member copies null, and the size of all copies
in one patch is bounded. A patch that is not a list of operations is a bad request (400); one that does not apply is
422, whose message names no cause, as Kubernetes' does not.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from mizzen.local.apiserver.errors import BadRequest, Invalid, TooLarge
from mizzen.local.apiserver.patch.values import same
from mizzen.local.apiserver.types import Json

OPERATIONS_MAX = 10_000
COPIED_BYTES_MAX = 3 * 1024 * 1024

_Pointer = tuple[str, ...]


class _DoesNotApply(Exception):
    pass


def apply(document: Json, operations: Any) -> Json:
    """The document after all operations; none takes effect when one fails."""
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise BadRequest(
            "error decoding patch: expected a list of operations such as "
            '[{"op": "replace", "path": "/spec/replicas", "value": 2}]'
        )
    if len(operations) > OPERATIONS_MAX:
        raise TooLarge(
            f"The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {len(operations)}",
        )
    patched: Any = document
    copied_bytes = 0
    try:
        for operation in operations:
            kind = operation.get("op")
            if kind == "copy":
                copied_bytes += len(msgspec.json.encode(_read(patched, _pointer(operation, "from"))))
                if copied_bytes > COPIED_BYTES_MAX:
                    raise _DoesNotApply(f"copies more than {COPIED_BYTES_MAX} bytes")
            perform = _OPERATIONS.get(kind) if isinstance(kind, str) else None
            if perform is None:
                raise _DoesNotApply(f"Unexpected kind: {kind}")
            patched = perform(patched, operation)
        if not isinstance(patched, dict):
            raise _DoesNotApply("an object cannot become a list")
    except _DoesNotApply as reason:
        raise Invalid("the server rejected our request due to an error in our request") from reason
    return patched


def _pointer(operation: Json, member: str) -> _Pointer:
    """The tokens of `path` or `from` (RFC 6901)."""
    text = operation.get(member)
    if not isinstance(text, str):
        raise _DoesNotApply(f"operation missing {member} field")
    if text and not text.startswith("/"):
        raise _DoesNotApply(f"{member} must start with a slash: {text}")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:])


def _index(token: str, length: int, *, inserting: bool = False) -> int:
    """The place in a list that a token names; `inserting` also allows the place behind the last."""
    limit = length + 1 if inserting else length
    if inserting and token == "-":  # noqa: S105 - RFC 6902's name for the end of a list
        return length
    try:
        index = int(token)
    except ValueError:
        raise _DoesNotApply(f"value was not a proper array index: {token!r}") from None
    if index < -limit or index >= limit:
        raise _DoesNotApply(f"Unable to access invalid index: {index}")
    return index + limit if index < 0 else index


def _read(node: Any, pointer: _Pointer) -> Any:
    for depth, token in enumerate(pointer):
        if isinstance(node, list):
            node = node[_index(token, len(node))]
        elif isinstance(node, dict) and (token in node or depth == len(pointer) - 1):
            node = node.get(token)  # a member that is not there reads as null, but only at the end of the path
        else:
            raise _DoesNotApply("doc is missing path")
    return node


def _edit(node: Any, pointer: _Pointer, change: Callable[[Any, str], None]) -> Any:
    """A copy of `node`, changed where the pointer leads: `change` is given the copied container there and the token."""
    if not isinstance(node, dict | list) or not pointer:
        raise _DoesNotApply("doc is missing path")
    copied: Any = node.copy()
    token = pointer[0]
    if len(pointer) == 1:
        change(copied, token)
    elif isinstance(copied, list):
        index = _index(token, len(copied))
        copied[index] = _edit(copied[index], pointer[1:], change)
    else:
        copied[token] = _edit(copied.get(token), pointer[1:], change)
    return copied


def _insert(node: Any, pointer: _Pointer, value: Any) -> Any:
    def change(container: Any, token: str) -> None:
        if isinstance(container, list):
            container.insert(_index(token, len(container), inserting=True), value)
        else:
            container[token] = value

    return _edit(node, pointer, change)


def _add(document: Any, operation: Json) -> Any:
    return _insert(document, _pointer(operation, "path"), operation.get("value"))


def _remove(document: Any, operation: Json, member: str = "path") -> Any:
    def change(container: Any, token: str) -> None:
        if isinstance(container, list):
            del container[_index(token, len(container))]
        elif token in container:
            del container[token]
        else:
            raise _DoesNotApply(f"Unable to remove nonexistent key: {token}")

    return _edit(document, _pointer(operation, member), change)


def _replace(document: Any, operation: Json) -> Any:
    value = operation.get("value")
    pointer = _pointer(operation, "path")
    if not pointer:
        return value

    def change(container: Any, token: str) -> None:
        if isinstance(container, list):
            container[_index(token, len(container))] = value
        else:
            container[token] = value

    return _edit(document, pointer, change)


def _move(document: Any, operation: Json) -> Any:
    value = _read(document, _pointer(operation, "from"))
    return _insert(_remove(document, operation, "from"), _pointer(operation, "path"), value)


def _copy(document: Any, operation: Json) -> Any:
    return _insert(document, _pointer(operation, "path"), _read(document, _pointer(operation, "from")))


def _test(document: Any, operation: Json) -> Any:
    if not same(_read(document, _pointer(operation, "path")), operation.get("value")):
        raise _DoesNotApply(f"testing value {operation['path']} failed")
    return document


_OPERATIONS: dict[str, Callable[[Any, Json], Any]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}
