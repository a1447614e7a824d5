"""Rows parted by entity onto the disk, so that a join takes the memory of one part and not of all.

Each part is one Arrow IPC file. Rows keep their order inside a part. Files are written once and read once; whoever
makes the folder removes it.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from mizzen.data.features.columns import Array

_BUFFER_ROWS = 65_536
"""Rows that wait in memory for all parts together, before they are written."""


class Tables(Protocol):
    """Some tables, by number."""

    def __len__(self) -> int:
        """How many."""

    def read(self, number: int) -> pa.Table:
        """One of them."""


class Parts:
    """`count` files of rows of one schema."""

    def __init__(self, folder: Path, name: str, count: int, schema: pa.Schema) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = [folder / f"{name}-{number:05d}.arrow" for number in range(count)]
        self._writers = [pa.ipc.new_stream(path, schema) for path in self._paths]
        self._waiting: list[list[pa.RecordBatch]] = [[] for _ in range(count)]
        self._schema, self._rows = schema, 0

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, rows: pa.Table, part: Array) -> None:
        """Adds rows, each to its part."""
        order = np.argsort(part.astype(np.uint16), kind="stable")
        sorted_rows = rows.take(pa.array(order)).combine_chunks()
        bounds = np.searchsorted(part[order], np.arange(len(self) + 1))
        for number, (start, stop) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
            if start < stop:
                self._waiting[number] += sorted_rows.slice(start, stop - start).to_batches()
        self._rows += len(rows)
        if self._rows >= _BUFFER_ROWS * len(self):
            self._flush()

    def _flush(self) -> None:
        for number, batches in enumerate(self._waiting):
            if batches:
                self._writers[number].write_table(pa.Table.from_batches(batches).combine_chunks())
        self._waiting, self._rows = [[] for _ in self._paths], 0

    def close(self) -> None:
        """Writes what waits; no row may be added after."""
        self._flush()
        for writer in self._writers:
            writer.close()

    def read(self, number: int) -> pa.Table:
        """The rows of a part, on the pages of its file."""
        with pa.memory_map(str(self._paths[number])) as file, pa.ipc.open_stream(file) as stream:
            return stream.read_all()

    def drop(self, number: int) -> None:
        """Gives a part's disk back."""
        self._paths[number].unlink()
