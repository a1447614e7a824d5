"""`python -m mizzen.data.features.jobs.audit`: compares recorded online reads of a view with the offline computation.

The reads are those of one version of the view between two moments, from the table that the gateways record them in.
What was found is told in the view's status; the controller makes a condition and an event of it.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from pydantic import Field

from mizzen.data.features.audit import Compared, Reads, audited
from mizzen.data.features.definition import Definition
from mizzen.data.features.events import us_of
from mizzen.data.features.jobs.reporting import FAILURES, JobReporter, as_failure
from mizzen.data.features.jobs.task import ViewAt, use_of
from mizzen.data.lake.errors import StoreUnavailable
from mizzen.data.lake.objects import Store
from mizzen.data.pod import read_task, run_to_exit_code
from mizzen.data.pod_api import PodApi
from mizzen.kinds import FeatureView
from mizzen.kinds.meta import Wire
from mizzen.kinds.skew import FeatureSkew, SkewReport
from mizzen.kube.times import format_time

_LOG = logging.getLogger(__name__)
READS_MAX = 100_000
"""The latest; more say no more."""
FEATURES_TOLD = 10


class AuditTask(Wire):
    """All that the Pod needs."""

    namespace: str
    name: str
    run: str
    store_url: str
    reads: str
    """Path of the table of reads, in the store."""
    digest: str
    """Of the view's version whose reads are compared."""
    since: str
    """RFC 3339; the reads since then."""
    target: ViewAt
    uses: list[ViewAt] = Field(default_factory=list)


def audit(task: AuditTask, store: Store, now: datetime) -> SkewReport:
    """Compares. Raises `FeatureError`, `LakeError`."""
    since, now = datetime.fromisoformat(task.since), now.replace(microsecond=0)
    use = use_of(task.target, task.uses, store)
    reads = recorded(store, task, use.definition, us_of(since), us_of(now))
    compared = audited(reads, use) if reads is not None else []
    return report_of(task.run, compared, 0 if reads is None else len(reads.at_us), format_time(since), format_time(now))


def report_of(run: str, compared: Sequence[Compared], reads: int, since: str, until: str) -> SkewReport:
    """What an audit found, the worst features first."""
    worst = sorted((one for one in compared if one.differing), key=lambda one: (-one.differing, one.feature))
    return SkewReport(
        run=run,
        since=since,
        until=until,
        at=until,
        reads=reads,
        values=sum(one.values for one in compared),
        differing=sum(one.differing for one in compared),
        missing=sum(one.missing for one in compared),
        extra=sum(one.extra for one in compared),
        features=[
            FeatureSkew(
                feature=one.feature,
                differing=one.differing,
                delta_p50=one.quantile(0.5),
                delta_p99=one.quantile(0.99),
            )
            for one in worst[:FEATURES_TOLD]
        ],
    )


def recorded(store: Store, task: AuditTask, definition: Definition, since_us: int, until_us: int) -> Reads | None:
    """The reads of the view's version in that time; `None` where there are none. Raises `StoreUnavailable`."""
    local = store.local_path(f"{task.reads}/_delta_log")
    if local is not None and not local.is_dir():
        return None
    at = pc.field("input_at_us")
    wanted = (pc.field("digest") == task.digest) & (at > since_us) & (at <= until_us)
    columns = [*(f"input_{key.name}" for key in definition.keys), "input_at_us", "feature_values"]
    try:
        table = DeltaTable(store.url_of(task.reads), storage_options=store.table_options)
        rows = table.to_pyarrow_dataset().to_table(columns=columns, filter=wanted)
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        raise StoreUnavailable(f"{task.reads}: {error}") from error
    rows = rows.sort_by([("input_at_us", "descending")]).slice(0, READS_MAX)
    if not len(rows):
        return None
    keys = {key.name: _key(rows.column(f"input_{key.name}")) for key in definition.keys}
    values: list[dict[str, Any]] = [msgspec.json.decode(text) for text in rows.column("feature_values").to_pylist()]
    return Reads(pa.table(keys), rows.column("input_at_us").to_pylist(), values)


def _key(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column if pt.is_integer(column.type) else column.cast(pa.string())


def run(task: AuditTask, tell: Callable[[SkewReport], None], clock: Callable[[], datetime]) -> None:
    """Works and tells. Raises `Failure`."""
    try:
        report = audit(task, Store.open(task.store_url), clock())
    except FAILURES as error:
        raise as_failure(error) from error
    _LOG.info("%s: %d of %d values differ", task.name, report.differing, report.values)
    tell(report)


def main() -> int:
    """The process's exit code."""

    def body() -> None:
        task = read_task(AuditTask)
        with PodApi() as api:
            reporter = JobReporter(api, FeatureView, "skew", task.namespace, task.name)
            run(task, reporter.report, lambda: datetime.now(UTC))

    return run_to_exit_code(body)


if __name__ == "__main__":
    sys.exit(main())
