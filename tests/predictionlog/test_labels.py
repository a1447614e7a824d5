"""Labels come later, in any order and again and again, and are joined to the rows they are about."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from mizzen.data.lake.objects import Store
from mizzen.serving.predictionlog.labels import BadLabels, append_labels, labelled

from .builders import Log, answer

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def log(tmp_path):
    made = Log(tmp_path)
    recorder = made.recorder()
    answer(recorder, "one", [(1.0, 2.0), (3.0, 4.0)])
    answer(recorder, "two")
    recorder.flush()
    made.everything()
    return made


def tell(log, *rows, run=None, at=NOON) -> bool:
    store = Store.open(f"file://{log.base}/store")
    return append_labels(store, "default", "m", pa.Table.from_pylist(list(rows)), run=run, clock=lambda: at)


def known(log, column="label_late") -> list:
    store = Store.open(f"file://{log.base}/store")
    return [(row["request_id"], row["row"], row.get(column)) for row in labelled(store, "default", "m").to_pylist()]


def test_without_labels_the_log_is_as_it_is(log):
    assert known(log) == [("one", 0, None), ("one", 1, None), ("two", 0, None)]
    assert labelled(Store.open(f"file://{log.base}/store"), "default", "absent") is None


def test_a_label_is_of_a_row_or_of_a_whole_request(log):
    tell(log, {"request_id": "one", "row": 1, "late": True}, {"request_id": "two", "late": False})
    assert known(log) == [("one", 0, None), ("one", 1, True), ("two", 0, False)]
    tell(log, {"request_id": "one", "late": False, "row": None}, {"request_id": "unknown", "late": True, "row": None})
    assert ("one", 0, False) in known(log)


def test_the_newest_label_counts_whatever_the_order(log):
    tell(log, {"request_id": "two", "row": 0, "late": True}, at=NOON + timedelta(hours=1))
    tell(log, {"request_id": "two", "row": 0, "late": False}, at=NOON)
    assert known(log)[-1] == ("two", 0, True)


def test_a_delivery_with_a_name_counts_once(log):
    assert tell(log, {"request_id": "two", "late": True}, run="monday")
    assert not tell(log, {"request_id": "two", "late": False}, run="monday", at=NOON + timedelta(hours=1))
    assert known(log)[-1] == ("two", 0, True)


def test_other_labels_are_other_columns(log):
    tell(log, {"request_id": "two", "late": True})
    tell(log, {"request_id": "one", "row": 0, "minutes": 12})
    assert known(log, "label_minutes") == [("one", 0, 12), ("one", 1, None), ("two", 0, None)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "two", "late": True}], "expected the columns request_id and at least one label, found id, late"),
        ([{"request_id": "two"}], "at least one label, found request_id"),
        ([{"request_id": None, "late": True}], "expected one in every row, found 1 rows without"),
        ([{"request_id": "two", "row": "x", "late": True}], "row as a whole number"),
    ],
)
def test_what_are_no_labels_is_refused(log, rows, message):
    with pytest.raises(BadLabels, match=message):
        tell(log, *rows)
