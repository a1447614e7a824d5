"""Writes one Pod's status to the API server: the latest, when it has changed, one write at a time.

Annotations that the node publishes (ports, run folder) go with the status in the same patch; a server that does not
take metadata there gets them in a patch of their own. The uid in the patch keeps a status from landing on a Pod that
came later under the same name. Failures are waited out; what is written then is the status of that moment.
"""

import asyncio
import json
import logging
import random
from collections.abc import Callable
from typing import Any

from mizzen.kinds.names import ANNOTATION_PORTS, ANNOTATION_RUN_DIR
from mizzen.kube.backoff import Backoff
from mizzen.kube.errors import ApiError, Conflict, Invalid, NotFound
from mizzen.local.node.host import Host
from mizzen.local.node.podfolder import PodFolder
from mizzen.local.node.podspec import PodSpec
from mizzen.local.node.podstate import PodState
from mizzen.local.node.podstatus import Status, pod_status
from mizzen.local.node.resources import POD

log = logging.getLogger(__name__)


class StatusWriter:
    """One Pod's. `run` writes whenever `wake` was called and there is something new to say."""

    def __init__(self, host: Host, look: Callable[[], tuple[PodSpec, PodState, PodFolder]]) -> None:
        self._host, self._look = host, look
        self._wanted = asyncio.Event()
        self._writing = asyncio.Lock()
        self._written: Status | None = None
        self._annotated: dict[str, str] = {}

    def wake(self) -> None:
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(rng=random.random)
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self.write_now()
                backoff.reset()
            except NotFound:
                continue  # the informer will say so too
            except ApiError as error:
                self._host.metrics.status_writes.add("failure")
                pod, _, _ = self._look()
                level = logging.ERROR if isinstance(error, Invalid) else logging.INFO
                log.log(level, "%s: status not written: %s", pod.key, error)
                self._wanted.set()
                await asyncio.sleep(backoff.next_s())

    async def write_now(self) -> None:
        """Writes the status as it is, if it is not what was written last. Raises `ApiError`."""
        async with self._writing:
            pod, state, folder = self._look()
            status = pod_status(pod, state, self._host.options.address, self._before(pod), self._host.clock())
            annotations = _annotations(folder)
            if status == self._written and annotations == self._annotated:
                return
            # The server counts generations; a status about an older spec than it has seen is still true of that one.
            answer = await self._patch(pod, {"status": _patch_of(status, pod)}, annotations)
            self._host.metrics.status_writes.add("success")
            found = answer["metadata"].get("annotations") or {}
            if any(found.get(name) != text for name, text in annotations.items()):
                await self._host.client.patch(
                    POD, pod.name, {"metadata": {"uid": pod.uid, "annotations": annotations}},
                    namespace=pod.namespace,
                )  # fmt: skip
            self._written, self._annotated = status, annotations

    async def _patch(self, pod: PodSpec, body: dict[str, Any], annotations: dict[str, str]) -> dict[str, Any]:
        body["metadata"] = {"uid": pod.uid} | ({"annotations": annotations} if annotations else {})
        try:
            found: dict[str, Any] = await self._host.client.patch(
                POD, pod.name, body, namespace=pod.namespace, type_="strategic", subresource="status"
            )  # fmt: skip
        except Conflict as error:
            # A Pod of another uid has taken the name: ours is gone.
            raise NotFound({"code": 404, "reason": "NotFound", "message": str(error)}) from error
        return found

    def _before(self, pod: PodSpec) -> Status:
        """The conditions last known: ours as we wrote them, others' as the server has them."""
        ours = (self._written or {}).get("conditions") or ()
        known = {condition["type"]: condition for condition in (*(pod.status.get("conditions") or ()), *ours)}
        return {"conditions": list(known.values())}


def _annotations(folder: PodFolder) -> dict[str, str]:
    ports, run = folder.ports(), folder.run_dir()
    if ports is None or run is None:
        return {}
    return {ANNOTATION_PORTS: json.dumps(ports, sort_keys=True), ANNOTATION_RUN_DIR: str(run)}


def _patch_of(status: Status, pod: PodSpec) -> Status:
    """The status as a patch: what is no longer said is taken out."""
    gone = {name: None for name in ("reason", "message") if name not in status and pod.status.get(name)}
    return status | gone
