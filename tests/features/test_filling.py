"""A view filled by several Pods: the same bytes however many, wherever they run, whatever happens meanwhile."""

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.features.builders import payments, view
from tests.features.test_growth import appended
from tests.features.test_materialise import NOW, SPEC, committed, rows_of
from tests.features.test_online import us

from mizzen.data.features.definition import definition_of
from mizzen.data.features.jobs import materialise
from mizzen.data.features.jobs.task import MaterialiseTask, ViewAt
from mizzen.data.features.online import catalog, filling
from mizzen.data.features.online import materialise as online_materialise
from mizzen.data.features.online.opening import open_store
from mizzen.data.features.online.reader import OnlineReader
from mizzen.data.features.online.store import OnlineStore
from mizzen.data.features.online.writer import OnlineWriter
from mizzen.data.features.pointintime import Clocks, InMemory, Use, join
from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table, TableVersion
from mizzen.kinds import FeatureView
from mizzen.kinds.features import MaterialisationReport

CLOCK = datetime.fromtimestamp(us(NOW) / 1e6, UTC)
MANY: dict[str, Any] = {
    "columns": ["amount"],
    "aggregations": [
        *SPEC["aggregations"],
        {"name": "spread", "function": "std", "column": "amount", "window": "5h"},
        {"name": "ever", "function": "std", "column": "amount"},
        {"name": "often", "function": "top_k", "k": 2, "column": "amount"},
        {"name": "different", "function": "distinct", "column": "amount", "window": "9h", "hop": "1h"},
        {"name": "recent", "function": "last_k", "k": 3, "column": "amount", "window": "5h", "hop": "30m"},
    ],
}
JUMP: dict[str, Any] = {
    "uses": ["spending"],
    "columns": [{"name": "over", "expression": 'amount - "spending".total_1h'}],
    "aggregations": [{"name": "most", "function": "max", "expression": 'amount - "spending".total_1h'}],
}


class Filling:
    """Pods that fill views from one table, in any order."""

    def __init__(self, url: str, folder: Path, rows: pa.Table, files: int = 2) -> None:
        self.folder, self.lake = folder, Store.open(url)
        self.online_url = f"lmdb://{folder}/online"
        each = -(-len(rows) // files)
        pieces = [rows.slice(number * each, each) for number in range(files)]
        self.source = committed(self.lake, folder, pieces, "payments-1")

    def task(self, of: FeatureView, *uses: FeatureView, parts: int) -> MaterialiseTask:
        target, *used = [ViewAt(view=each, source_version=self.source.version) for each in (of, *uses)]
        return MaterialiseTask(
            namespace="default", name=of.name, run=f"run-{parts}", store_url=self.lake.url, online_url=self.online_url,
            target=target, uses=used, parts=parts,
        )  # fmt: skip

    def pods(self, task: MaterialiseTask, order: Sequence[int]) -> list[MaterialisationReport]:
        told: list[MaterialisationReport] = []
        for at, index in enumerate(order):
            work = self.folder / f"{task.name}-{task.run}-{at}"
            work.mkdir()
            materialise.run(task, told.append, lambda: CLOCK, work, index)
        return told

    def online(self) -> OnlineStore:
        return open_store(self.online_url)

    def expect_joined(self, of: FeatureView, rows: pa.Table, minute: float = NOW) -> None:
        """Readers get what a join with those rows has."""
        cards = sorted(set(rows.column("card").to_pylist()))
        asked = payments([(card, minute) for card in cards], "card asked_at")
        use = Use(definition_of(of), InMemory(rows))
        expected = join(asked, [use], Clocks("asked_at", everything=True)).select(use.names())
        with closing(self.online()) as store:
            entry = catalog.served(store, "default", of.name)
            assert entry is not None
            reader = OnlineReader(store, entry.online_view(), lambda: us(minute))
            found = reader.many([(card,) for card in cards]).to_arrow().to_pydict()
            for name, values in expected.to_pydict().items():
                rounded = name in {"spread", "ever"}  # merged in another order than at once
                assert found[name] == (pytest.approx(values) if rounded else values), name


def records(store: OnlineStore) -> dict[bytes, bytes]:
    """What is kept of entities."""
    return dict(store.scan(b"r"))


ORDERS = ((1, [0]), (2, [1, 0]), (8, [3, 0, 7, 3, 1, 5, 2, 6, 4]))


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_one_two_and_eight_fill_the_same_bytes(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """In separate stores; in any order; one of them twice, as after a kill; views of rows alone and chained ones too.

    Of one file, which one Pod reads in one step: in several, a variance since ever is merged, and rounded, otherwise.
    """
    if kind == "s3":
        request.getfixturevalue("s3")
    base = (tmp_path / "lakes").as_uri() if kind == "file" else f"s3://lake/{tmp_path.name}"
    rows, plain = rows_of(1, 700), view("plain", columns=["amount"])
    many, jump = view(**MANY), view("jump", **JUMP)
    found = []
    for parts, order in ORDERS:
        folder = tmp_path / str(parts)
        folder.mkdir()
        of = Filling(f"{base}/{parts}", folder, rows, files=1)
        (report,) = of.pods(of.task(many, parts=parts), order)
        assert (report.succeeded, report.rows, report.rows_read, report.entities) == (True, 700, 700, 20)
        of.pods(of.task(plain, parts=parts), order)
        of.pods(of.task(jump, many, parts=parts), order)
        of.expect_joined(many, rows)
        of.expect_joined(plain, rows)
        with closing(of.online()) as store:
            found.append(records(store))
        assert of.lake.list("featureviews-parts") == [], "what was put together is not kept twice"
    assert len(found[0]) == 3 * 20
    assert found[0] == found[1] == found[2]


def test_increments_follow_and_are_the_first_pods(tmp_path: Path) -> None:
    rows, more = rows_of(1, 700), rows_of(2, 200)
    of = Filling((tmp_path / "lake").as_uri(), tmp_path, rows)
    of.pods(of.task(view(**SPEC), parts=2), [0, 1])
    of.source = committed_after(of, more)
    task = of.task(view(**SPEC), parts=2).model_copy(update={"run": "run-next"})
    (report,) = of.pods(task, [1, 0])
    assert (report.rows, report.rows_read) == (900, 200)
    of.expect_joined(view(**SPEC), pa.concat_tables([rows, more]))


def committed_after(of: Filling, rows: pa.Table) -> TableVersion:
    return appended(Table(of.lake, "default", "payments"), of.folder, rows)


@pytest.mark.parametrize("when", ["before", "between"])
def test_rows_that_are_pushed_meanwhile_are_not_lost(when: str, tmp_path: Path) -> None:
    """To entities that have shares and to others; they count once, also where the filling is begun again."""
    rows, pushed = rows_of(1, 700), payments([("card-1", 650, 7.0), ("card-2", 10, 8.0), ("new", 3, 9.0)])
    of = Filling((tmp_path / "lake").as_uri(), tmp_path, rows)
    online_view = catalog.entry_of(view(**SPEC), of.source.schema, {}).online_view()
    shares = [pa.concat_tables(_share(of, online_view, number, 3)) for number in range(3)]

    class Tables:
        def __len__(self) -> int:
            return len(shares)

        def read(self, number: int) -> pa.Table:
            return shares[number]

    with closing(of.online()) as store:
        writer = OnlineWriter(store, online_view)

        def push() -> None:
            writer.push(pushed, as_of_us=us(NOW), batch="once")

        if when == "before":
            push()
        steps = 0

        class Killed(Exception): ...

        def stepped(_: Any) -> None:
            nonlocal steps
            steps += 1
            if steps == 3:
                if when == "between":
                    push()
                raise Killed

        with pytest.raises(Killed):
            filling.fill(writer, of.source, "shares", Tables(), lambda: us(NOW), stepped=stepped, step_records=4)
        done = filling.fill(writer, of.source, "shares", Tables(), lambda: us(NOW), step_records=5)
        assert done is not None
        assert writer.place().tally().rows == 703
        assert writer.place().tally().entities == 21
        again = filling.fill(writer, of.source, "shares", Tables(), lambda: us(NOW))
        assert again is None, "it is complete"
        catalog.serve(store, "default", catalog.entry_of(view(**SPEC), of.source.schema, {}))
    of.expect_joined(view(**SPEC), pa.concat_tables([rows, pushed]))


def _share(of: Filling, online_view: Any, number: int, parts: int) -> list[pa.Table]:
    use = Use(online_view.definition, of.source)
    share = filling.Share(number, parts)
    work = of.folder / f"share-{number}"
    return list(filling.records_of(online_view, use, share, us(NOW), work=work, rows_in_memory=90))


def test_a_newer_version_does_not_mix_with_half_of_an_older_one(tmp_path: Path) -> None:
    """Shares of an older version that are half in are left behind; what is served is the newer one, whole."""
    rows, more = rows_of(1, 700), rows_of(2, 200)
    of = Filling((tmp_path / "lake").as_uri(), tmp_path, rows)
    task = of.task(view(**SPEC), parts=2)
    with closing(of.online()) as store:
        entry = catalog.entry_of(view(**SPEC), of.source.schema, {})
        writer = OnlineWriter(store, entry.online_view())
        shares = [pa.concat_tables(_share(of, writer.view, number, 1)) for number in range(1)]

        class Tables:
            def __len__(self) -> int:
                return 1

            def read(self, number: int) -> pa.Table:
                return shares[number]

        class Killed(Exception): ...

        def killed(_: Any) -> None:
            raise Killed

        with pytest.raises(Killed):
            filling.fill(writer, of.source, "older", Tables(), lambda: us(NOW), stepped=killed, step_records=4)
    of.source = committed_after(of, more)
    task = of.task(view(**SPEC), parts=2)
    (report,) = of.pods(task, [1, 0])
    assert (report.rows, report.entities) == (900, 20)
    of.expect_joined(view(**SPEC), pa.concat_tables([rows, more]))


def test_a_view_that_is_begun_in_steps_goes_on_in_steps(tmp_path: Path) -> None:
    """Also where a replaced source was just begun anew, and nothing of it is in yet."""
    rows, others = rows_of(1, 700), rows_of(2, 200)
    of = Filling((tmp_path / "lake").as_uri(), tmp_path, rows)
    of.pods(of.task(view(**SPEC), parts=2), [0, 1])
    of.source = committed(of.lake, of.folder, [others], "payments-2")
    with closing(of.online()) as store:
        entry = catalog.entry_of(view(**SPEC), of.source.schema, {})
        writer = OnlineWriter(store, entry.online_view())
        assert not filling.can_be_shared(writer.place(), "shares")
        assert online_materialise._planned(writer, of.source), "begun anew, and no more"
        assert writer.place().complete == 0
        assert not filling.can_be_shared(writer.place(), "shares")
    task = of.task(view(**SPEC), parts=2).model_copy(update={"run": "run-next"})
    (report,) = of.pods(task, [1, 0])
    assert report.rows == 200
    of.expect_joined(view(**SPEC), others)
