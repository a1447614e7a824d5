"""A task's source, opened: files, SQL or Python, from the place where the last load ended."""

from pathlib import Path

from mizzen.data.ingest.files_source import read_files
from mizzen.data.ingest.place import Place
from mizzen.data.ingest.push_source import read_push
from mizzen.data.ingest.python_source import read_python
from mizzen.data.ingest.reading import Reading, Since
from mizzen.data.ingest.sql_source import read_sql
from mizzen.data.ingest.task import IngestTask
from mizzen.data.lake.code import unpack
from mizzen.data.lake.errors import CodeError, DigestMismatch, ObjectMissing
from mizzen.data.lake.objects import Store
from mizzen.data.lake.version import TableVersion
from mizzen.data.pod import Failure


def open_source(task: IngestTask, store: Store, base: TableVersion | None, place: Place | None, work: Path) -> Reading:
    """The source's rows, to be read once. Raises `Failure`."""
    source = task.source
    if source.push is not None:
        return read_push(task, store, base)
    if source.batch_prediction is not None:
        message = f"its rows come from the runs of batchprediction/{source.batch_prediction}: ask that for a run"
        raise Failure("NotLoadable", message)
    since = since_of(task, place)
    if source.sql is not None:
        return read_sql(source.sql, task.inputs, task.namespace, store, work, since)
    folder = _code(task, store, work)
    if source.files is not None:
        loaded = place.files if place is not None else None
        return read_files(source.files, folder, work, (loaded or {}) if task.load.new_files else None)
    if folder is None or source.python is None:
        raise Failure(
            "CodeMissing", "spec.code: expected the digest of a code bundle with the source's function, found none"
        )
    return read_python(folder, source.python, since)


def since_of(task: IngestTask, place: Place | None) -> Since | None:
    """Above what the rows are wanted; `None` where the load has no watermark."""
    column = task.load.watermark
    if column is None:
        return None
    return (place if place is not None else Place("")).since(column, or_equal=task.load.mode == "upsert")


def _code(task: IngestTask, store: Store, work: Path) -> Path | None:
    if task.code is None:
        return None
    try:
        return unpack(store, task.code, work / "code")
    except (CodeError, DigestMismatch, ObjectMissing, ValueError) as error:
        raise Failure("CodeMissing", str(error)) from error
