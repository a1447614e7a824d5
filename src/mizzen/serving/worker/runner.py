"""Who computes: batches and parts of streams one after the other, in the order in which they came.

A thread does. The event loop hands work over and gets it back with its answer; the thread touches nothing else. While
the runtime is in native code it lets other threads run, so sockets and probes stay live; when it never comes back,
`busy_s` grows, which the liveness probe sees.

To hand a batch over and back costs two wake-ups, some 60 us, which is more than a small model computes. So a batch is
computed at once, on the event loop's own thread, where nothing is with the other thread and batches of its size have
long taken less than `AT_ONCE_S`; and only by a runtime that says that this can be told from its size (`steady`: none
runs a user's code). Should one of those hang after all, probes are not answered any more, which they fail by, too.

A stream is handed over once for each part, so that several streams, and batches between them, take turns, and one that
nobody reads on from costs no time. Only this thread touches a model's iterator, to its end.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from mizzen.serving.frames import Parameter
from mizzen.serving.tensors import Tensor
from mizzen.serving.worker.errors import BatchError

AT_ONCE_S = 0.0002
"""What the event loop may be kept from its sockets: about what handing over costs there and back, a few times."""
LONG_ENOUGH = 32
"""Batches of a size that are measured before the first is computed at once."""
KEEP = 1 - 1 / 8
"""What a batch leaves of what was known of its size: one of 5 ms sends the next ten to the thread."""


class Runtime(Protocol):
    """What computes. Both raise `BatchError` where they refuse."""

    def run(self, tensors: list[Tensor]) -> list[Tensor]: ...

    def generate(self, tensors: list[Tensor], parameters: Mapping[str, Parameter]) -> Iterator[list[Tensor]]: ...


class Job:
    """A batch on its way. `cancelled` may be set until the thread begins it."""

    __slots__ = ("began_s", "came_s", "cancelled", "compute_s", "error", "inputs", "number", "outputs", "owner")

    def __init__(self, owner: object, number: int, inputs: list[Tensor]) -> None:
        self.owner = owner
        self.number = number
        self.inputs = inputs
        self.cancelled = False
        self.came_s = time.monotonic()
        self.began_s: float | None = None
        self.compute_s = 0.0
        self.outputs: list[Tensor] = []
        self.error: BatchError | None = None

    @property
    def rows(self) -> int:
        """1 where the model takes no rows."""
        return self.inputs[0].shape[0] if self.inputs and self.inputs[0].shape else 1


class Stream:
    """A request on its way whose answer comes in parts. While it is with the thread (`busy`) only `cancelled` and
    `window` may be touched from elsewhere, which the thread does not write.
    """

    __slots__ = (
        "began_s", "busy", "came_s", "cancelled", "compute_s", "ended", "error", "inputs", "number", "outputs",
        "owner", "parameters", "part_s", "parts", "rest", "window",
    )  # fmt: skip

    def __init__(
        self, owner: object, number: int, inputs: list[Tensor], parameters: Mapping[str, Parameter], window: int
    ) -> None:
        self.owner = owner
        self.number = number
        self.inputs = inputs
        self.parameters = parameters
        self.window = window
        """Parts that may come before more are asked for."""
        self.busy = False
        self.cancelled = False
        self.came_s = time.monotonic()
        self.began_s: float | None = None
        self.compute_s = 0.0
        self.part_s = 0.0
        self.parts = 0
        self.rest: Iterator[list[Tensor]] | None = None
        self.outputs: list[Tensor] = []
        self.ended = False
        self.error: BatchError | None = None


class Runner:
    """Computes on one thread. `done` is called on that thread with each batch, and with each stream after every part
    and once more at its end.
    """

    def __init__(
        self, runtime: Runtime, done: Callable[[Job | Stream], None], *, steady: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`steady`: whether a batch's size tells how long it takes."""
        self._clock = clock
        self._runtime = runtime
        self._done = done
        self._steady = steady
        self._handed_over = 0
        """Work that is with the thread, or back from it and not yet `returned`."""
        self._measured: dict[int, tuple[int, float]] = {}
        """By octaves of rows: how many batches, and how long they take, lately."""
        self._work_waiting: queue.SimpleQueue[Job | Stream | None] = queue.SimpleQueue()
        self._began_s: float | None = None
        self._thread = threading.Thread(target=self._work, name="runner", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, work: Job | Stream) -> None:
        """Hands it to the thread. Who does says so (`returned`) when it is back."""
        self._handed_over += 1
        self._work_waiting.put(work)

    def returned(self, work: Job | Stream) -> None:
        """It is back on the event loop."""
        self._handed_over -= 1
        if self._steady and isinstance(work, Job) and work.began_s is not None:
            self._measure(work)

    def run_at_once(self, job: Job) -> bool:
        """Computes the batch here and now, if that is sure to be quick; else it is to be `put`."""
        if not self._steady or self._handed_over:
            return False
        count, likely_s = self._measured.get(job.rows.bit_length(), (0, 0.0))
        if count < LONG_ENOUGH or likely_s > AT_ONCE_S:
            return False
        self._run(job)
        self._measure(job)
        return True

    def stop(self, timeout_s: float) -> None:
        """Ends the thread after what it has; one that does not come back is left behind with the process."""
        self._work_waiting.put(None)
        self._thread.join(timeout_s)

    def busy_s(self) -> float:
        """Seconds since that began which runs now; 0 where nothing does."""
        began_s = self._began_s
        return 0.0 if began_s is None else self._clock() - began_s

    def _work(self) -> None:
        while (work := self._work_waiting.get()) is not None:
            if isinstance(work, Stream):
                self._advance(work)
            elif not work.cancelled:
                self._run(work)
            self._done(work)

    def _run(self, job: Job) -> None:
        began_s = job.began_s = self._began_s = self._clock()
        try:
            job.outputs = self._runtime.run(job.inputs)
        except BatchError as error:
            job.error = error
        self._began_s = None
        job.compute_s = self._clock() - began_s

    def _measure(self, job: Job) -> None:
        octave = job.rows.bit_length()
        count, likely_s = self._measured.get(octave, (0, job.compute_s))
        self._measured[octave] = count + 1, KEEP * likely_s + (1 - KEEP) * job.compute_s

    def _advance(self, stream: Stream) -> None:
        """The next part, or the end."""
        if stream.cancelled:
            self._close(stream)
            return
        now = self._began_s = self._clock()
        try:
            if stream.rest is None:
                stream.began_s = now
                stream.rest = self._runtime.generate(stream.inputs, stream.parameters)
            outputs = next(stream.rest, None)
        except BatchError as error:
            stream.error, outputs = error, None
        self._began_s = None
        stream.part_s = self._clock() - now
        stream.compute_s += stream.part_s
        if outputs is None:
            stream.ended = True
        else:
            stream.outputs = outputs
            stream.parts += 1

    def _close(self, stream: Stream) -> None:
        """Lets the model put away what it holds for a stream that nobody reads."""
        stream.ended = True
        closing = getattr(stream.rest, "close", None)
        if closing is not None:
            self._began_s = self._clock()
            try:
                closing()
            except BatchError as error:
                stream.error = error
            self._began_s = None
