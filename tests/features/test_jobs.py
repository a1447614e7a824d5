"""What the Pods of feature views do: bring views online, tell how it went, take records away."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.features.builders import payments, times, view
from tests.features.stores import SERVER, free_port, redis_server
from tests.features.test_materialise import NOW, committed, rows_of
from tests.features.test_online import us

from mizzen.data.features.jobs import materialise, remove
from mizzen.data.features.jobs.task import MaterialiseTask, RemoveTask, ViewAt
from mizzen.data.features.online import catalog
from mizzen.data.features.online.opening import open_store
from mizzen.data.features.online.reader import OnlineReader
from mizzen.data.features.pointintime import Clocks, InMemory, Use, join
from mizzen.data.lake.objects import Store
from mizzen.data.pod import TRY_AGAIN, USERS_FAULT, Failure
from mizzen.kinds import FeatureView
from mizzen.kinds.features import MaterialisationReport

CLOCK = datetime.fromtimestamp(us(NOW) / 1e6, UTC)
WINDOWS = {"aggregations": [{"name": "spent", "function": "sum", "column": "amount", "windows": ["1h", "5h"]}]}


class Told:
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.reports: list[MaterialisationReport] = []

    def report(self, report: MaterialisationReport) -> None:
        self.reports.append(report)


class Lake:
    """Tables by name, and an online store beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store.open((folder / "store").as_uri())
        self.online_url = f"lmdb://{folder}/online"
        self.versions: dict[str, int] = {}

    def add(self, rows: pa.Table) -> None:
        """Makes them the next version of the table."""
        number = self.versions.get("payments", 0) + 1
        self.versions["payments"] = committed(self.store, self.folder, [rows], f"payments-{number}").version

    def task(self, of: FeatureView, *uses: FeatureView, **more: Any) -> MaterialiseTask:
        targets = [ViewAt(view=each, source_version=self.versions["payments"]) for each in (of, *uses)]
        given = {"online_url": self.online_url, **more}
        return MaterialiseTask(
            namespace="default", name=of.name, run="run-1", store_url=self.store.url,
            target=targets[0], uses=targets[1:], **given,
        )  # fmt: skip

    def run(self, of: FeatureView, *uses: FeatureView, **more: Any) -> MaterialisationReport:
        told = Told()
        materialise.run(self.task(of, *uses, **more), told.report, lambda: CLOCK, self.folder)
        (report,) = told.reports
        return report

    def fails(self, of: FeatureView, *uses: FeatureView, **more: Any) -> tuple[Failure, MaterialisationReport]:
        told = Told()
        with pytest.raises(Failure) as raised:
            materialise.run(self.task(of, *uses, **more), told.report, lambda: CLOCK, self.folder)
        (report,) = told.reports
        return raised.value, report

    def read(self, name: str, cards: list[str], minute: float = NOW) -> dict[str, list[Any]]:
        with closing(open_store(self.online_url)) as online:
            entry = catalog.served(online, "default", name)
            assert entry is not None
            reader = OnlineReader(online, entry.online_view(), lambda: us(minute))
            found: dict[str, list[Any]] = reader.many([(card,) for card in cards]).to_arrow().to_pydict()
            return found


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def test_a_run_tells_what_is_online_and_a_second_one_reads_nothing(lake: Lake) -> None:
    rows = rows_of(1, 300)
    lake.add(rows)
    report = lake.run(view(**WINDOWS))
    assert report.succeeded
    assert (report.rows, report.rows_read, report.source_version) == (300, 300, 1)
    assert report.entities == len(set(rows.column("card").to_pylist()))
    assert report.newest_event == max(rows.column("paid_at").to_pylist()).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert [(column.name, column.type) for column in report.features] == [
        ("spent_1h", "double"),
        ("spent_5h", "double"),
    ]
    assert report.digest == view(**WINDOWS).spec.digest()
    again = lake.run(view(**WINDOWS))
    assert (again.rows, again.rows_read, again.succeeded) == (300, 0, True)


def test_a_chained_view_sees_the_other_as_of_each_of_its_events(lake: Lake) -> None:
    """Online as in a join: how far each payment is from what was usual at its moment; in increments too."""
    usual = view("usual", aggregations=[{"name": "mean", "function": "mean", "column": "amount"}])
    jump = view(
        "jump",
        uses=["usual"],
        columns=[{"name": "last_jump", "expression": 'amount - "usual".mean'}],
        aggregations=[
            {"name": "worst", "function": "max", "expression": 'amount - "usual".mean', "window": "5h"},
        ],
    )
    early = payments([("a", 0, 1.0), ("a", 10, 3.0), ("b", 20, 10.0)])
    late = payments([("a", 30, 8.0), ("b", 40, 40.0)])
    lake.add(early)
    assert lake.run(jump, usual).rows_read == 3
    assert lake.read("jump", ["a", "b", "c"], 50.0) == {"last_jump": [1.0, 0.0, None], "worst": [1.0, 0.0, None]}
    lake.add(pa.concat_tables([early, late]))
    report = lake.run(jump, usual)
    assert report.digest == jump.spec.digest({"usual": usual.spec.digest()})
    online = lake.read("jump", ["a", "b", "c"], 50.0)
    assert online == {"last_jump": [4.0, 15.0, None], "worst": [4.0, 15.0, None]}


def test_a_changed_definition_leaves_the_old_one_served_until_it_is_online(lake: Lake) -> None:
    lake.add(rows_of(1, 50))
    lake.run(view(**WINDOWS))
    failure, report = lake.fails(view(**WINDOWS, columns=["price"]))
    assert "expected the columns price in its source, found card, paid_at, amount" in failure.message
    assert (report.reason, failure.exit_code) == ("RowsUnfit", USERS_FAULT)
    assert list(lake.read("spending", ["card-1"])) == ["spent_1h", "spent_5h"]
    lake.run(view(**WINDOWS, columns=["amount"]))
    assert list(lake.read("spending", ["card-1"])) == ["amount", "spent_1h", "spent_5h"]


def test_a_column_that_disappears_leaves_what_was_served(lake: Lake) -> None:
    lake.add(rows_of(1, 50))
    lake.run(view(**WINDOWS))
    before = lake.read("spending", ["card-1", "card-2"])
    lake.add(rows_of(2, 50).rename_columns(["card", "paid_at", "price"]))
    failure, _ = lake.fails(view(**WINDOWS))
    assert failure.reason == "RowsUnfit"
    assert lake.read("spending", ["card-1", "card-2"]) == before


def bad_key(rows: pa.Table) -> pa.Table:
    return rows.set_column(0, "card", pa.array([0.5] * len(rows)))


def no_time(rows: pa.Table) -> pa.Table:
    return rows.set_column(1, "paid_at", pa.array([None] * len(rows), rows.schema.field("paid_at").type))


def no_zone(rows: pa.Table) -> pa.Table:
    return rows.set_column(1, "paid_at", rows.column("paid_at").cast(pa.timestamp("us")))


BAD_ROWS: list[tuple[Callable[[pa.Table], pa.Table], str]] = [
    (bad_key, "expected a key of whole numbers or text, found double"),
    (no_time, "expected an event time in paid_at of every row, found none in 30 of 30 rows"),
    (no_zone, "expected times with a zone in paid_at, found timestamp[us]; say which with timeZone"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_ROWS, ids=[spoil.__name__ for spoil, _ in BAD_ROWS])
def test_bad_rows_are_told_and_the_last_good_version_is_served(
    spoil: Callable[[pa.Table], pa.Table], message: str, lake: Lake
) -> None:
    lake.add(rows_of(1, 50))
    lake.run(view(**WINDOWS))
    before = lake.read("spending", ["card-1", "card-2"])
    lake.add(spoil(rows_of(2, 30)))
    failure, report = lake.fails(view(**WINDOWS))
    assert message in failure.message
    assert (failure.exit_code, report.succeeded) == (USERS_FAULT, False)
    assert lake.read("spending", ["card-1", "card-2"]) == before
    lake.add(rows_of(3, 40))
    lake.run(view(**WINDOWS))
    offline = join(
        pa.table({"card": ["card-1"], "asked_at": times([NOW])}),
        [Use(catalog_definition(), InMemory(rows_of(3, 40)))],
        Clocks("asked_at"),
    )
    assert lake.read("spending", ["card-1"]) == offline.select(["spent_1h", "spent_5h"]).to_pydict()


def catalog_definition() -> Any:
    return catalog.definition_of(view(**WINDOWS))


def test_a_definition_that_means_nothing_is_told(lake: Lake) -> None:
    lake.add(rows_of(1, 5))
    failure, _ = lake.fails(view(columns=[{"name": "x", "expression": "sum(amount)"}]))
    assert (failure.reason, failure.exit_code) == ("InvalidDefinition", USERS_FAULT)


def test_a_store_that_is_away_is_tried_again(lake: Lake) -> None:
    lake.add(rows_of(1, 5))
    failure, _ = lake.fails(view(**WINDOWS), online_url="redis://127.0.0.1:1/0")
    assert (failure.reason, failure.exit_code) == ("OnlineStoreUnavailable", TRY_AGAIN)
    wrong, _ = lake.fails(view(**WINDOWS), online_url="http://example")
    assert "expected a URL such as lmdb:///" in wrong.message


def test_a_damaged_file_is_told_and_the_last_good_version_is_served(lake: Lake) -> None:
    """A Parquet file of the source that is cut in half."""
    lake.add(rows_of(1, 50))
    lake.run(view(**WINDOWS))
    before = lake.read("spending", ["card-1"])
    known = set((lake.folder / "store").rglob("*.parquet"))
    lake.add(rows_of(2, 500))
    (fresh,) = set((lake.folder / "store").rglob("*.parquet")) - known
    whole = fresh.read_bytes()
    fresh.write_bytes(whole[: len(whole) // 2])
    failure, _ = lake.fails(view(**WINDOWS))
    assert fresh.name in failure.message
    assert lake.read("spending", ["card-1"]) == before
    fresh.write_bytes(whole)
    assert lake.run(view(**WINDOWS)).rows == 500


def test_a_view_that_is_not_kept_online_is_checked_and_its_records_go(lake: Lake) -> None:
    lake.add(rows_of(1, 50))
    lake.run(view(**WINDOWS))
    report = lake.run(view(**WINDOWS, online=False), online=False)
    assert (report.succeeded, report.rows, len(report.features)) == (True, None, 2)
    with closing(open_store(lake.online_url)) as online:
        assert [key for key, _ in online.scan(b"") if key != b"i"] == []
    offline = lake.run(view(**WINDOWS, online=False), online=False, online_url=None)
    assert offline.succeeded


def test_removal_leaves_nothing_and_may_be_repeated(lake: Lake) -> None:
    lake.add(rows_of(1, 50))
    lake.run(view(**WINDOWS))
    lake.run(view(**WINDOWS, ttl="1d"))
    lake.run(view("other", **WINDOWS))
    before = lake.read("other", ["card-1"])
    for _ in range(2):
        remove.run(RemoveTask(namespace="default", name="spending", run="r", online_url=lake.online_url))
    with closing(open_store(lake.online_url)) as online:
        assert catalog.entries(online, "default", "spending") == []
        left = sum(1 for _ in online.scan(b"r"))
    assert left == len(set(rows_of(1, 50).column("card").to_pylist()))
    assert lake.read("other", ["card-1"]) == before


FULL = """
import resource, signal, sys
from datetime import datetime
from pathlib import Path
from mizzen.data.features.jobs.materialise import run
from mizzen.data.features.jobs.task import MaterialiseTask
from mizzen.data.pod import Failure

task, limit, now = MaterialiseTask.model_validate_json(sys.argv[1]), int(sys.argv[2]), datetime.fromisoformat(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    run(task, lambda report: print(report.reason, report.message), lambda: now, Path(sys.argv[4]))
except Failure as failure:
    sys.exit(failure.exit_code)
"""


def test_a_disk_that_fills_during_a_commit_costs_nothing(lake: Lake) -> None:
    """The commit is not made, the reason is told, what was online stays; with room again, it goes on."""
    spec = {"columns": ["amount"], **WINDOWS}
    first = rows_of(1, 200)
    lake.add(first)
    lake.run(view(**spec))
    before = lake.read("spending", ["card-1", "card-2"])
    size = (lake.folder / "online" / "data.mdb").stat().st_size
    lake.add(wide_rows(20_000))
    command = [sys.executable, "-c", FULL, lake.task(view(**spec)).model_dump_json(by_alias=True), str(size + 8192)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [*command, CLOCK.isoformat(), str(lake.folder)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == TRY_AGAIN, done.stderr
    assert done.stdout.startswith("OnlineStoreUnavailable online store"), done.stdout
    assert lake.read("spending", ["card-1", "card-2"]) == before
    assert lake.run(view(**spec)).rows == 20_000


def wide_rows(count: int) -> pa.Table:
    """Of many cards, so that they take room."""
    return payments([(f"card-{n}", n % 600, float(n)) for n in range(count)])


@pytest.mark.skipif(SERVER is None, reason="expected a redis-server or valkey-server on the path, found none")
def test_a_server_that_is_started_again_empty_is_filled_and_known_for_another(lake: Lake, tmp_path: Path) -> None:
    lake.add(rows_of(1, 100))
    port, found = free_port(), []
    lake.online_url = f"redis://127.0.0.1:{port}/0"
    for life in ("first", "second"):
        folder = tmp_path / life
        folder.mkdir()
        with redis_server(folder, port):
            report = lake.run(view(**WINDOWS))
            assert (report.rows, report.rows_read) == (100, 100)
            assert lake.run(view(**WINDOWS)).rows_read == 0
            found.append((report.incarnation, lake.read("spending", ["card-1"])))
    assert found[0][0] != found[1][0]
    assert found[0][1] == found[1][1]
