"""atheris (libFuzzer) on all that reads bytes from outside: no exception but the documented, no hang, no growth.

`coverage_guided.py` has the targets. Ten thousand inputs are tried in the short form, 200,000 for most targets in the long.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="atheris is not installed")
PROGRAM = Path(__file__).with_name("coverage_guided.py")
ROOT = Path(__file__).parents[2]
TARGETS = ("json", "binary", "rows", "grpc", "frames", "http")
HANG_S = 10
MEMORY_MIB_MAX = 1024
FORKED = ("sh", "-c", '"$@"; exit $?', "sh")
"""Runs what follows as a child of a small process: the peak memory that libFuzzer asks the system for begins with that of
the process which forked it, and here that would be all tests'."""
SHORT, LONG = 10_000, 200_000
LONG_HTTP = 40_000
"""Each is a connection, and another that must be answered after it."""


def fuzz(target: str, folder: Path, runs: int) -> None:
    options = [
        f"-atheris_runs={runs}", "-max_len=2048", f"-timeout={HANG_S}", f"-rss_limit_mb={MEMORY_MIB_MAX}",
        f"-artifact_prefix={folder}/", "-seed=1", "-verbosity=0",
    ]  # fmt: skip
    corpus = folder / "corpus"
    corpus.mkdir()
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*FORKED, sys.executable, str(PROGRAM), target, str(corpus), *options], check=False, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    found = [
        path.read_bytes() for path in folder.iterdir() if path.name.startswith(("crash", "timeout", "oom", "leak"))
    ]
    assert (done.returncode, found) == (0, []), done.stdout[-2000:] + done.stderr[-4000:]


def test_bytes_from_outside_do_what_the_contract_says(tmp_path):
    fuzz("all", tmp_path, SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_bytes_from_outside_do_what_the_contract_says_at_length(target, tmp_path):
    fuzz(target, tmp_path, LONG_HTTP if target == "http" else LONG)
