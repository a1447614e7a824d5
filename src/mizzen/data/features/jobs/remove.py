"""`python -m mizzen.data.features.jobs.remove`: takes the records of a view that is deleted out of the online store."""

import logging
import sys
from contextlib import closing

from mizzen.data.features.jobs.reporting import FAILURES, as_failure
from mizzen.data.features.jobs.task import RemoveTask
from mizzen.data.features.online import catalog
from mizzen.data.features.online.opening import open_store
from mizzen.data.pod import read_task, run_to_exit_code

_LOG = logging.getLogger(__name__)


def run(task: RemoveTask) -> None:
    """Raises `Failure`; repeating is safe."""
    try:
        with closing(open_store(task.online_url)) as online:
            removed = catalog.remove(online, task.namespace, task.name)
    except FAILURES as error:
        raise as_failure(error) from error
    _LOG.info("%s: %d records were taken away", task.name, removed)


def main() -> int:
    """The process's exit code."""
    return run_to_exit_code(lambda: run(read_task(RemoveTask)))


if __name__ == "__main__":
    sys.exit(main())
