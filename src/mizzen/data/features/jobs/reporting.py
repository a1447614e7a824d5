"""How a run went, told to a status, and how a failure is told to the Job."""

import errno
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

import duckdb

from mizzen.data.features.errors import DefinitionError, FeatureError, SourceDamaged, StoreUnavailable
from mizzen.data.lake.errors import LakeError, VersionMissing
from mizzen.data.lake.sql import one_line
from mizzen.data.pod import TRY_AGAIN, Failure
from mizzen.data.pod_api import PodApi
from mizzen.kinds import Resource
from mizzen.kinds.meta import Wire
from mizzen.kube.client import Client
from mizzen.kube.errors import KubeError, NotFound
from mizzen.kube.times import format_time

_LOG = logging.getLogger(__name__)
_PATIENCE_S = 300.0
ReportT = TypeVar("ReportT", bound=Wire)
Clock = Callable[[], datetime]

FAILURES = (Failure, FeatureError, LakeError, OSError, duckdb.Error)
"""What a run may end with, beside bugs."""


def as_failure(error: Exception) -> Failure:
    """The reason, in one word and in a line, and whether trying again may help."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return Failure("DiskFull", f"{tempfile.gettempdir()}: no space left on the device", exit_code=TRY_AGAIN)
    if isinstance(error, StoreUnavailable):
        return Failure("OnlineStoreUnavailable", one_line(error), exit_code=TRY_AGAIN)
    if isinstance(error, DefinitionError):
        return Failure("InvalidDefinition", one_line(error))
    if isinstance(error, SourceDamaged):
        return Failure("SourceDamaged", one_line(error), exit_code=TRY_AGAIN)
    if isinstance(error, FeatureError):
        return Failure("RowsUnfit", one_line(error))
    if isinstance(error, VersionMissing):
        return Failure("SourceVersionMissing", one_line(error))
    reason = "StoreFailed" if isinstance(error, LakeError | OSError) else "InternalError"
    return Failure(reason, one_line(error), exit_code=TRY_AGAIN)


@contextmanager
def failure_told(kind: type[ReportT], run: str, tell: Callable[[ReportT], None], clock: Clock) -> Iterator[None]:
    """Whatever goes wrong inside is told as that kind of report, and raised as `Failure`."""
    try:
        yield
    except FAILURES as error:
        failure = as_failure(error)
        said = {"run": run, "succeeded": False, "reason": failure.reason, "message": failure.message}
        tell(kind.model_validate({**said, "finished_at": format_time(clock())}))
        raise failure from error


class JobReporter:
    """Patches one field of an object's status."""

    def __init__(self, api: PodApi, kind: type[Resource], field: str, namespace: str, name: str) -> None:
        self._api, self._kind, self._field, self._namespace, self._name = api, kind, field, namespace, name

    def report(self, report: Wire) -> None:
        """Tells it; safe to repeat. Raises `Failure` where it cannot be told within some minutes."""
        # A merge patch keeps what it does not name: what this run has no value for is taken out in so many words.
        body = {"status": {self._field: report.model_dump(mode="json", by_alias=True)}}

        async def patch(client: Client) -> None:
            await client.patch(self._kind, self._name, body, namespace=self._namespace, subresource="status")

        try:
            self._api.call(patch, patience_s=_PATIENCE_S)
        except NotFound:
            _LOG.warning("%s: it is gone; nobody is told of this run", self._name)
        except (KubeError, ConnectionError) as error:
            message = f"{self._name}: the status cannot be written: {error}"
            raise Failure("ReportFailed", message, exit_code=TRY_AGAIN) from error
