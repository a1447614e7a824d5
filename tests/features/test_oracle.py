"""The kernel against the oracle: every aggregate, on generated events that nobody would wish for."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.features import generated, oracle

from mizzen.data.features.aggregates.registry import FUNCTIONS, Parameters
from mizzen.data.features.columns import Values
from mizzen.data.features.searching import sorting
from mizzen.data.features.timeline import Requests, Timeline
from mizzen.data.features.windows import Aggregation, Source, Window, evaluate

TYPES = {"float": pa.float64(), "integer": pa.int64(), "text": pa.string(), "boolean": pa.bool_()}
OF_NUMBERS = {"sum", "mean", "variance", "std", "quantile"}
PARAMETERS = {"last_k": 3, "top_k": 2, "quantile": 0.9}
EPS = 2.0**-52


def aggregations_of(kind: str) -> list[Aggregation]:
    made = []
    for function in FUNCTIONS:
        if kind == "text" and function in OF_NUMBERS:
            continue
        for number, (length, hop) in enumerate(generated.WINDOWS):
            if function == "rate" and length is None:
                continue
            parameter = PARAMETERS.get(function, 0)
            made.append(
                Aggregation(
                    name=f"{function}-{number}",
                    function=function,
                    window=Window(length, hop),
                    column="value",
                    where="kept",
                    parameters=Parameters(k=int(parameter), q=parameter if function == "quantile" else 0.5),
                )
            )
    return made


def source_of(case: Any) -> Source:
    events = case.events
    entity = np.array([e.entity for e in events], dtype=np.int64)
    time = np.array([e.time for e in events], dtype=np.int64)
    known = np.array([e.known for e in events], dtype=np.int64) if case.bitemporal else None
    values = Values.of(pa.array([e.value for e in events], TYPES[case.kind]))
    mask = np.array([e.kept for e in events], dtype=bool)
    return Source(Timeline(entity, time, known, case.entities), {"value": values}, {"kept": mask})


def requests_of(case: Any) -> Requests:
    entity = [a.entity if a.entity < case.entities else -1 for a in case.asks]
    return Requests(
        *(np.array(c, dtype=np.int64) for c in (entity, [a.time for a in case.asks], [a.known for a in case.asks]))
    )


def expect_same(function: str, expected: Any, actual: Any, values: list[Any], where: str) -> None:
    """Equal; to rounding where the kernel rounds, to its bound where it estimates."""
    if function == "sum" and isinstance(expected, Fraction) and all(isinstance(v, int) for v in values):
        assert actual == (int(expected) if -(2**63) <= expected < 2**63 else None), where
        return
    if not isinstance(expected, Fraction | float) or actual is None:
        assert expected == actual, f"{where}: expected {expected}, got {actual}"
        return
    if isinstance(expected, float) and not math.isfinite(expected):
        assert actual == expected or (math.isnan(expected) and math.isnan(actual)), where
        return
    slack = 0.0
    magnitude = Fraction(0)
    if function in {"sum", "mean", "variance", "std"}:
        magnitude = max((abs(Fraction(v)) for v in values if math.isfinite(v)), default=magnitude)
    if function in {"sum", "mean"}:
        slack = 1e-28 * float(magnitude) * len(values)
    if function in {"variance", "std"}:
        # What a double-double mean loses of values this large, squared; and a mean's last place.
        slack = len(values) * (EPS * EPS * 8 * float(magnitude)) * (float(magnitude) if function == "variance" else 1)
    wanted = float(expected) if abs(expected) < Fraction(10) ** 308 else math.inf
    assert actual == wanted or abs(actual - wanted) <= 16 * EPS * abs(wanted) + slack, (
        f"{where}: expected {wanted!r}, got {actual!r}"
    )


def expect_agreement(case: Any) -> None:
    aggregations = aggregations_of(case.kind)
    requests = requests_of(case)
    results = evaluate(source_of(case), aggregations, requests)
    order = sorting(requests.entity, requests.time_us)
    ordered = evaluate(source_of(case), aggregations, requests.take(order))
    for aggregation in aggregations:
        if aggregation.function != "quantile":  # whose sketch is made by chance
            same = str(ordered[aggregation.name].to_pylist())  # as text, in which NaN is NaN
            assert str(results[aggregation.name].take(pa.array(order)).to_pylist()) == same
        column = results[aggregation.name].to_pylist()
        function = aggregation.function
        assert len(column) == len(case.asks)
        for ask, actual in zip(case.asks, column, strict=True):
            length, hop = aggregation.window.length_us, aggregation.window.hop_us
            expected = oracle.value_of(function, case.events, ask, length, hop, PARAMETERS.get(function))
            values = [
                e.value for e in oracle.seen(case.events, ask, length, hop) if e.kept and oracle.is_there(e.value)
            ]
            where = f"seed {case.seed}: {aggregation.name} at {ask}"
            if function == "approximate_distinct":
                assert abs(actual - expected) <= max(0.5, 5 * 0.016 * expected), where
            elif function == "quantile" and len(values) > 150:
                below = sum(v <= actual for v in values) / len(values)
                assert abs(below - PARAMETERS["quantile"]) <= 0.03, where
            else:
                expect_same(function, expected, actual, values, where)


@pytest.mark.parametrize("block", range(10))
def test_kernel_agrees_with_the_oracle(block: int) -> None:
    """Each aggregate in each window equals what the raw events say, to rounding and to the sketches' bounds."""
    for seed in range(block * 10, block * 10 + 10):
        expect_agreement(generated.case(seed))


@pytest.mark.slow
@pytest.mark.parametrize("block", range(19))
def test_kernel_agrees_with_the_oracle_on_many_cases(block: int) -> None:
    """The same on 1,900 more."""
    for seed in range(100 + block * 100, 200 + block * 100):
        expect_agreement(generated.case(seed))
