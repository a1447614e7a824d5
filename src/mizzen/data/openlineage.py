"""OpenLineage events: where they go, and what those of all kinds of runs have in common.

They go where the platform's settings say: one line each to a file, to an HTTP endpoint (`…/api/v1/lineage`), or
nowhere. A run never fails for them: an event that cannot be told is a line in the log. No event holds a row's value.

The events follow the specification's version 2-0-2 (openlineage.io/spec) and its naming of datasets.
"""

import json
import logging
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import httpx2

from mizzen.data.lake.errors import LakeError
from mizzen.kinds.data import Column, LoadReport

log = logging.getLogger(__name__)
PRODUCER = "https://mizzen.dev/mizzen"
_SPEC = "https://openlineage.io/spec"
_RUN_IDS = uuid.UUID("6f0c3a52-7d4e-4e0c-9c55-0a4c8c7b9e61")
"""The namespace of run ids: the same run has the same id in all its events, whoever sends them."""
TIMEOUT_S = 5.0
Json = dict[str, Any]
Tell = Callable[[Json], None]
EventType = Literal["START", "COMPLETE", "FAIL"]


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


def tell_of(tell: Tell, event: Callable[[], Json]) -> None:
    try:
        tell(event())
    except (OSError, LakeError, httpx2.HTTPError) as error:
        log.warning("a lineage event could not be told: %s", error)


@dataclass(frozen=True, slots=True)
class Told:
    """The run that an event is of."""

    namespace: str
    run: str
    job: str
    """What it is a run of: `dataset.flights`."""
    job_type: str
    """`LOAD`, `PREDICTION`."""


def run_event(
    of: Told, type_: EventType, now: datetime, inputs: list[Json], output: Json, error: str = "", **job_facets: Json
) -> Json:
    """One `RunEvent`."""
    run_facets: Json = {"processing_engine": facet("ProcessingEngineRunFacet", "1-1-1", name="mizzen", version="1")}
    if error:
        run_facets["errorMessage"] = facet("ErrorMessageRunFacet", "1-0-1", message=error, programmingLanguage="python")
    kind = facet("JobTypeJobFacet", "2-0-4", processingType="BATCH", integration="MIZZEN", jobType=of.job_type)
    return {
        "eventType": type_,
        "eventTime": now.isoformat(),
        "producer": PRODUCER,
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": str(uuid.uuid5(_RUN_IDS, f"{of.namespace}/{of.run}")), "facets": run_facets},
        "job": {"namespace": of.namespace, "name": of.job, "facets": {"jobType": kind, **job_facets}},
        "inputs": inputs,
        "outputs": [output],
    }


def facet(kind: str, revision: str, **content: Any) -> Json:
    base = {"_producer": PRODUCER, "_schemaURL": f"{_SPEC}/facets/{revision}/{kind}.json#/$defs/{kind}"}
    return {**base, **content}


def dataset_name(url: str) -> Json:
    """The namespace and the name of what lies at a URL, as the specification says they are made."""
    parts = urlsplit(url)
    if parts.scheme in {"", "file"}:
        return {"namespace": "file", "name": unquote(parts.path) or url}
    return {"namespace": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", "name": parts.path.lstrip("/")}


def input_of(location: str, version: int) -> Json:
    """A version of a table that was read."""
    read = facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=str(version))
    return {**dataset_name(location), "facets": {"version": read}}


def output_of(location: str, report: LoadReport | None, column_lineage: Json) -> Json:
    """The version of a table that was made, where one was; `column_lineage` is the facet's `fields`."""
    output: Json = dataset_name(location)
    if report is None or report.version is None:
        return {**output, "facets": {}}
    facets: Json = {
        "schema": facet("SchemaDatasetFacet", "1-2-0", fields=[_field(column) for column in report.columns]),
        "version": facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=str(report.version)),
        "storage": facet("StorageDatasetFacet", "1-0-1", storageLayer="delta", fileFormat="parquet"),
    }
    if tags := [tag for column in report.columns for tag in _tags(column)]:
        facets["tags"] = facet("TagsDatasetFacet", "1-0-0", tags=tags)
    if column_lineage:
        facets["columnLineage"] = facet("ColumnLineageDatasetFacet", "1-2-0", fields=column_lineage)
    statistics = facet(
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


def done(kind: str) -> Json:
    """What became of an input's field on its way, as the column lineage facet says it."""
    return {"transformations": [{"type": "DIRECT", "subtype": kind, "description": "", "masking": False}]}
