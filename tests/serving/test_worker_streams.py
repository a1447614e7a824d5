"""A worker that yields: parts in order and as many as there is room for, cancelled between two, never in the way of
others; and every stream ends exactly once.
"""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.serving.frames import (
    Cancel,
    End,
    ErrorCode,
    Failure,
    FrameReader,
    Generate,
    More,
    Part,
    Result,
    Run,
    TensorHead,
    write_frame,
)
from mizzen.serving.tensors import Tensor
from mizzen.serving.worker.errors import BatchError
from mizzen.serving.worker.model import Model
from mizzen.serving.worker.runtimes.runtime import Runtime
from mizzen.serving.worker.server import WorkerServer
from mizzen.serving.worker.statistics import Statistics
from mizzen.serving.worker.task import Task

from .builders import UNHURRIED, signature, spec, tensor

TASK = Task("file:///nowhere", "m", 1, "sha256:" + "0" * 64, "default", "m", streams=3)
PATIENCE_S = 30.0


class Counting(Runtime):
    """Doubles what it is given; yields `x`, `x + 1`, … for as many parts as the parameter `parts` says."""

    signature = signature(spec(shape=(-1, 1)), outputs=[spec("y", shape=(-1, 1))])
    streams = True

    def __init__(self) -> None:
        self.computed: list[float] = []
        self.closed = 0
        self.fails_after: int | None = None

    def run(self, inputs):
        return [2 * inputs["x"]]

    def generate(self, inputs, parameters: Mapping) -> Iterator:
        try:
            for number in range(int(parameters["parts"])):
                if number == self.fails_after:
                    raise BatchError("no more ideas")
                value = inputs["x"] + number
                self.computed.append(float(value[0, 0]))
                yield [value]
        finally:
            self.closed += 1


class Gateway:
    """The other end of the worker's socket, in the same event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._frames = FrameReader()
        self._waiting: list = []

    async def next(self):
        async with asyncio.timeout(PATIENCE_S):
            while not self._waiting:
                data = await self._reader.read(65536)
                if not data:
                    return None
                self._waiting += self._frames.feed(data)
        return self._waiting.pop(0)

    def send(self, header, *tensors: Tensor) -> None:
        self._writer.writelines(write_frame(header, [one.data for one in tensors]))

    def generate(self, stream: int, value: float, parts: int, window: int = 100) -> None:
        x = row(value)
        self.send(Generate(stream, window, {"parts": parts}, heads(x)), x)

    async def rest(self, *streams: int) -> tuple[dict[int, list[float]], dict[int, object]]:
        """Everything up to the ends of those streams: the values of each, and how each ended."""
        values: dict[int, list[float]] = {stream: [] for stream in streams}
        ends: dict[int, object] = {}
        while set(ends) != set(streams):
            frame = await self.next()
            header = frame.header
            if isinstance(header, Part):
                values[header.stream].append(values_of(frame)[0])
            else:
                number = header.stream if isinstance(header, End) else header.batch
                assert number not in ends, "a stream ends once"
                ends[number] = header
        return values, ends

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def row(value: float) -> Tensor:
    return tensor([value], shape=(1, 1))


def heads(*tensors: Tensor):
    return tuple(TensorHead(t.name, t.datatype, t.shape, len(t.data)) for t in tensors)


def values_of(frame) -> list[float]:
    return memoryview(bytes(frame.tensors[0].data)).cast("f").tolist()


class Stage:
    """A worker's server with a model that counts, and gateways."""

    def __init__(self, path) -> None:
        self.runtime = Counting()
        self.statistics = Statistics()
        self._path = path / "w.sock"
        self._gateways: list[Gateway] = []

    async def __aenter__(self) -> Self:
        self.server = WorkerServer(TASK, "pod", Model(self.runtime), self.statistics)
        await self.server.start(self._path, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        for gateway in self._gateways:
            await gateway.close()
        await self.server.drain("over", PATIENCE_S)
        self.server.runner.stop(PATIENCE_S)

    async def gateway(self) -> Gateway:
        made = Gateway(*await asyncio.open_unix_connection(str(self._path)))
        self._gateways.append(made)
        self.hello = (await made.next()).header
        return made

    async def until(self, holds) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await asyncio.sleep(0)


async def test_a_model_that_yields_says_so_and_its_parts_come_in_order(tmp_path):
    async with Stage(tmp_path) as stage:
        gateway = await stage.gateway()
        assert (stage.hello.streams, stage.hello.credits) == (3, 2)
        gateway.generate(7, 10.0, parts=4)
        values, ends = await gateway.rest(7)
        assert values == {7: [10.0, 11.0, 12.0, 13.0]}
        assert ends[7].parts == 4
        assert ends[7].compute_s > 0.0
        assert (stage.statistics.streams, stage.statistics.parts) == (1, 4)


async def test_no_part_is_computed_that_nobody_has_room_for(tmp_path):
    """The window is what flows back from who reads: at 0 the model stands still, and others go on."""
    async with Stage(tmp_path) as stage:
        gateway = await stage.gateway()
        gateway.generate(1, 0.0, parts=10, window=2)
        assert [values_of(await gateway.next()) for _ in range(2)] == [[0.0], [1.0]]
        x = row(5.0)
        gateway.send(Run(2, heads(x)), x)
        frame = await gateway.next()
        assert isinstance(frame.header, Result)
        assert (values_of(frame), stage.runtime.computed) == ([10.0], [0.0, 1.0])
        gateway.send(More(1, 1))
        assert values_of(await gateway.next()) == [2.0]
        gateway.send(More(1, 100))
        values, ends = await gateway.rest(1)
        assert (values[1], ends[1].parts) == ([3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 10)
        gateway.send(More(1, 1))  # to one that has ended: passed over
        gateway.generate(3, 0.0, parts=0)
        values, ends = await gateway.rest(3)
        assert (values, ends[3].parts) == ({3: []}, 0)


async def test_a_stream_that_is_cancelled_stops_and_lets_go_of_what_it_holds(tmp_path):
    """While it waits for room, while it runs, and when the connection breaks; the place is free again."""
    async with Stage(tmp_path) as stage:
        gateway = await stage.gateway()
        gateway.generate(1, 0.0, parts=10**9, window=1)
        await gateway.next()
        gateway.generate(2, 0.0, parts=10**9, window=10**9)
        for _ in range(20):
            await gateway.next()
        gateway.send(Cancel(1))
        gateway.send(Cancel(2))
        _, ends = await gateway.rest(1, 2)
        assert {end.code for end in ends.values()} == {ErrorCode.CANCELLED}
        assert ends[1] == Failure(1, ErrorCode.CANCELLED, "cancelled after 1 parts", 0)
        assert (stage.runtime.closed, stage.statistics.cancelled) == (2, 2)
        for number in range(3, 6):
            gateway.generate(number, 0.0, parts=10**9, window=1)
            await gateway.next()
        await gateway.close()
        await stage.until(lambda: stage.statistics.streams == 5)
        assert stage.runtime.closed == 5


async def test_a_stream_that_fails_keeps_its_parts_and_says_why(tmp_path):
    async with Stage(tmp_path) as stage:
        stage.runtime.fails_after = 2
        gateway = await stage.gateway()
        gateway.generate(1, 0.0, parts=5)
        values, ends = await gateway.rest(1)
        assert (values[1], ends[1]) == ([0.0, 1.0], Failure(1, ErrorCode.FAILED, "no more ideas", 0))


async def test_streams_take_turns_with_each_other_and_with_batches(tmp_path):
    """None waits for another's end: of three endless ones, each gets as far as the others."""
    async with Stage(tmp_path) as stage:
        gateway, other = await stage.gateway(), await stage.gateway()
        for number in range(1, 4):
            gateway.generate(number, 0.0, parts=10**9, window=10**9)
        seen: Counter[int] = Counter()
        for _ in range(300):
            seen[(await gateway.next()).header.stream] += 1
        assert max(seen.values()) - min(seen.values()) <= 3, seen
        x = row(1.0)
        other.send(Run(1, heads(x)), x)
        assert values_of(await other.next()) == [2.0]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ([Generate(1, 1, {"parts": 9}, ())] * 2, "expected a new number, got 1 again"),
        ([Generate(n, 1, {"parts": 9}, ()) for n in range(4)], "expected at most 3 streams at once, got one more"),
        ([Generate(1, 0, {"parts": 9}, ())], "expected a window of at least one part, got 0"),
    ],
)
async def test_who_breaks_the_talk_is_cut_off(tmp_path, caplog, sent, words):
    async with Stage(tmp_path) as stage:
        gateway, other = await stage.gateway(), await stage.gateway()
        x = row(0.0)
        for header in sent:
            gateway.send(Generate(header.stream, header.window, header.parameters, heads(x)), x)
        while (await gateway.next()) is not None:
            pass
        assert words in caplog.text
        other.generate(1, 1.0, parts=1)
        assert (await other.rest(1))[0] == {1: [1.0]}


async def test_a_model_that_does_not_yield_takes_no_streams(tmp_path, caplog):
    class Whole(Counting):
        streams = False

    stage = Stage(tmp_path)
    stage.runtime = Whole()
    async with stage:
        gateway = await stage.gateway()
        assert stage.hello.streams == 0
        gateway.generate(1, 1.0, parts=1)
        assert await gateway.next() is None
        assert "expected at most 0 streams at once" in caplog.text


async def test_streams_end_before_the_worker_does(tmp_path):
    """DRAIN is said, what is open goes on to its end, and the gateway then closes."""
    async with Stage(tmp_path) as stage:
        gateway = await stage.gateway()
        gateway.generate(1, 0.0, parts=5, window=1)
        await gateway.next()
        draining = asyncio.create_task(stage.server.drain("bye", PATIENCE_S))
        assert type((await gateway.next()).header).__name__ == "Drain"
        gateway.send(More(1, 10))
        assert (await gateway.rest(1))[0] == {1: [1.0, 2.0, 3.0, 4.0]}
        await gateway.close()
        assert await draining is True


@UNHURRIED
@given(st.data())
def test_whatever_is_asked_in_whatever_order_each_stream_gets_its_own_parts_and_one_end(data):
    """Generated talk: streams of random length and window, MOREs and CANCELs at random moments, against what must be:
    the values are the first ones of the stream's own, all of them where it was not cancelled.
    """
    lengths = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=3))
    windows = [data.draw(st.integers(1, 4)) for _ in lengths]
    actions = data.draw(
        st.lists(st.tuples(st.sampled_from(["more", "cancel"]), st.integers(0, len(lengths) - 1)), max_size=8)
    )
    asyncio.run(_played(lengths, windows, actions))


async def _played(lengths: list[int], windows: list[int], actions: list[tuple[str, int]]) -> None:
    runtime, statistics = Counting(), Statistics()
    loop = asyncio.get_running_loop()
    here, there = _pair()
    server = WorkerServer(TASK, "pod", Model(runtime), statistics)
    server.runner.start()
    await loop.connect_accepted_socket(server.link, there)
    gateway = Gateway(*await asyncio.open_connection(sock=here))
    await gateway.next()
    for number, (parts, window) in enumerate(zip(lengths, windows, strict=True)):
        gateway.generate(number, 100.0 * number, parts, window)
    cancelled = set()
    for what, number in actions:
        await asyncio.sleep(0)
        gateway.send(More(number, 1) if what == "more" else Cancel(number))
        cancelled |= {number} if what == "cancel" else set()
    for number in range(len(lengths)):
        gateway.send(More(number, 100))
    values, ends = await gateway.rest(*range(len(lengths)))
    for number, parts in enumerate(lengths):
        whole = [100.0 * number + part for part in range(parts)]
        assert values[number] == whole[: len(values[number])]
        if number not in cancelled:
            assert (values[number], type(ends[number])) == (whole, End)
    assert statistics.streams == len(lengths)
    await gateway.close()
    server.runner.stop(PATIENCE_S)


def _pair() -> tuple[socket.socket, socket.socket]:
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    return here, there


def test_nothing_here_left_a_thread_behind():
    assert [thread.name for thread in threading.enumerate() if thread.name == "runner"] == []
