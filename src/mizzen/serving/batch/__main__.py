"""`python -m mizzen.serving.batch`: one Pod of a batch prediction's run."""

import asyncio
import contextlib
import logging
import os
import sys
from datetime import UTC, datetime

from mizzen.data.pod import read_task, run_to_exit_code
from mizzen.data.pod_api import PodApi
from mizzen.serving.batch.own_worker import OwnWorker
from mizzen.serving.batch.reporting import StatusReporter
from mizzen.serving.batch.running import BatchPod, OpenPredictor
from mizzen.serving.batch.task import BatchTask
from mizzen.serving.batch.through_endpoint import ThroughEndpoint

INDEX = "JOB_COMPLETION_INDEX"
NICE = 19


def ways_of(task: BatchTask) -> list[OpenPredictor]:
    """Who is asked, first choice first."""
    if task.way == "own":
        return [OwnWorker]
    return [lambda given, _: ThroughEndpoint(given), OwnWorker]


def step_back() -> None:
    """From now on this process and its children run while nobody else wants their processors."""
    if hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            return
    os.nice(NICE)


def main() -> int:
    """The process's exit code."""

    def body() -> None:
        task = read_task(BatchTask)
        index = int(os.environ.get(INDEX, "0"))
        if task.background:
            step_back()
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each request helps nobody
        with PodApi() as api:
            pod = BatchPod(task, index, StatusReporter(api, task, index), ways_of(task), lambda: datetime.now(UTC))
            asyncio.run(pod.run())

    return run_to_exit_code(body)


if __name__ == "__main__":
    sys.exit(main())
