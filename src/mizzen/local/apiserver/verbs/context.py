"""What every verb is given, and what it gives back."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from mizzen.local.apiserver.answers import Reply
from mizzen.local.apiserver.catalog import Catalog, Served
from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.store import Record, Store
from mizzen.local.apiserver.types import AdmissionContext, Attributes, Json, User

Plugin = Callable[[AdmissionContext, Json], Json]
"""An admission plugin: the object it returns goes on; it raises to refuse."""


class StoreReader:
    """`types.Reader` on a store. Single objects are the newest, lists are what is durable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, group: str, plural: str, namespace: str, name: str) -> Json | None:
        record = self._store.head((group, plural), namespace, name)
        return None if record is None else record.object()

    def list(self, group: str, plural: str) -> Iterable[Json]:
        return [record.object() for record in self._store.records((group, plural))]

    def changes(self, group: str, plural: str) -> int:
        return self._store.collection((group, plural)).position


@dataclass(frozen=True, slots=True)
class Context:
    """The server, as verbs see it. Clock and randomness are given."""

    store: Store
    catalog: Catalog
    reader: StoreReader
    require: Callable[[User, Attributes], None]
    """Raises Forbidden unless a user may: for what only a verb knows it is about to do."""
    admission: Sequence[Plugin]
    now: Callable[[], datetime]
    new_uid: Callable[[], str]
    name_suffix: Callable[[], str]
    """Five characters for `generateName`."""


@dataclass(frozen=True, slots=True)
class One:
    """A single object: one of the store, or one that was made for the answer."""

    served: Served | None
    record: Record | None = None
    made: Json | None = None
    """In the version asked for."""
    status: int = 200


@dataclass(frozen=True, slots=True)
class Many:
    """A list."""

    served: Served
    records: Sequence[Record]
    metadata: Json


Result = One | Many
Handler = Callable[["Context", Served, Request], Awaitable[Result | Reply]]
"""What answers a subresource."""
