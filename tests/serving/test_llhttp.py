"""HTTP/1.1 at the connection: however bytes are cut, delayed or sent ahead, answers are whole, in order and one each."""

import asyncio
import json

import looptime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.serving.gateway.http.handler import Handler
from mizzen.serving.gateway.http.llhttp import (
    HEAD_TIMEOUT_S,
    IDLE_TIMEOUT_S,
    LINGER_S,
    SWEEP_S,
    Connection,
    LlhttpServer,
)
from mizzen.serving.gateway.plan import Limits

from .builders import UNHURRIED
from .played import Stage, endpoint, turn

pytestmark = pytest.mark.looptime


class Wire:
    """The client's side of a connection: what was written, and what became of it."""

    def __init__(self, server: LlhttpServer) -> None:
        self.written = bytearray()
        self.closed = self.ended = False
        self.reading = True
        self.connection = Connection(server)
        self.connection.connection_made(self)

    # asyncio.Transport

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def writelines(self, parts) -> None:
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.connection.connection_lost(None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_extra_info(self, name: str):
        return ("127.0.0.1", 5) if name == "peername" else None

    # What tests say

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)

    def answers(self) -> list[tuple[int, dict[str, str], dict]]:
        """All answers so far, taken apart by their lengths."""
        rest, found = bytes(self.written), []
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            status = int(first.split(" ")[1])
            headers = dict(line.split(": ", 1) for line in lines)
            if status == 100:
                found.append((100, {}, {}))
                continue
            assert headers["date"].endswith(" GMT")
            length = int(headers["content-length"])
            found.append((status, headers, json.loads(rest[:length]) if length else {}))
            rest = rest[length:]
        return found

    def statuses(self) -> list[int]:
        return [status for status, _, _ in self.answers()]


class Front:
    """A server with one endpoint and one worker, and as many wires as a test wants."""

    def __init__(self, limits: Limits | None = None, *, auto: bool = True) -> None:
        self.stage = Stage()
        self.stage.gateway.endpoint_changed(endpoint())
        self.link = self.stage.worker()
        if auto:
            self.stage.auto = lambda link, batch: asyncio.get_running_loop().call_soon(link.answer, batch)
        handler = Handler(self.stage.gateway, lambda client: (200, [], json.dumps({"client": client}).encode()))
        self.server = LlhttpServer(handler, limits or Limits())

    def wire(self) -> Wire:
        return Wire(self.server)


def request(value: float, *, head: str = "", version: str = "1.1", path: str = "/v2/models/m/infer") -> bytes:
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [value]}]}).encode()
    return f"POST {path} HTTP/{version}\r\nHost: h\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


def values(wire: Wire) -> list[float]:
    return [answer["outputs"][0]["data"][0] for _, _, answer in wire.answers()]


CHUNKED = (
    b"POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (b'{"inputs": [{"name": "x", "shape": [1, 1], ',
                                                             b'"datatype": "FP32", "data": [7.0]}]}'))
    + b"0\r\n\r\n"
)  # fmt: skip


@settings(UNHURRIED, max_examples=60)
@given(st.lists(st.sampled_from(["post", "chunked", "get", "bad"]), min_size=1, max_size=6), st.data())
def test_requests_are_answered_in_order_however_they_are_cut(kinds, data):
    parts, expected = [], []
    for number, kind in enumerate(kinds):
        if kind == "post":
            parts.append(request(float(number)))
            expected.append((200, 2.0 * number))
        elif kind == "chunked":
            parts.append(CHUNKED)
            expected.append((200, 14.0))
        elif kind == "get":
            parts.append(b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n")
            expected.append((200, None))
        else:
            parts.append(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n?")
            expected.append((400, None))
    sent = b"".join(parts)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent) - 1), max_size=10)))

    async def run() -> Wire:
        front = Front()
        wire = front.wire()
        for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
            wire.send(sent[start:end])
            if data.draw(st.booleans()):
                await turn()
        await asyncio.sleep(0.01)
        assert front.server.bytes_held == 0
        assert wire.reading
        return wire

    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        wire = runner.run(run())
    found = [(s, a["outputs"][0]["data"][0] if "outputs" in a else None) for s, _, a in wire.answers()]
    assert found == expected


async def test_what_is_sent_ahead_waits_and_reading_pauses():
    front = Front(auto=False)
    wire = front.wire()
    wire.send(request(1.0) + request(2.0) + request(3.0))
    await turn()
    assert ([len(batch.requests) for batch in front.link.batches], wire.reading) == ([1], False)
    for _ in range(3):
        front.link.answer()
        await turn()
    assert (values(wire), wire.reading) == ([2.0, 4.0, 6.0], True)


async def test_thousands_sent_ahead_are_no_recursion():
    wire = Front().wire()
    wire.send(b"GET /v2 HTTP/1.1\r\n\r\n" * 5000)
    assert wire.statuses() == [200] * 5000


async def test_a_client_that_does_not_read_is_not_asked_for_more():
    wire = Front().wire()
    wire.connection.pause_writing()
    wire.send(b"GET /v2 HTTP/1.1\r\n\r\n" * 3)
    assert (wire.statuses(), wire.reading) == ([], False)
    wire.connection.resume_writing()
    assert (wire.statuses(), wire.reading) == ([200] * 3, True)


@pytest.mark.parametrize(
    ("sent", "kept", "said"),
    [
        (b"GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n", True, None),
        (b"GET /v2 HTTP/1.1\r\nConnection: close\r\n\r\n", False, "close"),
        (b"GET /v2 HTTP/1.0\r\n\r\n", False, "close"),
        (b"GET /v2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True, "keep-alive"),
        (b"GET /v2 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", False, "close"),
    ],
)
async def test_a_connection_lives_on_as_its_client_asks(sent, kept, said):
    wire = Front().wire()
    wire.send(sent)
    ((status, headers, _),) = wire.answers()
    assert (status, not wire.closed, headers.get("connection")) == (200, kept, said)


async def test_who_expects_to_be_told_to_continue_is_told_or_refused():
    front = Front(Limits(body_bytes_max=1000))
    wire = front.wire()
    head, _, body = request(1.0, head="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    wire.send(head + b"\r\n\r\n")
    assert wire.statuses() == [100]
    wire.send(body)
    await turn()
    assert wire.statuses() == [100, 200]
    refused = front.wire()
    refused.send(b"POST /v2/models/m/infer HTTP/1.1\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
    assert refused.statuses() == [413]


async def test_nobody_is_told_to_continue_before_the_answers_that_come_first():
    front = Front(auto=False)
    wire = front.wire()
    wire.send(request(1.0) + request(2.0, head="Expect: 100-continue\r\n"))
    for _ in range(2):
        await turn()
        front.link.answer()
    assert wire.statuses() == [200, 200]


@pytest.mark.parametrize("path", ["/v2", "/nowhere", "/v2/models/absent/ready"])
async def test_an_answer_to_head_is_its_head(path):
    wire = Front().wire()
    wire.send(f"HEAD {path} HTTP/1.1\r\n\r\n".encode())
    assert bytes(wire.written).endswith(b"\r\n\r\n")
    before = len(wire.written)
    wire.send(b"GET /v2 HTTP/1.1\r\n\r\n")
    assert bytes(wire.written[before:]).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("sent", "status", "error"),
    [
        (b"nonsense\r\n\r\n", 400, "expected HTTP/1.1: "),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "Duplicate Content-Length"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "expected HTTP/1.1: "),
        (b"GET / HTTP/1.1\nHost: h\n\n", 400, "expected HTTP/1.1: "),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400, "expected HTTP/1.1: "),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "expected HTTP/1.1: "),
        (b"GET /" + b"a" * 70_000, 431, "expected at most 65536 bytes of headers"),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 70_000, 431, "expected at most 65536 bytes of headers"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413, "body: expected at most 1000 bytes, got 1001"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"a" * 1001, 413, "got 1001"),
    ],
)
async def test_what_cannot_be_taken_is_said_and_the_client_may_finish_reading(looptime, sent, status, error):
    """The answer is followed by an end, and what still comes is thrown away; after a while the connection is closed."""
    front = Front(Limits(body_bytes_max=1000))
    wire = front.wire()
    wire.send(sent)
    ((found, headers, answer),) = wire.answers()
    assert (found, headers["connection"], list(answer)) == (status, "close", ["error"])
    assert error in answer["error"]
    assert (wire.ended, wire.closed) == (True, False)
    wire.send(b"more of it" * 1000)
    assert len(wire.answers()) == 1
    await asyncio.sleep(LINGER_S + 2 * SWEEP_S)
    assert (wire.closed, front.server.bytes_held) == (True, 0)


async def test_an_error_behind_a_request_that_is_being_answered_waits_for_it(looptime):
    front = Front(auto=False)
    wire = front.wire()
    wire.send(request(1.0) + request(2.0) + b"nonsense\r\n\r\n")
    for _ in range(2):
        await turn()
        front.link.answer()
    first, last = wire.answers()
    assert (first[0], first[1].get("connection"), last[0], last[1]["connection"]) == (200, None, 200, "close")
    assert wire.ended


@pytest.mark.parametrize(
    ("sent", "after_s", "statuses"),
    [
        (b"", IDLE_TIMEOUT_S, []),
        (b"GET /v2 HTTP/1.1\r\n\r\n", IDLE_TIMEOUT_S, [200]),
        (b"GET /v2 HTTP/1.1\r\nHost", HEAD_TIMEOUT_S, [408]),
        (b"POST /v2/models/m/infer HTTP/1.1\r\nContent-Length: 5\r\n\r\n{", 3.0, [408]),
    ],
)
async def test_who_takes_too_long_is_let_go(looptime, sent, after_s, statuses):
    front = Front(Limits(body_timeout_s=3.0))
    wire = front.wire()
    if sent:
        wire.send(sent)
    await asyncio.sleep(after_s - 2 * SWEEP_S)
    assert not wire.ended
    assert not wire.closed
    await asyncio.sleep(4 * SWEEP_S)
    assert wire.statuses() == statuses
    assert wire.ended or wire.closed
    await asyncio.sleep(LINGER_S + 2 * SWEEP_S)
    assert (wire.closed, front.server.bytes_held) == (True, 0)


async def test_a_drip_of_bytes_does_not_buy_time(looptime):
    """One byte a second of a header: the time counts from the first."""
    wire = Front().wire()
    for byte in b"GET /v2 HTTP/1.1\r\nAnd":
        wire.send(bytes((byte,)))
        await asyncio.sleep(1)
        if wire.ended:
            break
    assert wire.statuses() == [408]
    assert looptime <= HEAD_TIMEOUT_S + 2.0


async def test_who_waits_for_an_answer_is_not_let_go(looptime):
    front = Front(auto=False)
    wire = front.wire()
    wire.send(request(1.0))
    await asyncio.sleep(29)
    front.link.answer()
    assert values(wire) == [2.0]


async def test_who_leaves_is_told_to_the_queue():
    front = Front(auto=False)
    first, second = front.wire(), front.wire()
    first.send(request(1.0))
    await turn()
    second.send(request(2.0))
    second.close()
    front.link.answer()
    await turn()
    assert front.link.batches == []
    assert front.stage.gateway.measures["default", "m"].outcomes == {"cancelled": 1, "ok": 1}
    assert front.server.bytes_held == 0


async def test_bytes_are_bounded_over_all_connections():
    front = Front(Limits(body_bytes_max=1000, bodies_bytes_max=1500), auto=False)
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nContent-Length: 800\r\n\r\n"
    first, second = front.wire(), front.wire()
    first.send(head)
    second.send(head)
    ((status, headers, answer),) = second.answers()
    assert (status, headers["retry-after"]) == (429, "1")
    assert answer["error"] == "the gateway holds as many bytes of requests as it may"
    first.close()
    third = front.wire()
    third.send(head)
    assert (third.statuses(), front.server.bytes_held) == ([], 800)


async def test_connections_are_bounded(monkeypatch):
    monkeypatch.setattr("mizzen.serving.gateway.http.llhttp.CONNECTIONS_MAX", 2)
    front = Front()
    wires = [front.wire() for _ in range(3)]
    assert [wire.statuses() for wire in wires] == [[], [], [503]]


async def test_a_server_that_stops_answers_what_it_took_and_ends_the_rest(looptime):
    front = Front(auto=False)
    idle, busy = front.wire(), front.wire()
    busy.send(request(1.0))
    await turn()
    front.server.stop()
    assert (idle.closed, busy.closed) == (True, False)
    front.link.answer()
    ((status, headers, _),) = busy.answers()
    assert (status, headers["connection"], busy.closed) == (200, "close", True)
    await front.server.stopped()


@pytest.mark.parametrize(
    "target",
    ["/v2/health/live?a=b", "/v2/health/%6cive", "http://host:1/v2/health/live"],
)
async def test_paths_are_found_in_every_form_of_a_target(target):
    wire = Front().wire()
    wire.send(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert wire.statuses() == [200]


async def test_the_metrics_page_knows_its_caller():
    wire = Front().wire()
    wire.send(b"GET /metrics HTTP/1.1\r\n\r\n")
    ((_, _, answer),) = wire.answers()
    assert answer == {"client": "[127.0.0.1]:5"}


async def test_large_answers_are_written_whole():
    front = Front()
    wire = front.wire()
    rows = 20_000
    body = json.dumps(
        {"inputs": [{"name": "x", "shape": [rows, 1], "datatype": "FP32", "data": [1.5] * rows}]}
    ).encode()
    front.stage.gateway.endpoint_changed(endpoint(queue_rows_max=rows, batch_rows_max=rows))
    wire.send(b"POST /v2/models/m/infer HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await turn()
    ((_, _, answer),) = wire.answers()
    assert answer["outputs"][0]["data"] == [3.0] * rows
