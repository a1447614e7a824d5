"""A run told to the TrainingJob's status: at most once a second while it goes on, and for certain when it ends."""

import asyncio
import logging
from typing import Any

from mizzen.data.pod_api import PodApi
from mizzen.kinds.build import TrainingJob, TrainingReport
from mizzen.kube.client import Client
from mizzen.kube.errors import KubeError, NotFound
from mizzen.training.task import TrainingTask

_LOG = logging.getLogger(__name__)
PERIOD_S = 1.0
_PATIENCE_S = 300.0


class StatusReporter:
    """A `RunReporter` that patches `status.run`. Updates are sent by a task of the API's event loop."""

    def __init__(self, api: PodApi, task: TrainingTask) -> None:
        self._api, self._task = api, task
        self._told: dict[str, Any] = {}
        self._waiting: TrainingReport | None = None
        self._sender: asyncio.Task[None] | None = None

    def update(self, report: TrainingReport) -> None:
        self._api.soon(lambda client: self._enqueue(client, report))

    def finish(self, report: TrainingReport) -> None:
        async def send(client: Client) -> None:
            self._waiting = None
            if self._sender is not None:
                self._sender.cancel()
            await self._send(client, report)

        try:
            self._api.call(send, patience_s=_PATIENCE_S)
        except NotFound:
            _LOG.warning("%s: the training job is gone; nobody is told of this run", self._task.name)
        except KubeError as error:
            raise ConnectionError(f"{self._task.name}: the status cannot be written: {error}") from error

    def _enqueue(self, client: Client, report: TrainingReport) -> None:
        self._waiting = report
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send_waiting(client))

    async def _send_waiting(self, client: Client) -> None:
        while self._waiting is not None:
            report, self._waiting = self._waiting, None
            try:
                await self._send(client, report)
            except KubeError as error:
                _LOG.warning("how the run goes cannot be told now: %s", error)
                if self._waiting is None:  # else a newer one came meanwhile
                    self._waiting = report
            await asyncio.sleep(PERIOD_S)

    async def _send(self, client: Client, report: TrainingReport) -> None:
        """Patches what is there: a merge patch keeps what it does not name, so what is gone is named as null."""
        wire = report.model_dump(mode="json", by_alias=True)
        metrics = dict.fromkeys(self._told.get("metrics", {})) | wire["metrics"]
        body: dict[str, Any] = {"status": {"run": wire | {"metrics": metrics}}}
        if not self._told:
            await self._patch(client, {"status": {"run": None}})  # an earlier run's metrics would stay
        await self._patch(client, body)
        self._told = wire

    async def _patch(self, client: Client, body: dict[str, Any]) -> None:
        await client.patch(TrainingJob, self._task.name, body, namespace=self._task.namespace, subresource="status")
