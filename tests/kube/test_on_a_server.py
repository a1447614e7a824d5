"""The client's side on the embedded API server, over TLS, with nothing in between."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lightkube.models.apps_v1 import DeploymentSpec
from lightkube.models.core_v1 import Container, PodSpec, PodTemplateSpec
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import ConfigMap, Event, Namespace, Node, Secret

from mizzen.kube.client import Client
from mizzen.kube.connection import from_kubeconfig
from mizzen.kube.discovery import discover
from mizzen.kube.errors import AlreadyExists, Conflict, Invalid, NotFound, Unauthorized, Unavailable
from mizzen.kube.events import Recorder
from mizzen.kube.informer import Informer
from mizzen.kube.leases import Election, LeadershipLost, LeaseTimes
from mizzen.kube.resources import info_of, meta_of, metadata_of, untyped
from mizzen.local.apiserver.server import ApiServer

pytestmark = pytest.mark.timeout(60)
Map = untyped(info_of(ConfigMap))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    one = ApiServer(tmp_path, port=0)
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[Client]:
    async with Client.from_kubeconfig(server.kubeconfig) as one:
        yield one


def config_map(name: str, **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name), data=data)


async def test_the_verbs(client: Client) -> None:
    made = await client.create(config_map("a", k="1"))
    with pytest.raises(AlreadyExists):
        await client.create(config_map("a"))
    changed = await client.patch(ConfigMap, "a", {"data": {"k": "2"}})
    with pytest.raises(Conflict, match="has been modified"):
        await client.replace(made)
    changed.data["k"] = "3"
    assert (await client.replace(changed)).data == {"k": "3"}
    operations = [{"op": "add", "path": "/data/j", "value": "x"}]
    assert (await client.patch(ConfigMap, "a", operations, type_="json")).data == {"k": "3", "j": "x"}
    await client.create(config_map("dry"), dry_run=True)
    with pytest.raises(NotFound, match='configmaps "dry" not found'):
        await client.get(ConfigMap, "dry")
    with pytest.raises(Conflict):
        await client.delete(ConfigMap, "a", uid="another")
    assert await client.delete(ConfigMap, "a", uid=made.metadata.uid) is None
    with pytest.raises(Invalid) as raised:
        await client.create(config_map("Not A Name"))
    assert raised.value.causes[0].field == "metadata.name"


async def test_server_side_apply_and_its_conflicts(client: Client) -> None:
    await client.apply(Map({"metadata": {"name": "a"}, "data": {"k": "1"}}), field_manager="me")
    with pytest.raises(Conflict) as raised:
        await client.apply(Map({"metadata": {"name": "a"}, "data": {"k": "2"}}), field_manager="you")
    assert raised.value.causes[0].reason == "FieldManagerConflict"
    forced = await client.apply(Map({"metadata": {"name": "a"}, "data": {"k": "2"}}), field_manager="you", force=True)
    assert forced["data"] == {"k": "2"}
    # What is taken by force is the other's no longer.
    assert {entry["manager"] for entry in forced["metadata"]["managedFields"]} == {"you"}


async def test_lists_select_and_page(client: Client) -> None:
    for number in range(7):
        one = config_map(f"m{number}")
        one.metadata.labels = {"odd": str(number % 2)}
        await client.create(one)
    found = await client.list(ConfigMap, "default", labels={"odd": "1"})
    assert sorted(meta_of(one).name for one in found) == ["m1", "m3", "m5"]
    assert [meta_of(one).name for one in await client.list(ConfigMap, fields="metadata.name=m2")] == ["m2"]
    await client.delete_collection(ConfigMap, labels="odd in (0)")
    left = await client.list(ConfigMap, "default", labels="odd")
    assert sorted(meta_of(one).name for one in left) == ["m1", "m3", "m5"]


async def test_metadata_alone(client: Client) -> None:
    await client.create(config_map("a", secret="x" * 1000))
    listed = await client.list_raw(info_of(ConfigMap), "default", metadata_only=True)
    assert all(b"x" * 100 not in bytes(item.wire) for item in listed)
    async with Informer(client, metadata_of(info_of(ConfigMap)), "default") as informer:
        await informer.synced(10)
        held = informer.get("default", "a")
        assert held.keys() == {"apiVersion", "kind", "metadata"}
        assert (held["kind"], "managedFields" in held["metadata"]) == ("ConfigMap", False)


async def test_scaling_and_status(client: Client) -> None:
    template = PodTemplateSpec(
        metadata=ObjectMeta(labels={"a": "b"}), spec=PodSpec(containers=[Container(name="c", image="i")])
    )
    spec = DeploymentSpec(selector=LabelSelector(matchLabels={"a": "b"}), template=template, replicas=1)
    await client.create(Deployment(metadata=ObjectMeta(name="d"), spec=spec))
    await client.scale(Deployment, "d", 3)
    one = await client.get(Deployment, "d")
    assert one.spec.replicas == 3
    one.status.replicas, one.spec.replicas = 2, 9
    written = await client.replace_status(one)
    assert (written.status.replicas, written.spec.replicas) == (2, 3), "the status alone"


async def test_who_may_what(server: ApiServer, client: Client) -> None:
    assert await client.can_i("create", Secret, namespace="default")
    assert await client.can_i("delete", Node)
    nobody = from_kubeconfig(server.kubeconfig)
    object.__setattr__(nobody, "identity", None)
    async with Client(nobody) as anonymous:
        with pytest.raises(Unauthorized):
            await anonymous.get(Secret, "a")


async def test_a_server_of_another_home_is_told_from_one_that_is_away(
    server: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Same address, another certificate authority: what to do is another thing than to start it."""
    home = tmp_path_factory.mktemp("other")
    other = ApiServer(home, port=0)
    await other.start()
    wrong = home / "wrong"
    wrong.write_text(other.kubeconfig.read_text().replace(f":{other.port}", f":{server.port}"))
    await other.stop()
    async with Client.from_kubeconfig(wrong) as client:
        with pytest.raises(Unavailable, match="the server's certificate is not what .* expects"):
            await client.get(Secret, "a")


async def test_a_watch_from_a_list_misses_nothing(client: Client) -> None:
    listed = await client.list(ConfigMap, "default")
    await client.create(config_map("a"))
    await client.delete(ConfigMap, "a")
    events = client.watch(ConfigMap, "default", resource_version=listed.resource_version, timeout_s=5)
    assert [(event.type, meta_of(event.object).name) async for event in _first(events, 2)] == [
        ("ADDED", "a"), ("DELETED", "a"),
    ]  # fmt: skip


async def _first(events, count):
    async for event in events:
        if event.type != "BOOKMARK":
            yield event
            count -= 1
        if count == 0:
            break
    await events.aclose()


async def test_an_informer_outlives_the_server(server: ApiServer, client: Client, tmp_path: Path) -> None:
    """The server stops and starts again on the same home and port: what happened in between is there."""
    await client.create(config_map("a"))
    async with Informer(client, ConfigMap, "default") as informer:
        await informer.synced(10)
        changed = asyncio.Event()
        informer.subscribe(lambda _old, new: changed.set() if new and new.metadata.name == "b" else None)
        port = server.port
        await server.stop()
        again = ApiServer(tmp_path, port=port)
        await again.start()
        try:
            await client.create(config_map("b"))
            async with asyncio.timeout(20):
                await changed.wait()
            assert {meta_of(one).name for one in informer.list()} >= {"a", "b"}
        finally:
            await again.stop()
            await server.start()


async def test_two_candidates_take_turns(client: Client) -> None:
    times = LeaseTimes(duration_s=2.0, renew_deadline_s=1.0, retry_s=0.1)
    led: list[str] = []
    first_leads, second_leads = asyncio.Event(), asyncio.Event()

    def candidate(name: str, leads: asyncio.Event) -> "asyncio.Task[None]":
        async def work() -> None:
            led.append(name)
            leads.set()
            await asyncio.get_running_loop().create_future()

        return asyncio.create_task(Election(client, "main", "default", name, times=times).run(work))

    first = candidate("first", first_leads)
    async with asyncio.timeout(20):
        await first_leads.wait()
        second = candidate("second", second_leads)
        # Somebody takes the Lease away: the leader stops, and the Lease runs out before the next begins.
        lease = await client.get(Lease, "main")
        assert lease.spec.holderIdentity == "first"
        await client.patch(Lease, "main", {"spec": {"holderIdentity": "thief"}})
        with pytest.raises(LeadershipLost, match="thief"):
            await first
        await second_leads.wait()
    assert led == ["first", "second"]
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert (await client.get(Lease, "main")).spec.holderIdentity == ""


async def test_events_are_there_and_counted(client: Client) -> None:
    one = await client.create(config_map("a"))
    recorder = Recorder(client, "tester")
    running = asyncio.create_task(recorder.run())
    for _ in range(3):
        recorder.warning(one, "Trouble", "it is in trouble")
    await recorder.flush(10)
    (event,) = (await client.list(Event, "default", fields="involvedObject.name=a")).items
    assert (event.reason, event.message, event.count, event.type) == ("Trouble", "it is in trouble", 3, "Warning")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_discovery_finds_each_kind_once(client: Client) -> None:
    served = {str(one.info): one for one in await discover(client)}
    assert {"pods", "deployments.apps", "jobs.batch", "leases.coordination.k8s.io"} <= served.keys()
    assert served["pods"].info.namespaced
    assert not served["namespaces"].info.namespaced
    assert "po" in served["pods"].short_names
    assert {"log", "status"} <= served["pods"].subresources
    assert served["namespaces"].info == info_of(Namespace)
    assert {"list", "watch", "delete"} <= served["configmaps"].verbs


async def test_requests_cancelled_while_they_connect_leave_no_socket_behind(server: ApiServer) -> None:
    """Whatever moment of connecting and of the TLS handshake a request is cancelled in."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for turns in range(40):
            async with Client.from_kubeconfig(server.kubeconfig) as client:
                asked = [asyncio.create_task(client.list(ConfigMap)) for _ in range(4)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in asked:
                    task.cancel()
                await asyncio.gather(*asked, return_exceptions=True)
        gc.collect()
    assert [str(one.message) for one in warned] == []


async def test_the_text_of_a_page(client: Client) -> None:
    assert await client.request("GET", "/healthz") == "ok"
    assert "major" in await client.request("GET", "/version")
