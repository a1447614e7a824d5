"""`python -m mizzen.data.features.jobs.materialise`: brings one view online, to a version of its source.

The run is told by its name in the view's status, and does nothing a second time: the online store knows how far the
view has come, whoever began. The version becomes the one that readers get when all of it is in; until then, and where
it cannot be, they get the one before. A view that is not kept online is checked against its source.
"""

import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime

import pyarrow as pa

from mizzen.data.features.columns import US_PER_S
from mizzen.data.features.definition import Definition, expect_no_circle
from mizzen.data.features.errors import StoreUnavailable
from mizzen.data.features.events import columns_read, us_of
from mizzen.data.features.jobs.reporting import JobReporter, failure_told
from mizzen.data.features.jobs.task import MaterialiseTask, digests, use_of
from mizzen.data.features.online import catalog
from mizzen.data.features.online.catalog import Entry, entry_of
from mizzen.data.features.online.materialise import as_they_are, materialise
from mizzen.data.features.online.opening import open_store
from mizzen.data.features.online.store import OnlineStore
from mizzen.data.features.online.view import OnlineView
from mizzen.data.features.online.writer import OnlineWriter, Tally
from mizzen.data.features.pointintime import InMemory, Use, enriched, without_rows
from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import TableVersion
from mizzen.data.pod import read_task, run_to_exit_code
from mizzen.data.pod_api import PodApi
from mizzen.kinds import FeatureView
from mizzen.kinds.data import Column
from mizzen.kinds.features import MaterialisationReport
from mizzen.kube.times import format_time

_LOG = logging.getLogger(__name__)
STEP_ROWS_ENRICHED = 2_000_000
"""Of a view that uses others: each step is a join with all of their rows."""
Clock = Callable[[], datetime]


def materialised(task: MaterialiseTask, lake: Store, online: OnlineStore | None, clock: Clock) -> MaterialisationReport:
    """Brings the view online, or checks it where there is no store. Raises `FeatureError`, `LakeError`, `OSError`."""
    use = use_of(task.target, task.uses, lake)
    known = {use.definition.name: use.definition, **{other.definition.name: other.definition for other in _all(use)}}
    expect_no_circle(known)
    source = use.source
    assert isinstance(source, TableVersion), "a task names tables"
    read = columns_read(use.definition, source.schema.names)  # a column that is missing is told before anything else
    schema = enriched(without_rows(use)).schema
    view = OnlineView(use.definition, schema)
    features = _features(use.definition, view)
    if online is None or not task.online:
        if online is not None:
            catalog.remove(online, task.namespace, task.name)
        return _report(task, clock, use.definition, features, rows_read=0, tally=None)
    views = {at.view.name: at.view for at in [task.target, *task.uses]}
    kept = pa.schema([field for field in schema if field.name in {*read, *use.definition.uses}])
    entry = entry_of(task.target.view, kept, digests(views, task.name))
    catalog.begin(online, task.namespace, entry)
    return _brought(task, clock, use, source, OnlineWriter(online, view, task.namespace), entry, features)


def _brought(
    task: MaterialiseTask,
    clock: Clock,
    use: Use,
    source: TableVersion,
    writer: OnlineWriter,
    entry: Entry,
    features: list[Column],
) -> MaterialisationReport:
    also = [column for other in use.others for column in _key_columns(other)]

    def enrich(rows: pa.Table) -> pa.Table:
        pieces = list(enriched(Use(use.definition, InMemory(rows), others=use.others)).batches())
        return pa.Table.from_batches(pieces)

    done = materialise(
        writer,
        source,
        lambda: us_of(clock()),
        step_rows=STEP_ROWS_ENRICHED if use.others else None,
        enrich=enrich if use.others else as_they_are,
        also=also,
        stepped=lambda place: _LOG.info("%s: %d events are in", task.name, place.tally().rows),
    )
    catalog.serve(writer.store, task.namespace, entry)
    _LOG.info("%s: version %s of its source is online; %d rows were read", task.name, done.version, done.rows)
    told = _report(task, clock, use.definition, features, rows_read=done.rows, tally=writer.place().tally())
    return told.model_copy(update={"incarnation": catalog.incarnation(writer.store)})


def _key_columns(other: Use) -> Iterable[str]:
    """The columns of the rows that a used view is joined by."""
    return [other.keys.get(key.name, key.name) for key in other.definition.keys]


def _all(use: Use) -> list[Use]:
    return [each for other in use.others for each in (other, *_all(other))]


def _features(definition: Definition, view: OnlineView) -> list[Column]:
    stored = [Column(name=slot.name, type=str(slot.type)) for slot in view.layout.slots]
    return [*stored, *(Column(name=asked.name, type=str(asked.type)) for asked in definition.request)]


def _report(
    task: MaterialiseTask,
    clock: Clock,
    definition: Definition,
    features: list[Column],
    *,
    rows_read: int,
    tally: Tally | None,
) -> MaterialisationReport:
    newest = None
    if tally is not None and tally.newest_us >= 0:
        newest = format_time(datetime.fromtimestamp(tally.newest_us // US_PER_S, UTC))
    return MaterialisationReport(
        run=task.run,
        succeeded=True,
        digest=definition.digest,
        source_version=task.target.source_version,
        features=features,
        rows=None if tally is None else tally.rows,
        rows_read=rows_read,
        entities=None if tally is None else tally.entities,
        newest_event=newest,
        finished_at=format_time(clock()),
    )


def run(task: MaterialiseTask, tell: Callable[[MaterialisationReport], None], clock: Clock) -> None:
    """Works and reports. Raises `Failure` for whatever went wrong, after reporting it."""
    with failure_told(MaterialisationReport, task.run, tell, clock):
        lake = Store.open(task.store_url)
        if task.online_url is None:
            report = materialised(task, lake, None, clock)
        else:
            with closing(_opened(task.online_url)) as online:
                report = materialised(task, lake, online, clock)
    tell(report)


def _opened(url: str) -> OnlineStore:
    try:
        return open_store(url)
    except ValueError as error:
        raise StoreUnavailable(f"onlineUrl: {error}") from error


def main() -> int:
    """The process's exit code."""

    def body() -> None:
        task = read_task(MaterialiseTask)
        with PodApi() as api:
            reporter = JobReporter(api, FeatureView, "lastRun", task.namespace, task.name)
            run(task, reporter.report, lambda: datetime.now(UTC))

    return run_to_exit_code(body)


if __name__ == "__main__":
    sys.exit(main())
