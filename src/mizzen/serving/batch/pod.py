"""One Pod of a batch prediction's run, from its task to its exit code."""

import asyncio
import logging
import os
from datetime import UTC, datetime

from mizzen.data.pod import read_task, run_to_exit_code
from mizzen.data.pod_api import PodApi
from mizzen.serving.batch.own_worker import OwnWorker
from mizzen.serving.batch.reporting import StatusReporter
from mizzen.serving.batch.running import BatchPod, OpenPredictor
from mizzen.serving.batch.task import BatchTask
from mizzen.serving.batch.through_endpoint import ThroughEndpoint

INDEX = "JOB_COMPLETION_INDEX"


def ways_of(task: BatchTask) -> list[OpenPredictor]:
    """Who is asked, first choice first."""
    if task.way == "own":
        return [OwnWorker]
    return [lambda given, _: ThroughEndpoint(given), OwnWorker]


def main() -> int:
    """The process's exit code."""

    def body() -> None:
        task = read_task(BatchTask)
        index = int(os.environ.get(INDEX, "0"))
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each request helps nobody
        with PodApi() as api:
            pod = BatchPod(task, index, StatusReporter(api, task, index), ways_of(task), lambda: datetime.now(UTC))
            asyncio.run(pod.run())

    return run_to_exit_code(body)
