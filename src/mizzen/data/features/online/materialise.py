"""From a table's versions into the online store, in steps that keep their place.

A step is some rows of one data file; it and the place are one transaction, so that a process that is killed at any
point goes on where it was, and no row counts twice. A version whose files are those before and some more (a load that
appended) costs only the new ones. A version that took files away (a load that replaced the content) is read into a new
generation beside the one that is served, which readers get when it is complete: they never see a half-filled view, and
the world is read again only where it was replaced.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import pyarrow as pa
import pyarrow.dataset as pds

from mizzen.data.features.events import columns_read, events_of
from mizzen.data.features.online.store import Changes
from mizzen.data.features.online.writer import OnlineWriter, Place, place_of, served_record
from mizzen.data.lake.tables import TableVersion

STEP_ROWS = 250_000
"""Rows of one transaction: readers of an LMDB store are not held up by any number, a Redis server is by a large one."""
_DELETED_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Materialised:
    """What a materialisation did."""

    version: int
    rows: int
    """Rows that were read now."""
    files: int
    generation: int


def materialise(
    writer: OnlineWriter,
    source: TableVersion,
    now_us: Callable[[], int],
    *,
    step_rows: int = STEP_ROWS,
    stepped: Callable[[Place], None] = lambda _: None,
) -> Materialised:
    """Brings the view to a version of its source; `stepped` is told of each step.

    Raises `RowsUnfit` where rows do not fit the view and `StoreUnavailable` where a store fails; steps made stay made.
    """
    columns = columns_read(writer.view.definition, source.schema.names)  # before anything moves
    folder = "/".join(source.location.split("/")[-2:]) + "/"
    fragments = {fragment.path.rpartition(folder)[2]: fragment for fragment in source.dataset().get_fragments()}
    place = _begun(writer, source.version, set(fragments))
    rows = files = 0
    for name, fragment in sorted(fragments.items()):
        if name in place.files:
            continue
        skip = place.file_rows if place.file == name else 0
        for step in _steps(fragment, columns, skip, step_rows):
            place = _apply(writer, step, name, now_us())
            rows += len(step)
            stepped(place)
        place = _moved(writer, lambda at, name=name: _file_done(at, name))  # type: ignore[misc]
        files += 1
    place = _moved(writer, _served)
    _forget_older(writer, place)
    return Materialised(source.version, rows, files, place.serving)


def _begun(writer: OnlineWriter, version: int, files: set[str]) -> Place:
    """The place from which this version is read: a new generation where files that were read are gone."""

    def begin(place: Place) -> Place:
        read = {*place.files, *([place.file] if place.file else [])}
        if read - files:
            place.filling = max(place.serving, place.filling) + 1
            place.files, place.file, place.file_rows = [], "", 0
        place.version = version
        return place

    return _moved(writer, begin)


def _steps(fragment: pds.ParquetFileFragment, columns: list[str], skip: int, rows: int) -> Iterator[pa.Table]:
    """The rows of a file after the first `skip`, so many at a time."""
    waiting: list[pa.RecordBatch] = []
    for whole in fragment.to_batches(columns=columns, batch_size=rows):
        batch, skip = whole.slice(min(skip, len(whole))), max(0, skip - len(whole))
        while sum(map(len, waiting)) + len(batch) >= rows:
            left = rows - sum(map(len, waiting))
            yield pa.Table.from_batches([*waiting, batch.slice(0, left)])
            batch, waiting = batch.slice(left), []
        if len(batch):
            waiting.append(batch)
    if waiting:
        yield pa.Table.from_batches(waiting)


def _apply(writer: OnlineWriter, rows: pa.Table, file: str, as_of_us: int) -> Place:
    moved: list[Place] = []

    def move(place: Place) -> Place:
        place.file_rows = (place.file_rows if place.file == file else 0) + len(rows)
        place.file = file
        moved[:] = [place]
        return place

    writer.apply(events_of(writer.view.definition, rows), as_of_us, move, lambda place: {place.filling})
    return moved[0]


def _file_done(place: Place, file: str) -> Place:
    place.files = [*place.files, file]
    place.file, place.file_rows = "", 0
    return place


def _served(place: Place) -> Place:
    place.serving = place.filling
    return place


def _moved(writer: OnlineWriter, move: Callable[[Place], Place]) -> Place:
    """Moves the place alone."""
    moved: list[Place] = []
    key = writer.view.place(writer.namespace)

    def change(record: bytes | None, _: list[bytes | None]) -> Changes:
        before = place_of(record)
        place = move(place_of(record))
        moved[:] = [place]
        if place == before:
            return {}
        place.writes += 1
        return {key: msgspec.msgpack.encode(place), writer.view.served(writer.namespace): served_record(place)}

    writer.store.write([], key, change)
    return moved[0]


def _forget_older(writer: OnlineWriter, place: Place) -> None:
    """Takes the records of generations before the served one away."""
    key = writer.view.place(writer.namespace)
    for generation in range(max(0, place.serving - 2), place.serving):
        old = [found for found, _ in writer.store.scan(writer.view.prefix(writer.namespace, generation))]
        for start in range(0, len(old), _DELETED_AT_ONCE):
            gone: Changes = dict.fromkeys(old[start : start + _DELETED_AT_ONCE])
            writer.store.write([], key, lambda _, __, gone=gone: gone)  # type: ignore[misc]


def entities_online(writer: OnlineWriter) -> int:
    """How many entities the served generation holds."""
    prefix = writer.view.prefix(writer.namespace, writer.place().serving)
    return sum(1 for _ in writer.store.scan(prefix))
