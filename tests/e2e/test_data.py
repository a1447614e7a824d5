"""Datasets on a whole machine: files by part, SQL over datasets, pushed rows, restore; every verb of `mizzen data`."""

import json
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from tests.e2e.machine import Machine

RESOURCES = """
apiVersion: mizzen.dev/v1alpha1
kind: Dataset
metadata: {name: people}
spec:
  source: {files: ["*.csv"]}
  load: {mode: append, newFiles: true}
  columns: {email: {personal: identifier, residency: [eu]}}
---
kind: Dataset
metadata: {name: by-city}
spec:
  source: {sql: {query: "SELECT city, count(*) AS n FROM people GROUP BY city ORDER BY city", datasets: [{name: people}]}}
  refresh: {onInput: true}
---
kind: Dataset
metadata: {name: clicks}
spec:
  source: {push: {columns: [{name: id, type: integer, required: true}], commitEvery: 100ms}}
"""


@pytest.fixture(scope="module")
def project(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets with rows, and one that waits for some."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "resources.yaml").write_text(RESOURCES)
    (folder / "a.csv").write_text("email,city\na@x,Rome\nb@x,Oslo\n")
    machine.mizzen("apply", "-f", str(folder / "resources.yaml"))
    machine.mizzen("wait", "dset/people", "dset/by-city", "--timeout", "120s")
    return folder


def test_rows_profiles_and_sql(machine: Machine, project: Path) -> None:
    rows = json.loads(machine.mizzen("data", "head", "people", "-o", "json"))
    assert [row["email"] for row in rows] == ["a@x", "b@x"]
    profile = json.loads(machine.mizzen("data", "profile", "people", "-o", "json"))
    assert (profile["rows"], profile["columns"]["email"]["personal"]) == (2, True)
    assert "top" not in profile["columns"]["email"]
    assert "(personal data)" in machine.mizzen("data", "profile", "people")
    joined = machine.mizzen("data", "sql", 'SELECT sum(n) AS n FROM "by-city" JOIN people USING (city)', "-o", "json")
    assert json.loads(joined) == [{"n": 2}]
    assert "expected a dataset of namespace default" in machine.mizzen("data", "sql", "SELECT * FROM nowhere", code=2)
    assert "no version 99" in machine.mizzen("data", "head", "people", "-v", "99", code=4)
    program = "import mizzen; c = mizzen.Client(); print(c.data.sql('SELECT sum(n) AS n FROM \"by-city\"').to_pylist(), c.data.head('people', 1).num_rows)"
    said = subprocess.run(
        [sys.executable, "-c", program], env=machine.environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[{'n': 2}] 1"
    listed = {row["name"]: row for row in json.loads(machine.mizzen("data", "ls", "-o", "json"))}
    assert (listed["people"]["version"], listed["by-city"]["source"], listed["clicks"]["reason"]) == (
        1,
        "sql",
        "WaitingForRows",
    )
    (email,) = (column for column in machine.get("dset/people")["status"]["columns"] if column["name"] == "email")
    assert (email["personal"], email["residency"]) == ("identifier", ["eu"])


def test_loads_on_request_versions_differences_and_restore(machine: Machine, project: Path) -> None:
    """Nothing new, a new file, what differs, and back again; the dataset that reads it follows."""
    nothing = json.loads(machine.mizzen("data", "load", "people", "-o", "json"))
    assert (nothing["version"], nothing["rows"]) == (1, 2)
    (project / "b.csv").write_text("email,city\nc@x,Rome\n")
    machine.mizzen("apply", "-f", str(project / "resources.yaml"))
    machine.mizzen("wait", "dset/people", "--timeout", "120s")
    versions = json.loads(machine.mizzen("data", "versions", "people", "-o", "json"))
    assert [(each["version"], each["operation"]) for each in versions] == [(2, "append"), (1, "replace")]
    said = machine.mizzen("data", "diff", "people", "1", "2", "-o", "json", code=1)
    assert json.loads(said)["rows"] == {"before": 2, "after": 3, "added": 1, "removed": 0}
    restored = json.loads(machine.mizzen("data", "restore", "people", "1", "-o", "json"))
    assert (restored["version"], restored["rows"]) == (3, 2)
    assert "no version 99" in machine.mizzen("data", "restore", "people", "99", code=4)


def test_pushed_rows_are_kept_and_served(machine: Machine, project: Path) -> None:
    """By the command line and over HTTP, with a key for this dataset; a key for endpoints does not open it."""
    key = machine.mizzen("token", "create", "clicks-sender", "--dataset", "clicks").strip()
    other = machine.mizzen("token", "create", "only-asks").strip()
    machine.kubectl("wait", "dset/clicks", "--for=jsonpath={.status.pushUrl}", "--timeout=90s")
    url = machine.get("dset/clicks")["status"]["pushUrl"]
    said = machine.mizzen("data", "push", "clicks", '[{"id": 1}, {"id": 2}]', "--api-key", key)
    assert said.strip() == "dataset/clicks 2 rows kept"
    answer = httpx2.post(url, json=[{"id": 3}], headers={"X-API-Key": other}, trust_env=False)
    assert answer.status_code == 403
    refused = machine.mizzen("data", "push", "clicks", '{"id": "x"}', "--api-key", key, code=2)
    assert 'rows[0].id: expected an integer of 64 bits, got "x"' in refused
    machine.mizzen("wait", "dset/clicks", "--timeout", "60s")
    assert machine.get("dset/clicks")["status"]["rows"] == 2
