"""Rows from a function of the user's code bundle."""

import inspect
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from mizzen.data.entrypoint import described, load_function
from mizzen.data.ingest.chunks import as_chunks, tables
from mizzen.data.ingest.reading import Reading, Since
from mizzen.data.lake.errors import CodeError
from mizzen.data.pod import Failure

_LOG = logging.getLogger(__name__)


def read_python(folder: Path, entrypoint: str, since: Since | None) -> Reading:
    """What `module:function` of the unpacked bundle yields, chunk by chunk.

    Raises `Failure` (`SourceFailed`) with the exception and its place where the function or its module raises or exits.
    """
    return Reading(_tables(folder, entrypoint, since))


def _tables(folder: Path, entrypoint: str, since: Since | None) -> Iterator[pa.Table]:
    try:
        yield from tables(as_chunks(_called(load_function(folder, entrypoint), since)))
    except CodeError as error:
        raise Failure("SourceFailed", str(error)) from error
    except Failure as failure:
        raise Failure(failure.reason, f"{entrypoint}: {failure.message}") from failure
    except (Exception, SystemExit) as error:
        _LOG.exception("%s raised", entrypoint)
        raise Failure("SourceFailed", f"{entrypoint} raised {described(error, folder)}") from error


def _called(function: Callable[..., Any], since: Since | None) -> Any:
    """The function's result; it is told where the last load ended where it has a parameter for that."""
    if "since" in inspect.signature(function).parameters:
        return function(since=None if since is None else since.value)
    return function()
