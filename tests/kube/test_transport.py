"""What is tried again, and after how long; what is reported, and in which words."""

import asyncio

import httpx2
import pytest
from lightkube.resources.core_v1 import ConfigMap

from mizzen.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    NotFound,
    ServerError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    api_error,
)
from mizzen.kube.resources import ResourceInfo, untyped

from .fake_server import FakeServer, status

Thing = untyped(ResourceInfo("", "v1", "Thing", "things", namespaced=True))
NEW = Thing(metadata={"name": "a", "namespace": "default"})


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (409, "AlreadyExists", AlreadyExists),
        (409, "Conflict", Conflict),
        (410, "Expired", Expired),
        (410, "Gone", Expired),
        (422, "Invalid", Invalid),
        (429, "TooManyRequests", TooManyRequests),
        (500, "InternalError", ServerError),
        (504, "Timeout", ServerError),
        (418, "IAmATeapot", ApiError),
    ],
)
def test_the_class_of_an_error_says_what_it_is(code: int, reason: str, expected: type[ApiError]) -> None:
    error = api_error(status(code, reason, "because"))
    assert type(error) is expected
    assert (error.code, error.reason, str(error)) == (code, reason, "because")


def test_causes_and_retry_after_are_attributes() -> None:
    causes = [{"reason": "FieldValueRequired", "message": "Required value", "field": "spec.a"}]
    error = api_error(status(422, "Invalid", causes=causes, retryAfterSeconds=3))
    assert [(cause.field, cause.reason) for cause in error.causes] == [("spec.a", "FieldValueRequired")]
    assert error.retry_after_s == 3
    assert api_error({"code": 500}).message == "HTTP 500"


@pytest.mark.looptime
@pytest.mark.parametrize("code", [429, 503])
async def test_a_server_that_asks_to_wait_is_asked_again_then_whatever_the_verb(code: int) -> None:
    server = FakeServer()
    for wait_s in ("3", "4"):
        server.next(httpx2.Response(code, json=status(code, "Busy"), headers={"Retry-After": wait_s}), "POST")
    client = server.client()
    await client.create(NEW)
    assert asyncio.get_running_loop().time() == 7
    assert client.statistics().retries == 2
    assert client.statistics().requests == 3


@pytest.mark.looptime
@pytest.mark.parametrize(
    "response",
    [
        httpx2.Response(503, json=status(503, "ServiceUnavailable")),
        httpx2.Response(429, json=status(429, "TooManyRequests"), headers={"Retry-After": "3600"}),
        httpx2.Response(500, json=status(500, "InternalError"), headers={"Retry-After": "1"}),
    ],
    ids=["no Retry-After", "too long", "not a refusal"],
)
async def test_a_server_that_does_not_say_it_did_nothing_is_not_asked_again(response: httpx2.Response) -> None:
    server = FakeServer()
    server.next(response)
    with pytest.raises(ApiError):
        await server.client().create(NEW)
    assert len(server.requests) == 1


@pytest.mark.looptime
async def test_a_connection_that_was_never_made_is_tried_again_for_any_verb_and_then_reported() -> None:
    server = FakeServer()
    server.down = True
    with pytest.raises(Unavailable, match=r"cannot connect to https://fake.invalid.*is it running.*a test") as raised:
        await server.client().create(NEW)
    assert raised.value.sent is False
    assert len(server.requests) == 5
    assert asyncio.get_running_loop().time() == pytest.approx(0.5 * (0.1 + 0.2 + 0.4 + 0.8))


@pytest.mark.looptime
async def test_a_broken_connection_is_tried_again_only_where_twice_is_as_once() -> None:
    server = FakeServer()
    client = server.client()
    server.next(httpx2.ReadError("reset"), "POST")
    with pytest.raises(Unavailable, match="lost the connection") as raised:
        await client.create(NEW)
    assert raised.value.sent is True
    server.put("things", "a")
    for method, verb in (
        ("GET", lambda: client.get(Thing, "a")),
        ("PATCH", lambda: client.patch(Thing, "a", {"x": 1})),
        ("PUT", lambda: client.replace(Thing(metadata={"name": "a"}))),
        ("DELETE", lambda: client.delete(Thing, "a")),
    ):
        server.next(httpx2.ReadError("reset"), method)
        await verb()
    server.put("things", "a")
    server.next(httpx2.ReadError("reset"), "PATCH")
    with pytest.raises(Unavailable):
        await client.patch(Thing, "a", [{"op": "add", "path": "/x/-", "value": 1}], type_="json")


@pytest.mark.looptime
async def test_what_a_proxy_says_is_shown_though_it_is_no_status() -> None:
    server = FakeServer()
    server.next(httpx2.Response(502, text="<html>Bad gateway</html>"))
    with pytest.raises(ServerError, match=r"GET /api/v1/namespaces/default/configmaps/a: HTTP 502: <html>Bad gateway"):
        await server.client().get(ConfigMap, "a")
    server.next(httpx2.Response(404, content=b""))
    with pytest.raises(NotFound, match="HTTP 404"):
        await server.client().get(ConfigMap, "a")


async def test_nobody_there_is_said_with_the_address_and_what_to_do(tmp_path, unused_tcp_port) -> None:
    """The same with a real socket."""
    from mizzen.kube.client import Client

    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        f"""{{"current-context": "c", "contexts": [{{"name": "c", "context": {{"cluster": "c", "user": "u"}}}}],
        "clusters": [{{"name": "c", "cluster": {{"server": "http://127.0.0.1:{unused_tcp_port}"}}}}],
        "users": [{{"name": "u", "user": {{"token": "t"}}}}]}}"""
    )
    async with Client.from_kubeconfig(kubeconfig) as client:
        with pytest.raises(Unavailable, match=rf"cannot connect to http://127.0.0.1:{unused_tcp_port}.*{kubeconfig}"):
            await client.get(ConfigMap, "a")
