"""The ring: what was written is read once and in order, or counted; whoever is killed."""

import os
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.serving.predictionlog.ring import PAGE, RingError, RingProducer, RingReader


def test_what_is_written_is_read_in_order_around_and_around(tmp_path):
    """Frames of all sizes, over many turns of the ring, against a plain list."""

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 3000), st.booleans()), max_size=60))
    def check(steps):
        producer = RingProducer.open(tmp_path, PAGE)
        reader = RingReader.open(producer.path)
        reader.skip()
        lost = producer.lost
        expected, got = [], []
        for number, (size, read) in enumerate(steps):
            payload = bytes([number % 251]) * size
            if producer.write(payload, 1):
                expected.append(payload)
            else:
                lost += 1
            assert producer.lost == lost
            if read:
                for _, end, found in reader.frames(1 << 20):
                    got.append(found)
                    reader.taken(end)
        got += [found for _, _, found in reader.frames(1 << 20)]
        assert expected == got
        producer.close()
        reader.close()

    check()


def test_what_does_not_fit_is_counted_and_the_rest_goes_on(tmp_path):
    producer = RingProducer.open(tmp_path, PAGE)
    assert producer.write(b"a" * 3000, 3)
    assert not producer.write(b"b" * 3000, 5)
    assert not producer.write(b"c" * 10 * PAGE, 7), "larger than the ring"
    assert producer.lost == 12
    reader = RingReader.open(producer.path)
    ((_, end, payload),) = reader.frames(1 << 20)
    reader.taken(end)
    assert payload == b"a" * 3000
    assert producer.write(b"b" * 3000, 5)


def test_what_was_read_stays_until_it_is_taken(tmp_path):
    producer = RingProducer.open(tmp_path, PAGE)
    producer.write(b"one", 1)
    for _ in range(2):
        reader = RingReader.open(producer.path)
        assert [payload for _, _, payload in reader.frames(1 << 20)] == [b"one"]
        reader.close()


def test_each_producer_has_its_own_ring_and_a_successor_takes_up_what_was_left(tmp_path):
    first, second = RingProducer.open(tmp_path, PAGE), RingProducer.open(tmp_path, PAGE)
    assert first.path != second.path
    first.write(b"left", 1)
    first.write(bytes(2 * PAGE), 4)
    identity = first.identity
    first.close()
    third = RingProducer.open(tmp_path, PAGE)
    assert (third.path, third.identity, third.lost) == (first.path, identity, 4)
    third.write(b"more", 1)
    assert [payload for _, _, payload in RingReader.open(third.path).frames(1 << 20)] == [b"left", b"more"]


def test_a_ring_of_another_size_is_left_to_be_read(tmp_path):
    old = RingProducer.open(tmp_path, PAGE)
    old.close()
    assert RingProducer.open(tmp_path, 2 * PAGE).path != old.path


def test_damage_is_found(tmp_path):
    producer = RingProducer.open(tmp_path, PAGE)
    producer.write(b"x" * 100, 1)
    with producer.path.open("r+b") as file:
        file.seek(PAGE + 50)
        file.write(b"?")
    reader = RingReader.open(producer.path)
    with pytest.raises(RingError, match="whole frame"):
        list(reader.frames(1 << 20))
    assert reader.skip() > 0
    assert list(reader.frames(1 << 20)) == []


def test_a_file_that_is_no_ring_is_none(tmp_path):
    (tmp_path / "0.ring").write_bytes(b"something else entirely" * 10)
    with pytest.raises(RingError):
        RingReader.open(tmp_path / "0.ring")
    assert RingProducer.open(tmp_path, PAGE).path.name == "1.ring"


def test_a_ring_that_someone_holds_or_that_holds_something_is_not_removed(tmp_path):
    producer = RingProducer.open(tmp_path, PAGE)
    reader = RingReader.open(producer.path)
    assert not reader.remove_if_left(lambda: None), "held"
    producer.write(b"x", 1)
    producer.close()
    assert not reader.remove_if_left(lambda: None), "not empty"
    reader.skip()
    told = []
    assert reader.remove_if_left(lambda: told.append(producer.path.exists()))
    assert told == [True]
    assert not producer.path.exists()
    assert RingProducer.open(tmp_path, PAGE).path == producer.path


def test_a_producer_that_is_killed_has_written_whole_frames_only(tmp_path):
    """A process writes as fast as it can and is killed; its successor goes on where it ended."""
    program = textwrap.dedent(f"""
        import pathlib, sys
        from mizzen.serving.predictionlog.ring import RingProducer
        ring = RingProducer.open(pathlib.Path({str(tmp_path)!r}), 1 << 16)
        print("begun", flush=True)
        number = 0
        while True:
            number += 1
            ring.write(number.to_bytes(8, "little") * (1 + number % 50), 1)
    """)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    (path,) = tmp_path.glob("*.ring")
    reader = RingReader.open(path)
    seen = last = 0
    while seen < 1000:
        for _, end, payload in reader.frames(1 << 20):
            seen += 1
            last = int.from_bytes(payload[:8], "little")
            assert payload == payload[:8] * (len(payload) // 8)
            reader.taken(end)
    process.kill()
    process.wait()
    process.stdout.close()
    for _, end, payload in reader.frames(1 << 20):
        seen += 1
        last = int.from_bytes(payload[:8], "little")
        reader.taken(end)
    assert last - seen <= reader.lost, "what is missing was counted"
    assert RingProducer.open(tmp_path, 1 << 16).path == path


class Words:
    """A ring's words; the store after which a process is killed never happens."""

    def __init__(self, words, store: int) -> None:
        self.words, self.store = words, store

    def __getitem__(self, index):
        return self.words[index]

    def __setitem__(self, index, value) -> None:
        if index == self.store:
            raise KeyboardInterrupt
        self.words[index] = value

    def release(self) -> None:
        self.words.release()


@pytest.mark.parametrize("size", [10, 3000, 4000])
def test_a_frame_is_there_once_its_head_is_and_not_before(tmp_path, size):
    """A producer that is killed before the one store that counts has written nothing; its successor is not disturbed."""
    producer = RingProducer.open(tmp_path, PAGE)
    producer.write(b"first", 1)
    words = producer._words
    producer._words = Words(words, 3)
    with pytest.raises(KeyboardInterrupt):
        producer.write(b"?" * size, 1)
    producer._words = words
    producer.close()
    successor = RingProducer.open(tmp_path, PAGE)
    reader = RingReader.open(successor.path)
    assert [payload for _, _, payload in reader.frames(1 << 20)] == [b"first"]
    assert successor.write(b"second", 1)
    assert [payload for _, _, payload in reader.frames(1 << 20)] == [b"first", b"second"]
    assert successor.lost == 0


def test_no_room_on_the_disk_is_an_error_and_no_ring(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RingError, match="expected room for a ring of 4096 bytes: No space left"):
        RingProducer.open(tmp_path, PAGE)
