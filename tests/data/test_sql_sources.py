"""Rows from queries: over other datasets, in SQLite, in a real PostgreSQL."""

import contextlib
import datetime as dt
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.data import postgres
from tests.data.project import Project

from mizzen.data.pod import TRY_AGAIN, Failure

# -- over datasets


@pytest.fixture
def two(project: Project) -> Project:
    """The datasets `late-flights` (two versions) and `airports`."""
    project.put("f.csv", "origin,delay\nEWR,10\nJFK,30\n")
    project.load("f1", name="late-flights", source={"files": ["f.csv"]})
    project.put("f.csv", "origin,delay\nEWR,20\n")
    project.load("f2", name="late-flights", source={"files": ["f.csv"]})
    project.put("a.csv", "code,city\nEWR,Newark\nJFK,New York\n")
    project.load("a1", name="airports", source={"files": ["a.csv"]})
    return project


QUERY = (
    'SELECT city, avg(delay) AS mean FROM "late-flights" JOIN airports ON origin = code GROUP BY city ORDER BY city;'
)


def over(query: str, **versions: int) -> dict[str, Any]:
    names = {name.replace("_", "-"): version for name, version in versions.items()}
    return {
        "source": {"sql": {"query": query, "datasets": [{"name": name} for name in names]}},
        "inputs": [{"name": name, "version": version} for name, version in names.items()],
    }


def test_a_query_reads_the_versions_it_was_given(two: Project) -> None:
    """And its report says which those were."""
    report = two.load("q1", **over(QUERY, late_flights=2, airports=1))
    assert two.rows() == [{"city": "Newark", "mean": 20.0}]
    assert [(each.name, each.version) for each in report.inputs] == [("late-flights", 2), ("airports", 1)]
    two.load("q2", **over(QUERY, late_flights=1, airports=1))
    assert two.rows() == [{"city": "New York", "mean": 30.0}, {"city": "Newark", "mean": 10.0}]


def test_a_sum_of_integers_is_an_integer(two: Project) -> None:
    """Of 64 bits; one that does not fit is told."""
    two.load("q1", **over('SELECT sum(delay) AS s FROM "late-flights"', late_flights=1))
    assert two.table.at().schema.field("s").type == "int64"
    with pytest.raises(Failure, match="(?i)out of range|can't be cast|conversion"):
        two.load(
            "q2", **over('SELECT sum(delay * 1000000000000000000::HUGEINT) AS s FROM "late-flights"', late_flights=1)
        )


BAD_QUERIES = {
    "a table that is not listed": ("SELECT * FROM weather", r"the query: .*weather does not exist.*\(spec\.source\.sql\.datasets: airports\)"),
    "a file": ("SELECT * FROM read_csv('/etc/passwd')", "(?i)the query: .*disabled"),
    "two statements": ("SELECT 1; SELECT 2", "expected one SELECT"),
    "no SELECT": ("DROP TABLE airports", "expected one SELECT"),
    "no SQL": ("SELEC 1", "the query: Parser Error: syntax error"),
    "a column that is not there": ("SELECT size FROM airports", 'the query: .*"size" not found'),
    "a name twice": ("SELECT code, code FROM airports", "(?i)more than once|duplicate"),
    "a computation that fails": ("SELECT CAST(city AS INTEGER) AS x FROM airports", "the query: Conversion Error"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_QUERIES)
def test_a_bad_query_is_told_in_one_line(two: Project, name: str) -> None:
    query, message = BAD_QUERIES[name]
    with pytest.raises(Failure, match=message) as caught:
        two.load("q", **over(query, airports=1))
    assert caught.value.exit_code == 1
    assert "\n" not in caught.value.message
    assert not two.table.exists()


# -- SQLite


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(tmp_path / "a file.db")) as connection:
        yield connection


def in_sqlite(project: Project, query: str, **more: Any) -> dict[str, Any]:
    url = f"sqlite://{(project.folder / 'a%20file.db')}"
    return {"source": {"sql": {"query": query, "database": url}}, "code": None, **more}


def test_sqlite_columns_have_the_type_of_all_their_values(project: Project, database: sqlite3.Connection) -> None:
    """Whatever was declared: integers with a fraction are doubles, with a word are text; all null is text."""
    database.execute('CREATE TABLE t (i INTEGER, d INTEGER, s INTEGER, b BLOB, n TEXT, "a b" TEXT)')
    database.executemany(
        "INSERT INTO t VALUES (?, ?, ?, ?, NULL, ?)", [(1, 2, 3, b"\x00", "x"), (2**62, 2.5, "w", None, "y")]
    )
    database.commit()
    report = project.load("r1", **in_sqlite(project, "SELECT * FROM t;"))
    types = [column.type for column in report.columns]
    assert types == ["int64", "double", "string", "binary", "string", "string"]
    assert project.rows()[1] == {"i": 2**62, "d": 2.5, "s": "w", "b": None, "n": None, "a b": "y"}
    database.execute("UPDATE t SET b = 1 WHERE b IS NULL")
    database.commit()
    with pytest.raises(Failure, match="column b: expected values of one kind, found both bytes and others"):
        project.load("r2", **in_sqlite(project, "SELECT * FROM t"))


def test_sqlite_is_asked_only_for_what_is_new(project: Project, database: sqlite3.Connection) -> None:
    database.execute("CREATE TABLE t (id INTEGER, at INTEGER)")
    database.execute("INSERT INTO t VALUES (1, 10), (2, 20)")
    database.commit()
    load = in_sqlite(project, "SELECT * FROM t ORDER BY at", load={"mode": "upsert", "key": ["id"], "watermark": "at"})
    project.load("r1", **load)
    database.execute("INSERT INTO t VALUES (3, 20), (4, 30)")
    database.execute("UPDATE t SET at = 15 WHERE id = 1")
    database.commit()
    assert project.load("r2", **load).rows_added == 3, "an upsert sees equal marks again: 2, 3 and 4"
    assert [(row["id"], row["at"]) for row in project.rows()] == [(1, 10), (2, 20), (3, 20), (4, 30)]


def test_sqlite_that_is_not_there_or_is_no_database_is_told(project: Project, database: sqlite3.Connection) -> None:
    with pytest.raises(Failure, match=r"a file\.db: no such table: t"):
        project.load("r1", **in_sqlite(project, "SELECT * FROM t"))
    nowhere = {"source": {"sql": {"query": "SELECT 1", "database": "sqlite:///not/there.db"}}}
    with pytest.raises(Failure, match=r"/not/there\.db: expected a SQLite database, there is no such file"):
        project.load("r2", **nowhere)
    (project.folder / "a file.db").write_bytes(b"hello" * 100)
    with pytest.raises(Failure, match="file is not a database"):
        project.load("r3", **in_sqlite(project, "SELECT * FROM sqlite_master"))


def test_sqlite_that_is_locked_is_tried_again(
    project: Project, database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute("CREATE TABLE t (id INTEGER)")
    database.commit()
    database.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr("mizzen.data.ingest.sqlite_source.PATIENCE_S", 0.0)
    with pytest.raises(Failure, match="database is locked") as caught:
        project.load("r1", **in_sqlite(project, "SELECT * FROM t"))
    assert caught.value.exit_code == TRY_AGAIN


# -- PostgreSQL

needs_postgres = pytest.mark.skipif(
    postgres.programs() is None, reason="PostgreSQL is not installed (.ci/run installs it)"
)


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    pytest.importorskip("adbc_driver_postgresql")
    with postgres.server() as url:
        yield url


def run_sql(url: str, *statements: str) -> None:
    import adbc_driver_postgresql.dbapi as postgresql

    with postgresql.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@needs_postgres
def test_rows_of_postgres_keep_their_types(
    project: Project, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among them times with and without a zone, days, arrays, numerics as text; the URL is in a variable."""
    monkeypatch.setenv("WAREHOUSE", postgres_url)
    query = """
        SELECT 1::int AS i, 2::bigint AS l, 1.5::float8 AS d, 'x'::text AS s, true AS b, NULL::text AS n,
               '2020-01-01 12:00+01'::timestamptz AS z, '2020-01-01 12:00'::timestamp AS t, '2020-02-29'::date AS day,
               ARRAY[1, 2] AS a, 12.50::numeric AS m, '\\x00ff'::bytea AS y;
    """
    source = {"sql": {"query": query, "databaseEnv": "WAREHOUSE"}}
    project.load("r1", source=source, code=None)
    assert project.rows() == [{
        "i": 1, "l": 2, "d": 1.5, "s": "x", "b": True, "n": None,
        "z": dt.datetime(2020, 1, 1, 11, tzinfo=dt.UTC), "t": dt.datetime(2020, 1, 1, 12), "day": dt.date(2020, 2, 29),  # noqa: DTZ001
        "a": [1, 2], "m": "12.50", "y": b"\x00\xff",
    }]  # fmt: skip


@needs_postgres
@pytest.mark.parametrize(("type_", "values"), [
    ("timestamptz", ["2020-01-01 12:00:00.000001+00", "2020-01-01 12:00:00.000002+00"]),
    ("timestamp", ["2020-01-01 12:00:00", "2020-01-01 12:00:01"]), ("date", ["2020-01-01", "2020-01-02"]),
    ("bigint", ["9007199254740993", "9007199254740994"]), ("float8", ["0.1", "0.30000000000000004"]),
    ("text", ["a'b", "b"]),
])  # fmt: skip
def test_postgres_is_asked_only_for_what_is_new(
    project: Project, postgres_url: str, type_: str, values: list[str]
) -> None:
    first, second = (value.replace("'", "''") for value in values)
    run_sql(
        postgres_url,
        "DROP TABLE IF EXISTS t",
        f"CREATE TABLE t (id int, at {type_})",
        f"INSERT INTO t VALUES (1, '{first}')",
    )
    source = {"sql": {"query": "SELECT * FROM t", "database": postgres_url}}
    load = {"source": source, "load": {"mode": "append", "watermark": "at"}, "code": None}
    project.load("r1", **load)
    assert project.load("r2", **load).operation == "nothing new"
    run_sql(postgres_url, f"INSERT INTO t VALUES (2, '{second}')")
    assert project.load("r3", **load).rows_added == 1
    assert [row["id"] for row in project.rows()] == [1, 2]


@needs_postgres
def test_what_postgres_refuses_is_told_without_the_password(project: Project, postgres_url: str) -> None:
    url = postgres_url.replace("mizzen@", "mizzen:secret@")
    with pytest.raises(Failure, match='relation "nothing" does not exist') as caught:
        project.load("r1", source={"sql": {"query": "SELECT * FROM nothing", "database": url}}, code=None)
    assert (caught.value.exit_code, "secret" in caught.value.message) == (1, False)
    away = "postgresql://mizzen:secret@127.0.0.1:1/postgres"
    with pytest.raises(Failure, match=r"postgresql://127\.0\.0\.1/postgres: .*(?i:refused)") as caught:
        project.load("r2", source={"sql": {"query": "SELECT 1", "database": away}}, code=None)
    assert (caught.value.exit_code, "secret" in caught.value.message) == (TRY_AGAIN, False)
    with pytest.raises(Failure, match="the variable NOWHERE is not set"):
        project.load("r3", source={"sql": {"query": "SELECT 1", "databaseEnv": "NOWHERE"}}, code=None)
