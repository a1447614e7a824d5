"""Acknowledged rows made versions: one load for each dataset that has segments, at most every `commitEvery`.

The load is the same that a Pod makes (checks, quarantine, profile, retention), with the segments as its source. Where
it fails, the rows stay in their segments, the reason is reported on the Dataset, and the next turn tries again. A
version whose report was lost with a process, or could not be told, is told by the next turn.
"""

import asyncio
import errno
import hashlib
import logging
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from mizzen.data.ingest.loading import NOTHING_NEW, load
from mizzen.data.ingest.task import IngestTask
from mizzen.data.lake.errors import LakeError, SourceMoved
from mizzen.data.lake.objects import Store
from mizzen.data.lake.segments import delete_taken_in, segments_of
from mizzen.data.lake.sql import one_line
from mizzen.data.lake.tables import Table
from mizzen.data.pod import Failure
from mizzen.kinds import Dataset
from mizzen.kinds.data import LoadReport
from mizzen.kinds.scalars import duration_s
from mizzen.kube.times import format_time

log = logging.getLogger(__name__)
Report = Callable[[Dataset, LoadReport], Awaitable[None]]
"""Tells the Dataset's status. Raises `ConnectionError` where it cannot be told now."""


def task_of(dataset: Dataset, store: Store, run: str) -> IngestTask:
    """The load of what waits for a dataset."""
    spec = dataset.spec
    return IngestTask(
        namespace=dataset.namespace,
        name=dataset.name,
        run=run,
        store_url=store.url,
        source=spec.source,
        event_time=spec.event_time,
        time_zone=spec.time_zone,
        load=spec.load,
        partition_by=spec.partition_by,
        retention=spec.retention,
        columns=spec.columns,
        expectations=spec.expectations,
    )


def take_in(dataset: Dataset, store: Store, clock: Callable[[], datetime]) -> LoadReport | None:
    """Makes the dataset's segments a version, unless there are none; the report of it, or of the failure."""
    waiting = segments_of(store, dataset.namespace, dataset.name)
    if not waiting:
        return None
    names = "\n".join(f"{segment.writer}-{segment.number}" for segment in waiting)
    run = f"push-{hashlib.sha256(names.encode()).hexdigest()[:16]}"
    try:
        with tempfile.TemporaryDirectory(prefix="mizzen-push-") as work:
            report = load(task_of(dataset, store, run), store, Path(work), clock)
        table = Table(store, dataset.namespace, dataset.name)
        delete_taken_in(store, dataset.namespace, dataset.name, table.at())
    except SourceMoved:
        return None  # another process takes these rows in
    except (Failure, LakeError, OSError, duckdb.Error) as error:
        return _failed(run, error, clock)
    return report if report.operation != NOTHING_NEW else None


def _failed(run: str, error: Exception, clock: Callable[[], datetime]) -> LoadReport:
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    reason = error.reason if isinstance(error, Failure) else "DiskFull" if full else "StoreFailed"
    message = error.message if isinstance(error, Failure) else one_line(error)
    said = f"{message}; the rows sent since are kept and will be tried again"
    return LoadReport(run=run, succeeded=False, reason=reason, message=said, finished_at=format_time(clock()))


def _untold(dataset: Dataset, store: Store) -> LoadReport | None:
    """The report of the newest version, where the Dataset does not know of it."""
    try:
        newest = Table(store, dataset.namespace, dataset.name).at()
    except LakeError:
        return None  # there is none, or the store is away: nothing to tell now
    if newest.version <= (dataset.status.version or 0) or not newest.facts:
        return None
    return LoadReport.model_validate_json(newest.facts).model_copy(update={"version": newest.version})


class Taker:
    """Takes one dataset's rows in, in the background, whenever there are some."""

    def __init__(self, store: Store, report: Report, dataset_now: Callable[[], Dataset | None]) -> None:
        self._store, self._report, self._dataset_now = store, report, dataset_now
        self._some = asyncio.Event()
        self._some.set()  # segments of a process before this one may be there
        self._last_failure = ""

    def wake(self) -> None:
        """There are rows."""
        self._some.set()

    async def run(self) -> None:
        """Until cancelled, or until the dataset is gone or takes no rows any more."""
        while True:
            await self._some.wait()
            dataset = self._dataset_now()
            if dataset is None or dataset.spec.source.push is None:
                return
            await asyncio.sleep(duration_s(dataset.spec.source.push.commit_every))
            self._some.clear()
            await self.turn(dataset)

    async def turn(self, dataset: Dataset) -> None:
        """One load and its report."""
        report = await asyncio.to_thread(take_in, dataset, self._store, lambda: datetime.now(UTC))
        if report is None:
            report = await asyncio.to_thread(_untold, dataset, self._store)
        if report is None:
            return
        if report.succeeded:
            self._last_failure = ""
            log.info(
                "%s/%s: version %s, %s rows more", dataset.namespace, dataset.name, report.version, report.rows_added
            )
        else:
            self._some.set()
            if report.message == self._last_failure:
                return
            self._last_failure = report.message
            log.warning("%s/%s: %s: %s", dataset.namespace, dataset.name, report.reason, report.message)
        try:
            await self._report(dataset, report)
        except ConnectionError as error:
            log.warning("%s/%s: %s", dataset.namespace, dataset.name, error)
            self._some.set()
