"""Why a worker ended, in one line: from what the kubelet says of its container and what the worker said last.

A worker that ends by itself leaves its reason on the termination message path. One that is killed cannot: of a crash in
native code the end of its log has the Python side (`Fatal Python error: …` and the innermost lines), and of one that
took too much memory the kubelet says so.
"""

import re
import signal
from collections.abc import Iterable

from lightkube.models.core_v1 import ContainerStateTerminated, ContainerStatus
from lightkube.resources.core_v1 import Pod

from mizzen.kinds.serve import Crash
from mizzen.kube.times import format_time

_FATAL = re.compile(r"^Fatal Python error: (.*)$", re.MULTILINE)
_CURRENT = re.compile(
    r"^(?:Current )?thread [^\n]*most recent call first\):\n(?P<frames>(?: +File [^\n]*\n?)+)",
    re.IGNORECASE | re.MULTILINE,
)
_FRAME = re.compile(r'File "([^"]*)", line (\d+) in (\S+)')
MESSAGE_CHARACTERS_MAX = 1000


def last_crash(pod: Pod) -> Crash | None:
    """How the Pod's container last ended other than well; `None` where it never did."""
    for status in _statuses(pod):
        for state in (status.state, status.lastState):
            ended = state.terminated if state is not None else None
            if ended is not None and ended.exitCode != 0:
                reason, message = described(ended, memory_limit(pod))
                at = format_time(ended.finishedAt) if ended.finishedAt is not None else None
                return Crash(reason=reason, message=message, at=at)
    return None


def described(ended: ContainerStateTerminated, memory: str | None) -> tuple[str, str]:
    """(one word, one line)."""
    said = (ended.message or "").strip()
    if ended.reason == "OOMKilled":
        limit = f" of {memory}" if memory else ""
        return "OOMKilled", f"took more memory than its limit{limit} and was killed"
    number = ended.signal or (ended.exitCode - 128 if ended.exitCode > 128 else 0)
    if number:
        where = _innermost(said)
        return "Killed", f"killed by {_signal(number)}{f' in {where}' if where else ''}"
    what = " ".join(said.splitlines()[-1].split()) if said else f"ended with exit code {ended.exitCode}"
    return ended.reason if ended.reason not in {None, "Error"} else "Failed", what[:MESSAGE_CHARACTERS_MAX]


def restarts(pod: Pod) -> int:
    """How often the Pod's container was started again."""
    return sum(status.restartCount for status in _statuses(pod))


def memory_limit(pod: Pod) -> str | None:
    """Of the Pod's container, as it was asked for."""
    containers = pod.spec.containers if pod.spec is not None else ()
    limits = (container.resources.limits or {} for container in containers if container.resources is not None)
    return next((str(limit["memory"]) for limit in limits if "memory" in limit), None)


def _statuses(pod: Pod) -> Iterable[ContainerStatus]:
    return (pod.status.containerStatuses or ()) if pod.status is not None else ()


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _innermost(said: str) -> str:
    """Where in Python a crash in native code was, from the trace at the end of the log; empty where there is none."""
    if _FATAL.search(said) is None:
        return ""
    traces = list(_CURRENT.finditer(said))
    current = next((one for one in traces if one[0].lower().startswith("current")), traces[0] if traces else None)
    frame = _FRAME.search(current["frames"]) if current is not None else None
    return f"{frame[3]} ({frame[1].rpartition('/')[2]}:{frame[2]})" if frame is not None else ""
