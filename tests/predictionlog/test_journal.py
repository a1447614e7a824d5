"""From rings to the table: each record once, whoever is killed wherever; what is lost is counted, and nothing else is lost."""

import contextlib
import os
from collections import Counter
from pathlib import Path

import pytest

from mizzen.data.lake.errors import StoreUnavailable
from mizzen.serving.predictionlog import spool as spools
from mizzen.serving.predictionlog.journal import Journal, Limits
from mizzen.serving.predictionlog.ring import RingReader
from mizzen.serving.predictionlog.spool import Spool, SpoolFull, meaning
from mizzen.serving.predictionlog.table import LogTable
from mizzen.serving.tensors import Signature, TensorSpec

from .builders import Log, answer, endpoint, served, version


def ids(rows) -> list[str]:
    return sorted(row["request_id"] for row in rows)


def fill(log: Log, begin: int, count: int, each: int = 3) -> list[str]:
    """Requests, some to a chunk; their ids."""
    recorder = log.recorder()
    names = [f"id-{number:04d}" for number in range(begin, begin + count)]
    for at, name in enumerate(names):
        answer(recorder, name)
        if at % each == each - 1:
            recorder.flush()
    recorder.close()
    return names


pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""Killed writers close no files."""


class Killed(BaseException):
    """The process is gone: nothing below catches it."""


class Fuse:
    """Counts what a writer does to files, rings and tables, and kills it before or after the n-th deed."""

    def __init__(self, monkeypatch, at: int) -> None:
        self.at, self.deeds, self.burns = at, 0, True
        for owner, name in (
            (Path, "replace"), (Path, "unlink"), (Path, "write_bytes"), (Path, "write_text"), (RingReader, "taken"),
            (LogTable, "append"), (Spool, "seal"),
        ):  # fmt: skip
            monkeypatch.setattr(owner, name, self._wrapped(getattr(owner, name)))
        monkeypatch.setattr(spools, "_entry", self._wrapped(spools._entry))

    def _wrapped(self, real):
        def deed(*args, **kwargs):
            self._count()
            result = real(*args, **kwargs)
            self._count()
            return result

        return deed

    def _count(self) -> None:
        self.deeds += self.burns
        if self.burns and self.deeds == self.at:
            raise Killed


def one_life(log: Log, requests_go_on) -> None:
    """A writer's life over two segments."""
    journal = log.journal()
    journal.drain()
    journal.seal(now=True)
    requests_go_on()
    journal.look()
    journal.drain()
    journal.commit(log.table)
    journal.publish()
    journal.seal(now=True)
    journal.commit(log.table)
    journal.remove_left_rings()


def lives_until_done(tmp_path, monkeypatch, at: int) -> int:
    """Kills a writer at that deed, and lets the next one finish; returns how many deeds there were."""
    log = Log(tmp_path)
    names = fill(log, 0, 7)
    with monkeypatch.context() as patched:
        fuse = Fuse(patched, at)

        def requests_go_on() -> None:
            fuse.burns = False
            names.extend(fill(log, 100, 4))
            fuse.burns = True

        with contextlib.suppress(Killed):
            one_life(log, requests_go_on)
    assert ids(log.everything()) == names
    return fuse.deeds


def test_a_writer_killed_at_any_deed_leaves_each_record_once(tmp_path, monkeypatch):
    """Every place between two changes of a file, a ring or a table is tried: the next writer finishes the work."""
    deeds = lives_until_done(tmp_path / "whole", monkeypatch, -1)
    assert deeds > 30
    for at in range(1, deeds + 1):
        lives_until_done(tmp_path / str(at), monkeypatch, at)


def test_a_torn_entry_is_cut_off_and_taken_again(tmp_path):
    """A kill amid a write leaves a part of an entry: for every length of it, nothing is lost and nothing twice."""
    log = Log(tmp_path)
    names = fill(log, 0, 3, each=1)
    journal = log.journal()
    (ring,) = [RingReader.open(path) for path in log.folder.glob("*.ring")]
    begun = [position for position, _, _ in ring.frames(1 << 20)]
    journal.drain()
    journal.close()
    (segment,) = (tmp_path / "spool").glob("*/*.open")
    whole = segment.read_bytes()
    for size in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        segment.write_bytes(whole[:size])
        ring._words[4] = begun[0]  # the ring was not told
        journal = log.journal()
        journal.drain()
        found = spools.read(spools.Segment(1, segment, segment.stat().st_size))
        assert sorted(record.id for chunk in found.chunks for record in chunk.records) == names
        journal.close()


def test_an_answer_lost_on_its_way_back_from_the_store_is_no_second_commit(tmp_path, monkeypatch):
    log = Log(tmp_path)
    names = fill(log, 0, 5)
    journal = log.journal()
    journal.drain()
    journal.seal(now=True)
    real = LogTable.append

    def away(self, *args):
        real(self, *args)
        raise StoreUnavailable("the answer did not come back")

    with monkeypatch.context() as patched:
        patched.setattr(LogTable, "append", away)
        with pytest.raises(StoreUnavailable):
            journal.commit(log.table)
    assert journal.commit(log.table)
    assert ids(log.everything(journal)) == names


def test_numbers_go_on_though_all_segments_are_gone(tmp_path):
    """The table has segment 1 of this spool; a writer that starts with an empty spool must not call its first that again."""
    log = Log(tmp_path)
    names = fill(log, 0, 2)
    assert ids(log.everything()) == names
    names += fill(log, 2, 2)
    assert ids(log.everything()) == names


def test_segments_that_piled_up_are_committed_together_and_in_order(tmp_path):
    log = Log(tmp_path)
    journal = None
    names = []
    for number in range(5):
        names += fill(log, number * 10, 2)
        journal = journal if journal is not None else log.journal()
        journal.look()
        journal.drain()
        journal.seal(now=True)
    assert journal is not None
    assert journal.commit(log.table)
    assert not journal.commit(log.table)
    assert journal.written.commits == 1
    assert ids(log.everything(journal)) == names


def test_a_full_spool_leaves_records_in_the_rings_and_then_they_are_counted(tmp_path):
    """The lake takes nothing: spool, then rings fill; what does not fit is counted exactly, and the rest arrives later."""
    log = Log(tmp_path, endpoint(buffer_bytes=16384), Limits(spool_bytes=20_000, segment_bytes=4096, compact_every=0))
    recorder = log.recorder()
    journal = log.journal()
    names = [f"id-{number:04d}" for number in range(600)]
    for name in names:
        answer(recorder, name)
        recorder.flush()
        journal.look()
        journal.drain()
        journal.seal()
    lost = journal.publish().lost
    assert lost > 0
    assert journal.spool.size < 20_000 + 16384
    found = ids(log.everything(journal))
    assert len(found) == len(set(found)) == len(names) - lost
    assert journal.publish().lost == lost == recorder.lost
    answer(recorder, "after")
    recorder.flush()
    assert "after" in ids(log.everything(journal)), "and goes on as before"


def test_a_full_disk_is_a_full_spool(tmp_path, monkeypatch):
    """An entry that is written in part is taken back, and the frames stay in their ring."""
    log = Log(tmp_path)
    names = fill(log, 0, 6)
    journal = log.journal()
    journal.drain()
    size = journal.spool.open_bytes
    names += fill(log, 6, 6)

    class FullDisk:
        def __init__(self, file) -> None:
            self.file, self.room = file, 10

        def write(self, data):
            if not self.room:
                raise OSError(28, os.strerror(28))
            written, self.room = self.file.write(data[: self.room]), 0
            return written

        def __getattr__(self, name):
            return getattr(self.file, name)

    disk = journal.spool._file
    journal.spool._file = FullDisk(disk)
    journal.look()
    assert journal.drain() == 0
    assert "No space left" in journal.written.trouble
    assert (journal.spool.open_bytes, journal.spool._path.stat().st_size) == (size, size)
    journal.spool._file = disk
    assert ids(log.everything(journal)) == names


def test_the_spool_says_when_there_is_no_room(tmp_path):
    spool = Spool(tmp_path / "s", 1000)
    (tmp_path / "s" / "000000000001.open").write_bytes(b"in the way")
    with pytest.raises(SpoolFull):
        spool.append(7, [(0, b"payload")], {"a": meaning("a", b"{}")})


def test_what_no_table_can_take_is_set_aside_and_counted(tmp_path):
    log = Log(tmp_path)
    fill(log, 0, 4)
    for stream in log.folder.glob("*.stream"):
        stream.unlink()
    journal = log.journal()
    assert log.everything(journal) == []
    names = fill(log, 10, 3)
    journal.look()
    assert ids(log.everything(journal)) == names
    assert journal.publish().lost == 4
    assert Journal(log.folder, journal.spool.folder, Limits()).publish().lost == 4, "the next writer knows it too"


def test_what_removed_rings_had_lost_stays_counted(tmp_path):
    log = Log(tmp_path, endpoint(buffer_bytes=8192))
    recorder = log.recorder()
    for number in range(100):
        answer(recorder, f"id-{number}")
        recorder.flush()
    lost = recorder.lost
    recorder.close()
    journal = log.journal()
    arrived = len(log.everything(journal))
    journal.remove_left_rings()
    assert list(log.folder.glob("*.ring")) == []
    assert journal.publish().lost == lost == 100 - arrived
    journal.close()
    assert log.journal().publish().lost == lost
    assert log.journal().remove_folder_if_left()
    assert not log.folder.exists()


def test_damage_in_a_ring_is_skipped(tmp_path):
    log = Log(tmp_path)
    fill(log, 0, 3)
    (ring,) = log.folder.glob("*.ring")
    with ring.open("r+b") as file:
        file.seek(4096 + 60)
        file.write(b"????")
    journal = log.journal()
    journal.drain()
    names = fill(log, 5, 2)
    assert ids(log.everything(journal)) == names


def test_columns_of_a_new_version_are_added_and_types_that_differ_keep_apart(tmp_path):
    log = Log(tmp_path)
    recorder = log.recorder()
    answer(recorder, "1")
    recorder.flush()
    log.everything()
    wider = Signature((TensorSpec("x", "FP64", (-1, 2)),), (TensorSpec("y", "INT32", (-1,)),), ("a", "d"))
    by = served(version(2, wider))
    answer(recorder, "2", by=by, rows=[(1, 2)])
    recorder.flush()
    rows = {row["request_id"]: row for row in log.everything()}
    assert rows["1"]["input_a"] == 1.0
    assert rows["2"]["input_a"] is None, "a double is no float"
    assert rows["2"]["input_a_double"] == 1.0
    assert (rows["2"]["output_y"], rows["2"]["output_y_int32"]) == (None, 3)
    assert rows["2"]["input_d"] == 2.0
    assert Counter(row["version"] for row in rows.values()) == {1: 1, 2: 1}
