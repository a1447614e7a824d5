"""Random kills under load: no acknowledged write is lost, a retried request succeeds, nothing is left behind.

Not here: what a single kill at a chosen moment does; each part's own tests hold that.
"""

import json
import random
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import psutil
import pytest
from tests.e2e.machine import PROJECT, Machine

KILLS = 200
BURST = 20
"""Kills at random moments, after which everything must heal by itself before the next burst."""
HEALED_WITHIN_S = 120.0
"""A worker that is killed again and again is started again after a minute at the latest, as a crash loop is."""
PAUSE_S_MAX = 0.8
"""Kills come at random moments, up to this long apart."""
RETRY_S = 0.1
WRITE_EVERY_S = 0.25
REQUEST_PATIENCE = 1200
RETRIED = frozenset({429, 500, 502, 503, 504})
"""Answers that say: try again."""
SEED = 20130131


class Load(threading.Thread):
    """Repeats a piece of work until told to stop; keeps what it acknowledged and what went wrong for good."""

    def __init__(self, work: Callable[[int], str | None]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._enough = threading.Event()
        self.done: list[str] = []
        self.failed: list[str] = []

    def run(self) -> None:
        number = 0
        while not self._enough.is_set():
            number += 1
            try:
                answer = self._work(number)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                self.failed.append(str(error))
                continue
            if answer is not None:
                self.done.append(answer)

    def stop(self) -> None:
        self._enough.set()


def victims(machine: Machine) -> list[psutil.Process]:
    """Everything that may be killed: control process, gateway processes, workers, training Pods; not the supervisor."""
    kinds = ("mizzen.local.supervisor.control", "mizzen.serving.gateway", "mizzen.serving.worker", "mizzen.training")
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        command = " ".join(process.info["cmdline"] or [])
        environ = process.info["environ"] or {}
        if any(kind in command for kind in kinds) and str(machine.home) in (
            environ.get("MIZZEN_HOME", "") + command + str(environ)
        ):
            found.append(process)
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nothing_acknowledged_is_lost_and_everything_heals() -> None:
    """200 kills of random processes at random moments, while requests are answered and objects are written."""
    moments = random.Random(SEED)
    pause = threading.Event()
    with Machine() as machine:
        machine.up()
        machine.mizzen("apply", "-f", str(PROJECT / "resources.yaml"))
        machine.mizzen("wait", "ie/thing", "--timeout", "120s")
        key = machine.mizzen("token", "create", "chaos").strip()
        url = f"{machine.endpoints_url}/v2/models/thing"
        tensor = json.loads(_get(url, key))["inputs"][0]
        body = json.dumps({"inputs": [{**tensor, "shape": [1, 3], "data": [3.0, 3.0, 0.0]}]}).encode()

        def request(_: int) -> str | None:
            for _attempt in range(REQUEST_PATIENCE):
                try:
                    answer = json.loads(_get(f"{url}/infer", key, body))
                except (OSError, ValueError) as error:
                    if isinstance(error, urllib.error.HTTPError) and error.code not in RETRIED:
                        raise AssertionError(f"{error.code}: {error.read()[:200]!r}") from error
                    pause.wait(RETRY_S)
                    continue
                label = next(output for output in answer["outputs"] if output["name"] == "label")
                assert label["data"] == [1], f"wrong answer: {answer}"
                return "answered"
            raise AssertionError("a retried request did not succeed")

        def write(number: int) -> str | None:
            pause.wait(WRITE_EVERY_S)
            created = machine.kubectl(
                "create", "configmap", f"kept-{number}", f"--from-literal=n={number}", code=None, timeout_s=60
            )
            return f"kept-{number}" if "configmap/" in created and "created" in created else None

        loads = [Load(request), Load(request), Load(write)]
        for load in loads:
            load.start()
        try:
            killed = 0
            while killed < KILLS:
                if killed % (2 * BURST) == 0:
                    number = killed // (2 * BURST)
                    machine.mizzen("apply", "-f", "-", "--code", str(PROJECT), text=_training(number))
                for _ in range(BURST):
                    pause.wait(moments.uniform(0, PAUSE_S_MAX))
                    killed += _kill_one(machine, moments)
                _expect_healed(machine, f"{url}/infer", key, body, pause)
        finally:
            for load in loads:
                load.stop()
        for load in loads:
            load.join(timeout=180)
            assert not load.is_alive()
        said = machine.mizzen("wait", "ie/thing", "--timeout", "120s", code=None, timeout_s=150)
        assert "condition met" in said, said + _state(machine)
        assert [load.failed for load in loads] == [[], [], []]
        assert len(loads[0].done) + len(loads[1].done) > 100, "there was load"
        kept = set(machine.mizzen("get", "configmaps", "-o", "name").split())
        lost = [name for name in loads[2].done if f"configmap/{name}" not in kept]
        assert lost == []
        assert len(loads[2].done) > 10, "there were writes"
        assert json.loads(_get(f"{url}/infer", key, body))["outputs"]


def _kill_one(machine: Machine, moments: random.Random) -> int:
    """Kills one process chosen by chance; how many it was, since none may be there just now."""
    candidates = sorted(victims(machine), key=lambda process: process.pid)
    if not candidates:
        return 0
    try:
        moments.choice(candidates).send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return 0
    return 1


def _expect_healed(machine: Machine, url: str, key: str, body: bytes, pause: threading.Event) -> None:
    """The API server is ready and the endpoint answers again, with nobody doing anything about it."""
    deadline = time.monotonic() + HEALED_WITHIN_S
    problem = ""
    while time.monotonic() < deadline:
        try:
            if "ok" in machine.kubectl("get", "--raw", "/readyz", code=None, timeout_s=20) and _get(url, key, body):
                return
            problem = "the API server is not ready"
        except (OSError, urllib.error.HTTPError, subprocess.TimeoutExpired) as error:
            problem = str(error)
        pause.wait(RETRY_S)
    pytest.fail(f"expected everything to heal within {HEALED_WITHIN_S:.0f} s: {problem}\n{_state(machine)}")


def _state(machine: Machine) -> str:
    """What there is to see where something did not heal."""
    return "\n".join(
        machine.kubectl(*words, code=None)
        for words in (
            ("get", "--raw", "/readyz?verbose"), ("get", "all,mizzen,endpointslices", "-o", "wide"),
            ("describe", "ie/thing"),
        )
    )  # fmt: skip


def _training(number: int) -> str:
    return json.dumps(
        {
            "apiVersion": "mizzen.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": f"chaos-{number}"},
            "spec": {"model": "thing", "entrypoint": "train:fit", "datasets": [{"name": "things"}], "retries": 50},
        }
    )


def _get(url: str, key: str, body: bytes | None = None) -> bytes:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
        data: bytes = answer.read()
        return data
