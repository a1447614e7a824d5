"""Which version of a view is served, told in the store itself, so that a reader needs nothing else.

An entry holds the view as it was when it was filled and the columns of its source: all that a record's layout follows
from. The first entry that is complete is served; the others have records too, and are being filled, or are there for
readers that have not looked again. So a definition that is being filled, or cannot be, leaves the one before in its
place, and whatever has records is known here, to be taken away with the view.
"""

import hashlib
import secrets
from collections.abc import Callable, Sequence

import msgspec
import pyarrow as pa
from msgspec.structs import replace

from mizzen.data.features.definition import definition_of
from mizzen.data.features.online.store import Changes, OnlineStore
from mizzen.data.features.online.view import OnlineView
from mizzen.kinds.features import FeatureView

_DELETED_AT_ONCE = 10_000
_INCARNATION = b"i"
_VERSIONS_KEPT = 2
"""The one that is served, and the one before for readers that hold it."""


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """A version of a view that has records."""

    digest: str
    """Of the definition, with those it uses."""
    view: bytes
    """The FeatureView as JSON: name, namespace and spec."""
    schema: bytes
    """The source's columns that it reads, as an Arrow IPC schema."""
    used: dict[str, str] = {}
    """Digests of the views that it uses, by name."""
    complete: bool = False

    def is_of(self, other: "Entry") -> bool:
        """Whether both have the same records."""
        return (self.digest, self.schema) == (other.digest, other.schema)

    def feature_view(self) -> FeatureView:
        """The view as it was when it was filled."""
        return FeatureView.from_server(msgspec.json.decode(self.view))

    def source_schema(self) -> pa.Schema:
        """The columns of the source that it reads."""
        return pa.ipc.read_schema(pa.py_buffer(self.schema))

    def online_view(self) -> OnlineView:
        """For readers and writers of its records."""
        return OnlineView(definition_of(self.feature_view(), self.used), self.source_schema())


_ENTRIES = msgspec.msgpack.Decoder(list[Entry])


def entry_of(view: FeatureView, schema: pa.Schema, used: dict[str, str]) -> Entry:
    """The entry of a view with such a source."""
    wire = {
        "kind": view.kind,
        "metadata": {"name": view.name, "namespace": view.namespace},
        "spec": view.spec.to_wire(),
    }
    return Entry(
        view.spec.digest(used),
        msgspec.json.encode(wire),
        schema.remove_metadata().serialize().to_pybytes(),
        used,
    )


def entries(store: OnlineStore, namespace: str, name: str) -> list[Entry]:
    """The versions of a view that have records, or had some and are being taken away.

    Raises `StoreUnavailable`.
    """
    return _decoded(store.get([_key(namespace, name)])[0])


def served(store: OnlineStore, namespace: str, name: str) -> Entry | None:
    """The version that readers get; `None` where none is complete. Raises `StoreUnavailable`."""
    return next((entry for entry in entries(store, namespace, name) if entry.complete), None)


def begin(store: OnlineStore, namespace: str, entry: Entry) -> None:
    """Makes it known that a version is about to have records. Raises `StoreUnavailable`; repeating is safe."""
    _change(store, namespace, entry, lambda known: known if _knows(known, entry) else [*known, entry])


def serve(store: OnlineStore, namespace: str, entry: Entry) -> None:
    """Makes a complete version the one that readers get, and takes the records of those before the last one away.

    Raises `StoreUnavailable`; repeating is safe.
    """
    now = replace(entry, complete=True)
    known = _change(store, namespace, entry, lambda known: [now, *(e for e in known if not e.is_of(now))])
    kept = [e for e in known if e.complete][:_VERSIONS_KEPT]
    for old in known:
        if old not in kept:
            _take_away(store, namespace, old)
    if known != kept:
        _change(store, namespace, entry, lambda known: [e for e in known if any(e.is_of(k) for k in kept)])


def remove(store: OnlineStore, namespace: str, name: str) -> int:
    """Takes every record of a view away, and how far it had come; how many records those were.

    Raises `StoreUnavailable`; repeating is safe.
    """
    known = entries(store, namespace, name)
    removed = sum(_take_away(store, namespace, entry) for entry in known)
    key = _key(namespace, name)
    store.write([], key, lambda _, __: {key: None})
    return removed


def incarnation(store: OnlineStore) -> str:
    """A name that the store keeps as long as it keeps anything. Raises `StoreUnavailable`."""
    told: list[bytes] = []

    def named(record: bytes | None, _: list[bytes | None]) -> Changes:
        told[:] = [record if record is not None else secrets.token_hex(8).encode()]
        return {} if record is not None else {_INCARNATION: told[0]}

    store.write([], _INCARNATION, named)
    return bytes(told[0]).decode()


def _take_away(store: OnlineStore, namespace: str, entry: Entry) -> int:
    """The records first and the place last, so that a removal that was cut short is begun again."""
    view = entry.online_view()
    removed = 0
    for generation in generations(store, namespace, view):
        removed += delete_generation(store, namespace, view, generation)
    told = {view.place(namespace): None, view.served(namespace): None}
    store.write([], view.place(namespace), lambda _, __: told)
    return removed


def generations(store: OnlineStore, namespace: str, view: OnlineView) -> Sequence[int]:
    """Those that may have records."""
    from_place = store.get([view.place(namespace)])[0]
    newest = 0 if from_place is None else max(place_numbers(from_place))
    return range(newest + 1)


def place_numbers(record: bytes) -> tuple[int, int]:
    """The generations that a place names: `serving` and `filling`."""
    _, serving, filling, *_ = msgspec.msgpack.decode(record)
    return int(serving), int(filling)


def delete_generation(store: OnlineStore, namespace: str, view: OnlineView, generation: int) -> int:
    """Takes the records of one generation away, some thousands at a time."""
    old = [found for found, _ in store.scan(view.prefix(namespace, generation))]
    for start in range(0, len(old), _DELETED_AT_ONCE):
        gone: Changes = dict.fromkeys(old[start : start + _DELETED_AT_ONCE])
        store.write([], view.place(namespace), lambda _, __, gone=gone: gone)  # type: ignore[misc]
    return len(old)


def _change(
    store: OnlineStore, namespace: str, entry: Entry, change: Callable[[list[Entry]], list[Entry]]
) -> list[Entry]:
    """What is known of the entry's view, changed in one transaction."""
    key = _key(namespace, entry.feature_view().name)
    told: list[Entry] = []

    def write(record: bytes | None, _: list[bytes | None]) -> Changes:
        before = _decoded(record)
        told[:] = change(before)
        return {} if told == before else {key: msgspec.msgpack.encode(told)}

    store.write([], key, write)
    return told


def _knows(known: list[Entry], entry: Entry) -> bool:
    return any(other.is_of(entry) for other in known)


def _decoded(record: bytes | None) -> list[Entry]:
    return [] if record is None else _ENTRIES.decode(record)


def _key(namespace: str, name: str) -> bytes:
    return b"c" + hashlib.blake2b(f"{namespace}/{name}".encode(), digest_size=8).digest()
