"""OpenLineage events of a load: that it began, and how it ended, with datasets, versions and columns."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from mizzen.data.ingest.column_lineage import Origins, origins_of
from mizzen.data.ingest.task import IngestTask
from mizzen.data.lake.errors import LakeError
from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table
from mizzen.data.openlineage import (
    EventType,
    Json,
    Told,
    dataset_name,
    done,
    facet,
    input_of,
    output_of,
    run_event,
    tell_of,
    teller_of,
)
from mizzen.data.pod import Failure
from mizzen.kinds.data import LoadReport

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Ending:
    """Filled in by the load that is told of."""

    report: LoadReport | None = None


@contextmanager
def told(task: IngestTask, store: Store, clock: Callable[[], datetime]) -> Iterator[Ending]:
    """Tells of a load that it began and, afterwards, how it ended: with the report that is put into the ending."""
    try:
        tell = teller_of(task.lineage_url)
    except ValueError as error:
        log.warning("%s", error)
        tell = teller_of(None)
    ending = Ending()
    if task.lineage_url is None:
        yield ending
        return
    tell_of(tell, lambda: event_of(task, store, "START", clock()))
    try:
        yield ending
    except (Failure, LakeError, OSError) as error:
        message = error.message if isinstance(error, Failure) else str(error)
        tell_of(tell, lambda: event_of(task, store, "FAIL", clock(), error=message))
        raise
    tell_of(tell, lambda: event_of(task, store, "COMPLETE", clock(), ending.report))


def event_of(
    task: IngestTask, store: Store, type_: EventType, now: datetime, report: LoadReport | None = None, error: str = ""
) -> Json:
    """One `RunEvent`."""
    facets: Json = {}
    if task.source.sql is not None:
        facets["sql"] = facet("SQLJobFacet", "1-1-0", query=task.source.sql.query, dialect="duckdb")
    of = Told(task.namespace, task.run, f"dataset.{task.name}", "LOAD")
    return run_event(of, type_, now, list(_inputs(task, store)), _output(task, store, report), error, **facets)


def _inputs(task: IngestTask, store: Store) -> Iterator[Json]:
    for each in task.inputs:
        yield input_of(Table(store, task.namespace, each.name).location, each.version)
    for pattern in task.source.files or ():
        yield {**dataset_name(pattern), "facets": {}}
    if task.source.sql is not None and task.source.sql.database is not None:
        yield {**dataset_name(task.source.sql.database), "facets": {}}


def _output(task: IngestTask, store: Store, report: LoadReport | None) -> Json:
    made = report is not None and report.version is not None
    lineage = _column_lineage(task, store, report) if report is not None and made else {}
    return output_of(Table(store, task.namespace, task.name).location, report, lineage)


def _column_lineage(task: IngestTask, store: Store, report: LoadReport) -> Json:
    """The `fields` of the column lineage facet; empty where it is not known."""
    names = [column.name for column in report.columns]
    if task.source.files is not None:
        places = [dataset_name(pattern) for pattern in task.source.files]
        return {
            name: {"inputFields": [{**place, "field": name, **done("IDENTITY")} for place in places]}
            for name in names
            if not name.startswith("_")
        }
    if task.source.sql is None or not task.inputs or report.operation == "restore":
        return {}
    tables = {each.name: Table(store, task.namespace, each.name) for each in task.inputs}
    columns = {each.name: tables[each.name].at(each.version).schema.names for each in task.inputs}
    places_of = {name: dataset_name(table.location) for name, table in tables.items()}
    found = origins_of(task.source.sql.query, columns, names)
    return {name: {"inputFields": _input_fields(origins, places_of)} for name, origins in found.items() if origins}


def _input_fields(origins: Origins, places: Mapping[str, Json]) -> list[Json]:
    ordered = sorted(origins, key=lambda origin: (origin.table, origin.column))
    return [{**places[origin.table], "field": origin.column, **done(origin.kind)} for origin in ordered]
