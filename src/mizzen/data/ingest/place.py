"""Where a load by parts ended, so that the next one begins there.

The place is kept with the version that the load made, in the same commit: there is no moment at which rows are in the
table and the place does not know of them, or the other way round. A version that is restored brings its place back. A
place is of one source read in one way; when these change, it is forgotten, and the next load reads everything.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mizzen.data.ingest.reading import Since
from mizzen.data.ingest.task import IngestTask
from mizzen.data.lake.errors import SourceMoved
from mizzen.data.lake.version import TableVersion

KEPT_AS = "place"


@dataclass(frozen=True, slots=True)
class Place:
    """The end of a load."""

    source: str
    """Names the source and how it is read."""
    watermark: Mapping[str, str] | None = None
    """The greatest value that was loaded, as text, and its Arrow type."""
    files: Mapping[str, str] | None = None
    """Every file that was loaded, with what tells it from a changed one."""

    def to_json(self) -> dict[str, Any]:
        """What is kept."""
        watermark = None if self.watermark is None else dict(self.watermark)
        files = None if self.files is None else dict(self.files)
        return {"source": self.source, "watermark": watermark, "files": files}

    def since(self, column: str, *, or_equal: bool) -> Since:
        """As a source is asked for what comes after it."""
        if self.watermark is None:
            return Since(column, None, or_equal)
        value = pa.array([self.watermark["value"]]).cast(_type_named(self.watermark["type"]))[0].as_py()
        return Since(column, value, or_equal)


def source_digest(task: IngestTask) -> str:
    """Names what is read and how; the rest of the spec may change without a new beginning."""
    said = {"source": task.source.to_wire(), "load": task.load.to_wire(), "eventTime": task.event_time}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def is_by_parts(task: IngestTask) -> bool:
    """Whether a load reads only what is new."""
    return task.load.new_files or task.load.watermark is not None


def place_of(base: TableVersion | None, task: IngestTask) -> Place | None:
    """Where the load begins; `None` where it reads everything."""
    if base is None or task.full or not is_by_parts(task):
        return None
    kept = base.attachment.get(KEPT_AS)
    if kept is None or kept["source"] != source_digest(task):
        return None
    return Place(kept["source"], kept["watermark"], kept["files"])


def expect_unmoved(base: TableVersion | None, place: Place | None) -> None:
    """Raises `SourceMoved` where the table's place is no longer the one that a load began at: its rows may be there."""
    kept = base.attachment.get(KEPT_AS) if base is not None else None
    if place is not None and kept != place.to_json():
        raise SourceMoved("another load of this dataset ended first, and may have brought the same rows: load again")


def watermark_of(greatest: pa.Scalar | None, before: Place | None) -> Mapping[str, str] | None:
    """The mark after a load whose greatest value is this one; without one, that of before stays."""
    if greatest is None or not greatest.is_valid:
        return before.watermark if before is not None else None
    text = pa.array([greatest.as_py()], greatest.type).cast(pa.string())[0].as_py()
    return {"value": text, "type": str(greatest.type)}


def _type_named(name: str) -> pa.DataType:
    known = {str(type_): type_ for type_ in (
        pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.date32(),
        pa.timestamp("us"), pa.timestamp("us", "UTC"),
    )}  # fmt: skip
    if name.startswith("decimal128("):
        precision, scale = (int(part) for part in name.removeprefix("decimal128(").rstrip(")").split(","))
        return pa.decimal128(precision, scale)
    return known[name]
