"""All kept answers made one version of the output dataset, in one commit whose Delta transaction is the run.

Groups are read in the order of the input's rows and written together as the table's files, so the same input and model
give the same rows in the same order, however the work was divided and whatever died. The commit carries the report with
the model's digest and the input's version. Who repeats it finds it made.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from mizzen.data.lake.changes import NewRows, appending, replacing, upserting
from mizzen.data.lake.errors import SourceMoved
from mizzen.data.lake.objects import Store, hex_of
from mizzen.data.lake.parts import Part, PartWriter
from mizzen.data.lake.profile import Profile
from mizzen.data.lake.retention import oldest_to_keep, sweep
from mizzen.data.lake.tables import QUARANTINE, Table, TableVersion, Totals, columns_of, version_digest
from mizzen.data.pod import TRY_AGAIN, Failure
from mizzen.kinds.batch import ERROR_COLUMN
from mizzen.kinds.data import CheckResult, Column, LoadReport
from mizzen.kinds.scalars import duration_s
from mizzen.kube.times import format_time
from mizzen.policy.batches import failed_max
from mizzen.serving.batch.decoding import REASON_COLUMN, Decoder
from mizzen.serving.batch.kept import Kept, KeptAnswers
from mizzen.serving.batch.task import BatchTask, Clock

CHECK = "the model answers every row"
"""How the report names it, among checks as loads have them."""


class Commit:
    """The end of one run."""

    def __init__(
        self, task: BatchTask, store: Store, decoder: Decoder, kept: KeptAnswers, folder: Path, clock: Clock
    ) -> None:
        self._task, self._store, self._kept = task, store, kept
        self._decoder, self._folder, self._clock = decoder, folder, clock
        self._table = Table(store, task.namespace, task.output.dataset)
        self._example = ""
        self._profile = Profile.of([], decoder.schema, frozenset())

    def made(self) -> LoadReport | None:
        """The report of the version that this run made; `None` where it has made none."""
        version = self._table.committed_by(self._task.run) if self._table.exists() else None
        return _report_of(version) if version is not None else None

    def expect_fitting(self) -> None:
        """Raises `Failure` where the table is none that these rows can be added to: before any row is computed."""
        if self._task.output.mode != "append" or not self._table.exists():
            return
        there, new = self._table.at().schema, self._decoder.schema
        if _shown(there) != _shown(new):
            raise Failure(
                "OutputUnfit",
                f"spec.output: dataset {self._task.output.dataset} has the columns {_shown(there)}, and this run would "
                f"append {_shown(new)}: name the same columns, take mode: replace, or another dataset",
            )

    def make(self, groups: Sequence[Kept]) -> LoadReport:
        """Makes the version, unless the run made one already. Raises `Failure` where too many rows failed."""
        task = self._task
        failed = sum(kept.failed for kept in groups)
        parts, aside = self._written(groups)
        self._expect_few(failed, sum(part.rows for part in parts) + sum(part.rows for part in aside))
        if aside:
            self._set_aside(aside)
        rows = NewRows(
            parts,
            self._decoder.schema,
            facts=lambda base, totals: self._facts(base, totals, parts, aside, failed),
            attachment=lambda base, operation, _: self._profiled(base, operation),
            oldest=self._oldest,
        )
        plan = replacing(rows, self._folder) if task.output.mode == "replace" else appending(rows, self._folder)
        try:
            version = self._table.change(task.run, plan)
        except SourceMoved as error:
            raise Failure("TableMoved", str(error), exit_code=TRY_AGAIN) from error
        assert version is not None, "there is a change to make"
        if task.retention.versions is not None or task.retention.age is not None:
            sweep(self._table)
        return _report_of(version)

    @staticmethod
    def failed_in(report: LoadReport) -> int:
        """How many rows the model refused."""
        return sum(check.failed_rows for check in report.checks)

    @staticmethod
    def example_in(report: LoadReport) -> str:
        """Why one of them was refused."""
        return next((check.message for check in report.checks if check.message), "")

    def _written(self, groups: Sequence[Kept]) -> tuple[list[Part], list[Part]]:
        """The answers as files of the table, and the rows set aside, one group after the other."""
        schema = self._decoder.schema
        rows = PartWriter(self._folder / "rows", schema)
        others = PartWriter(self._folder / "aside", self._decoder.aside_schema)
        some_aside = False

        def passing() -> Iterator[pa.Table]:
            nonlocal some_aside
            for kept in groups:
                answered, aside = self._kept.fetch(kept)
                rows.write(answered)
                if kept.failed and not self._example:
                    self._example = _example(answered if aside is None else aside)
                if aside is not None:
                    some_aside = True
                    others.write(aside)
                yield answered

        self._profile = Profile.of(passing(), schema, self._task.personal.intersection(self._decoder.kept))
        return rows.close(), others.close() if some_aside else []

    def _expect_few(self, failed: int, total: int) -> None:
        """Each Pod looked at its own part; this is all of them together."""
        limit = failed_max(self._task.error_limit, total)
        if limit is not None and failed > limit:
            raise Failure(
                "TooManyErrors",
                f"spec.errorLimit: expected at most {limit} of {total} rows to fail ({self._task.error_limit}), got "
                f"{failed}; one of them: {self._example}",
            )
        if failed and failed == total:
            raise Failure("EveryRowFails", f"the model refused every one of {total} rows; one of them: {self._example}")

    def _set_aside(self, aside: Sequence[Part]) -> None:
        """Keeps the rows that were set aside: those of this run, and of the ones before where the table grows too."""
        task = self._task
        side = Table(self._store, task.namespace, task.output.dataset, folder=QUARANTINE)
        schema = self._decoder.aside_schema
        content = version_digest(schema, [part.sha256 for part in aside])
        run = f"{task.run}-{hex_of(content)[:8]}"
        before = side.at() if side.exists() else None
        if task.output.mode == "replace" or before is None or not before.schema.equals(schema):
            side.commit(aside, schema, run)
            return
        side.change(
            run, upserting(NewRows(aside, schema), [schema.names[-1]], self._folder / "beside", operation="append")
        )

    def _facts(
        self, base: TableVersion | None, totals: Totals, parts: Sequence[Part], aside: Sequence[Part], failed: int
    ) -> str:
        """The report as it is kept in the commit."""
        task = self._task
        check = CheckResult(
            check=CHECK,
            passed=not failed,
            failed_rows=failed,
            action=("quarantine" if aside else "none"),
            message=self._example,
        )
        report = LoadReport(
            run=task.run,
            succeeded=True,
            digest=totals.digest,
            location=self._table.location,
            rows=totals.rows,
            bytes=totals.bytes,
            columns=self._columns(),
            checks=[check],
            operation=task.output.mode if base is not None else "replace",
            rows_added=sum(part.rows for part in parts),
            inputs=[task.input],
            model=task.model,
            finished_at=format_time(self._clock()),
        )
        if aside:
            report.quarantined_rows = sum(part.rows for part in aside)
            report.quarantine_location = self._store.url_of(f"{QUARANTINE}/{task.namespace}/{task.output.dataset}")
        return report.model_dump_json(by_alias=True)

    def _columns(self) -> list[Column]:
        """With what is known of those that were the input's."""
        known = {column.name: column for column in self._task.known}
        columns = columns_of(self._decoder.schema)
        for column in columns:
            said = known.get(column.name) if column.name in self._decoder.kept else None
            if said is not None:
                column.personal, column.residency, column.tags = said.personal, said.residency, said.tags
        return columns

    def _profiled(self, base: TableVersion | None, operation: str) -> bytes:
        """The profile of the version, as loads keep it: of these rows, and of those that they are added to."""
        made = self._profile.to_json()
        before = Profile.from_json(base.attachment.get("profile")) if base is not None else None
        own = Profile.from_json(made)  # a copy: this may be asked again, on top of another base
        if operation != "replace" and before is not None and own is not None:
            made = own.merged_with(before).to_json()
        return json.dumps({"profile": made}, sort_keys=True).encode()

    def _oldest(self, base: TableVersion | None) -> int | None:
        said = self._task.retention
        age_ms = None if said.age is None else round(duration_s(said.age) * 1000)
        now_ms = int(self._clock().timestamp() * 1000)
        return oldest_to_keep(self._table, base, versions=said.versions, age_ms=age_ms, now_ms=now_ms)


def _report_of(version: TableVersion) -> LoadReport:
    return LoadReport.model_validate_json(version.facts).model_copy(update={"version": version.version})


def _example(rows: pa.Table) -> str:
    """Why the first refused row was."""
    name = ERROR_COLUMN if ERROR_COLUMN in rows.schema.names and REASON_COLUMN not in rows.schema.names else None
    reasons = rows.column(name or rows.schema.names[-2]).drop_null()
    return str(reasons[0].as_py()) if len(reasons) else ""


def _shown(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
