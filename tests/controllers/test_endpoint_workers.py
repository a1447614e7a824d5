"""What an endpoint's status and events say of its workers: what they run on, what they take, and why they ended."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from lightkube.resources.core_v1 import Pod
from tests.controllers.builders import SETTINGS, T0, T1, endpoint, model, model_version

from mizzen.controllers.endpoint.crashes import last_crash
from mizzen.controllers.endpoint.decide import decide, resolved
from mizzen.controllers.endpoint.reports import ASK_AGAIN_S, Report, Reports, report_of
from mizzen.controllers.endpoint.workers import deployment_for, observed, warm_rows, worker_status
from mizzen.controllers.model.decide import decide as decide_model
from mizzen.kinds import ModelVersion
from mizzen.kinds.serve import Crash, WorkerStatus
from mizzen.kube.resources import Key
from mizzen.policy.rollout import Version, Workers

ONE = Version("late-1", "late", 1, f"sha256:{1:064x}")
FATAL = """Fatal Python error: Segmentation fault

Thread 0x00007f (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 331 in wait

Current thread 0x00007e (most recent call first):
  File "/code/serve.py", line 27 in predict
  File "/site-packages/mizzen/serving/worker/runner.py", line 108 in _work

Extension modules: numpy (total: 1)"""


def pod(
    state: dict[str, Any] | None = None, last: dict[str, Any] | None = None, *, restarts: int = 0, port: int = 1
) -> Pod:
    container = {
        "name": "worker", "image": "i", "imageID": "i", "ready": True, "restartCount": restarts,
        "state": state or {"running": {}}, "lastState": last or {},
    }  # fmt: skip
    return Pod.from_dict(
        {
            "metadata": {
                "name": "late-v1-x", "namespace": "default", "uid": "u",
                "annotations": {"node.mizzen.dev/ports": json.dumps({"health": port})},
            },
            "spec": {"containers": [{"name": "worker", "image": "i", "resources": {"limits": {"memory": "512Mi"}}}]},
            "status": {
                "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [container],
            },
        }
    )  # fmt: skip


def ended(code: int, message: str = "", reason: str = "Error", **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": T0, **more}}


@pytest.mark.parametrize(
    ("end", "reason", "message"),
    [
        (ended(2, "late:1 is corrupt; register it again"), "Failed", "late:1 is corrupt; register it again"),
        (ended(1, "line one\nMemoryError: no"), "Failed", "MemoryError: no"),
        (ended(3), "Failed", "ended with exit code 3"),
        (ended(137, reason="OOMKilled"), "OOMKilled", "took more memory than its limit of 512Mi and was killed"),
        (ended(137), "Killed", "killed by SIGKILL"),
        (ended(139, FATAL), "Killed", "killed by SIGSEGV in predict (serve.py:27)"),
        (ended(0, signal=6, exitCode=134), "Killed", "killed by SIGABRT"),
        (ended(255), "Killed", "killed by signal 127"),
        (ended(139, "INFO ready: late:1"), "Killed", "killed by SIGSEGV"),
    ],
)  # fmt: skip
def test_how_a_worker_ended_is_one_line(end: dict[str, Any], reason: str, message: str) -> None:
    """The same while it is down and after it was started again."""
    expected = Crash(reason=reason, message=message, at=T0)
    assert last_crash(pod(end)) == expected
    assert last_crash(pod(last=end)) == expected


def test_a_worker_that_ended_well_has_not_crashed() -> None:
    assert last_crash(pod()) is None
    assert last_crash(pod(last=ended(0))) is None


def test_a_worker_that_is_down_says_why_in_the_condition() -> None:
    deployment = deployment_for(endpoint(), ONE, SETTINGS)
    found = observed(deployment, [pod(ended(139, FATAL), restarts=1)], datetime.fromisoformat(T1))
    assert (found.restarts, found.trouble) == (1, "Killed: killed by SIGSEGV in predict (serve.py:27)")


def worker(**more: Any) -> WorkerStatus:
    return WorkerStatus(**({"pod": "late-v1-x", "model_version": "late-1", "ready": True} | more))


def test_a_crash_is_an_event_once_and_stays_in_the_status() -> None:
    ready = {"late-1": Workers(wanted=1, ready=1)}
    first = decide(endpoint(), ONE, ready, SETTINGS, T0, [worker()])
    assert [event.reason for event in first.events] == ["Serving"]
    crash = Crash(reason="Killed", message="killed by SIGSEGV", at=T0)
    seen = [worker(restarts=1, last_crash=crash)]
    second = decide(endpoint(first.status.to_wire()), ONE, ready, SETTINGS, T1, seen)
    assert [(event.type, event.reason, event.message) for event in second.events] == [
        ("Warning", "WorkerCrashed", "worker late-v1-x of late-1: Killed: killed by SIGSEGV")
    ]
    third = decide(endpoint(second.status.to_wire()), ONE, ready, SETTINGS, T1, seen)
    assert third.events == ()
    assert third.status.workers[0].last_crash == crash
    again = [worker(restarts=2, last_crash=crash.model_copy(update={"at": T1}))]
    assert len(decide(endpoint(third.status.to_wire()), ONE, ready, SETTINGS, T1, again).events) == 1


def test_the_memory_of_a_version_is_the_most_that_a_worker_told_and_is_kept_while_none_tells() -> None:
    ready = {"late-1": Workers(wanted=1, ready=1)}
    seen = [
        worker(memory_bytes=100),
        worker(pod="b", memory_bytes=300),
        worker(pod="c", model_version="late-2", memory_bytes=999),
    ]
    first = decide(endpoint(), ONE, ready, SETTINGS, T0, seen)
    assert first.status.traffic[0].memory_bytes == 300
    second = decide(endpoint(first.status.to_wire()), ONE, ready, SETTINGS, T1, [worker()])
    assert second.status.traffic[0].memory_bytes == 300


def test_a_report_is_read_as_far_as_it_is_understood() -> None:
    whole = {
        "facts": {"runtime": "onnxruntime 1.31", "provider": "CUDA", "threads": "4"},
        "memory": {"residentBytes": 9, "proportionalBytes": 7, "peakBytes": 8},
        "fetchS": 0.001, "loadS": 0.0056, "warmUpS": 0.12345, "more": 1,
    }  # fmt: skip
    assert report_of(whole) == Report("onnxruntime 1.31", "CUDA", 4, 7, 8, 0.001, 0.006, 0.123)
    for odd in ({}, [], None, {"facts": 1, "memory": []}, {"facts": {"threads": "many"}, "memory": None}):
        assert report_of(odd) == Report()


async def test_a_ready_worker_is_asked_once_for_each_start_and_the_endpoint_is_queued() -> None:
    """A real server answers; one that is not there is asked again after a while."""
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /status ")
        asked += 1
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\n{"facts": {"runtime": "r 1"}}   ')
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    told: asyncio.Queue[Key] = asyncio.Queue()
    now_s = 100.0
    reports = Reports(lambda: now_s, told.put_nowait)
    key = Key("default", "late")
    assert reports.of(pod(port=port), key) == Report()
    async with asyncio.timeout(10):
        assert await told.get() == key
    assert [reports.of(pod(port=port), key).runtime for _ in range(3)] == ["r 1"] * 3
    assert asked == 1
    assert reports.of(pod(port=port, restarts=1), key) == Report()
    async with asyncio.timeout(10):
        await told.get()
    assert asked == 2
    server.close()
    await server.wait_closed()
    for _ in range(3):  # nobody there: it is tried once
        assert reports.of(pod(port=port, restarts=2), key) == Report()
    while reports._asking:
        await asyncio.sleep(0)
    now_s += ASK_AGAIN_S
    reports.of(pod(port=port, restarts=2), key)
    assert len(reports._asking) == 1
    while reports._asking:
        await asyncio.sleep(0)
    assert told.empty()
    reports.seen(pod(), None)
    assert not reports._known
    assert not reports._asked


def test_what_a_worker_is_said_to_be() -> None:
    found = worker_status(pod(last=ended(2, "no"), restarts=3), ONE, Report("r", "CPU", 2, 5, 6, warm_up_s=0.5))
    assert found == WorkerStatus(
        pod="late-v1-x", model_version="late-1", ready=True, restarts=3, runtime="r", provider="CPU", threads=2,
        memory_bytes=5, peak_bytes=6, warm_up_s=0.5, last_crash=Crash(reason="Failed", message="no", at=T0),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "rows"),
    [
        ({}, [1, 2, 4, 8, 16, 32, 64, 128, 256]),
        ({"batching": {"maxRows": 1}}, [1]),
        ({"batching": {"maxRows": 5}}, [1, 2, 4, 5]),
        ({"batching": {"maxRows": 1_000_000}}, [2**power for power in range(13)]),
        ({"worker": {"warmUpRows": [8, 1, 8]}}, [1, 8]),
        ({"worker": {"warmUpRows": []}}, []),
    ],
)  # fmt: skip
def test_which_sizes_a_worker_is_warm_for(spec: dict[str, Any], rows: list[int]) -> None:
    assert warm_rows(endpoint(**spec)) == rows


def doubtful() -> ModelVersion:
    version = model_version(1)
    version.spec.artifact.format = "skops"
    version.spec.artifact.untrusted_types = ["a.B", "c.D"]
    return version


def test_a_version_whose_types_nobody_approved_is_held_back_and_says_how() -> None:
    """It does not become production, is not served when it is asked for by number, and both say what to write."""
    version = doubtful()
    held = decide_model(model(trustedTypes=["a.B"]), [version], T0)
    assert held.status.aliases == []
    gate = held.versions["late-1"].gates[0]
    assert (gate.gate, gate.passed) == ("types approved", False)
    assert gate.message.endswith('write in Model late: spec.trustedTypes: ["a.B", "c.D"]')
    assert "c.D. To approve" in gate.message
    assert resolved("late:1", "spec.model", model(trustedTypes=["a.B"]), {1: version}) == (
        "UntrustedTypes",
        gate.message,
    )
    approving = model(trustedTypes=["c.D", "a.B", "other.E"])
    assert [alias.name for alias in decide_model(approving, [version], T0).status.aliases] == ["production"]
    target = resolved("late:1", "spec.model", approving, {1: version})
    assert isinstance(target, Version)
    task = json.loads(_task(target))
    assert (task["format"], task["trusted"]) == ("skops", ["a.B", "c.D"])
    up = decide(endpoint(model="late:1"), target, {"late-1": Workers(wanted=1, ready=1)}, SETTINGS, T0)
    assert (
        decide(endpoint(up.status.to_wire()), target, {"late-1": Workers(wanted=1, ready=1)}, SETTINGS, T1).events == ()
    )


def _task(version: Version) -> str:
    deployment = deployment_for(endpoint(), version, SETTINGS)
    assert deployment.spec is not None
    assert deployment.spec.template.spec is not None
    (container,) = deployment.spec.template.spec.containers
    return next(str(variable.value) for variable in container.env or () if variable.name == "MIZZEN_TASK")


def test_times_are_those_of_kubernetes() -> None:
    """What the kubelet says and what the status repeats are one notation, so that a crash is known again."""
    crash = last_crash(pod(ended(1, "x")))
    assert crash is not None
    assert crash.at == datetime(2026, 1, 1, tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
