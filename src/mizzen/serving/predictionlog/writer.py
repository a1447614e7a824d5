"""The writer: brings all endpoints' records from the rings of this machine's gateways to their tables.

It needs the folder of the rings and a store; with a kubeconfig it also says on each endpoint how its log stands. It
reads the rings many times a second (there is no event between the processes, because an event would cost each
request), and waits for stores in threads: one task for each endpoint, so that each waits for its own table only.

One writer has a folder: it holds a lock. A writer that is told to end takes what is there to the tables, for `END_S` at
most; what it does not manage is in the spool for the next.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import httpx2
import msgspec

from mizzen.data.lake.errors import StoreUnavailable
from mizzen.data.lake.objects import Store
from mizzen.serving.predictionlog import layout
from mizzen.serving.predictionlog import spool as spools
from mizzen.serving.predictionlog.events import BACKLOG_BYTES, SinkUnavailable, deliver
from mizzen.serving.predictionlog.journal import Journal, Limits
from mizzen.serving.predictionlog.layout import table_path
from mizzen.serving.predictionlog.progress import Written
from mizzen.serving.predictionlog.table import LogTable

log = logging.getLogger("mizzen.predictionlog")
DRAIN_EVERY_S = 0.05
LOOK_EVERY_S = 1.0
TIDY_EVERY_S = 60.0
RETRY_S_FIRST, RETRY_S_MAX = 0.5, 15.0
END_S = 10.0
DRAINS_AT_END = 64
"""Of each ring at most, since gateways may go on writing."""


class FolderTaken(Exception):
    """Another writer has the folder."""


class _Endpoint:
    """One endpoint's journal, its table and the tasks between them."""

    def __init__(self, journal: Journal, table: LogTable) -> None:
        self.journal, self.table = journal, table
        self.sealed = asyncio.Event()
        self.sent = asyncio.Event()
        self.idle = asyncio.Event()
        """Nothing is sealed that is not in the table."""
        self.tasks: list[asyncio.Task[None]] = []


class Writer:
    """All endpoints whose folders are there."""

    def __init__(
        self,
        folder: Path,
        spool: Path,
        store: Store,
        limits: Limits,
        report: Callable[[Sequence[Written]], Awaitable[None]] | None = None,
    ) -> None:
        self._folder, self._spool, self._store, self._limits = folder, spool, store, limits
        self._report = report
        self._endpoints: dict[Path, _Endpoint] = {}
        self._http = httpx2.AsyncClient()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise FolderTaken(f"{folder}: another writer brings these records to their tables") from error

    def statistics(self) -> list[Written]:
        """How each endpoint's log stands."""
        return [endpoint.journal.publish() for endpoint in self._endpoints.values()]

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then brings what is there to the tables, as far as `END_S` allows."""
        loop = asyncio.get_running_loop()
        look_at_s, tidy_at_s = 0.0, loop.time() + TIDY_EVERY_S
        reporting = loop.create_task(self._keep_reporting())
        while not stop.is_set():
            if loop.time() >= look_at_s:
                self._look()
                look_at_s = loop.time() + LOOK_EVERY_S
            if loop.time() >= tidy_at_s:
                self._tidy()
                tidy_at_s = loop.time() + TIDY_EVERY_S
            self._drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), DRAIN_EVERY_S)
        reporting.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._finish(), END_S)
        for endpoint in self._endpoints.values():
            endpoint.journal.close()
        os.close(self._lock)

    def _look(self) -> None:
        """Finds endpoints and rings that are new; counts."""
        for folder in self._folder.iterdir():
            if folder.is_dir() and folder not in self._endpoints:
                try:
                    self._endpoints[folder] = self._begin(folder)
                except OSError as error:  # a disk without room: looked at again
                    log.warning("%s: %s", folder.name, error)
        for segment in self._spool.glob(f"*/{layout.SEGMENTS}"):  # its rings went when the machine was switched off
            (self._folder / segment.parent.name).mkdir(mode=0o700, exist_ok=True)
        for endpoint in self._endpoints.values():
            endpoint.journal.look()
            endpoint.journal.publish()

    def _begin(self, folder: Path) -> _Endpoint:
        journal = Journal(folder, self._spool / folder.name, self._limits)
        endpoint = _Endpoint(journal, LogTable(self._store, table_path(journal.namespace, journal.endpoint)))
        endpoint.tasks = [
            asyncio.create_task(self._keep_committing(endpoint)),
            asyncio.create_task(self._keep_sending(endpoint)),
        ]
        endpoint.sealed.set()  # what the last writer left
        return endpoint

    def _tidy(self) -> None:
        """Forgets endpoints that are logged no more."""
        for folder, endpoint in list(self._endpoints.items()):
            if endpoint.journal.remove_folder_if_left():
                del self._endpoints[folder]
                for task in endpoint.tasks:
                    task.cancel()
                endpoint.journal.close()

    def _drain(self) -> None:
        for endpoint in self._endpoints.values():
            endpoint.journal.drain()
            if endpoint.journal.seal():
                endpoint.sealed.set()

    async def _keep_committing(self, endpoint: _Endpoint) -> None:
        """Brings segments to the table while there are any. A table that is away is tried again, ever more slowly."""
        journal, wait_s, commits = endpoint.journal, RETRY_S_FIRST, 0
        while True:
            await endpoint.sealed.wait()
            endpoint.sealed.clear()
            try:
                while await asyncio.to_thread(journal.commit, endpoint.table):
                    endpoint.sent.set()
                    journal.written.trouble, wait_s, commits = "", RETRY_S_FIRST, commits + 1
                    if self._limits.compact_every and commits % self._limits.compact_every == 0:
                        await asyncio.to_thread(endpoint.table.compact)
            except StoreUnavailable as error:
                if not journal.written.trouble:
                    log.warning("%s", error)
                journal.written.trouble = str(error)
            except Exception as error:
                log.exception("%r: what waits cannot be committed for a reason that is a bug", journal)
                journal.written.trouble = repr(error)
            else:
                endpoint.idle.set()
                continue
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, RETRY_S_MAX)
            endpoint.sealed.set()

    async def _keep_sending(self, endpoint: _Endpoint) -> None:
        """Sends the events of segments that are in the table."""
        journal, wait_s = endpoint.journal, RETRY_S_FIRST
        while True:
            segments = journal.spool.segments("sent")
            if not segments:
                await endpoint.sent.wait()
                endpoint.sent.clear()
                continue
            try:
                contents = spools.read(segments[0])
            except (ValueError, msgspec.MsgspecError) as error:
                log.error("no events of %s: %s", segments[0].path, error)  # noqa: TRY400 - the error says it all
                spools.remove(segments[0])
                continue
            try:
                journal.written.events_lost += await deliver(self._http, contents)
                wait_s = RETRY_S_FIRST
            except SinkUnavailable as error:
                if sum(segment.bytes for segment in segments) <= BACKLOG_BYTES:
                    log.warning("%s", error)
                    await asyncio.sleep(wait_s)
                    wait_s = min(2 * wait_s, RETRY_S_MAX)
                    continue
                journal.written.events_lost += contents.records
            spools.remove(segments[0])

    async def _keep_reporting(self) -> None:
        told: dict[tuple[str, str], Written] = {}
        while self._report is not None:
            news = [
                written for written in self.statistics() if told.get((written.namespace, written.endpoint)) != written
            ]
            if news:
                await self._report(news)
            told |= {(written.namespace, written.endpoint): _copy(written) for written in news}
            await asyncio.sleep(LOOK_EVERY_S * 2)

    async def _finish(self) -> None:
        """All that is there, to the tables."""
        self._look()
        for endpoint in self._endpoints.values():
            for _ in range(DRAINS_AT_END):
                if not endpoint.journal.drain():
                    break
            endpoint.journal.seal(now=True)
            endpoint.idle.clear()
            endpoint.sealed.set()
        for endpoint in self._endpoints.values():
            await endpoint.idle.wait()
            endpoint.journal.publish()
        for endpoint in self._endpoints.values():
            for task in endpoint.tasks:
                task.cancel()
        await self._http.aclose()
        if self._report is not None:
            await self._report(self.statistics())
        self._tidy()


def _copy(written: Written) -> Written:
    return Written(**{name: getattr(written, name) for name in Written.__struct_fields__})
