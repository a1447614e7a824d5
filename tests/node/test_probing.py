"""Trying probes once: against real servers, each answering in a way of its own."""

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from mizzen.local.node.attempts import Launch
from mizzen.local.node.certificate import server_context
from mizzen.local.node.probing import Answer, Target, attempt

HERE = "127.0.0.1"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def target(folder: Path | None = None) -> Target:
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "WORD": "hello"}
    return Target(HERE, {"named": 1}.__getitem__, Launch((), environment, folder or Path("/")))


@asynccontextmanager
async def served(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[Target]:
    """A server on a port of its own: the port that every name means."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, HERE, 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Target(HERE, lambda _: port, target().launch)
    finally:
        server.close()


def saying(head: str, body: str = "") -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"{head}\r\n\r\n{body}".encode())
        await writer.drain()

    return handler


HTTP = {
    "ok": ("HTTP/1.1 200 OK", "", True, ""),
    "no content": ("HTTP/1.1 204 No Content", "", True, ""),
    "redirect elsewhere": ("HTTP/1.1 302 Found\r\nLocation: http://other.example/", "", True, ""),
    "not there": ("HTTP/1.1 404 Not Found", "no such page", False, "statuscode: 404: no such page"),
    "error": ("HTTP/1.1 500 X", "", False, "statuscode: 500"),
    "no http": ("hello", "", False, "no HTTP"),
    "no status": ("HTTP/1.1 abc", "", False, ""),
    "a loop": ("HTTP/1.1 302 Found\r\nLocation: /", "", False, "more than 10 redirects"),
}


@pytest.mark.parametrize("case", HTTP)
async def test_http(case: str) -> None:
    head, body, ok, message = HTTP[case]
    async with served(saying(head, body)) as there:
        answer = await attempt({"httpGet": {"port": 1, "path": "/x"}}, there, 5)
    assert answer.ok is ok
    assert ok or message in answer.message


async def test_http_sends_what_the_kubelet_sends() -> None:
    seen: list[str] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    headers = [{"name": "X-One", "value": "1"}, {"name": "Host", "value": "named.example"}]
    async with served(handler) as there:
        await attempt({"httpGet": {"port": 1, "path": "/a?b=c", "httpHeaders": headers}}, there, 5)
    assert seen[0] == "GET /a?b=c HTTP/1.1"
    assert {"X-One: 1", "Host: named.example", "Connection: close"} <= set(seen)
    assert any(line.startswith("User-Agent: kube-probe/") for line in seen)


async def test_https_is_not_verified(tmp_path: Path) -> None:
    """A probe asks whether the container answers, not who it is."""
    context = server_context(tmp_path, "n1", HERE)
    async with served(saying("HTTP/1.1 200 OK"), context) as there:
        assert (await attempt({"httpGet": {"port": 1, "scheme": "HTTPS"}}, there, 5)).ok


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with served(silent) as there:
        answer = await attempt({"httpGet": {"port": 1}}, there, 0.05)
        assert answer == Answer(False, "no answer within 0.05 s")
        assert (await attempt({"tcpSocket": {"port": 1}}, there, 5)).ok


async def test_nobody_there() -> None:
    for action in ({"tcpSocket": {"port": "named"}}, {"httpGet": {"port": "named"}}, {"grpc": {"port": "named"}}):
        assert not (await attempt(action, target(), 5)).ok
    answer = await attempt({"tcpSocket": {"port": "unknown"}}, target(), 5)
    assert answer == Answer(False, "port 'unknown' is not among the container's ports")
    assert not (await attempt({"future": {}}, target(), 5)).ok


EXEC = {
    "ok": (["sh", "-c", "test $WORD = hello && test $PWD = $(pwd -P)"], True, ""),
    "fails": (["sh", "-c", "echo not $WORD; exit 3"], False, "command exited with code 3: not hello"),
    "is not there": (["no-such-command"], False, "executable file not found in $PATH"),
    "says much": (["sh", "-c", "yes | head -c 100000; exit 1"], False, "code 1: y"),
}


@pytest.mark.parametrize("case", EXEC)
async def test_exec(case: str, tmp_path: Path) -> None:
    command, ok, message = EXEC[case]
    answer = await attempt({"exec": {"command": command}}, target(tmp_path), 10)
    assert answer.ok is ok
    assert ok or message in answer.message
    assert len(answer.message) < 1200


async def test_exec_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    code = "sleep 1000 & echo $! > child; sleep 1000"
    answer = await attempt({"exec": {"command": ["sh", "-c", code]}}, target(tmp_path), 0.5)
    assert answer == Answer(False, "no answer within 0.5 s")
    child = int((tmp_path / "child").read_text())
    while Path(f"/proc/{child}/stat").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        await asyncio.sleep(0)


# -- grpc, against an HTTP/2 implementation of somebody else's


def health(answers: dict[str, bytes | None]) -> Handler:
    """A health service: the message for each service asked about; `None`: an error without a message."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        connection.ping(b"01234567")
        body, path = b"", ""
        while True:
            writer.write(connection.data_to_send())
            data = await reader.read(65536)
            if not data:
                return
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    path = dict(event.headers)[b":path"].decode()
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    assert path == "/grpc.health.v1.Health/Check"
                    answer = answers[body[5:][2:].decode()]
                    stream = event.stream_id
                    if answer is None:
                        connection.send_headers(stream, [(":status", "200"), ("grpc-status", "12")], end_stream=True)
                        continue
                    connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
                    connection.send_data(stream, b"\0" + len(answer).to_bytes(4, "big") + answer, pad_length=7)
                    connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)

    return handler


GRPC = {
    "": (b"\x08\x01", True, ""),
    "down": (b"\x08\x02", False, "NOT_SERVING"),
    "unknown": (b"", False, "UNKNOWN"),
    "unimplemented": (None, False, "does not answer grpc.health.v1.Health/Check"),
    "a-very-long-name-" * 7: (b"\x08\x01", True, ""),
}


@pytest.mark.parametrize("service", GRPC)
async def test_grpc(service: str) -> None:
    message, ok, words = GRPC[service]
    async with served(health({service: message})) as there:
        answer = await attempt({"grpc": {"port": 1, "service": service}}, there, 5)
    assert answer.ok is ok
    assert ok or words in answer.message


async def test_grpc_to_something_else() -> None:
    async with served(saying("HTTP/1.1 400 Bad Request")) as there:
        answer = await attempt({"grpc": {"port": 1}}, there, 5)
    assert not answer.ok
