"""Records to columns, typed by the model's signature.

The table has one row for each row of a request. Its columns, those of the record first:

    time, date (UTC)                     when the request came; the table is partitioned by date
    request_id, row                      the client's id or the gateway's; the row's place in the request
    part                                 of an answer in parts: which one; the inputs are with the first
    namespace, endpoint, model, version, digest, assignment, tenant, unit, trace_id
    status, outcome, error               as in the metrics; `ok` where it was answered
    queue_s, compute_s, total_s, batch_rows
    input_…, output_…, feature_…         one for each tensor, or for each named column of a matrix

An input of shape (n,) or (n, 1) is a scalar; (n, k) with named columns is k scalars; else a row is a list, nested as
the shape is. Types are those that every reader of Delta knows: unsigned integers become the next wider signed one
(UINT64 a decimal), half floats are floats, BYTES are text, with bytes that are not UTF-8 as `\\xNN`.

A column's name has the characters that Delta allows; others become `_`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa

from mizzen.serving.predictionlog.record import Chunk, Record, Stream, redactions
from mizzen.serving.tensors import TensorSpec, element_count, unpack_strings

_NUMBERS: dict[str, tuple[str, pa.DataType]] = {
    "BOOL": ("?", pa.bool_()),
    "UINT8": ("u1", pa.int16()), "UINT16": ("<u2", pa.int32()), "UINT32": ("<u4", pa.int64()),
    "UINT64": ("<u8", pa.decimal128(20, 0)),
    "INT8": ("i1", pa.int8()), "INT16": ("<i2", pa.int16()), "INT32": ("<i4", pa.int32()), "INT64": ("<i8", pa.int64()),
    "FP16": ("<f2", pa.float32()), "BF16": ("<u2", pa.float32()), "FP32": ("<f4", pa.float32()),
    "FP64": ("<f8", pa.float64()),
}  # fmt: skip
_UNFIT = re.compile(r"[^A-Za-z0-9_.:-]+")
_TIME = pa.timestamp("us", tz="UTC")


def to_table(streams: dict[str, Stream], chunks: Iterable[Chunk]) -> pa.Table:
    """All records as one table; columns that only some streams have are null for the others.

    Raises `ValueError` where a chunk's bytes are not what its stream says.
    """
    alike: dict[tuple[str, bool, bool, bool], list[Chunk]] = {}
    for chunk in chunks:
        parts = bool(chunk.inputs), bool(chunk.outputs), bool(chunk.features)
        alike.setdefault((chunk.stream, *parts), []).append(chunk)
    tables = [_alike(streams[name], group) for (name, *_), group in alike.items()]
    return unified(tables)


def unified(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of all tables; where types of a column differ, the later gets a name of its own (`fitted`)."""
    schema = tables[0].schema
    fitting = []
    for table in tables:
        fit = fitted(table, schema)
        schema = pa.unify_schemas([schema, fit.schema])
        fitting.append(fit)
    return pa.concat_tables(fitting, promote_options="default").select(schema.names)


def fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with columns that go with a schema: where a type is another, the column is cast if no value can
    change by that, and else named after its type, so that no version's values are ever read as another's.
    """
    names, arrays = [], []
    for name, column in zip(table.column_names, table.columns, strict=True):
        known = schema.field(name).type if name in schema.names else None
        if known is None or known == column.type:
            names.append(name)
            arrays.append(column)
        elif _widens(column.type, known):
            names.append(name)
            arrays.append(column.cast(known))
        else:
            names.append(f"{name}_{_UNFIT.sub('_', str(column.type)).strip('_')}")
            arrays.append(column)
    return pa.table(arrays, names=names)


def _widens(found: pa.DataType, known: pa.DataType) -> bool:
    """Whether every value of `found` is one of `known` too."""
    if pa.types.is_integer(found) and pa.types.is_integer(known):
        return bool(known.bit_width > found.bit_width)
    if pa.types.is_integer(found) and pa.types.is_floating(known):
        return bool(found.bit_width < {32: 24, 64: 53}.get(known.bit_width, 0))
    return bool(pa.types.is_float32(found) and pa.types.is_float64(known))


def _alike(stream: Stream, chunks: Sequence[Chunk]) -> pa.Table:
    """Chunks of one stream that all have inputs, or none; and outputs, or none."""
    records = [record for chunk in chunks for record in chunk.records]
    rows = np.array([record.rows for record in records], np.int64)
    total = int(rows.sum())
    of_record = np.repeat(np.arange(len(records)), rows)
    columns = _facts(stream, chunks, records, rows, of_record)
    for prefix, specs, part, shapes in (
        ("input", stream.inputs, attrgetter("inputs"), attrgetter("input_shapes")),
        ("output", stream.outputs, attrgetter("outputs"), attrgetter("output_shapes")),
        ("feature", stream.features, attrgetter("features"), attrgetter("feature_shapes")),
    ):
        if specs and part(chunks[0]):
            columns |= _tensors(prefix, stream, specs, _Data(chunks, part, shapes, total))
    return pa.table(columns)


def _facts(
    stream: Stream, chunks: Sequence[Chunk], records: Sequence[Record], rows: np.ndarray, of_record: np.ndarray
) -> dict[str, pa.Array]:
    """The columns that do not depend on the signature."""
    epochs = np.repeat([chunk.epoch_s for chunk in chunks], [len(chunk.records) for chunk in chunks])
    starts = np.cumsum(rows) - rows

    def spread(values: pa.Array) -> pa.Array:
        return values if len(of_record) == len(records) else values.take(pa.array(of_record))

    def values(name: str) -> list[Any]:
        return list(map(attrgetter(name), records))

    def fact(name: str, type_: pa.DataType) -> pa.Array:
        return spread(pa.array(values(name), type_))

    times = pa.array(np.round((epochs + values("came_s")) * 1e6).astype(np.int64)).cast(_TIME)

    def same(value: Any, type_: pa.DataType) -> pa.Array:
        return pa.repeat(pa.scalar(value, type_), len(of_record))

    digest = stream.digest or None
    text, number = pa.string(), pa.float64()
    return {
        "time": spread(times),
        "date": spread(times.cast(pa.timestamp("us")).cast(pa.date32())),
        "request_id": fact("id", text),
        "row": pa.array((np.arange(len(of_record)) - starts[of_record]).astype(np.int32)),
        "part": fact("part", pa.int32()),
        "namespace": same(stream.namespace, text),
        "endpoint": same(stream.endpoint, text),
        "model": same(stream.model or None, text),
        "version": same(stream.version if digest is not None else None, pa.int64()),
        "digest": same(digest, text),
        "assignment": fact("assignment", text),
        "tenant": fact("tenant", text),
        "unit": fact("unit", text),
        "trace_id": fact("trace", text),
        "status": fact("status", pa.int32()),
        "outcome": fact("outcome", text),
        "error": fact("error", text),
        "queue_s": fact("queue_s", number),
        "compute_s": fact("compute_s", number),
        "total_s": fact("total_s", number),
        "batch_rows": fact("batch_rows", pa.int64()),
    }


class _Data:
    """The bytes of tensors over several chunks, and the shape of each record's."""

    def __init__(
        self,
        chunks: Sequence[Chunk],
        part: Callable[[Chunk], list[bytes]],
        shapes: Callable[[Chunk], list[list[tuple[int, ...]]] | None],
        total: int,
    ) -> None:
        self._chunks, self._part, self._shapes = chunks, part, shapes
        self.total = total

    def bytes_of(self, index: int) -> bytes:
        return b"".join([self._part(chunk)[index] for chunk in self._chunks])

    def shapes_of(self, index: int, tail: tuple[int, ...], *, batchable: bool) -> list[tuple[int, ...]]:
        """Of each record, rows first; of all together where they differ in rows alone. Where rows do not go together a
        request is one row, which is all of it.
        """
        if all(self._shapes(chunk) is None for chunk in self._chunks):
            return [(self.total, *tail)]
        found: list[tuple[int, ...]] = []
        for chunk in self._chunks:
            told = self._shapes(chunk)
            assert told is not None, "chunks of one stream are alike"
            found += [tuple(of[index]) if batchable else (1, *of[index]) for of in told]
        return found


def _tensors(prefix: str, stream: Stream, specs: Sequence[TensorSpec], data: _Data) -> dict[str, pa.Array]:
    names = {"input": stream.columns, "feature": stream.feature_columns}.get(prefix, ())
    hidden = redactions(specs, names, stream.redact)
    columns: dict[str, pa.Array] = {}
    batchable = stream.signature.batchable
    for index, spec in enumerate(specs):
        tail = spec.shape[1:] if batchable else spec.shape
        shapes = data.shapes_of(index, tail, batchable=batchable)
        secret = hidden.get(index)
        values = None if secret == [] else _flat(spec, data.bytes_of(index), shapes)
        if len(specs) == 1 and len(tail) == 1 and len(names) == tail[0]:
            for at, name in enumerate(names):
                shown = values[at :: tail[0]] if values is not None and at not in (secret or ()) else None
                columns[_free(columns, prefix, name)] = _scalars(spec, shown, data.total)
            continue
        scalar = tail in {(), (1,)}
        name = _free(columns, prefix, spec.name)
        if values is None:
            columns[name] = pa.nulls(data.total, _type(spec, 0 if scalar else len(tail)))
        elif scalar:
            columns[name] = _scalars(spec, values, data.total)
        else:
            columns[name] = _lists(_scalars(spec, values, len(values)), shapes)
    return columns


def _flat(spec: TensorSpec, data: bytes, shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
    """All elements in a row. Raises `ValueError` where they are not as many as the shapes say."""
    count = sum(element_count(shape) for shape in shapes)
    if spec.datatype == "BYTES":
        texts = [value.decode("utf-8", "backslashreplace") for value in unpack_strings(data)]
        values = np.array(texts, object)
    elif spec.datatype == "BF16":
        values = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    else:
        values = np.frombuffer(data, _NUMBERS[spec.datatype][0])
    if len(values) != count:
        raise ValueError(f"{spec.name}: expected {count} elements of {spec.datatype}, found {len(values)}")
    return values


def _scalars(spec: TensorSpec, values: np.ndarray | None, total: int) -> pa.Array:
    type_ = _type(spec, 0)
    if values is None:
        return pa.nulls(total, type_)
    if spec.datatype == "FP16":
        values = values.astype("<f4")
    if pa.types.is_decimal(type_):
        return pa.array(values.astype("<u8")).cast(type_)
    return pa.array(values, pa.string()) if pa.types.is_string(type_) else pa.array(values).cast(type_)


def _type(spec: TensorSpec, depth: int) -> pa.DataType:
    found = _NUMBERS[spec.datatype][1] if spec.datatype in _NUMBERS else pa.string()
    for _ in range(depth):
        found = pa.list_(found)
    return found


def _lists(values: pa.Array, shapes: Sequence[tuple[int, ...]]) -> pa.Array:
    """Nested lists: each record's shape without its rows, around its elements."""
    for level in range(len(shapes[0]) - 1, 0, -1):
        counts = [element_count(shape[:level]) for shape in shapes]
        lengths = np.repeat([shape[level] for shape in shapes], counts)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        values = pa.ListArray.from_arrays(pa.array(offsets), values)
    return values


def _free(taken: dict[str, pa.Array], prefix: str, name: str) -> str:
    """A column name that is not taken yet; columns that differ in case alone are the same to some readers."""
    wanted = found = f"{prefix}_{_UNFIT.sub('_', name)}"
    number = 2
    lower = {known.lower() for known in taken}
    while found.lower() in lower:
        found, number = f"{wanted}_{number}", number + 1
    return found
