"""The edge of a Pod of ours: the task it is given, how it fails, and where it says why.

A Pod reads one JSON document from `MIZZEN_TASK`, works, and ends with one of three exit codes. The Job that runs it
tells them apart: `USERS_FAULT` is not tried again, because the same code on the same rows would fail the same way;
anything else is, because a lost connection or a full disk passes. Whatever the end, the reason is one line on the
termination message path, which the kubelet copies into the Pod's status.
"""

import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import TypeVar

from pydantic import ValidationError

from mizzen.kinds.meta import Wire

SUCCESS, USERS_FAULT, TRY_AGAIN = 0, 1, 75
"""Exit codes; 75 is `EX_TEMPFAIL` of sysexits.h."""
TERMINATION_MESSAGE_BYTES_MAX = 4096
"""What a kubelet keeps."""
_TERMINATION_PATH = "/dev/termination-log"
_LOG = logging.getLogger(__name__)

TaskT = TypeVar("TaskT", bound=Wire)


class Failure(Exception):
    """Why a run ended without its result: a CamelCase reason for programs, a sentence for people, an exit code.

    `details` are further lines for whoever reads the Pod's status: the end of a traceback.
    """

    def __init__(self, reason: str, message: str, *, exit_code: int = USERS_FAULT, details: str = "") -> None:
        super().__init__(message)
        self.reason, self.message, self.exit_code, self.details = reason, message, exit_code, details


class Terminated(BaseException):
    """SIGTERM came: unwinds the stack, past whatever catches `Exception`, so that open things are put away."""


def read_task(kind: type[TaskT]) -> TaskT:
    """The task of this Pod.

    Raises `Failure` where there is none or it is of another shape: the controller and this program are not of one
    version.
    """
    text = os.environ.get("MIZZEN_TASK")
    if not text:
        raise Failure("NoTask", "MIZZEN_TASK: expected a JSON document, found nothing; Mizzen's controllers start this")
    try:
        return kind.model_validate_json(text, extra="ignore")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Failure("NoTask", f"MIZZEN_TASK: {where}: {first['msg']}") from error


def mounted(path: str) -> Path:
    """Where an absolute path of the Pod's spec really is: under `MIZZEN_ROOTFS` on our node, there itself elsewhere."""
    root = os.environ.get("MIZZEN_ROOTFS")
    return Path(root) / path.lstrip("/") if root else Path(path)


def say_why(message: str) -> None:
    """Writes the termination message. Nothing happens where no kubelet asked for one."""
    path = mounted(_TERMINATION_PATH)
    text = message.encode()[:TERMINATION_MESSAGE_BYTES_MAX].decode(errors="ignore")
    try:
        if "MIZZEN_ROOTFS" in os.environ:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif path.exists():
            path.write_text(text)
    except OSError as error:
        _LOG.warning("%s: the termination message cannot be written: %s", path, error.strerror)


def run_to_exit_code(body: Callable[[], None]) -> int:
    """Runs the Pod's work and turns however it ends into an exit code and a termination message."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what the user prints is in the Pod's log when it is printed
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        body()
    except Failure as failure:
        _LOG.error("%s: %s", failure.reason, failure.message)
        say_why(f"{failure.reason}: {failure.message}" + (f"\n{failure.details}" if failure.details else ""))
        return failure.exit_code
    except Terminated:
        say_why("Terminated: the Pod was asked to stop (SIGTERM) before it was done")
        return 128 + signal.SIGTERM
    except Exception as error:  # noqa: BLE001 - the process's boundary: whatever it is ends in an exit code and a line
        _LOG.exception("the run ended in a way that was not foreseen")
        say_why(f"InternalError: {type(error).__name__}: {error}")
        return TRY_AGAIN
    return SUCCESS


def _terminate(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(number, signal.SIG_IGN)  # once is enough: what follows is putting things away
    raise Terminated
