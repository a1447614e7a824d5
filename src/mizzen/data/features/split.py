"""Work split by entity into shares, each of which can be done anywhere, and the whole put together again.

A share is a part of the hashes of a view's keys: the same for its events and for the rows of the spine, so that an
entity is in one share with all its events, and what comes out does not depend on how many shares there are. For each
view a share holds the features of its rows with their numbers in the spine; the whole is read off all shares in the
order of the spine.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from mizzen.data.features.columns import Array
from mizzen.data.features.keys import as_key, hashes
from mizzen.data.features.pointintime import (
    ROW_NUMBER,
    ROWS_IN_MEMORY,
    Clocks,
    Rows,
    Use,
    asked_columns,
    assembled,
    expect_names,
    join_batches,
    newest_us,
)
from mizzen.data.features.timeline import NEVER_US
from mizzen.data.lake.objects import Store


@dataclass(frozen=True, slots=True)
class Share:
    """One of several, from 0."""

    number: int
    of: int


@dataclass(frozen=True)
class Shared:
    """The rows of some entities; with `numbered`, each says which of all the rows it is."""

    inner: Rows
    keys: Sequence[str]
    share: Share
    numbered: bool = False

    @property
    def schema(self) -> pa.Schema:
        schema = self.inner.schema
        return schema.append(pa.field(ROW_NUMBER, pa.int64())) if self.numbered else schema

    @cached_property
    def rows(self) -> int:
        return sum(int(self._ours(batch).sum()) for batch in self.inner.batches(self._keys([])))

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        first = 0
        wanted = self.schema.names if columns is None else [*columns]
        for batch in self.inner.batches(self._keys([name for name in wanted if name != ROW_NUMBER])):
            kept = np.flatnonzero(self._ours(batch))
            rows = batch.take(pa.array(kept))
            if self.numbered:
                rows = rows.append_column(ROW_NUMBER, pa.array(first + kept))
            first += len(batch)
            yield rows.select(wanted)

    def _keys(self, columns: Sequence[str]) -> list[str]:
        return list(dict.fromkeys([*columns, *self.keys]))

    def _ours(self, batch: pa.RecordBatch) -> Array:
        keys = [as_key(batch.column(name), None, name) for name in self.keys]
        ours: Array = hashes(keys) % np.uint64(self.share.of) == self.share.number
        return ours


@dataclass(frozen=True)
class _Asked:
    """The columns of the spine that a view is asked by."""

    inner: Rows
    columns: list[str]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([self.inner.schema.field(name) for name in self.columns])

    @property
    def rows(self) -> int:
        return self.inner.rows

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        yield from self.inner.batches(self.columns if columns is None else columns)


def share_of(
    use: Use, spine: Rows, clocks: Clocks, share: Share, *, work: Path, rows_in_memory: int = ROWS_IN_MEMORY
) -> Iterator[pa.Table]:
    """The numbers of the share's rows in the spine, rising, with the view's features.

    Raises `RequestUnfit`, `RowsUnfit`.
    """
    expect_names(spine.schema, [use], clocks)
    definition = use.definition
    until_us = use.complete_until_us
    if until_us is None:
        until_us = _complete_until_us(use)
    ours = replace(
        use,
        source=Shared(use.source, [key.column for key in definition.keys], share),
        complete_until_us=until_us,
        prefix="",
    )
    asked = Shared(
        _Asked(spine, asked_columns(use, clocks)),
        [use.keys.get(key.name, key.name) for key in definition.keys],
        share,
        numbered=True,
    )
    prefixed = replace(ours, prefix="\1")  # a feature may have the name of a column that this view is not asked by
    names = use.names()
    for piece in join_batches(asked, [prefixed], clocks, work=work, rows_in_memory=rows_in_memory):
        columns = {name: piece.column(f"\1{name}") for name in names}
        yield pa.table({ROW_NUMBER: piece.column(ROW_NUMBER), **columns})


def _complete_until_us(use: Use) -> int:
    """Until when what happened is in the source, of labels: of all its entities, not of a share's."""
    definition = use.definition
    if not any(aggregation.window.ahead for aggregation in definition.aggregations):
        return NEVER_US
    newest = (newest_us(definition, pa.table(batch)) for batch in use.source.batches([definition.event_time]))
    return max(newest, default=-NEVER_US)


class KeptShares:
    """Shares of one piece of work in the store, where whoever makes the last one finds them all.

    `folder` names the work, what it is made of and in how many shares; several tables may be made of each.
    """

    def __init__(self, store: Store, folder: str, parts: int, tables: int = 1) -> None:
        self._store, self.folder, self._parts, self._tables = store, folder, parts, tables

    def keep(self, share: int, make: Callable[[int], Iterable[pa.Table]], file: Path) -> None:
        """Makes those of a share's tables that are not kept yet, each by its number; `file` is where they are made."""
        there = self._there()
        for table in range(self._tables):
            path = self._path(share, table)
            if path not in there:
                _write(file, make(table))
                self._store.put(path, file)
                file.unlink()

    @property
    def are_all_kept(self) -> bool:
        """Whether nothing is missing."""
        return self._wanted() <= self._there()

    def table(self, table: int, to: Path) -> "Shares":
        """One table of all shares, on the pages of files of this machine."""
        to.mkdir(parents=True, exist_ok=True)
        for share in range(self._parts):
            self._store.download(self._path(share, table), to / f"{share}.arrow")

        def read(share: int) -> pa.Table:
            with pa.memory_map(str(to / f"{share}.arrow")) as file, pa.ipc.open_file(file) as opened:
                return opened.read_all()

        return Shares(self._parts, read)

    def drop(self) -> None:
        """Deletes them."""
        for path in self._there():
            self._store.delete(path)

    def _wanted(self) -> set[str]:
        return {self._path(share, table) for share in range(self._parts) for table in range(self._tables)}

    def _there(self) -> set[str]:
        return {stored.path for stored in self._store.list(self.folder)}

    def _path(self, share: int, table: int) -> str:
        return f"{self.folder}/{share:05d}-{table:03d}.arrow"


def _write(file: Path, pieces: Iterable[pa.Table]) -> None:
    writer: pa.RecordBatchFileWriter | None = None
    for piece in pieces:
        if writer is None:
            writer = pa.ipc.new_file(file, piece.schema)
        writer.write_table(piece)
    assert writer is not None, "a share has at least one piece"
    writer.close()


@dataclass(frozen=True, slots=True)
class Shares:
    """The tables of one view, one a share."""

    count: int
    get: Callable[[int], pa.Table]

    def __len__(self) -> int:
        return self.count

    def read(self, number: int) -> pa.Table:
        return self.get(number)


def whole(spine: Rows, uses: Sequence[Use], clocks: Clocks, shares: Sequence[Shares]) -> Iterator[pa.Table]:
    """The spine with the features of all views, in pieces and in order, from every view's shares."""
    expect_names(spine.schema, uses, clocks)
    yield from assembled(spine, uses, {}, dict(enumerate(shares)))
