"""Checks in SQL against a naive reading of the same words, row by row in Python."""
# ruff: noqa: DTZ001 - times without a zone are part of what is tested

import datetime as dt
import math
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mizzen.data.ingest.checking import REASON_COLUMN, RUN_COLUMN, SpooledRows
from mizzen.data.ingest.chunks import WrongColumns
from mizzen.data.ingest.expectations import RowCheck, checks_of
from mizzen.data.lake.parts import PartWriter
from mizzen.data.pod import Failure
from mizzen.kinds.data import CheckResult
from mizzen.kinds.expectations import Expectation

NOW = dt.datetime(2020, 6, 1, 12, tzinfo=dt.UTC)
COLUMNS = {
    "i": (pa.int64(), st.one_of(st.integers(-5, 5), st.integers(2**53 - 2, 2**53 + 2), st.integers(-(2**63), 2**63 - 1))),
    "f": (pa.float64(), st.one_of(st.floats(-2, 2), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0]))),
    "g": (pa.float32(), st.floats(-2, 2, width=32)),
    "s": (pa.string(), st.one_of(st.sampled_from(["a", "b", "ab", "", "A"]), st.text(max_size=3))),
    "b": (pa.bool_(), st.booleans()),
    "z": (pa.timestamp("us", "UTC"), st.datetimes(dt.datetime(2020, 5, 30), dt.datetime(2020, 6, 2), timezones=st.just(dt.UTC))),
    "n": (pa.timestamp("us"), st.datetimes(dt.datetime(2020, 5, 30), dt.datetime(2020, 6, 2))),
    "d": (pa.date32(), st.dates(dt.date(2020, 5, 30), dt.date(2020, 6, 2))),
}  # fmt: skip
TIMES = st.sampled_from(["2020-06-01", "2020-05-31T12:00:00Z", "2020-06-01T02:00:00+02:00"])
NUMBERS = st.one_of(st.integers(-3, 3).map(float), st.floats(-2, 2), st.just(float(2**53)))


@st.composite
def expectations(draw: st.DrawFn, column: str) -> Expectation:
    """A check of the column that its type allows."""
    action = draw(st.sampled_from(["fail", "quarantine"]))
    kinds = ["not_null", "unique"]
    kinds += {"s": ["regex", "in_set"], "b": ["in_set"]}.get(column, ["bounds", "in_set"])
    kind = draw(st.sampled_from(kinds))
    made: dict[str, Any] = {"column": column, "on_failure": action}
    values = TIMES if column in "znd" else NUMBERS
    if kind == "bounds":
        which = draw(st.sampled_from([("min",), ("max",), ("min", "max")]))
        return Expectation(**made, **{side: draw(values) for side in which})
    if kind == "regex":
        return Expectation(**made, regex=draw(st.sampled_from(["^a", "b$", "", "^$", "(?i)A", "[^ab]"])))
    if kind == "in_set":
        members = {"s": st.sampled_from(["a", "ab", ""]), "b": st.booleans()}.get(column, values)
        return Expectation(**made, in_set=draw(st.lists(members, max_size=3)))
    return Expectation(**made, **{kind: True})


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, list[Any], list[Expectation]]:
    column = draw(st.sampled_from(sorted(COLUMNS)))
    values = draw(st.lists(st.one_of(st.none(), COLUMNS[column][1]), max_size=12))
    values += draw(st.lists(st.sampled_from(values), max_size=4)) if values else []
    return column, values, draw(st.lists(expectations(column), min_size=1, max_size=3))


def moment(value: Any) -> dt.datetime:
    """A row's or a bound's time: dates at midnight, without a zone as UTC."""
    parsed = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(parsed, dt.datetime):
        parsed = dt.datetime(parsed.year, parsed.month, parsed.day)
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=dt.UTC)


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same, NaN included."""
    return left == right or str(left) == str(right) == "nan"


def breaks(expectation: Expectation, value: Any, values: list[Any]) -> bool:
    """The words of `kinds.data.Expectation`, read literally."""
    if expectation.not_null:
        return value is None
    if value is None:
        return False
    if expectation.unique:
        return sum(same(value, other) for other in values) > 1
    if expectation.regex is not None:
        return re.search(expectation.regex, value) is None
    is_time = isinstance(value, dt.date)
    if expectation.in_set is not None:
        return not any(moment(value) == moment(one) if is_time else value == one for one in expectation.in_set)
    if is_time:
        low = expectation.min is not None and moment(value) < moment(expectation.min)
        return low or (expectation.max is not None and moment(value) > moment(expectation.max))
    inside = (expectation.min is None or value >= expectation.min) and (
        expectation.max is None or value <= expectation.max
    )
    return not inside


def spooled(folder: Path, column: str, values: list[Any]) -> tuple[SpooledRows, pa.Schema]:
    schema = pa.schema([(column, COLUMNS[column][0]), ("row", pa.int64())])
    writer = PartWriter(folder / "spool", schema)
    array = pa.array(values, COLUMNS[column][0])
    writer.write(pa.Table.from_arrays([array, pa.array(range(len(values)), pa.int64())], schema=schema))
    return SpooledRows(writer.close(), schema, folder), schema


@given(tables())
@example(("f", [0.0, -0.0], [Expectation(column="f", unique=True)]))
@example(("f", [0.0, math.nan], [Expectation(column="f", min=0.0)]))
@example(("i", [2**53 + 1], [Expectation(column="i", max=float(2**53))]))
@example(("f", [math.nan, math.nan, None], [Expectation(column="f", min=-1), Expectation(column="f", unique=True)]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
def test_checks_mean_what_they_say(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[str, list[Any], list[Expectation]]
) -> None:
    """Counts, verdicts and the rows set aside are those of the naive reading, and kept rows keep their order."""
    column, values, wanted = case
    folder = tmp_path_factory.mktemp("checks")
    stored = pa.array(values, COLUMNS[column][0]).to_pylist()
    rows, schema = spooled(folder, column, values)
    checks = checks_of(wanted, schema, None)
    broken = [[index for index, value in enumerate(stored) if breaks(one, value, stored)] for one in wanted]
    results = rows.results(checks, NOW)
    assert [result.failed_rows for result in results] == [len(indices) for indices in broken]
    assert [result.passed for result in results] == [not indices for indices in broken]
    kept, aside, _ = rows.set_aside([check for check in checks if isinstance(check, RowCheck)], "run-1", folder)
    out = {index for indices in broken for index in indices}
    assert read(kept)["row"] == [index for index in range(len(values)) if index not in out]
    found = read(aside)
    assert found["row"] == sorted(out)
    reasons = [
        "; ".join(c.words for c, rows_ in zip(checks, broken, strict=True) if index in rows_) for index in sorted(out)
    ]
    assert (found[REASON_COLUMN], found[RUN_COLUMN]) == (reasons, ["run-1"] * len(out))
    rows.close()


def read(parts: list[Any]) -> dict[str, list[Any]]:
    return pa.concat_tables([pa.parquet.read_table(part.path) for part in parts]).to_pydict()


def result_of(folder: Path, values: list[Any], expectation: Expectation, column: str = "i") -> CheckResult:
    rows, schema = spooled(folder, column, values)
    return rows.results(checks_of([expectation], schema, column if column in "znd" else None), NOW)[0]


@pytest.mark.parametrize(
    ("expectation", "words", "message"),
    [
        (Expectation(column="i", min=2), "i: min 2", "2 of 4 rows, for example i = '1'"),
        (Expectation(column="i", not_null=True), "i: not null", "1 of 4 rows, for example i = null"),
        (Expectation(column="i", unique=True), "i: unique", "2 of 4 rows, for example i = '1'"),
        (Expectation(column="i", in_set=[1, 2]), "i: in [1, 2]", "1 of 4 rows, for example i = '9'"),
        (Expectation(column="i", min=1, max=5.5), "i: min 1, max 5.5", "1 of 4 rows, for example i = '9'"),
        (Expectation(min_rows=5), "rows: min 5", "found 4 rows"),
        (Expectation(min_rows=1, max_rows=3), "rows: min 1, max 3", "found 4 rows"),
    ],
)  # fmt: skip
def test_results_have_words_and_an_example(tmp_path: Path, expectation: Expectation, words: str, message: str) -> None:
    """What a status shows for [1, 1, null, 9]."""
    result = result_of(tmp_path, [1, 1, None, 9], expectation)
    assert (result.check, result.passed, result.message) == (words, False, message)


@pytest.mark.parametrize(
    ("column", "newest", "max_age", "passed"),
    [
        ("z", dt.datetime(2020, 6, 1, 11, tzinfo=dt.UTC), "1h", True),
        ("z", dt.datetime(2020, 6, 1, 10, 59, 59, tzinfo=dt.UTC), "1h", False),
        ("z", dt.datetime(2020, 6, 2, tzinfo=dt.UTC), "1h", True),
        ("n", dt.datetime(2020, 6, 1, 11), "1h", True),
        ("d", dt.date(2020, 6, 1), "12h", True),
        ("d", dt.date(2020, 5, 31), "1d", False),
        ("z", None, "1h", False),
    ],
)  # fmt: skip
def test_age_is_of_the_newest_value(tmp_path: Path, column: str, newest: Any, max_age: str, passed: bool) -> None:
    """At exactly the age it still passes; a column without values does not; the event time is the default."""
    older = None if newest is None else newest - dt.timedelta(days=100)
    result = result_of(tmp_path, [older, newest, None], Expectation(max_age=max_age), column)
    assert result.passed == passed
    assert result.check == f"{column}: max age {max_age}"


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        ({"column": "distanc", "min": 1}, r"spec\.expectations\[0\]\.column.*did you mean distance\?"),
        ({"column": "name", "min": 1}, "expected a column of numbers or times, name is string"),
        ({"column": "distance", "min": "far"}, "expected a finite number"),
        ({"column": "distance", "max": float("inf")}, "expected a finite number"),
        ({"column": "when", "min": 5}, "expected a time such as"),
        ({"column": "when", "min": "yesterday"}, "expected a time such as"),
        ({"column": "distance", "regex": "x"}, "expected a column of text, distance is int64"),
        ({"column": "distance", "in_set": [1, "2"]}, "distance, which is int64, can have, got '2'"),
        ({"column": "name", "in_set": [True]}, "can have, got True"),
        ({"column": "name", "max_age": "1h"}, "expected a column of times, name is string"),
        ({"max_age": "1h"}, "expected a column, or spec.eventTime"),
    ],
)  # fmt: skip
def test_checks_that_do_not_fit_the_columns_are_refused(expectation: dict[str, Any], message: str) -> None:
    """The error names the field of the spec, what was expected and what was found."""
    schema = pa.schema([("distance", pa.int64()), ("name", pa.string()), ("when", pa.timestamp("us", "UTC"))])
    with pytest.raises(WrongColumns, match=message):
        checks_of([Expectation(**expectation)], schema, None)
    with pytest.raises(WrongColumns, match=r"spec\.eventTime: expected a column of times, name is string"):
        checks_of([], schema, "name")
    with pytest.raises(WrongColumns, match=r"spec\.eventTime.*got 'nam'"):
        checks_of([], schema, "nam")


def test_a_regular_expression_that_is_none_is_told(tmp_path: Path) -> None:
    """RE2's words, in one line."""
    with pytest.raises(Failure, match="missing") as caught:
        result_of(tmp_path, ["a"], Expectation(column="s", regex="(a"), "s")
    assert "\n" not in str(caught.value)
