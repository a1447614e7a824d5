"""Loads killed with SIGKILL at any moment, and repeated: nothing is lost, nothing is there twice."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.data.project import Project

from mizzen.data.ingest.task import IngestTask
from mizzen.data.lake.tables import Table

Load = Callable[[IngestTask, float], int]


@contextlib.contextmanager
def pods(folder: Path) -> Iterator[Load]:
    """Runs a load, killed after so many seconds; its exit status."""
    script = Path(__file__).with_name("forking_pod.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with (folder / "stderr").open("w") as errors, subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def run(task: IngestTask, kill_after_s: float) -> int:
            order = {"task": task.model_dump(mode="json", by_alias=True), "killAfterS": kill_after_s}
            process.stdin.write(json.dumps(order) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return int(process.stdout.readline())  # type: ignore[union-attr]

        yield run
        process.stdin.close()


class Case:
    """A dataset that is loaded again and again while its source grows, and what it must hold."""

    def __init__(self, project: Project, name: str, **task: Any) -> None:
        self.project, self.name, self.task_of = project, name, task
        self.turn = 0
        self.expected: dict[int, int] = {}

    def grow(self, rng: random.Random) -> None:
        """The source's next state: some new rows, some changed ones, in a file of their own."""
        self.turn += 1
        rows = {rng.randrange(200): self.turn for _ in range(20)}
        self.expected |= rows
        content = "id,at,v\n" + "".join(f"{id_},{self.turn},{self.turn}\n" for id_ in rows)
        self.project.put(f"{self.name}/{self.turn:04d}.csv", content)

    def task(self) -> IngestTask:
        return self.project.task(f"run-{self.turn}", name=self.name, **self.task_of)

    def check(self) -> None:
        """One version a turn, the rows of the newest, and every byte as it was committed."""
        table = Table(self.project.store, "ns", self.name)
        assert [commit.run for commit in table.history()] == [f"run-{turn}" for turn in range(self.turn, 0, -1)]
        rows = table.at().arrow().to_pylist()
        latest: dict[int, int] = {}
        for row in rows:
            latest[row["id"]] = max(row["v"], latest.get(row["id"], 0))
        assert latest == self.expected
        if self.task_of["load"]["mode"] == "upsert":
            assert len(rows) == len(latest)
        else:
            assert len(rows) == len({(row["id"], row["v"]) for row in rows}), "no row twice"
        table.verify()


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_any_kill_of_a_load_by_parts_loses_and_doubles_nothing(project: Project, kills: int) -> None:
    """Loads by file, by watermark and by key, each killed until it gets through, over and over."""
    rng = random.Random(kills)
    checks = [{"column": "v", "min": 0, "onFailure": "quarantine"}]
    cases = [
        Case(project, "by-file", load={"mode": "append", "newFiles": True}, source={"files": ["by-file/*.csv"]}, expectations=checks),
        Case(project, "by-mark", load={"mode": "append", "watermark": "at"}, source={"files": ["by-mark/*.csv"]}),
        Case(project, "by-key", load={"mode": "upsert", "key": ["id"], "watermark": "at"}, source={"files": ["by-key/*.csv"]}, partitionBy=["at"]),
    ]  # fmt: skip
    done = 0
    with pods(project.folder) as run:
        while done < kills:
            case = rng.choice(cases)
            case.grow(rng)
            while (status := run(case.task(), rng.uniform(0.0, 0.35))) != 0:
                assert status == -signal.SIGKILL, (project.folder / "stderr").read_text()
                done += 1
            case.check()
