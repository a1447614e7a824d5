"""Rows that were acknowledged and are not in a version yet: one object of the store for each batch of requests.

A segment is an Arrow file of one record batch a request. It is written by one writer under the writer's next number, so
that a table can say in one number for each writer how far it has taken their rows in (a Delta transaction): a segment
up to that number is done with, whatever became of the process that was to delete it, and one above it is not lost.
A request may carry a key; a key that was seen lately is not taken in again.
"""

import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from mizzen.data.lake.objects import Store
from mizzen.data.lake.version import TableVersion

FOLDER = "push"
KEYS_KEPT = 2000
"""So many keys of requests are remembered with each version."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one request, and its key; empty where it had none."""

    rows: pa.Table
    key: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A segment in the store."""

    writer: str
    number: int

    @property
    def transaction(self) -> str:
        """Under which a table counts this writer's segments."""
        return f"push-{self.writer}"

    def path(self, namespace: str, name: str) -> str:
        """Where it lies in the store."""
        return f"{FOLDER}/{namespace}/{name}/{self.writer}-{self.number:012d}.arrow"


def put_segment(store: Store, namespace: str, name: str, segment: Segment, batches: Sequence[Batch]) -> None:
    """Keeps the batches; when this returns, they outlive this process and, on a disk, this machine's power."""
    content = io.BytesIO()
    keys = "\n".join(batch.key for batch in batches)
    schema = batches[0].rows.schema.with_metadata({"keys": keys})
    with pa.ipc.new_file(content, schema) as writer:
        for batch in batches:
            whole = batch.rows.combine_chunks().to_batches()
            writer.write_batch(whole[0] if whole else pa.RecordBatch.from_pylist([], schema=batch.rows.schema))
    path = segment.path(namespace, name)
    store.put(path, content.getvalue(), new=True)
    local = store.local_path(path)
    if local is not None:
        for place in (local, local.parent):
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def segments_of(store: Store, namespace: str, name: str) -> list[Segment]:
    """Those that are there, each writer's in order."""
    found = []
    for stored in store.list(f"{FOLDER}/{namespace}/{name}"):
        writer, _, number = stored.path.rpartition("/")[2].removesuffix(".arrow").rpartition("-")
        if writer and number.isdigit():
            found.append(Segment(writer, int(number)))
    return sorted(found)


def read_segment(store: Store, namespace: str, name: str, segment: Segment) -> list[Batch]:
    """Its batches. Raises `ObjectMissing` where another process has deleted it, having taken it in."""
    file = pa.ipc.open_file(store.get(segment.path(namespace, name)))
    metadata = file.schema.metadata or {}
    keys = metadata.get(b"keys", b"").decode().split("\n")
    schema = file.schema.remove_metadata()
    batches = [pa.Table.from_batches([file.get_batch(index)]) for index in range(file.num_record_batches)]
    return [Batch(rows.cast(schema), key) for rows, key in zip(batches, keys, strict=True)]


def pending(segments: Iterable[Segment], base: TableVersion | None) -> list[Segment]:
    """Those whose rows are in no version yet."""
    return [segment for segment in segments if segment.number > taken_in(segment, base)]


def taken_in(segment: Segment, base: TableVersion | None) -> int:
    """The number up to which the segment's writer has been taken in."""
    number = base.transaction(segment.transaction) if base is not None else None
    return -1 if number is None else number


def delete_taken_in(store: Store, namespace: str, name: str, base: TableVersion | None) -> None:
    """Deletes the segments whose rows are in a version."""
    for segment in segments_of(store, namespace, name):
        if segment.number <= taken_in(segment, base):
            store.delete(segment.path(namespace, name))
