"""Row groups: how the rows of a version are cut into pieces that are computed and kept one by one.

A cut depends on the version's files and the group's size alone, so that a Pod that starts again, and the one that
commits, cut alike. No group reaches across files; of a file all groups but the last are of equal size.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.dataset as pds

from mizzen.data.lake.version import TableVersion


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive rows of one file."""

    number: int
    """From 0, in the order of the rows."""
    file: int
    """Which of the version's files."""
    start: int
    """Its first row, counted in the file."""
    rows: int

    @property
    def stop(self) -> int:
        return self.start + self.rows


def groups_of(file_rows: Sequence[int], group_rows: int) -> list[Group]:
    """The groups of files of so many rows each.

    >>> [(group.file, group.start, group.rows) for group in groups_of([5, 0, 2], 3)]
    [(0, 0, 3), (0, 3, 2), (2, 0, 2)]
    """
    groups: list[Group] = []
    for file, rows in enumerate(file_rows):
        for start in range(0, rows, group_rows):
            groups.append(Group(len(groups), file, start, min(group_rows, rows - start)))
    return groups


def share(groups: Sequence[Group], index: int, count: int) -> Sequence[Group]:
    """The part of the `index`-th of `count` Pods: neighbours, so that each reads few files, and in order."""
    return groups[len(groups) * index // count : len(groups) * (index + 1) // count]


def read(version: TableVersion, groups: Sequence[Group], columns: Sequence[str]) -> Iterator[tuple[Group, pa.Table]]:
    """Each group with its rows. Of the files only the Parquet row groups that hold some of them are read, each once."""
    first = 0
    while first < len(groups):
        last = first + 1
        while last < len(groups) and groups[last].file == groups[first].file:
            last += 1
        yield from _read_file(version, groups[first:last], columns)
        first = last


def _read_file(
    version: TableVersion, groups: Sequence[Group], columns: Sequence[str]
) -> Iterator[tuple[Group, pa.Table]]:
    waiting = deque(groups)
    pieces: list[pa.Table] = []
    for start, rows in _batches(version, groups, columns):
        stop = start + rows.num_rows
        while waiting and waiting[0].start < stop:
            group = waiting[0]
            begin = max(group.start, start)
            pieces.append(rows.slice(begin - start, min(group.stop, stop) - begin))
            if group.stop > stop:
                break
            yield waiting.popleft(), pa.concat_tables(pieces)
            pieces = []


def _batches(version: TableVersion, groups: Sequence[Group], columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """The rows of the Parquet row groups that hold some of one file's groups, each piece with where it begins."""
    whole = version.dataset([version.files[groups[0].file]])
    (fragment,) = whole.get_fragments()
    batch_rows = max(group.rows for group in groups)
    row = 0
    for number, stored in enumerate(fragment.row_groups):
        start, row = row, row + stored.num_rows
        if not any(group.start < row and start < group.stop for group in groups):
            continue
        part = [fragment.subset(row_group_ids=[number])]
        piece = pds.FileSystemDataset(part, whole.schema, whole.format, whole.filesystem)
        for batch in piece.to_batches(columns=[*columns], batch_size=batch_rows, batch_readahead=1):
            yield start, pa.Table.from_batches([batch])
            start += batch.num_rows
