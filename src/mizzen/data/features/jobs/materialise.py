"""`python -m mizzen.data.features.jobs.materialise`: brings one view online, to a version of its source.

The run is told by its name in the view's status, and does nothing a second time: the online store knows how far the
view has come, whoever began. The version becomes the one that readers get when all of it is in; until then, and where
it cannot be, they get the one before. A view that is not kept online is checked against its source.

Of several Pods each makes the records of its share of the entities and keeps them in the store, and whoever then finds
all shares there puts them into the online store and reports. That is for a version's first filling; its increments are
the first Pod's.
"""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from mizzen.data.features.columns import US_PER_S
from mizzen.data.features.definition import Definition, expect_no_circle
from mizzen.data.features.errors import StoreUnavailable
from mizzen.data.features.events import columns_read, us_of
from mizzen.data.features.jobs.reporting import JobReporter, failure_told
from mizzen.data.features.jobs.task import MaterialiseTask, digests, use_of
from mizzen.data.features.online import catalog
from mizzen.data.features.online.catalog import entry_of
from mizzen.data.features.online.filling import can_be_shared, fill, records_of
from mizzen.data.features.online.materialise import Materialised, as_they_are, materialise
from mizzen.data.features.online.opening import open_store
from mizzen.data.features.online.store import OnlineStore
from mizzen.data.features.online.view import OnlineView
from mizzen.data.features.online.writer import OnlineWriter, Place, Tally
from mizzen.data.features.pointintime import InMemory, Use, enriched, without_rows
from mizzen.data.features.split import KeptShares, Share
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


@dataclass(frozen=True, slots=True)
class Pod:
    """Which Pod of a run this is, and where it may work."""

    lake: Store
    online: OnlineStore | None
    clock: Clock
    work: Path
    """A folder for what does not fit into memory."""
    index: int = 0


def materialised(task: MaterialiseTask, pod: Pod) -> MaterialisationReport | None:
    """Brings the view online, or checks it where there is no store; `None` where that is left to another Pod.

    Raises `FeatureError`, `LakeError`, `OSError`.
    """
    lake, online, clock = pod.lake, pod.online, pod.clock
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
    writer = OnlineWriter(online, view, task.namespace)
    done = _brought(task, pod, use, source, writer)
    if done is None:
        return None
    catalog.serve(online, task.namespace, entry)
    _LOG.info("%s: version %s of its source is online; %d rows were read", task.name, done.version, done.rows)
    told = _report(task, clock, use.definition, features, rows_read=done.rows, tally=writer.place().tally())
    return told.model_copy(update={"incarnation": catalog.incarnation(online)})


def _brought(
    task: MaterialiseTask, pod: Pod, use: Use, source: TableVersion, writer: OnlineWriter
) -> Materialised | None:
    """By shares where there are several Pods and nothing is online yet, else in steps."""
    if task.parts > 1:
        named = f"{use.definition.version}-{source.table_id[:12]}-{source.version}-{task.parts}"
        folder = f"featureviews-parts/{task.namespace}/{task.name}/{named}"
        if can_be_shared(writer.place(), folder):
            kept = KeptShares(pod.lake, folder, task.parts)
            return _filled(task, pod, use, source, writer, kept)
        if pod.index and writer.place().complete < source.version:
            return None
    return _in_steps(task, pod, use, source, writer)


def _filled(
    task: MaterialiseTask, pod: Pod, use: Use, source: TableVersion, writer: OnlineWriter, kept: KeptShares
) -> Materialised | None:
    share, as_of_us = Share(pod.index, task.parts), us_of(pod.clock())
    kept.keep(pod.index, lambda _: records_of(writer.view, use, share, as_of_us, work=pod.work), pod.work / "made")
    _LOG.info("%s: share %d of %d is there", task.name, pod.index, task.parts)
    if not kept.are_all_kept:
        return None
    tables = kept.table(0, pod.work / "shares")
    done = fill(writer, source, kept.folder, tables, lambda: us_of(pod.clock()), stepped=_telling(task))
    kept.drop()
    return done or _in_steps(task, pod, use, source, writer)


def _telling(task: MaterialiseTask) -> Callable[[Place], None]:
    return lambda place: _LOG.info("%s: %d events are in", task.name, place.tally().rows)


def _in_steps(task: MaterialiseTask, pod: Pod, use: Use, source: TableVersion, writer: OnlineWriter) -> Materialised:
    also = [column for other in use.others for column in _key_columns(other)]

    def enrich(rows: pa.Table) -> pa.Table:
        pieces = list(enriched(Use(use.definition, InMemory(rows), others=use.others)).batches())
        return pa.Table.from_batches(pieces)

    return materialise(
        writer,
        source,
        lambda: us_of(pod.clock()),
        step_rows=STEP_ROWS_ENRICHED if use.others else None,
        enrich=enrich if use.others else as_they_are,
        also=also,
        stepped=_telling(task),
    )


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


def run(
    task: MaterialiseTask, tell: Callable[[MaterialisationReport], None], clock: Clock, work: Path, index: int = 0
) -> None:
    """Works and, where the run is done, reports. Raises `Failure` for whatever went wrong, after reporting it."""
    with failure_told(MaterialisationReport, task.run, tell, clock), ExitStack() as stack:
        online = None if task.online_url is None else stack.enter_context(closing(_opened(task.online_url)))
        report = materialised(task, Pod(Store.open(task.store_url), online, clock, work, index))
    if report is not None:
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
        index = int(os.environ.get("JOB_COMPLETION_INDEX", "0"))
        with PodApi() as api, tempfile.TemporaryDirectory(prefix="mizzen-view-") as work:
            reporter = JobReporter(api, FeatureView, "lastRun", task.namespace, task.name)
            run(task, reporter.report, lambda: datetime.now(UTC), Path(work), index)

    return run_to_exit_code(body)


if __name__ == "__main__":
    sys.exit(main())
