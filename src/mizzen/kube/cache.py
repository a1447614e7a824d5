"""What a server holds of one kind, as last heard: a keyed store with indexes that reports what changed.

It is pure: the informer feeds it lists and events, and it answers with the changes. Objects are shared with all who
read and are never to be changed in place.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from mizzen.kube.resources import Key

T = TypeVar("T")
IndexFunction = Callable[[T], Iterable[str]]


def is_newer(version: str, than: str) -> bool:
    """Whether one resource version may be newer than another: any that differs, where they are not both numbers.

    Those of Kubernetes are numbers, and since 1.35 they must be.
    """
    if version.isdigit() and than.isdigit():
        return int(version) > int(than)
    return version != than or not version


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One object before and after: `old` is `None` where it appeared, `new` where it went away."""

    key: Key
    old: T | None
    new: T | None


@dataclass(slots=True)
class _Entry(Generic[T]):
    obj: T
    resource_version: str


class Cache(Generic[T]):
    """Objects by key. Changes go through `put`, `remove` and `replace`, which say what they changed."""

    def __init__(self) -> None:
        self._entries: dict[Key, _Entry[T]] = {}
        self._index_functions: dict[str, IndexFunction[T]] = {}
        self._indexes: dict[str, dict[str, dict[Key, T]]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def get(self, key: Key) -> T | None:
        entry = self._entries.get(key)
        return None if entry is None else entry.obj

    def version(self, key: Key) -> str | None:
        """The resource version of what is held under the key."""
        entry = self._entries.get(key)
        return None if entry is None else entry.resource_version

    def keys(self) -> list[Key]:
        return list(self._entries)

    def values(self) -> list[T]:
        return [entry.obj for entry in self._entries.values()]

    def values_in(self, namespace: str) -> list[T]:
        return [entry.obj for key, entry in self._entries.items() if key.namespace == namespace]

    def add_index(self, name: str, function: IndexFunction[T]) -> None:
        """Raises `ValueError` where another function has that name."""
        if name in self._index_functions:
            if self._index_functions[name] is function:
                return
            raise ValueError(f"index {name!r} is there already, with another function")
        self._index_functions[name] = function
        self._indexes[name] = {}
        for key, entry in self._entries.items():
            self._index_one(name, key, entry.obj)

    def by_index(self, name: str, value: str) -> list[T]:
        return list(self._indexes[name].get(value, {}).values())

    def put(self, key: Key, obj: T, resource_version: str) -> Change[T] | None:
        """`None` where that version, or a newer one, was there already."""
        old = self._entries.get(key)
        if old is not None and not is_newer(resource_version, old.resource_version):
            return None
        return self._set(key, obj, resource_version)

    def _set(self, key: Key, obj: T, resource_version: str) -> Change[T]:
        old = self._entries.get(key)
        if old is not None:
            self._unindex(key, old.obj)
        self._entries[key] = _Entry(obj, resource_version)
        for name in self._indexes:
            self._index_one(name, key, obj)
        return Change(key, None if old is None else old.obj, obj)

    def remove(self, key: Key, resource_version: str = "") -> Change[T] | None:
        """`None` where nothing was there, or something newer than the deletion."""
        old = self._entries.get(key)
        if old is None or (resource_version and is_newer(old.resource_version, resource_version)):
            return None
        del self._entries[key]
        self._unindex(key, old.obj)
        return Change(key, old.obj, None)

    def replace(self, objects: Mapping[Key, tuple[T, str]], keep: Iterable[Key] = ()) -> list[Change[T]]:
        """Makes the cache hold exactly these (object and resource version), and what is there already of `keep`.

        What a list says counts, be it newer or older: a server may have been restored from older data.
        """
        gone = self._entries.keys() - objects.keys() - set(keep)
        changes = [self.remove(key) for key in gone]
        changes += [
            self._set(key, obj, version)
            for key, (obj, version) in objects.items()
            if key not in self._entries or self._entries[key].resource_version != version or not version
        ]
        return [change for change in changes if change is not None]

    def _index_one(self, name: str, key: Key, obj: T) -> None:
        index = self._indexes[name]
        for value in self._index_functions[name](obj):
            index.setdefault(value, {})[key] = obj

    def _unindex(self, key: Key, obj: T) -> None:
        for name, function in self._index_functions.items():
            index = self._indexes[name]
            for value in function(obj):
                bucket = index.get(value)
                if bucket is not None:
                    bucket.pop(key, None)
                    if not bucket:
                        del index[value]
