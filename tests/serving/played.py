"""A gateway's two neighbours, played in memory on virtual time: clients that note their answers, workers that compute
`y = 2 * x` when and as they are told to.
"""

import asyncio
import itertools
import json
import struct
from collections.abc import Callable
from pathlib import Path

from mizzen.policy.queue import Batch
from mizzen.serving.frames import (
    PROTOCOL_VERSION,
    ErrorCode,
    Failure,
    Frame,
    Hello,
    Result,
    Run,
    TensorHead,
    write_frame,
)
from mizzen.serving.gateway.directory import ApiKey, Endpoint, UnixAddress, Version, Worker
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.gateway import Gateway
from mizzen.serving.gateway.link import Owner
from mizzen.serving.tensors import Buffer, Signature, Tensor

from .builders import signature, spec

DOUBLING = signature(spec("x", shape=(-1, 1)), outputs=[spec("y", shape=(-1, 1))])
_uids = itertools.count(1)


def digest(version: int) -> str:
    return f"sha256:{version:064x}"


def version(number: int = 1, takes: Signature | None = DOUBLING, percent: int = 100) -> Version:
    return Version("m", number, digest(number), percent, takes)


def endpoint(name: str = "m", *, versions=None, anonymous: bool = True, **more) -> Endpoint:
    chosen = (version(),) if versions is None else tuple(versions)
    return Endpoint(more.pop("namespace", "default"), name, anonymous=anonymous, versions=chosen, **more)


def worker(number: int = 1, *, name: str = "m", namespace: str = "default") -> Worker:
    address = UnixAddress(Path("/nowhere"))
    return Worker(f"w{next(_uids)}", namespace, name, digest(number).removeprefix("sha256:")[:16], address)


def api_key(key_hash: str, namespace: str = "default", endpoints=None) -> ApiKey:
    return ApiKey(key_hash, namespace, None if endpoints is None else frozenset(endpoints))


class Reply:
    """A client's end: what it was answered, each time it was."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.answers.append((status, dict(headers), bytes(body)))

    @property
    def answered(self) -> bool:
        return bool(self.answers)

    @property
    def status(self) -> int:
        ((status, _, _),) = self.answers
        return status

    @property
    def headers(self) -> dict[str, str]:
        ((_, headers, _),) = self.answers
        return headers

    @property
    def json(self) -> dict:
        ((_, _, body),) = self.answers
        return json.loads(body)

    @property
    def error(self) -> str:
        found = self.json
        assert list(found) == ["error"]
        return found["error"]

    @property
    def values(self) -> list[float]:
        assert self.status == 200, self.answers
        return self.json["outputs"][0]["data"]


class PlayedLink:
    """A worker's link without a socket: batches wait in `batches` until the test lets them `answer`, or `auto` does."""

    def __init__(self, worker: Worker, owner: Owner, stage: "Stage") -> None:
        self.worker = worker
        self.hello: Hello | None = None
        self.draining = False
        self.batches: list[Batch] = []
        self.rows_of: dict[int, list[float]] = {}
        self.cancelled: list[Batch] = []
        self.retired = False
        self.credits = 0
        self._owner = owner
        self._stage = stage

    def connect(self, number: int = 1, batches: int = 1, takes: Signature = DOUBLING) -> None:
        self.hello = Hello(PROTOCOL_VERSION, "pod", "m", number, digest(number), takes, batches)
        self.credits = batches
        self._owner.worker_joined(self, self.hello)

    # What a service calls

    def run(self, batch: Batch, heads: tuple[TensorHead, ...], data: list[Buffer]) -> None:
        write_frame(Run(1, heads), data)
        raw = b"".join(bytes(part) for part in data)
        self.batches.append(batch)
        self.rows_of[id(batch)] = list(struct.unpack(f"<{len(raw) // 4}f", raw))
        self._stage.computed(batch, self.rows_of[id(batch)])
        if self._stage.auto is not None:
            self._stage.auto(self, batch)

    def cancel(self, batch: Batch) -> None:
        self.cancelled.append(batch)

    def retire(self) -> None:
        self.retired = self.draining = True
        if self.hello is not None:
            self._owner.worker_draining(self)

    # What a test makes happen

    def rows(self, batch: Batch) -> list[float]:
        return self.rows_of[id(batch)]

    def answer(self, batch: Batch | None = None) -> None:
        batch = self._take(batch)
        values = [2 * value for value in self.rows(batch)]
        output = Tensor("y", "FP32", (len(values), 1), struct.pack(f"<{len(values)}f", *values))
        result = Result(1, 0.001, 0.0, 1, ())
        self._owner.batch_answered(self, batch, Frame(result, [output]), result)

    def answer_with(self, *outputs: Tensor) -> None:
        result = Result(1, 0.001, 0.0, 1, ())
        self._owner.batch_answered(self, self._take(None), Frame(result, list(outputs)), result)

    def fail(self, message: str = "no", batch: Batch | None = None, code: ErrorCode = ErrorCode.FAILED) -> None:
        self._owner.batch_failed(self, self._take(batch), Failure(1, code, message, 1))

    def die(self) -> None:
        self.batches.clear()
        self._owner.worker_lost(self)
        self.hello = None

    def _take(self, batch: Batch | None) -> Batch:
        batch = batch if batch is not None else self.batches[0]
        self.batches.remove(batch)
        return batch


class Stage:
    """A gateway with played clients and workers."""

    def __init__(self) -> None:
        self.gateway = Gateway(asyncio.get_running_loop().time, connect=self._linked)
        self.links: dict[str, PlayedLink] = {}
        self.auto: Callable[[PlayedLink, Batch], None] | None = None
        self.rows_computed: list[float] = []

    def _linked(self, worker: Worker, owner: Owner) -> PlayedLink:
        link = self.links[worker.uid] = PlayedLink(worker, owner, self)
        return link

    def computed(self, batch: Batch, rows: list[float]) -> None:
        self.rows_computed += rows

    def worker(self, number: int = 1, batches: int = 1, takes: Signature = DOUBLING, **more) -> PlayedLink:
        """A worker that is there and connected."""
        described = worker(number, **more)
        self.gateway.worker_changed(described)
        link = self.links[described.uid]
        link.connect(number, batches, takes)
        return link

    def call(self, *values: float, path: str = "/v2/models/m/infer", body: bytes | None = None, **headers) -> "Call":
        """A request whose rows are these values."""
        if body is None:
            body = json.dumps(
                {"inputs": [{"name": "x", "shape": [len(values), 1], "datatype": "FP32", "data": values}]}
            ).encode()
        return Call(self, "POST", path, body, headers)

    def get(self, path: str, method: str = "GET", **headers) -> Reply:
        return Call(self, method, path, b"", headers).reply


class Call:
    """One request of a played client."""

    def __init__(self, stage: Stage, method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
        self.reply = Reply()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.exchange: Exchange | None = stage.gateway.handle(method, path, named, body, self.reply)

    def leave(self) -> None:
        assert self.exchange is not None
        self.exchange.on_leave(self.exchange)


async def turn() -> None:
    """Lets the event loop do what is due now."""
    for _ in range(3):
        await asyncio.sleep(0)
