"""One load: source -> spool -> checks -> commit.

Rows go chunk by chunk into Parquet files of the Pod's work folder (`spooling.py`); the checks run over those; then the
same files become part of the table's next version in one commit. Nothing of a load is visible before, and a load that
fails, or is killed at any moment, leaves the table as it was. The report is kept in the commit, with the profile of the
version and the place where the load ended, so a repeated load that finds its version there reports the same again, and
the next one begins where this one ended.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from mizzen.data.ingest.checking import Beside, SpooledRows, count_result
from mizzen.data.ingest.conforming import Fitting, conforming
from mizzen.data.ingest.expectations import Check, CountCheck, RowCheck, checks_of
from mizzen.data.ingest.place import KEPT_AS, Place, expect_unmoved, is_by_parts, place_of, source_digest, watermark_of
from mizzen.data.ingest.profiling import profile_of
from mizzen.data.ingest.reading import FILE_COLUMN, Reading
from mizzen.data.ingest.sources import open_source, since_of
from mizzen.data.ingest.spooling import EXPECTED, Spool, spooled
from mizzen.data.ingest.task import IngestTask
from mizzen.data.lake.changes import NewRows, appending, replacing, restoring, upserting
from mizzen.data.lake.errors import RowsUnfit, VersionMissing
from mizzen.data.lake.log import DataFile
from mizzen.data.lake.objects import Store, hex_of
from mizzen.data.lake.partitions import expect_partitionable
from mizzen.data.lake.parts import Part
from mizzen.data.lake.retention import oldest_to_keep, sweep
from mizzen.data.lake.tables import QUARANTINE, Plan, Table, TableVersion, Totals, columns_of, version_digest
from mizzen.data.pod import Failure
from mizzen.kinds.data import CheckResult, Column, LoadReport
from mizzen.kinds.scalars import duration_s
from mizzen.kube.times import format_time

Clock = Callable[[], datetime]
NOTHING_NEW = "nothing new"


class ExpectationsFailed(Failure):
    """The rows break a check that a version must pass."""

    def __init__(self, results: list[CheckResult], message: str) -> None:
        super().__init__("ExpectationsFailed", message)
        self.results = results


def load(task: IngestTask, store: Store, work: Path, clock: Clock) -> LoadReport:
    """Makes the task's rows a version of its table, unless this run did so before; returns the report of it.

    Raises `Failure` where the source, the columns or the checks are at fault; `LakeError` where the store is.
    """
    return Load(task, store, work, clock).run()


class Load:
    """One load, from what is there to what is reported."""

    def __init__(self, task: IngestTask, store: Store, work: Path, clock: Clock) -> None:
        self.task, self.store, self.work, self.clock = task, store, work, clock
        self.table = Table(store, task.namespace, task.name)
        self.side_table = Table(store, task.namespace, task.name, folder=QUARANTINE)
        self.results: list[CheckResult] = []
        self.aside: Spool | None = None

    def run(self) -> LoadReport:
        """The whole of it."""
        if (committed := self.table.committed_by(self.task.run)) is not None:
            return _report_of(committed.facts, committed.version)
        if self.task.restore is not None:
            return self._restored(self.task.restore)
        base = self.table.at() if self.table.exists() else None
        place = place_of(base, self.task)
        reading = open_source(self.task, self.store, base, place, self.work)
        mode = self._mode(base, place)
        spool = self._spooled(reading, base, place, mode)
        by_parts = place is not None or self.task.source.push is not None
        nothing = (spool is None or spool.rows == 0) and not (reading.changed or reading.transactions)
        if by_parts and base is not None and nothing:
            return self._nothing_new(base)
        if spool is None:
            raise Failure("SourceFailed", f"the source yielded nothing: expected {EXPECTED}, at least one of them")
        return self._committed(spool, reading, base, place, mode)

    def _mode(self, base: TableVersion | None, place: Place | None) -> str:
        """What the rows do to those that are there."""
        if base is None or (is_by_parts(self.task) and place is None):
            return "replace"
        mode = self.task.load.mode
        return "append" if mode == "replace" and self.task.source.push is not None else mode

    def _spooled(self, reading: Reading, base: TableVersion | None, place: Place | None, mode: str) -> Spool | None:
        """The source's rows as they are kept, on this machine."""
        task, policy = self.task, self.task.load.on_new_schema
        fits = base is not None and (mode != "replace" or policy is not None)
        columns = base.schema if base is not None and fits else None
        # What is pushed was checked against the columns that the spec declares: these are no surprise.
        policy = policy or ("addColumns" if task.source.push is not None else "fail")
        fitting = Fitting(columns, policy, reading.untyped, task.event_time, task.time_zone)
        rows = conforming(reading.tables, fitting)
        since = since_of(task, place)
        return spooled(since.above(rows) if since is not None else rows, self.work, task)

    def _committed(
        self, spool: Spool, reading: Reading, base: TableVersion | None, place: Place | None, mode: str
    ) -> LoadReport:
        task, greatest = self.task, spool.greatest
        checks = checks_of(task.expectations, spool.schema, task.event_time)
        try:
            expect_partitionable(spool.schema, task.partition_by)
        except RowsUnfit as error:
            raise Failure("WrongColumns", str(error)) from error
        key = self._key(mode)
        beside = Beside(base, key) if base is not None and mode != "replace" else None
        spool = self._checked(spool, checks, beside)
        if self.aside is not None:
            self._set_aside(self.aside, mode)
        end = Place(source_digest(task), watermark_of(greatest, place), reading.files) if is_by_parts(task) else None
        rows = NewRows(
            spool.parts,
            spool.schema,
            facts=lambda base, totals: self._facts(checks, spool, base, totals, mode),
            attachment=lambda base, operation, content: self._attachment(base, operation, content, spool, end, reading),
            partition_by=tuple(task.partition_by),
            oldest=self._oldest,
            expected=lambda base: self._expect_unmoved(base, place, reading),
            transactions=reading.transactions,
        )
        version = self.table.change(task.run, self._plan(rows, mode, key, reading))
        assert version is not None, "there is a change to make"
        if task.retention.versions is not None or task.retention.age is not None:
            sweep(self.table)
        return _report_of(version.facts, version.version)

    def _expect_unmoved(self, base: TableVersion | None, place: Place | None, reading: Reading) -> None:
        expect_unmoved(base, place)
        reading.expected(base)

    def _key(self, mode: str) -> list[str]:
        """What names the rows that new ones take the place of."""
        if mode == "replace":
            return []
        return [FILE_COLUMN] if self.task.load.new_files else self.task.load.key

    def _plan(self, rows: NewRows, mode: str, key: Sequence[str], reading: Reading) -> Plan:
        if mode == "replace":
            return replacing(rows, self.work)
        if not key:
            return appending(rows, self.work)
        gone = pa.table({FILE_COLUMN: sorted(reading.changed)}) if self.task.load.new_files else None
        return upserting(rows, key, self.work, gone, mode)

    def _checked(self, spool: Spool, checks: list[Check], beside: Beside | None) -> Spool:
        """The rows to commit; what the checks said is in `results`, and rows set aside in `aside`.

        Of a load that adds to a table, the number of rows is checked when it is known: at the commit.
        """
        checks = [check for check in checks if beside is None or not isinstance(check, CountCheck)]
        if not checks:
            return spool
        personal = self.task.personal
        quarantining = [check for check in checks if isinstance(check, RowCheck) and check.quarantine]
        failing = [check for check in checks if check not in quarantining]
        rows = SpooledRows(spool.parts, spool.schema, self.work, beside, personal)
        quarantine_results = rows.results(quarantining, self.clock())
        if any(not result.passed for result in quarantine_results):
            kept, aside, aside_schema = rows.set_aside(quarantining, self.task.run, self.work)
            spool, self.aside = replace(spool, parts=kept), Spool(aside, aside_schema)
            rows.close()
            rows = SpooledRows(spool.parts, spool.schema, self.work, beside, personal)
        failing_results = rows.results(failing, self.clock())
        rows.close()
        self.results = [
            quarantine_results[quarantining.index(check)]
            if check in quarantining
            else failing_results[failing.index(check)]
            for check in checks
        ]
        broken = [f"{result.check}: {result.message}" for result in failing_results if not result.passed]
        if broken:
            raise ExpectationsFailed(self.results, "; ".join(broken))
        if self.aside is not None and spool.rows == 0 and beside is None:
            why = "; ".join(result.message for result in self.results if not result.passed)
            raise ExpectationsFailed(self.results, f"every row was set aside: {why}")
        return spool

    def _set_aside(self, aside: Spool, mode: str) -> None:
        """Keeps the rows that were set aside: those of this load, and of the ones before where the table grows too."""
        side = self.side_table
        # Named by its rows too: where an attempt died here, and the source says something else now, these are the rows.
        content = version_digest(aside.schema, [part.sha256 for part in aside.parts])
        run = f"{self.task.run}-{hex_of(content)[:8]}"
        before = side.at() if side.exists() else None
        run_column = aside.schema.names[-1]
        grows = mode != "replace" and before is not None and _fits(before.schema, aside.schema)
        if before is None or not grows:
            side.commit(aside.parts, aside.schema, run)
            return
        extra = [field for field in aside.schema if field.name not in before.schema.names]
        rows = NewRows(aside.parts, pa.schema([*before.schema, *extra]))
        side.change(run, upserting(rows, [run_column], self.work / "set-aside", operation="append"))

    def _facts(self, checks: list[Check], spool: Spool, base: TableVersion | None, totals: Totals, mode: str) -> str:
        """The report as it is kept in the commit. Raises `ExpectationsFailed` where there are too many or few rows."""
        results = [*self.results]
        if mode != "replace":
            counts = [count_result(check, totals.rows) for check in checks if isinstance(check, CountCheck)]
            results += counts
            if any(not result.passed for result in counts):
                broken = [f"{result.check}: {result.message}" for result in counts if not result.passed]
                raise ExpectationsFailed(results, "; ".join(broken))
        aside = self.aside
        report = LoadReport(
            run=self.task.run,
            succeeded=True,
            digest=totals.digest,
            location=self.table.location,
            rows=totals.rows,
            bytes=totals.bytes,
            columns=self._columns(spool.schema),
            checks=results,
            operation=mode if base is not None else "replace",
            rows_added=spool.rows,
            inputs=self.task.inputs,
            finished_at=format_time(self.clock()),
        )
        if aside is not None:
            report.quarantined_rows = aside.rows
            report.quarantine_location = self.side_table.location
        return report.model_dump_json(by_alias=True)

    def _columns(self, schema: pa.Schema) -> list[Column]:
        """The columns with what the spec says of them."""
        columns = columns_of(schema)
        for column in columns:
            said = self.task.columns.get(column.name)
            if said is not None:
                column.personal, column.residency, column.tags = said.personal, said.residency, said.tags
        return columns

    def _attachment(
        self,
        base: TableVersion | None,
        operation: str,
        content: Sequence[DataFile | Part],
        spool: Spool,
        end: Place | None,
        reading: Reading,
    ) -> bytes:
        profile = profile_of(base, operation, content, spool, self.task.personal)
        kept = {"profile": profile.to_json(), **reading.kept}
        if end is not None:
            kept[KEPT_AS] = end.to_json()
        return json.dumps(kept, sort_keys=True).encode()

    def _oldest(self, base: TableVersion | None) -> int | None:
        said = self.task.retention
        age_ms = None if said.age is None else round(duration_s(said.age) * 1000)
        now_ms = int(self.clock().timestamp() * 1000)
        return oldest_to_keep(self.table, base, versions=said.versions, age_ms=age_ms, now_ms=now_ms)

    def _nothing_new(self, base: TableVersion) -> LoadReport:
        """The report of a load that found nothing: the version stays as it is."""
        return self._told_anew(base, NOTHING_NEW, base.digest).model_copy(
            update={"version": base.version, "rows_added": 0}
        )

    def _restored(self, version: int) -> LoadReport:
        try:
            old = self.table.at(version)
        except VersionMissing as error:
            raise Failure("VersionMissing", str(error)) from error
        attachment = json.dumps(old.attachment, sort_keys=True).encode() if old.attachment else None

        def facts(old: TableVersion, totals: Totals) -> str:
            return self._told_anew(old, "restore", totals.digest).model_dump_json(by_alias=True)

        made = self.table.change(self.task.run, restoring(self.table, version, facts, attachment))
        assert made is not None, "there is a change to make"
        return _report_of(made.facts, made.version)

    def _told_anew(self, old: TableVersion, operation: str, digest: str | None) -> LoadReport:
        """The report of a version that is there, as this run's."""
        known = LoadReport.model_validate_json(old.facts) if old.facts else None
        return LoadReport(
            run=self.task.run,
            succeeded=True,
            digest=digest,
            location=self.table.location,
            rows=old.rows,
            bytes=old.bytes,
            columns=self._columns(old.schema),
            checks=known.checks if known is not None else [],
            operation=operation,
            inputs=known.inputs if known is not None else [],
            finished_at=format_time(self.clock()),
        )


def _report_of(facts: str, version: int) -> LoadReport:
    return LoadReport.model_validate_json(facts).model_copy(update={"version": version})


def _fits(before: pa.Schema, now: pa.Schema) -> bool:
    """Whether rows of the one can stand beside rows of the other."""
    return all(name in now.names and now.field(name).type == before.field(name).type for name in before.names)
