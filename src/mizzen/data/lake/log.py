"""One entry of a Delta log, as we write it.

The log is one JSON file a version, and a version is made by putting its file where none is: of two writers one wins,
and the other looks again. The library reads it (replay, checkpoints, scans), but what it writes is either an append or
a replacement of everything. A load here may take out some files and add others, in one commit, together with the facts
of the load; so the entries are written here, by the open protocol (delta-io/delta, PROTOCOL.md, "Actions").

Data files lie flat in the table's folder. Their names sort in the order in which their rows were written, and end in
the SHA-256 of their bytes, so that the content of a version can be named, and checked, from the log alone.
"""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import Schema

from mizzen.data.lake.errors import ObjectExists
from mizzen.data.lake.objects import Store

RUN, DIGEST, FACTS, ATTACHMENT = "mizzen.run", "mizzen.digest", "mizzen.facts", "mizzen.attachment"
OLDEST = "mizzen.oldestVersion"
"""Of the table's configuration: the oldest version that retention has kept."""
ENGINE = "mizzen"
CONFIGURATION = {
    # Other programs leave every version readable: when files are due for removal is our own policy's to say.
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
}
_PROTOCOL = {
    # Times without a zone are a feature that a table must have from its beginning.
    "minReaderVersion": 3, "minWriterVersion": 7,
    "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"],
}  # fmt: skip
_NAME = re.compile(r"^(?P<order>[0-9]{8}-[0-9]{5})-.*-(?P<sha256>[0-9a-f]{64})\.parquet$")


class VersionTaken(Exception):
    """Another writer made that version."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file of a version."""

    path: str
    """Below the table's folder, as the log says it: as part of a URL."""
    bytes: int
    rows: int
    partition: Mapping[str, str | None] = field(default_factory=dict)
    """The values of the partition columns, as the protocol writes them; the file does not hold these columns."""

    @property
    def stored_at(self) -> str:
        """Where it lies, below the table's folder."""
        return unquote(self.path)

    @property
    def sha256(self) -> str | None:
        """Hex digits of its bytes' hash; `None` where another program wrote it."""
        match = _NAME.match(self.path)
        return match["sha256"] if match is not None else None

    @property
    def order(self) -> str | None:
        """Where its rows come among others'; `None` where another program wrote it."""
        match = _NAME.match(self.path)
        return match["order"] if match is not None else None


def data_file_name(order: str, run: str, sha256: str) -> str:
    """A data file's name: `order` is eight digits of the version it was written for and five of its place there."""
    return f"{order}-{run}-{sha256}.parquet"


@dataclass(frozen=True, slots=True)
class Entry:
    """What one commit says."""

    operation: str
    run: str
    timestamp_ms: int
    add: Sequence[DataFile]
    remove: Sequence[DataFile]
    facts: Mapping[str, str]
    """Of the commit: names beginning with `mizzen.` and texts."""
    transactions: Mapping[str, int]
    """How far each writer has come: a repeated commit finds itself here."""
    metadata: Mapping[str, Any] | None = None
    """The table's columns and configuration, where they change."""


def first_entry(timestamp_ms: int) -> bytes:
    """Version 0: no rows yet, and columns that the first load replaces."""
    columns = pa.schema([("time_without_zone", pa.timestamp("us"))])
    metadata = metadata_of(str(uuid.uuid4()), timestamp_ms, columns, (), CONFIGURATION)
    info = {"timestamp": timestamp_ms, "operation": "CREATE TABLE", "operationParameters": {}, "engineInfo": ENGINE}
    return _lines({"commitInfo": info}, {"protocol": _PROTOCOL}, {"metaData": metadata})


def metadata_of(
    table_id: str, created_ms: int, schema: pa.Schema, partition_by: Sequence[str], configuration: Mapping[str, str]
) -> dict[str, Any]:
    """The `metaData` action."""
    return {
        "id": table_id,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": Schema.from_arrow(schema).to_json(),
        "partitionColumns": [*partition_by],
        "createdTime": created_ms,
        "configuration": dict(configuration),
    }


def entry_bytes(entry: Entry) -> bytes:
    """The log file's content."""
    info = {
        "timestamp": entry.timestamp_ms,
        "operation": entry.operation.upper(),
        "operationParameters": {},
        "engineInfo": ENGINE,
        "txnId": str(uuid.uuid4()),
        RUN: entry.run,
        **entry.facts,
    }
    actions: list[dict[str, Any]] = [{"commitInfo": info}]
    if entry.metadata is not None:
        actions.append({"metaData": entry.metadata})
    for writer, number in entry.transactions.items():
        actions.append({"txn": {"appId": writer, "version": number, "lastUpdated": entry.timestamp_ms}})
    for file in entry.remove:
        removal = {
            "path": file.path,
            "deletionTimestamp": entry.timestamp_ms,
            "dataChange": True,
            "extendedFileMetadata": True,
            "partitionValues": dict(file.partition),
            "size": file.bytes,
        }
        actions.append({"remove": removal})
    for file in entry.add:
        addition = {
            "path": file.path,
            "partitionValues": dict(file.partition),
            "size": file.bytes,
            "modificationTime": entry.timestamp_ms,
            "dataChange": True,
            "stats": json.dumps({"numRecords": file.rows}),
        }
        actions.append({"add": addition})
    return _lines(*actions)


def put_entry(store: Store, path: str, version: int, content: bytes) -> None:
    """Makes the version. Raises `VersionTaken` where it is there already."""
    try:
        store.put(entry_path(path, version), content, new=True)
    except ObjectExists as error:
        raise VersionTaken(str(version)) from error


def entry_path(path: str, version: int) -> str:
    """Where the entry of a version lies."""
    return f"{path}/_delta_log/{version:020d}.json"


def read_entry(store: Store, path: str, version: int) -> list[dict[str, Any]]:
    """The actions of a version's entry. Raises `ObjectMissing`."""
    return [json.loads(line) for line in store.get(entry_path(path, version)).splitlines()]


def commit_info(store: Store, path: str, version: int) -> dict[str, Any]:
    """What a commit says of itself. (The library's own history counts back from the newest version it has seen.)"""
    return next((action["commitInfo"] for action in read_entry(store, path, version) if "commitInfo" in action), {})


def _lines(*actions: Mapping[str, Any]) -> bytes:
    return b"".join(json.dumps(action, separators=(",", ":")).encode() + b"\n" for action in actions)
