"""One dataset's pushed rows in this process: from a request to a segment in the store.

Requests that come while a segment is being written wait for the next one, together: so a lone request waits for one
write, and many share one. Nothing waits on a timer. A request is acknowledged when its segment is kept, and told so
when it could not be.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from mizzen.data.lake.errors import LakeError, StoreUnavailable
from mizzen.data.lake.segments import Batch, Segment

BYTES_WAITING_MAX = 256 * 1024 * 1024
"""Of rows that wait for a write; beyond it, requests are asked to come again later."""
Put = Callable[[Segment, list[Batch]], None]
"""Keeps batches as a segment, or raises `LakeError`."""


class Overloaded(Exception):
    """Rows come faster than the store takes them."""


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Since the process began."""

    rows: int
    requests: int
    segments: int
    bytes_waiting: int


class Channel:
    """Takes batches in and writes segments, one after the other. Belongs to one event loop."""

    def __init__(self, writer: str, put: Put, kept: Callable[[], None]) -> None:
        self._writer, self._put, self._kept = writer, put, kept
        self._waiting: list[tuple[Batch, asyncio.Future[None]]] = []
        self._bytes_waiting = self._rows = self._requests = 0
        self._number = 0
        self._writing: asyncio.Task[None] | None = None

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(self._rows, self._requests, self._number, self._bytes_waiting)

    def __repr__(self) -> str:
        return f"Channel({self._writer!r}, {self.statistics()})"

    async def accept(self, rows: pa.Table, key: str = "") -> None:
        """Returns when the rows are kept. Raises `Overloaded`, `StoreUnavailable`."""
        if self._bytes_waiting + rows.nbytes > BYTES_WAITING_MAX:
            raise Overloaded(f"{self._bytes_waiting} bytes of rows wait for the store")
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((Batch(rows, key), kept))
        self._bytes_waiting += rows.nbytes
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await kept

    async def _write(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = _of_one_schema(self._waiting)
                segment = Segment(self._writer, self._number)
                self._number += 1  # also where the write fails: it may have arrived all the same
                problem = await self._written(segment, [batch for batch, _ in taken])
                for batch, kept in taken:
                    self._bytes_waiting -= batch.rows.nbytes
                    if kept.cancelled():  # whoever sent it went away; the rows are kept
                        continue
                    if problem is None:
                        self._rows += batch.rows.num_rows
                        self._requests += 1
                        kept.set_result(None)
                    else:
                        kept.set_exception(StoreUnavailable(str(problem)))
                if problem is None:
                    self._kept()
        finally:
            self._writing = None

    async def _written(self, segment: Segment, batches: list[Batch]) -> Exception | None:
        try:
            await asyncio.to_thread(self._put, segment, batches)
        except (LakeError, OSError) as error:
            return error
        return None

    async def drained(self) -> None:
        """Returns when every request so far has its answer."""
        if self._writing is not None:
            await asyncio.wait({self._writing})


_Waiting = list[tuple[Batch, "asyncio.Future[None]"]]


def _of_one_schema(waiting: _Waiting) -> tuple[_Waiting, _Waiting]:
    """(the first ones, all of one schema; the rest): the columns change when the spec does."""
    schema = waiting[0][0].rows.schema
    for index, (batch, _) in enumerate(waiting):
        if not batch.rows.schema.equals(schema):
            return waiting[:index], waiting[index:]
    return waiting, []
