"""One Pod's work: its part of the row groups, and the commit where it is the last to finish.

While one group is asked for, the next is read and made inputs, and the one before is kept: each of the three takes its
own time, and there are never more than these three in memory.
"""

import asyncio
import importlib
import logging
import os
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Protocol

import duckdb
import pyarrow as pa

from mizzen.data.lake.errors import LakeError, ObjectMissing, VersionMissing
from mizzen.data.lake.objects import Store
from mizzen.data.lake.sql import connect, one_line
from mizzen.data.lake.tables import Table, TableVersion
from mizzen.data.pod import TRY_AGAIN, Failure
from mizzen.kinds.batch import BatchResult, BatchShard
from mizzen.kinds.data import LoadReport
from mizzen.policy.batches import failed_max
from mizzen.serving.batch.committing import Commit
from mizzen.serving.batch.decoding import Decoder
from mizzen.serving.batch.encoding import Encoder, Refused
from mizzen.serving.batch.groups import Group, groups_of, read, share
from mizzen.serving.batch.isolating import Isolating
from mizzen.serving.batch.kept import Kept, KeptAnswers
from mizzen.serving.batch.lineage import Lineage
from mizzen.serving.batch.predictor import Gone, Predictor
from mizzen.serving.batch.task import BatchReporter, BatchTask, Clock
from mizzen.serving.tensors import Tensor

log = logging.getLogger("mizzen.batch")
RATE_OVER_S = 10.0
CACHE_URL = "MIZZEN_CACHE_REDIS"
Tell = Callable[[str], None]


class CacheFilling(Protocol):
    """Who puts answers into an endpoint's cache (`filling`), which needs a library that others need not have."""

    async def fill(
        self, inputs: Sequence[Tensor], rows: int, answers: Sequence[Sequence[Tensor]], refused: Refused
    ) -> None: ...
    async def close(self) -> None: ...


OpenPredictor = Callable[[BatchTask, Tell], AbstractAsyncContextManager[Predictor]]


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done, after everything that can be checked beforehand was."""

    version: TableVersion
    groups: Sequence[Group]
    encoder: Encoder
    decoder: Decoder
    selection: "Selection"
    columns: Sequence[str]
    """Of the dataset, that are read."""


class Selection:
    """The rows of which `where` is true."""

    def __init__(self, where: str | None, schema: pa.Schema, folder: Path) -> None:
        """Raises `Failure` where it is no condition over these columns."""
        self._where = where
        if where is None:
            return
        self._connection = connect(folder)
        self._connection.execute("SET enable_external_access = false")
        self.of(schema.empty_table())

    def of(self, rows: pa.Table) -> pa.Table:
        """In their order."""
        if self._where is None:
            return rows
        try:
            return self._connection.from_arrow(rows).filter(self._where).to_arrow_table().cast(rows.schema)
        except duckdb.Error as error:
            message = f"spec.input.where: expected a condition over the dataset's columns, got {self._where!r}: "
            raise Failure("BadSelection", message + one_line(error)) from error


def prepared(task: BatchTask, store: Store, folder: Path) -> Work:
    """Everything that can be wrong with the input is found here. Raises `Failure`."""
    what = f"dataset {task.input.name} at version {task.input.version}"
    try:
        version = Table(store, task.namespace, task.input.name).at(task.input.version)
    except VersionMissing as error:
        raise Failure("DatasetMissing", f"spec.input.dataset: {error}") from error
    encoder = Encoder(task.signature, version.schema, task.columns, what, task.personal)
    decoder = Decoder(task.output, task.signature, version.schema, what)
    selection = Selection(task.where, version.schema, folder)
    needed = {*encoder.columns, *decoder.columns}
    columns = [name for name in version.schema.names if name in needed or task.where is not None]
    groups = groups_of([file.rows for file in version.files], task.group_rows)
    return Work(version, groups, encoder, decoder, selection, columns or version.schema.names[:1])


class BatchPod:
    """The `index`-th Pod of a run."""

    def __init__(
        self,
        task: BatchTask,
        index: int,
        reporter: BatchReporter,
        predictors: Sequence[OpenPredictor],
        clock: Clock,
    ) -> None:
        """`predictors`: who is asked, and who instead where that one is gone."""
        self._task, self._index = task, index
        self._reporter, self._predictors, self._clock = reporter, predictors, clock
        self._shard = BatchShard()
        self._filling: CacheFilling | None = None
        self._lineage: Lineage | None = None
        self._pace: deque[tuple[float, int]] = deque()

    async def run(self) -> None:
        """Raises `Failure` for whatever went wrong, after reporting it."""
        try:
            store = Store.open(self._task.store_url)
            self._lineage = Lineage(self._task, store, self._clock)
            with tempfile.TemporaryDirectory(prefix="mizzen-batch-") as folder:
                report = await self._run(store, Path(folder))
        except (Failure, LakeError, OSError, duckdb.Error) as error:
            failure = _as_failure(error)
            if failure.exit_code != TRY_AGAIN:
                self._tell_lineage(lambda lineage: lineage.failed(failure.message))
                self._tell_end(BatchResult(succeeded=False, reason=failure.reason, message=failure.message))
            raise failure from error
        if report is not None:
            log.info("%s: version %s with %s rows", self._task.run, report.version, report.rows)

    async def _run(self, store: Store, folder: Path) -> LoadReport | None:
        """The report of the version, where this Pod committed it."""
        name = self._task.kept_in or self._task.run
        kept = KeptAnswers(store, self._task.folder, name)
        work = await asyncio.to_thread(prepared, self._task, store, folder)
        commit = Commit(self._task, store, work.decoder, kept, folder, self._clock)
        report = await asyncio.to_thread(commit.made)
        if report is None:
            if self._index == 0:
                self._tell_lineage(Lineage.began)
                await asyncio.to_thread(kept.forget_others, frozenset({name, *self._task.active}))
            await asyncio.to_thread(commit.expect_fitting)
            await self._compute(work, kept)
            found = await asyncio.to_thread(kept.found)
            if len(found) < len(work.groups):
                log.info("%s: this part is done; others are not", self._task.run)
                return None
            report = await asyncio.to_thread(_made, commit, [found[group.number] for group in work.groups])
        columns = work.decoder.kept, work.encoder.columns
        self._tell_lineage(lambda lineage: lineage.made(report, *columns))
        self._finished(report, commit)
        await asyncio.to_thread(kept.forget)
        return report

    def _tell_lineage(self, tell: Callable[[Lineage], None]) -> None:
        if self._lineage is not None:
            tell(self._lineage)

    def _finished(self, report: LoadReport, commit: Commit) -> None:
        result = BatchResult(
            succeeded=True,
            version=report.version,
            rows=report.rows_added,
            failed_rows=commit.failed_in(report),
            example=commit.example_in(report),
        )
        try:
            self._reporter.loaded(report)
        except ConnectionError as error:
            raise Failure("ReportFailed", f"the API server cannot be told: {error}", exit_code=TRY_AGAIN) from error
        self._tell_end(result)

    def _tell_end(self, result: BatchResult) -> None:
        try:
            self._reporter.finish(result)
        except ConnectionError as error:
            raise Failure("ReportFailed", f"the API server cannot be told: {error}", exit_code=TRY_AGAIN) from error

    async def _compute(self, work: Work, kept: KeptAnswers) -> None:
        """Asks for the groups of this Pod that are not kept yet, by one predictor or, where it is gone, the next."""
        last = ""
        for open_predictor in self._predictors:
            try:
                await self._compute_by(open_predictor, work, kept)
                return
            except Gone as error:
                log.warning("%s: %s", self._task.run, error)
                last = str(error)
        raise Failure("VersionGone", last)

    async def _compute_by(self, open_predictor: OpenPredictor, work: Work, kept: KeptAnswers) -> None:
        task = self._task
        found = await asyncio.to_thread(kept.found)
        mine = share(work.groups, self._index, task.parallelism)
        missing = [group for group in mine if group.number not in found]
        self._begin(mine, found)
        if not missing:
            return
        limit = failed_max(task.error_limit, sum(group.rows for group in work.groups))
        async with open_predictor(task, self._waits) as predictor, self._cache_filled():
            isolating = Isolating(predictor, predictor.rows_max, limit, self._waits)
            isolating.failed = self._shard.failed_rows
            isolating.succeeded = self._shard.rows_done - self._shard.failed_rows
            keeping: asyncio.Task[None] | None = None
            try:
                async for group, rows, inputs, refused in _inputs(work, missing):
                    answers, others = await self._answers(isolating, inputs, rows.num_rows - len(refused), refused)
                    if keeping is not None:
                        await keeping
                    keeping = asyncio.create_task(self._keep(work, kept, group, rows, answers, others))
                if keeping is not None:
                    await keeping
            finally:
                if keeping is not None and not keeping.done():
                    keeping.cancel()

    async def _answers(
        self, isolating: Isolating, inputs: Sequence[Tensor], count: int, refused: Refused
    ) -> tuple[list[Sequence[Tensor]], Refused]:
        """The answers of a group's rows, and all that were refused, by their place in the group."""
        if refused:
            isolating.note_refused(len(refused), next(iter(refused.values())))
        answers, later = await isolating.answer(inputs, count)
        if self._filling is not None:
            await self._filling.fill(inputs, count, answers, later)
        if not refused:
            return answers, later
        asked = [place for place in range(count + len(refused)) if place not in refused]
        return answers, {**refused, **{asked[place]: why for place, why in later.items()}}

    async def _keep(
        self,
        work: Work,
        kept: KeptAnswers,
        group: Group,
        rows: pa.Table,
        answers: Sequence[Sequence[Tensor]],
        refused: Refused,
    ) -> None:
        def write() -> None:
            out, aside = work.decoder.rows(rows, answers, refused, self._task.run)
            kept.keep(group.number, out, len(refused), aside)

        await asyncio.to_thread(write)
        self._done(group.rows, len(refused))

    @asynccontextmanager
    async def _cache_filled(self) -> AsyncIterator[None]:
        """The endpoint's cache is filled meanwhile, where that is asked for."""
        if self._task.cache is None:
            yield
            return
        url = os.environ.get(CACHE_URL)
        if not url:
            message = f"spec.env: expected {CACHE_URL}, the Redis of spec.output.cache's endpoint, found none"
            raise Failure("NoCache", message)
        try:
            filling = importlib.import_module("mizzen.serving.batch.filling").CacheFilling(self._task, url)
        except ImportError as error:
            raise Failure("NoCache", "spec.output.cache: expected the package redis in the image") from error
        except ValueError as error:
            raise Failure("NoCache", f"{CACHE_URL}: {error}") from error
        self._filling = filling
        try:
            yield
        finally:
            self._filling = None
            await filling.close()

    # What is told

    def _begin(self, mine: Sequence[Group], found: Mapping[int, Kept]) -> None:
        done = [group for group in mine if group.number in found]
        self._pace.clear()
        self._shard = BatchShard(
            rows_total=sum(group.rows for group in mine),
            rows_done=sum(group.rows for group in done),
            failed_rows=sum(found[group.number].failed for group in done),
        )
        self._done(0, 0)

    def _done(self, rows: int, failed: int) -> None:
        shard = self._shard
        shard.rows_done += rows
        shard.failed_rows += failed
        now_s = asyncio.get_running_loop().time()
        self._pace.append((now_s, shard.rows_done))
        while len(self._pace) > 2 and now_s - self._pace[1][0] > RATE_OVER_S:
            self._pace.popleft()
        began_s, began = self._pace[0]
        shard.rows_per_s = round((shard.rows_done - began) / (now_s - began_s), 1) if now_s > began_s else 0.0
        self._report()

    def _waits(self, what: str) -> None:
        if self._shard.waits != what:
            self._shard.waits = what
            self._report()

    def _report(self) -> None:
        self._shard.updated_at = f"{self._clock().astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        self._reporter.progress(self._shard.model_copy())


def _made(commit: Commit, groups: Sequence[Kept]) -> LoadReport:
    """The report of the version, made now. What is kept may go meanwhile: another Pod has committed it then."""
    try:
        return commit.make(groups)
    except ObjectMissing:
        report = commit.made()
        if report is None:
            raise
        return report


async def _inputs(work: Work, groups: Sequence[Group]) -> AsyncIterator[tuple[Group, pa.Table, list[Tensor], Refused]]:
    """Each group with its rows and the model's inputs, one ahead of who asks."""
    source = read(work.version, groups, work.columns)

    def following() -> tuple[Group, pa.Table, list[Tensor], Refused] | None:
        found = next(source, None)
        if found is None:
            return None
        group, rows = found
        rows = work.selection.of(rows)
        return group, rows, *work.encoder.encode(rows)

    ahead = asyncio.create_task(asyncio.to_thread(following))
    try:
        while (one := await ahead) is not None:
            ahead = asyncio.create_task(asyncio.to_thread(following))
            yield one
    finally:
        await asyncio.wait((ahead,))  # a thread cannot be stopped: its group is read to the end
        if not ahead.cancelled():
            ahead.exception()


def _as_failure(error: Exception) -> Failure:
    if isinstance(error, Failure):
        return error
    reason = "StoreFailed" if isinstance(error, LakeError) else "InternalError"
    return Failure(reason, one_line(error), exit_code=TRY_AGAIN)
