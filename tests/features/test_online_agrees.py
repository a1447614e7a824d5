"""One definition, three paths: backfill, pushes in any order, and online reads give equal values for every aggregate."""

import math
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.features import generated
from tests.features.generated import MINUTE
from tests.features.test_oracle import OF_NUMBERS, TYPES

from mizzen.data.features.aggregates.registry import FUNCTIONS
from mizzen.data.features.definition import Definition, definition_of
from mizzen.data.features.online.lmdb_store import LmdbStore
from mizzen.data.features.online.reader import OnlineReader
from mizzen.data.features.online.view import OnlineView
from mizzen.data.features.online.writer import OnlineWriter
from mizzen.data.features.pointintime import Clocks, InMemory, Use, join
from mizzen.kinds import FeatureView

WINDOWS = [("2m", None), ("10m", "1m"), ("7m", "3m"), ("1h", "10m"), ("1h", None), ("20m", "10m"), (None, None)]
"""Lengths and hops; two that hop alike share their tiles."""
GRACE = 5 * MINUTE


def definition(kind: str, *, known_at: bool) -> Definition:
    aggregations = []
    for function in FUNCTIONS:
        if kind == "text" and function in OF_NUMBERS:
            continue
        for number, (window, hop) in enumerate(WINDOWS):
            if function == "rate" and window is None:
                continue
            feature: dict[str, Any] = {"name": f"{function}_{number}", "function": function, "column": "value"}
            feature |= {} if window is None else {"window": window}
            feature |= {} if hop is None else {"hop": hop}
            feature |= {"k": 3} if function in {"last_k", "top_k"} else {}
            feature |= {"quantile": 0.9} if function == "quantile" else {}
            feature |= {"where": "kept"} if number % 2 else {}
            aggregations.append(feature)
    spec = {
        "entities": ["entity"],
        "source": {"dataset": "x"},
        "eventTime": "at",
        "columns": ["value", {"name": "kept", "default": False}],
        "ttl": "30m",
        "aggregations": aggregations,
        **({"knownAt": "known"} if known_at else {}),
    }
    return definition_of(FeatureView.model_validate({"kind": "FeatureView", "metadata": {"name": "v"}, "spec": spec}))


def rows_of(case: generated.Case) -> pa.Table:
    time = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "entity": pa.array([e.entity for e in case.events], pa.int64()),
            "at": pa.array(np.array([e.time for e in case.events], dtype=np.int64), time),
            "known": pa.array(np.array([min(e.known, 2**62) for e in case.events], dtype=np.int64), time),
            "value": pa.array([e.value for e in case.events], TYPES[case.kind]),
            "kept": pa.array([e.kept for e in case.events], pa.bool_()),
        }
    )


def same(expected: Any, actual: Any) -> bool:
    """Equal; floating sums to rounding."""
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(same, expected, actual))
    if isinstance(expected, float) and isinstance(actual, float):
        both_nan = math.isnan(expected) and math.isnan(actual)
        return expected == actual or both_nan or math.isclose(expected, actual, rel_tol=1e-13, abs_tol=1e-300)
    return bool(expected == actual)


def expect_agreement(case: generated.Case, store: LmdbStore) -> None:
    rng = random.Random(case.seed)
    view = definition(case.kind, known_at=case.bitemporal)
    rows = rows_of(case)
    online = OnlineView(view, rows.schema, grace_us=GRACE)
    writer = OnlineWriter(store, online, namespace=f"case-{case.seed}")
    order = rng.sample(range(len(rows)), k=len(rows))
    as_of = rng.randrange(-10 * MINUTE, 60 * MINUTE)
    while order:
        size = rng.randint(1, max(1, len(order)))
        batch, order = order[:size], order[size:]
        writer.push(rows.take(pa.array(batch)), as_of_us=as_of)
        as_of += rng.choice([0, MINUTE, rng.randrange(0, 20 * MINUTE)])
    reader = OnlineReader(store, online, lambda: 0, namespace=f"case-{case.seed}")
    entities = [(n,) for n in range(case.entities + 1)]
    for at in (as_of, as_of + rng.randrange(0, MINUTE), as_of + 45 * MINUTE, generated.FAR + MINUTE):
        spine = pa.table(
            {"entity": [e for (e,) in entities], "when": pa.array([at] * len(entities), pa.timestamp("us", "UTC"))}
        )
        offline = join(spine, [Use(view, InMemory(rows))], Clocks("when", everything=True)).select(view.stored)
        read = reader.many(entities, at).to_arrow()
        for name in view.stored:
            for entity, (expected, actual) in enumerate(
                zip(offline.column(name).to_pylist(), read.column(name).to_pylist(), strict=True)
            ):
                assert same(expected, actual), (
                    f"seed {case.seed}: {name} of {entity} at {at}: backfill {expected!r}, online {actual!r}"
                )
        one, lists = reader.one(entities[0], at), reader.many(entities, at).to_pydict()
        assert all(same(read.column(name)[0].as_py(), one[name]) for name in view.stored)
        assert all(same(lists[name], read.column(name).to_pylist()) for name in view.stored)


@pytest.mark.parametrize("block", range(4))
def test_backfill_pushes_and_reads_agree(block: int, lmdb_store: LmdbStore) -> None:
    """Whatever the order of the pushes, and however often tiles were closed in between."""
    for seed in range(block * 6, block * 6 + 6):
        expect_agreement(generated.case(seed), lmdb_store)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_backfill_pushes_and_reads_agree_on_many_cases(block: int, lmdb_store: LmdbStore) -> None:
    for seed in range(100 + block * 10, 110 + block * 10):
        expect_agreement(generated.case(seed), lmdb_store)
