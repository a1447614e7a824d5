"""Loading Pods for the tests, one after the other, forked from a process that has imported everything already.

Each line of standard input is `{"task": …, "killAfterS": 0.02}`; the child runs the load and is sent SIGKILL after that
time, if it still lives. Each line of standard output is its exit status, negative where a signal ended it.
"""

import json
import os
import signal
import sys
import threading
from datetime import UTC, datetime

from mizzen.data.ingest.main import ingest
from mizzen.data.ingest.task import IngestTask
from mizzen.kinds.data import LoadReport


class Deaf:
    """A reporter that tells nobody: what the commits say is looked at."""

    def report(self, report: LoadReport) -> None:
        pass


def child(task: IngestTask) -> int:
    try:
        ingest(task, Deaf(), lambda: datetime.now(UTC))
    except BaseException as error:  # noqa: BLE001 - the child's end
        print(repr(error), file=sys.stderr, flush=True)
        return 1
    return 0


for line in sys.stdin:
    order = json.loads(line)
    task = IngestTask.model_validate(order["task"])
    pid = os.fork()
    if pid == 0:
        os._exit(child(task))
    timer = threading.Timer(order["killAfterS"], os.kill, (pid, signal.SIGKILL))
    timer.start()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # not reaped yet: the id stays its own until the timer is off
    timer.cancel()
    timer.join()
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
