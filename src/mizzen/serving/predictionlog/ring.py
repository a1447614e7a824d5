"""A bounded ring in a mapped file: one process writes, another reads, and either may be killed at any moment.

    page 0      words of 8 bytes: magic, capacity, identity, HEAD, TAIL, LOST
    page 1 …    the frames, `capacity` bytes, around and around

HEAD counts the bytes ever written and TAIL those ever taken; a frame is at its count modulo the capacity. A frame is
there once HEAD has passed it, which is one store of 8 bytes after the frame's bytes: a writer that is killed amid a
frame has written nothing. What does not fit is lost, and counted in LOST, which is kept as the frames are: by the
file, not by the process. A frame is `u32 bytes, u32 CRC-32, payload, zeros up to a multiple of 8`; the checksum finds
what a machine that lost its power left half on a disk.

The file is of its full size from the start (`posix_fallocate`), since a mapped file that cannot grow on a full disk
kills who writes to it. A producer holds the file's lock while it lives. One that starts takes a ring nobody holds and
goes on where that ended, so a process that was killed leaves its ring to its successor.
"""

import fcntl
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from mizzen.serving.predictionlog.layout import RING_ENDING

PAGE = 4096
MAGIC = int.from_bytes(b"mzring01", "little")
_MAGIC, _CAPACITY, _IDENTITY, _HEAD, _TAIL, _LOST = range(6)
_PREFIX = struct.Struct("<II")
RINGS_MAX = 1024
"""Of one folder: more than processes there ever are."""


class RingError(Exception):
    """The file is not a ring, or none can be made."""


class Ring:
    """A mapped ring file."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, 0)
        self._bytes = memoryview(self._map)
        self._words = self._bytes[:PAGE].cast("Q")
        self._data = self._bytes[PAGE:]
        self.capacity = self._words[_CAPACITY]
        self.identity = self._words[_IDENTITY]
        """Random, so that no two rings are taken for each other."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path.name}: {self.bytes_waiting} of {self.capacity} bytes>"

    @property
    def bytes_waiting(self) -> int:
        """Written and not taken yet."""
        return self._words[_HEAD] - self._words[_TAIL]

    @property
    def lost(self) -> int:
        """Records that found no room, ever."""
        return self._words[_LOST]

    def close(self) -> None:
        """Lets go of the file, and of its lock."""
        self._words.release()
        self._data.release()
        self._bytes.release()
        self._map.close()
        os.close(self._descriptor)


class RingProducer(Ring):
    """The writing end."""

    @classmethod
    def open(cls, folder: Path, capacity: int) -> Self:
        """A ring of the folder that nobody writes, or a new one. Raises `RingError` where there can be none."""
        capacity = max(PAGE, capacity & ~7)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number in range(RINGS_MAX):
                path = folder / f"{number}{RING_ENDING}"
                descriptor = _locked(path)
                if descriptor is not None:
                    if _is_new(descriptor):
                        _format(descriptor, capacity)
                    if _fits(descriptor, capacity):
                        return cls(path, descriptor)
                    os.close(descriptor)
        except OSError as error:
            raise RingError(f"{folder}: expected room for a ring of {capacity} bytes: {error.strerror}") from error
        raise RingError(f"{folder}: expected at most {RINGS_MAX} rings")

    def write(self, payload: bytes, records: int) -> bool:
        """Adds a frame that holds so many records, or counts them as lost."""
        words, size = self._words, len(payload)
        head = words[_HEAD]
        whole = (_PREFIX.size + size + 7) & ~7
        if head + whole - words[_TAIL] > self.capacity:
            words[_LOST] += records
            return False
        at = head % self.capacity
        _PREFIX.pack_into(self._data, at, size, zlib.crc32(payload))
        start = (at + _PREFIX.size) % self.capacity
        room = self.capacity - start
        if size <= room:
            self._data[start : start + size] = payload
        else:
            self._data[start:] = payload[:room]
            self._data[: size - room] = payload[room:]
        words[_HEAD] = head + whole
        return True

    def count_lost(self, records: int) -> None:
        """Records that were not even tried."""
        self._words[_LOST] += records


class RingReader(Ring):
    """The reading end. What was read stays until `taken`."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises `RingError` where there is no ring, or not yet."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise RingError(f"{path}: {error.strerror}") from error
        if _is_new(descriptor) or not _fits(descriptor, None):
            os.close(descriptor)
            raise RingError(f"{path}: expected a ring")
        return cls(path, descriptor)

    def frames(self, bytes_max: int) -> Iterator[tuple[int, int, bytes]]:
        """Frames that are there, with the counts at which each begins and ends; about `bytes_max` at most.

        Raises `RingError` at one that is damaged: what follows it cannot be found.
        """
        at, head = self._words[_TAIL], self._words[_HEAD]
        stop = min(head, at + bytes_max)
        while at < stop:
            size, checksum = _PREFIX.unpack_from(self._data, at % self.capacity)
            end = at + ((_PREFIX.size + size + 7) & ~7)
            payload = self._slice((at + _PREFIX.size) % self.capacity, size) if end <= head else b""
            if end > head or zlib.crc32(payload) != checksum:
                raise RingError(f"{self.path}: expected a whole frame at {at}")
            yield at, end, payload
            at = end

    def taken(self, end: int) -> None:
        """All up to that count is kept elsewhere: its room is free."""
        self._words[_TAIL] = end

    def skip(self) -> int:
        """Gives up what waits: how many bytes that are."""
        waiting = self.bytes_waiting
        self._words[_TAIL] = self._words[_HEAD]
        return waiting

    def remove_if_left(self, before: Callable[[], None]) -> bool:
        """Deletes the file if nobody writes it and nothing waits, after `before`. Whether it did."""
        if self.bytes_waiting:
            return False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        left = self.bytes_waiting == 0
        if left:
            before()
            self.path.unlink(missing_ok=True)
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return left

    def _slice(self, start: int, size: int) -> bytes:
        room = self.capacity - start
        if size <= room:
            return bytes(self._data[start : start + size])
        return bytes(self._data[start:]) + bytes(self._data[: size - room])


def counts_of(path: Path) -> tuple[int, int]:
    """Records lost and bytes waiting of a ring, without mapping it; zeros where there is none."""
    try:
        with path.open("rb", buffering=0) as file:
            header = file.read(6 * 8)
    except OSError:
        return 0, 0
    if len(header) < 6 * 8:
        return 0, 0
    words = struct.unpack("=6Q", header)
    return (words[_LOST], words[_HEAD] - words[_TAIL]) if words[_MAGIC] == MAGIC else (0, 0)


def _locked(path: Path) -> int | None:
    """The file, with its lock; `None` where someone else has it, or it was removed just now."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if os.fstat(descriptor).st_nlink == 0:
        os.close(descriptor)
        return None
    return descriptor


def _is_new(descriptor: int) -> bool:
    return os.pread(descriptor, 8, 0) in {b"", bytes(8)}


def _fits(descriptor: int, capacity: int | None) -> bool:
    header = os.pread(descriptor, 16, 0)
    if len(header) < 16:
        return False
    magic, found = struct.unpack("<QQ", header)
    whole = os.fstat(descriptor).st_size == PAGE + found
    return magic == MAGIC and whole and capacity in {None, found}


def _format(descriptor: int, capacity: int) -> None:
    """Makes an empty ring. The magic word is written last: a file without it is not a ring yet."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, PAGE + capacity)
    else:
        os.pwrite(descriptor, bytes(PAGE + capacity), 0)
    identity = int.from_bytes(os.urandom(8), "little") >> 1
    os.pwrite(descriptor, struct.pack("<QQ", capacity, identity), 8)
    os.pwrite(descriptor, struct.pack("<Q", MAGIC), 0)
