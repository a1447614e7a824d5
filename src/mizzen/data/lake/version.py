"""A table as it was at one version: always the same rows in the same order."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pyarrow.dataset as pds
from deltalake import DeltaTable

from mizzen.data.lake import log
from mizzen.data.lake.errors import DigestMismatch, LakeError
from mizzen.data.lake.log import DataFile
from mizzen.data.lake.objects import DIGEST_PREFIX, Store
from mizzen.kinds.data import Column

_ATTACHMENTS = "_mizzen"


class TableVersion:
    """One version of a table."""

    def __init__(self, table: DeltaTable, store: Store, path: str) -> None:
        self._table, self.store, self.path = table, store, path
        self.location = store.url_of(path)
        self.version: int = table.version()

    def __repr__(self) -> str:
        return f"TableVersion({self.location!r}, version={self.version}, rows={self.rows})"

    @cached_property
    def _commit(self) -> dict[str, Any]:
        return log.commit_info(self.store, self.path, self.version)

    @cached_property
    def files(self) -> list[DataFile]:
        """The data files, in the order of their rows."""
        actions = pa.table(self._table.get_add_actions()).to_pylist()
        unknown = any(action["num_records"] is None for action in actions)  # another program wrote no statistics
        counted = self._counted() if unknown else {}
        files = [
            DataFile(action["path"], action["size_bytes"], rows, _partition(action))
            for action in actions
            for rows in (counted[unquote(action["path"])] if action["num_records"] is None else action["num_records"],)
        ]
        return sorted(files, key=lambda file: file.path)

    def _counted(self) -> dict[str, int]:
        """The rows of each file, read from the files themselves."""
        fragments = self._table.to_pyarrow_dataset().get_fragments()
        return {fragment.path.lstrip("/"): fragment.count_rows() for fragment in fragments}

    @property
    def table_id(self) -> str:
        """The table's own: another one where it was deleted and made anew under the same name."""
        return str(self._table.metadata().id)

    @property
    def run(self) -> str | None:
        """The load that made this version; `None` where another program did."""
        return self._commit.get(log.RUN)

    @property
    def operation(self) -> str:
        """What the commit did: `replace`, `append`, `upsert`, `restore`, …"""
        return str(self._commit.get("operation", "")).lower()

    @property
    def digest(self) -> str | None:
        """`sha256:…` over schema and data files; `None` where another program made this version."""
        return self._commit.get(log.DIGEST)

    @property
    def facts(self) -> str:
        """What the load kept with the commit."""
        return str(self._commit.get(log.FACTS, ""))

    @property
    def timestamp_ms(self) -> int:
        """When it was made, in milliseconds since 1970."""
        return int(self._commit["timestamp"])

    @cached_property
    def attachment(self) -> dict[str, Any]:
        """The larger facts that the load kept beside the table: profile, sources, place. Empty where it kept none."""
        name = self._commit.get(log.ATTACHMENT)
        if name is None:
            return {}
        document: dict[str, Any] = json.loads(self.store.get(f"{self.path}/{name}"))
        return document

    def transaction(self, writer: str) -> int | None:
        """How far a writer had come; `None` where it had never written."""
        number: int | None = self._table.transaction_version(writer)
        return number

    @cached_property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return pa.schema(self._table.schema().to_arrow())

    @property
    def partition_by(self) -> tuple[str, ...]:
        """The columns whose values the files are divided by."""
        return tuple(self._table.metadata().partition_columns)

    @property
    def columns(self) -> list[Column]:
        """The columns as a status shows them."""
        return columns_of(self.schema)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Of the data files."""
        return sum(file.bytes for file in self.files)

    def dataset(self, files: Sequence[DataFile] | None = None) -> pds.FileSystemDataset:
        """As an Arrow dataset, scanned in pieces, with only the columns and row groups that a query needs.

        `files` are those to read, by default all.
        """
        whole = self._table.to_pyarrow_dataset()
        wanted = None if files is None else {file.stored_at for file in files}
        fragments = sorted(whole.get_fragments(), key=lambda fragment: fragment.path)
        if wanted is not None:
            fragments = [fragment for fragment in fragments if fragment.path.lstrip("/") in wanted]
            if len(fragments) != len(wanted):
                raise LakeError(f"{self.location} version {self.version}: expected {len(wanted)} files to read, found "
                                f"{len(fragments)}: a name that is not understood")  # fmt: skip
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
        for file in self.files:
            hashed = hashlib.sha256()
            for piece in self.store.stream(f"{self.path}/{file.stored_at}"):
                hashed.update(piece)
            name = hashed.hexdigest() if file.sha256 is not None else file.path
            hashes.append(file_identity(name, file.partition))
        found = version_digest(self.schema, hashes)
        if self.digest is not None and found != self.digest:
            raise DigestMismatch(f"{self.location} version {self.version}", self.digest, found)


def _partition(action: dict[str, Any]) -> dict[str, str | None]:
    values = action.get("partition") or action.get("partition_values") or {}
    return {name: partition_text(value) for name, value in values.items()}


def partition_text(value: Any) -> str | None:
    """A partition column's value as the protocol writes it."""
    if value is None:
        return None
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def attachment_path(content: bytes) -> str:
    """Where larger facts are kept, below the table's folder: a folder that other programs take for no data."""
    return f"{_ATTACHMENTS}/{hashlib.sha256(content).hexdigest()}.json"


def columns_of(schema: pa.Schema) -> list[Column]:
    """The columns as a status shows them."""
    return [Column(name=field.name, type=str(field.type), nullable=field.nullable) for field in schema]


def file_identity(sha256: str, partition: Any) -> str:
    """What a file adds to a version's digest: its hash, and the values that it does not hold itself."""
    return f"{sha256} {json.dumps(dict(sorted(partition.items())), separators=(',', ':'))}" if partition else sha256


def version_digest(schema: pa.Schema, file_hashes: Sequence[str]) -> str:
    """`sha256:…` over the columns (names and types) and the SHA-256 hex digits of the data files, in order."""
    columns = [[field.name, str(field.type)] for field in schema]
    text = json.dumps({"columns": columns, "files": [*file_hashes]}, separators=(",", ":"))
    return DIGEST_PREFIX + hashlib.sha256(text.encode()).hexdigest()


_SAFE = re.compile(r"[^-A-Za-z0-9_.]")


def safe_name(run: str) -> str:
    """A run's name as part of a file's."""
    return _SAFE.sub("_", run)
