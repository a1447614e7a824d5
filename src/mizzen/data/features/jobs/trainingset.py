"""`python -m mizzen.data.features.jobs.trainingset`: makes one training set, alone or as one of several.

Of several, each computes its share of the entities and keeps it in the store, and whoever then finds all shares there
puts the set together. That may be two at once, or one that was started again: the set is committed under its id, once.
Everything is read from the store and written to it, so that the Pods may run anywhere.
"""

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from mizzen.data.features.definition import definition_of, expect_no_circle
from mizzen.data.features.jobs.reporting import JobReporter, failure_told
from mizzen.data.features.jobs.task import ViewAt, digests, shared_keys
from mizzen.data.features.pointintime import Clocks, expect_names
from mizzen.data.features.split import KeptShares, Share, share_of, whole
from mizzen.data.features.training_sets import From, build, keep, made_before, record_of
from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table, TableVersion
from mizzen.data.pod import read_task, run_to_exit_code
from mizzen.data.pod_api import PodApi
from mizzen.kinds import TrainingJob
from mizzen.kinds.meta import Wire
from mizzen.kinds.trainingsets import Spine, TakenView, TrainingSetReport
from mizzen.kube.times import format_time

_LOG = logging.getLogger(__name__)
Clock = Callable[[], datetime]


class Taken(Wire):
    """What is taken of one view."""

    at: ViewAt
    taken: TakenView


class TrainingSetTask(Wire):
    """All that a Pod needs that makes a training set, or a share of it."""

    namespace: str
    name: str
    """The training job's."""
    run: str
    store_url: str
    table: str
    spine: Spine
    """With the version to read."""
    views: list[Taken]
    uses: list[ViewAt] = Field(default_factory=list)
    """The views that those build upon."""
    parts: int = 1

    @property
    def clocks(self) -> Clocks:
        """The spine's."""
        spine = self.spine
        return Clocks(spine.time, spine.known, everything=spine.everything, time_zone=spine.time_zone)

    def froms(self, store: Store) -> list[From]:
        """What is taken, with the versions it is taken of."""
        others = {at.view.name: at for at in self.uses}
        views = {name: at.view for name, at in others.items()}
        for each in self.views:
            known = {**views, each.at.view.name: each.at.view}
            expect_no_circle({name: definition_of(view, digests(known, name)) for name, view in known.items()})

        def made(at: ViewAt, keys: dict[str, str], **more: Any) -> From:
            definition = definition_of(at.view)
            columns = {key.name: key.column for key in definition.keys}
            used = [others[name] for name in at.view.spec.uses if name in others]
            below = tuple(made(o, shared_keys(definition_of(o.view), columns)) for o in used)
            return From(at.view, at.source(store), keys=keys, others=below, **more)

        return [
            made(each.at, each.taken.keys, features=tuple(each.taken.features) or None, prefix=each.taken.prefix,
                 is_label=each.taken.label)
            for each in self.views
        ]  # fmt: skip


def made_set(task: TrainingSetTask, store: Store, index: int, work: Path) -> TableVersion | None:
    """The set, or `None` where other shares of it are not there yet. Raises `FeatureError`, `LakeError`, `OSError`."""
    spine = Table(store, task.namespace, task.spine.dataset).at(task.spine.version)
    froms = task.froms(store)
    if task.parts == 1:
        return build(store, task.namespace, task.table, spine, froms, task.clocks, work=work)
    record = record_of(task.table, spine, froms, task.clocks)
    made = made_before(store, task.namespace, record)
    if made is not None:
        return made
    uses = [each.use() for each in froms]
    expect_names(spine.schema, uses, task.clocks)
    folder = f"trainingsets-parts/{task.namespace}/{record.id}/{task.parts}"
    kept = KeptShares(store, folder, task.parts, len(uses))
    share = Share(index, task.parts)
    kept.keep(
        index, lambda number: share_of(uses[number], spine, task.clocks, share, work=work / "join"), work / "made"
    )
    _LOG.info("%s: share %d of %d is there", task.table, index, task.parts)
    if not kept.are_all_kept:
        return None
    shares = [kept.table(number, work / f"view-{number}") for number in range(len(uses))]
    made = keep(store, task.namespace, record, spine, whole(spine, uses, task.clocks, shares), work)
    kept.drop()
    return made


def run(task: TrainingSetTask, index: int, tell: Callable[[TrainingSetReport], None], clock: Clock, work: Path) -> None:
    """Works and, where the set is made, reports. Raises `Failure` for whatever went wrong, after reporting it."""
    with failure_told(TrainingSetReport, task.run, tell, clock):
        made = made_set(task, Store.open(task.store_url), index, work)
    if made is None:
        return
    _LOG.info("%s: version %d with %d rows", task.table, made.version, made.rows)
    tell(
        TrainingSetReport(
            run=task.run,
            succeeded=True,
            id=made.run or "",
            table=task.table,
            version=made.version,
            digest=made.digest,
            rows=made.rows,
            finished_at=format_time(clock()),
        )
    )


def main() -> int:
    """The process's exit code."""

    def body() -> None:
        task = read_task(TrainingSetTask)
        index = int(os.environ.get("JOB_COMPLETION_INDEX", "0"))
        work = Path(tempfile.mkdtemp(prefix="mizzen-set-"))
        try:
            with PodApi() as api:
                reporter = JobReporter(api, TrainingJob, "trainingSet", task.namespace, task.name)
                run(task, index, reporter.report, lambda: datetime.now(UTC), work)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    return run_to_exit_code(body)


if __name__ == "__main__":
    sys.exit(main())
