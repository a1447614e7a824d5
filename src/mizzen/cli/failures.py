"""Failures in one line each, and exit codes that scripts can use.

0  done                        3  nothing answers: the control plane or the gateway is down
1  the answer is no            4  not found
2  wrong usage or wrong file   5  refused: not allowed, or in conflict
                               6  not in time
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mizzen.kinds.errors import ManifestErrors
from mizzen.kube import errors as kube_errors

NO, USAGE, UNAVAILABLE, NOT_FOUND, REFUSED, TIMEOUT = 1, 2, 3, 4, 5, 6


class CommandError(Exception):
    """A failure said in words, with its exit code."""

    def __init__(self, message: str, code: int = NO) -> None:
        super().__init__(message)
        self.code = code


def _code(error: Exception) -> int:
    table: tuple[tuple[type[Exception], int], ...] = (
        (ManifestErrors, USAGE),
        (kube_errors.ConfigurationError, UNAVAILABLE),
        (kube_errors.Unavailable, UNAVAILABLE),
        (kube_errors.NotFound, NOT_FOUND),
        (kube_errors.Invalid, USAGE),
        (kube_errors.BadRequest, USAGE),
        (kube_errors.ApiError, REFUSED),
        (TimeoutError, TIMEOUT),
    )
    return next((code for kind, code in table if isinstance(error, kind)), NO)


@contextmanager
def said_in_words() -> Iterator[None]:
    """Turns known failures into a line on standard error and an exit code; unknown ones keep their traceback."""
    try:
        yield
    except CommandError as error:
        _say(str(error))
        sys.exit(error.code)
    except (ManifestErrors, kube_errors.KubeError, TimeoutError) as error:
        _say(str(error))
        sys.exit(_code(error))
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us went away, as `head` does
        sys.exit(NO)
    except KeyboardInterrupt:
        sys.exit(130)


def _say(message: str) -> None:
    lines = message.splitlines() or ["it failed without a word"]
    print(f"error: {lines[0]}", *lines[1:], sep="\n", file=sys.stderr)
