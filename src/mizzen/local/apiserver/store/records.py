"""What the store keeps: an object at a revision, and the change that made it so.

An object is kept as the JSON bytes it is answered with. A get, an unfiltered list and a watch of the stored version
send these bytes as they are; whoever needs the parts decodes them, which costs some ten microseconds and yields a value
of their own that they may change. Ten thousand decoded Pods would be a quarter of a gigabyte; encoded, a tenth of it.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from mizzen.local.apiserver.types import Json

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"
EventType = Literal["ADDED", "MODIFIED", "DELETED"]

Resource = tuple[str, str]
"""`(group, plural)`: what objects are stored under, whatever the version asked for."""

Name = tuple[str, str]
"""`(namespace, name)` within a resource; the namespace of cluster-scoped objects is empty."""

encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Json).decode


class _Metadata(msgspec.Struct):
    labels: dict[str, str] | None = None


class _Labelled(msgspec.Struct):
    metadata: _Metadata


_decode_labels = msgspec.json.Decoder(_Labelled).decode


class Record:
    """An object at a revision. Immutable; labels are read out of the bytes once, when a selector first asks."""

    __slots__ = ("_fields", "_labels", "encoded", "name", "namespace", "revision")

    def __init__(self, namespace: str, name: str, revision: int, encoded: bytes) -> None:
        self.namespace = namespace
        self.name = name
        self.revision = revision
        self.encoded = encoded
        self._labels: Mapping[str, str] | None = None
        self._fields: Mapping[str, str] | None = None

    def object(self) -> Json:
        """The object, decoded anew: the caller may change it."""
        return _decode(self.encoded)

    @property
    def labels(self) -> Mapping[str, str]:
        if self._labels is None:
            self._labels = _decode_labels(self.encoded).metadata.labels or {}
        return self._labels

    def fields(self, extract: Callable[[Json], Mapping[str, str]]) -> Mapping[str, str]:
        """What field selectors may ask for; `extract` is the resource's, always the same one."""
        if self._fields is None:
            self._fields = extract(self.object())
        return self._fields

    def __repr__(self) -> str:
        return f"<Record {self.namespace}/{self.name} at {self.revision}, {len(self.encoded)} bytes>"


class Event(NamedTuple):
    """A change: `record` after it (of a deletion: the last state, at the deletion's revision), `previous` before it."""

    type: EventType
    record: Record
    previous: Record | None
