"""Reading container logs: the shim's numbered files of CRI lines, as `kubectl logs` wants them.

A CRI line is `2026-01-31T12:00:00.000000000Z stdout F text`; `P` instead of `F` says that the line goes on in the next
one. What is given out is what the container wrote, byte for byte: the parts put together again, times in front of each
line where asked for. Standard output and standard error come interleaved, in the order in which they were read.

Following needs no notice from the shim: a file that ends and has a successor is finished, because the shim opens the
next number before it leaves the last.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 16
_STAMP = len("2026-01-31T12:00:00.000000000Z")
_TAG = _STAMP + len(" stdout ")
_FOLLOW_S = 0.1
"""How often a follower looks for more."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """`v1.PodLogOptions`, the fields that a node acts on."""

    follow: bool = False
    tail_lines: int | None = None
    since: datetime | None = None
    """Lines written before this are left out."""
    timestamps: bool = False
    limit_bytes: int | None = None
    stream: str = "All"
    """`Stdout` or `Stderr`: only that."""


def files(folder: Path) -> list[Path]:
    """The log files of an attempt, oldest first."""
    found = [path for path in folder.glob("log.*") if path.suffix[1:].isdecimal()]
    return sorted(found, key=lambda path: int(path.suffix[1:]))


class Lines:
    """Turns CRI lines into what the container wrote. Feed it bytes cut anywhere."""

    def __init__(self, options: LogOptions) -> None:
        self._timestamps = options.timestamps
        since = options.since
        self._since = b"" if since is None else since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").encode()
        self._rest = b""
        wanted = (b"stdout", b"stderr") if options.stream == "All" else (options.stream.lower().encode(),)
        self._inside = dict.fromkeys(wanted, False)

    def feed(self, data: bytes) -> bytes:
        """The text of the whole lines in `data` and what was left of the last call."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        return b"".join(self._text(line) for line in lines)

    def _text(self, line: bytes) -> bytes:
        stamp, stream, tag, text = line[:_STAMP], line[_STAMP + 1 : _TAG - 1], line[_TAG : _TAG + 1], line[_TAG + 2 :]
        if stream not in self._inside or stamp < self._since:
            return b""  # torn by a full disk, too old, or of the other stream
        begins = not self._inside[stream]
        self._inside[stream] = tag == b"P"
        if self._timestamps and begins:
            text = stamp + b" " + text
        return text if tag == b"P" else text + b"\n"


def tail_position(folder: Path, lines: int) -> tuple[int, int]:
    """(number of the file, position in it) from which the container's last `lines` lines are."""
    found = files(folder)
    last = True
    for path in reversed(found):
        data = path.read_bytes()
        end = len(data)
        while end > 0:
            start = data.rfind(b"\n", 0, end - 1) + 1
            if last or data[start + _TAG : start + _TAG + 1] == b"F":
                if lines == 0:
                    return number_of(path), end
                lines -= 1
            last = False
            end = start
    return (number_of(found[0]), 0) if found else (1, 0)


def number_of(path: Path) -> int:
    return int(path.suffix[1:])


async def read(folder: Path, options: LogOptions, alive: Callable[[], bool]) -> AsyncIterator[bytes]:
    """What the container wrote, in pieces. With `follow`, until it has ended and all of it was given out."""
    left = options.limit_bytes
    lines = Lines(options)
    async with aclosing(_raw(folder, options, alive)) as chunks:
        async for chunk in chunks:
            text = lines.feed(chunk)
            if left is not None:
                text = text[:left]
                left -= len(text)
            if text:
                yield text
            if left == 0:
                return


async def _raw(folder: Path, options: LogOptions, alive: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
    number, position = 1, 0
    if options.tail_lines is not None:
        number, position = await asyncio.to_thread(tail_position, folder, options.tail_lines)
    rotated = True
    while rotated:
        living = options.follow and alive()
        first = _open_first(folder, number)
        if first is None and not living:
            return
        if first is None:
            await asyncio.sleep(_FOLLOW_S)
            continue
        # Held open until it is finished: with its Pod the folder may go before the last of it has been read.
        with first[1] as file:
            file.seek(position if first[0] == number else 0)
            number = first[0]
            while True:
                living = options.follow and alive()  # asked before the last read: nothing comes after that
                rotated = (folder / f"log.{number + 1}").exists()
                while chunk := file.read(_CHUNK):
                    yield chunk
                if rotated or not living:
                    break
                await asyncio.sleep(_FOLLOW_S)
        number, position = number + 1, 0


def _open_first(folder: Path, number: int) -> tuple[int, BinaryIO] | None:
    """The oldest file that is left from that number on; `None` where there is none yet, or any more."""
    for path in files(folder):
        if number_of(path) >= number:
            with suppress(FileNotFoundError):  # rotated away just now
                return number_of(path), path.open("rb")
    return None


def last_words(folder: Path, lines: int = 80, bytes_max: int = 2048) -> str:
    """The end of the log, as `terminationMessagePolicy: FallbackToLogsOnError` takes it."""
    number, position = tail_position(folder, lines)
    reader = Lines(LogOptions())
    text = b""
    for path in files(folder):
        if number_of(path) >= number:
            text += reader.feed(path.read_bytes()[position if number_of(path) == number else 0 :])
    return text[-bytes_max:].decode(errors="replace")
