"""OpenLineage events of a load: that it began, and how it ended, with datasets, versions and columns.

They go where the platform's settings say: one line each to a file, to an HTTP endpoint (`…/api/v1/lineage`), or
nowhere. A load never fails for them: an event that cannot be told is a line in the log. No event holds a row's value.

The events follow the specification's version 2-0-2 (openlineage.io/spec) and its naming of datasets.
"""

import json
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx2

from mizzen.data.ingest.column_lineage import Origins, origins_of
from mizzen.data.ingest.task import IngestTask
from mizzen.data.lake.errors import LakeError
from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table
from mizzen.data.pod import Failure
from mizzen.kinds.data import Column, LoadReport

log = logging.getLogger(__name__)
PRODUCER = "https://mizzen.dev/mizzen"
_SPEC = "https://openlineage.io/spec"
_RUN_IDS = uuid.UUID("6f0c3a52-7d4e-4e0c-9c55-0a4c8c7b9e61")
"""The namespace of run ids: the same run has the same id in all its events, whoever sends them."""
TIMEOUT_S = 5.0
Json = dict[str, Any]
Tell = Callable[[Json], None]


def teller_of(url: str | None) -> Tell:
    """What takes an event to its place. Raises `ValueError` for a URL of another scheme."""
    if not url:
        return lambda _: None
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        return lambda event: _append(path, event)
    if parts.scheme in {"http", "https"}:
        return lambda event: _post(url, event)
    raise ValueError(f"lineageUrl: expected file:///…, http://… or https://…, got {url!r}")


def _append(path: Path, event: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:  # one write: lines of several processes do not mix
        file.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")


def _post(url: str, event: Json) -> None:
    key = os.environ.get("OPENLINEAGE_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    httpx2.post(url, json=event, headers=headers, timeout=TIMEOUT_S).raise_for_status()


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
    _tell(tell, lambda: event_of(task, store, "START", clock()))
    try:
        yield ending
    except (Failure, LakeError, OSError) as error:
        message = error.message if isinstance(error, Failure) else str(error)
        _tell(tell, lambda: event_of(task, store, "FAIL", clock(), error=message))
        raise
    _tell(tell, lambda: event_of(task, store, "COMPLETE", clock(), ending.report))


def _tell(tell: Tell, event: Callable[[], Json]) -> None:
    try:
        tell(event())
    except (OSError, LakeError, httpx2.HTTPError) as error:
        log.warning("a lineage event could not be told: %s", error)


def event_of(
    task: IngestTask, store: Store, type_: str, now: datetime, report: LoadReport | None = None, error: str = ""
) -> Json:
    """One `RunEvent`."""
    run_facets: Json = {"processing_engine": _facet("ProcessingEngineRunFacet", "1-1-1", name="mizzen", version="1")}
    if error:
        run_facets["errorMessage"] = _facet(
            "ErrorMessageRunFacet", "1-0-1", message=error, programmingLanguage="python"
        )
    job_facets: Json = {
        "jobType": _facet("JobTypeJobFacet", "2-0-4", processingType="BATCH", integration="MIZZEN", jobType="LOAD")
    }
    if task.source.sql is not None:
        job_facets["sql"] = _facet("SQLJobFacet", "1-1-0", query=task.source.sql.query, dialect="duckdb")
    return {
        "eventType": type_,
        "eventTime": now.isoformat(),
        "producer": PRODUCER,
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": str(uuid.uuid5(_RUN_IDS, f"{task.namespace}/{task.run}")), "facets": run_facets},
        "job": {"namespace": task.namespace, "name": f"dataset.{task.name}", "facets": job_facets},
        "inputs": list(_inputs(task, store)),
        "outputs": [_output(task, store, report)],
    }


def _facet(kind: str, revision: str, **content: Any) -> Json:
    base = {"_producer": PRODUCER, "_schemaURL": f"{_SPEC}/facets/{revision}/{kind}.json#/$defs/{kind}"}
    return {**base, **content}


def dataset_name(url: str) -> Json:
    """The namespace and the name of what lies at a URL, as the specification says they are made."""
    parts = urlsplit(url)
    if parts.scheme in {"", "file"}:
        return {"namespace": "file", "name": unquote(parts.path) or url}
    return {"namespace": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", "name": parts.path.lstrip("/")}


def _inputs(task: IngestTask, store: Store) -> Iterator[Json]:
    for each in task.inputs:
        table = Table(store, task.namespace, each.name)
        version = _facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=str(each.version))
        yield {**dataset_name(table.location), "facets": {"version": version}}
    for pattern in task.source.files or ():
        yield {**dataset_name(pattern), "facets": {}}
    if task.source.sql is not None and task.source.sql.database is not None:
        yield {**dataset_name(task.source.sql.database), "facets": {}}


def _output(task: IngestTask, store: Store, report: LoadReport | None) -> Json:
    table = Table(store, task.namespace, task.name)
    output: Json = dataset_name(table.location)
    if report is None or report.version is None:
        return {**output, "facets": {}}
    facets: Json = {
        "schema": _facet("SchemaDatasetFacet", "1-2-0", fields=[_field(column) for column in report.columns]),
        "version": _facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=str(report.version)),
        "storage": _facet("StorageDatasetFacet", "1-0-1", storageLayer="delta", fileFormat="parquet"),
    }
    if tags := [tag for column in report.columns for tag in _tags(column)]:
        facets["tags"] = _facet("TagsDatasetFacet", "1-0-0", tags=tags)
    if fields := _column_lineage(task, store, report):
        facets["columnLineage"] = _facet("ColumnLineageDatasetFacet", "1-2-0", fields=fields)
    statistics = _facet(
        "OutputStatisticsOutputDatasetFacet", "1-0-2", rowCount=report.rows_added or 0, size=report.bytes or 0
    )
    return {**output, "facets": facets, "outputFacets": {"outputStatistics": statistics}}


def _field(column: Column) -> Json:
    return {"name": column.name, "type": column.type}


def _tags(column: Column) -> Iterator[Json]:
    if column.personal is not None:
        yield {"key": "personal", "value": column.personal, "source": "MIZZEN", "field": column.name}
    for place in column.residency:
        yield {"key": "residency", "value": place, "source": "MIZZEN", "field": column.name}
    for tag in column.tags:
        yield {"key": tag, "value": "true", "source": "MIZZEN", "field": column.name}


def _column_lineage(task: IngestTask, store: Store, report: LoadReport) -> Json:
    """The `fields` of the column lineage facet; empty where it is not known."""
    names = [column.name for column in report.columns]
    if task.source.files is not None:
        places = [dataset_name(pattern) for pattern in task.source.files]
        return {
            name: {"inputFields": [{**place, "field": name, **_done("IDENTITY")} for place in places]}
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
    return [{**places[origin.table], "field": origin.column, **_done(origin.kind)} for origin in ordered]


def _done(kind: str) -> Json:
    return {"transformations": [{"type": "DIRECT", "subtype": kind, "description": "", "masking": False}]}
