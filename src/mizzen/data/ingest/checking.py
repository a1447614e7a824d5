"""Runs the checks over spooled rows, and sets aside what breaks those with quarantine."""
# ruff: noqa: S608 - SQL is put together of quoted names and constants; values are parameters

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from mizzen.data.ingest.expectations import AgeCheck, Check, CountCheck, RowCheck
from mizzen.data.lake.parts import Part, PartWriter
from mizzen.data.lake.sql import BATCH_ROWS, connect, one_line, quoted, reading
from mizzen.data.lake.version import TableVersion
from mizzen.data.pod import Failure
from mizzen.kinds.data import CheckResult

REASON_COLUMN = "_reason"
"""Of the quarantine table: the checks that the row broke, in words."""
RUN_COLUMN = "_run"


@dataclass(frozen=True, slots=True)
class Beside:
    """The rows that are there already and stay: all but those with the key of a new one."""

    version: TableVersion
    key: Sequence[str]


class SpooledRows:
    """Rows in Parquet files of this machine, under the SQL name `rows`."""

    def __init__(
        self,
        parts: Sequence[Part],
        schema: pa.Schema,
        work: Path,
        beside: "Beside | None" = None,
        personal: frozenset[str] = frozenset(),
    ) -> None:
        self.schema, self._personal = schema, personal
        self._connection = connect(work)
        self._connection.execute(f"CREATE VIEW rows AS SELECT * FROM {reading(parts)}")
        if beside is None:
            self._connection.execute("CREATE VIEW all_rows AS SELECT * FROM rows")
        else:
            self._connection.register("stored", beside.version.dataset())
            names = ", ".join(quoted(name) for name in beside.key)
            staying = f"SELECT * FROM stored ANTI JOIN rows USING ({names})" if names else "SELECT * FROM stored"
            self._connection.execute(f"CREATE VIEW all_rows AS SELECT * FROM rows UNION ALL BY NAME {staying}")

    def close(self) -> None:
        """Frees what DuckDB holds."""
        self._connection.close()

    def results(self, checks: Sequence[Check], now: datetime) -> list[CheckResult]:
        """How each check comes out over these rows; `action` is what its failure asks for.

        The number of rows is that of the rows here: of a load that adds to a table, see `count_result`.
        """
        row_checks = [check for check in checks if isinstance(check, RowCheck)]
        counted = iter(self._counted(row_checks))
        total = self._one("SELECT count(*) FROM rows")[0]
        results = []
        for check in checks:
            if isinstance(check, RowCheck):
                broken, example = next(counted)
                results.append(_row_result(check, broken, total, example, hidden=check.column in self._personal))
            elif isinstance(check, CountCheck):
                results.append(count_result(check, total))
            else:
                newest_us = self._one(f"SELECT epoch_us(max({quoted(check.column)})) FROM rows")[0]
                results.append(_age_result(check, newest_us, now))
        return results

    def set_aside(self, checks: Sequence[RowCheck], run: str, folder: Path) -> tuple[list[Part], list[Part], pa.Schema]:
        """(files of the rows that break none, files of the others, the others' schema, which says why)."""
        parameters = {name: value for check in checks for name, value in check.parameters.items()}
        any_broken = " OR ".join(check.broken for check in checks)
        reasons = []
        for index, check in enumerate(checks):
            parameters[f"words{index}"] = check.words
            reasons.append(f"CASE WHEN {check.broken} THEN $words{index} END")
        aside_schema = self.schema
        for name in (REASON_COLUMN, RUN_COLUMN):
            aside_schema = aside_schema.append(pa.field(_free(name, self.schema), pa.string()))
        kept_parameters = {name: value for name, value in parameters.items() if not name.startswith("words")}
        kept = self._spool(
            f"SELECT * FROM rows WHERE NOT ({any_broken})", kept_parameters, self.schema, folder / "kept"
        )
        aside = self._spool(
            f"SELECT *, concat_ws('; ', {', '.join(reasons)}), $run FROM rows WHERE {any_broken}",
            {**parameters, "run": run},
            aside_schema,
            folder / "aside",
        )
        return kept, aside, aside_schema

    def _spool(self, query: str, parameters: dict[str, Any], schema: pa.Schema, folder: Path) -> list[Part]:
        writer = PartWriter(folder, schema)
        for batch in self._connection.sql(query, params=parameters).to_arrow_reader(BATCH_ROWS):
            columns = [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)]
            writer.write(pa.Table.from_arrays(columns, schema=schema))
        return writer.close()

    def _counted(self, checks: Sequence[RowCheck]) -> list[tuple[int, Any]]:
        """For each check: how many rows break it, and one of their values."""
        if not checks:
            return []
        terms = []
        for check in checks:
            terms += [
                f"count(*) FILTER ({check.broken})",
                f"min({quoted(check.column)}::VARCHAR) FILTER ({check.broken})",
            ]
        parameters = {name: value for check in checks for name, value in check.parameters.items()}
        row = self._one(f"SELECT {', '.join(terms)} FROM rows", parameters)
        return [(row[index], row[index + 1]) for index in range(0, len(row), 2)]

    def _one(self, query: str, parameters: dict[str, Any] | None = None) -> tuple[Any, ...]:
        try:
            (row,) = self._connection.execute(query, parameters or {}).fetchall()  # an aggregate gives one row
        except (duckdb.InvalidInputException, duckdb.BinderException, duckdb.ConversionException) as error:
            raise Failure("ExpectationsFailed", f"a check cannot be computed: {one_line(error)}") from error
        return row


def _free(name: str, schema: pa.Schema) -> str:
    """The name, with as many more underscores as the rows' own columns ask for."""
    taken = {known.casefold() for known in schema.names}
    while name in taken:
        name = "_" + name
    return name


def _row_result(check: RowCheck, broken: int, total: int, example: str | None, *, hidden: bool) -> CheckResult:
    if broken == 0:
        return CheckResult(check=check.words, passed=True)
    shown = "null" if example is None else repr(example) if len(example) <= 60 else repr(example[:57] + "...")
    if hidden and example is not None:
        shown = "a value that is not shown (personal data)"
    return CheckResult(
        check=check.words,
        passed=False,
        failed_rows=broken,
        action="quarantine" if check.quarantine else "fail",
        message=f"{broken} of {total} rows, for example {check.column} = {shown}",
    )


def count_result(check: CountCheck, total: int) -> CheckResult:
    """How a check of the number of rows comes out."""
    few = check.min_rows is not None and total < check.min_rows
    many = check.max_rows is not None and total > check.max_rows
    if not (few or many):
        return CheckResult(check=check.words, passed=True)
    return CheckResult(check=check.words, passed=False, action="fail", message=f"found {total} rows")


def _age_result(check: AgeCheck, newest_us: int | None, now: datetime) -> CheckResult:
    """`newest_us` is in microseconds since 1970, UTC."""
    if newest_us is None:
        message = f"no row has a value of {check.column}"
        return CheckResult(check=check.words, passed=False, action="fail", message=message)
    newest = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=newest_us)
    if now - newest <= check.max_age:
        return CheckResult(check=check.words, passed=True)
    found = f"the newest is {newest:%Y-%m-%dT%H:%M:%SZ}, now it is {now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return CheckResult(check=check.words, passed=False, action="fail", message=found)
