"""A run told to the BatchPrediction's status: its progress now and then, and its end for certain.

Each Pod writes a key of its own (`status.shards["RUN/INDEX"]`), and the last one `status.results["RUN"]` and the
output dataset's `status.lastRun`, so none overwrites what another said.
"""

import asyncio
import logging
from typing import Any

from mizzen.data.pod_api import PodApi
from mizzen.kinds import BatchPrediction, Dataset
from mizzen.kinds.batch import BatchResult, BatchShard
from mizzen.kinds.data import LoadReport
from mizzen.kube.client import Client
from mizzen.kube.errors import KubeError, NotFound
from mizzen.serving.batch.task import BatchTask

log = logging.getLogger("mizzen.batch")
PERIOD_S = 1.0
_PATIENCE_S = 300.0


class StatusReporter:
    """A `BatchReporter` that patches statuses. Progress is sent by a task of the API's event loop."""

    def __init__(self, api: PodApi, task: BatchTask, index: int) -> None:
        self._api, self._task = api, task
        self._key = f"{task.run}/{index}"
        self._period_s = PERIOD_S * max(1, task.parallelism)
        """Of all Pods together, about one report a second."""
        self._waiting: BatchShard | None = None
        self._sender: asyncio.Task[None] | None = None

    def progress(self, shard: BatchShard) -> None:
        self._api.soon(lambda client: self._enqueue(client, shard))

    def loaded(self, report: LoadReport) -> None:
        body = {"status": {"lastRun": report.model_dump(mode="json", by_alias=True)}}
        self._tell(Dataset, self._task.output.dataset, body)

    def finish(self, result: BatchResult) -> None:
        body = {"status": {"results": {self._task.run: result.to_wire()}}}
        self._tell(BatchPrediction, self._task.name, body)

    def _tell(self, kind: type[Dataset] | type[BatchPrediction], name: str, body: dict[str, Any]) -> None:
        async def send(client: Client) -> None:
            if self._sender is not None:
                self._sender.cancel()
            await client.patch(kind, name, body, namespace=self._task.namespace, subresource="status")

        try:
            self._api.call(send, patience_s=_PATIENCE_S)
        except NotFound:
            log.warning("%s %s is gone; it is not told of this run", kind.__name__, name)
        except KubeError as error:
            raise ConnectionError(f"{name}: the status cannot be written: {error}") from error

    def _enqueue(self, client: Client, shard: BatchShard) -> None:
        self._waiting = shard
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send_waiting(client))

    async def _send_waiting(self, client: Client) -> None:
        while self._waiting is not None:
            shard, self._waiting = self._waiting, None
            body = {"status": {"shards": {self._key: shard.to_wire()}}}
            try:
                await client.patch(
                    BatchPrediction, self._task.name, body, namespace=self._task.namespace, subresource="status"
                )
            except KubeError as error:
                log.warning("how the run goes cannot be told now: %s", error)
            await asyncio.sleep(self._period_s)
