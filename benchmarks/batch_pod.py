"""A batch prediction's Pod for `benchmarks.batch`, as it is but for its status, which goes nowhere.

`python -m benchmarks.batch_pod FILE`, for the task in that file. With a second file there is one run after the other,
each in a process of its own, and a byte in that file for each that has ended.
"""

import asyncio
import importlib
import itertools
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from mizzen.serving.batch.__main__ import step_back


class Deaf:
    """A reporter that tells nobody."""

    def progress(self, shard: object) -> None: ...
    def loaded(self, report: object) -> None: ...
    def finish(self, result: object) -> None: ...


def one_run(path: Path) -> None:
    """As in `mizzen.serving.batch`: what is large is imported in the background."""
    step_back()
    pod = importlib.import_module("mizzen.serving.batch.pod")
    task = pod.BatchTask.model_validate_json(path.read_text())
    asyncio.run(pod.BatchPod(task, 0, Deaf(), pod.ways_of(task), lambda: datetime.now(UTC)).run())


def run_after_run(path: Path, ended: Path) -> None:
    step_back()  # as a node starts a container that asks for next to nothing: in a group of the least weight
    task = json.loads(path.read_text())
    for number in itertools.count():
        path.write_text(json.dumps(task | {"run": f"{task['name']}-{number}"}))
        subprocess.run([sys.executable, "-m", "benchmarks.batch_pod", str(path)], check=True)
        with ended.open("ab") as file:
            file.write(b".")


if __name__ == "__main__":
    given = [Path(each) for each in sys.argv[1:]]
    run_after_run(*given) if len(given) > 1 else one_run(*given)
