"""What the rows of a version look like: counts, nulls, distinct values, quantiles, most frequent values.

A profile is made in one pass, in memory that does not grow with the rows, from sketches (Apache DataSketches): HLL for
distinct values (relative error about 1.6 % at 95 %), KLL for quantiles (rank error about 1.3 %), and a frequent-items
sketch for the top. Sketches merge, so the profile of a version that was appended to is that of the version before and
that of the new rows put together, and a monitor can put together those of many loads; they are kept in the profile in
their standard binary form, in base64.

Quantiles and extremes of times are in seconds since 1970, of days in days since 1970. NaN and infinities are counted
and are in no quantile. Of a column of personal data only counts are kept, no value.
"""

import base64
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import datasketches as ds
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
TOP = 10
_HLL_LOG2_SLOTS, _KLL_K, _FREQUENT_LOG2_SIZE = 12, 200, 11
_TEXT_MAX = 120
"""Of a value shown among the most frequent."""


@dataclass(slots=True)
class ColumnProfile:
    """One column, so far."""

    type: str
    personal: bool = False
    rows: int = 0
    nulls: int = 0
    not_finite: int = 0
    """NaN and infinities."""
    minimum: float = math.inf
    maximum: float = -math.inf
    total: float = 0.0
    """Of the finite values."""
    distinct: Any = field(default_factory=lambda: ds.hll_sketch(_HLL_LOG2_SLOTS))
    quantiles: Any = field(default_factory=lambda: ds.kll_doubles_sketch(_KLL_K))
    frequent: Any = field(default_factory=lambda: ds.frequent_strings_sketch(_FREQUENT_LOG2_SIZE))

    def update(self, column: pa.ChunkedArray) -> None:
        """Takes further values in."""
        self.rows += len(column)
        self.nulls += column.null_count
        if pt.is_nested(column.type):
            return
        counted = column.drop_null().value_counts()
        values, counts = counted.field("values"), counted.field("counts").to_numpy()
        self._count(values, counts)
        if _is_number(column.type) and not self.personal:
            self._measure(_numbers(column.drop_null()))

    def _count(self, values: pa.Array, counts: Any) -> None:
        texts = _texts(values)
        for text in texts:
            self.distinct.update(text)
        if self.personal or pt.is_floating(values.type):
            return
        many = len(texts) > (1 << _FREQUENT_LOG2_SIZE)  # values seen once among so many are not the frequent ones
        for text, count in zip(texts, counts.tolist(), strict=True):
            if count > 1 or not many:
                self.frequent.update(text[:_TEXT_MAX], count)

    def _measure(self, numbers: Any) -> None:
        finite = numbers[np.isfinite(numbers)]
        self.not_finite += len(numbers) - len(finite)
        if len(finite):
            self.minimum = min(self.minimum, float(finite.min()))
            self.maximum = max(self.maximum, float(finite.max()))
            self.total += float(finite.sum())
            self.quantiles.update(finite)

    def merge(self, other: Self) -> None:
        """Takes another's values in."""
        self.rows += other.rows
        self.nulls += other.nulls
        self.not_finite += other.not_finite
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        self.total += other.total
        union = ds.hll_union(_HLL_LOG2_SLOTS)
        union.update(self.distinct)
        union.update(other.distinct)
        self.distinct = union.get_result()
        self.quantiles.merge(other.quantiles)
        self.frequent.merge(other.frequent)

    def to_json(self) -> dict[str, Any]:
        """What is kept and shown."""
        shown: dict[str, Any] = {"type": self.type, "rows": self.rows, "nulls": self.nulls}
        shown["distinct"] = round(self.distinct.get_estimate()) if self.rows > self.nulls else 0
        sketches = {"hll": _text(self.distinct.serialize_compact())}
        if self.personal:
            shown["personal"] = True
        if self.quantiles.n:
            shown["notFinite"] = self.not_finite
            shown["min"], shown["max"], shown["mean"] = self.minimum, self.maximum, self.total / self.quantiles.n
            found = self.quantiles.get_quantiles([*QUANTILES])
            shown["quantiles"] = {f"{rank:g}": value for rank, value in zip(QUANTILES, found, strict=True)}
            sketches["kll"] = _text(self.quantiles.serialize())
        elif self.not_finite:
            shown["notFinite"] = self.not_finite
        items = self.frequent.get_frequent_items(ds.frequent_items_error_type.NO_FALSE_POSITIVES)
        if items:
            shown["top"] = [{"value": item[0], "count": item[1]} for item in items[:TOP]]
            sketches["frequent"] = _text(self.frequent.serialize())
        shown["sketches"] = {**sketches, "total": self.total}
        return shown

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """What `to_json` kept."""
        sketches = kept["sketches"]
        profile = cls(kept["type"], kept.get("personal", False), kept["rows"], kept["nulls"], kept.get("notFinite", 0))
        profile.minimum, profile.maximum = kept.get("min", math.inf), kept.get("max", -math.inf)
        profile.total = sketches["total"]
        profile.distinct = ds.hll_sketch.deserialize(_bytes(sketches["hll"]))
        if "kll" in sketches:
            profile.quantiles = ds.kll_doubles_sketch.deserialize(_bytes(sketches["kll"]))
        if "frequent" in sketches:
            profile.frequent = ds.frequent_strings_sketch.deserialize(_bytes(sketches["frequent"]))
        return profile


@dataclass(slots=True)
class Profile:
    """All columns of a version."""

    columns: dict[str, ColumnProfile]
    rows: int = 0
    approximate: bool = False
    """Whether rows that an upsert replaced are still counted in distributions, since a pass over all was too dear."""

    @classmethod
    def of(cls, tables: Iterable[pa.Table | pa.RecordBatch], schema: pa.Schema, personal: frozenset[str]) -> Self:
        """The profile of rows that have the schema's columns."""
        profile = cls({field.name: ColumnProfile(str(field.type), field.name in personal) for field in schema})
        for table in tables:
            profile.rows += table.num_rows
            for name, column in profile.columns.items():
                values = table.column(name)
                column.update(values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values]))
        return profile

    def merged_with(self, before: Self | None) -> Self:
        """This one and that of the rows before; columns that came later are null in these."""
        if before is None:
            return self
        for name, column in self.columns.items():
            earlier = before.columns.get(name)
            if earlier is not None and earlier.type == column.type:
                column.merge(earlier)
            else:
                column.rows += before.rows
                column.nulls += before.rows
        self.rows += before.rows
        return self

    def to_json(self) -> dict[str, Any]:
        """What is kept with a version and shown by `mizzen data profile`."""
        shown: dict[str, Any] = {"rows": self.rows}
        if self.approximate:
            shown["approximate"] = True
        return {**shown, "columns": {name: column.to_json() for name, column in self.columns.items()}}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any] | None) -> Self | None:
        """What `to_json` kept; `None` where nothing was."""
        if kept is None:
            return None
        columns = {name: ColumnProfile.from_json(column) for name, column in kept["columns"].items()}
        return cls(columns, kept["rows"], kept.get("approximate", False))


def without_sketches(kept: Mapping[str, Any]) -> dict[str, Any]:
    """A profile as people read it."""
    columns = {
        name: {key: value for key, value in column.items() if key != "sketches"}
        for name, column in kept["columns"].items()
    }
    return {**kept, "columns": columns}


def _is_number(type_: pa.DataType) -> bool:
    return bool(
        pt.is_integer(type_) or pt.is_floating(type_) or pt.is_decimal(type_) or pt.is_timestamp(type_)
        or pt.is_date(type_)
    )  # fmt: skip


def _numbers(column: pa.ChunkedArray) -> Any:
    if pt.is_timestamp(column.type):
        return column.cast(pa.int64()).to_numpy() / 1e6
    if pt.is_date(column.type):
        return column.cast(pa.int32()).to_numpy().astype(np.float64)
    return column.cast(pa.float64(), safe=False).to_numpy()


def _texts(values: pa.Array) -> list[str]:
    if pt.is_binary(values.type):
        return [value.hex() for value in values.to_pylist()]
    texts: list[str] = pc.cast(values, pa.string()).to_pylist()
    return texts


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
