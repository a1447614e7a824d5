"""A FeatureView as the kernel works with it: names resolved, windows spelt out, expressions checked.

A definition has a content address: the digest of what decides its values, and nothing else. A changed description keeps
it, a changed window does not; so a name and a version never mean two things, and equal definitions share their results.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa

from mizzen.data.features.aggregates.registry import Parameters
from mizzen.data.features.columns import US_PER_S
from mizzen.data.features.errors import DefinitionError
from mizzen.data.features.expressions import columns_used
from mizzen.data.features.windows import Aggregation, Window
from mizzen.kinds.features import AggregationFeature, Entity, FeatureView, FeatureViewSpec
from mizzen.kinds.scalars import duration_s

_TYPES = {
    "boolean": pa.bool_(), "int8": pa.int8(), "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(),
    "float32": pa.float32(), "float64": pa.float64(), "text": pa.string(), "bytes": pa.binary(),
    "time": pa.timestamp("us", "UTC"), "date": pa.date32(),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the entity."""

    name: str
    column: str
    type: str | None


@dataclass(frozen=True, slots=True)
class RowFeature:
    """A feature of the newest row: the value that column of the prepared events has there."""

    name: str
    type: pa.DataType | None


@dataclass(frozen=True, slots=True)
class RequestFunction:
    """A feature of the request."""

    name: str
    function: str
    inputs: tuple[str, ...]
    type: pa.DataType


@dataclass(frozen=True, slots=True)
class Definition:
    """One version of a view."""

    name: str
    digest: str
    keys: tuple[Key, ...]
    event_time: str
    known_at: str | None
    time_zone: str | None
    where: str | None
    expressions: Mapping[str, str]
    """What is worked out for each row, by name: column features, and what aggregations are of."""
    masks: frozenset[str]
    """Those of the expressions that say which events an aggregation counts."""
    rows: tuple[RowFeature, ...]
    aggregations: tuple[Aggregation, ...]
    request: tuple[RequestFunction, ...]
    uses: tuple[str, ...]
    ttl_us: int | None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The first 12 hex digits of the digest."""
        return self.digest.removeprefix("sha256:")[:12]

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of the features that do not need a request, in order."""
        return (*(feature.name for feature in self.rows), *(aggregation.name for aggregation in self.aggregations))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all features, in order."""
        return (*self.stored, *(feature.name for feature in self.request))

    @property
    def columns(self) -> list[str]:
        """The columns of the source that are read, without those of other views."""
        named = [key.column for key in self.keys] + [self.event_time]
        named += [self.known_at] if self.known_at else []
        for text in [*self.expressions.values(), *([self.where] if self.where else [])]:
            named += columns_used(text, self.name)
        return list(dict.fromkeys(name for name in named if name not in self.uses))


def definition_of(view: FeatureView, used: Mapping[str, str] = MappingProxyType({})) -> Definition:
    """Reads a view; `used` are the digests of the views it uses, of which its own is made.

    Raises `DefinitionError` where it cannot mean anything.
    """
    spec = view.spec
    where = f"FeatureView {view.name}"
    expressions: dict[str, str] = {}
    rows = []
    for column in spec.columns:
        name = column if isinstance(column, str) else column.name
        text = None if isinstance(column, str) else column.expression
        stated = None if isinstance(column, str) else column.type
        expressions[name] = text or quoted(name)
        rows.append(RowFeature(name, None if stated is None else type_named(stated)))
    aggregations = [made for feature in spec.aggregations for made in _aggregations(feature, expressions)]
    masks = frozenset(aggregation.where for aggregation in aggregations if aggregation.where is not None)
    for name, text in [*expressions.items(), *([("where", spec.where)] if spec.where else [])]:
        columns_used(text, f"{where}: {name}")
    if spec.time_zone is not None:
        _expect_zone(spec.time_zone, where)
    return Definition(
        name=view.name,
        digest=spec.digest(used),
        keys=tuple(_key(entity) for entity in spec.entities),
        event_time=spec.event_time,
        known_at=spec.known_at,
        time_zone=spec.time_zone,
        where=spec.where,
        expressions=expressions,
        masks=masks,
        rows=tuple(rows),
        aggregations=tuple(aggregations),
        request=_in_order(
            [RequestFunction(f.name, f.function, tuple(f.inputs), type_named(f.type)) for f in spec.request], where
        ),
        uses=tuple(spec.uses),
        ttl_us=None if spec.ttl is None else _us(spec.ttl),
        defaults=_defaults(spec),
    )


def as_label(definition: Definition) -> Definition:
    """The definition with its windows ahead: what happened within the window after each request.

    Raises `DefinitionError` where it has features that cannot look ahead.
    """
    endless = [a.name for a in definition.aggregations if a.window.length_us is None]
    backward = [*(row.name for row in definition.rows), *(asked.name for asked in definition.request), *endless]
    if backward:
        raise DefinitionError(
            f"FeatureView {definition.name}: expected only aggregations with a window in a label, found {backward[0]}"
        )
    ahead = [replace(a, window=Window(a.window.length_us, ahead=True)) for a in definition.aggregations]
    return replace(definition, aggregations=tuple(ahead))


def type_named(name: str) -> pa.DataType:
    """The Arrow type of a feature type: `float32`, `vector(float32, 128)`, `list(text)`."""
    if name in _TYPES:
        return _TYPES[name]
    if (vector := re.fullmatch(r"vector\((\w+), ?(\d+)\)", name)) is not None:
        return pa.list_(_TYPES[vector[1]], int(vector[2]))
    if (listed := re.fullmatch(r"list\((\w+)\)", name)) is not None:
        return pa.list_(_TYPES[listed[1]])
    raise DefinitionError(
        f"expected a type such as {', '.join(_TYPES)}, vector(float32, 8) or list(text), found {name!r}"
    )


def quoted(name: str) -> str:
    """A column name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def expect_no_circle(views: Mapping[str, Definition]) -> list[str]:
    """The views in an order in which each comes after those it uses. Raises `DefinitionError` where there is none."""
    done: dict[str, None] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " -> ".join((*path[path.index(name) :], name))
            raise DefinitionError(f"FeatureView {name}: expected no view that refers to itself, found {circle}")
        if name not in views:
            raise DefinitionError(f"FeatureView {path[-1]}: expected a view named {name}, found none")
        if name not in done:
            for used in views[name].uses:
                visit(used, (*path, name))
            done[name] = None

    for name in views:
        visit(name, ())
    return list(done)


def _key(entity: str | Entity) -> Key:
    if isinstance(entity, str):
        return Key(entity, entity, None)
    return Key(entity.name, entity.column or entity.name, entity.type)


def _aggregations(feature: AggregationFeature, expressions: dict[str, str]) -> list[Aggregation]:
    column = mask = None
    if feature.column is not None or feature.expression is not None:
        text = feature.expression or quoted(feature.column or "")
        column = f"of:{text}"
        expressions[column] = text
    if feature.where is not None:
        mask = f"if:{feature.where}"
        expressions[mask] = feature.where
    lengths: list[str | None] = [*feature.windows] or [feature.window]
    hop_us = 1 if feature.hop is None else _us(feature.hop)
    return [
        Aggregation(
            name=name,
            function=feature.function,
            window=Window(None if length is None else _us(length), hop_us),
            column=column,
            where=mask,
            parameters=Parameters(k=feature.k or 0, q=0.5 if feature.quantile is None else feature.quantile),
        )
        for name, length in zip(feature.names(), lengths, strict=True)
    ]


def _us(duration: str) -> int:
    return round(duration_s(duration) * US_PER_S)


def _defaults(spec: FeatureViewSpec) -> dict[str, Any]:
    found: dict[str, Any] = {c.name: c.default for c in spec.columns if not isinstance(c, str)}
    found.update((name, feature.default) for feature in spec.aggregations for name in feature.names())
    found.update((feature.name, feature.default) for feature in spec.request)
    return {name: default for name, default in found.items() if default is not None}


def _in_order(features: list[RequestFunction], where: str) -> tuple[RequestFunction, ...]:
    """Each after those it takes as inputs."""
    by_name = {feature.name: feature for feature in features}
    done: dict[str, RequestFunction] = {}

    def visit(feature: RequestFunction, path: tuple[str, ...]) -> None:
        if feature.name in path:
            circle = " -> ".join((*path, feature.name))
            raise DefinitionError(f"{where}: expected no feature that needs itself, found {circle}")
        for name in feature.inputs:
            if name in by_name and name not in done:
                visit(by_name[name], (*path, feature.name))
        done[feature.name] = feature

    for feature in features:
        visit(feature, ())
    return tuple(done.values())


def _expect_zone(name: str, where: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise DefinitionError(f"{where}: expected a time zone such as UTC or Europe/Paris, found {name!r}") from error
