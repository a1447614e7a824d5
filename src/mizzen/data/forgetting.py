"""The right to be forgotten: what is held of an entity, taken out of tables, training sets, prediction logs and the
online store, with a receipt.

The lake goes first, since the online store follows it: rows are rewritten without the entity, versions that held it are
no longer kept, and their files are deleted. That costs the history of such a table, which is the point. Then its online
records go; a view whose source was rewritten is brought online anew from rows without it, which also takes care of
views by several keys. The receipt names the entity by a digest, so that it does not remember it, and says whether a
look afterwards found nothing; rows that were pushed and are in no version yet are named as what is still to come.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from mizzen.data.features.late_rows import keys_of
from mizzen.data.features.online import catalog
from mizzen.data.features.online.store import OnlineStore
from mizzen.data.features.online.writer import OnlineWriter
from mizzen.data.features.training_sets import Record, records
from mizzen.data.lake import log
from mizzen.data.lake.changes import NewRows, upserting
from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import PartWriter
from mizzen.data.lake.retention import sweep
from mizzen.data.lake.segments import segments_of
from mizzen.data.lake.tables import QUARANTINE, Table, TableVersion, Totals
from mizzen.kinds.features import Entity, FeatureView

_READS = ".reads"
"""After a view's name: the log of what was read of it, for its audit."""
Key = Mapping[str, str | int]
"""The entity: the values of its keys by name."""


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where something was held, and what became of it."""

    what: str
    """`dataset/NAME`, `quarantine/NAME`, `trainingset/NAME`, `predictions/NAME` or `featureview/NAME`."""
    rows: int
    """Rows or records that were taken out of what is current."""
    versions: int = 0
    """Versions that are no longer kept, since they held some."""
    verified: bool = True
    """Whether a look afterwards found nothing."""
    pending: bool = False
    """Whether rows wait that are in no version yet: forget once more when they are."""


class Receipt(msgspec.Struct, frozen=True):
    """That an entity was forgotten."""

    namespace: str
    entity_sha256: str
    when: str
    places: list[Place]

    @property
    def complete(self) -> bool:
        """Whether nothing is left anywhere and nothing is to come."""
        return all(place.verified and not place.pending for place in self.places)


@dataclass(frozen=True, slots=True)
class Held:
    """Where to look: the views of a namespace by the entity's keys, and the endpoints whose requests are logged."""

    namespace: str
    views: Sequence[FeatureView]
    endpoints: Sequence[str] = field(default_factory=tuple)

    def views_by(self, key: Key) -> list[FeatureView]:
        """The views that have these keys, and perhaps further ones."""
        return [view for view in self.views if set(key) <= set(_columns(view))]


def forget(store: Store, online: OnlineStore | None, held: Held, key: Key, when: str) -> Receipt:
    """Takes an entity out of everything; safe to repeat, and to be repeated where it was killed.

    The receipt is also kept in the store, under `receipts/`. Raises `LakeError` and `StoreUnavailable`.
    """
    named = json.dumps({name: str(value) for name, value in key.items()}, sort_keys=True)
    digest = hashlib.sha256(named.encode()).hexdigest()
    run = f"forget-{digest[:16]}-{when}"
    views = held.views_by(key)
    places: list[Place] = []
    sets = _by_training_set(store, held.namespace, key)
    spines = [(record.spine.table, columns) for record, columns in sets]
    for dataset, columns in _once([*_by_dataset(views, key), *spines]):
        places += _out_of_tables(store, held.namespace, dataset, columns, run)
    for name, columns in _once([(record.name, columns) for record, columns in sets]):
        table = Table(store, held.namespace, name)
        places.append(_out_of(table, columns, run, f"trainingset/{name}"))
    places += [
        place
        for logged in [*held.endpoints, *(f"{view.name}{_READS}" for view in views)]
        if (place := _out_of_predictions(store, held.namespace, logged, key)) is not None
    ]
    for begun in ("trainingsets-parts", "featureviews-parts"):  # shares of what was never put together
        for stored in store.list(f"{begun}/{held.namespace}"):
            store.delete(stored.path)
    if online is not None:
        places += [_offline(online, held.namespace, view, key) for view in views]
    receipt = Receipt(held.namespace, digest, when, places)
    store.put(f"receipts/{held.namespace}/{run}.json", msgspec.json.encode(receipt))
    return receipt


def _columns(view: FeatureView) -> dict[str, str]:
    """The source's columns of a view's keys."""
    keys = [Entity(name=each) if isinstance(each, str) else each for each in view.spec.entities]
    return {each.name: each.column or each.name for each in keys}


def _by_dataset(views: Iterable[FeatureView], key: Key) -> list[tuple[str, dict[str, str | int]]]:
    return [
        (view.spec.source.dataset, {_columns(view)[name]: value for name, value in key.items()})
        for view in views
        if view.spec.source.dataset is not None
    ]


def _by_training_set(store: Store, namespace: str, key: Key) -> list[tuple[Record, dict[str, str | int]]]:
    """The training sets, and by which of their columns and their spines' the entity is found there."""
    return [
        (record, {columns[name]: value for name, value in key.items()})
        for record in records(store, namespace)
        for columns in map(keys_of, record.uses)
        if set(key) <= set(columns)
    ]


def _once(tables: Iterable[tuple[str, dict[str, str | int]]]) -> list[tuple[str, dict[str, str | int]]]:
    return list({(name, json.dumps(columns, sort_keys=True)): (name, columns) for name, columns in tables}.values())


def _out_of_tables(
    store: Store, namespace: str, dataset: str, columns: Mapping[str, str | int], run: str
) -> list[Place]:
    pending = bool(segments_of(store, namespace, dataset))
    place = _out_of(Table(store, namespace, dataset), columns, run, f"dataset/{dataset}")
    aside = Table(store, namespace, dataset, folder=QUARANTINE)
    places = [msgspec.structs.replace(place, pending=pending)]
    if aside.exists():
        places.append(_out_of(aside, columns, run, f"quarantine/{dataset}"))
    return places


def _out_of(table: Table, columns: Mapping[str, str | int], run: str, what: str) -> Place:
    """Rewrites a table without some rows, and keeps no version that had them."""
    if not table.exists():
        return Place(what, 0)
    oldest, newest = table.oldest(), table.at()
    held = [version for version in range(oldest, newest.version + 1) if _rows_added(table, version, columns)]
    if not held:
        return Place(what, 0)
    rows = newest.dataset().count_rows(filter=_matching(columns, newest.schema))
    with tempfile.TemporaryDirectory(prefix="mizzen-forget-") as work:
        empty = PartWriter(Path(work) / "none", newest.schema).close()
        types = {name: newest.schema.field(name).type for name in columns}
        gone = pa.table({name: pa.array([_as(columns[name], type_)], type_) for name, type_ in types.items()})
        fresh = NewRows(
            empty,
            newest.schema,
            facts=lambda _, totals: _told(newest.facts, totals),
            attachment=lambda base, _, __: _without_values(base),
            partition_by=newest.partition_by,
            oldest=lambda base: base.version + 1 if base is not None else None,
        )
        table.change(run, upserting(fresh, [*columns], Path(work), gone, operation="forget"))
    sweep(table)
    _sweep_attachments(table)
    left = [v for v in range(table.oldest(), table.at().version + 1) if _rows_added(table, v, columns)]
    return Place(what, rows, versions=table.oldest() - oldest, verified=not left)


def _rows_added(table: Table, version: int, columns: Mapping[str, str | int]) -> int:
    """How many rows of the entity are in files that a version added, or that the oldest one has."""
    at = table.at(version)
    files = at.files
    if version > table.oldest():
        added = {
            action["add"]["path"] for action in log.read_entry(table.store, table.path, version) if "add" in action
        }
        files = [file for file in files if file.path in added]
    if not files or not set(columns) <= set(at.schema.names):
        return 0
    return int(at.dataset(files).count_rows(filter=_matching(columns, at.schema)))


def _told(facts: str, totals: Totals) -> str:
    """The report of the last load, as it is of what is left."""
    if not facts.startswith("{"):
        return facts
    report = {**json.loads(facts), "version": totals.version, "digest": totals.digest}
    return json.dumps({**report, "rows": totals.rows, "bytes": totals.bytes, "operation": "forget"})


def _without_values(base: TableVersion | None) -> bytes | None:
    """The larger facts of a version without its profile, whose most frequent values may name the entity.

    Where the last load ended stays: the next one goes on from there.
    """
    kept = {name: value for name, value in (base.attachment if base is not None else {}).items() if name != "profile"}
    return json.dumps(kept).encode() if kept else None


def _sweep_attachments(table: Table) -> None:
    """Deletes the larger facts of versions that are no longer kept."""
    versions = range(table.oldest(), table.at().version + 1)
    needed = {log.commit_info(table.store, table.path, version).get(log.ATTACHMENT) for version in versions}
    for stored in table.store.list(f"{table.path}/_mizzen"):
        name = stored.path.removeprefix(f"{table.path}/")
        if re.fullmatch(r"_mizzen/[0-9a-f]{64}\.json", name) and name not in needed:
            table.store.delete(stored.path)


def _as(value: str | int, type_: pa.DataType) -> str | int:
    return int(value) if pa.types.is_integer(type_) else str(value)


def _matching(columns: Mapping[str, str | int], schema: pa.Schema) -> pc.Expression:
    wanted = None
    for name, value in columns.items():
        one = pc.field(name) == _as(value, schema.field(name).type)
        wanted = one if wanted is None else wanted & one
    assert wanted is not None, "an entity has a key"
    return wanted


def _out_of_predictions(store: Store, namespace: str, endpoint: str, key: Key) -> Place | None:
    """Takes rows out of an endpoint's log: those whose inputs have the key, or whose unit is the entity's only key."""
    location = store.url_of(f"predictions/{namespace}/{endpoint}")
    local = store.local_path(f"predictions/{namespace}/{endpoint}/_delta_log")
    if local is not None and not local.is_dir():
        return None
    try:
        table = DeltaTable(location, storage_options=store.table_options)
    except TableNotFoundError:
        return None
    present = set(table.schema().to_arrow().names)
    tests = []
    schema = pa.schema(table.schema().to_arrow())
    if all(f"input_{name}" in present for name in key):
        typed = {f"input_{name}": _as(value, schema.field(f"input_{name}").type) for name, value in key.items()}
        tests.append(" AND ".join(f'"{name}" = {_literal(value)}' for name, value in typed.items()))
    if len(key) == 1 and "unit" in present:
        tests.append(f"unit = {_literal(str(next(iter(key.values()))))}")
    if not tests:
        return Place(f"predictions/{endpoint}", 0)
    wanted = " OR ".join(f"({test})" for test in tests)
    rows = int(table.delete(wanted).get("num_deleted_rows") or 0)
    if rows:
        table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
        _begin_log_anew(table, store, f"predictions/{namespace}/{endpoint}/_delta_log")
    again = DeltaTable(location, storage_options=store.table_options).delete(wanted)
    return Place(f"predictions/{endpoint}", rows, verified=not again.get("num_deleted_rows"))


def _begin_log_anew(table: DeltaTable, store: Store, log_path: str) -> None:
    """Deletes the log's entries so far, which hold the least and greatest values of files, and what was deleted."""
    table.alter.set_table_properties({"mizzen.logSince": str(table.version() + 1)}, raise_if_not_exists=False)
    table.create_checkpoint()
    for stored in store.list(log_path):
        number = re.match(r"([0-9]{20})\.", stored.path.rpartition("/")[2])
        if number is not None and int(number[1]) < table.version():
            store.delete(stored.path)


def _literal(value: Any) -> str:
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _offline(online: OnlineStore, namespace: str, view: FeatureView, key: Key) -> Place:
    """Takes a view's records of the entity out, of every version; those by more keys go when the view is refilled."""
    what = f"featureview/{view.name}"
    names = [*_columns(view)]
    if set(names) != set(key):
        return Place(what, 0, pending=bool(catalog.entries(online, namespace, view.name)))
    rows, verified = 0, True
    for entry in catalog.entries(online, namespace, view.name):
        opened = entry.online_view()
        entity = [_as(key[name], type_) for name, type_ in zip(names, opened.key_types, strict=True)]
        receipt = OnlineWriter(online, opened, namespace).forget(entity, 0)
        rows, verified = rows + receipt.records, verified and receipt.verified
    return Place(what, rows, verified=verified)
