"""The end of a load, told to the Dataset's status."""

import logging

from mizzen.data.ingest.task import IngestTask
from mizzen.data.pod_api import PodApi
from mizzen.kinds.data import Dataset, LoadReport
from mizzen.kube.client import Client
from mizzen.kube.errors import KubeError, NotFound

_LOG = logging.getLogger(__name__)
_PATIENCE_S = 300.0


class StatusReporter:
    """A `LoadReporter` that patches `status.lastRun`."""

    def __init__(self, api: PodApi, task: IngestTask) -> None:
        self._api, self._task = api, task

    def report(self, report: LoadReport) -> None:
        # A merge patch keeps what it does not name: what this run has no value for is taken out in so many words.
        body = {"status": {"lastRun": report.model_dump(mode="json", by_alias=True)}}

        async def patch(client: Client) -> None:
            await client.patch(Dataset, self._task.name, body, namespace=self._task.namespace, subresource="status")

        try:
            self._api.call(patch, patience_s=_PATIENCE_S)
        except NotFound:
            _LOG.warning("%s: the dataset is gone; nobody is told of this load", self._task.name)
        except KubeError as error:
            raise ConnectionError(f"{self._task.name}: the status cannot be written: {error}") from error
