"""What a loading Pod does: reads its task, loads, reports, and ends with the right exit code."""

import errno
import logging
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from mizzen.data.ingest.lineage import told
from mizzen.data.ingest.loading import Clock, ExpectationsFailed, load
from mizzen.data.ingest.reporting import StatusReporter
from mizzen.data.ingest.task import IngestTask, LoadReporter
from mizzen.data.lake.errors import LakeError, RowsUnfit, SourceMoved
from mizzen.data.lake.objects import Store
from mizzen.data.lake.sql import one_line
from mizzen.data.pod import TRY_AGAIN, Failure, read_task, run_to_exit_code
from mizzen.data.pod_api import PodApi
from mizzen.kinds.data import LoadReport
from mizzen.kube.times import format_time

_LOG = logging.getLogger(__name__)


def ingest(task: IngestTask, reporter: LoadReporter, clock: Clock) -> None:
    """Loads and reports. Raises `Failure` for whatever went wrong, after reporting it."""
    try:
        store = Store.open(task.store_url)
        with tempfile.TemporaryDirectory(prefix="mizzen-ingest-") as work, told(task, store, clock) as ending:
            report = ending.report = load(task, store, Path(work), clock)
    except (Failure, LakeError, OSError, duckdb.Error) as error:
        failure = _as_failure(error)
        _tell(reporter, _failed(task, failure, error, clock))
        raise failure from error
    _tell(reporter, report)
    _LOG.info("%s: version %s with %s rows", task.name, report.version, report.rows)


def _as_failure(error: Exception) -> Failure:
    if isinstance(error, Failure):
        return error
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return Failure(
            "DiskFull", f"{tempfile.gettempdir()}: no space left for the rows on their way", exit_code=TRY_AGAIN
        )
    if isinstance(error, SourceMoved):
        return Failure("TableMoved", one_line(error), exit_code=TRY_AGAIN)
    if isinstance(error, RowsUnfit):
        return Failure("WrongColumns", one_line(error))
    reason = "StoreFailed" if isinstance(error, LakeError) else "InternalError"
    return Failure(reason, one_line(error), exit_code=TRY_AGAIN)


def _failed(task: IngestTask, failure: Failure, error: BaseException, clock: Clock) -> LoadReport:
    return LoadReport(
        run=task.run,
        succeeded=False,
        reason=failure.reason,
        message=failure.message,
        checks=error.results if isinstance(error, ExpectationsFailed) else [],
        finished_at=format_time(clock()),
    )


def _tell(reporter: LoadReporter, report: LoadReport) -> None:
    try:
        reporter.report(report)
    except ConnectionError as error:
        raise Failure("ReportFailed", f"the API server cannot be told: {error}", exit_code=TRY_AGAIN) from error


def _now() -> datetime:
    return datetime.now(UTC)


def main() -> int:
    """The process's exit code."""

    def body() -> None:
        task = read_task(IngestTask)
        with PodApi() as api:
            ingest(task, StatusReporter(api, task), _now)

    return run_to_exit_code(body)
