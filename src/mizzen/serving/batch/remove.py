"""`python -m mizzen.serving.batch.remove`: takes away what the runs of a deleted BatchPrediction have kept."""

import logging
import sys

from mizzen.data.lake.errors import LakeError
from mizzen.data.lake.objects import Store
from mizzen.data.pod import TRY_AGAIN, Failure, read_task, run_to_exit_code
from mizzen.kinds.meta import Wire
from mizzen.serving.batch.kept import forget_all
from mizzen.serving.batch.task import folder_of

log = logging.getLogger("mizzen.batch")


class RemoveTask(Wire):
    """All that the Pod needs."""

    namespace: str
    name: str
    """The batch prediction's."""
    store_url: str


def run(task: RemoveTask) -> None:
    """Raises `Failure`; repeating is safe."""
    try:
        removed = forget_all(Store.open(task.store_url), folder_of(task.namespace, task.name))
    except (LakeError, OSError) as error:
        raise Failure("StoreFailed", str(error), exit_code=TRY_AGAIN) from error
    log.info("%s: %d objects were taken away", task.name, removed)


def main() -> int:
    """The process's exit code."""
    return run_to_exit_code(lambda: run(read_task(RemoveTask)))


if __name__ == "__main__":
    sys.exit(main())
