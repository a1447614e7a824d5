"""The writer's process begins small, and becomes the writer when there is something to write."""

import subprocess
import sys

from tests.serving.stack import Process, eventually

from mizzen.serving.predictionlog.__main__ import is_needed

from .builders import Log, answer


def test_it_is_needed_where_an_endpoint_is_logged_or_something_waits(tmp_path):
    rings, spool = tmp_path / "rings", tmp_path / "spool"
    assert not is_needed(rings, spool)
    (spool / "default.m").mkdir(parents=True)
    (spool / "default.m" / "counted").write_text("7")
    assert not is_needed(rings, spool), "all of it is in the table"
    (spool / "default.m" / "000000000007.sealed").touch()
    assert is_needed(rings, spool)
    (spool / "default.m" / "000000000007.sealed").unlink()
    (rings / "default.m").mkdir(parents=True)
    assert is_needed(rings, spool)


def test_until_then_it_imports_nothing_large():
    program = (
        "import sys, mizzen.serving.predictionlog.__main__;"
        " assert not {'pyarrow', 'deltalake', 'numpy', 'msgspec', 'pydantic'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_record_that_comes_later_is_written(tmp_path):
    """The process waits, becomes the writer, and is told to end: the record is in the table."""
    process = Process(
        ["-m", "mizzen.serving.predictionlog", "--folder", str(tmp_path / "rings"), "--spool", str(tmp_path / "spool"),
         "--store", f"file://{tmp_path}/store", "--seal-after", "0.05"],
        {},
    )  # fmt: skip
    log = Log(tmp_path)
    recorder = log.recorder()
    answer(recorder, "one")
    recorder.close()
    eventually(log.table.open, "the table")
    assert [row["request_id"] for row in log.table.arrow().to_pylist()] == ["one"]
    assert process.end() == 0
