"""Which file of the prediction log is where.

    FOLDER/NAMESPACE.ENDPOINT/N.ring         the ring of one gateway process
    FOLDER/NAMESPACE.ENDPOINT/HEX.stream     what records mean: the JSON of a `record.Stream`, named by its digest
    FOLDER/NAMESPACE.ENDPOINT/written.json   what the writer has made of them (`journal.Written`)
    SPOOL/NAMESPACE.ENDPOINT/identity        names this spool in the table's transactions
    SPOOL/NAMESPACE.ENDPOINT/NUMBER.open     the segment that grows
    SPOOL/NAMESPACE.ENDPOINT/NUMBER.sealed   a segment that is due to the table
    SPOOL/NAMESPACE.ENDPOINT/NUMBER.sent     in the table; its events are due
    SPOOL/NAMESPACE.ENDPOINT/NUMBER.rejected what no table can take, kept for a person

FOLDER is shared by gateways and writer, small, and best in memory (tmpfs: writing to a mapped file on a disk may wait
for the disk). SPOOL is the writer's, on a disk. The table is `predictions/NAMESPACE/ENDPOINT` in the store, labels
are beside it.
"""

from pathlib import Path

RING_ENDING = ".ring"
STREAM_ENDING = ".stream"
WRITTEN = "written.json"
SEGMENTS = "*.[os][pe]*"
"""Segments that wait for something: `open`, `sealed`, `sent`."""


def folder_of(base: Path, namespace: str, endpoint: str) -> Path:
    """One endpoint's folder."""
    return base / f"{namespace}.{endpoint}"


def endpoint_of(folder: Path) -> tuple[str, str]:
    """Namespace and name: a namespace holds no dot."""
    namespace, _, endpoint = folder.name.partition(".")
    return namespace, endpoint


def table_path(namespace: str, endpoint: str) -> str:
    """Of the log's table, in the store."""
    return f"predictions/{namespace}/{endpoint}"


def labels_path(namespace: str, endpoint: str) -> str:
    """Of the table of labels, in the store."""
    return f"predictions/{namespace}/{endpoint}.labels"
