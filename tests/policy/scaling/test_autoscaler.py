"""The autoscaler's rules one by one, each as a short story in virtual time."""

from dataclasses import replace
from itertools import pairwise

from mizzen.policy.scaling.autoscaler import Autoscaler
from mizzen.policy.scaling.decision import NEVER_S, Decision, Seen
from mizzen.policy.scaling.meter import Flow
from mizzen.policy.scaling.reactive import Windows
from mizzen.policy.scaling.schedules import Window
from mizzen.policy.scaling.settings import Settings
from mizzen.policy.scaling.targets import Targets

SETTINGS = Settings(min_replicas=0, max_replicas=10, targets=Targets(concurrency=1.0), scale_to_zero_after_s=300.0)


class Story:
    """One endpoint whose requests take 0.5 s at a worker; reports and decisions every second."""

    def __init__(self, settings: Settings = SETTINGS, ready: int = 0) -> None:
        self.scaler = Autoscaler(settings)
        self.now = 1000.0
        self.wall_s = 1_800_000_000.0
        self.ready = self.wanted = ready
        self.said: list[Decision] = []

    def decide(self, *, waiting: int = 0, running: int = 0, reporting: bool = True) -> Decision:
        seen = Seen(self.ready, self.wanted, waiting, running, reporting)
        decision = self.scaler.decide(self.now, self.wall_s, seen)
        self.said.append(decision)
        return decision

    def serve(self, seconds: int, rate: float, *, follow: bool = True) -> Decision:
        """`rate` requests a second come and are served at once."""
        for _ in range(seconds):
            self.now += 1.0
            self.wall_s += 1.0
            if rate:
                busy = rate * 0.5
                flow = Flow(arrivals=rate, concurrency_s=busy, busy_s=busy, answered=rate)
                self.scaler.report(self.now, self.wall_s, flow)
            decision = self.decide(running=1 if rate else 0)
            if follow:
                self.ready = self.wanted = decision.desired
        return self.said[-1]


def test_a_burst_to_zero_starts_one() -> None:
    story = Story(ready=1)
    assert (story.decide().desired, story.decide().again_s) == (1, 6.0), "nothing is known: it keeps what is there"
    story.serve(400, 0.0)
    assert story.wanted == 0
    story.scaler.report(story.now, story.wall_s, Flow(arrivals=500, concurrency_s=50.0))
    decision = story.decide(waiting=500)
    assert (decision.desired, decision.rule) == (1, "waiting")
    story.wanted = 1
    for _ in range(20):
        story.now += 1.0
        story.scaler.report(story.now, story.wall_s, Flow(concurrency_s=500.0, waiting_s=500.0))
        assert story.decide(waiting=500).desired == 1, "until the first is ready"


def test_a_policy_that_begins_or_hears_nothing_starts_no_worker() -> None:
    """The control plane of a thousand idle endpoints is restarted, or their gateway is."""
    story = Story()
    for reporting in (False, True, False, True):
        assert {story.decide(reporting=reporting).desired for _ in range(20)} == {0}
        story.serve(30, 0.0)
        assert (story.wanted, story.said[-1].rule) == (0, "idle")
    assert {said.again_s for said in story.said if said.desired == 0} == {NEVER_S}, "and there is nothing to look at"
    assert story.decide(waiting=1).desired == 1


def test_a_burst_to_zero_starts_more_where_it_is_known_what_a_request_takes() -> None:
    story = Story()
    story.serve(60, 10.0)
    story.serve(400, 0.0)
    assert story.wanted == 0
    story.scaler.report(story.now, story.wall_s, Flow(arrivals=60, concurrency_s=30.0, waiting_s=30.0))
    assert story.decide(waiting=60).desired == 5, "10 a second over 6 s, 0.5 s each"


def test_what_waits_while_workers_start_does_not_compound() -> None:
    """20 requests a second to one worker that can do 2: ten are needed, and no more are asked for while they start."""
    story = Story(replace(SETTINGS, max_replicas=1000, min_replicas=1), ready=1)
    story.serve(120, 1.0)
    waiting = 0
    wanted = []
    for _ in range(30):
        story.now += 1.0
        waiting += 18
        flow = Flow(arrivals=20, concurrency_s=waiting + 1.0, busy_s=1.0, answered=2, waiting_s=waiting)
        story.scaler.report(story.now, story.wall_s, flow)
        story.wanted = story.decide(waiting=waiting, running=1).desired
        wanted.append(story.wanted)
    assert max(wanted) <= 10 + 30 * 18 / 5 * 0.5, "ten for what comes, and those that work off what waits in 5 s"
    assert wanted[10] < 40


def test_more_is_followed_over_the_panic_window_and_less_over_the_stable_one() -> None:
    story = Story(replace(SETTINGS, min_replicas=1), ready=4)
    story.serve(130, 7.0)
    assert story.wanted == 4
    story.serve(6, 11.0)
    assert story.wanted == 6
    story.serve(30, 7.0)
    assert story.wanted >= 5
    story.serve(60, 7.0)
    assert story.wanted == 4


def test_a_panic_takes_none_away_until_it_has_passed() -> None:
    story = Story(replace(SETTINGS, min_replicas=1), ready=1)
    story.serve(130, 1.0)
    assert story.serve(6, 12.0).rule == "panic"
    assert story.wanted == 6
    story.serve(50, 1.0)
    assert story.wanted == 6
    story.serve(80, 1.0)
    assert story.wanted == 1


def test_rate_limits_hold_both_ways() -> None:
    windows = Windows(scale_up_rate=2.0, scale_down_rate=2.0)
    story = Story(replace(SETTINGS, min_replicas=1, windows=windows, max_replicas=100), ready=1)
    story.serve(8, 80.0)
    story.serve(200, 1.0)
    steps = [(a.desired, b.desired) for a, b in pairwise(story.said)]
    assert max(after / before for before, after in steps) <= 2.0
    assert all(after >= before // 2 for before, after in steps)


def test_a_number_is_kept_until_fewer_would_fit_with_room() -> None:
    """2.9 would fit into three workers, but just; from 2.7 on three are enough."""
    story = Story(replace(SETTINGS, min_replicas=1), ready=4)
    story.serve(130, 7.0)
    story.serve(70, 5.8)
    assert (story.wanted, story.said[-1].rule) == (4, "hysteresis")
    story.serve(70, 5.4)
    assert story.wanted == 3


def test_fewer_must_have_been_enough_for_the_delay() -> None:
    story = Story(replace(SETTINGS, min_replicas=1, scale_down_delay_s=120.0), ready=4)
    story.serve(130, 7.0)
    story.serve(100, 1.0)
    assert story.wanted == 4
    story.serve(200, 1.0)
    assert story.wanted == 1


def test_what_is_not_reported_is_not_known() -> None:
    """Silence is not idleness: nothing is taken away, however long it lasts; what is known still adds."""
    story = Story(replace(SETTINGS, min_replicas=1), ready=4)
    story.serve(130, 7.0)
    for _ in range(1000):
        story.now += 1.0
        decision = story.decide(reporting=False)
        assert decision.desired == 4
    assert decision.rule == "notReported"
    assert story.serve(30, 1.0).desired == 4, "nor before a stable window was reported"
    assert story.serve(40, 1.0).desired < 4


def test_the_last_worker_does_not_go_while_nothing_is_known() -> None:
    story = Story()
    story.serve(100, 1.0)
    for _ in range(1000):
        story.now += 1.0
        decision = story.decide(reporting=False)
        assert decision.desired == 1
        assert decision.again_s <= 6.0
    story.serve(290, 0.0)
    assert story.wanted == 1, "its keep-alive begins when it is known that nothing comes"
    story.serve(20, 0.0)
    assert story.wanted == 0


def test_the_last_worker_stays_for_its_keep_alive_and_then_nothing_costs_anything() -> None:
    story = Story()
    story.serve(100, 1.0)
    ended = story.now
    while story.wanted:
        decision = story.serve(1, 0.0)
    assert story.now - ended == 300.0
    assert decision.rule == "idle"
    assert decision.why == "no request for 300 s"
    settled = story.serve(1, 0.0)
    assert (settled.desired, settled.again_s) == (0, NEVER_S)


def test_keep_alive_is_learned_and_a_worker_is_there_before_the_request() -> None:
    """A request every half hour, ten times; then the worker goes at once, and is back before the next."""
    story = Story(replace(SETTINGS, scale_to_zero_after_s=None))
    for _ in range(12):
        story.serve(1, 1.0)
        story.serve(1799, 0.0)
    story.serve(1, 1.0)
    went = came = None
    began = story.now
    for _ in range(1798):
        before = story.wanted
        story.serve(1, 0.0)
        if before and not story.wanted:
            went = story.now - began
        if not before and story.wanted:
            came = story.now - began
    assert went is not None
    assert went < 120.0
    assert came is not None
    assert 1500.0 < came < 1700.0
    assert story.wanted == 1
    assert "idle times" in story.said[-1].why


def test_a_time_to_ready_makes_the_forecast_look_ahead() -> None:
    """A ramp of 2 a second each second: with 30 s to ready, workers are asked for before they are needed."""

    def wanted_at(policy: str) -> int:
        story = Story(replace(SETTINGS, min_replicas=1, max_replicas=1000, policy=policy), ready=5)
        story.scaler.started(30.0)
        for _ in range(12):
            story.serve(300, 10.0)
            for second in range(80):
                story.serve(1, 10.0 + 2.0 * second)
            middle = story.wanted
            story.serve(200, 10.0)
        return middle

    reactive, forecast = wanted_at("reactive"), wanted_at("forecast")
    assert forecast > reactive * 1.2


def test_schedules_and_bounds_have_the_last_word() -> None:
    office = Window("UTC", frozenset(range(7)), 8 * 60, 18 * 60, 3, None, "08:00 to 18:00 every day UTC")
    story = Story(replace(SETTINGS, schedules=(office,)))
    story.wall_s = 1_767_340_670.0  # 2 January 2026, 07:57:50 UTC
    story.serve(71, 0.0)
    assert story.wanted <= 1
    decision = story.serve(60, 0.0)
    assert (decision.desired, decision.rule) == (3, "schedule")
    assert decision.why.startswith("at least 3 from 08:00 to 18:00 every day UTC")
    assert story.serve(20, 500.0).desired == 10


def test_a_wall_clock_that_jumps_moves_schedules_and_nothing_else() -> None:
    steady, jumping = (Story(replace(SETTINGS, min_replicas=1), ready=4) for _ in range(2))
    for second in range(300):
        jumping.wall_s += (-1) ** second * 40_000_000.0
        assert steady.serve(1, 7.0).desired == jumping.serve(1, 7.0).desired


def test_a_monotonic_clock_that_stands_or_goes_back_keeps_the_number() -> None:
    story = Story(replace(SETTINGS, min_replicas=1), ready=4)
    story.serve(130, 7.0)
    story.now -= 500.0
    assert 1 <= story.serve(10, 7.0).desired <= 10
    story.now += 100_000.0
    assert 1 <= story.serve(10, 7.0).desired <= 10
