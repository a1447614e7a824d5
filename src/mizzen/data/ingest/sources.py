"""A task's source, opened: files, SQL or Python, from the place where the last load ended."""

from pathlib import Path

from mizzen.data.ingest.files_source import read_files
from mizzen.data.ingest.place import Place
from mizzen.data.ingest.push_source import read_push
from mizzen.data.ingest.python_source import read_python
from mizzen.data.ingest.reading import Reading
from mizzen.data.ingest.sql_source import read_sql
from mizzen.data.ingest.task import IngestTask
from mizzen.data.lake.code import unpack
from mizzen.data.lake.errors import CodeError, DigestMismatch, ObjectMissing
from mizzen.data.lake.objects import Store
from mizzen.data.lake.version import TableVersion
from mizzen.data.pod import Failure


def open_source(task: IngestTask, store: Store, base: TableVersion | None, place: Place | None, work: Path) -> Reading:
    """The source's rows, to be read once. Raises `Failure`."""
    source, load = task.source, task.load
    if source.push is not None:
        return read_push(task, store, base)
    start = place if place is not None else Place("")
    since = start.since(load.watermark, or_equal=load.mode == "upsert") if load.watermark is not None else None
    if source.sql is not None:
        return read_sql(source.sql, task.inputs, task.namespace, store, work, since)
    folder = _code(task, store, work)
    if source.files is not None:
        return read_files(source.files, folder, work, (start.files or {}) if load.new_files else None)
    if folder is None or source.python is None:
        raise Failure(
            "CodeMissing", "spec.code: expected the digest of a code bundle with the source's function, found none"
        )
    return read_python(folder, source.python, since)


def _code(task: IngestTask, store: Store, work: Path) -> Path | None:
    if task.code is None:
        return None
    try:
        return unpack(store, task.code, work / "code")
    except (CodeError, DigestMismatch, ObjectMissing, ValueError) as error:
        raise Failure("CodeMissing", str(error)) from error
