"""Tables with versions: Delta Lake in the store, one folder a table.

A change writes its rows as Parquet files beside the others and then makes a version by one commit (`log.py`), which
says which files are the content from now on. Files of older versions stay, so a version that was read once reads the
same for ever (or until retention takes it), and a reader never waits for a writer. The commit carries the load's name
(`run`) as a Delta transaction: whoever repeats a load, however it died, ends with exactly one version of it
(`committed_by`).

Writers do not wait for each other either. Each plans its change on the newest version it sees (`Plan`), and where
another was faster it plans again on top of theirs, so no writer's rows are lost. Which files go and which stay is
therefore decided by a function that may be called several times: see `changes.py` for those there are.

The facts of a version (its digest, the load's report) are in the commit itself, so they cannot disagree with the rows.
The digest is SHA-256 over the schema and the hashes of the data files in order.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from mizzen.data.lake import log
from mizzen.data.lake.errors import ObjectExists, RowsUnfit, StoreUnavailable, VersionMissing
from mizzen.data.lake.log import DataFile, Entry, VersionTaken
from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import Part
from mizzen.data.lake.version import (
    TableVersion,
    attachment_path,
    columns_of,
    file_identity,
    safe_name,
    version_digest,
)

__all__ = [
    "QUARANTINE", "Change", "Commit", "Plan", "Table", "TableVersion", "Totals", "columns_of", "version_digest",
]  # fmt: skip

QUARANTINE = "quarantine"
"""The folder of the tables of rows that loads set aside: beside `tables`, so that no dataset's name can collide."""
_ATTEMPTS = 200
_CHECKPOINT_EVERY = 50


@dataclass(frozen=True, slots=True)
class Commit:
    """One entry of a table's history."""

    version: int
    run: str | None
    digest: str | None
    timestamp_ms: int
    operation: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """What a version will hold: for the facts that are told of it."""

    version: int
    rows: int
    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Change:
    """A version to be: its whole content in order, of files that are stored already and of new ones."""

    operation: str
    schema: pa.Schema
    content: Sequence[DataFile | Part]
    facts: Callable[[Totals], str] = lambda _: ""
    attachment: bytes | None = None
    """Larger facts, as JSON, kept beside the table."""
    partition_by: Sequence[str] = ()
    transactions: Mapping[str, int] = field(default_factory=dict)
    """How far further writers have come."""
    oldest: int | None = None
    """The oldest version to keep from now on, where retention says one."""


Plan = Callable[[TableVersion | None], Change | None]
"""The change to make of the newest version (`None` where the table holds nothing yet), or none. Called again where
another writer was faster, so it decides on nothing but its argument."""


class Table:
    """A table in the store; it need not exist yet."""

    def __init__(self, store: Store, namespace: str, name: str, *, folder: str = "tables") -> None:
        self.store = store
        self.path = f"{folder}/{namespace}/{name}"
        self.location = store.url_of(self.path)

    @classmethod
    def of(cls, version: TableVersion) -> Self:
        """The table that a version is of."""
        folder, namespace, name = version.path.split("/")
        return cls(version.store, namespace, name, folder=folder)

    def __repr__(self) -> str:
        return f"Table({self.location!r})"

    def exists(self) -> bool:
        """Whether the table has a version."""
        return self._newest_version() > 0

    def at(self, version: int | None = None) -> TableVersion:
        """The table at a version, by default the newest.

        Raises `VersionMissing` where there is none such, or retention took it.
        """
        table = self._open(version)
        if table is None or table.version() == 0:
            raise VersionMissing(f"{self.location}: the table has no version {'yet' if version is None else version}")
        if version is not None and version < (oldest := self.oldest()):
            raise VersionMissing(f"{self.location}: version {version} is no longer kept; the oldest is {oldest}")
        return TableVersion(table, self.store, self.path)

    def at_time(self, moment_ms: int) -> TableVersion:
        """The table as it was at a moment, in milliseconds since 1970.

        Raises `VersionMissing` where it held nothing yet, or retention took that version.
        """
        for commit in self.history():
            if commit.timestamp_ms <= moment_ms:
                return self.at(commit.version)
        raise VersionMissing(f"{self.location}: the table has no version from before that time")

    def oldest(self) -> int:
        """The oldest version that retention has kept."""
        newest = self._open(None)
        return int(newest.metadata().configuration.get(log.OLDEST, 1)) if newest is not None else 1

    def committed_by(self, run: str) -> TableVersion | None:
        """The version that a load made; `None` where it has made none."""
        newest = self._open(None)
        number = None if newest is None else newest.transaction_version(run)
        return None if number is None else self.at(number)

    def history(self, limit: int | None = None) -> list[Commit]:
        """The versions that are kept, newest first."""
        newest, oldest = self._newest_version(), self.oldest()
        if limit is not None:
            oldest = max(oldest, newest - limit + 1)
        commits = []
        for version in range(newest, oldest - 1, -1):
            entry = log.commit_info(self.store, self.path, version)
            operation = str(entry.get("operation", "")).lower()
            moment = int(entry["timestamp"])
            commits.append(Commit(version, entry.get(log.RUN), entry.get(log.DIGEST), moment, operation))
        return commits

    def verify(self, version: int | None = None) -> None:
        """Raises `DigestMismatch` where the version's stored bytes are not those that were committed."""
        self.at(version).verify()

    def commit(self, parts: Sequence[Part], schema: pa.Schema, run: str, facts: str = "") -> TableVersion:
        """Makes the parts the whole content, unless `run` made a version already; returns the one it made.

        Raises `StoreUnavailable` where the store fails or other writers keep winning; repeating is safe.
        """
        made = self.change(run, lambda _: Change("replace", schema, parts, lambda _: facts))
        assert made is not None, "there is a change to make"
        return made

    def append(self, parts: Sequence[Part], schema: pa.Schema, run: str, facts: str = "") -> TableVersion:
        """Adds the parts to the content, unless `run` did already. The schema has every column of the table.

        Raises `StoreUnavailable` as `commit` does.
        """

        def plan(base: TableVersion | None) -> Change:
            before, partition_by = ([], ()) if base is None else (base.files, base.partition_by)
            if partition_by:
                raise RowsUnfit(f"{self.location}: is partitioned: append through `changes.appending`")
            return Change("append", schema, [*before, *parts], lambda _: facts)

        made = self.change(run, plan)
        assert made is not None, "there is a change to make"
        return made

    def change(self, run: str, plan: Plan) -> TableVersion | None:
        """Makes the planned change the next version, unless `run` made one already.

        Returns the version it made; the newest where there was nothing to change (`None` where there is none at all).
        Raises `StoreUnavailable` where the store fails or other writers keep winning; repeating is safe.
        """
        for _ in range(_ATTEMPTS):
            try:
                newest = self._open(None) or self._create()
                # Asked of the snapshot that the commit is made on: a commit of this run since then makes ours fail.
                if (made := newest.transaction_version(run)) is not None:
                    return self.at(made)
                base = TableVersion(newest, self.store, self.path) if newest.version() > 0 else None
                change = plan(base)
                if change is None:
                    return base
                return self.at(self._commit(newest, base, change, run))
            except VersionTaken:
                continue  # someone committed first: look again, on top of theirs
            except (DeltaError, OSError) as error:
                raise StoreUnavailable(f"{self.location}: {_line(error)}") from error
        raise StoreUnavailable(f"{self.location}: {_ATTEMPTS} other commits came first; try again")

    def _commit(self, newest: DeltaTable, base: TableVersion | None, change: Change, run: str) -> int:
        """The new version's number. Raises `VersionTaken`."""
        number = newest.version() + 1
        content = self._stored(change.content, number, run)
        before = {file.path: file for file in base.files} if base is not None else {}
        after = {file.path: file for file in content}
        hashes = [
            file_identity(file.sha256 or file.path, file.partition)
            for file in sorted(content, key=lambda file: file.path)
        ]
        totals = Totals(
            number,
            sum(file.rows for file in content),
            sum(file.bytes for file in content),
            version_digest(change.schema, hashes),
        )
        facts = {log.DIGEST: totals.digest, log.FACTS: change.facts(totals)}
        if change.attachment is not None:
            facts[log.ATTACHMENT] = attachment_path(change.attachment)
            self.store.put(f"{self.path}/{facts[log.ATTACHMENT]}", change.attachment)
        now_ms = int(time.time() * 1000)
        entry = Entry(
            operation=change.operation,
            run=run,
            timestamp_ms=now_ms,
            add=[file for file in content if file.path not in before],
            remove=[file for file in before.values() if file.path not in after],
            facts=facts,
            transactions={run: number, **change.transactions},
            metadata=_new_metadata(newest, base, change),
        )
        log.put_entry(self.store, self.path, number, log.entry_bytes(entry))
        if number % _CHECKPOINT_EVERY == 0:
            with contextlib.suppress(DeltaError, OSError, VersionMissing):  # it only makes reading faster
                DeltaTable(self.location, version=number, storage_options=self.store.table_options).create_checkpoint()
        return number

    def _stored(self, content: Sequence[DataFile | Part], number: int, run: str) -> list[DataFile]:
        """The content with its new files uploaded."""
        files = []
        for index, piece in enumerate(content):
            if isinstance(piece, DataFile):
                files.append(piece)
                continue
            order = piece.order or f"{number:08d}-{index:05d}"
            name = log.data_file_name(order, safe_name(run), piece.sha256)
            with contextlib.suppress(ObjectExists):  # an earlier attempt of this run, with the same bytes
                self.store.put(f"{self.path}/{name}", piece.path)
            files.append(DataFile(name, piece.bytes, piece.rows, piece.partition))
        return files

    def _create(self) -> DeltaTable:
        """Makes version 0, which holds nothing, unless someone else is first."""
        with contextlib.suppress(VersionTaken):
            log.put_entry(self.store, self.path, 0, log.first_entry(int(time.time() * 1000)))
        return DeltaTable(self.location, storage_options=self.store.table_options)

    def _open(self, version: int | None) -> DeltaTable | None:
        local = self.store.local_path(f"{self.path}/_delta_log")
        if local is not None and not local.is_dir():
            return None  # the library would make the folder
        try:
            return DeltaTable(self.location, version=version, storage_options=self.store.table_options)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            if version is not None and self._newest_version() < version:
                return None
            raise StoreUnavailable(f"{self.location}: {_line(error)}") from error

    def _newest_version(self) -> int:
        newest = self._open(None)
        return -1 if newest is None else newest.version()


def _new_metadata(newest: DeltaTable, base: TableVersion | None, change: Change) -> dict[str, object] | None:
    """The `metaData` action where columns, partitions or retention change; `None` where they are as they were."""
    now = newest.metadata()
    configuration = dict(now.configuration)
    if change.oldest is not None:
        configuration[log.OLDEST] = str(change.oldest)
    same = base is not None and base.schema.equals(change.schema) and base.partition_by == tuple(change.partition_by)
    if same and configuration == now.configuration:
        return None
    return log.metadata_of(str(now.id), int(now.created_time or 0), change.schema, change.partition_by, configuration)


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
