"""One endpoint's way from its rings to its table.

    rings ──drain──> spool ──seal──> segments ──commit──> table ──> events

`drain` and `seal` are quick and called often, from one thread; `commit` and what follows wait for the store and run
in another. What each step has done is in the file system and in the table, so that each can be killed and repeated: a
frame is in a segment before its ring is told, a segment is sealed after its rings are, and it is removed after the
table has it.

Where the spool is full, frames stay in their rings, and what finds its ring full is counted as lost by the gateway.
That is the only place where records are lost, but for what no table can take, which is set aside (`rejected`) and
counted too.
"""

import logging
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa

from mizzen.serving.predictionlog import spool as spools
from mizzen.serving.predictionlog.columns import to_table, unified
from mizzen.serving.predictionlog.layout import RING_ENDING, STREAM_ENDING, WRITTEN, endpoint_of
from mizzen.serving.predictionlog.progress import Written
from mizzen.serving.predictionlog.record import decode_chunk, stream_name
from mizzen.serving.predictionlog.ring import RingError, RingReader
from mizzen.serving.predictionlog.spool import Segment, Spool, SpoolFull, meaning
from mizzen.serving.predictionlog.table import LogTable

log = logging.getLogger("mizzen.predictionlog")
DRAIN_BYTES = 4 << 20
"""Taken from one ring in one turn, so that all rings have theirs."""


class Limits(msgspec.Struct, frozen=True):
    """When what is done."""

    segment_bytes: int = 16 << 20
    """A segment of this size is sealed."""
    seal_after_s: float = 10.0
    """So is one that began so long ago: the longest that a record waits for the table, if that is well."""
    commit_bytes: int = 64 << 20
    """Segments that wait are committed together up to this size."""
    spool_bytes: int = 1 << 30
    """All segments of an endpoint; beyond, records stay in the rings."""
    compact_every: int = 100
    """Commits after which small files are put together; 0: never."""


class _Retired(msgspec.Struct):
    """Rings whose file is gone, or about to be."""

    lost: int = 0
    leaving: dict[str, int] = {}
    """Lost by rings that are about to be removed, by their identity: counted here once the file is gone."""


class _Rows(NamedTuple):
    """Segments as tables."""

    tables: list[pa.Table]
    records: int


class Journal:
    """One endpoint's log, as the writer sees it."""

    def __init__(
        self, folder: Path, spool: Path, limits: Limits, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.namespace, self.endpoint = endpoint_of(folder)
        self.folder, self.limits = folder, limits
        self.spool = Spool(spool, limits.spool_bytes)
        self.written = Written(self.namespace, self.endpoint)
        self._monotonic = monotonic
        self._rings: dict[Path, RingReader] = {}
        self._opened_s: float | None = None
        """When the open segment got its first record."""
        self._retired = self._read_retired()
        if self.spool.open_bytes:
            self._opened_s = monotonic()

    def __repr__(self) -> str:
        return f"<Journal {self.namespace}/{self.endpoint}: {self.spool!r}>"

    # Rings to spool

    def look(self) -> None:
        """Finds rings that are new, and lets go of those that are gone."""
        for path in self.folder.glob(f"*{RING_ENDING}"):
            known = self._rings.get(path)
            if known is None:
                try:
                    self._rings[path] = RingReader.open(path)
                except RingError as error:
                    log.debug("%s", error)
        for path in [path for path in self._rings if not path.exists()]:
            self._rings.pop(path).close()
        self._forget_removed()

    def drain(self) -> int:
        """Takes what is in the rings; returns how many bytes. Where the spool is full it takes nothing."""
        if self.spool.size >= self.limits.spool_bytes:
            return 0
        taken = 0
        for ring in self._rings.values():
            try:
                taken += self._drain(ring)
            except SpoolFull as error:
                self._say_once(str(error))
            except RingError as error:
                log.error("%s; %d bytes are lost", error, ring.skip())  # noqa: TRY400 - the error says it all
        return taken

    def _drain(self, ring: RingReader) -> int:
        frames: list[tuple[int, bytes]] = []
        streams: dict[str, bytes] = {}
        begin = end = -1
        for position, after, payload in ring.frames(DRAIN_BYTES):
            begin = position if begin < 0 else begin
            end = after
            if self.spool.holds(ring.identity, position):
                continue
            name = stream_name(payload)
            if not self.spool.knows(name) and name not in streams:
                self._explain(name, streams)
            frames.append((position, payload))
        if end < 0:
            self.spool.forget_held(ring.identity)
            return 0
        if frames:
            self.spool.append(ring.identity, frames, streams)
            if self._opened_s is None:
                self._opened_s = self._monotonic()
        ring.taken(end)
        return end - begin

    def _explain(self, name: str, streams: dict[str, bytes]) -> None:
        path = self.folder / f"{name}{STREAM_ENDING}"
        try:
            streams[name] = meaning(name, path.read_bytes())
        except OSError as error:  # no table can take these records: they will be counted and set aside
            log.error("%s: %s", path, error.strerror)  # noqa: TRY400 - the error says it all

    def seal(self, *, now: bool = False) -> bool:
        """Completes the open segment if it is large or old enough, or `now`. Whether it did."""
        if self._opened_s is None:
            return False
        old = self._monotonic() - self._opened_s >= self.limits.seal_after_s
        if not (now or old or self.spool.open_bytes >= self.limits.segment_bytes):
            return False
        try:
            self.spool.seal()
        except OSError as error:
            self._say_once(f"{self.spool.folder}: {error.strerror}")
            return False
        self._opened_s = None
        return True

    # Spool to table

    def commit(self, table: LogTable) -> bool:
        """Brings segments that wait to the table, as many as go together. Whether there were any.

        Raises `StoreUnavailable`; to repeat it is safe.
        """
        segments = self._next_segments()
        if not segments:
            return False
        committed = table.committed(self.spool.identity)
        known = [segment for segment in segments if segment.number <= committed]
        if known:  # by a writer that did not live to remove them
            self._done(known)
            return True
        number = segments[-1].number
        rows = self._rows(segments)
        if rows is not None:
            table.append(unified(rows.tables), self.spool.identity, number, {"mizzen.records": rows.records})
            self.written.committed += rows.records
            self.written.commits += 1
            self.written.committed_at_s = time.time()
            self._done(segments)
        return True

    def _next_segments(self) -> list[Segment]:
        chosen: list[Segment] = []
        size = 0
        for segment in self.spool.segments("sealed"):
            size += segment.bytes
            if chosen and size > self.limits.commit_bytes:
                break
            chosen.append(segment)
        return chosen

    def _rows(self, segments: list[Segment]) -> _Rows | None:
        """What the segments hold; one that no table can take is set aside, and then it is `None`: to be asked again."""
        tables: list[pa.Table] = []
        records = 0
        for segment in segments:
            try:
                found = spools.read(segment)
                tables.append(to_table(found.streams, found.chunks))
            except (ValueError, KeyError, msgspec.MsgspecError) as error:
                log.error("%s is set aside: %s", segment.path, error)  # noqa: TRY400 - the error says it all
                spools.move(segment, "rejected", _records_in(segment))
                return None
            records += found.records
        return _Rows(tables, records)

    def _done(self, segments: list[Segment]) -> None:
        for segment in segments:
            if spools.has_sink(segment):
                spools.move(segment, "sent")
            else:
                spools.remove(segment)

    # What is said of it

    def publish(self) -> Written:
        """Counts, and keeps the counts where the gateway finds them."""
        written = self.written
        in_rings = sum(ring.bytes_waiting for ring in self._rings.values())
        lost = sum(ring.lost for ring in self._rings.values())
        written.lost_before = self._retired.lost + self.spool.rejected()
        written.lost = lost + written.lost_before
        written.spool_bytes = self.spool.size
        written.waiting_bytes = in_rings + written.spool_bytes
        _replace(self.folder / WRITTEN, msgspec.json.encode(written))
        return written

    @property
    def is_done(self) -> bool:
        """Whether nothing waits."""
        return not self.spool.size and not any(ring.bytes_waiting for ring in self._rings.values())

    def remove_left_rings(self) -> None:
        """Removes rings that no gateway holds and that are empty; what they lost stays counted."""
        for path, ring in list(self._rings.items()):
            if ring.remove_if_left(partial(self._leave, ring)):
                self._rings.pop(path).close()
        self._forget_removed()

    def remove_folder_if_left(self) -> bool:
        """Removes what no gateway uses and nothing waits in. Whether the whole folder went: the endpoint is not
        logged.
        """
        self.look()
        self.remove_left_rings()
        if self._rings or not self.is_done:
            return False
        shutil.rmtree(self.folder, ignore_errors=True)
        return True

    def _leave(self, ring: RingReader) -> None:
        """A ring is about to be removed."""
        self._retired.leaving[f"{ring.identity:x}"] = ring.lost
        _replace(self.spool.folder / "retired.json", msgspec.json.encode(self._retired))

    def close(self) -> None:
        """Lets go of everything; the next writer goes on."""
        for ring in self._rings.values():
            ring.close()
        self._rings.clear()
        self.spool.close()

    def _read_retired(self) -> _Retired:
        path = self.spool.folder / "retired.json"
        return msgspec.json.decode(path.read_bytes(), type=_Retired) if path.exists() else _Retired()

    def _forget_removed(self) -> None:
        """What was about to be removed is gone, or stays after all."""
        if not self._retired.leaving:
            return
        there = {f"{ring.identity:x}" for ring in self._rings.values()}
        gone = sum(lost for name, lost in self._retired.leaving.items() if name not in there)
        self._retired = _Retired(self._retired.lost + gone)
        _replace(self.spool.folder / "retired.json", msgspec.json.encode(self._retired))

    def _say_once(self, trouble: str) -> None:
        if self.written.trouble != trouble:
            log.warning("%s", trouble)
            self.written.trouble = trouble


def _records_in(segment: Segment) -> int:
    """How many records a segment holds, as far as it can be read."""
    count = 0
    for ring, _, payload in spools.entries(segment.path):
        if ring:
            try:
                count += len(decode_chunk(payload).records)
            except msgspec.MsgspecError:
                count += 1
    return count


def _replace(path: Path, data: bytes) -> None:
    """A full disk costs numbers, not records."""
    written = path.with_suffix(".partial")
    try:
        written.write_bytes(data)
        written.replace(path)
    except OSError as error:
        log.warning("%s: %s", path, error)
