"""Training sets: joins that are kept as versions of a table, under an id that says what they were made of.

The id is a digest of the definitions, of the versions of every table they were read from, of the row set (the version
of the spine) and of the clocks: whoever asks for the same set again gets the one that is there, and two sets with one
id do not differ. Each set leaves a record beside its table, from which "which past training sets did this late batch
change?" is answered (`late_rows.py`).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from mizzen.data.features.definition import Definition, as_label, definition_of
from mizzen.data.features.pointintime import ROWS_IN_MEMORY, Clocks, Use, join_batches
from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import PartWriter
from mizzen.data.lake.rows import as_stored, storable_schema
from mizzen.data.lake.tables import Table, TableVersion
from mizzen.kinds.features import FeatureView

ROW_ID = "row_id"
"""The number of each row in the spine, from 0."""
_GROUP_ROWS = 262_144
"""Of a row group: by number alone, so that the same set has the same bytes, however many made it."""


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
    others: list["ViewUse"] = []
    """Of the views that this one uses."""


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
    others: tuple["From", ...] = ()
    """The views that this one uses, whose features it takes as of each of its events."""

    def definition(self) -> Definition:
        """The view's, with windows ahead where it is a label."""
        made = definition_of(self.view, {other.view.name: other.definition().digest for other in self.others})
        return as_label(made) if self.is_label else made

    def use(self) -> Use:
        """For the join."""
        others = tuple(other.use() for other in self.others)
        return Use(self.definition(), self.source, self.features, self.keys, self.prefix, others)


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
    record = record_of(name, spine, uses, clocks)
    made = made_before(store, namespace, record)
    if made is not None:
        return made
    joins = [use.use() for use in uses]
    pieces = join_batches(spine, joins, clocks, work=work / "parts", rows_in_memory=rows_in_memory)
    return keep(store, namespace, record, spine, pieces, work)


def made_before(store: Store, namespace: str, record: Record) -> TableVersion | None:
    """The version that holds this very set; `None` where there is none."""
    made = Table(store, namespace, record.name).committed_by(record.id)
    if made is not None:
        store.put(_path(namespace, record), msgspec.json.encode(record))
    return made


def keep(
    store: Store, namespace: str, record: Record, spine: TableVersion, pieces: Iterable[pa.Table], work: Path
) -> TableVersion:
    """Makes the pieces of the joined spine a version, unless the set is there already."""
    made = _written(Table(store, namespace, record.name), spine, pieces, record, work)
    store.put(_path(namespace, record), msgspec.json.encode(record))
    return made


def record_of(name: str, spine: TableVersion, uses: Sequence[From], clocks: Clocks) -> Record:
    """What the set is made of, and its id."""
    used = [_used(use) for use in uses]
    facts = [
        name,
        _read(spine).digest,
        [_facts(use, u) for use, u in zip(uses, used, strict=True)],
        [clocks.time, clocks.known, clocks.everything, clocks.time_zone],
    ]
    digest = hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()
    return Record(
        f"ts-{digest[:40]}", name, _read(spine), used, clocks.time, clocks.known, clocks.everything, clocks.time_zone
    )


def _used(use: From) -> ViewUse:
    return ViewUse(
        view={**use.view.to_wire(), "status": {}, "metadata": {"name": use.view.name}},
        source=_read(use.source),
        features=[*use.use().names()],
        keys=use.keys,
        prefix=use.prefix,
        is_label=use.is_label,
        others=[_used(other) for other in use.others],
    )


def _facts(use: From, used: ViewUse) -> list[Any]:
    """What decides the features that a set takes of a view."""
    own = [use.definition().digest, used.source.digest, used.features, used.keys, used.prefix, used.is_label]
    others = [_facts(other, theirs) for other, theirs in zip(use.others, used.others, strict=True)]
    return [*own, others] if others else own


def records(store: Store, namespace: str) -> list[Record]:
    """Every training set of the namespace."""
    found = store.list(f"trainingsets/{namespace}")
    return [msgspec.json.decode(store.get(stored.path), type=Record) for stored in found]


def _written(table: Table, spine: TableVersion, pieces: Iterable[pa.Table], record: Record, work: Path) -> TableVersion:
    writer: PartWriter | None = None
    schema: pa.Schema | None = None
    first = 0
    for piece in pieces:
        numbered = piece
        if ROW_ID not in spine.schema.names:
            numbered = piece.add_column(0, ROW_ID, pa.array(np.arange(first, first + len(piece))))
        first += len(piece)
        if writer is None or schema is None:
            schema = storable_schema(numbered.schema)
            writer = PartWriter(work / "rows", schema, group_rows=_GROUP_ROWS)
        writer.write(as_stored(numbered.combine_chunks(), schema))
    assert writer is not None, "a join has at least one piece"
    assert schema is not None, "a join has at least one piece"
    return table.commit(writer.close(), schema, record.id, facts=msgspec.json.encode(record).decode())


def _read(version: TableVersion) -> Read:
    digest = version.digest or f"{version.location}@{version.version}"
    return Read(version.location.rpartition("/")[2], version.version, digest)


def _path(namespace: str, record: Record) -> str:
    return f"trainingsets/{namespace}/{record.id}.json"
