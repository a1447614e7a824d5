"""Each verb asks the server for exactly what its documentation says, for all three sorts of class."""

import asyncio
import contextlib
import itertools
import json
from typing import Any
from urllib.parse import parse_qs

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightkube.models.core_v1 import PodSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Namespace, Node, Pod

from mizzen.kinds import Model
from mizzen.kinds.meta import ObjectMeta as KindMeta
from mizzen.kube.client import Client
from mizzen.kube.errors import DecodeError, Expired
from mizzen.kube.resources import ResourceInfo, meta_of, untyped
from mizzen.kube.watching import event_of, lines_of

from . import virtual
from .fake_server import Answer, FakeServer, client_of, status

Thing = untyped(ResourceInfo("x.io", "v1", "Thing", "things", namespaced=True))


class Wire:
    """Answers everything with one object and remembers what was asked."""

    def __init__(self, answer: dict[str, Any] | None = None) -> None:
        self.answer = answer or {"metadata": {"name": "a"}}
        self.asked: list[httpx2.Request] = []

    def client(self) -> Client:
        def handle(request: httpx2.Request) -> httpx2.Response:
            self.asked.append(request)
            return httpx2.Response(200, json=self.answer)

        return client_of(handle)

    def last(self) -> tuple[str, str, dict[str, str], Any]:
        request = self.asked[-1]
        params = {key: values[0] for key, values in parse_qs(request.url.query.decode()).items()}
        return request.method, request.url.path, params, json.loads(request.content) if request.content else None


async def test_paths_are_those_of_the_kind() -> None:
    wire = Wire()
    client = wire.client()
    for call, method, path in [
        (client.get(ConfigMap, "a"), "GET", "/api/v1/namespaces/default/configmaps/a"),
        (client.get(ConfigMap, "a", "n"), "GET", "/api/v1/namespaces/n/configmaps/a"),
        (client.get(Node, "a"), "GET", "/api/v1/nodes/a"),
        (client.get(Namespace, "n"), "GET", "/api/v1/namespaces/n"),
        (client.get(Deployment, "a"), "GET", "/apis/apps/v1/namespaces/default/deployments/a"),
        (client.list(Thing), "GET", "/apis/x.io/v1/things"),
        (client.list(Thing, "n"), "GET", "/apis/x.io/v1/namespaces/n/things"),
        (client.get(Model, "a"), "GET", "/apis/mizzen.dev/v1alpha1/namespaces/default/models/a"),
        (client.create(ConfigMap(metadata=ObjectMeta(name="a"))), "POST", "/api/v1/namespaces/default/configmaps"),
        (client.create(Model(metadata=KindMeta(name="a", namespace="n"))), "POST",
         "/apis/mizzen.dev/v1alpha1/namespaces/n/models"),
        (client.replace_status(Thing(metadata={"name": "a"})), "PUT",
         "/apis/x.io/v1/namespaces/default/things/a/status"),
        (client.scale(Thing, "a", 3), "PATCH", "/apis/x.io/v1/namespaces/default/things/a/scale"),
        (client.delete_collection(Thing), "DELETE", "/apis/x.io/v1/namespaces/default/things"),
    ]:  # fmt: skip
        # The one answer fits no class that has a required field.
        with contextlib.suppress(DecodeError):
            await call
        assert wire.last()[:2] == (method, path)


async def test_patches_name_their_type_and_apply_sends_what_it_may() -> None:
    wire = Wire()
    client = wire.client()
    for type_ in ("merge", "json", "strategic"):
        await client.patch(Thing, "a", {"x": 1}, type_=type_, field_manager="me", subresource="status")
        assert wire.asked[-1].headers["content-type"] == f"application/{type_}-patch+json".replace(
            "strategic-patch", "strategic-merge-patch"
        )
        assert wire.last() == (
            "PATCH",
            "/apis/x.io/v1/namespaces/default/things/a/status",
            {"fieldManager": "me"},
            {"x": 1},
        )
    await client.apply(
        Thing(metadata={"name": "a", "resourceVersion": "1", "uid": "u"}, x=1), field_manager="me", force=True
    )
    assert wire.asked[-1].headers["content-type"] == "application/apply-patch+yaml"
    body = {"apiVersion": "x.io/v1", "kind": "Thing", "metadata": {"name": "a"}, "x": 1}
    path = "/apis/x.io/v1/namespaces/default/things/a"
    assert wire.last() == ("PATCH", path, {"fieldManager": "me", "force": "true"}, body)


async def test_delete_says_what_it_was_told() -> None:
    wire = Wire()
    await wire.client().delete(
        Pod, "a", "n", propagation="Orphan", uid="u", resource_version="7", grace_period_s=0, dry_run=True
    )
    assert wire.last()[3] == {
        "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Orphan", "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u", "resourceVersion": "7"}, "dryRun": ["All"],
    }  # fmt: skip
    assert await wire.client().delete(Pod, "a", "n") is None
    assert wire.last()[3] == {"apiVersion": "v1", "kind": "DeleteOptions"}


@pytest.mark.parametrize(
    ("more", "later"),
    [
        ({}, False),
        ({"deletionGracePeriodSeconds": 0}, False),
        ({"deletionGracePeriodSeconds": 30}, True),
        ({"finalizers": ["f"], "deletionGracePeriodSeconds": 0}, True),
    ],
)
async def test_delete_tells_what_goes_later_from_what_is_gone(more: dict[str, Any], later: bool) -> None:
    wire = Wire({"kind": "Pod", "metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", **more}})
    assert (await wire.client().delete(Pod, "a") is not None) == later
    wire = Wire({"kind": "Status", "status": "Success", "details": {"name": "a"}})
    assert await wire.client().delete(Pod, "a") is None


async def test_an_empty_name_is_not_the_whole_collection() -> None:
    """DELETE of a collection because of an empty name would be the end of everything."""
    wire = Wire()
    with pytest.raises(ValueError, match="expected the name"):
        await wire.client().delete(Pod, "")
    with pytest.raises(ValueError, match="expected the name"):
        await wire.client().replace(Pod(metadata=ObjectMeta()))
    assert wire.asked == []


async def test_selectors_are_text_or_equalities() -> None:
    wire = Wire({"metadata": {"resourceVersion": "5"}, "items": None})
    listed = await wire.client().list(Pod, labels={"b": "2", "a": "1"}, fields="spec.nodeName=n")
    assert (list(listed), listed.resource_version) == ([], "5")
    assert wire.last()[2] == {"labelSelector": "a=1,b=2", "fieldSelector": "spec.nodeName=n", "limit": "500"}


async def test_lists_are_fetched_in_pages_and_started_again_whole_where_a_page_expired() -> None:
    server = FakeServer()
    for n in range(1201):
        server.put("things", f"t{n:04}")
    client = server.client()
    assert len(await client.list(Thing)) == 1201
    assert len(server.requests) == 3
    server.next(httpx2.Response(410, json=status(410, "Expired")), path="things")
    with pytest.raises(Expired):
        await client.list(Thing)

    expired = httpx2.Response(410, json=status(410, "Expired"))
    server.scripted.append(Answer(lambda request: "continue" in str(request.url), expired))
    server.page = 10**9
    server.requests.clear()
    names = [meta_of(thing).name for thing in await client.list(Thing)]
    assert names == [f"t{n:04}" for n in range(1201)]
    assert "limit" not in server.requests[-1][1]


async def test_items_of_a_list_know_what_they_are() -> None:
    """The server leaves apiVersion and kind out of the items of built-in kinds."""
    server = FakeServer()
    server.put("things", "a")
    (thing,) = await server.client().list(Thing)
    assert (thing["apiVersion"], thing["kind"]) == ("x.io/v1", "Thing")


async def test_access_is_asked_of_the_server() -> None:
    wire = Wire({"status": {"allowed": True}})
    assert await wire.client().can_i("create", Deployment, namespace="n", subresource="scale")
    method, path, _, body = wire.last()
    assert (method, path) == ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
    assert body["spec"]["resourceAttributes"] == {
        "verb": "create", "group": "apps", "version": "v1", "resource": "deployments", "subresource": "scale",
        "namespace": "n",
    }  # fmt: skip
    wire.answer = {"status": {"allowed": False}}
    assert not await wire.client().can_i("get", Node)
    assert "namespace" not in wire.last()[3]["spec"]["resourceAttributes"]


@pytest.mark.looptime
async def test_a_watch_gives_typed_objects_bookmarks_and_raises_what_the_server_reports() -> None:
    server = FakeServer()
    server.put("pods", "a", spec=PodSpec(containers=[]).to_dict())
    client = server.client()
    events = client.watch(Pod, send_initial_events=True, timeout_s=30)
    first = await anext(events)
    assert (first.type, first.object.metadata.name, first.object.spec.containers) == ("ADDED", "a", [])
    end = await anext(events)
    assert (end.type, end.initial_events_end, end.resource_version) == ("BOOKMARK", True, "11")
    with pytest.raises(ValueError, match="has no object"):
        _ = end.object
    server.remove("pods", "a")
    assert (await anext(events)).type == "DELETED"
    with pytest.raises(StopAsyncIteration):
        await anext(events)
    assert asyncio.get_running_loop().time() == 30
    server.compact()
    with pytest.raises(Expired):
        await anext(client.watch(Pod, resource_version="1"))
    assert client.statistics().streams == 0


@given(lines=st.lists(st.binary(min_size=1).filter(lambda line: b"\n" not in line)), cuts=st.lists(st.integers(0, 200)))
def test_lines_do_not_depend_on_how_the_stream_is_cut(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in lines) + b"unfinished"
    points = [0, *sorted({min(cut, len(stream)) for cut in cuts}), len(stream)]

    async def chunks() -> Any:
        for start, end in itertools.pairwise(points):
            yield stream[start:end]

    async def main() -> list[bytes]:
        return [line async for line in lines_of(chunks())]

    assert virtual.run(main()) == lines


@given(st.binary())
def test_what_is_no_event_is_a_decode_error_and_nothing_else(line: bytes) -> None:
    with pytest.raises(DecodeError):
        event_of(line)


def test_an_event_of_an_unknown_type_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="unknown type 'RENAMED'"):
        event_of(b'{"type":"RENAMED","object":{"metadata":{}}}')


class Pieces(httpx2.AsyncByteStream):
    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    async def __aiter__(self) -> Any:
        for piece in self.pieces:
            yield piece


async def test_logs_come_as_they_are() -> None:
    asked = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(200, stream=Pieces(b"one\n", b"two"))

    client = client_of(handle)
    got = b"".join([chunk async for chunk in client.logs("p", "n", "c", follow=True, previous=True, tail_lines=0)])
    assert got == b"one\ntwo"
    assert asked == [
        "https://fake.invalid/api/v1/namespaces/n/pods/p/log?container=c&follow=true&previous=true&tailLines=0"
    ]
