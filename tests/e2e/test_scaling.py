"""From zero to many and back, under load: no request is lost, and a burst to zero starts one worker."""

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator

import psutil
import pytest
from tests.e2e.machine import Machine

ENDPOINT = {
    "apiVersion": "mizzen.dev/v1alpha1",
    "kind": "InferenceEndpoint",
    "metadata": {"name": "elastic"},
    "spec": {
        "model": "thing@production",
        "access": "anonymous",
        "worker": {"resources": {"cpu": "100m", "memory": "256Mi"}},
        "scaling": {
            "minReplicas": 0, "maxReplicas": 3, "targetRate": 8, "stableWindow": "6s", "scaleToZeroAfter": "2s",
        },
    },
}  # fmt: skip


@pytest.fixture
def elastic(serving: Machine) -> Iterator[Machine]:
    serving.kubectl("apply", "-f", "-", text=json.dumps(ENDPOINT))
    serving.mizzen("wait", "ie/elastic", "--timeout", "60s")
    yield serving
    serving.kubectl("delete", "ie/elastic")


def expect_workers(machine: Machine, number: int) -> None:
    machine.kubectl("wait", "ie/elastic", f"--for=jsonpath={{.status.replicas}}={number}", "--timeout=60s")


def started(machine: Machine) -> int:
    """Workers of the endpoint that were ever started."""
    events = json.loads(machine.kubectl("get", "events", "-o", "json"))["items"]
    mine = [
        one for one in events if one["reason"] == "Started" and one["involvedObject"]["name"].startswith("elastic-")
    ]
    return sum(one.get("count") or 1 for one in mine)


class Client:
    """Asks again and again, in threads of its own; keeps every answer that was not the right one."""

    def __init__(self, machine: Machine, endpoint: str = "elastic") -> None:
        self.url = f"{machine.endpoints_url}/v2/models/{endpoint}"
        with urllib.request.urlopen(self.url, timeout=30) as answer:
            (tensor,) = json.loads(answer.read())["inputs"]
        self.body = json.dumps({"inputs": [{**tensor, "shape": [1, 3], "data": [3.0, 3.0, 0.0]}]}).encode()
        self.answered = 0
        self.wrong: list[str] = []
        self.enough = threading.Event()
        self._lock = threading.Lock()

    def ask(self) -> None:
        try:
            with urllib.request.urlopen(f"{self.url}/infer", self.body, timeout=40) as answer:
                outputs = json.loads(answer.read())["outputs"]
            label = next(output for output in outputs if output["name"] == "label")["data"]
            problem = None if label == [1] else f"wrong answer {label}"
        except OSError as error:
            problem = str(error)
        with self._lock:
            self.answered += 1
            if problem is not None:
                self.wrong.append(problem)

    def burst(self, number: int) -> None:
        """So many at once, until all are answered."""
        threads = [threading.Thread(target=self.ask) for _ in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def load(self, number: int) -> list[threading.Thread]:
        """So many that ask on until `enough`."""

        def ask_on() -> None:
            while not self.enough.is_set():
                self.ask()

        threads = [threading.Thread(target=ask_on) for _ in range(number)]
        for thread in threads:
            thread.start()
        return threads


def test_from_zero_to_many_and_back_no_request_is_lost(elastic: Machine) -> None:
    client = Client(elastic)
    expect_workers(elastic, 0)
    assert elastic.condition("ie/elastic")["status"] == "True", "idle is not broken"
    before = started(elastic)
    client.burst(30)
    assert (client.answered, client.wrong) == (30, [])
    assert started(elastic) - before == 1, "thirty requests to zero workers start one"
    threads = client.load(8)
    try:
        expect_workers(elastic, 3)
    finally:
        client.enough.set()
        for thread in threads:
            thread.join()
    expect_workers(elastic, 0)
    assert client.wrong == []
    said = elastic.get("ie/elastic")["status"]["scaling"]
    assert (said["desired"], said["rule"]) == (0, "idle")
    assert said["why"].startswith("no request for ")
    assert said["timeToReady"].endswith("s")
    reasons = {one["reason"] for one in json.loads(elastic.kubectl("get", "events", "-o", "json"))["items"]}
    assert {"ScaledUp", "ScaledDown"} <= reasons


def test_the_models_of_a_graph_follow_their_load(serving: Machine) -> None:
    """From one worker to three under load and back, with no request lost."""
    graph = json.loads(json.dumps(ENDPOINT))
    graph["metadata"]["name"] = "woven"
    del graph["spec"]["model"]
    graph["spec"]["graph"] = {"nodes": [{"name": "only", "model": "thing@production"}]}
    graph["spec"]["scaling"] = {"minReplicas": 1, "maxReplicas": 3, "targetRate": 8, "stableWindow": "6s"}
    serving.kubectl("apply", "-f", "-", text=json.dumps(graph))
    try:
        serving.mizzen("wait", "ie/woven", "--timeout", "60s")
        client = Client(serving, "woven")
        threads = client.load(8)
        try:
            serving.kubectl("wait", "ie/woven", "--for=jsonpath={.status.replicas}=3", "--timeout=60s")
        finally:
            client.enough.set()
            for thread in threads:
                thread.join()
        serving.kubectl("wait", "ie/woven", "--for=jsonpath={.status.replicas}=1", "--timeout=60s")
        assert (client.wrong, client.answered > 0) == ([], True)
        assert serving.get("ie/woven")["status"]["scaling"]["desired"] == 1
        assert serving.condition("ie/woven")["status"] == "True"
    finally:
        serving.kubectl("delete", "ie/woven")


def test_a_worker_that_no_machine_can_hold_is_said_with_the_arithmetic(serving: Machine) -> None:
    huge = json.loads(json.dumps(ENDPOINT))
    huge["metadata"]["name"] = "huge"
    huge["spec"]["worker"]["resources"]["cpu"] = "1000"
    serving.kubectl("apply", "-f", "-", text=json.dumps(huge))
    try:
        serving.kubectl("wait", "ie/huge", "--for=condition=Placed=False", "--timeout=60s")
        message = serving.condition("ie/huge", type_="Placed")["message"]
        assert "a worker asks for 1000 cores and " in message
        assert "; the largest node, " in message
    finally:
        serving.kubectl("delete", "ie/huge")


def of_processors(name: str, share: float, **scaling: object) -> str:
    """An endpoint whose worker asks for that share of the machine's processors. (Memory would not do: workers ask for
    what one of the model was measured to take.)
    """
    one = json.loads(json.dumps(ENDPOINT))
    one["metadata"]["name"] = name
    one["spec"]["worker"]["resources"]["cpu"] = f"{int(share * 1000 * (psutil.cpu_count() or 1))}m"
    one["spec"]["scaling"] = {"minReplicas": 0, "maxReplicas": 1, "scaleToZeroAfter": "1h", **scaling}
    return json.dumps(one)


def test_idle_endpoints_give_way_to_those_that_need_a_worker_and_pinned_ones_never(serving: Machine) -> None:
    """Two that do not fit together, and one that must have a worker: whoever is asked is answered, by turns, and the
    third keeps its process."""
    names = ("pinned", "first", "second")
    try:
        serving.kubectl("apply", "-f", "-", text=of_processors("pinned", 0.2, minReplicas=1))
        serving.mizzen("wait", "ie/pinned", "--timeout", "60s")
        for name in ("first", "second"):
            serving.kubectl("apply", "-f", "-", text=of_processors(name, 0.45))
            serving.mizzen("wait", f"ie/{name}", "--timeout", "60s")
        pinned = serving.get("ie/pinned")["status"]["workers"]
        for name in ("first", "second", "first"):
            client = Client(serving, name)
            client.burst(3)
            assert (client.answered, client.wrong) == (3, [])
        assert serving.get("ie/pinned")["status"]["workers"] == pinned
        said = serving.get("ie/second")["status"]["scaling"]
        assert (said["desired"], said["rule"]) == (0, "givesWay")
        assert said["why"] == "idle, and a worker of default/first has no room"
    finally:
        for name in names:
            serving.kubectl("delete", f"ie/{name}", "--ignore-not-found")


@pytest.fixture
def twin(serving: Machine) -> Iterator[Machine]:
    """An endpoint of a model with two versions, of which the one that is replaced is kept warm."""
    path = next((serving.home / "store" / "models").rglob("*.onnx"))
    for _ in range(2):
        serving.mizzen("models", "register", "twin", str(path))
    one = {**ENDPOINT, "metadata": {"name": "twin"}}
    one["spec"] = {**ENDPOINT["spec"], "model": "twin:1", "scaling": {}, "rollout": {"keepPrevious": "1h"}}
    serving.kubectl("apply", "-f", "-", text=json.dumps(one))
    serving.mizzen("wait", "ie/twin", "--timeout", "60s")
    yield serving
    serving.kubectl("delete", "ie/twin")


def swap_to(machine: Machine, version: int) -> None:
    machine.kubectl("patch", "ie/twin", "--type=merge", "-p", json.dumps({"spec": {"model": f"twin:{version}"}}))
    expect_serving(machine, version)


def expect_serving(machine: Machine, version: int) -> None:
    machine.kubectl("wait", "ie/twin", f"--for=jsonpath={{.status.serving}}=twin:{version}", "--timeout=60s")


def worker_of(machine: Machine, version: int) -> str:
    """The Pod of the version's only worker."""
    (pod,) = machine.kubectl(
        "get", "pods", "-l", f"mizzen.dev/endpoint=twin,mizzen.dev/version={version}", "-o", "name"
    ).split()
    return pod


def kill_worker(machine: Machine, pod: str) -> None:
    """The container's process, once it is ready again; until the kubelet has seen it: it may be back within a moment."""
    machine.kubectl("wait", pod, "--for=condition=Ready", "--timeout=60s")
    restarts = int(machine.kubectl("get", pod, "-o", "jsonpath={.status.containerStatuses[0].restartCount}"))
    uid = machine.kubectl("get", pod, "-o", "jsonpath={.metadata.uid}")
    attempts = (machine.home / "node" / "pods" / uid / "containers" / "worker").iterdir()
    newest = max(attempts, key=lambda path: int(path.name))
    (pid,) = [line[4:].strip() for line in (newest / "running").read_text().splitlines() if line.startswith("pid=")]
    os.kill(int(pid), signal.SIGKILL)
    counted = f"--for=jsonpath={{.status.containerStatuses[0].restartCount}}={restarts + 1}"
    machine.kubectl("wait", pod, counted, "--timeout=60s")


def test_the_way_back_is_a_switch_and_a_version_that_keeps_dying_takes_it_by_itself(twin: Machine) -> None:
    first = worker_of(twin, 1)
    swap_to(twin, 2)
    assert twin.get("ie/twin")["status"]["previous"]["version"] == 1
    swap_to(twin, 1)
    assert worker_of(twin, 1) == first, "it was there all the while"
    swap_to(twin, 2)
    second = worker_of(twin, 2)
    for _ in range(2):
        kill_worker(twin, second)
    expect_serving(twin, 1)
    assert worker_of(twin, 1) == first
    twin.kubectl("wait", "ie/twin", "--for=condition=Ready=False", "--timeout=60s")
    message = twin.condition("ie/twin")["message"]
    assert message.startswith(
        "version 2 did not come up: its workers came up and died 2 times: Killed: killed by SIGKILL"
    )
    assert "twin:1 stays served; next try at " in message
