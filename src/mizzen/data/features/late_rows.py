"""Which past training sets would come out differently had some rows been there when they were made.

A late event counts for a row of a set where the row's window reaches it and it was known by the row's clock: with a
known-at column that is seldom the case, which is the point of having one. Of a view that uses others, an event changes
too where a used view's features at its moment do; what is told of such views is an upper bound, since it is not worked
out whether their expressions come out differently.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mizzen.data.features.columns import Array
from mizzen.data.features.definition import Definition, as_label, definition_of
from mizzen.data.features.events import events_of
from mizzen.data.features.keys import encode
from mizzen.data.features.pointintime import Clocks, InMemory, Use, asked_rows, requests_of
from mizzen.data.features.training_sets import Record, ViewUse, records
from mizzen.data.features.view import source_of
from mizzen.data.features.windows import Aggregation, Window, evaluate
from mizzen.data.lake.growth import growth
from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table
from mizzen.kinds.features import FeatureView


@dataclass(frozen=True, slots=True)
class Touched:
    """A past set that late rows change."""

    record: Record
    rows: int
    """Rows of the set in whose windows a late event lies that they could have known."""
    features: tuple[str, ...]


def changed_since(store: Store, namespace: str, dataset: str, version: int) -> list[Touched] | None:
    """The past training sets that what came after a version of a dataset changes; `None` where rows went meanwhile."""
    table = Table(store, namespace, dataset)
    added = growth(table, version, table.at())
    if added is None:
        return None
    pieces = [step.version.dataset(step.files).to_table() for step in added if step.files]
    return changed_by(store, namespace, dataset, pa.concat_tables(pieces, promote_options="default")) if pieces else []


def changed_by(store: Store, namespace: str, dataset: str, late: pa.Table) -> list[Touched]:
    """The past training sets that would come out differently had these rows of a dataset been there."""
    touched = []
    for record in records(store, namespace):
        version = Table(store, namespace, record.name).committed_by(record.id)
        if version is None:
            continue
        clocks = Clocks(record.time, record.known, record.everything, record.time_zone)
        rows = np.zeros(version.rows, dtype=bool)
        features: list[str] = []
        for used in record.uses:
            changed = _changed_rows(store, namespace, used, dataset, late)
            if changed is None:
                continue
            hits = _reached(used, changed, version.arrow(), clocks, used.keys)
            features += [used.prefix + name for name, hit in hits.items() if hit.any()]
            rows |= np.logical_or.reduce([*hits.values(), np.zeros(len(rows), dtype=bool)])
        if features:
            touched.append(Touched(record, int(rows.sum()), tuple(features)))
    return touched


def _changed_rows(store: Store, namespace: str, used: ViewUse, dataset: str, late: pa.Table) -> pa.Table | None:
    """The rows of a view's source that are new, or that see other features of the views it uses; `None`: none."""
    definition = _definition(used)
    found = [late] if used.source.table == dataset else []
    for other in used.others:
        inner = _changed_rows(store, namespace, other, dataset, late)
        if inner is None:
            continue
        source = Table(store, namespace, used.source.table).at(used.source.version).arrow()
        clocks = Clocks(definition.event_time, time_zone=definition.time_zone)
        hits = _reached(other, inner, source, clocks, other.keys)
        seen = np.logical_or.reduce([*hits.values(), np.zeros(len(source), dtype=bool)])
        found.append(source.filter(pa.array(seen)))
    found = [rows for rows in found if len(rows)]
    if not found:
        return None
    names = [name for name in definition.columns if all(name in rows.column_names for rows in found)]
    return pa.concat_tables([rows.select(names) for rows in found], promote_options="permissive")


def _reached(
    used: ViewUse, events: pa.Table, rows: pa.Table, clocks: Clocks, keys: Mapping[str, str]
) -> dict[str, Array]:
    """For each feature that is taken of a view, in which rows one of the events counts."""
    definition = _definition(used)
    if definition.uses:  # what its expressions would give is not known here: every event of an entity may count
        definition = _of_events_alone(definition)
    there = events_of(definition, events)
    asked = asked_rows(rows, Use(definition, InMemory(rows), keys=keys), clocks)
    asked_keys = [asked.column(key.name).combine_chunks() for key in definition.keys]
    entity, asked_entity, entities = encode(there.keys, asked_keys)
    requests = requests_of(definition, asked, asked_entity)
    counted = [Aggregation(a.name, "count", a.window, a.column, a.where) for a in definition.aggregations]
    newest = Window(definition.ttl_us)
    counted += [Aggregation(row.name, "count", newest) for row in definition.rows]
    counted = [aggregation for aggregation in counted if aggregation.name in used.features]
    counts = evaluate(source_of(replace(definition, rows=()), there, entity, entities), counted, requests)
    found: dict[str, Array] = {name: np.asarray(counts[name]) > 0 for name in used.features if name in counts}
    return found


def _of_events_alone(definition: Definition) -> Definition:
    counted: list[Any] = [replace(a, column=None, where=None, function="count") for a in definition.aggregations]
    counted += [Aggregation(row.name, "count", Window(definition.ttl_us)) for row in definition.rows]
    return replace(
        definition, expressions={}, masks=frozenset(), where=None, rows=(), aggregations=tuple(counted), uses=()
    )


def keys_of(used: ViewUse) -> dict[str, str]:
    """The columns of a training set's rows that hold a view's keys, by the keys' names."""
    return {key.name: used.keys.get(key.name, key.name) for key in _definition(used).keys}


def _definition(used: ViewUse) -> Definition:
    view = FeatureView.model_validate(used.view)
    made = definition_of(
        view, {str(other.view["metadata"]["name"]): _definition(other).digest for other in used.others}
    )
    return as_label(made) if used.is_label else made
