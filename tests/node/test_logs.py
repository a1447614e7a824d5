"""Logs: what a container wrote comes back byte for byte, through rotation, cuts and a full disk."""

import asyncio
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.local.node import logs, shim
from mizzen.local.node.logs import LogOptions

pieces = st.lists(st.text(alphabet="ab\n\r", max_size=12).map(str.encode), max_size=20)


def write(
    folder: Path, chunks: list[bytes], bytes_max: int = 200, files_max: int = 10_000, flush: bool = False
) -> None:
    """What the shim does with the output of a container, without the container."""
    log = shim.Log(str(folder), bytes_max, files_max)
    reading, writing = os.pipe()
    stream = shim.Stream(b"stdout", reading)
    for chunk in chunks:
        if lines := stream.lines(chunk):
            log.write(lines)
        if flush and (part := stream.part()):
            log.write(part)
    if part := stream.part():
        log.write(part)
    for descriptor in (reading, writing, log.descriptor):
        os.close(descriptor)


def read(folder: Path, **options) -> bytes:
    async def collect() -> bytes:
        return b"".join([piece async for piece in logs.read(folder, LogOptions(**options), lambda: False)])

    return asyncio.run(collect())


def lines_of(text: bytes) -> list[bytes]:
    return text.splitlines(keepends=True) if b"\r" not in text else text.replace(b"\r", b"r").splitlines(keepends=True)


@given(pieces, st.booleans(), st.integers(60, 400))
@settings(max_examples=100, deadline=None)
def test_what_was_written_is_read_byte_for_byte(chunks: list[bytes], flush: bool, bytes_max: int) -> None:
    """However it was cut into writes, parts and files."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), chunks, bytes_max, flush=flush)
        assert read(Path(folder)) == b"".join(chunks)


@given(pieces, st.integers(0, 8), st.booleans(), st.integers(60, 400))
@settings(max_examples=100, deadline=None)
def test_the_tail_is_the_last_lines(chunks: list[bytes], count: int, flush: bool, bytes_max: int) -> None:
    """Against the naive tail of the whole text."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), chunks, bytes_max, flush=flush)
        expected = b"".join(lines_of(b"".join(chunks))[-count:]) if count else b""
        assert read(Path(folder), tail_lines=count).replace(b"\r", b"r") == expected.replace(b"\r", b"r")


@given(pieces, st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_a_limit_cuts_exactly(chunks: list[bytes], limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), chunks)
        assert read(Path(folder), limit_bytes=limit) == b"".join(chunks)[:limit]


def test_a_line_without_end_is_cut_into_parts_and_put_together_again(tmp_path: Path) -> None:
    """100 kB without a newline: no line of the log is longer than 16 KiB and its head."""
    text = bytes(range(32, 127)) * 1100
    write(tmp_path, [text[index : index + 65536] for index in range(0, len(text), 65536)], bytes_max=10**7)
    raw = (tmp_path / "log.1").read_bytes().splitlines()
    assert max(map(len, raw)) <= shim.LINE_BYTES_MAX + 50
    assert read(tmp_path) == text


def test_old_files_are_deleted_and_readers_begin_with_what_is_left(tmp_path: Path) -> None:
    write(tmp_path, [b"line %04d\n" % number for number in range(200)], bytes_max=500, files_max=3)
    found = logs.files(tmp_path)
    assert len(found) == 3
    text = read(tmp_path)
    assert text.endswith(b"line 0199\n")
    assert text.startswith(b"line 01")


def test_times_in_front_of_each_line_and_only_later_ones(tmp_path: Path) -> None:
    stamps = ["2026-01-31T12:00:00.000000000Z", "2026-01-31T12:00:01.500000000Z", "2026-01-31T12:00:02.000000000Z"]
    lines = [
        f"{stamps[0]} stdout F one",
        f"{stamps[1]} stderr P tw",
        f"{stamps[1]} stderr P o",
        f"{stamps[2]} stderr F !",
    ]
    (tmp_path / "log.1").write_text("\n".join(lines) + "\n")
    assert read(tmp_path, timestamps=True).decode() == f"{stamps[0]} one\n{stamps[1]} two!\n"
    since = datetime(2026, 1, 31, 12, 0, 1, tzinfo=UTC)
    assert read(tmp_path, since=since) == b"two!\n"
    assert read(tmp_path, stream="Stdout") == b"one\n"
    assert logs.last_words(tmp_path, lines=1) == "two!\n"


async def test_a_follower_gets_everything_through_rotation_and_ends_with_the_container(tmp_path: Path) -> None:
    """Written while it is read, in files that are rotated away under it; after the end nothing is missing."""
    expected = [b"line %05d\n" % number for number in range(500)]
    alive = True
    following = asyncio.create_task(_collect(tmp_path, lambda: alive))
    for start in range(0, 500, 50):
        await asyncio.to_thread(_append, tmp_path, expected[start : start + 50])
    alive = False
    assert await following == b"".join(expected)


async def test_a_follower_gets_the_last_words_of_a_container_whose_folder_goes_with_it(tmp_path: Path) -> None:
    """A Pod that was deleted ends, and at once its folder is removed."""
    folder, alive = tmp_path / "0", True
    folder.mkdir()
    _append(folder, [b"up\n"])
    following = logs.read(folder, LogOptions(follow=True), lambda: alive)
    assert await anext(following) == b"up\n"
    _append(folder, [b"bye\n"])
    shutil.rmtree(folder)
    alive = False
    assert [piece async for piece in following] == [b"bye\n"]


def _append(folder: Path, chunks: list[bytes]) -> None:
    numbers = [logs.number_of(path) for path in logs.files(folder)]
    log = shim.Log(str(folder), 2000, 100)
    os.close(log.descriptor)
    log.number = max(numbers, default=1)
    log.descriptor = log._open(log.number)
    log.size = os.fstat(log.descriptor).st_size
    for chunk in chunks:
        log.write(shim.timestamp() + b" stdout F " + chunk)
    os.close(log.descriptor)


async def _collect(folder: Path, alive) -> bytes:
    return b"".join([piece async for piece in logs.read(folder, LogOptions(follow=True), alive)])


async def test_nothing_is_a_log_of_nothing(tmp_path: Path) -> None:
    assert await _collect(tmp_path, lambda: False) == b""
    assert logs.tail_position(tmp_path, 5) == (1, 0)


def test_a_full_disk_loses_lines_and_says_how_much(tmp_path: Path) -> None:
    """A write that fails is not tried for ever: it is counted, and said as soon as there is room again."""
    log = shim.Log(str(tmp_path), 10**6, 3)
    log.write(shim.timestamp() + b" stdout F first\n")
    full, real = os.open("/dev/full", os.O_WRONLY), log.descriptor
    log.descriptor = full
    lost = shim.timestamp() + b" stdout F lost\n"
    log.write(lost)
    log.write(lost)
    log.descriptor = real
    log.write(shim.timestamp() + b" stdout F again\n")
    os.close(full)
    os.close(real)
    said = f"mizzen: {2 * len(lost)} bytes of log were lost: the disk was full"
    assert read(tmp_path).decode() == f"first\n{said}\nagain\n"


def test_a_line_torn_by_a_full_disk_does_not_spoil_the_next(tmp_path: Path) -> None:
    log = shim.Log(str(tmp_path), 10**6, 3)
    os.write(log.descriptor, b"2026-01-31T12:00:00.0000")
    log.torn = True
    log.write(b"2026-01-31T12:00:01.000000000Z stdout F whole\n")
    os.close(log.descriptor)
    assert read(tmp_path) == b"whole\n"
