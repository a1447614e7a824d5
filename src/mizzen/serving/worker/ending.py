"""How a worker's process ends: an exit code, and the reason where the kubelet finds it."""

import sys
import traceback
from collections.abc import Callable

from mizzen.serving.worker.errors import TaskError
from mizzen.serving.worker.task import Surroundings

HOPELESS, TRY_AGAIN = 2, 1


def exit_code_of(serve: Callable[[], None], surroundings: Surroundings, passing: tuple[type[Exception], ...]) -> int:
    """Runs it: 0 at its end, 2 after `TaskError` (starting again will not help), 1 after one of `passing`, and after
    whatever nobody foresaw (it may).
    """
    try:
        serve()
    except TaskError as error:
        say_last_words(surroundings, str(error))
        return HOPELESS
    except passing as error:
        say_last_words(surroundings, str(error))
        return TRY_AGAIN
    except Exception as error:  # noqa: BLE001 - the process's boundary: whatever it is ends in a code and a line
        traceback.print_exception(error)
        say_last_words(surroundings, f"{type(error).__name__}: {error}")
        return TRY_AGAIN
    return 0


def say_last_words(surroundings: Surroundings, message: str) -> None:
    """Leaves the reason why this process ends where the kubelet finds it, and on standard error."""
    print(message, file=sys.stderr, flush=True)
    try:
        surroundings.termination_log.parent.mkdir(parents=True, exist_ok=True)
        surroundings.termination_log.write_text(message[:4096])
    except OSError as error:
        print(f"{surroundings.termination_log}: cannot write the termination message: {error}", file=sys.stderr)
