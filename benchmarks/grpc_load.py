"""Load for gRPC: `python -m benchmarks.grpc_load HOST:PORT CALLERS SECONDS FILE` asks with the message in the file.

A closed loop: each caller has a connection, and asks again when it has its answer. A client library in Python would cost
more than the server under test, so this speaks just enough HTTP/2 by itself: the frames of a request are the same bytes but
for the stream's number, and of an answer only the frames' heads are read. It prints one line of JSON: requests_per_s,
latency_ms_p50, latency_ms_p99, failed.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import uvloop

DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
ACK = END_STREAM = 1
END_HEADERS = 4
PATH = "/inference.GRPCInferenceService/ModelInfer"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def header(name: str, value: str) -> bytes:
    """Literal, not indexed, not compressed."""
    return b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


class Caller(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self, message: bytes, latencies: list[float]) -> None:
        named = {":method": "POST", ":scheme": "http", ":path": PATH, ":authority": "bench", "te": "trailers",
                 "content-type": "application/grpc", "authorization": f"Bearer {os.environ.get('KEY', '')}"}  # fmt: skip
        self._headers = b"".join(header(name, value) for name, value in named.items())
        self._data = b"\0" + len(message).to_bytes(4, "big") + message
        self._latencies = latencies
        self._buffer = b""
        self._stream = -1
        self._began = 0.0
        self._answered = False
        self.failed = 0

    def connection_made(self, transport) -> None:
        self._transport = transport
        window = (2**31 - 1).to_bytes(4, "big")
        transport.write(PREFACE + frame(SETTINGS, 0, 0, b"\0\4" + window))
        transport.write(frame(WINDOW_UPDATE, 0, 0, (2**31 - 1 - 65535).to_bytes(4, "big")))
        self._ask()

    def _ask(self) -> None:
        self._stream += 2
        self._answered, self._began = False, time.perf_counter()
        head = frame(HEADERS, END_HEADERS, self._stream, self._headers)
        self._transport.write(head + frame(DATA, END_STREAM, self._stream, self._data))

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        position = 0
        while len(data) >= position + 9:
            end = position + 9 + int.from_bytes(data[position : position + 3], "big")
            if len(data) < end:
                break
            self._frame(data[position + 3], data[position + 4], data[position + 9 : end])
            position = end
        self._buffer = data[position:]

    def _frame(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == DATA:
            self._answered = len(payload) > 5
        elif kind == HEADERS and flags & END_STREAM:
            if self._answered:
                self._latencies.append(time.perf_counter() - self._began)
            else:
                self.failed += 1
            self._ask()
        elif kind in {SETTINGS, PING} and not flags & ACK:
            self._transport.write(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind == GOAWAY:
            raise SystemExit(f"the server ended the connection: {payload!r}")


async def main(address: str, callers: int, seconds: float, message: bytes) -> dict[str, float]:
    host, port = address.rsplit(":", 1)
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    made = [
        (await loop.create_connection(lambda: Caller(message, latencies), host, int(port)))[1] for _ in range(callers)
    ]
    await asyncio.sleep(seconds / 4)
    latencies.clear()
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - began
    found = sorted(latencies)
    return {
        "requests_per_s": len(found) / elapsed,
        "latency_ms_p50": 1000 * found[len(found) // 2],
        "latency_ms_p99": 1000 * found[len(found) * 99 // 100],
        "failed": sum(caller.failed for caller in made),
    }


if __name__ == "__main__":
    told = uvloop.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]).read_bytes()))
    print(json.dumps(told))
