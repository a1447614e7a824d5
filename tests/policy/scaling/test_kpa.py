"""Knative's rule against a straightforward transcription of its source, on generated loads."""

import math

from hypothesis import given
from hypothesis import strategies as st

from mizzen.policy.scaling.decision import Seen
from mizzen.policy.scaling.kpa import Kpa, KpaSettings
from mizzen.policy.scaling.meter import Flow
from mizzen.policy.scaling.reactive import Windows


class Transcribed:
    """pkg/autoscaler/scaling/autoscaler.go, line by line, with its metric buckets as plain lists."""

    def __init__(self, spec: KpaSettings, ready: int) -> None:
        self.spec = spec
        self.buckets: dict[int, float] = {}
        self.first: int | None = None
        self.panic_time = 0.0 if ready > 1 else None
        self.max_panic_pods = ready if ready > 1 else 0
        self.delayed: list[tuple[float, int]] = []

    def record(self, now: float, concurrency: float) -> None:
        second = int(now)
        self.first = second if self.first is None else self.first
        self.buckets[second] = self.buckets.get(second, 0.0) + concurrency

    def average(self, now: float, window: float) -> float:
        if self.first is None:
            return 0.0
        second = int(now)
        span = min(round(window), second - self.first + 1)
        return sum(self.buckets.get(s, 0.0) for s in range(second - span + 1, second + 1)) / span

    def scale(self, now: float, original_ready: int) -> tuple[int, float]:
        spec, windows = self.spec, self.spec.windows
        ready_pods_count = max(1, original_ready)
        observed_stable, observed_panic = self.average(now, windows.stable_s), self.average(now, windows.panic_s)
        max_scale_up = math.ceil(windows.scale_up_rate * ready_pods_count)
        max_scale_down = math.floor(ready_pods_count / windows.scale_down_rate)
        dspc = math.ceil(observed_stable / spec.target)
        dppc = math.ceil(observed_panic / spec.target)
        desired_stable = min(max(dspc, max_scale_down), max_scale_up)
        desired_panic = min(max(dppc, max_scale_down), max_scale_up)
        if spec.activation_scale > 1:
            if dspc > 0 and spec.activation_scale > desired_stable:
                desired_stable = spec.activation_scale
            if dppc > 0 and spec.activation_scale > desired_panic:
                desired_panic = spec.activation_scale
        is_over = dppc / ready_pods_count >= windows.panic_threshold
        if (self.panic_time is None and is_over) or is_over:
            self.panic_time = now
        elif self.panic_time is not None and self.panic_time + windows.stable_s < now:
            self.panic_time, self.max_panic_pods = None, 0
        desired = desired_stable
        if self.panic_time is not None:
            desired = max(desired, desired_panic)
            self.max_panic_pods = max(self.max_panic_pods, desired)
            desired = self.max_panic_pods
        if spec.scale_down_delay_s > 0:
            self.delayed.append((now, desired))
            desired = max(n for at, n in self.delayed if at > now - spec.scale_down_delay_s)
        excess = math.floor(original_ready * spec.capacity - spec.target_burst_capacity - observed_panic)
        return min(max(desired, spec.min_replicas), spec.max_replicas), excess


SPECS = st.builds(
    KpaSettings,
    container_concurrency=st.sampled_from([0.0, 1.0, 4.0, 10.0]),
    min_replicas=st.integers(0, 2),
    max_replicas=st.sampled_from([3, 50, 1000]),
    windows=st.builds(
        Windows, stable_s=st.sampled_from([20.0, 60.0]), panic_s=st.sampled_from([2.0, 6.0]),
        panic_threshold=st.sampled_from([1.5, 2.0]), scale_up_rate=st.sampled_from([2.0, 1000.0]),
        scale_down_rate=st.sampled_from([2.0, 4.0]),
    ),
    scale_down_delay_s=st.sampled_from([0.0, 10.0]),
    activation_scale=st.sampled_from([1, 3]),
)  # fmt: skip
STEPS = st.lists(
    st.tuples(
        st.sampled_from([1.0, 2.0, 2.5, 30.0, 200.0]),
        st.integers(0, 4000).map(lambda eighths: eighths / 8),
        st.booleans(),
    ),
    max_size=60,
)


@given(spec=SPECS, steps=STEPS, ready=st.integers(0, 5))
def test_it_decides_what_the_transcription_decides(spec: KpaSettings, steps, ready: int) -> None:
    ours, oracle, now = Kpa(spec), Transcribed(spec, ready), 0.0
    for number, (passed, concurrency, follows) in enumerate(steps):
        now += passed if number else 0.0
        ours.report(now, 0.0, Flow(concurrency_s=concurrency))
        oracle.record(now, concurrency)
        desired = ours.decide(now, 0.0, Seen(ready, ready)).desired
        expected, excess = oracle.scale(now, ready)
        assert (desired, ours.excess_burst_capacity) == (expected, excess)
        ready = desired if follows else ready


def load(kpa: Kpa, begin: int, seconds: int, concurrency: float) -> None:
    for second in range(begin, begin + seconds):
        kpa.report(float(second), 0.0, Flow(concurrency_s=concurrency))


def test_a_burst_starts_a_panic_which_only_grows_until_a_stable_window_has_passed() -> None:
    kpa = Kpa(KpaSettings(container_concurrency=10.0))
    load(kpa, 0, 60, 7.0)
    assert kpa.decide(59.0, 0.0, Seen(1, 1)).desired == 1
    load(kpa, 60, 6, 70.0)
    burst = kpa.decide(65.0, 0.0, Seen(1, 1))
    assert (burst.desired, burst.rule) == (10, "panic")
    load(kpa, 66, 61, 7.0)
    assert kpa.decide(70.0, 0.0, Seen(10, 10)).desired == 10, "no fewer while it lasts"
    assert kpa.decide(125.0, 0.0, Seen(10, 10)).desired == 10, "60 s since the threshold was last crossed"
    assert kpa.decide(126.0, 0.0, Seen(10, 10)).desired == 5, "at most halved at once"


def test_it_begins_at_what_is_there_already() -> None:
    """Taking over four workers without any history, it takes none away for a stable window."""
    kpa = Kpa(KpaSettings(container_concurrency=10.0))
    kpa.report(0.0, 0.0, Flow(concurrency_s=1.0))
    assert kpa.decide(0.0, 0.0, Seen(4, 4)).desired == 4
    assert kpa.decide(60.0, 0.0, Seen(4, 4)).desired == 4
    assert kpa.decide(61.0, 0.0, Seen(4, 4)).desired == 2
