"""`python -m mizzen.serving.batch`: one Pod of a batch prediction's run.

It steps back before it imports anything large: the second of processor time that this takes is to be nobody else's
either, and threads have the class of the one that starts them.
"""

import contextlib
import importlib
import json
import os
import sys

NICE = 19


def step_back() -> None:
    """From now on this process and its children run while nobody else wants their processors, and leave one alone.

    A request that comes while all are taken waits until the kernel has done what it does for one of them (a copy, a
    page, a file), which no class of scheduling cuts short. Where one is free it does not wait.
    """
    if hasattr(os, "SCHED_IDLE"):
        if all_but_one := sorted(os.sched_getaffinity(0))[1:]:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, all_but_one)
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            return
    os.nice(NICE)


def main() -> int:
    """The process's exit code."""
    try:
        background = json.loads(os.environ.get("MIZZEN_TASK", "")).get("background", True)
    except (ValueError, AttributeError):
        background = True  # what is wrong with the task is told by who reads all of it
    if background:
        step_back()
    code: int = importlib.import_module("mizzen.serving.batch.pod").main()
    return code


if __name__ == "__main__":
    sys.exit(main())
