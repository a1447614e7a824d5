"""Pods of a batch prediction for the tests, forked from a process that has imported everything already.

Each line of standard input is `{"task": …, "dieAt": [3, 0]}`: one Pod for each number, at work at the same time, each
killed by SIGKILL at that effect on the world (0: never). Each line of standard output is the list of exit statuses,
negative where a signal ended one.
"""
# ruff: noqa: PLW0603 - one counter for one short-lived process

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.batch.builders import Told
from tests.batch.doubling import doubling

from mizzen.data.lake import log
from mizzen.data.lake.objects import Store
from mizzen.kinds.batch import BatchResult
from mizzen.kinds.data import LoadReport
from mizzen.serving.batch.running import BatchPod
from mizzen.serving.batch.task import BatchTask

effects = die_at = 0


def step() -> None:
    global effects
    effects += 1
    if effects == die_at:
        os.kill(os.getpid(), signal.SIGKILL)


def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Counts before and after each call as effects, and dies at the one that was asked for."""

    def counted(*args: Any, **kwargs: Any) -> Any:
        step()
        result = function(*args, **kwargs)
        step()
        return result

    return counted


class Deadly(Told):
    def loaded(self, report: LoadReport) -> None:
        step()

    def finish(self, result: BatchResult) -> None:
        step()


def child(task: BatchTask, index: int, dies: int) -> int:
    global die_at
    die_at = dies
    Store.put = deadly(Store.put)  # type: ignore[method-assign]
    Store.delete = deadly(Store.delete)  # type: ignore[method-assign]
    log.put_entry = deadly(log.put_entry)
    try:
        asyncio.run(BatchPod(task, index, Deadly(), [doubling], lambda: datetime.now(UTC)).run())
    except BaseException as error:  # noqa: BLE001 - the child's end
        print(repr(error), file=sys.stderr, flush=True)
        return 1
    return 0


for line in sys.stdin:
    order = json.loads(line)
    task = BatchTask.model_validate(order["task"])
    pids = []
    for index, dies in enumerate(order["dieAt"]):
        pid = os.fork()
        if pid == 0:
            os._exit(child(task, index, dies))
        pids.append(pid)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)
