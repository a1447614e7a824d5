"""What security reads of the store."""

from collections.abc import Iterable
from typing import Protocol

from mizzen.local.apiserver.types import Json


class Reader(Protocol):
    """The newest committed objects, without waiting. Resources are known by `(group, plural)`, whatever the version."""

    def get(self, group: str, plural: str, namespace: str, name: str) -> Json | None:
        """One object; `namespace` is empty for cluster-scoped resources."""
        ...

    def list(self, group: str, plural: str) -> Iterable[Json]:
        """All objects of a resource, in all namespaces."""
        ...

    def changes(self, group: str, plural: str) -> int:
        """A number that differs after every change to an object of this resource: indexes made of `list` are good for
        as long as it stays the same."""
        ...
