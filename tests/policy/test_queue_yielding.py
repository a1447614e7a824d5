"""What clients notice of a batch prediction in their endpoint's queue, on virtual time: their 99th percentile stays."""

from random import Random

import pytest

from mizzen.policy.queue import BACKGROUND, Rules
from mizzen.policy.queue.yielding import DECIDE_EVERY, QUIET_S, SHARE_MAX, SHARE_MIN, SLACK_S, Yielding

from .simulated import Call, Simulation, arrivals, percentile

SECONDS, LEARNED_S = 60.0, 30.0
ROWS = 64


class Beside(Simulation):
    """An endpoint whose clients come as they please, and a batch prediction that has four requests on their way."""

    def ask_again(self, call: Call) -> None:
        again = Call(self.now, rows=call.rows, timeout_s=100.0, tenant="nightly", priority=BACKGROUND)
        self.at(self.now + 0.0003, lambda: self._come(again))

    def _end(self, call: Call, outcome: str) -> None:
        super()._end(call, outcome)
        if call.priority == BACKGROUND and self.now < SECONDS:
            self.ask_again(call)


def played(rate_per_s: float, fixed_s: float, row_s: float, workers: int, width: int) -> tuple[float, int]:
    """The 99th percentile of what clients waited once that is learned, in seconds, and the rows that the batch got done."""
    simulation = Beside(
        Rules(),
        fixed_s=fixed_s,
        row_s=row_s,
        workers=workers,
        noise=lambda chance: chance.lognormvariate(0, 0.1),
        seed=1,
    )
    nightly = [Call(0.0, rows=ROWS, timeout_s=100.0, tenant="nightly", priority=BACKGROUND) for _ in range(width)]
    clients = arrivals(rate_per_s, SECONDS, Random(2), lambda now: Call(now, timeout_s=30.0))
    simulation.play([*nightly, *clients])
    assert {call.outcome for call in clients} == {"ok"}
    rows = sum(
        request.rows for _, requests in simulation.batches_run for request in requests if request.tenant == "nightly"
    )
    return percentile([call.took_s for call in clients if call.came_s > LEARNED_S], 99), rows


@pytest.mark.parametrize(
    ("rate_per_s", "fixed_s", "row_s", "workers"),
    [
        pytest.param(200, 0.0005, 0.000005, 1, id="a small model"),
        pytest.param(20, 0.0001, 0.005, 1, id="a row is as long as a request"),
        pytest.param(100, 0.0001, 0.005, 1, id="half busy"),
        pytest.param(100, 0.0001, 0.005, 2, id="two workers"),
        pytest.param(30, 0.02, 0.0001, 1, id="most of it is the same for any batch"),
    ],
)
def test_clients_keep_their_99th_percentile(rate_per_s: float, fixed_s: float, row_s: float, workers: int) -> None:
    """Within one and a half times of what it is without the batch, or the slack, and the batch gets on nevertheless."""
    alone_s, _ = played(rate_per_s, fixed_s, row_s, workers, 0)
    beside_s, rows = played(rate_per_s, fixed_s, row_s, workers, 4)
    assert beside_s <= max(1.5 * alone_s, alone_s + SLACK_S)
    assert rows > 0


def test_nobody_else_no_rest() -> None:
    """Alone, the background has all of its workers' time; and has it again once the others were away for a while."""
    yielding = Yielding()
    yielding.began()
    yielding.ended(1.0, 0.5, 1)
    assert yielding.resume_s <= 1.0
    yielding.answered(1.0, 1.1)
    yielding.began()
    yielding.ended(2.0, 0.5, 1)
    assert yielding.resume_s == pytest.approx(2.0 + 0.5 * (1 / yielding.share - 1))
    yielding.began()
    yielding.ended(1.0 + QUIET_S, 0.5, 1)
    assert yielding.resume_s < 1.0 + QUIET_S


def test_what_is_slow_by_itself_is_not_the_background_s() -> None:
    """Answers scatter widely and now and then one takes ten times as long, with the background or without: it goes on."""
    chance, yielding, now, shares = Random(3), Yielding(), 0.0, []
    for _ in range(60 * DECIDE_EVERY):
        now += 0.01
        yielding.began()
        yielding.ended(now, 0.0001, 1)
        took_s = 0.0005 * chance.lognormvariate(0, 0.5) * (10 if chance.random() < 0.005 else 1)
        yielding.answered(now + 0.001, now + 0.001 + took_s)
        shares.append(yielding.share)
    assert sorted(shares)[len(shares) // 10] > 0.1, "nine tenths of the time"


def test_the_share_follows_what_is_measured() -> None:
    """It grows while answers are as fast as without the background, and is halved again and again while they are not."""
    yielding, now = Yielding(), 0.0
    for took_s, bound in ((0.001, SHARE_MAX), (0.003, SHARE_MIN)):
        for _ in range(60 * DECIDE_EVERY):
            now += 0.01
            yielding.answered(now - 0.001, now)  # it meets nothing
            yielding.began()
            yielding.answered(now - took_s, now)
            yielding.ended(now, 0.0001, 1)
            now += 0.01
        assert yielding.share == pytest.approx(bound)
