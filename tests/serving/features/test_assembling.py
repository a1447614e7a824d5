"""Whatever the order of the model's columns, and whoever gives them, each value is in its place: few rows and many."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.builders import payments
from tests.serving.builders import UNHURRIED
from tests.serving.features.builders import declared, inputs_of, matrix, push, us

from mizzen.data.features.online.lmdb_store import LmdbStore
from mizzen.serving.gateway.directory import Lookup, ViewUse
from mizzen.serving.gateway.features.assembling import FEW_ROWS, Assembly
from mizzen.serving.gateway.features.columns import Plan, planned
from mizzen.serving.gateway.features.opening import Opening
from mizzen.serving.gateway.features.stage import Stage
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.tensors import DATATYPES, Tensor, pack_elements, pack_strings

NOW = 30
USES = (ViewUse("spending"), ViewUse("shops", prefix="shop_", keys={"shop": "merchant"}))
FEATURES = ("limit", "spent", "n", "shop_rent", "shop_visits")
GIVEN = ("amount", "hour", "merchant")
SPENT = [("a", 0, 5.0, 100.0), ("a", 10, 7.0, None), ("b", 5, 1.0, 50.0)]
RENTS = [(1, 1, 9.0), (2, 2, None), (1, 3, 4.5)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder: Path = tmp_path_factory.mktemp("online")
    store = LmdbStore(folder, durable=False)
    shops = declared(
        "shops", entities=["shop"], columns=["rent"], aggregations=[{"name": "visits", "function": "count"}]
    )
    floats = {"amount": pa.float64(), "limit": pa.float64()}
    push(store, declared(), payments(SPENT, "card paid_at amount limit", **floats), us(NOW))
    push(store, shops, payments(RENTS, "shop paid_at rent", rent=pa.float64()), us(NOW))
    opening = Opening(f"lmdb://{folder}", lambda: us(NOW), time.monotonic, store)
    return opening.stage("default", Lookup(USES), Measures(), lambda *_: None)


Row = tuple[str, int, float, float]
ROWS = st.lists(
    st.tuples(st.sampled_from("abx"), st.integers(0, 3), st.floats(width=32), st.integers(0, 23)), min_size=1
)


def inputs(stage: Stage, plan: Plan, rows: list[Row]) -> np.ndarray:
    columns = dict(zip(("card", "merchant", "amount", "hour"), zip(*rows, strict=True), strict=True))
    asked = [_tensor(spec.name, spec.datatype, columns[spec.name]) for spec in plan.asked.inputs]
    reads = stage.lookup.read([[(card,) for card in columns["card"]], [(shop,) for shop in columns["merchant"]]])
    assembly = Assembly(plan, [looked.reader for looked in stage.lookup.views])
    (made,) = assembly.inputs(reads, (), asked, len(rows))
    return inputs_of(made)


def _tensor(name: str, datatype: str, values: tuple[Any, ...]) -> Tensor:
    packed = (
        pack_strings([value.encode() for value in values]) if datatype == "BYTES"
        else pack_elements(DATATYPES[datatype], values)
    )  # fmt: skip
    return Tensor(name, datatype, (len(values), 1), packed)


def naive(stage: Stage, names: tuple[str, ...], rows: list[Row]) -> np.ndarray:
    """Each value looked up by its name."""
    spending, shops = (looked.reader for looked in stage.lookup.views)
    lines = []
    for card, merchant, amount, hour in rows:
        known = {**spending.one((card,)), **{f"shop_{n}": v for n, v in shops.one((merchant,)).items()}}
        known |= {"amount": amount, "hour": hour, "merchant": merchant}
        lines.append([np.nan if known[name] is None else known[name] for name in names])
    return np.array(lines, dtype=np.float64)


@settings(UNHURRIED)
@given(st.permutations(FEATURES + GIVEN), st.integers(1, 8), ROWS, st.sampled_from(["FP32", "FP64"]))
def test_each_value_is_in_its_place(stage, order, count, rows, datatype):
    names = tuple(order[:count])
    plan = planned(matrix(*names, datatype=datatype), [looked.used for looked in stage.lookup.views], {})
    expected = naive(stage, names, rows).astype("<f4" if datatype == "FP32" else "<f8")
    np.testing.assert_array_equal(inputs(stage, plan, rows[:FEW_ROWS]), expected[:FEW_ROWS])
    times = FEW_ROWS // len(rows) + 1
    np.testing.assert_array_equal(inputs(stage, plan, rows * times), np.tile(expected, (times, 1)))
