"""Objects, lists and events in the form a client asked for.

The common case, whole objects as JSON in the version they are kept in, sends stored bytes. Everything else decodes,
converts and encodes. A long list is made while it is sent, so that it is never in memory as a whole.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import msgspec
import yaml

from mizzen.local.apiserver.answers import JSON, YAML, Answer, Pieces, Reply
from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.conversion import from_stored
from mizzen.local.apiserver.errors import BadRequest
from mizzen.local.apiserver.http.negotiation import Representation
from mizzen.local.apiserver.request import Query
from mizzen.local.apiserver.schema.table import table
from mizzen.local.apiserver.store import Record
from mizzen.local.apiserver.store.records import encode
from mizzen.local.apiserver.types import Json, ResourceType
from mizzen.local.apiserver.verbs.context import Many, One, Result

_PIECE_BYTES = 256 << 10
_TABLE = "Table"
_INCLUDES = frozenset({"", "Metadata", "None", "Object"})

Clock = Callable[[], datetime]


def whole(served: Served, record: Record) -> bytes:
    """A record as JSON in the served version."""
    return record.encoded if served.direct else encode(from_stored(served, record.object()))


def _item(served: Served, record: Record) -> bytes:
    """A record in a list: there, Kubernetes' own types do not say what they are."""
    body, rtype = whole(served, record), served.rtype
    said = b'"kind":"%b","apiVersion":"%b",' % (rtype.kind.encode(), rtype.api_version.encode())
    return b"{" + body[len(said) + 1 :] if not rtype.custom and body.startswith(said, 1) else body


def metadata_only(obj: Json, version: str) -> Json:
    return {"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": obj.get("metadata") or {}}


def _table(
    rtype: ResourceType, objects: Sequence[Json], metadata: Json, form: Representation, query: Query, now: Clock
) -> Json:
    include = query.get("includeObject")
    if include not in _INCLUDES:
        raise BadRequest(
            f'Unable to convert to Table as requested: includeObject: Invalid value: "{include}": must be '
            "'Metadata', 'Object', 'None', or empty"
        )
    return table(rtype, objects, include or "Metadata", now(), metadata, version=form.version.rpartition("/")[2])


def render(result: Result, form: Representation, query: Query, now: Clock, *, pretty: bool) -> Reply:
    """The answer for a verb's result."""
    if isinstance(result, Many):
        return _render_list(result, form, query, now, pretty=pretty)
    return _render_object(result, form, query, now, pretty=pretty)


def _render_object(one: One, form: Representation, query: Query, now: Clock, *, pretty: bool) -> Answer:
    served, record = one.served, one.record
    if record is not None and served is not None and not form.form and form.media == JSON and not pretty:
        return Answer(whole(served, record), one.status)
    if record is not None and served is not None:
        obj = from_stored(served, record.object())
    else:
        assert one.made is not None
        obj = one.made
    is_status = obj.get("kind") == "Status"
    if form.form == _TABLE and served is not None and not is_status:
        obj = _table(served.rtype, [obj], _list_metadata(obj), form, query, now)
    elif form.form and not is_status:
        obj = metadata_only(obj, form.version)
    return encoded(obj, form, status=one.status, pretty=pretty)


def _list_metadata(obj: Json) -> Json:
    return {"resourceVersion": obj.get("metadata", {}).get("resourceVersion", "")}


def _render_list(many: Many, form: Representation, query: Query, now: Clock, *, pretty: bool) -> Reply:
    served, rtype = many.served, many.served.rtype
    if form.form == _TABLE:
        objects = [from_stored(served, record.object()) for record in many.records]
        return encoded(_table(rtype, objects, many.metadata, form, query, now), form, pretty=pretty)
    kind, version = rtype.list_kind or f"{rtype.kind}List", rtype.api_version
    items: Callable[[Record], bytes] = partial(_item, served)
    if form.form:
        kind, version = "PartialObjectMetadataList", form.version
        items = lambda record: encode(metadata_only(record.object(), form.version))  # noqa: E731
    if form.media == YAML or pretty:
        made = [msgspec.json.decode(items(record)) for record in many.records]
        return encoded(
            {"kind": kind, "apiVersion": version, "metadata": many.metadata, "items": made}, form, pretty=pretty
        )
    head = encode({"kind": kind, "apiVersion": version, "metadata": many.metadata, "items": []})[:-2]
    pieces = _pieces(head, many.records, items)
    if len(many.records) < 32:
        return Answer(b"".join(pieces))
    return Pieces(pieces)


def _pieces(head: bytes, records: Sequence[Record], item: Callable[[Record], bytes]) -> Iterator[bytes]:
    parts, size, separator = [head], len(head), b""
    for record in records:
        body = item(record)
        parts += (separator, body)
        separator = b","
        size += len(body)
        if size > _PIECE_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    parts.append(b"]}")
    yield b"".join(parts)


def encoded(obj: Json, form: Representation, *, status: int = 200, pretty: bool = False) -> Answer:
    """Any object as an answer."""
    if form.media == YAML:
        return Answer(yaml.safe_dump(obj, sort_keys=True).encode(), status, YAML)
    body = encode(obj)
    return Answer(msgspec.json.format(body, indent=2) + b"\n" if pretty else body, status)


# How watches show objects. Equal encoders give equal bytes, so that an event is encoded once for all of them.


@dataclass(frozen=True, slots=True)
class WholeObjects:
    served: Served

    def __call__(self, kind: str, record: Record) -> bytes:
        return b'{"type":"%b","object":%b}\n' % (kind.encode(), whole(self.served, record))

    def made(self, kind: str, obj: Json) -> bytes:
        return encode({"type": kind, "object": obj}) + b"\n"


@dataclass(frozen=True, slots=True)
class MetadataOnly:
    version: str

    def __call__(self, kind: str, record: Record) -> bytes:
        return self.made(kind, record.object())

    def made(self, kind: str, obj: Json) -> bytes:
        return encode({"type": kind, "object": metadata_only(obj, self.version)}) + b"\n"


@dataclass(frozen=True, slots=True)
class TableRows:
    served: Served
    form: Representation
    query: Query = field(compare=False)
    include: str
    now: Clock = field(compare=False)

    def __call__(self, kind: str, record: Record) -> bytes:
        return self.made(kind, from_stored(self.served, record.object()))

    def made(self, kind: str, obj: Json) -> bytes:
        if kind == "BOOKMARK":
            # Kubernetes answers bookmarks of a Table watch with a Table of no rows but the resourceVersion.
            rows: Json = {"kind": "Table", "apiVersion": self.form.version, "columnDefinitions": [], "rows": []}
            return encode({"type": kind, "object": {**rows, "metadata": obj["metadata"]}}) + b"\n"
        made = _table(self.served.rtype, [obj], _list_metadata(obj), self.form, self.query, self.now)
        return encode({"type": kind, "object": made}) + b"\n"


def watch_encoder(
    served: Served, form: Representation, query: Query, now: Clock
) -> WholeObjects | MetadataOnly | TableRows:
    if form.form == _TABLE:
        return TableRows(served, form, query, query.get("includeObject"), now)
    return MetadataOnly(form.version) if form.form else WholeObjects(served)
