"""The profile of a version to be: of its new rows, and of those that stay.

Rows that are appended add to the profile of the version before. Rows that were replaced cannot be taken out of a
sketch, so after an upsert all rows are looked at, as long as that is no large table; beyond `SCAN_BYTES_MAX`, what was
replaced stays counted, and the profile says so.
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from mizzen.data.ingest.spooling import Spool
from mizzen.data.lake.log import DataFile
from mizzen.data.lake.partitions import full_rows
from mizzen.data.lake.parts import Part
from mizzen.data.lake.profile import Profile
from mizzen.data.lake.sql import BATCH_ROWS
from mizzen.data.lake.version import TableVersion

SCAN_BYTES_MAX = 512 * 1024 * 1024


def profile_of(
    base: TableVersion | None,
    operation: str,
    content: Sequence[DataFile | Part],
    spool: Spool,
    personal: frozenset[str],
) -> Profile:
    """The profile of the version that `content` makes; `spool` has its new rows."""
    if base is None or operation == "replace":
        return Profile.of(_rows(spool.parts, spool.schema), spool.schema, personal)
    staying = [piece for piece in content if isinstance(piece, DataFile)]
    before = Profile.from_json(base.attachment.get("profile"))
    if before is not None and {name for name, column in before.columns.items() if column.personal} != personal:
        before = None  # what is shown of a column has changed, so it is looked at again
    replaces = sum(piece.rows for piece in content) < base.rows + spool.rows
    small = sum(file.bytes for file in staying) <= SCAN_BYTES_MAX
    if before is None or (replaces and small):
        return Profile.of(_all_rows(base, content, staying, spool.schema), spool.schema, personal)
    merged = Profile.of(_rows(spool.parts, spool.schema), spool.schema, personal).merged_with(before)
    merged.approximate = merged.approximate or before.approximate or replaces
    return merged


def _all_rows(
    base: TableVersion, content: Sequence[DataFile | Part], staying: Sequence[DataFile], schema: pa.Schema
) -> Iterator[pa.Table]:
    for batch in base.dataset(staying).to_batches(batch_size=BATCH_ROWS):
        yield full_rows(pa.Table.from_batches([batch]), schema)
    yield from _rows([piece for piece in content if isinstance(piece, Part)], schema)


def _rows(parts: Sequence[Part], schema: pa.Schema) -> Iterator[pa.Table]:
    for part in parts:
        with pq.ParquetFile(part.path) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                table = pa.Table.from_batches([batch])
                for name, value in part.partition.items():
                    repeated = pa.repeat(pa.scalar(value, pa.string()), table.num_rows)
                    table = table.append_column(name, repeated.cast(schema.field(name).type))
                yield full_rows(table, schema)
