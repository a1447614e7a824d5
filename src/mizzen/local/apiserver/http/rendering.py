"""Objects, lists and events in the form a client asked for.

The common case, whole objects as JSON in the version they are kept in, sends stored bytes. Everything else decodes,
converts and encodes. A long list is made while it is sent, so that it is never in memory as a whole.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import msgspec
import yaml

from mizzen.local.apiserver.answers import JSON, YAML, Answer, Pieces, Reply
from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.conversion import read, read_bytes
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


def _item(served: Served, record: Record) -> bytes:
    """A record in a list: there, Kubernetes' own types do not say what they are."""
    body, rtype = read_bytes(served, record), served.rtype
    said = b'"kind":"%b","apiVersion":"%b",' % (rtype.kind.encode(), rtype.api_version.encode())
    return b"{" + body[len(said) + 1 :] if not rtype.custom and body.startswith(said, 1) else body


def metadata_only(obj: Json, version: str) -> Json:
    return {"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": obj.get("metadata") or {}}


def _table(
    rtype: ResourceType,
    objects: Sequence[Json],
    metadata: Json,
    form: Representation,
    query: Query,
    now: Clock,
    *,
    headers: bool = True,
) -> Json:
    include = query.get("includeObject")
    if include not in _INCLUDES:
        raise BadRequest(
            f'Unable to convert to Table as requested: includeObject: Invalid value: "{include}": must be '
            "'Metadata', 'Object', 'None', or empty"
        )
    version = form.version.rpartition("/")[2]
    return table(rtype, objects, include or "Metadata", now(), metadata, headers=headers, version=version)


def render(result: Result, form: Representation, query: Query, now: Clock, *, pretty: bool) -> Reply:
    """The answer for a verb's result."""
    if isinstance(result, Many):
        return _render_list(result, form, query, now, pretty=pretty)
    return _render_object(result, form, query, now, pretty=pretty)


def _render_object(one: One, form: Representation, query: Query, now: Clock, *, pretty: bool) -> Answer:
    served, record = one.served, one.record
    if record is not None and served is not None and not form.form and form.media == JSON and not pretty:
        return Answer(read_bytes(served, record), one.status)
    if record is not None and served is not None:
        obj = read(served, record)
    else:
        assert one.made is not None
        obj = one.made
    is_status = obj.get("kind") == "Status"
    if form.form == _TABLE and served is not None and not is_status:
        obj = _table(served.rtype, [obj], _list_metadata(obj), form, query, now)
    elif form.form and not is_status:
        obj = metadata_only(obj, form.version)
    return encoded(encode(obj), form, status=one.status, pretty=pretty)


def _list_metadata(obj: Json) -> Json:
    return {"resourceVersion": obj.get("metadata", {}).get("resourceVersion", "")}


def _render_list(many: Many, form: Representation, query: Query, now: Clock, *, pretty: bool) -> Reply:
    served, rtype = many.served, many.served.rtype
    if form.form == _TABLE:
        objects = [read(served, record) for record in many.records]
        return encoded(encode(_table(rtype, objects, many.metadata, form, query, now)), form, pretty=pretty)
    kind, version = rtype.list_kind or f"{rtype.kind}List", rtype.api_version
    items: Callable[[Record], bytes] = partial(_item, served)
    if form.form:
        kind, version = "PartialObjectMetadataList", form.version
        items = lambda record: encode(metadata_only(record.object(), form.version))  # noqa: E731
    head = encode({"kind": kind, "apiVersion": version, "metadata": many.metadata, "items": []})[:-2]
    pieces = _pieces(head, many.records, items)
    if form.media == YAML or pretty:
        return encoded(b"".join(pieces), form, pretty=pretty)
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


def encoded(body: bytes, form: Representation, *, status: int = 200, pretty: bool = False) -> Answer:
    """Any object, given as JSON, as an answer."""
    if form.media == YAML:
        return Answer(yaml.safe_dump(msgspec.json.decode(body), sort_keys=True).encode(), status, YAML)
    return Answer(msgspec.json.format(body, indent=2) + b"\n" if pretty else body, status)


# How watches show objects. Encoders with the same key give the same bytes, so that an event is encoded once for all.


@dataclass(frozen=True, slots=True)
class WholeObjects:
    served: Served
    key: str

    def __call__(self, kind: str, record: Record) -> bytes:
        return b'{"type":"%b","object":%b}\n' % (kind.encode(), read_bytes(self.served, record))

    def made(self, kind: str, obj: Json) -> bytes:
        return encode({"type": kind, "object": obj}) + b"\n"

    @property
    def following(self) -> "WholeObjects":
        return self


@dataclass(frozen=True, slots=True)
class MetadataOnly:
    served: Served
    version: str
    key: str

    def __call__(self, kind: str, record: Record) -> bytes:
        return self.made(kind, read(self.served, record))

    def made(self, kind: str, obj: Json) -> bytes:
        return encode({"type": kind, "object": metadata_only(obj, self.version)}) + b"\n"

    @property
    def following(self) -> "MetadataOnly":
        return self


@dataclass(frozen=True, slots=True)
class TableRows:
    """Each event is a Table of one row; only the first that a client gets names the columns."""

    served: Served
    form: Representation
    query: Query
    now: Clock
    key: str
    headers: bool = True

    def __call__(self, kind: str, record: Record) -> bytes:
        return self.made(kind, read(self.served, record))

    def made(self, kind: str, obj: Json) -> bytes:
        metadata = _list_metadata(obj)
        if kind != "BOOKMARK":
            made = _table(self.served.rtype, [obj], metadata, self.form, self.query, self.now, headers=self.headers)
            return encode({"type": kind, "object": made}) + b"\n"
        row = {"cells": [], "object": metadata_only(obj, self.form.version)}
        made = {"kind": "Table", "apiVersion": self.form.version, "metadata": metadata, "columnDefinitions": None}
        return encode({"type": kind, "object": {**made, "rows": [row]}}) + b"\n"

    @property
    def following(self) -> "TableRows":
        return replace(self, headers=False, key=f"{self.key} following")


def watch_encoder(
    served: Served, form: Representation, query: Query, now: Clock
) -> WholeObjects | MetadataOnly | TableRows:
    key = f"{served.rtype.api_version}/{served.rtype.plural} {form.form} {form.version} {query.get('includeObject')}"
    if form.form == _TABLE:
        return TableRows(served, form, query, now, key)
    return MetadataOnly(served, form.version, key) if form.form else WholeObjects(served, key)
