"""What is told of a run: at most once a second, the last word always, and never at the run's cost."""

import asyncio
import json
import ssl
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import httpx2
import pytest

from mizzen.data.pod_api import PodApi, persistent
from mizzen.kinds.build import Progress, TrainingReport
from mizzen.kube.client import Client
from mizzen.kube.connection import Connection
from mizzen.kube.errors import Forbidden, NotFound, Unavailable
from mizzen.training.reporting import PERIOD_S, StatusReporter
from mizzen.training.task import TrainingTask

TASK = TrainingTask(
    namespace="ns",
    name="job",
    run="run-1",
    store_url="file:///s",
    code="sha256:" + "0" * 64,
    entrypoint="a:b",
    model="m",
)


class Server(httpx2.AsyncBaseTransport):
    """Applies merge patches to one object's status; may be away, or answer with an error."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {"run": {"run": "older", "metrics": {"old": 1.0}}, "phase": "Running"}
        self.patches = 0
        self.away = False
        self.code = 200

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.away:
            raise httpx2.ConnectError("refused")
        if self.code != 200:
            return httpx2.Response(
                self.code, json={"kind": "Status", "code": self.code, "reason": "Why", "message": "no"}
            )
        assert request.url.path.endswith("/namespaces/ns/trainingjobs/job/status")
        self.patches += 1
        merged(self.status, json.loads(await request.aread())["status"])
        spec = {"model": "m", "entrypoint": "a:b"}
        meta = {"name": "job", "namespace": "ns"}
        wire = {"apiVersion": "mizzen.dev/v1alpha1", "kind": "TrainingJob", "metadata": meta, "spec": spec}
        return httpx2.Response(200, json=wire | {"status": self.status})

    def client(self) -> Client:
        return Client(
            Connection("http://127.0.0.1:1", "ns", "test", ssl.create_default_context(), None), transport=self
        )


def merged(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """RFC 7386."""
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict):
            inner = target.setdefault(name, {}) if isinstance(target.get(name), dict) else {}
            merged(inner, value)
            target[name] = inner
        else:
            target[name] = value


class HereApi:
    """A `PodApi` of the test's own event loop."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def soon(self, act: Callable[[Client], None]) -> None:
        act(self.client)


def report(step: int, **metrics: float) -> TrainingReport:
    return TrainingReport(run="run-1", progress=Progress(step=step), metrics=metrics)


@pytest.mark.looptime
async def test_updates_are_told_once_a_second_and_the_last_is_told() -> None:
    """A hundred updates in ten seconds; and what an earlier run said is gone."""
    server = Server()
    reporter = StatusReporter(HereApi(server.client()), TASK)  # type: ignore[arg-type]
    for step in range(100):
        reporter.update(report(step, loss=float(step)))
        await asyncio.sleep(0.1)
    await asyncio.sleep(2 * PERIOD_S)
    assert server.patches <= 13
    assert server.status["phase"] == "Running"
    run = server.status["run"]
    assert (run["run"], run["progress"]["step"], run["metrics"]) == ("run-1", 99, {"loss": 99.0})


@pytest.mark.looptime
async def test_an_api_server_that_is_away_costs_nothing_and_is_told_when_it_is_back() -> None:
    """Updates return at once; the newest is told, not those that were missed."""
    server = Server()
    reporter = StatusReporter(HereApi(server.client()), TASK)  # type: ignore[arg-type]
    server.away = True
    for step in range(30):
        reporter.update(report(step))
        await asyncio.sleep(1)
    assert server.patches == 0
    server.away = False
    await asyncio.sleep(30)
    assert server.status["run"]["progress"]["step"] == 29


def test_the_end_is_told_and_replaces_what_was_logged() -> None:
    """Metrics that were only logged are gone from the status; those returned stay."""
    server = Server()
    with PodApi(server.client) as api:
        reporter = StatusReporter(api, TASK)
        reporter.update(report(1, loss=0.5))
        reporter.finish(TrainingReport(run="run-1", succeeded=True, metrics={"auc": 0.7}, model_version="m-1"))
    run = server.status["run"]
    assert (run["succeeded"], run["metrics"], run["modelVersion"]) == (True, {"auc": 0.7}, "m-1")


def test_a_job_that_is_gone_needs_no_telling_and_a_refusal_is_an_error() -> None:
    """404 is the end of it; 403 is for the Pod to be tried again."""
    server = Server()
    end = TrainingReport(run="run-1", succeeded=True)
    with PodApi(server.client) as api:
        server.code = 404
        StatusReporter(api, TASK).finish(end)
        server.code = 403
        with pytest.raises(ConnectionError, match="job: the status cannot be written"):
            StatusReporter(api, TASK).finish(end)


@pytest.mark.looptime
async def test_patience_ends_in_a_connection_error() -> None:
    """Pauses grow; what the server answers passes through at once; what it does not is tried until the time is over."""
    clock = asyncio.get_running_loop().time
    tries: list[float] = []

    async def away() -> None:
        tries.append(clock())
        raise Unavailable("refused", sent=False)

    with pytest.raises(ConnectionError, match="did not answer for 60 s"):
        await persistent(away, patience_s=60)
    pauses = [round(later - earlier, 3) for earlier, later in pairwise(tries)]
    assert pauses[:6] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert clock() <= 60

    async def answer() -> int:
        if len(tries) < 100:
            tries.append(0)
            raise Unavailable("refused", sent=True)
        return 42

    tries[:] = [0] * 98
    assert await persistent(answer, patience_s=60) == 42

    async def refused() -> None:
        raise NotFound({"code": 404})

    with pytest.raises(NotFound):
        await persistent(refused, patience_s=60)
    assert issubclass(Forbidden, Exception)
