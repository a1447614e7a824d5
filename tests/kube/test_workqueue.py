"""A key waits once, is worked on by one worker at a time, and always once more after its last `add`."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.kube.backoff import Backoff, Growth
from mizzen.kube.workqueue import TokenBucket, WorkQueue

from . import virtual

steps = st.tuples(
    st.sampled_from("abc"), st.sampled_from(["add", "after", "limited"]), st.floats(0, 5), st.floats(0, 3)
)


@given(script=st.lists(steps, max_size=30), workers=st.integers(1, 3), work_s=st.floats(0, 2))
@settings(max_examples=80, deadline=None)
def test_each_key_is_worked_on_alone_and_once_more_after_its_last_add(
    script: list[tuple[str, str, float, float]], workers: int, work_s: float
) -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue(rng=lambda: 0.5)
        loop = asyncio.get_running_loop()
        working: set[str] = set()
        began: dict[str, float] = {}
        wanted: dict[str, float] = {}

        async def worker() -> None:
            while (key := await queue.get()) is not None:
                assert key not in working, "two workers on one key"
                working.add(key)
                began[key] = loop.time()
                await asyncio.sleep(work_s)
                working.discard(key)
                queue.done(key)

        tasks = [asyncio.create_task(worker()) for _ in range(workers)]
        for key, how, wait_s, pause_s in script:
            if how == "add":
                queue.add(key)
                wanted[key] = loop.time()
            elif how == "after":
                queue.add_after(key, wait_s)
                wanted.setdefault(key, loop.time())
            else:
                queue.add_rate_limited(key)
                wanted.setdefault(key, loop.time())
            await asyncio.sleep(pause_s)
        await asyncio.sleep(1000)
        assert began.keys() == wanted.keys()
        assert all(began[key] >= wanted[key] for key in wanted)
        statistics = queue.statistics()
        assert (statistics.waiting, statistics.working, statistics.later) == (0, 0, 0)
        queue.shutdown()
        await asyncio.gather(*tasks)

    virtual.run(main())


@pytest.mark.looptime
async def test_a_key_added_many_times_waits_once_and_first_come_is_first_served() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in "abacab":
        queue.add(key)
    assert [await queue.get() for _ in range(3)] == ["a", "b", "c"]
    assert queue.statistics().waiting == 0
    queue.add("a")
    assert queue.statistics().waiting == 0, "a is being worked on: it waits for that to end"
    queue.done("a")
    assert await queue.get() == "a"


@pytest.mark.looptime
async def test_of_several_later_adds_the_earliest_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 50)
    queue.add_after("a", 10)
    queue.add_after("a", 30)
    assert await queue.get() == "a"
    assert asyncio.get_running_loop().time() == 10
    queue.done("a")
    await asyncio.sleep(100)
    assert queue.statistics().waiting == 0


@pytest.mark.looptime
async def test_waits_of_a_failing_key_double_until_it_is_forgotten() -> None:
    queue: WorkQueue[str] = WorkQueue(growth=Growth(1.0, 10.0, jitter=0.0))
    assert [queue.add_rate_limited("a") for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert queue.failures("a") == 6
    queue.forget("a")
    assert queue.add_rate_limited("a") == 1


@pytest.mark.looptime
async def test_many_failing_keys_are_held_to_one_rate() -> None:
    """After the burst, a thousand keys that fail at once come back at the overall rate and not sooner."""
    queue: WorkQueue[int] = WorkQueue(growth=Growth(0.01, 1.0, jitter=0.0), retries_per_s=20, retries_burst=100)
    for key in range(1000):
        queue.add_rate_limited(key)
    seen = []
    for _ in range(1000):
        key = await queue.get()
        seen.append(asyncio.get_running_loop().time())
        queue.done(key)
    assert sum(1 for at_s in seen if at_s <= 1.0) == 100 + 20
    assert seen[-1] == pytest.approx(900 / 20)


@pytest.mark.looptime
async def test_shutdown_wakes_waiting_workers_and_gives_nothing_out() -> None:
    queue: WorkQueue[str] = WorkQueue()
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(1)
    queue.add_after("later", 5)
    queue.shutdown()
    queue.add("a")
    assert await asyncio.gather(*waiting, queue.get()) == [None] * 4
    await asyncio.sleep(10)
    assert queue.statistics().waiting == 0


@pytest.mark.looptime
async def test_idle_waits_for_the_work_in_hand() -> None:
    queue: WorkQueue[str] = WorkQueue()
    await queue.idle()
    queue.add("a")
    await queue.get()
    asyncio.get_running_loop().call_later(7, queue.done, "a")
    await queue.idle()
    assert asyncio.get_running_loop().time() == 7


@given(st.floats(0.1, 100), st.integers(1, 50), st.lists(st.floats(0, 5), max_size=60))
def test_a_token_bucket_gives_no_more_than_burst_and_rate(rate_per_s: float, burst: int, pauses_s: list[float]) -> None:
    """In any window that begins with the first token: at most burst + rate x length."""
    bucket, now_s, given_at = TokenBucket(rate_per_s, burst), 0.0, []
    for pause_s in pauses_s:
        now_s += pause_s
        given_at.append(now_s + bucket.take(now_s))
    for count, at_s in enumerate(sorted(given_at), start=1):
        assert count <= burst + rate_per_s * at_s + 1e-6


def test_waits_never_overflow_and_stay_within_their_bounds() -> None:
    backoff = Backoff(Growth(0.1, 10.0), rng=lambda: 0.999)
    waits = [backoff.next_s() for _ in range(5000)]
    assert max(waits) <= 10.0
    assert min(waits) >= 0.07
    backoff.reset()
    assert backoff.next_s() < 0.1
