"""From a table's versions into the online store, in steps that keep their place.

A step is some rows of one data file; it and the place are one transaction, so that a process that is killed at any
point goes on where it was, and no row counts twice. Two that materialise the same view at once do not either: a step
that does not begin where the place is, is not made, and whoever wanted it looks again.

A version whose loads since appended costs only what they added, also where the lake wrote small files together
(`growth.py`). A version from which rows went, or in which they changed, is read into a new generation beside the one
that is served, which readers get when it is complete: they never see a half-filled view, and the world is read again
only where it was replaced.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.dataset as pds

from mizzen.data.features.errors import SourceDamaged
from mizzen.data.features.events import columns_read, events_of, newest_of
from mizzen.data.features.online.catalog import delete_generation
from mizzen.data.features.online.view import AHEAD_MAX
from mizzen.data.features.online.writer import OnlineWriter, Place
from mizzen.data.lake.errors import VersionMissing
from mizzen.data.lake.growth import Step, growth
from mizzen.data.lake.tables import Table, TableVersion

STEP_ROWS = 250_000
"""Rows of one transaction: readers of an LMDB store are not held up by any number, a Redis server is by a large one."""
STEP_ROWS_NEWEST = 2_000_000
"""The same of a view of newest rows alone, of which one an entity is written; fewer where there are many entities."""
_AHEAD_ROWS = 1_000_000
_BATCH_ROWS = 65_536
"""Rows that are read at a time: more are slower, since they do not fit a processor's cache."""


class PlaceMoved(Exception):
    """Somebody else materialises the view and came further."""


@dataclass(frozen=True, slots=True)
class Materialised:
    """What a materialisation did."""

    version: int
    rows: int
    """Rows that were read now."""
    files: int
    generation: int


def ahead_of(rows: int) -> int:
    """How many changes to come of each entity are worked out for a source of so many rows."""
    return max(1, min(AHEAD_MAX, _AHEAD_ROWS // max(1, rows)))


def as_they_are(rows: pa.Table) -> pa.Table:
    """Rows of a view that uses no other."""
    return rows


def materialise(
    writer: OnlineWriter,
    source: TableVersion,
    now_us: Callable[[], int],
    *,
    step_rows: int | None = None,
    stepped: Callable[[Place], None] = lambda _: None,
    enrich: Callable[[pa.Table], pa.Table] = as_they_are,
    also: Sequence[str] = (),
) -> Materialised:
    """Brings the view to a version of its source; `stepped` is told of each step.

    A step takes `step_rows` rows, by default as many as suit the view. `enrich` adds what a view that uses others needs
    to know of each row; `also` are columns of the source that it needs for that.

    Raises `RowsUnfit` where rows do not fit the view and `StoreUnavailable` where a store fails; steps made stay made.
    """
    columns = columns_read(writer.view.definition, source.schema.names)  # before anything moves
    columns = list(dict.fromkeys([*columns, *also]))
    step_rows = step_rows or (STEP_ROWS_NEWEST if writer.view.rows_only else STEP_ROWS)
    rows = files = 0

    def count(place: Place, taken: int) -> None:
        nonlocal rows
        rows += taken
        stepped(place)

    while True:
        try:
            for step in _planned(writer, source):
                work = _Step(writer, step, source.schema, columns, step_rows, enrich, now_us)
                files += work.read(count)
            break
        except PlaceMoved:
            continue
    place = writer.move(lambda at: at)
    _forget_older(writer, place)
    return Materialised(source.version, rows, files, place.serving)


def _planned(writer: OnlineWriter, source: TableVersion) -> Sequence[Step]:
    """What is to be read, from where the place is. Begins a new generation where the source was replaced."""
    place, table = writer.place(), Table.of(source)
    if place.table not in {"", source.table_id}:
        return _anew(writer, place, source)
    if place.shares:
        return _anew(writer, place, source)
    begun = bool(place.files or place.file)
    if place.complete >= source.version and not begun:
        return []
    first: Sequence[Step] = []
    complete = place.complete
    if begun and place.version != source.version:  # half of another version is in: the other half goes first
        try:
            half = table.at(place.version)
        except VersionMissing:
            return _anew(writer, place, source)
        first = _between(table, complete, half) or ()
        complete = half.version
    if complete >= source.version:
        return first
    added = _between(table, complete, source)
    return _anew(writer, place, source) if added is None else [*first, *added]


def _between(table: Table, complete: int, target: TableVersion) -> Sequence[Step] | None:
    """The steps from a version that is in as a whole, or from nothing."""
    return growth(table, complete, target) if complete else [Step(target, target.files)]


def _anew(writer: OnlineWriter, seen: Place, source: TableVersion) -> Sequence[Step]:
    """The whole version, into a generation in which there is nothing yet."""

    def begin(place: Place) -> Place:
        if place != seen:
            raise PlaceMoved
        place.filling = max(place.serving, place.filling) + 1
        place.files, place.file, place.file_rows, place.complete, place.shares = [], "", 0, 0, ""
        place.version, place.table = source.version, source.table_id
        return place

    writer.move(begin)
    return [Step(source, source.files)]


class _Step:
    """Files of one version, to be read after everything before them."""

    def __init__(
        self,
        writer: OnlineWriter,
        step: Step,
        schema: pa.Schema,
        columns: list[str],
        step_rows: int,
        enrich: Callable[[pa.Table], pa.Table],
        now_us: Callable[[], int],
    ) -> None:
        self.writer, self.step, self.schema, self.columns, self.step_rows = writer, step, schema, columns, step_rows
        self.enrich, self.now_us = enrich, now_us
        self._filling = 0

    def read(self, count: Callable[[Place, int], None]) -> int:
        """Reads what is not in yet, and makes the version complete; how many files that were."""
        place = self.writer.move(self._begin)
        self._filling = place.filling
        wanted = [file for file in self.step.files if file.path not in place.files]
        done = set(place.files)
        fragments = self.step.version.dataset(wanted).get_fragments() if wanted else ()
        for file, fragment in zip(sorted(wanted, key=lambda file: file.stored_at), fragments, strict=True):
            skip = place.file_rows if place.file == file.path else 0
            batches = _read(fragment, self.schema, self.columns)
            newest = self.writer.view.rows_only and self.enrich is as_they_are
            for piece in _pieces(batches, skip, self.step_rows, self._kept if newest else None):
                place = self._apply(piece, file.path, skip)
                skip += piece.taken
                count(place, piece.taken)
            done.add(file.path)
            place = self.writer.move(lambda at, path=file.path, rows=skip: self._file_done(at, path, rows))  # type: ignore[misc]
        self.writer.move(lambda at: self._complete(at, done))
        return len(wanted)

    def _begin(self, place: Place) -> Place:
        version = self.step.version.version
        if place.complete >= version or place.shares or place.table not in {"", self.step.version.table_id}:
            raise PlaceMoved
        if place.version != version and (place.files or place.file):
            raise PlaceMoved
        place.version, place.table = version, self.step.version.table_id
        return place

    def _expect(self, place: Place) -> None:
        here = (place.version, place.filling) == (self.step.version.version, self._filling)
        if not here or place.complete >= place.version:
            raise PlaceMoved

    def _kept(self, rows: pa.Table) -> tuple[pa.Table, int]:
        """Of a view of newest rows: those that may change something, and how many events do not."""
        kept, events = newest_of(self.writer.view.definition, rows, self.now_us())
        return kept, events - len(kept)

    def _apply(self, piece: "_Piece", path: str, skip: int) -> Place:
        told: list[Place] = []

        def move(place: Place) -> Place:
            self._expect(place)
            if path in place.files or (place.file_rows if place.file == path else 0) != skip:
                raise PlaceMoved
            place.file, place.file_rows = path, skip + piece.taken
            told[:] = [place]
            return place

        events = events_of(self.writer.view.definition, self.enrich(piece.rows))
        ahead = ahead_of(self.step.version.rows)
        self.writer.apply(
            events, self.now_us(), move, lambda place: {place.filling}, left_out=piece.left_out, ahead=ahead
        )
        return told[0]

    def _file_done(self, place: Place, path: str, rows: int) -> Place:
        self._expect(place)
        if path in place.files or (place.file_rows if place.file == path else 0) != rows:
            raise PlaceMoved
        place.files = [*place.files, path]
        place.file, place.file_rows = "", 0
        return place

    def _complete(self, place: Place, done: set[str]) -> Place:
        self._expect(place)
        if set(place.files) != done:
            raise PlaceMoved
        place.complete, place.files = place.version, []
        place.serving = place.filling
        return place


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows for one transaction."""

    rows: pa.Table
    left_out: int
    """Events among the rows that were taken and that others of the same entity are newer than."""
    taken: int
    """Rows of the file that these are what is kept of."""


def _pieces(
    batches: Iterator[pa.RecordBatch], skip: int, rows: int, kept: Callable[[pa.Table], tuple[pa.Table, int]] | None
) -> Iterator[_Piece]:
    """The rows after the first `skip`, so many at a time; with `kept`, what that keeps of them, and fewer at a time
    where that is much."""
    waiting: list[pa.Table] = []
    taken = left_out = held = 0
    for batch in batches:
        left = pa.Table.from_batches([batch]).slice(skip)
        skip = max(0, skip - len(batch))
        while len(left):
            part = left.slice(0, rows - taken)
            left = left.slice(len(part))
            keeping, out = kept(part) if kept is not None else (part, 0)
            waiting.append(keeping)
            taken, left_out, held = taken + len(part), left_out + out, held + len(keeping)
            full = taken == rows
            if kept is not None and held >= STEP_ROWS:  # of the same entities, most likely
                keeping, out = kept(pa.concat_tables(waiting))
                full = full or len(keeping) > held // 2
                waiting, left_out, held = [keeping], left_out + out, len(keeping)
            if full:
                yield _Piece(pa.concat_tables(waiting), left_out, taken)
                waiting, taken, left_out, held = [], 0, 0, 0
    if waiting:
        yield _Piece(pa.concat_tables(waiting), left_out, taken)


def _read(fragment: pds.ParquetFileFragment, schema: pa.Schema, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from fragment.to_batches(schema=schema, columns=columns, batch_size=_BATCH_ROWS)
    except pa.ArrowInvalid as error:
        message = f"{fragment.path}: expected a whole Parquet file: {str(error).partition(chr(10))[0]}"
        raise SourceDamaged(f"{message}; load the dataset again, or restore the file") from error


def _forget_older(writer: OnlineWriter, place: Place) -> None:
    """Takes the records of generations before the served one away."""
    for generation in range(max(0, place.serving - 2), place.serving):
        delete_generation(writer.store, writer.namespace, writer.view, generation)


def entities_online(writer: OnlineWriter) -> int:
    """How many entities the served generation holds."""
    prefix = writer.view.prefix(writer.namespace, writer.place().serving)
    return sum(1 for _ in writer.store.scan(prefix))
