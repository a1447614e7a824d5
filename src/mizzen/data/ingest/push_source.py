"""Rows that were pushed and acknowledged, as the source of a load: the segments that are in no version yet.

The load's commit says how far it has taken each writer's segments in, so that rows are in a version once, however often
a load is killed and repeated, and whichever of several processes takes them in. Requests whose key was seen before are
passed over.
"""

from collections.abc import Iterator

import pyarrow as pa

from mizzen.data.ingest.reading import Reading
from mizzen.data.ingest.task import IngestTask
from mizzen.data.lake.errors import ObjectMissing, SourceMoved
from mizzen.data.lake.objects import Store
from mizzen.data.lake.partitions import full_rows
from mizzen.data.lake.segments import KEYS_KEPT, Batch, Segment, pending, read_segment, segments_of, taken_in
from mizzen.data.lake.version import TableVersion
from mizzen.data.push.accepting import schema_of

KEPT_AS = "pushKeys"


def read_push(task: IngestTask, store: Store, base: TableVersion | None) -> Reading:
    """The rows of the segments that are in no version yet. Raises `SourceMoved` where another process was faster."""
    assert task.source.push is not None, "asked of a source that is pushed to"
    waiting = pending(segments_of(store, task.namespace, task.name), base)
    known: dict[str, None] = dict.fromkeys(base.attachment.get(KEPT_AS, ()) if base is not None else ())
    tables: list[pa.Table] = []
    for segment in waiting:
        for batch in _batches(store, task, segment):
            if batch.key and batch.key in known:
                continue
            if batch.key:
                known[batch.key] = None
            tables.append(batch.rows)
    schema = schema_of(task.source.push.columns)
    earlier = [*(base.schema if base is not None else ()), *(field for table in tables for field in table.schema)]
    for field in earlier:  # rows sent before a column was declared, or while one still was
        if field.name not in schema.names:
            schema = schema.append(field)
    transactions = {
        segment.transaction: segment.number for segment in waiting
    }  # each writer's last, as they are sorted
    return Reading(
        _full(tables, schema),
        transactions=transactions,
        expected=lambda now: _expect_same(waiting, base, now),
        kept={KEPT_AS: [*known][-KEYS_KEPT:]},
    )


def _batches(store: Store, task: IngestTask, segment: Segment) -> list[Batch]:
    try:
        return read_segment(store, task.namespace, task.name, segment)
    except ObjectMissing as error:
        raise SourceMoved(f"{segment}: another process has taken these rows in: load again") from error


def _full(tables: list[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    yield schema.empty_table()
    for table in tables:
        yield full_rows(table, schema)


def _expect_same(waiting: list[Segment], read_at: TableVersion | None, now: TableVersion | None) -> None:
    """Raises `SourceMoved` where segments of these were taken in since they were read."""
    moved = [segment for segment in waiting if taken_in(segment, now) != taken_in(segment, read_at)]
    if moved:
        raise SourceMoved("another process has taken pushed rows in since: load again")
