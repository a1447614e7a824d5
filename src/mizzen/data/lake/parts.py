"""Rows on their way into a table: chunks of any size become a few Parquet files on the local disk.

The memory taken is that of one row group whatever the size of the load. Files are hashed as they are finished, so that
a version's digest is of the bytes that were written and not of bytes read back later.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

GROUP_BYTES = 32 * 1024 * 1024
"""Of Arrow memory in one row group: large enough to scan fast, small enough for a Pod of some hundred megabytes."""
GROUP_ROWS = 1_000_000
FILE_BYTES = 256 * 1024 * 1024
"""After which a new file is begun: what a reader or an upload does in one piece."""


@dataclass(frozen=True, slots=True)
class Part:
    """One finished Parquet file."""

    path: Path
    rows: int
    bytes: int
    sha256: str
    """Hex digits."""
    partition: Mapping[str, str | None] = field(default_factory=dict)
    """The values of the partition columns, which the file does not hold."""
    order: str | None = None
    """Where its rows come in the table, where it takes the place of a stored file; else after what was there."""


class PartWriter:
    """Writes rows of one schema to files `part-00000.parquet`, … of a folder.

    With `group_rows`, row groups end by the number of rows alone: the same rows in the same pieces give the same bytes,
    whatever memory they lay in.
    """

    def __init__(
        self, folder: Path, schema: pa.Schema, *, one_file: bool = False, group_rows: int | None = None
    ) -> None:
        self.folder, self.schema = folder, schema
        self._file_bytes = FILE_BYTES if not one_file else math.inf
        self._group_bytes = GROUP_BYTES if group_rows is None else math.inf
        self._group_rows = GROUP_ROWS if group_rows is None else group_rows
        self._finished: list[Part] = []
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = self._waiting_rows = 0
        self._file: pq.ParquetWriter | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, rows: pa.Table) -> None:
        """Adds rows; they have the writer's schema."""
        self._waiting.append(rows)
        self._waiting_bytes += rows.get_total_buffer_size()
        self._waiting_rows += rows.num_rows
        if self._waiting_bytes >= self._group_bytes or self._waiting_rows >= self._group_rows:
            self._write_group()

    def close(self) -> list[Part]:
        """The finished files, in order; at least one, which may hold no row."""
        if self._waiting or not self._finished:
            self._write_group()
        self._finish_file()
        return self._finished

    def _path(self) -> Path:
        return self.folder / f"part-{len(self._finished):05d}.parquet"

    def _write_group(self) -> None:
        if self._file is None:
            # The bounds in a Parquet file are those of its numbers alone, and DuckDB takes them for those of NaN too:
            # where 0 and NaN are, `isnan(x)` finds nothing. Columns that may have NaN go without.
            bounded = [each.name for each in self.schema if not pt.is_floating(each.type)]
            self._file = pq.ParquetWriter(
                self._path(), self.schema, compression="zstd", compression_level=1, write_statistics=bounded
            )
        rows = pa.concat_tables(self._waiting) if self._waiting else self.schema.empty_table()
        self._file.write_table(rows, row_group_size=GROUP_ROWS)
        self._waiting, self._waiting_bytes, self._waiting_rows = [], 0, 0
        if self._path().stat().st_size >= self._file_bytes:
            self._finish_file()

    def _finish_file(self) -> None:
        if self._file is None:
            return
        self._file.close()
        path = self._path()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        rows = pq.read_metadata(path).num_rows
        self._finished.append(Part(path, rows, path.stat().st_size, digest))
        self._file = None
