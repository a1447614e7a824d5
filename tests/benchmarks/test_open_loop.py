"""The load at a constant rate: every request that was due is accounted for once, whatever the server does with it."""

import contextlib
import json
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from benchmarks.serving.load import _compiled

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
REQUEST = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nfi\r\n2\r\nne\r\n0\r\n\r\n"
BUSY = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"
BUG = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
RATE, SECONDS, CONNECTIONS = 400, 0.5, 16


@contextmanager
def serving(answer: bytes | None, *, close: bool = False) -> Iterator[int]:
    """A server that gives everybody the same answer, cut into pieces, or none; its port."""

    class Client(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                while self.request.recv(65536):
                    if answer is not None:
                        for part in (answer[:7], answer[7:40], answer[40:]):
                            self.request.sendall(part)
                    if close:
                        break

    class Server(socketserver.ThreadingTCPServer):
        request_queue_size = CONNECTIONS

    with Server(("127.0.0.1", 0), Client) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def load(port: int, tmp_path) -> dict:
    (tmp_path / "request").write_bytes(REQUEST)
    command = [
        str(_compiled()),
        str(port),
        str(RATE),
        str(SECONDS),
        str(CONNECTIONS),
        "60000",
        str(tmp_path / "request"),
    ]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    outcomes = ("answered", "refused", "failed", "broken", "not_sent", "unanswered")
    assert sum(told[name] for name in outcomes) == told["due"], told
    assert abs(told["due"] - RATE * SECONDS) <= 1
    return told


@pytest.mark.parametrize("answer", [OK, CHUNKED, LAST], ids=["length", "chunks", "close"])
def test_answers_are_counted_with_their_latency(answer, tmp_path):
    with serving(answer, close=answer is LAST) as port:
        told = load(port, tmp_path)
    assert told["answered"] + told["not_sent"] == told["due"]
    assert told["in_time"] == told["answered"] > 0
    assert 0 < told["latency_ms_p50"] <= told["latency_ms_p99"]


@pytest.mark.parametrize(("answer", "counted"), [(BUSY, "refused"), (BUG, "failed")])
def test_refusals_and_failures_are_no_answers(answer, counted, tmp_path):
    with serving(answer) as port:
        told = load(port, tmp_path)
    assert told[counted] + told["not_sent"] == told["due"]
    assert told["answered"] == told["in_time"] == 0


def test_who_is_never_answered_is_not_forgotten(tmp_path):
    """All connections wait since before the window: what is due in it is not sent, and counted."""
    with serving(None) as port:
        told = load(port, tmp_path)
    assert told["not_sent"] == told["due"]


def test_connections_that_end_unanswered_are_opened_again(tmp_path):
    with serving(None, close=True) as port:
        told = load(port, tmp_path)
    assert told["broken"] + told["not_sent"] == told["due"]
    assert told["broken"] > 0
