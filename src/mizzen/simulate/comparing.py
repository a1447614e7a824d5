"""Runs the policies over one trace, each in the same world."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mizzen.simulate import fluid
from mizzen.simulate.discrete import Discrete
from mizzen.simulate.outcome import Outcome
from mizzen.simulate.scenario import Scenario
from mizzen.simulate.traces import Counts, Requests, Trace

PEAK_WINDOW_S = 60
Floats = NDArray[np.float64]


def compare(trace: Trace, scenario: Scenario, policies: Sequence[str]) -> list[Outcome]:
    """An outcome for each policy, in their order. Raises `ValueError` for a policy that there is not."""
    return [run(trace, scenario, policy) for policy in policies]


def run(trace: Trace, scenario: Scenario, policy: str) -> Outcome:
    """One policy over the trace. The fixed fleet is that of the busiest minute, which only hindsight knows."""
    if isinstance(trace, Counts):
        return _fluid(trace, scenario.fresh(), policy)
    return _discrete(trace, scenario.fresh(), policy)


def _fluid(trace: Counts, scenario: Scenario, policy: str) -> Outcome:
    means = _minute_means(np.asarray(trace.counts, dtype=float))
    fixed = scenario.fleet_for(float(means.max(initial=0.0)) * scenario.service_s)
    # Every policy takes over a fleet that fits the first minute: how it would be at a random moment of its life.
    first = scenario.fleet_for(float(means[0]) * scenario.service_s) if means.size else 0
    begun = scenario.starting_with(fixed if policy == "fixed" else first)
    return fluid.simulate(trace.counts, scenario.policy(policy, fixed)(), policy, begun, trace.wall_s)


def _discrete(trace: Requests, scenario: Scenario, policy: str) -> Outcome:
    total = Outcome(policy)
    for arrivals, services in trace.endpoints.values():
        means = _minute_concurrency(arrivals, services, trace.seconds)
        fixed = scenario.fleet_for(float(means.max(initial=0.0)))
        first = scenario.fleet_for(float(means[0])) if scenario.min_replicas else 0
        begun = scenario.starting_with(fixed if policy == "fixed" else first)
        world = Discrete(
            arrivals, services, scenario.policy(policy, fixed)(), policy, begun, wall_s=trace.wall_s
        )  # fmt: skip
        found = world.run(trace.seconds + scenario.timeout_s)
        total.add(found)
        if len(trace.endpoints) == 1:
            total.series = found.series
    return total


def _minute_means(counts: Floats) -> Floats:
    whole = len(counts) // PEAK_WINDOW_S * PEAK_WINDOW_S
    if not whole:
        return np.array([counts.mean()] if len(counts) else [])
    means: Floats = counts[:whole].reshape(-1, PEAK_WINDOW_S).mean(axis=1)
    return means


def _minute_concurrency(arrivals: Iterable[float], services: Iterable[float], seconds: float) -> Floats:
    """Requests at a time, on average over each minute, if none had to wait."""
    work = np.zeros(math.ceil(seconds / PEAK_WINDOW_S) + 1)
    for came, takes in zip(arrivals, services, strict=True):
        first, last = int(came // PEAK_WINDOW_S), int((came + takes) // PEAK_WINDOW_S)
        for minute in range(first, min(last + 1, len(work))):
            begin, end = minute * PEAK_WINDOW_S, (minute + 1) * PEAK_WINDOW_S
            work[minute] += min(came + takes, end) - max(came, begin)
    return work / PEAK_WINDOW_S
