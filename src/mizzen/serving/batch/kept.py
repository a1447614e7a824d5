"""The answers of row groups, as a run keeps them in the store until it commits.

    runs/<namespace>/<batch prediction>/<run>/groups/<number>-<rows>-<failed>-<sha256>.arrow
    runs/<namespace>/<batch prediction>/<run>/aside/<number>-<sha256>.arrow

An object appears whole or not at all, and its name holds how many rows it has, how many of those failed, and the
SHA-256 of its bytes: what is there is known from a list, and what is damaged is not committed. Where a group was
computed twice (a Pod that was thought lost and was not) there may be two; the first by name counts, for all alike.

Rows that are set aside are in an object of their own, which the group's names (in its schema's metadata), so that the
two belong together whoever wrote which.
"""

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import ipc

from mizzen.data.lake.errors import DigestMismatch
from mizzen.data.lake.objects import Store

_ASIDE = b"mizzen.aside"
_NAME = re.compile(r"^(?P<number>[0-9]{8})-(?P<rows>[0-9]+)-(?P<failed>[0-9]+)-(?P<sha256>[0-9a-f]{64})\.arrow$")
_OPTIONS = ipc.IpcWriteOptions(compression="zstd")


@dataclass(frozen=True, slots=True)
class Kept:
    """One group's answers in the store."""

    path: str
    rows: int
    failed: int
    sha256: str


class KeptAnswers:
    """What one run has kept."""

    def __init__(self, store: Store, folder: str, run: str) -> None:
        self._store = store
        self._runs = folder
        self._folder = f"{folder}/{run}"

    def found(self) -> Mapping[int, Kept]:
        """The groups that are kept, by number."""
        found: dict[int, Kept] = {}
        for stored in self._store.list(f"{self._folder}/groups"):
            match = _NAME.match(stored.path.rpartition("/")[2])
            if match is not None:
                kept = Kept(stored.path, int(match["rows"]), int(match["failed"]), match["sha256"])
                found.setdefault(int(match["number"]), kept)
        return found

    def keep(self, number: int, rows: pa.Table, failed: int, aside: pa.Table | None = None) -> Kept:
        """Keeps a group's answers: `rows` of the output, of which `failed` have none, and those set `aside`."""
        if aside is not None and aside.num_rows:
            data = _written(aside)
            path = f"{self._folder}/aside/{number:08d}-{hashlib.sha256(data).hexdigest()}.arrow"
            self._store.put(path, data)
            rows = rows.replace_schema_metadata({_ASIDE: path.rpartition("/")[2].encode()})
        data = _written(rows)
        sha256 = hashlib.sha256(data).hexdigest()
        path = f"{self._folder}/groups/{number:08d}-{rows.num_rows}-{failed}-{sha256}.arrow"
        self._store.put(path, data)
        return Kept(path, rows.num_rows, failed, sha256)

    def fetch(self, kept: Kept) -> tuple[pa.Table, pa.Table | None]:
        """A group's answers and the rows set aside. Raises `DigestMismatch` where they are not those that were kept."""
        rows = self._read(kept.path, kept.sha256)
        aside = (rows.schema.metadata or {}).get(_ASIDE)
        if aside is None:
            return rows, None
        name = aside.decode()
        return rows.replace_schema_metadata(None), self._read(f"{self._folder}/aside/{name}", name[9:73])

    def forget(self) -> None:
        """Takes away what the run has kept."""
        for stored in self._store.list(self._folder):
            self._store.delete(stored.path)

    def forget_others(self, active: frozenset[str]) -> None:
        """Takes away what runs have kept that are not among those."""
        for stored in self._store.list(self._runs):
            run = stored.path.removeprefix(f"{self._runs}/").partition("/")[0]
            if run not in active:
                self._store.delete(stored.path)

    def _read(self, path: str, sha256: str) -> pa.Table:
        data = self._store.get(path)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise DigestMismatch(self._store.url_of(path), f"sha256:{sha256}", f"sha256:{found}")
        with ipc.open_file(pa.BufferReader(data)) as file:
            return file.read_all()


def forget_all(store: Store, folder: str) -> int:
    """Takes away what all runs have kept; how many objects that were. Of a training job of the same name nothing is."""
    kept = [stored.path for stored in store.list(folder) if stored.path.split("/")[-2] in {"groups", "aside"}]
    for path in kept:
        store.delete(path)
    return len(kept)


def _written(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    with ipc.new_file(sink, rows.schema, options=_OPTIONS) as file:
        file.write_table(rows)
    return sink.getvalue()
