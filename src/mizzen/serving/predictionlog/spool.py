"""Segments on disk: what was taken from the rings and is not in the lake yet.

A segment is a file of entries, each whole or not there:

    u32 bytes, u32 CRC-32, u64 ring, u64 position, payload

The payload is a chunk as it was in that ring at that position, or, with ring 0, the JSON of a stream, which is before
the first chunk of it in each segment: a segment can be read by itself. Its name is its number, and its ending its
state:

    open ──seal──> sealed ──committed──> sent ──its events are out──> gone
                     └── no table can take it ──> rejected             (without a sink: sealed ──committed──> gone)

A sealed segment never changes, and is in the table once the table's transaction of this spool (`identity`) has its
number. A writer that was killed finds its open segment, cuts off an entry that is not whole, and skips what is in it
already when it reads the ring again (`holds`). Nothing is synced to the disk: what a kill leaves is in the system's
memory, and a segment that is committed within seconds is never written at all.
"""

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from mizzen.serving.predictionlog.record import Chunk, Stream, decode_chunk

_ENTRY = struct.Struct("<IIQQ")
_MEANING = 0
"""The ring number of an entry that is a stream."""


WAITING = ("sealed", "sent")


class SpoolFull(Exception):
    """There is no room on the disk, or no more is allowed."""


class Segment(NamedTuple):
    """A file of the spool that is not open."""

    number: int
    path: Path
    bytes: int


class Contents(NamedTuple):
    """What a segment holds."""

    streams: dict[str, Stream]
    chunks: list[Chunk]

    @property
    def records(self) -> int:
        return sum(len(chunk.records) for chunk in self.chunks)


class Spool:
    """One endpoint's segments. Appended to by one thread; listed, read and removed by any."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.bytes_max = bytes_max
        self.identity = _identity(folder)
        self._held: set[tuple[int, int]] = set()
        self._known: set[str] = set()
        """Streams that the open segment explains."""
        left = sorted(folder.glob("*.open"))
        numbers = [int(path.stem) for path in folder.iterdir() if path.stem.isdecimal()]
        self._next = max([_counted(folder), *numbers]) + 1
        for path in left[:-1]:
            path.replace(path.with_suffix(".sealed"))
        self._path = left[-1] if left else None
        self.open_bytes = self._recover(self._path) if self._path is not None else 0
        self._file = self._path.open("r+b", buffering=0) if self._path is not None else None
        if self._file is not None:
            self._file.seek(self.open_bytes)

    def __repr__(self) -> str:
        return f"<Spool {self.folder.name}: {self.size} bytes>"

    @property
    def size(self) -> int:
        """Bytes of all segments that wait for something."""
        return self.open_bytes + sum(segment.bytes for state in WAITING for segment in self.segments(state))

    def holds(self, ring: int, position: int) -> bool:
        """Whether the frame was taken by a writer that was killed before it could say so."""
        return bool(self._held) and (ring, position) in self._held

    def forget_held(self, ring: int) -> None:
        """The ring's own count of what was taken is right again."""
        self._held = {held for held in self._held if held[0] != ring}

    def knows(self, stream: str) -> bool:
        """Whether the open segment explains the stream."""
        return stream in self._known

    def append(self, ring: int, frames: Sequence[tuple[int, bytes]], streams: dict[str, bytes]) -> None:
        """Adds frames (position and payload), and before them what streams mean. Raises `SpoolFull`: then it added
        none.
        """
        entries = [_entry(_MEANING, 0, meaning) for meaning in streams.values()]
        entries += [_entry(ring, position, payload) for position, payload in frames]
        data = b"".join(entries)
        if self._file is None:
            self._begin()
        assert self._file is not None, "a segment is open"
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self.open_bytes)
                self._file.seek(self.open_bytes)
            raise SpoolFull(f"{self.folder}: {error.strerror}") from error
        self.open_bytes += len(data)
        self._known |= streams.keys()

    def seal(self) -> None:
        """The open segment is complete. The rings have been told what it took."""
        if self._file is None or self._path is None or not self.open_bytes:
            return
        self._path.replace(self._path.with_suffix(".sealed"))
        self._file.close()
        self._file = self._path = None
        self.open_bytes = 0
        self._known.clear()

    def close(self) -> None:
        """The open segment stays open: the next writer goes on with it."""
        if self._file is not None:
            self._file.close()
            self._file = self._path = None

    def segments(self, state: str) -> list[Segment]:
        """Those in that state, oldest first."""
        found = []
        for path in self.folder.glob(f"*.{state}"):
            with contextlib.suppress(FileNotFoundError):
                found.append(Segment(int(path.stem), path, path.stat().st_size))
        return sorted(found)

    def rejected(self) -> int:
        """Records that no table can take: their number is in the name of each such segment."""
        return sum(int(path.stem.partition("-")[2]) for path in self.folder.glob("*.rejected"))

    def _begin(self) -> None:
        path = self.folder / f"{self._next:012d}.open"
        try:
            _replace(self.folder / "counted", str(self._next))
            self._file = path.open("xb", buffering=0)
        except OSError as error:
            raise SpoolFull(f"{self.folder}: {error.strerror}") from error
        self._path = path
        self._next += 1

    def _recover(self, path: Path) -> int:
        """Cuts off an entry that is not whole; returns the size of what is."""
        size = 0
        for ring, position, payload in entries(path):
            size += _ENTRY.size + len(payload)
            if ring != _MEANING:
                self._held.add((ring, position))
        os.truncate(path, size)
        return size


def move(segment: Segment, state: str, records: int = 0) -> None:
    """Gives a segment another state."""
    name = f"{segment.number:012d}-{records}.{state}" if records else f"{segment.number:012d}.{state}"
    segment.path.replace(segment.path.with_name(name))


def remove(segment: Segment) -> None:
    """All that was due of it is done."""
    segment.path.unlink(missing_ok=True)


def read(segment: Segment) -> Contents:
    """Raises `ValueError` where it is damaged."""
    streams: dict[str, Stream] = {}
    chunks: list[Chunk] = []
    size = 0
    for ring, _, payload in entries(segment.path):
        size += _ENTRY.size + len(payload)
        if ring == _MEANING:
            id_, stream = _meant(payload)
            streams[id_] = stream
        else:
            chunks.append(decode_chunk(payload))
    if size != segment.bytes:
        raise ValueError(f"{segment.path}: expected whole entries, found damage at byte {size} of {segment.bytes}")
    return Contents(streams, chunks)


def has_sink(segment: Segment) -> bool:
    """Whether any of its records is to be told as an event."""
    return any(_meant(payload)[1].sink for ring, _, payload in entries(segment.path) if ring == _MEANING)


def meaning(id_: str, stream: bytes) -> bytes:
    """The entry that explains a stream."""
    return b'{"id":"%b","stream":%b}' % (id_.encode(), stream)


def entries(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """The entries of a segment, up to the first that is not whole: ring, position, payload."""
    data = path.read_bytes()
    at = 0
    while at + _ENTRY.size <= len(data):
        size, checksum, ring, position = _ENTRY.unpack_from(data, at)
        payload = data[at + _ENTRY.size : at + _ENTRY.size + size]
        if len(payload) != size or zlib.crc32(payload) != checksum:
            return
        yield ring, position, payload
        at += _ENTRY.size + size


def _meant(payload: bytes) -> tuple[str, Stream]:
    """A stream's id, and what it means."""
    found = json.loads(payload)
    return found["id"], msgspec.convert(found["stream"], Stream)


def _entry(ring: int, position: int, payload: bytes) -> bytes:
    return _ENTRY.pack(len(payload), zlib.crc32(payload), ring, position) + payload


def _identity(folder: Path) -> str:
    """Random, made once."""
    path = folder / "identity"
    with contextlib.suppress(FileNotFoundError):
        if found := path.read_text().strip():
            return found
    _replace(path, os.urandom(8).hex())
    return path.read_text().strip()


def _replace(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


def _counted(folder: Path) -> int:
    """The highest number that was ever begun: numbers only grow, though all segments are gone."""
    try:
        return int((folder / "counted").read_text() or 0)
    except (FileNotFoundError, ValueError):
        return 0
