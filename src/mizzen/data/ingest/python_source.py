"""Rows from a function of the user's code bundle."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from mizzen.data.entrypoint import described, load_function
from mizzen.data.ingest.chunks import as_chunks, tables
from mizzen.data.lake.errors import CodeError
from mizzen.data.pod import Failure

_LOG = logging.getLogger(__name__)


def python_tables(folder: Path, entrypoint: str) -> Iterator[pa.Table]:
    """What `module:function` of the unpacked bundle yields, chunk by chunk.

    Raises `Failure` (`SourceFailed`) with the exception and its place where the function or its module raises or exits.
    """
    try:
        yield from tables(as_chunks(load_function(folder, entrypoint)()))
    except CodeError as error:
        raise Failure("SourceFailed", str(error)) from error
    except Failure as failure:
        raise Failure(failure.reason, f"{entrypoint}: {failure.message}") from failure
    except (Exception, SystemExit) as error:
        _LOG.exception("%s raised", entrypoint)
        raise Failure("SourceFailed", f"{entrypoint} raised {described(error, folder)}") from error
