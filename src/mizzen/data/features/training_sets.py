"""Training sets: joins that are kept as versions of a table, under an id that says what they were made of.

The id is a digest of the definitions, of the versions of every table they were read from, of the row set (the version
of the spine) and of the clocks: whoever asks for the same set again gets the one that is there, and two sets with one
id do not differ. Each set leaves a record beside its table, from which "which past training sets did this late batch
change?" is answered: a late event counts for a row where the row's window reaches it and it was known by the row's
clock. With a known-at column that is seldom the case, which is the point of having one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from mizzen.data.features.definition import Definition, as_label, definition_of
from mizzen.data.features.errors import RequestUnfit
from mizzen.data.features.events import events_of
from mizzen.data.features.keys import encode
from mizzen.data.features.pointintime import ROWS_IN_MEMORY, Clocks, Use, asked_rows, join_batches, requests_of
from mizzen.data.features.timeline import Requests
from mizzen.data.features.view import source_of
from mizzen.data.features.windows import Aggregation, Window, evaluate
from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import PartWriter
from mizzen.data.lake.rows import as_stored, storable_schema
from mizzen.data.lake.tables import Table, TableVersion
from mizzen.kinds.features import FeatureView

ROW_ID = "row_id"
"""The number of each row in the spine, from 0."""


class Read(msgspec.Struct, frozen=True):
    """A version of a table that a set was made of."""

    table: str
    version: int
    digest: str


class ViewUse(msgspec.Struct, frozen=True):
    """What a set took of one view."""

    view: dict[str, Any]
    """The FeatureView as it was."""
    source: Read
    features: list[str]
    keys: dict[str, str]
    prefix: str
    is_label: bool


class Record(msgspec.Struct, frozen=True):
    """What a training set was made of."""

    id: str
    name: str
    spine: Read
    uses: list[ViewUse]
    time: str
    known: str | None
    everything: bool
    time_zone: str | None


@dataclass(frozen=True, slots=True)
class From:
    """A view to take features or labels of, and the version of its source."""

    view: FeatureView
    source: TableVersion
    features: tuple[str, ...] | None = None
    keys: dict[str, str] = field(default_factory=dict)
    prefix: str = ""
    is_label: bool = False
    """Whether its windows lie ahead."""

    def definition(self) -> Definition:
        """The view's, with windows ahead where it is a label."""
        made = definition_of(self.view)
        return as_label(made) if self.is_label else made

    def use(self) -> Use:
        """For the join."""
        return Use(self.definition(), self.source, self.features, self.keys, self.prefix)


@dataclass(frozen=True, slots=True)
class Touched:
    """A past set that late rows change."""

    record: Record
    rows: int
    """Rows of the set in whose windows a late event lies that they could have known."""
    features: tuple[str, ...]


def build(
    store: Store,
    namespace: str,
    name: str,
    spine: TableVersion,
    uses: Sequence[From],
    clocks: Clocks,
    *,
    work: Path,
    rows_in_memory: int = ROWS_IN_MEMORY,
) -> TableVersion:
    """The training set as a version of the table `name`; the one that is there where it was made before."""
    if any(use.definition().uses for use in uses):
        raise RequestUnfit(
            f"training set {name}: expected views that use no others, whose sources it would have to name"
        )
    record = record_of(name, spine, uses, clocks)
    table = Table(store, namespace, name)
    made = table.committed_by(record.id)
    if made is None:
        made = _joined(table, spine, [use.use() for use in uses], clocks, record, work, rows_in_memory)
    store.put(_path(namespace, record), msgspec.json.encode(record))
    return made


def record_of(name: str, spine: TableVersion, uses: Sequence[From], clocks: Clocks) -> Record:
    """What the set is made of, and its id."""
    used = [
        ViewUse(
            view={**use.view.to_wire(), "status": {}, "metadata": {"name": use.view.name}},
            source=_read(use.source),
            features=[*use.use().names()],
            keys=use.keys,
            prefix=use.prefix,
            is_label=use.is_label,
        )
        for use in uses
    ]
    facts = [
        name,
        _read(spine).digest,
        [[use.definition().digest, u.source.digest, u.features, u.keys, u.prefix, u.is_label]
         for use, u in zip(uses, used, strict=True)],
        [clocks.time, clocks.known, clocks.everything, clocks.time_zone],
    ]  # fmt: skip
    digest = hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()
    return Record(
        f"ts-{digest[:40]}", name, _read(spine), used, clocks.time, clocks.known, clocks.everything, clocks.time_zone
    )


def records(store: Store, namespace: str) -> list[Record]:
    """Every training set of the namespace."""
    found = store.list(f"trainingsets/{namespace}")
    return [msgspec.json.decode(store.get(stored.path), type=Record) for stored in found]


def changed_by(store: Store, namespace: str, dataset: str, late: pa.Table) -> list[Touched]:
    """The past training sets that would come out differently had these rows of a dataset been there."""
    touched = []
    for record in records(store, namespace):
        rows = np.zeros(0, dtype=bool)
        features: list[str] = []
        for use in record.uses:
            if use.source.table != dataset:
                continue
            hits = _touched(store, namespace, record, use, late)
            for name, hit in hits.items():
                if hit.any():
                    features.append(use.prefix + name)
                    rows = hit if not len(rows) else rows | hit
        if features:
            touched.append(Touched(record, int(rows.sum()), tuple(features)))
    return touched


def _touched(store: Store, namespace: str, record: Record, used: ViewUse, late: pa.Table) -> dict[str, Any]:
    """For each feature, in which rows of the set a late event counts."""
    view = FeatureView.model_validate(used.view)
    definition = as_label(definition_of(view)) if used.is_label else definition_of(view)
    events = events_of(definition, late)
    table = Table(store, namespace, record.name)
    version = table.committed_by(record.id)
    if version is None:
        return {}
    use = Use(definition, version, keys=used.keys)
    clocks = Clocks(record.time, record.known, record.everything, record.time_zone)
    asked = asked_rows(version.arrow(), use, clocks)
    entity, asked_entity, entities = encode(
        events.keys, [asked.column(k.name).combine_chunks() for k in definition.keys]
    )
    requests: Requests = requests_of(definition, asked, asked_entity)
    newest = Window(definition.ttl_us)
    counted = [Aggregation(row.name, "count", newest) for row in definition.rows]
    counted += [Aggregation(a.name, "count", a.window, a.column, a.where) for a in definition.aggregations]
    counted = [aggregation for aggregation in counted if aggregation.name in used.features]
    counts = evaluate(source_of(definition, events, entity, entities), counted, requests)
    return {name: np.asarray(column) > 0 for name, column in counts.items()}


def _joined(
    table: Table,
    spine: TableVersion,
    uses: Sequence[Use],
    clocks: Clocks,
    record: Record,
    work: Path,
    rows_in_memory: int,
) -> TableVersion:
    writer: PartWriter | None = None
    schema: pa.Schema | None = None
    first = 0
    for piece in join_batches(spine, uses, clocks, work=work / "parts", rows_in_memory=rows_in_memory):
        if ROW_ID not in spine.schema.names:
            piece = piece.add_column(0, ROW_ID, pa.array(np.arange(first, first + len(piece))))  # noqa: PLW2901
        first += len(piece)
        if writer is None or schema is None:
            schema = storable_schema(piece.schema)
            writer = PartWriter(work / "rows", schema)
        writer.write(as_stored(piece, schema))
    assert writer is not None, "a join has at least one piece"
    assert schema is not None, "a join has at least one piece"
    return table.commit(writer.close(), schema, record.id, facts=msgspec.json.encode(record).decode())


def _read(version: TableVersion) -> Read:
    digest = version.digest or f"{version.location}@{version.version}"
    return Read(version.location.rpartition("/")[2], version.version, digest)


def _path(namespace: str, record: Record) -> str:
    return f"trainingsets/{namespace}/{record.id}.json"
