"""What a request costs the gateway, by stage, in microseconds of one core.

A gateway process with everything on (API key, limits, metrics, two versions that share the traffic, every request in the
prediction log) is run in this process, from the bytes of an HTTP request to the bytes of its answer. What is outside is
played: sockets, and a worker whose answers are ready. So the numbers hold no system call and no compute, and the same
code gives the same numbers whatever else the machine does, within a few hundredths: each is the least of many rounds.

`whole` is all of it. Each stage is then run by itself, on the same objects: `parse` (HTTP in and out), `identify` (API
key, path, deadline), `decode` (JSON to tensors), `split` (which version), `queue` (its place, its batch, its turn),
`frame` (to the worker and back, rows taken apart), `encode` (tensors to JSON), `record` (metrics and the prediction
log). `rest` is what they leave of the whole: objects that carry a request from one to the next, and the event loop.

Requests come one at a time, and 32 at once, which are one batch for each version.
"""

import asyncio
import gc
import hashlib
import json
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import uvloop

import mizzen
from mizzen.policy.queue import Batch, Queue, Request
from mizzen.serving.frames import PROTOCOL_VERSION, FrameReader, Hello, Result, Run, TensorHead, write_frame
from mizzen.serving.gateway.directory import ApiKey, Endpoint, Logging, UnixAddress, Version, Worker
from mizzen.serving.gateway.exchange import JSON_HEADERS, Exchange, HttpExchange, Reply
from mizzen.serving.gateway.gateway import Gateway
from mizzen.serving.gateway.http.handler import METRICS_PATH, Handler
from mizzen.serving.gateway.http.llhttp import Connection, LlhttpServer
from mizzen.serving.gateway.link import Link
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.plan import Limits
from mizzen.serving.gateway.recorder import Recorder
from mizzen.serving.gateway.served import Served, joined
from mizzen.serving.oip import InferenceRequest
from mizzen.serving.tensors import Buffer, Signature, Tensor, TensorSpec

AT_ONCE = (1, 32)
ROUNDS = 300
KEY = "benchmark-key"
PATH = "/v2/models/bench/infer"
SIGNATURE = Signature(
    (TensorSpec("X", "FP32", (-1, 20)),),
    (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 2))),
)
BODY = json.dumps(
    {"inputs": [{"name": "X", "shape": [1, 20], "datatype": "FP32", "data": [round(0.1 * n, 1) for n in range(20)]}]}
).encode()
REQUEST = (
    f"POST {PATH} HTTP/1.1\r\nHost: localhost:7080\r\nAuthorization: Bearer {KEY}\r\n"
    f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
).encode() + BODY
VERSIONS = tuple(Version("bench", number, "sha256:" + 64 * str(number), 50, SIGNATURE) for number in (1, 2))
ENDPOINT = Endpoint("default", "bench", versions=VERSIONS, logging=Logging(buffer_bytes=1 << 20))
Row = dict[str, Any]
Task = Callable[[], None]


def run() -> list[Row]:
    """The rows; takes some ten seconds."""
    return [
        {"system": "mizzen", "version": mizzen.__version__, "what": f"{name}, {at_once} at once", "unit": "us",
         "value": round(1e6 * seconds, 2),
         "conditions": f"a request of 20 numbers in JSON; all features on; least of {ROUNDS} rounds"}
        for at_once in AT_ONCE
        for name, seconds in uvloop.run(_measured(at_once)).items()
    ]  # fmt: skip


async def _measured(at_once: int) -> dict[str, float]:
    """Seconds of each stage for one request."""
    gc.collect()
    gc.disable()
    try:
        with tempfile.TemporaryDirectory(prefix="mz-") as folder:
            whole = _Whole(Path(folder) / "whole", at_once)
            whole_s = await whole.seconds()
            stages = _Stages(Path(folder) / "stages", at_once, whole.gateway).seconds()
    finally:
        gc.enable()
    return {"whole": whole_s, **stages, "rest": whole_s - sum(stages.values())}


# What is played


class _Client:
    """The transport of a connection whose client takes all answers."""

    def __init__(self) -> None:
        self.answers = 0

    def write(self, data: bytes) -> None:  # noqa: ARG002 - asyncio's
        self.answers += 1

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> None:  # noqa: ARG002 - asyncio's
        return None


class _Answering(Link):
    """A worker whose answers are ready."""

    def __init__(self, worker: Worker, owner: Any) -> None:
        super().__init__(worker, owner)
        self.frames: list[list[Buffer]] = []
        self._reader = FrameReader()

    def greet(self, version: Version) -> None:
        """It is connected."""
        self.connected(cast("asyncio.WriteTransport", self))  # of a transport it needs `writelines`
        hello = Hello(PROTOCOL_VERSION, "w", version.model, version.version, version.digest, SIGNATURE, credits=2)
        self.hear(b"".join(write_frame(hello)))

    async def _keep(self) -> None:
        """It is connected, for ever."""

    def writelines(self, frame: list[Buffer]) -> None:
        self.frames.append(frame)

    def answers(self) -> list[bytes]:
        """Of the batches that were sent."""
        frames, self.frames = self.frames, []
        return [_answer(frame) for frame in frames]

    def hear(self, data: bytes) -> None:
        """That has come from the worker."""
        for frame in self._reader.feed(data):
            self.received(frame)


def _answer(frame: Sequence[Buffer]) -> bytes:
    """What a worker answers to a batch."""
    (found,) = FrameReader().feed(b"".join(frame))
    assert isinstance(found.header, Run)
    rows = found.tensors[0].shape[0]
    label, probabilities = struct.pack(f"<{rows}q", *[1] * rows), struct.pack(f"<{2 * rows}f", *[0.25, 0.75] * rows)
    heads = (
        TensorHead("label", "INT64", (rows,), len(label)),
        TensorHead("probabilities", "FP32", (rows, 2), len(probabilities)),
    )
    return b"".join(write_frame(Result(found.header.batch, 1e-5, 1e-6, 1, heads), [label, probabilities]))


def _gateway(folder: Path) -> tuple[Gateway, list[_Answering]]:
    links: list[_Answering] = []

    def connect(worker: Worker, owner: Any) -> Link:
        links.append(_Answering(worker, owner))
        return links[-1]

    gateway = Gateway(time.monotonic, connect, log_folder=folder)
    gateway.key_changed("default/k", ApiKey(hashlib.sha256(KEY.encode()).hexdigest(), "default", frozenset({"bench"})))
    gateway.endpoint_changed(ENDPOINT)
    for version in VERSIONS:
        prefix = version.digest.removeprefix("sha256:")[:16]
        gateway.worker_changed(Worker(prefix, "default", "bench", prefix, UnixAddress(Path("/nowhere"))))
        links[-1].greet(version)
    gateway.synced()
    return gateway, links


class _Whole:
    """The whole way of `at_once` requests, again and again."""

    def __init__(self, folder: Path, at_once: int) -> None:
        self.gateway, self._links = _gateway(folder)
        server = LlhttpServer(Handler(self.gateway, lambda _: (404, [], b"")), Limits())
        self._clients = [_Client() for _ in range(at_once)]
        self._connections = [Connection(server) for _ in range(at_once)]
        for connection, client in zip(self._connections, self._clients, strict=True):
            connection.connection_made(cast("asyncio.Transport", client))

    async def seconds(self) -> float:
        """For one request."""
        least = min([await self._round() for _ in range(ROUNDS)])
        assert all(client.answers == ROUNDS for client in self._clients), "each request is answered"
        return least / 1e9 / len(self._clients)

    async def _round(self) -> int:
        began = time.perf_counter_ns()
        for connection in self._connections:
            connection.data_received(REQUEST)
        await asyncio.sleep(0)
        took = time.perf_counter_ns() - began
        for link in self._links:
            for answer in link.answers():
                began = time.perf_counter_ns()
                link.hear(answer)
                took += time.perf_counter_ns() - began
        return took


class _Stages:
    """Each stage by itself, for `at_once` requests."""

    def __init__(self, folder: Path, at_once: int, gateway: Gateway) -> None:
        self._folder = folder
        self._at_once = at_once
        self._together = max(1, at_once // len(VERSIONS))
        """Requests of one batch."""
        self._gateway = gateway
        self._service = gateway.services[ENDPOINT.key]
        self._served = Served("bench", VERSIONS[0], SIGNATURE)
        self._headers = {"authorization": f"Bearer {KEY}", "content-length": str(len(BODY))}
        self._outputs = [
            Tensor("label", "INT64", (1,), struct.pack("<q", 1)),
            Tensor("probabilities", "FP32", (1, 2), struct.pack("<2f", 0.25, 0.75)),
        ]

    def seconds(self) -> dict[str, float]:
        """For one request, by stage."""
        stages = {
            "parse": self._parse(), "identify": self._identify, "decode": self._decode, "split": self._split,
            "queue": self._queue(), "frame": self._frame(), "encode": self._encode, "record": self._record(),
        }  # fmt: skip
        return {name: _least_s(stage) / self._at_once for name, stage in stages.items()}

    def _parse(self) -> Task:
        page = (200, JSON_HEADERS, b'{"model_name":"bench","model_version":"1","outputs":[]}')
        connection = Connection(LlhttpServer(Handler(self._gateway, lambda _: page), Limits()))
        connection.connection_made(cast("asyncio.Transport", _Client()))
        asked = REQUEST.replace(PATH.encode(), METRICS_PATH.encode())  # a page that is there at once

        def task() -> None:
            for _ in range(self._at_once):
                connection.data_received(asked)

        return task

    def _identify(self) -> None:
        for _ in range(self._at_once):
            service, _ = self._gateway.admitted(ENDPOINT.key, self._headers)
            self._gateway.deadline_s(service, self._headers, self._gateway.clock())

    def _decode(self) -> None:
        for _ in range(self._at_once):
            self._served.decoder.decode(BODY, None)

    def _split(self) -> None:
        exchange = self._exchange()
        for _ in range(self._at_once):
            self._service.choice(exchange)

    def _queue(self) -> Task:
        queue, clock = Queue(ENDPOINT.rules), self._gateway.clock
        for version in VERSIONS:
            queue.join(version.version, version.digest, 2)

        def task() -> None:
            for number in range(self._at_once):
                now = clock()
                request = Request(1, now + 30.0, None, None, size=80, tenant="k", priority=0)
                queue.offer(request, VERSIONS[number % 2].digest, now)
            for batch in cast("list[Batch]", queue.assign(clock())):
                queue.answered(batch, clock(), 1e-6)
                queue.grant(batch.worker, 1)

        return task

    def _frame(self) -> Task:
        inputs = [self._served.decoder.decode(BODY, None).inputs] * self._together
        tickets = [Request(1, 30.0, None) for _ in inputs]
        batch, reader, served = Batch("lane", "worker", tickets), FrameReader(), self._served
        heads, data = joined(inputs)
        answer = _answer(write_frame(Run(1, heads), data))

        def task() -> None:
            for _ in range(self._at_once // self._together):
                heads, data = joined(inputs)
                write_frame(Run(1, heads), data)
                for frame in reader.feed(answer):
                    served.parts(batch, frame.tensors)

        return task

    def _encode(self) -> None:
        request = self._decoded()
        for _ in range(self._at_once):
            self._served.encoder.encode(request, self._outputs)

    def _record(self) -> Task:
        recorder, measures = Recorder(self._folder, ENDPOINT, self._gateway.clock), Measures()
        counted = self._served.counted
        exchanges = [self._exchange() for _ in range(self._at_once)]
        for exchange in exchanges:
            exchange.decoded, exchange.sent_s, exchange.tenant = self._decoded(), exchange.came_s, "k"

        def task() -> None:
            now = self._gateway.clock()
            for first in range(0, self._at_once, self._together):
                measures.batch(self._together, 1e-5, counted)
                recorder.batch(self._together, 1e-5)
                measures.waited(
                    [now - exchange.came_s for exchange in exchanges[first : first + self._together]], counted
                )
                for exchange in exchanges[first : first + self._together]:
                    recorder.answered(exchange, self._served, self._outputs, now)
                    measures.answered(1, now - exchange.came_s, counted)
                recorder.flush()

        return task

    def _exchange(self) -> Exchange:
        now = self._gateway.clock()
        return HttpExchange(cast("Reply", None), BODY, None, now, now + 30.0)

    def _decoded(self) -> InferenceRequest:
        return self._served.decoder.decode(BODY, None)


def _least_s(task: Task) -> float:
    """Seconds of the fastest run."""
    least = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        task()
        least = min(least, time.perf_counter_ns() - began)
    return least / 1e9


if __name__ == "__main__":
    for row in run():
        print(f"{row['what']:24} {row['value']:8.2f} {row['unit']}")
