"""Views brought online by Pods that are killed with SIGKILL at any moment: nothing is lost, nothing counts twice."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
import redis
from tests.features.builders import times, view
from tests.features.test_growth import appended
from tests.features.test_materialise import NOW, SPEC, committed, rows_of
from tests.features.test_online import us

from mizzen.data.features.definition import definition_of
from mizzen.data.features.jobs.task import MaterialiseTask, ViewAt
from mizzen.data.features.online import catalog
from mizzen.data.features.online.opening import open_store
from mizzen.data.features.online.reader import OnlineReader
from mizzen.data.features.online.writer import OnlineWriter
from mizzen.data.features.pointintime import Clocks, InMemory, Use, join
from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table
from mizzen.kinds import FeatureView

Run = Callable[[MaterialiseTask, int, float], int]
CLOCK = "2026-01-01T11:40:00+00:00"
"""`NOW`."""


@contextlib.contextmanager
def pods(folder: Path) -> Iterator[Run]:
    """Runs a Pod of a task, killed after so many seconds; its exit status."""
    script = Path(__file__).with_name("forking_job.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with (folder / "stderr").open("w") as errors, subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:  # fmt: skip
        sent, told = process.stdin, process.stdout
        assert sent is not None
        assert told is not None

        def run(task: MaterialiseTask, index: int, kill_after_s: float) -> int:
            wire = task.model_dump(mode="json", by_alias=True)
            sent.write(json.dumps({"task": wire, "index": index, "now": CLOCK, "killAfterS": kill_after_s}) + "\n")
            sent.flush()
            return int(told.readline())

        yield run
        sent.close()


class Case:
    """A view whose source grows, is tidied and is replaced, and whose definition changes, turn by turn."""

    def __init__(self, folder: Path, online_url: str) -> None:
        self.folder, self.online_url = folder, online_url
        self.lake = Store.open((folder / "store").as_uri())
        self.table = Table(self.lake, "default", "payments")
        self.rows: list[pa.Table] = []
        self.view: FeatureView = view(**SPEC)
        self.turn = 0

    def grow(self, rng: random.Random) -> None:
        """The source's next state; once in a while all is replaced, or the definition is another one."""
        self.turn += 1
        fresh = rows_of(rng.randrange(1 << 30), rng.randrange(20, 120))
        if not self.rows or rng.random() < 0.15:
            self.rows = [fresh]
            committed(self.lake, self.folder, [fresh], f"turn-{self.turn}")
        else:
            self.rows.append(fresh)
            appended(self.table, self.folder, fresh)
        if rng.random() < 0.1:
            self.view = view(**SPEC, ttl=f"{rng.randrange(1, 40)}d")

    def task(self, parts: int) -> MaterialiseTask:
        target = ViewAt(view=self.view, source_version=self.table.at().version)
        return MaterialiseTask(
            namespace="default", name=self.view.name, run=f"run-{self.turn}", store_url=self.lake.url,
            online_url=self.online_url, target=target, parts=parts,
        )  # fmt: skip

    def check(self) -> None:
        """What is online is what a join of all rows gives, and how many those are is known exactly."""
        rows = pa.concat_tables(self.rows)
        cards = [f"card-{n}" for n in range(21)]
        spine = pa.table({"card": cards, "asked_at": times([NOW] * len(cards))})
        definition = definition_of(self.view)
        offline = join(spine, [Use(definition, InMemory(rows))], Clocks("asked_at")).select(definition.stored)
        with closing(open_store(self.online_url)) as online:
            entry = catalog.served(online, "default", self.view.name)
            assert entry is not None
            assert entry.digest == definition.digest
            reader = OnlineReader(online, entry.online_view(), lambda: us(NOW))
            assert reader.many([(card,) for card in cards]).to_arrow().to_pydict() == offline.to_pydict()
            tally = OnlineWriter(online, entry.online_view()).place().tally()
            assert (tally.rows, tally.entities) == (len(rows), len(set(rows.column("card").to_pylist())))
            known = catalog.entries(online, "default", self.view.name)
            expected = [entry.online_view().prefix("default", g) for entry in known for g in range(1000)]
            assert {key[:9] for key, _ in online.scan(b"r")} <= set(expected), "no record is left behind"


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["lmdb", "redis"])
def test_any_kill_loses_and_doubles_nothing(
    kind: str, kills: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"lmdb://{tmp_path}/online"
    if kind == "redis":
        url = request.getfixturevalue("redis_url")
        redis.Redis.from_url(url).flushall()
    rng = random.Random(kills)
    case = Case(tmp_path, url)
    done = 0
    with pods(tmp_path) as run:
        while done < kills:
            for _ in range(rng.choice([1, 1, 1, 2, 5])):
                case.grow(rng)
            task = case.task(parts=rng.choice([1, 1, 3]))
            for index in rng.sample(range(task.parts), task.parts):
                longest_s = 0.1
                while (status := run(task, index, rng.uniform(0.0, longest_s))) != 0:
                    longest_s += 0.05  # on a busy machine too, one of them comes through
                    assert status == -signal.SIGKILL, (tmp_path / "stderr").read_text()
                    done += 1
            case.check()
