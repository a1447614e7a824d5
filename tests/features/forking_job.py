"""Pods that bring views online, one after the other, forked from a process that has imported everything already.

Each line of standard input is `{"task": …, "index": 0, "killAfterS": 0.02}`; the child runs the task and is sent SIGKILL
after that time, if it still lives. Each line of standard output is its exit status, negative where a signal ended it.
"""

import json
import os
import signal
import sys
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path

from mizzen.data.features.jobs.materialise import run
from mizzen.data.features.jobs.task import MaterialiseTask
from mizzen.data.features.online import filling, materialise

materialise.STEP_ROWS = 40  # many steps, so that there is much to be killed in
filling.STEP_RECORDS = 3


def child(task: MaterialiseTask, now: datetime, index: int) -> int:
    try:
        with tempfile.TemporaryDirectory(prefix="mzj-") as work:
            run(task, lambda report: None, lambda: now, Path(work), index)
    except BaseException as error:  # noqa: BLE001 - the child's end
        print(repr(error), file=sys.stderr, flush=True)
        return 1
    return 0


for line in sys.stdin:
    order = json.loads(line)
    task, now = MaterialiseTask.model_validate(order["task"]), datetime.fromisoformat(order["now"]).astimezone(UTC)
    pid = os.fork()
    if pid == 0:
        os._exit(child(task, now, order.get("index", 0)))
    timer = threading.Timer(order["killAfterS"], os.kill, (pid, signal.SIGKILL))
    timer.start()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # not reaped yet: the id stays its own until the timer is off
    timer.cancel()
    timer.join()
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
