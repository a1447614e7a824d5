"""A worker of the run's own: the same program that endpoints have, as a child process, asked over its socket.

So a batch needs no second way to load a model: whatever its format, it is verified, unpacked and run as it is for an
endpoint, in a process that may die without taking the run with it. One that dies is started again, after a pause that
grows while it does not come up.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mizzen.data.pod import TRY_AGAIN, Failure
from mizzen.serving.batch.predictor import Lost, Refused
from mizzen.serving.batch.task import BatchTask
from mizzen.serving.frames import (
    PROTOCOL_VERSION,
    ErrorCode,
    Frame,
    FrameError,
    FrameReader,
    Hello,
    Result,
    Run,
    TensorHead,
    write_frame,
)
from mizzen.serving.frames import Failure as FailureHead
from mizzen.serving.tensors import Tensor

log = logging.getLogger("mizzen.batch")
HOPELESS = 2
"""The worker's exit status that says: starting me again will not help."""
STARTS_MAX = 5
"""So many starts in a row that come to nothing end the Pod, which may be started elsewhere."""
START_TIMEOUT_S = 600.0
ANSWER_TIMEOUT_S = 600.0
"""A slice that takes longer has found a worker that hangs."""
PAUSE_S_FIRST, PAUSE_S_MAX = 0.1, 10.0
_CHUNK = 1 << 20


class OwnWorker:
    """Keeps one worker up while it is open; a `Predictor`."""

    module = "mizzen.serving.worker"
    width = 2
    """One slice is computed while the next is on its way."""

    def __init__(self, task: BatchTask, tell: Callable[[str], None] = lambda _: None) -> None:
        self.rows_max = task.batch_rows
        self._task, self._tell = task, tell
        self._folder = tempfile.TemporaryDirectory(prefix="mz-")
        self._talk: _Talk | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self.starts = 0

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError, Failure):
                await self._keeper
        self._folder.cleanup()

    async def predict(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See `Predictor`."""
        up = asyncio.ensure_future(self._up.wait())
        assert self._keeper is not None, "it is open"
        try:
            await asyncio.wait((up, self._keeper), return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        if self._keeper.done():
            self._keeper.result()
        talk = self._talk
        if talk is None:
            raise Lost("the worker went")
        return await talk.ask(inputs)

    async def _keep(self) -> None:
        """Starts it again and again. Raises `Failure` where that is of no use."""
        failures = 0
        while True:
            self.starts += 1
            self._tell("its worker is being started")
            came, process = await self._live(Path(self._folder.name) / str(self.starts))
            failures = 0 if came else failures + 1
            self._judge(process, failures)
            pause_s = min(PAUSE_S_FIRST * 2**failures, PAUSE_S_MAX)
            log.warning("the worker ended with %s; it is started again in %.1f s", process.returncode, pause_s)
            await asyncio.sleep(pause_s)

    def _judge(self, process: asyncio.subprocess.Process, failures: int) -> None:
        said = self._last_words() or f"it ended with exit code {process.returncode}"
        if process.returncode == HOPELESS:
            raise Failure("ModelUnfit", f"model {self._task.model.name} cannot be loaded: {said}")
        if failures >= STARTS_MAX:
            message = f"the worker did not come up {failures} times in a row: {said}"
            raise Failure("WorkerFails", message, exit_code=TRY_AGAIN)

    def _last_words(self) -> str:
        path = Path(self._folder.name) / str(self.starts) / "dev" / "termination-log"
        return path.read_text(errors="replace").strip() if path.exists() else ""

    async def _live(self, folder: Path) -> tuple[bool, asyncio.subprocess.Process]:
        """One life of a worker: whether it came up, and the process, which has ended."""
        folder.mkdir()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self.module,
            env=self._environment(folder),
            stdin=asyncio.subprocess.DEVNULL,
        )
        came = False
        ended = asyncio.ensure_future(process.wait())
        try:
            talk = await self._connected(folder / "worker.sock", ended)
            came = talk is not None
            if talk is not None:
                self._talk = talk
                self._tell("")
                self._up.set()
                await asyncio.wait((ended, talk.reading), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._up.clear()
            talk, self._talk = self._talk, None
            if talk is not None:
                talk.close()
            ended.cancel()
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await process.wait()
        return came, process

    async def _connected(self, socket: Path, ended: asyncio.Future[int]) -> "_Talk | None":
        """The talk with it, once it is warm; `None` where it ends before."""
        deadline_s = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while not ended.done() and asyncio.get_running_loop().time() < deadline_s:
            try:
                reader, writer = await asyncio.open_unix_connection(str(socket), limit=_CHUNK)
            except OSError:
                await asyncio.wait((ended,), timeout=0.02)
                continue
            return _Talk(reader, writer, self._task.model.digest)
        return None

    def _environment(self, folder: Path) -> dict[str, str]:
        task = self._task
        worker: dict[str, Any] = {
            "storeUrl": task.store_url,
            "model": task.model.model,
            "version": task.model.version,
            "digest": task.model.digest,
            "namespace": task.namespace,
            "endpoint": task.name,
            "format": task.format,
            "trusted": task.trusted,
            "threads": task.threads,
            "warmRows": [task.batch_rows],
            "credits": self.width,
        }
        own = {
            "MIZZEN_TASK": json.dumps(worker),
            "MIZZEN_RUN_DIR": str(folder),
            "MIZZEN_ROOTFS": str(folder),
            "MIZZEN_PORT_HEALTH": "0",
            "MIZZEN_HEALTH_HOST": "127.0.0.1",
        }
        return {**os.environ, **own}


class _Talk:
    """One connection: slices out, answers in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, digest: str) -> None:
        self._reader, self._writer = reader, writer
        self._digest = digest
        self._waiting: dict[int, asyncio.Future[list[Tensor]]] = {}
        self._number = 0
        self.reading = asyncio.create_task(self._read())

    async def ask(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        if self.reading.done():
            raise Lost("the worker went")
        self._number += 1
        number = self._number
        heads = tuple(TensorHead(t.name, t.datatype, t.shape, len(t.data)) for t in inputs)
        answer: asyncio.Future[list[Tensor]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._writer.writelines(write_frame(Run(number, heads), [tensor.data for tensor in inputs]))
            await self._writer.drain()
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                outputs = await answer
        except FrameError as error:
            raise Refused(str(error)) from error
        except TimeoutError as error:
            self.close()
            raise Lost(f"the worker did not answer for {ANSWER_TIMEOUT_S:.0f} s") from error
        except OSError as error:
            raise Lost("the worker went") from error
        finally:
            self._waiting.pop(number, None)
        return outputs

    def close(self) -> None:
        """Nobody is answered any more."""
        if self.reading.done() and not self.reading.cancelled() and (error := self.reading.exception()) is not None:
            log.warning("the worker did not keep to the talk: %s", error)
        self.reading.cancel()
        self._writer.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Lost("the worker went while it had these rows"))

    async def _read(self) -> None:
        frames = FrameReader()
        with contextlib.suppress(OSError):
            while data := await self._reader.read(_CHUNK):
                for frame in frames.feed(data):
                    self._take(frame)

    def _take(self, frame: Frame) -> None:
        """Raises `FrameError` where the worker is none of this program's."""
        header = frame.header
        if isinstance(header, Hello) and (header.protocol, header.digest) != (PROTOCOL_VERSION, self._digest):
            raise FrameError(f"expected a worker of {self._digest}, got one of {header.digest}")
        if isinstance(header, Result):
            self._answer(header.batch, frame.tensors)
        elif isinstance(header, FailureHead):
            lost = header.code in {ErrorCode.NOT_RUN, ErrorCode.CANCELLED}
            self._answer(header.batch, Lost(header.message) if lost else Refused(header.message))

    def _answer(self, number: int, found: list[Tensor] | Lost | Refused) -> None:
        answer = self._waiting.get(number)
        if answer is None or answer.done():
            return
        if isinstance(found, list):
            answer.set_result(found)
        else:
            answer.set_exception(found)
