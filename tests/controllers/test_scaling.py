"""The scaling controller's parts: reports put together, starts timed, sizes kept, room counted, sockets held."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from lightkube.models.core_v1 import Container, NodeSpec, NodeStatus, PodSpec, PodStatus, ResourceRequirements
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Node, Pod
from tests.controllers.builders import SETTINGS, T0, endpoint

from mizzen.controllers.endpoint.decide import decide
from mizzen.controllers.endpoint.sizes import needed, sizes
from mizzen.controllers.endpoint.workers import deployment_for, deployment_name, must_apply
from mizzen.controllers.scaling.following import Followed
from mizzen.controllers.scaling.listening import TOKEN_VARIABLE, Listener
from mizzen.controllers.scaling.loads import SILENT_S, Loads
from mizzen.controllers.scaling.rooms import rooms
from mizzen.kinds.meta import condition_named
from mizzen.kube.resources import Key
from mizzen.policy.rollout import Version, Workers
from mizzen.policy.scaling.decision import Seen
from mizzen.policy.scaling.meter import Flow
from mizzen.policy.scaling.placement import Room, arithmetic, more
from mizzen.policy.scaling.reports import EndpointTotals, Report, encode
from mizzen.policy.scaling.settings import settings_of

LATE = Key("default", "late")
ONE = Version("late-1", "late", 1, "sha256:" + "1" * 64)
TWO = Version("late-2", "late", 2, "sha256:" + "2" * 64)
ELASTIC = {"minReplicas": 0, "maxReplicas": 5}
SERVING_ONE = {
    "traffic": [{"modelVersion": "late-1", "model": "late", "version": 1, "digest": ONE.digest, "percent": 100}]
}

TWO_WARM = {"modelVersion": "late-2", "model": "late", "version": 2, "digest": TWO.digest, "percent": 0}


def totals(**numbers) -> Report:
    return Report([EndpointTotals("default", "late", **numbers)])


# Reports


def test_sums_become_flows_and_a_lost_report_costs_nothing() -> None:
    loads = Loads()
    assert loads.heard(1, totals(arrivals=10, answered=8), 0.0) == {LATE: Flow()}, "what was before is not counted"
    loads.heard(1, Report(), 1.0)
    found = loads.heard(1, totals(arrivals=16, answered=12, running_s=3.0, waiting_s=1.0, busy_s=2.0), 2.0)
    assert found == {LATE: Flow(arrivals=6, concurrency_s=4.0, busy_s=2.0, answered=4, waiting_s=1.0)}


def test_a_gateway_that_began_anew_counts_from_there() -> None:
    loads = Loads()
    loads.heard(1, totals(arrivals=100, answered=100), 0.0)
    assert loads.heard(1, totals(arrivals=3, answered=3), 1.0) == {LATE: Flow()}
    assert loads.heard(1, totals(arrivals=5, answered=5), 2.0)[LATE].arrivals == 2


def test_what_waits_is_added_up_over_gateways_and_goes_with_them() -> None:
    loads = Loads()
    loads.heard(1, totals(waiting=3, running=1), 0.0)
    loads.heard(2, totals(waiting=4), 0.0)
    assert loads.standing(LATE) == (7, 1)
    loads.gone(1)
    assert loads.standing(LATE) == (4, 0)
    loads.heard(2, Report(), 1.0)
    assert loads.standing(LATE) == (0, 0), "what is not told has nothing waiting"


def test_what_nobody_tells_is_not_known() -> None:
    loads = Loads()
    assert not loads.is_known(0.0)
    loads.heard(1, Report(), 0.0)
    loads.heard(2, Report(), 3.0)
    assert loads.is_known(SILENT_S)
    assert not loads.is_known(SILENT_S + 0.1), "one of them has been silent"
    loads.gone(1)
    assert loads.is_known(SILENT_S + 0.1)


@pytest.fixture
def socket() -> str:
    with tempfile.TemporaryDirectory(prefix="mz-") as folder:
        yield f"unix:{folder}/s"


async def listening(address: str, heard: list, gone: list) -> asyncio.Task[None]:
    listener = Listener(address, lambda source, report: heard.append((source, report)), gone.append)
    task = asyncio.create_task(listener.run())
    while not Path(address.removeprefix("unix:")).exists():
        await asyncio.sleep(0)
    return task


async def ended(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(10):
        assert await reader.read() == b""


async def test_reports_are_heard_until_a_line_is_none(socket: str) -> None:
    heard, gone = [], []
    task = await listening(socket, heard, gone)
    reader, writer = await asyncio.open_unix_connection(socket.removeprefix("unix:"))
    writer.write(encode(totals(waiting=1)) + b"\n" + encode(Report()) + b"\nnonsense\n" + encode(Report()) + b"\n")
    await ended(reader)
    assert [report for _, report in heard] == [totals(waiting=1), Report()]
    assert gone == [1]
    assert Path(socket.removeprefix("unix:")).stat().st_mode & 0o777 == 0o600
    writer.close()
    task.cancel()


@pytest.mark.parametrize(("ours", "theirs", "believed"), [("secret", "secret", 1), ("secret", "other", 0), ("", "", 0)])
async def test_over_tcp_only_who_knows_the_token_is_believed(monkeypatch, ours, theirs, believed) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, ours)
    heard, gone = [], []
    listener = Listener("127.0.0.1:0", lambda _, report: heard.append(report), gone.append)
    server = await listener._listen()
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(encode(Report(token=theirs)) + b"\n")
        writer.write_eof()
        await ended(reader)
        writer.close()
    assert (len(heard), len(gone)) == (believed, believed)


# One endpoint


def followed(**scaling) -> Followed:
    settings = settings_of(endpoint(scaling={**ELASTIC, **scaling}).spec)
    assert settings is not None
    return Followed(settings)


def test_starts_are_timed_from_the_asking_to_the_seeing() -> None:
    one = followed()
    one.decide(0.0, 0.0, Seen(0, 0))
    one.asked(10.0, 0, 3)
    one.decide(10.4, 0.0, Seen(1, 3))
    assert one.time_to_ready_s == pytest.approx(0.4)
    one.asked(11.0, 3, 1)
    one.decide(90.0, 0.0, Seen(1, 1))
    assert one.time_to_ready_s == pytest.approx(0.4), "those that were taken back were never started"


def test_a_change_of_the_spec_keeps_what_was_learned_unless_the_rule_is_another() -> None:
    one = followed()
    before = one.scaler
    settings = settings_of(endpoint(scaling={"minReplicas": 1, "maxReplicas": 2}).spec)
    assert settings is not None
    one.change(settings)
    assert one.scaler is before
    assert one.decide(0.0, 0.0, Seen(0, 0)).desired == 1
    knative = settings_of(endpoint(scaling={**ELASTIC, "policy": "kpa"}).spec)
    assert knative is not None
    one.change(knative)
    assert one.scaler is not before


def test_what_the_spec_means() -> None:
    assert settings_of(endpoint().spec) is None, "a fixed number"
    assert settings_of(endpoint(profile="always-on").spec) is None
    serverless = settings_of(endpoint(profile="serverless", scaling={"maxReplicas": 4}).spec)
    assert serverless is not None
    assert (serverless.min_replicas, serverless.max_replicas, serverless.scale_to_zero_after_s) == (0, 4, None)
    assert serverless.targets.concurrency == 8
    batch = settings_of(endpoint(profile="batch", scaling={"targetQueueDelay": "30s"}).spec)
    assert batch is not None
    assert (batch.targets.concurrency, batch.targets.queue_delay_s) == (None, 30.0)
    assert (batch.windows.stable_s, batch.windows.panic_threshold, batch.scale_to_zero_after_s) == (
        120,
        float("inf"),
        60,
    )


# Deployments


def test_the_number_of_a_followed_version_is_left_as_found() -> None:
    elastic = endpoint(SERVING_ONE, scaling=ELASTIC)
    found = deployment_for(elastic, ONE, SETTINGS, 3)
    size = sizes(elastic, {deployment_name("late", ONE): found})
    assert (size(ONE), size(TWO)) == (3, 3), "the new version is as large as the old one before it takes over"
    assert not must_apply(deployment_for(elastic, ONE, SETTINGS, size(ONE)), found)
    idle = sizes(elastic, {deployment_name("late", ONE): deployment_for(elastic, ONE, SETTINGS, 0)})
    assert (idle(ONE), idle(TWO)) == (0, 1), "what takes traffic has been seen to work"
    warm = endpoint({**SERVING_ONE, "previous": {**TWO_WARM, "since": T0}}, scaling=ELASTIC)
    assert sizes(warm, {deployment_name("late", ONE): found})(TWO) == 3, "what is kept warm follows its successor"
    assert sizes(warm, {deployment_name("late", ONE): deployment_for(warm, ONE, SETTINGS, 0)})(TWO) == 0
    fixed = endpoint(SERVING_ONE, scaling={"replicas": 2})
    assert sizes(fixed, {deployment_name("late", ONE): found})(ONE) == 2


def test_an_idle_endpoint_is_ready_unless_no_worker_comes_up() -> None:
    elastic = endpoint(SERVING_ONE, scaling=ELASTIC)
    assert (needed(elastic, ""), needed(elastic, "corrupt model")) == (0, 1)
    assert needed(endpoint(scaling={"minReplicas": 2, "maxReplicas": 5}), "") == 2
    idle = decide(elastic, ONE, {"late-1": Workers(wanted=0, ready=0)}, SETTINGS, T0, replicas=0)
    ready = condition_named(idle.status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.message) == ("True", "late:1 answers: idle; a request starts a worker")
    broken = decide(
        elastic, ONE, {"late-1": Workers(wanted=1, ready=0, trouble="corrupt model")}, SETTINGS, T0, replicas=1
    )
    ready = condition_named(broken.status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.message) == ("False", "late:1: 0 of 1 workers ready: corrupt model")


# Room

GIB = 2.0**30


def test_room_is_counted_by_what_runs_out_first() -> None:
    nodes = [Room("a", 4, 8 * GIB, 3.5, 1 * GIB), Room("b", 4, 8 * GIB, 0.0, 7 * GIB)]
    assert more(nodes, 0.25, 0.5 * GIB) == 2 + 2
    assert arithmetic(nodes, 0.25, 0.5 * GIB) == ""
    assert arithmetic(nodes, 1.0, 2 * GIB) == (
        "a worker asks for 1 cores and 2 GiB; node b has 4 of 4 cores and 1 GiB of 8 GiB left"
    )
    assert arithmetic(nodes, 1.0, 20 * GIB).endswith("has 4 cores and 8 GiB in all")
    assert arithmetic([], 1.0, GIB) == "a worker asks for 1 cores and 1 GiB, and there is no node"


def test_pods_that_ended_and_nodes_that_take_none_do_not_count() -> None:
    def pod(node: str | None, phase: str) -> Pod:
        asked = ResourceRequirements(requests={"cpu": "500m", "memory": "1Gi"})
        return Pod(
            spec=PodSpec(containers=[Container("c", resources=asked)], nodeName=node), status=PodStatus(phase=phase)
        )

    def node(name: str, **spec) -> Node:
        has = {"cpu": "4", "memory": "8Gi"}
        return Node(metadata=ObjectMeta(name=name), spec=NodeSpec(**spec), status=NodeStatus(allocatable=has))

    pods = [pod("a", "Running"), pod("a", "Succeeded"), pod(None, "Pending")]
    assert rooms([node("a"), node("b", unschedulable=True)], pods) == [Room("a", 4, 8 * GIB, 0.5, GIB, pods_used=1)]
