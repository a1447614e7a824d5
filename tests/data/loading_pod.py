"""A loading Pod for the tests: it reports to a file, and dies by SIGKILL at the effect on the world that it is told.

MIZZEN_TASK=… REPORTS=FILE [DIE_AT=n] python loading_pod.py
"""
# ruff: noqa: PLW0603 - one counter for one short-lived process

import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mizzen.data.ingest.main import ingest
from mizzen.data.ingest.task import IngestTask
from mizzen.data.lake import log
from mizzen.data.lake.objects import Store
from mizzen.data.pod import read_task, run_to_exit_code
from mizzen.kinds.data import LoadReport

effects = 0


def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Counts before and after each call as effects, and dies at the one in DIE_AT."""

    def counted(*args: Any, **kwargs: Any) -> Any:
        step()
        result = function(*args, **kwargs)
        step()
        return result

    return counted


def step() -> None:
    global effects
    effects += 1
    if effects == int(os.environ.get("DIE_AT", "0")):
        os.kill(os.getpid(), signal.SIGKILL)


class FileReporter:
    def report(self, report: LoadReport) -> None:
        step()
        with Path(os.environ["REPORTS"]).open("a") as file:
            file.write(report.model_dump_json(by_alias=True) + "\n")
        step()


Store.put = deadly(Store.put)  # type: ignore[method-assign]
log.put_entry = deadly(log.put_entry)
sys.exit(run_to_exit_code(lambda: ingest(read_task(IngestTask), FileReporter(), lambda: datetime.now(UTC))))
