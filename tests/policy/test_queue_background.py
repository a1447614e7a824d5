"""Batch predictions in an endpoint's queue: behind everybody, never ahead of an idle worker, short in time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.policy.queue import BACKGROUND, Batch, Queue, Request, Rules
from mizzen.policy.queue.rules import BACKGROUND_S

NIGHTLY = "nightly"


def background(rows: int) -> Request:
    return Request(rows, 1000.0, None, tenant=NIGHTLY, priority=BACKGROUND)


def live(rows: int = 1, priority: int = 0) -> Request:
    return Request(rows, 1000.0, None, tenant="shop", priority=priority)


def batches(queue: Queue, now: float) -> list[Batch]:
    return [command for command in queue.assign(now) if isinstance(command, Batch)]


def joined(rules: Rules, credits_: int = 2) -> Queue:
    queue = Queue(rules)
    queue.join("w", "v", credits_)
    return queue


def taught(rules: Rules, row_s: float, credits_: int = 2) -> Queue:
    """A queue that has learned that a row takes so long."""
    queue, now = joined(rules, credits_), 0.0
    for number in range(40):
        queue.offer(live(1 + number % 64), "v", now)
        (batch,) = batches(queue, now)
        now += 1e-5 + row_s * batch.rows
        queue.answered(batch, now)
        queue.grant("w", 1)
    return queue


@pytest.mark.parametrize("levels", [1, 3])
def test_everybody_else_is_first(levels: int) -> None:
    """With one level or several, the background is run last."""
    queue = joined(Rules(priority_levels=levels, priority_default=levels, batch_rows_max=8), 1)
    queue.offer(live(), "v", 0.0)
    (running,) = batches(queue, 0.0)
    queue.offer(background(8), "v", 0.0)
    queue.offer(live(8), "v", 0.0)
    queue.answered(running, 0.1)
    queue.grant("w", 1)
    (following,) = batches(queue, 0.1)
    assert [request.tenant for request in following.requests] == ["shop"]


def test_a_busy_worker_is_sent_none_ahead() -> None:
    """Full batches of others are sent to a worker that is busy; a batch prediction's wait until it is idle."""
    queue = joined(Rules(batch_rows_max=8))
    for _ in range(4):
        queue.offer(background(8), "v", 0.0)
    assert len(batches(queue, 0.0)) == 1
    queue.offer(live(8), "v", 0.0)
    (ahead,) = batches(queue, 0.0)
    assert ahead.requests[0].tenant == "shop"


def test_its_rows_do_not_fill_up_the_batches_of_others() -> None:
    """A request of one row is a batch of one row, though the batch prediction's would fit beside it."""
    queue = joined(Rules(batch_rows_max=256), 1)
    queue.offer(live(), "v", 0.0)
    queue.offer(background(64), "v", 0.0)
    (batch,) = batches(queue, 0.0)
    assert batch.rows == 1


@settings(deadline=None, max_examples=40)
@given(row_s=st.floats(1e-6, 0.05), rows=st.integers(1, 2000))
def test_its_batches_are_short_in_time(row_s: float, rows: int) -> None:
    """Whatever a row costs, a batch of its rows takes what others may wait, or is of one row; and all rows are run."""
    queue = taught(Rules(batch_rows_max=256, rows_max=100_000), row_s)
    now, run = 100.0, 0
    queue.offer(background(rows), "v", now)
    while run < rows:
        (batch,) = batches(queue, now)
        assert batch.rows == 1 or batch.rows * row_s <= BACKGROUND_S * 1.1
        run += batch.rows
        now += 1e-5 + row_s * batch.rows
        if now > 900.0:
            break
        queue.answered(batch, now)
        queue.grant("w", 1)


def test_a_full_queue_gives_its_place_to_others() -> None:
    """The batch prediction loses its place to whoever comes, and not the other way round."""
    queue = joined(Rules(rows_max=16, batch_rows_max=8), 1)
    queue.offer(live(8), "v", 0.0)
    batches(queue, 0.0)
    late = background(16)
    assert queue.offer(late, "v", 0.0) == []
    (pushed,) = queue.offer(live(4), "v", 0.0)
    assert pushed.request is late
    assert [refused.request.tenant for refused in queue.offer(background(16), "v", 0.0)] == [NIGHTLY]
