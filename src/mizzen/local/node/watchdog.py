"""Memory limits where no control group holds them: once a second, what a container's processes use is counted.

One that uses more than its limit is killed and reported as OOMKilled. That is later than a kernel would be, and costs a
look at each process; it is only done for containers that have a limit, and only without a memory control group.
"""

import asyncio
from collections.abc import Callable, Iterable

from mizzen.local.node import processes
from mizzen.local.node.attempts import Attempt
from mizzen.local.node.containers import memory_limit
from mizzen.local.node.podworker import PodWorker

LOOK_S = 1.0


async def watch(workers: Callable[[], Iterable[PodWorker]]) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        limited = [
            (attempt, limit)
            for worker in workers()
            for spec in worker.pod.containers
            if (limit := memory_limit(spec)) is not None
            and worker.state.containers[spec.name].alive
            and (attempt := worker.attempt(spec.name)) is not None
        ]
        for attempt, limit in limited:
            await asyncio.to_thread(check, attempt, limit)


def check(attempt: Attempt, limit_bytes: int) -> bool:
    """Kills a container that uses more than its limit. Returns whether it did."""
    running = attempt.running()
    if running is None or not attempt.alive() or processes.memory_bytes(running.pid) <= limit_bytes:
        return False
    attempt.mark_out_of_memory()
    attempt.request_stop(0)
    return True
