"""What a feature server is asked and answers: three forms of the same.

    JSON     {"entities": {"card": ["a", "b"]}, "features": ["spent"]}
             {"features": {"spent": [12.0, null]}, "status": {"spending": ["present", "missing"]},
              "event_times": {"spending": ["2026-01-01T00:00:10Z", null]}, "versions": {"spending": "0123456789ab"}}
    Arrow    a stream with a column for each key; a stream with a column for each feature, and `VIEW:status`
             (to JSON too, where it says `"format": "arrow"`)
    Feast    `/get-online-features` as Feast's own server has it

A feature that is null, or of an entity that nobody has seen, is null in all of them; NaN is null in JSON.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.types as pt

from mizzen.data.features.online.layout import HEAD
from mizzen.serving import arrow
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Headers
from mizzen.serving.gateway.features.lookup import Looked, Read

ARROW_TYPE = "application/vnd.apache.arrow.stream"
ARROW_BEGINS = b"\xff\xff\xff\xff"
"""Of a stream's first message, and of no JSON."""
JSON: Headers = [("content-type", "application/json")]
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NO_TIME = "1970-01-01T00:00:00Z"
"""What Feast has where there is no time."""
_FEAST = {"present": "PRESENT", "missing": "NOT_FOUND", "stale": "OUTSIDE_MAX_AGE", "unavailable": "NOT_FOUND"}
_encode = msgspec.json.Encoder().encode


class Asked(msgspec.Struct):
    """A request in our own JSON."""

    entities: dict[str, list[Any]]
    """The columns of the request: keys, and what features of the request are made of."""
    features: list[str] = []
    """Which; by default all."""
    format: Literal["json", "arrow"] = "json"
    """Of the answer."""


class FeastAsked(msgspec.Struct):
    """A request in Feast's."""

    entities: dict[str, list[Any]]
    features: list[str] = []
    """`view:feature`."""
    feature_service: str | None = None
    full_feature_names: bool = False


_decode = msgspec.json.Decoder(Asked).decode
_decode_feast = msgspec.json.Decoder(FeastAsked).decode


def decoded(body: bytes) -> Asked:
    """What is asked: an Arrow stream is known by its first bytes, whatever a header says. Raises `HttpError`."""
    if body.startswith(ARROW_BEGINS):
        try:
            table = arrow.read(body)
        except pa.ArrowInvalid as error:
            raise HttpError(400, f"body: expected an Arrow IPC stream: {error}", "bad_request") from error
        return Asked(table.to_pydict(), format="arrow")
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HttpError(400, f"body: {error}", "bad_request") from error


def decoded_feast(body: bytes) -> FeastAsked:
    """The same of Feast's form."""
    try:
        return _decode_feast(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HttpError(400, f"body: {error}", "bad_request") from error


class Vectors:
    """The features of one view for the rows of a request."""

    def __init__(self, looked: Looked, read: Read, made: Mapping[str, pa.Array], wanted: Sequence[str]) -> None:
        self._looked, self._read, self._made = looked, read, made
        self.view, self.status = looked.used.use.view, read.status
        self.version = looked.digest.removeprefix("sha256:")[:12]
        self.names = [name for name in (*looked.used.names, *made) if not wanted or name in wanted]
        self.prefix = looked.used.use.prefix

    def columns(self) -> dict[str, list[Any]]:
        """Values by feature, for JSON."""
        stored = self._looked.vectors(self._read).to_pydict()
        for values in stored.values() if self._read.nulls else ():
            for row in self._read.nulls:
                values[row] = None
        types = {slot.name: slot.type for slot in self._looked.reader.view.layout.slots}
        made = self._made
        return {
            name: made[name].to_pylist() if name in made else _in_json(stored[name], types[name]) for name in self.names
        }

    def table(self) -> pa.Table:
        """The same as a table."""
        table = self._looked.table(self._read)
        made = self._made
        return pa.table({name: made[name] if name in made else table.column(name) for name in self.names})

    def event_times(self) -> list[str | None]:
        """Of the newest row of each entity."""
        newest = [HEAD.unpack_from(record)[0] for record in self._read.records]
        return [_text(event_us) if event_us > 0 else None for event_us in newest]


def encoded(vectors: Sequence[Vectors], asked: Asked) -> tuple[Headers, bytes]:
    """The answer, in the form that is wanted."""
    if asked.format == "arrow":
        columns: dict[str, Any] = {}
        for one in vectors:
            table = one.table()
            columns |= {one.prefix + name: table.column(name) for name in table.column_names}
            columns[f"{one.prefix}{one.view}:status"] = pa.array(one.status)
        return [("content-type", ARROW_TYPE)], arrow.written(pa.table(columns))
    body = {
        "features": {one.prefix + name: values for one in vectors for name, values in one.columns().items()},
        "status": {one.prefix + one.view: one.status for one in vectors},
        "event_times": {one.prefix + one.view: one.event_times() for one in vectors},
        "versions": {one.view: one.version for one in vectors},
    }
    return JSON, _encode(body)


def encoded_feast(asked: FeastAsked, vectors: Sequence[Vectors]) -> tuple[Headers, bytes]:
    """The answer as Feast gives it: keys first, then the features in the order in which they were asked for."""
    rows = len(next(iter(asked.entities.values()), []))
    names, known, epoch = list(asked.entities), ["PRESENT"] * rows, [_NO_TIME] * rows
    results = [{"values": v, "statuses": known, "event_timestamps": epoch} for v in asked.entities.values()]
    found = {(one.view, name): (one, values) for one in vectors for name, values in one.columns().items()}
    wanted = [tuple(name.split(":", 1)) for name in asked.features] or list(found)
    for view, feature in wanted:
        if (view, feature) not in found:
            raise HttpError(400, f"features: there is no {view}:{feature}", "bad_request")
        one, values = found[view, feature]
        names.append(f"{view}__{feature}" if asked.full_feature_names else feature)
        statuses = [
            "NULL_VALUE" if value is None and status == "present" else _FEAST[status]
            for value, status in zip(values, one.status, strict=True)
        ]
        times = [time or _NO_TIME for time in one.event_times()]
        results.append({"values": values, "statuses": statuses, "event_timestamps": times})
    return JSON, _encode({"metadata": {"feature_names": names}, "results": results})


def _in_json(values: list[Any], type_: pa.DataType) -> list[Any]:
    """Stored values as JSON has them: times and dates as text, also in lists."""
    if pt.is_list(type_) and pt.is_temporal(type_.value_type):
        return [None if value is None else _in_json(value, type_.value_type) for value in values]
    if pt.is_timestamp(type_):
        return [None if value is None else _text(value) for value in values]
    if pt.is_date32(type_):
        return [None if value is None else (_EPOCH + dt.timedelta(days=value)).date().isoformat() for value in values]
    return values


def _text(time_us: int) -> str:
    """RFC 3339."""
    return (_EPOCH + dt.timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")
