"""Batch predictions on a whole machine: as a user runs them, with what goes wrong, and under SIGKILL."""

import json
import signal
import threading
import time
from pathlib import Path
from typing import Self

import httpx2
import psutil
import pytest
from tests.e2e.machine import PROJECT, Machine

from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table

ROWS = """
from collections.abc import Iterator
import numpy as np
import pyarrow as pa

def {name}() -> Iterator[pa.Table]:
    for start in range(0, {count}, 100_000):
        ids = np.arange(start, min(start + 100_000, {count}))
        a = np.where(ids % 3 == 0, 1.0, -1.0)
        yield pa.table({{"id": ids, "a": a * (1 + ids % 10), "b": a, "c": np.zeros(len(ids))}})
"""
"""Of a row the model says 1 where its id can be divided by three, and 0 otherwise."""


def dataset(machine: Machine, folder: Path, name: str, count: int) -> None:
    (folder / "source.py").write_text(ROWS.format(name=name, count=count))
    body = {
        "apiVersion": "mizzen.dev/v1alpha1",
        "kind": "Dataset",
        "metadata": {"name": name},
        "spec": {"source": {"python": f"source:{name}"}, "resources": {"cpu": "100m", "memory": "1Gi"}},
    }
    machine.mizzen("apply", "-f", "-", "--code", str(folder), text=json.dumps(body))
    machine.mizzen("wait", f"dset/{name}", "--timeout", "90s")


def batch(name: str, source: str, **spec: object) -> str:
    body = {
        "apiVersion": "mizzen.dev/v1alpha1",
        "kind": "BatchPrediction",
        "metadata": {"name": name},
        "spec": {
            "input": {"dataset": source},
            "output": {"dataset": f"{name}-scored", "keep": ["id"], "predictions": [{"output": "label", "name": "y"}]},
            "resources": {"cpu": "100m", "memory": "512Mi"},
            "background": False,
            **spec,
        },
    }
    return json.dumps(body)


def expect_every_row_once(machine: Machine, name: str, count: int) -> None:
    """The output is one version, with each row once, in order, and its own answer."""
    table = Table(Store.open((machine.home / "store").as_uri()), "default", f"{name}-scored")
    assert len(table.history()) == 1
    rows = table.at().arrow()
    assert rows.column("id").to_pylist() == list(range(count))
    assert rows.column("y").to_pylist() == [int(number % 3 == 0) for number in range(count)]
    assert rows.column("error").null_count == count
    table.verify()


def test_a_dataset_is_predicted_by_two_pods_and_through_the_endpoint(serving: Machine, tmp_path: Path) -> None:
    """The same rows both ways: the same version, to the bytes; readable as any dataset, with its model and input."""
    dataset(serving, tmp_path, "some", 5000)
    serving.apply(batch("own", "some", model="thing@production", parallelism=2, groupRows=700))
    serving.apply(batch("through", "some", endpoint="thing", groupRows=700))
    for name in ("own", "through"):
        serving.mizzen("wait", f"bp/{name}", "--timeout", "90s")
        expect_every_row_once(serving, name, 5000)
    own, through = serving.get("dset", "own-scored")["status"], serving.get("dset", "through-scored")["status"]
    assert own["digest"] == through["digest"]
    assert own["model"]["digest"] == serving.get("mv", "thing-1")["spec"]["artifact"]["digest"]
    assert [(each["name"], each["version"]) for each in own["inputs"]] == [("some", 1)]
    assert "NAME" in serving.kubectl("get", "bp")
    run = serving.get("bp", "own")["status"]["runs"][0]
    assert (run["phase"], run["rows"], run["failedRows"]) == ("Succeeded", 5000, 0)
    assert "5000 rows by thing-1" in serving.mizzen("describe", "bp/own")
    assert "version 1 with 5000 rows" in serving.mizzen("logs", "bp/through")
    said = serving.mizzen("batch", "run", "own", "--wait", "60s")
    assert said == "batchprediction/own version 2: 5000 rows by thing-1\n"
    assert len(serving.get("bp", "own")["status"]["runs"]) == 2


def test_what_cannot_be_is_refused_or_said(serving: Machine) -> None:
    """By `mizzen apply` with the line, by the API server to kubectl, and by the controller on the object."""
    schedule = {"cron": "0 25 * * *", "timeZone": "Europe/Berln"}
    said = serving.mizzen("apply", "-f", "-", text=batch("bad", "some", model="thing:1", schedule=schedule), code=2)
    assert "spec.schedule.cron: expected hour of 0 to 23 (found '25')" in said
    assert "spec.schedule.timeZone: expected an IANA time zone" in said
    for spec, message in (
        ({"model": "thing:1", "endpoint": "thing"}, "expected exactly one of model and endpoint"),
        ({"model": "thing:1", "through": "endpoint"}, "through: endpoint needs spec.endpoint"),
        ({"model": "thing"}, "spec.model"),
        ({"model": "thing:1", "output": {"dataset": "some"}}, "expected another dataset for the output"),
    ):
        said = serving.kubectl("apply", "-f", "-", text=batch("bad", "some", **spec), code=1)
        assert message in said
    serving.kubectl("apply", "-f", "-", text=batch("bad", "things", model="thing:1", output={"dataset": "some"}))
    serving.kubectl("wait", "bp/bad", "--for=jsonpath={.status.conditions[?(@.type=='Ready')].reason}=OutputTaken")
    serving.kubectl(
        "apply",
        "-f",
        "-",
        text=batch("bad", "things", model="thing:1", input={"dataset": "things", "columns": {"a": "d"}}),
    )
    serving.kubectl("wait", "bp/bad", "--for=jsonpath={.status.conditions[?(@.type=='Ready')].reason}=MissingColumns")
    serving.kubectl("delete", "bp/bad")


def test_one_that_is_deleted_while_it_works_leaves_nothing(serving: Machine, tmp_path: Path) -> None:
    """Its Pod ends, what it had kept is taken out of the store, and then it is gone; `top` has shown how far it was."""
    dataset(serving, tmp_path, "many", 200_000)
    slowly = {"batchRows": 4, "groupRows": 400}
    serving.apply(batch("abandoned", "many", model="thing@production", **slowly))
    folder = serving.home / "store" / "runs" / "default" / "abandoned"
    deadline, pause = time.monotonic() + 90, threading.Event()
    while len(list(folder.rglob("*.arrow"))) < 20:
        assert time.monotonic() < deadline, serving.mizzen("describe", "bp/abandoned")
        pause.wait(0.02)
    shown = serving.mizzen("top", "--once", "--interval", "0.2")
    assert "default/abandoned" in shown
    assert "ROWS/S" in shown
    serving.kubectl("delete", "bp/abandoned", "--timeout=60s")
    assert list(folder.rglob("*.arrow")) == []


def _processes(machine: Machine, module: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        command, environ = " ".join(process.info["cmdline"] or []), process.info["environ"] or {}
        ours = str(machine.home) in " ".join([command, environ.get("MIZZEN_HOME", ""), environ.get("MIZZEN_TASK", "")])
        if module in (process.info["cmdline"] or []) and ours:
            found.append(process)
    return found


def _groups_kept(machine: Machine) -> int:
    return len(list((machine.home / "store" / "runs" / "default" / "nightly").glob("*/groups/*.arrow")))


class Asking:
    """A client of the endpoint that compares each answer, for as long as it is open."""

    ROWS = ([2.0, 1.0, 0.0], [-2.0, -1.0, 0.0])

    def __init__(self, machine: Machine) -> None:
        self._url = f"{machine.endpoints_url}/v2/models/thing"
        self._headers = {"Authorization": f"Bearer {machine.mizzen('token', 'create', 'asking').strip()}"}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.right = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        number = 0
        with httpx2.Client(headers=self._headers, timeout=30.0, trust_env=False) as http:
            tensor = http.get(self._url).json()["inputs"][0]
            while not self._over.wait(0.02):
                number += 1
                wanted = number % 2
                inputs = [{**tensor, "shape": [1, 3], "data": self.ROWS[1 - wanted]}]
                try:
                    answer = http.post(f"{self._url}/infer", json={"inputs": inputs})
                    outputs = {each["name"]: each["data"] for each in answer.raise_for_status().json()["outputs"]}
                except (httpx2.HTTPError, ValueError) as error:
                    self.wrong.append(repr(error))
                    continue
                if outputs["label"] == [wanted]:
                    self.right += 1
                else:
                    self.wrong.append(f"{inputs}: {outputs}")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_rows_survive_three_kills(tmp_path: Path) -> None:
    """SIGKILL of the run's worker, of its Pod and of the control plane with its node: a million results, each once, and
    the endpoint beside it answers rightly all the while. And then of the supervisor with all of its parts.
    """
    count = 1_000_000
    pause = threading.Event()
    with Machine() as machine:
        machine.up()
        machine.mizzen("apply", "-f", str(PROJECT / "resources.yaml"))
        machine.mizzen("wait", "ie/thing", "--timeout", "120s")
        dataset(machine, tmp_path, "million", count)
        slowly = {"batchRows": 16, "groupRows": 10_000}  # so that there is time to be killed in
        machine.apply(batch("nightly", "million", model="thing@production", **slowly))

        def after(groups: int) -> None:
            deadline = time.monotonic() + 300
            while _groups_kept(machine) < groups:
                assert time.monotonic() < deadline, machine.mizzen("describe", "bp/nightly")
                pause.wait(0.01)

        def kill(module: str) -> None:
            victims = [p for p in _processes(machine, module) if module != "mizzen.serving.worker" or _is_child(p)]
            assert victims, f"{module} is at work"
            victims[0].send_signal(signal.SIGKILL)

        with Asking(machine) as asking:
            after(1)
            kill("mizzen.serving.worker")
            after(20)
            kill("mizzen.serving.batch")
            after(40)
            kill("mizzen.local.supervisor.control")
            after(60)
        assert (asking.wrong, asking.right > 500) == ([], True)
        after(70)
        kill("mizzen.local.supervisor")
        machine.up()
        machine.mizzen("wait", "bp/nightly", "--timeout", "400s", timeout_s=420)
        expect_every_row_once(machine, "nightly", count)
        status = machine.get("bp", "nightly")["status"]["runs"][0]
        assert (status["rows"], status["failedRows"]) == (count, 0)
        assert list((machine.home / "store" / "runs").rglob("*.arrow")) == []


def _is_child(process: psutil.Process) -> bool:
    """Whether it is a run's own worker, and not an endpoint's."""
    parent = process.parent()
    return parent is not None and "mizzen.serving.batch" in " ".join(parent.cmdline())
