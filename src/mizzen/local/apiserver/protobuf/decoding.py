"""Protobuf bodies to the JSON objects they stand for.

    "k8s\\0" + Unknown{1: TypeMeta{1: apiVersion, 2: kind}, 2: the object's own message}

Go writes every field that is no pointer, zero or not, and JSON leaves zeros out; the table knows which zeros were
meant.
"""

import base64
import functools
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import resources
from typing import Any, NamedTuple

import msgspec

from mizzen.local.apiserver.types import Json

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PACKAGES = {
    "v1": "core.v1",
    "apps/v1": "apps.v1",
    "batch/v1": "batch.v1",
    "rbac.authorization.k8s.io/v1": "rbac.v1",
    "coordination.k8s.io/v1": "coordination.v1",
    "discovery.k8s.io/v1": "discovery.v1",
    "events.k8s.io/v1": "events.v1",
    "policy/v1": "policy.v1",
    "autoscaling/v1": "autoscaling.v1",
    "authentication.k8s.io/v1": "authentication.v1",
    "authorization.k8s.io/v1": "authorization.v1",
    "apiextensions.k8s.io/v1": "apiextensions.v1",
}
_OPTIONS = frozenset({"DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions"})


class Undecodable(ValueError):
    """The body is no message at all, or a damaged one."""


class UnknownType(Undecodable):
    """The body is a message of a type that is not known in this encoding."""


class _Field(NamedTuple):
    name: str
    """Empty: the message's fields are the object's."""
    shape: str
    """`*` a pointer, `[]` a list, `{}` a map by strings, empty a value."""
    leaf: str
    kept: bool


def decode(body: bytes) -> Json:
    """The object in a body; Undecodable when there is none that is known."""
    if not body.startswith(_MAGIC):
        raise Undecodable("expected the prefix of Kubernetes' protobuf encoding")
    try:
        envelope = {number: value for number, _, value in _fields(body[len(_MAGIC) :])}
        meta = {number: value.decode() for number, _, value in _fields(envelope.get(1, b""))}
        api_version, kind = meta.get(1, ""), meta.get(2, "")
        package = "meta.v1" if kind in _OPTIONS else _PACKAGES.get(api_version, "")
        message = f"{package}.{kind}"
        if message not in _table():
            raise UnknownType(f"{kind} of {api_version} is not known in this encoding")
        return {"kind": kind, "apiVersion": api_version, **_object(message, envelope.get(2, b""))}
    except (IndexError, struct.error, UnicodeDecodeError, AttributeError, TypeError, msgspec.DecodeError) as error:
        raise Undecodable(f"the body is cut off or damaged: {error}") from error


@functools.cache
def _table() -> dict[str, dict[int, _Field]]:
    text = resources.files(__package__).joinpath("fields.txt").read_text()
    table: dict[str, dict[int, _Field]] = {}
    message: dict[int, _Field] = {}
    for line in text.splitlines():
        if not line.startswith(" "):
            message = table[line] = {}
            continue
        number, name, kind = line.split()
        kept, kind = kind.endswith("!"), kind.rstrip("!")
        shape = next((prefix for prefix in ("*", "[]", "{}") if kind.startswith(prefix)), "")
        message[int(number)] = _Field("" if name == "-" else name, shape, kind.removeprefix(shape), kept)
    return table


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """`(number, wire type, value)` of a message: an integer, or the bytes of a longer one."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        wire = tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield tag >> 3, wire, value
        elif wire == _BYTES:
            length, position = _varint(data, position)
            if position + length > end:
                raise IndexError("a field is longer than the body")
            yield tag >> 3, wire, data[position : position + length]
            position += length
        elif wire in {_FIXED64, _FIXED32}:
            length = 8 if wire == _FIXED64 else 4
            yield tag >> 3, wire, data[position : position + length]
            position += length
        else:
            raise Undecodable(f"wire type {wire} is not used by Kubernetes")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _object(message: str, data: bytes) -> Json:
    known = _table().get(message, {})
    result: Json = {}
    for number, wire, value in _fields(data):
        field = known.get(number)
        if field is None:
            continue
        if not field.name:
            result.update(_object(field.leaf, value))
        elif field.shape == "[]":
            result.setdefault(field.name, []).extend(_items(field.leaf, wire, value))
        elif field.shape == "{}":
            entry = {n: (w, v) for n, w, v in _fields(value)}
            key = entry[1][1].decode() if 1 in entry else ""
            result.setdefault(field.name, {})[key] = _value(field.leaf, entry.get(2, (_BYTES, b""))[1])
        else:
            decoded = _value(field.leaf, value)
            if field.shape == "*" or field.kept or decoded not in (None, "", 0, False):
                result[field.name] = decoded
    return result


def _items(leaf: str, wire: int, value: Any) -> list[Any]:
    if leaf in {"int", "bool"} and wire == _BYTES:  # packed
        items, position = [], 0
        while position < len(value):
            item, position = _varint(value, position)
            items.append(_value(leaf, item))
        return items
    return [_value(leaf, value)]


def _value(leaf: str, value: Any) -> Any:
    special = _SPECIAL.get(leaf)
    if special is not None:
        return special(value)
    return _object(leaf, value)


def _integer(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _messages(value: bytes, number: int) -> list[bytes]:
    return [item for found, _, item in _fields(value) if found == number]


def _text(value: bytes) -> str:
    found = _messages(value, 1)
    return found[0].decode() if found else ""


def _raw(value: bytes) -> Any:
    found = _messages(value, 1)
    return msgspec.json.decode(found[0]) if found and found[0] else None


def _int_or_string(value: bytes) -> int | str:
    fields = {number: item for number, _, item in _fields(value)}
    if fields.get(1, 0) == 0:
        return _integer(fields.get(2, 0))
    text: str = fields.get(3, b"").decode()
    return text


def _moment(value: bytes, *, micro: bool) -> str | None:
    fields = {number: _integer(item) for number, _, item in _fields(value)}
    seconds, nanos = fields.get(1, 0), fields.get(2, 0)
    if not fields or (seconds == -62135596800 and not nanos):  # Go's zero time
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{nanos // 1000:06d}Z" if micro else "Z")


def _schema_or_bool(value: bytes) -> Any:
    fields = {number: item for number, _, item in _fields(value)}
    return _object(_SCHEMA, fields[2]) if 2 in fields else bool(fields.get(1, 0))


def _schema_or_array(value: bytes) -> Any:
    fields = {number: item for number, _, item in _fields(value)}
    return _object(_SCHEMA, fields[1]) if 1 in fields else [_object(_SCHEMA, item) for item in _messages(value, 2)]


def _schema_or_strings(value: bytes) -> Any:
    fields = {number: item for number, _, item in _fields(value)}
    return _object(_SCHEMA, fields[1]) if 1 in fields else [item.decode() for item in _messages(value, 2)]


_SCHEMA = "apiextensions.v1.JSONSchemaProps"
_SPECIAL: dict[str, Callable[[Any], Any]] = {
    "string": bytes.decode,
    "bool": bool,
    "int": _integer,
    "double": lambda value: struct.unpack("<d", value)[0],
    "bytes": lambda value: base64.b64encode(value).decode(),
    "quantity": _text,
    "raw": _raw,
    "int-or-string": _int_or_string,
    "time": lambda value: _moment(value, micro=False),
    "micro-time": lambda value: _moment(value, micro=True),
    "strings": lambda value: [item.decode() for item in _messages(value, 1)],
    "schema-or-bool": _schema_or_bool,
    "schema-or-array": _schema_or_array,
    "schema-or-strings": _schema_or_strings,
}
