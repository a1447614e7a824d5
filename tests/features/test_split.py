"""Joins split by entity: the same set, byte for byte, however many make it, wherever they run."""

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.features.builders import payments, times, view
from tests.features.test_training_sets import committed

from mizzen.data.features.definition import as_label, definition_of
from mizzen.data.features.jobs import trainingset
from mizzen.data.features.jobs.task import ViewAt
from mizzen.data.features.jobs.trainingset import Taken, TrainingSetTask
from mizzen.data.features.pointintime import Clocks, InMemory, Use, join
from mizzen.data.features.split import Share, Shares, share_of, whole
from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table, TableVersion
from mizzen.data.pod import Failure
from mizzen.kinds.trainingsets import Spine, TakenView, TrainingSetReport

NAMES = "card paid_at booked_at amount shop"
SPENDING: dict[str, Any] = {
    "knownAt": "booked_at",
    "columns": ["amount", "shop"],
    "aggregations": [
        {"name": "spent", "function": "sum", "column": "amount", "windows": ["1h", "5h"]},
        {"name": "shops", "function": "last_k", "k": 3, "column": "shop"},
        {"name": "usual", "function": "quantile", "quantile": 0.5, "column": "amount", "window": "5h"},
        {"name": "spread", "function": "std", "column": "amount", "window": "5h"},
        {"name": "often", "function": "top_k", "k": 2, "column": "shop"},
        {"name": "least", "function": "min", "column": "amount", "windows": ["1h", "5h"]},
    ],
}
SHOPS: dict[str, Any] = {"entities": ["shop"], "aggregations": [{"name": "sales", "function": "count", "window": "2h"}]}
SOON: dict[str, Any] = {"aggregations": [{"name": "soon", "function": "count", "window": "30m"}]}
JUMP: dict[str, Any] = {
    "uses": ["spending"],
    "columns": [{"name": "over", "expression": 'amount - "spending".spent_1h'}],
}
CLOCK = datetime(2026, 1, 1, tzinfo=UTC)


def events(seed: int, count: int) -> pa.Table:
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        minute = rng.randrange(600)
        card, shop = rng.choice([None, *(f"card-{n}" for n in range(30))]), rng.choice(["a", "b", "c", None])
        rows.append((card, minute, minute + rng.choice([0, 0, 30]), rng.choice([None, rng.random()]), shop))
    return payments(rows, NAMES, card=pa.string(), shop=pa.string())


def spine(seed: int, count: int) -> pa.Table:
    rng = random.Random(seed)
    cards = [rng.choice([None, *(f"card-{n}" for n in range(35))]) for _ in range(count)]
    shops = [rng.choice(["a", "b", "z"]) for _ in range(count)]
    return pa.table(
        {"card": cards, "shop": shops, "asked_at": times([rng.randrange(700) for _ in range(count)]), "n": range(count)}
    )


@pytest.mark.parametrize("parts", [1, 2, 7])
@pytest.mark.parametrize("rows_in_memory", [10_000, 150])
def test_the_whole_of_all_shares_is_the_join(parts: int, rows_in_memory: int, tmp_path: Path) -> None:
    """For views by different keys, where each share is spilt to the disk too; null keys are rows like others."""
    paid, asked, clocks = events(1, 500), spine(2, 300), Clocks("asked_at")
    use = Use(_definition("spending", SPENDING), InMemory(paid), prefix="s_")
    uses = [
        use,
        Use(_definition("shops", SHOPS), InMemory(paid)),
        Use(_label("soon", SOON), InMemory(paid)),
        Use(_definition("jump", JUMP, spending=use.definition.digest), InMemory(paid), others=(use,)),
    ]
    shares = [
        Shares(
            parts,
            [
                pa.concat_tables(
                    share_of(
                        each, InMemory(asked), clocks, Share(i, parts), work=tmp_path, rows_in_memory=rows_in_memory
                    )
                )
                for i in range(parts)
            ].__getitem__,
        )
        for each in uses
    ]
    made = pa.concat_tables(whole(InMemory(asked), uses, clocks, shares))
    assert made.equals(join(asked, uses, clocks))
    assert made.column("soon").null_count > 0


def _definition(name: str, spec: dict[str, Any], **used: str) -> Any:
    return definition_of(view(name, **spec), used)


def _label(name: str, spec: dict[str, Any]) -> Any:
    return as_label(_definition(name, spec))


def task(parts: int, asked: TableVersion, paid: TableVersion, store: Store, run: str) -> TrainingSetTask:
    def taken(name: str, spec: dict[str, Any], **more: Any) -> Taken:
        at = ViewAt(view=view(name, **spec), source_version=paid.version)
        return Taken(at=at, taken=TakenView(view=name, **more))

    return TrainingSetTask(
        namespace="default",
        name="late",
        run=run,
        store_url=store.url,
        table="late-set",
        spine=Spine(dataset="asked", version=asked.version, time="asked_at"),
        views=[
            taken("spending", SPENDING, prefix="s_"),
            taken("shops", SHOPS),
            taken("soon", SOON, label=True),
            taken("jump", JUMP),
        ],
        uses=[ViewAt(view=view("spending", **SPENDING), source_version=paid.version)],
        parts=parts,
    )


def make(of: TrainingSetTask, order: list[int], folder: Path) -> list[TrainingSetReport]:
    told: list[TrainingSetReport] = []
    for index in order:
        work = folder / f"{of.run}-{index}-{len(told)}-{random.random()}"
        work.mkdir(parents=True)
        trainingset.run(of, index, told.append, lambda: CLOCK, work)
    return told


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_one_two_and_eight_make_the_same_bytes(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """In separate stores, so that each really makes it; in any order; one of them twice, as after a kill."""
    if kind == "s3":
        request.getfixturevalue("s3")
    base = (tmp_path / "stores").as_uri() if kind == "file" else f"s3://lake/{tmp_path.name}"
    digests, files = set(), set()
    for parts, order in ((1, [0]), (2, [1, 0]), (8, [3, 0, 7, 3, 1, 5, 2, 6, 4, 0])):
        store = Store.open(f"{base}/{parts}")
        paid = committed(store, "payments", events(1, 800), "r1", tmp_path / str(parts))
        asked = committed(store, "asked", spine(2, 500), "r1", tmp_path / str(parts))
        reports = make(task(parts, asked, paid, store, f"run-{parts}"), order, tmp_path)
        report = reports[-1]
        assert (report.succeeded, report.rows) == (True, 500)
        digests.add((report.id, report.digest))
        files.add(tuple(file.sha256 for file in Table(store, "default", "late-set").at().files))
        assert store.list("trainingsets-parts") == [], "what was put together is not kept twice"
    assert (len(digests), len(files)) == (1, 1)


def test_a_set_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    store = Store.open((tmp_path / "store").as_uri())
    paid = committed(store, "payments", events(1, 10), "r1", tmp_path)
    asked = committed(store, "asked", spine(2, 5).rename_columns(["holder", "shop", "asked_at", "n"]), "r1", tmp_path)
    told: list[TrainingSetReport] = []
    for parts in (1, 2):
        with pytest.raises(Failure, match="expected the columns card in the spine, found holder, shop, asked_at, n"):
            trainingset.run(task(parts, asked, paid, store, "run"), 0, told.append, lambda: CLOCK, tmp_path)
    assert [(report.succeeded, report.reason) for report in told] == [(False, "RowsUnfit")] * 2
