"""The queue's rules one by one, each as a short story in virtual time."""

import pytest

from mizzen.policy.queue import Batch, Expired, Failed, GiveUp, Phase, Queue, Refused, Request, Rules

LANE = "sha256:1"


class Story:
    """A queue with a clock, told in a few words."""

    def __init__(self, batch_rows_max: int = 8, rows_max: int = 100, **rules) -> None:
        self.queue = Queue(Rules(batch_rows_max=batch_rows_max, rows_max=rows_max, **rules))
        self.now = 0.0

    def offer(self, rows: int = 1, timeout_s: float = 30.0, group: str = "g", lane: str = LANE, **kwargs) -> Request:
        request = Request(rows, self.now + timeout_s, group, **kwargs)
        assert self.queue.offer(request, lane, self.now) == []
        return request

    def refused(self, rows: int = 1, timeout_s: float = 30.0, **kwargs) -> Refused:
        request = Request(rows, self.now + timeout_s, "g", **kwargs)
        (refused,) = self.queue.offer(request, LANE, self.now)
        assert refused.request is request
        return refused

    def assign(self) -> list[Batch]:
        commands = self.queue.assign(self.now)
        assert all(isinstance(command, Batch) for command in commands)
        return commands

    def one_batch(self) -> Batch:
        (batch,) = self.assign()
        return batch

    def answer(self, batch: Batch) -> list[Request]:
        """Those who still wanted it, in time."""
        wanted = [request for request in batch.requests if request.phase is Phase.RUNNING]
        late = [command.request for command in self.queue.answered(batch, self.now) if isinstance(command, Expired)]
        self.queue.grant(batch.worker, 1)
        return [request for request in wanted if request not in late]

    def lose(self, worker: str) -> list[Failed]:
        return self.queue.lost(worker, self.now)

    def fail(self, batch: Batch, message: str = "no") -> list[Failed]:
        failed = self.queue.failed(batch, message, self.now)
        self.queue.grant(batch.worker, 1)
        return failed


def test_an_idle_worker_is_given_what_waits_at_once():
    story = Story()
    story.queue.join("w", LANE, 1)
    request = story.offer()
    batch = story.one_batch()
    assert (batch.requests, batch.worker, batch.rows, request.phase) == ([request], "w", 1, Phase.RUNNING)


def test_requests_gather_while_all_workers_are_busy_and_then_go_together():
    story = Story(batch_rows_max=8)
    story.queue.join("w", LANE, 2)
    first = story.offer()
    batch = story.one_batch()
    others = [story.offer() for _ in range(3)]
    assert story.assign() == []
    assert story.answer(batch) == [first]
    assert story.one_batch().requests == others


def test_a_busy_worker_with_a_credit_is_sent_a_full_batch_only():
    story = Story(batch_rows_max=4)
    story.queue.join("w", LANE, 2)
    story.offer()
    story.one_batch()
    for _ in range(3):
        story.offer()
    assert story.assign() == []
    story.offer()
    assert story.one_batch().rows == 4
    for _ in range(9):
        story.offer()
    assert story.assign() == [], "both credits are used"


def test_the_longest_idle_worker_is_next():
    story = Story()
    for worker in ("a", "b", "c"):
        story.queue.join(worker, LANE, 1)
    workers = []
    for _ in range(6):
        story.offer()
        batch = story.one_batch()
        workers.append(batch.worker)
        story.answer(batch)
    assert workers == ["a", "b", "c", "a", "b", "c"]


def test_batches_hold_one_group_and_at_most_so_many_rows_in_order():
    story = Story(batch_rows_max=4)
    requests = [story.offer(rows=2), story.offer(rows=1, group="other"), story.offer(rows=2), story.offer(rows=1)]
    for worker in range(3):
        story.queue.join(worker, LANE, 1)
    found = [batch.requests for batch in story.assign()]
    assert found == [[requests[0], requests[2]], [requests[1]], [requests[3]]]


def test_the_earliest_deadline_goes_first():
    story = Story(batch_rows_max=1)
    late, soon = story.offer(timeout_s=30), story.offer(timeout_s=3)
    story.queue.join("w", LANE, 1)
    batch = story.one_batch()
    assert batch.requests == [soon]
    story.answer(batch)
    assert story.one_batch().requests == [late]


def test_what_is_late_is_never_run():
    story = Story()
    late, kept = story.offer(timeout_s=1), story.offer(timeout_s=9)
    assert story.queue.deadline_s() == 1.0
    story.now = 1.0
    story.queue.join("w", LANE, 1)
    batch, expired = story.queue.assign(story.now)
    assert (batch.requests, expired) == ([kept], Expired(late, worker_seen=True))
    assert late.phase is Phase.GONE


def test_expiry_tells_whether_any_worker_was_there():
    story = Story()
    alone = story.offer(timeout_s=1)
    story.now = 1.0
    assert story.queue.expire(story.now) == [Expired(alone, worker_seen=False)]
    story.queue.join("w", LANE, 1)
    running = story.offer(timeout_s=1)
    batch = story.one_batch()
    story.now = 2.0
    assert story.queue.expire(story.now) == [Expired(running, worker_seen=True), GiveUp(batch)]
    assert story.answer(batch) == [], "the answer comes too late and is nobody's"
    assert story.queue.deadline_s() is None


def test_a_full_queue_refuses_and_takes_again_when_there_is_room():
    story = Story(batch_rows_max=10, rows_max=10)
    story.offer(rows=10)
    story.refused()
    story.queue.join("w", LANE, 1)
    story.one_batch()
    story.offer(rows=10)


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits():
    story = Story(rows_max=10)
    assert story.offer(rows=11).phase is Phase.WAITING


def test_retry_after_is_what_waits_at_the_measured_rate():
    """100 rows answered each second and 300 waiting: room in 3 s."""
    story = Story(batch_rows_max=10, rows_max=300)
    story.queue.join("w", LANE, 1)
    while story.queue.rows_waiting < 300:
        story.offer(rows=10, timeout_s=60)
    (batch,) = story.assign()
    for _ in range(20):
        story.offer(rows=10, timeout_s=60)
        story.now += 0.1
        story.answer(batch)
        batch = story.one_batch()
    assert story.queue.rows_waiting == 290
    story.offer(rows=10)
    (lane,) = story.queue.statistics().lanes
    assert lane.drain_per_s == pytest.approx(100.0)
    assert story.refused().retry_after_s == pytest.approx(3.0)


def test_retry_after_is_the_next_deadline_while_nothing_is_answered():
    story = Story(rows_max=10)
    story.offer(rows=10, timeout_s=7.5)
    story.now = 0.5
    assert story.refused().retry_after_s == pytest.approx(7.0)


def test_who_leaves_the_queue_is_not_run():
    story = Story()
    gone, stays = story.offer(), story.offer()
    assert story.queue.cancel(gone) == []
    story.queue.join("w", LANE, 1)
    assert story.one_batch().requests == [stays]


def test_a_running_batch_is_given_up_when_the_last_of_it_has_left():
    story = Story()
    requests = [story.offer(), story.offer()]
    story.queue.join("w", LANE, 1)
    batch = story.one_batch()
    assert story.queue.cancel(requests[0]) == []
    assert story.queue.cancel(requests[1]) == [GiveUp(batch)]
    story.queue.returned(batch, story.now)
    assert story.queue.statistics().requests_waiting == 0


def test_one_bad_request_fails_alone():
    """Of eight requests one is bad: it is found by halving, and the seven are answered."""
    story = Story(batch_rows_max=8)
    requests = [story.offer() for _ in range(8)]
    bad = requests[5]
    story.queue.join("w", LANE, 1)
    answered, failed = [], []
    while batches := story.assign():
        for batch in batches:
            if bad in batch.requests:
                failed += story.fail(batch, "division by zero")
            else:
                answered += story.answer(batch)
    assert failed == [Failed(bad, "division by zero")]
    assert sorted(answered, key=lambda r: r.arrival) == [request for request in requests if request is not bad]
    assert story.queue.statistics().batches_halved == 3


def test_who_is_left_of_a_failed_batch_is_run_alone_before_it_is_blamed():
    story = Story()
    left, innocent = story.offer(), story.offer()
    story.queue.join("w", LANE, 1)
    batch = story.one_batch()
    story.queue.cancel(left)
    assert story.fail(batch) == []
    assert story.one_batch().requests == [innocent]


def test_a_lost_workers_batch_is_run_once_more_each_request_alone():
    story = Story()
    requests = [story.offer() for _ in range(3)]
    story.queue.join("a", LANE, 1)
    story.one_batch()
    assert story.lose("a") == []
    story.queue.join("b", LANE, 1)
    for request in requests:
        batch = story.one_batch()
        assert batch.requests == [request]
        assert story.answer(batch) == [request]


def test_who_was_with_a_lost_worker_stays_alone_though_it_is_given_back_unrun():
    story = Story()
    suspect = story.offer()
    story.queue.join("a", LANE, 1)
    story.one_batch()
    story.lose("a")
    story.queue.join("b", LANE, 1)
    story.queue.returned(story.one_batch(), story.now)
    other = story.offer()
    story.queue.join("c", LANE, 1)
    story.queue.grant("b", 1)
    assert [batch.requests for batch in story.assign()] == [[suspect], [other]]


def test_who_was_with_a_lost_worker_waits_for_an_idle_one_though_a_full_batch_could_be_sent_ahead():
    story = Story(batch_rows_max=8)
    story.queue.join("a", LANE, 2)
    story.queue.join("b", LANE, 1)
    first = story.offer(group="other")
    running = story.one_batch()
    suspect = story.offer()
    assert story.one_batch().worker == "b"
    story.lose("b")
    full = story.offer(rows=8)
    assert story.assign() == []
    assert (running.requests, story.answer(running)) == ([first], [first])
    assert [batch.requests for batch in story.assign()] == [[suspect]]
    assert full.phase is Phase.WAITING


def test_a_request_that_kills_two_workers_fails_and_takes_no_other_with_it():
    story = Story()
    killer, innocent = story.offer(), story.offer()
    story.queue.join("a", LANE, 1)
    story.one_batch()
    story.lose("a")
    story.queue.join("b", LANE, 1)
    assert story.one_batch().requests == [killer]
    (failed,) = story.lose("b")
    assert (failed.request, failed.lost) == (killer, True)
    story.queue.join("c", LANE, 1)
    assert story.answer(story.one_batch()) == [innocent]


def test_a_draining_worker_gets_no_more_and_what_it_gives_back_waits_in_its_old_place():
    story = Story(batch_rows_max=1)
    first, second = story.offer(), story.offer()
    story.queue.join("a", LANE, 1)
    batch = story.one_batch()
    story.queue.drain("a")
    story.queue.grant("a", 1)
    assert story.assign() == []
    assert story.queue.workers(LANE) == 0
    story.queue.returned(batch, story.now)
    story.queue.join("b", LANE, 1)
    batch = story.one_batch()
    assert batch.requests == [first]
    story.answer(batch)
    assert story.one_batch().requests == [second]


def test_what_waits_for_one_version_can_be_moved_to_another_and_keeps_its_order():
    story = Story()
    first, second = story.offer(lane="v1"), story.offer(lane="v1")
    third = story.offer(lane="v2")
    for request in story.queue.evict("v1"):
        story.queue.offer_again(request, "v2", story.now)
    story.queue.join("w", "v2", 1)
    assert story.one_batch().requests == [first, second, third]
    assert story.queue.rows_waiting == 0


def test_requests_that_stay_alone_are_never_put_together():
    story = Story()
    requests = [story.offer(alone=True), story.offer(), story.offer(alone=True)]
    for worker in range(3):
        story.queue.join(worker, LANE, 1)
    assert [batch.requests for batch in story.assign()] == [[request] for request in requests]


def test_places_left_behind_do_not_gather():
    """A client that comes and goes ten thousand times leaves nothing, though the queue is not served."""
    story = Story()
    stays = story.offer(timeout_s=1e9)
    for _ in range(10_000):
        story.queue.cancel(story.offer(timeout_s=1e6))
    (flow,) = story.queue._lanes[LANE].band(1).flows.values()
    assert sum(len(line.heap) for line in flow.lines.values()) <= 130
    assert story.queue.statistics().requests_waiting == 1
    story.queue.join("w", LANE, 1)
    assert story.one_batch().requests == [stays]


def test_statistics_tell_how_things_stand():
    story = Story()
    story.offer(rows=3)
    story.queue.join("w", LANE, 1)
    story.one_batch()
    story.offer(rows=2)
    found = story.queue.statistics()
    assert (found.rows_waiting, found.requests_waiting, found.batches_running, found.workers) == (2, 1, 1, 1)
