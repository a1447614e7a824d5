"""One load: source -> spool -> checks -> commit.

Rows go chunk by chunk into Parquet files of the Pod's work folder; the checks run over those; then the same files
become the table's next version in one commit. Nothing of a load is visible before, and a load that fails, or is killed
at any moment, leaves the table as it was. The report is kept in the commit, so a repeated load that finds its version
there reports the same again.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from mizzen.data.ingest.checking import SpooledRows
from mizzen.data.ingest.chunks import EXPECTED
from mizzen.data.ingest.expectations import Check, RowCheck, checks_of
from mizzen.data.ingest.files_source import files_tables
from mizzen.data.ingest.python_source import python_tables
from mizzen.data.ingest.task import IngestTask
from mizzen.data.lake.code import unpack
from mizzen.data.lake.errors import CodeError, DigestMismatch, ObjectMissing
from mizzen.data.lake.objects import Store, hex_of
from mizzen.data.lake.parts import Part, PartWriter
from mizzen.data.lake.tables import QUARANTINE, Table, columns_of, version_digest
from mizzen.data.pod import Failure
from mizzen.kinds.data import CheckResult, LoadReport

Clock = Callable[[], datetime]


class ExpectationsFailed(Failure):
    """The rows break a check that a version must pass."""

    def __init__(self, results: list[CheckResult], message: str) -> None:
        super().__init__("ExpectationsFailed", message)
        self.results = results


def load(task: IngestTask, store: Store, work: Path, clock: Clock) -> LoadReport:
    """Makes the task's rows the next version of its table, unless this run did so before; returns the report of it.

    Raises `Failure` where the source, the columns or the checks are at fault; `LakeError` where the store is.
    """
    table = Table(store, task.namespace, task.name)
    if (committed := table.committed_by(task.run)) is not None:
        return _report_of(committed.facts, committed.version)
    parts, schema = _spooled(_source(task, store, work), work / "all")
    checks = checks_of(task.expectations, schema, task.event_time)
    parts, results, aside = _checked(task, parts, schema, checks, work, clock)
    report = LoadReport(
        run=task.run,
        succeeded=True,
        digest=version_digest(schema, [part.sha256 for part in parts]),
        location=table.location,
        rows=sum(part.rows for part in parts),
        bytes=sum(part.bytes for part in parts),
        columns=columns_of(schema),
        checks=results,
        finished_at=timestamp(clock()),
    )
    if aside is not None:
        side_table = Table(store, task.namespace, task.name + QUARANTINE)
        report.quarantined_rows = sum(part.rows for part in aside[0])
        report.quarantine_location = side_table.location
        # Named by its rows too: where an attempt died here, and the source says something else now, these are the rows.
        content = version_digest(aside[1], [part.sha256 for part in aside[0]])
        side_table.commit(*aside, run=f"{task.run}-{hex_of(content)[:8]}")
    version = table.commit(parts, schema, task.run, report.model_dump_json(by_alias=True))
    return _report_of(version.facts, version.version)


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, as Kubernetes writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _report_of(facts: str, version: int) -> LoadReport:
    return LoadReport.model_validate_json(facts).model_copy(update={"version": version})


def _source(task: IngestTask, store: Store, work: Path) -> Iterator[pa.Table]:
    folder = None
    if task.code is not None:
        try:
            folder = unpack(store, task.code, work / "code")
        except (CodeError, DigestMismatch, ObjectMissing, ValueError) as error:
            raise Failure("CodeMissing", str(error)) from error
    if task.source.files is not None:
        return files_tables(task.source.files, folder, work)
    if folder is None or task.source.python is None:
        raise Failure(
            "CodeMissing", "spec.code: expected the digest of a code bundle with the source's function, found none"
        )
    return python_tables(folder, task.source.python)


def _spooled(tables: Iterator[pa.Table], folder: Path) -> tuple[list[Part], pa.Schema]:
    writer: PartWriter | None = None
    for table in tables:
        if writer is None:
            writer = PartWriter(folder, table.schema)
        writer.write(table)
    if writer is None:
        raise Failure("SourceFailed", f"the source yielded nothing: expected {EXPECTED}, at least one of them")
    return writer.close(), writer.schema


def _checked(
    task: IngestTask, parts: list[Part], schema: pa.Schema, checks: list[Check], work: Path, clock: Clock
) -> tuple[list[Part], list[CheckResult], tuple[list[Part], pa.Schema] | None]:
    """(files of the rows to commit, results in the order of `checks`, files and schema of the rows set aside)."""
    if not checks:
        return parts, [], None
    quarantining = [check for check in checks if isinstance(check, RowCheck) and check.quarantine]
    failing = [check for check in checks if check not in quarantining]
    rows = SpooledRows(parts, schema, work)
    quarantine_results = rows.results(quarantining, clock())
    aside = None
    if any(not result.passed for result in quarantine_results):
        parts, aside_parts, aside_schema = rows.set_aside(quarantining, task.run, work)
        aside = (aside_parts, aside_schema)
        rows.close()
        rows = SpooledRows(parts, schema, work)
    failing_results = rows.results(failing, clock())
    rows.close()
    results = [
        quarantine_results[quarantining.index(check)]
        if check in quarantining
        else failing_results[failing.index(check)]
        for check in checks
    ]
    broken = [f"{result.check}: {result.message}" for result in failing_results if not result.passed]
    if broken:
        raise ExpectationsFailed(results, "; ".join(broken))
    if aside is not None and not any(part.rows for part in parts):
        raise ExpectationsFailed(
            results, "every row was set aside: " + "; ".join(r.message for r in results if not r.passed)
        )
    return parts, results, aside
