"""Tables with versions: Delta Lake in the store, one folder a table.

A load writes its rows as Parquet files beside the others and then makes them a version by one commit, which replaces
the whole content. Files of older versions stay, so a version that was read once reads the same for ever, and a reader
never waits for a writer. The commit carries the load's name (`run`) as a Delta transaction, and is refused if the table
has moved since: whoever repeats a load, however it died, ends with exactly one version of it (`committed_by`).

The facts of a version (its digest, the load's report) are in the commit itself, so they cannot disagree with the rows.
The digest is SHA-256 over the schema and the hashes of the data files in order.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as pds
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, create_table_with_add_actions

from mizzen.data.lake.errors import DigestMismatch, StoreUnavailable, VersionMissing
from mizzen.data.lake.objects import DIGEST_PREFIX, Store
from mizzen.data.lake.parts import Part
from mizzen.kinds.data import Column

QUARANTINE = ".quarantine"
"""Ending of the table of the rows that a load set aside."""
_RUN, _DIGEST, _FACTS = "mizzen.run", "mizzen.digest", "mizzen.facts"
_KEEP_ALL = {
    # Every version stays readable: neither log entries nor data files are ever due for removal.
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
}
_EMPTY = pa.schema([("time_without_zone", pa.timestamp("us"))])
"""Version 0: it fixes the table's protocol, with times without a zone, which a later commit of rows could not add."""
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Commit:
    """One entry of a table's history."""

    version: int
    run: str | None
    digest: str | None
    timestamp_ms: int


class TableVersion:
    """A table as it was at one version: always the same rows in the same order."""

    def __init__(self, table: DeltaTable, store: Store, path: str) -> None:
        self._table, self._store, self._path = table, store, path
        self.location = store.url_of(path)
        self.version: int = table.version()

    def __repr__(self) -> str:
        return f"TableVersion({self.location!r}, version={self.version}, rows={self.rows})"

    @cached_property
    def _commit(self) -> dict[str, Any]:
        return _commit_info(self._store, self._path, self.version)

    @cached_property
    def _files(self) -> list[dict[str, Any]]:
        actions: list[dict[str, Any]] = pa.table(self._table.get_add_actions()).to_pylist()
        return sorted(actions, key=lambda action: action["path"])

    @property
    def run(self) -> str | None:
        """The load that made this version; `None` where another program did."""
        return self._commit.get(_RUN)

    @property
    def digest(self) -> str | None:
        """`sha256:…` over schema and data files; `None` where another program made this version."""
        return self._commit.get(_DIGEST)

    @property
    def facts(self) -> str:
        """What the load kept with the commit."""
        return str(self._commit.get(_FACTS, ""))

    @cached_property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return pa.schema(self._table.schema().to_arrow())

    @property
    def columns(self) -> list[Column]:
        """The columns as a status shows them."""
        return columns_of(self.schema)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(file["num_records"] for file in self._files)

    @property
    def bytes(self) -> int:
        """Of the data files."""
        return sum(file["size_bytes"] for file in self._files)

    def dataset(self) -> pds.FileSystemDataset:
        """As an Arrow dataset: scanned in pieces, with only the columns and row groups that a query needs."""
        whole = self._table.to_pyarrow_dataset()
        fragments = sorted(whole.get_fragments(), key=lambda fragment: fragment.path)
        return pds.FileSystemDataset(fragments, self.schema, whole.format, whole.filesystem)

    def arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows in memory."""
        return self.dataset().to_table(columns=None if columns is None else [*columns])

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in pieces, for tables larger than memory."""
        yield from self.dataset().to_batches(columns=None if columns is None else [*columns])

    def pandas(self, columns: Sequence[str] | None = None) -> Any:
        """All rows as a `pandas.DataFrame`."""
        return self.arrow(columns).to_pandas()

    def duckdb(self, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """As a relation of `connection` (by default a new one): `rows.filter("distance > 500").df()`."""
        return (connection if connection is not None else duckdb.connect()).from_arrow(self.dataset())

    def verify(self) -> None:
        """Reads every data file again. Raises `DigestMismatch` where they are not those of the commit."""
        hashes = []
        for file in self._files:
            hashed = hashlib.sha256()
            for piece in self._store.stream(f"{self._path}/{file['path']}"):
                hashed.update(piece)
            hashes.append(hashed.hexdigest())
        found = version_digest(self.schema, hashes)
        if self.digest is not None and found != self.digest:
            raise DigestMismatch(f"{self.location} version {self.version}", self.digest, found)


class Table:
    """A table in the store; it need not exist yet."""

    def __init__(self, store: Store, namespace: str, name: str) -> None:
        self._store = store
        self.path = f"tables/{namespace}/{name}"
        self.location = store.url_of(self.path)

    def __repr__(self) -> str:
        return f"Table({self.location!r})"

    def exists(self) -> bool:
        """Whether the table has a version."""
        return self._newest_version() > 0

    def at(self, version: int | None = None) -> TableVersion:
        """The table at a version, by default the newest.

        Raises `VersionMissing` where there is none such.
        """
        table = self._open(version)
        if table is None or table.version() == 0:
            raise VersionMissing(f"{self.location}: the table has no version {'yet' if version is None else version}")
        return TableVersion(table, self._store, self.path)

    def committed_by(self, run: str) -> TableVersion | None:
        """The version that a load made; `None` where it has made none."""
        newest = self._open(None)
        number = None if newest is None else newest.transaction_version(run)
        return None if number is None else self.at(number)

    def history(self, limit: int | None = None) -> list[Commit]:
        """The versions, newest first."""
        newest = self._newest_version()
        oldest = 1 if limit is None else max(1, newest - limit + 1)
        commits = []
        for version in range(newest, oldest - 1, -1):
            entry = _commit_info(self._store, self.path, version)
            commits.append(Commit(version, entry.get(_RUN), entry.get(_DIGEST), int(entry["timestamp"])))
        return commits

    def verify(self, version: int | None = None) -> None:
        """Raises `DigestMismatch` where the version's stored bytes are not those that were committed."""
        self.at(version).verify()

    def commit(self, parts: Sequence[Part], schema: pa.Schema, run: str, facts: str = "") -> TableVersion:
        """Makes the parts the table's next version, unless `run` made one already; returns the one it made.

        Raises `StoreUnavailable` where the store fails or other writers keep winning; repeating is safe.
        """
        digest = version_digest(schema, [part.sha256 for part in parts])
        actions = [self._upload(part, f"{run}-{index:05d}") for index, part in enumerate(parts)]
        for _ in range(_ATTEMPTS):
            try:
                newest = self._open(None) or self._create()
                # Asked of the snapshot that the commit is made on: a commit of this run since then makes ours fail.
                if (made := newest.transaction_version(run)) is not None:
                    return self.at(made)
                return self.at(_commit(newest, actions, schema, run, {_DIGEST: digest, _FACTS: facts}))
            except CommitFailedError:
                continue  # someone committed first: look again, on top of theirs
            except (DeltaError, OSError) as error:
                raise StoreUnavailable(f"{self.location}: {_line(error)}") from error
        raise StoreUnavailable(f"{self.location}: {_ATTEMPTS} other commits came first; try again")

    def _upload(self, part: Part, stem: str) -> AddAction:
        name = f"{stem}-{part.sha256[:16]}.parquet"
        self._store.put(f"{self.path}/{name}", part.path)
        return AddAction(
            path=name,
            size=part.bytes,
            partition_values={},
            modification_time=int(time.time() * 1000),
            data_change=True,
            stats=json.dumps({"numRecords": part.rows}),
        )

    def _create(self) -> DeltaTable:
        """Makes version 0, which holds nothing, unless someone else is first."""
        try:
            create_table_with_add_actions(
                self.location,
                Schema.from_arrow(_EMPTY),
                [],
                mode="error",
                configuration=_KEEP_ALL,
                storage_options=self._store.table_options,
                commit_properties=CommitProperties(max_commit_retries=0),  # a retry would make an empty version 1
            )
        except DeltaError:
            made = self._open(None)
            if made is None:
                raise
            return made
        return DeltaTable(self.location, storage_options=self._store.table_options)

    def _open(self, version: int | None) -> DeltaTable | None:
        local = self._store.local_path(f"{self.path}/_delta_log")
        if local is not None and not local.is_dir():
            return None  # the library would make the folder
        try:
            return DeltaTable(self.location, version=version, storage_options=self._store.table_options)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            if version is not None and self._newest_version() < version:
                return None
            raise StoreUnavailable(f"{self.location}: {_line(error)}") from error

    def _newest_version(self) -> int:
        newest = self._open(None)
        return -1 if newest is None else newest.version()


def _commit(table: DeltaTable, actions: list[AddAction], schema: pa.Schema, run: str, facts: dict[str, str]) -> int:
    """The version after `table`'s. Raises `CommitFailedError` where that is taken."""
    number: int = table.version() + 1
    properties = CommitProperties(
        custom_metadata={_RUN: run, **facts},
        max_commit_retries=0,  # a retry inside would land on another version than the transaction says
        app_transactions=[Transaction(run, number)],
    )
    table.create_write_transaction(
        [*actions], mode="overwrite", schema=Schema.from_arrow(schema), commit_properties=properties
    )
    return number


def _commit_info(store: Store, path: str, version: int) -> dict[str, Any]:
    """What a commit says of itself. (The library's own history counts back from the newest version it has seen.)"""
    lines = store.get(f"{path}/_delta_log/{version:020d}.json").splitlines()
    actions = (json.loads(line) for line in lines)
    return next((action["commitInfo"] for action in actions if "commitInfo" in action), {})


def columns_of(schema: pa.Schema) -> list[Column]:
    """The columns as a status shows them."""
    return [Column(name=field.name, type=str(field.type), nullable=field.nullable) for field in schema]


def version_digest(schema: pa.Schema, file_hashes: Sequence[str]) -> str:
    """`sha256:…` over the columns (names and types) and the SHA-256 hex digits of the data files, in order."""
    columns = [[field.name, str(field.type)] for field in schema]
    text = json.dumps({"columns": columns, "files": [*file_hashes]}, separators=(",", ":"))
    return DIGEST_PREFIX + hashlib.sha256(text.encode()).hexdigest()


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
