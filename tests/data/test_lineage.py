"""Lineage: what events say, where they go, and which columns come from which."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.data.project import NOW, Project

from mizzen.data.ingest import main as ingest_main
from mizzen.data.ingest.column_lineage import origins_of
from mizzen.data.ingest.lineage import dataset_name
from mizzen.data.pod import Failure
from mizzen.kinds.data import LoadReport

TABLES = {
    "flights": ["origin", "carrier", "delay", "moment"],
    "airports": ["code", "city"],
    "carriers": ["carrier", "name"],
}
SAME, T, A = "IDENTITY", "TRANSFORMATION", "AGGREGATION"
QUERIES: dict[str, tuple[str, dict[str, set[tuple[str, str, str]]]]] = {
    "columns": ("SELECT origin, delay AS d FROM flights", {"origin": {("flights", "origin", SAME)}, "d": {("flights", "delay", SAME)}}),
    "expressions": ("SELECT delay / 60 AS h, upper(f.origin) || carrier AS k, 1 AS one FROM flights f", {
        "h": {("flights", "delay", T)}, "k": {("flights", "origin", T), ("flights", "carrier", T)}, "one": set()}),
    "aggregates": ("SELECT origin, avg(delay + 1) AS m, count(*) AS n FROM flights GROUP BY origin", {
        "origin": {("flights", "origin", SAME)}, "m": {("flights", "delay", A)}, "n": set()}),
    "a star": ("SELECT * FROM airports", {"code": {("airports", "code", SAME)}, "city": {("airports", "city", SAME)}}),
    "a star without": ("SELECT * EXCLUDE (code) FROM airports", {"city": {("airports", "city", SAME)}}),
    "a star of one": ("SELECT a.*, delay FROM flights f JOIN airports a ON origin = code", {
        "code": {("airports", "code", SAME)}, "city": {("airports", "city", SAME)}, "delay": {("flights", "delay", SAME)}}),
    "using": ("SELECT * FROM carriers JOIN (SELECT carrier, delay FROM flights) USING (carrier)", {
        "carrier": {("carriers", "carrier", SAME), ("flights", "carrier", SAME)}, "name": {("carriers", "name", SAME)}, "delay": {("flights", "delay", SAME)}}),
    "with": ("WITH late AS (SELECT origin AS o, max(delay) AS worst FROM flights GROUP BY 1), x AS (SELECT * FROM late) SELECT city, worst * 2 AS w FROM x JOIN airports ON o = code", {
        "city": {("airports", "city", SAME)}, "w": {("flights", "delay", A)}}),
    "a union": ("SELECT origin FROM flights UNION ALL SELECT code FROM airports", {"origin": {("flights", "origin", SAME), ("airports", "code", SAME)}}),
    "a window": ("SELECT lag(delay) OVER (PARTITION BY carrier ORDER BY moment) AS before FROM flights", {
        "before": {("flights", "delay", T), ("flights", "carrier", T), ("flights", "moment", T)}}),
    "a subquery as a value": ("SELECT code, (SELECT max(delay) FROM flights WHERE origin = code) AS worst FROM airports", {
        "code": {("airports", "code", SAME)}, "worst": {("flights", "delay", A)}}),
    "a renamed table": ("SELECT b FROM (SELECT origin, delay FROM flights) t(a, b)", {"b": {("flights", "delay", SAME)}}),
}  # fmt: skip


@pytest.mark.parametrize("name", QUERIES)
def test_origins_of_columns(name: str) -> None:
    """By hand, for each form of query; the answer's columns are those that DuckDB gives it."""
    query, expected = QUERIES[name]
    with duckdb.connect() as connection:
        for table, columns in TABLES.items():
            connection.execute(f"CREATE TABLE {table} ({', '.join(f'{c} {_type(c)}' for c in columns)})")
        answer = connection.sql(query).columns
    found = origins_of(query, TABLES, answer)
    assert {name: {(o.table, o.column, o.kind) for o in origins} for name, origins in found.items()} == expected


def _type(column: str) -> str:
    return {"delay": "DOUBLE", "moment": "TIMESTAMP"}.get(column, "VARCHAR")


@pytest.mark.parametrize("query", [
    "SELECT COLUMNS('o.*') FROM flights", "SELECT * FROM flights NATURAL JOIN carriers", "SELECT x FROM nowhere",
    "PIVOT flights ON carrier USING sum(delay)", "SELECT unknown FROM flights", "not SQL",
    "SELECT * REPLACE (1 AS delay) FROM flights", "SELECT * FROM range(3)", "SELECT 1; SELECT 2",
])  # fmt: skip
def test_what_is_not_understood_has_no_lineage(query: str) -> None:
    assert origins_of(query, TABLES, ["a"]) == {}


class Told:
    def report(self, report: LoadReport) -> None:
        pass


def events(project: Project, **task: Any) -> list[dict[str, Any]]:
    """Of one load, told to a file."""
    path = project.folder / "lineage" / "events.jsonl"
    path.unlink(missing_ok=True)
    with contextlib.suppress(Failure):
        ingest_main.ingest(project.task(lineageUrl=path.as_uri(), **task), Told(), lambda: NOW)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_load_tells_that_it_began_and_how_it_ended(project: Project) -> None:
    """Datasets with versions, columns with their origins and tags, the same run id in both events, no values."""
    project.put("people.csv", "email,city\nada@example.org,Rome\n")
    project.load("p", name="people", source={"files": ["people.csv"]})
    sql = {"query": "SELECT city, count(email) AS n FROM people GROUP BY city", "datasets": [{"name": "people"}]}
    start, complete = events(
        project, source={"sql": sql}, inputs=[{"name": "people", "version": 1}],
        columns={"n": {"personal": "indirect", "residency": ["eu"], "tags": ["kpi"]}},
    )  # fmt: skip
    assert [start["eventType"], complete["eventType"]] == ["START", "COMPLETE"]
    assert start["run"]["runId"] == complete["run"]["runId"]
    (read,), (written,) = complete["inputs"], complete["outputs"]
    assert read["name"].endswith("tables/ns/people")
    assert read["facets"]["version"]["datasetVersion"] == "1"
    facets = written["facets"]
    assert [(field["name"], field["type"]) for field in facets["schema"]["fields"]] == [
        ("city", "string"),
        ("n", "int64"),
    ]
    origins = facets["columnLineage"]["fields"]
    assert [
        (each["name"] == read["name"], each["field"], each["transformations"][0]["subtype"])
        for each in origins["n"]["inputFields"]
    ] == [(True, "email", A)]
    assert [(tag["key"], tag["value"], tag["field"]) for tag in facets["tags"]["tags"]] == [
        ("personal", "indirect", "n"), ("residency", "eu", "n"), ("kpi", "true", "n"),
    ]  # fmt: skip
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == 1
    assert complete["job"]["facets"]["sql"]["query"] == sql["query"]
    assert "Rome" not in json.dumps([start, complete])


def test_a_load_that_fails_tells_why(project: Project) -> None:
    _, failed = events(project, source={"files": ["nothing.csv"]}, code=None)
    assert failed["eventType"] == "FAIL"
    assert "nothing.csv" in failed["run"]["facets"]["errorMessage"]["message"]


def test_files_are_inputs_and_their_columns_are_kept(project: Project) -> None:
    project.put("a.csv", "x\n1\n")
    _, complete = events(project, source={"files": [f"{(project.folder / 'project' / 'a.csv').as_uri()}"]})
    assert complete["inputs"][0]["namespace"] == "file"
    assert complete["outputs"][0]["facets"]["columnLineage"]["fields"]["x"]["inputFields"][0]["field"] == "x"


def test_events_go_over_http_and_a_deaf_endpoint_costs_no_load(project: Project) -> None:
    """An endpoint that takes events; one that answers 500; one that is not there; a URL that is none."""
    taken: list[dict[str, Any]] = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            taken.append(event)
            self.send_response(500 if "bad" in self.path else 201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    project.put("a.csv", "x\n1\n")
    url = f"http://127.0.0.1:{server.server_port}"
    for number, target in enumerate((f"{url}/api/v1/lineage", f"{url}/bad", "http://127.0.0.1:9/x", "ftp://x")):
        task = project.task(f"r{number}", lineageUrl=target, source={"files": ["a.csv"]})
        ingest_main.ingest(task, Told(), lambda: NOW)
    server.shutdown()
    thread.join()
    server.server_close()
    assert [event["eventType"] for event in taken] == ["START", "COMPLETE"] * 2
    assert len(project.table.history()) == 4


@pytest.mark.parametrize(("url", "expected"), [
    ("file:///a%20b/tables/x", ("file", "/a b/tables/x")), ("s3://bucket/p/tables/x", ("s3://bucket", "p/tables/x")),
    ("data/*.csv", ("file", "data/*.csv")), ("postgresql://me:secret@host:5432/db", ("postgresql://host:5432", "db")),
])  # fmt: skip
def test_names_of_datasets(url: str, expected: tuple[str, str]) -> None:
    """As the specification says; without passwords."""
    named = dataset_name(url)
    assert (named["namespace"], named["name"]) == expected
    assert Path(named["name"]).name
