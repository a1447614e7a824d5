"""What the kubelet server answers: container logs, the Pods, numbers. The paths and words are the kubelet's."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import psutil

from mizzen.kube.metrics import CONTENT_TYPE
from mizzen.kube.times import parse_time
from mizzen.local.node import logs
from mizzen.local.node.attempts import Attempt
from mizzen.local.node.host import Host
from mizzen.local.node.logs import LogOptions
from mizzen.local.node.podstate import Phase
from mizzen.local.node.podworker import PodWorker
from mizzen.local.node.server import Answer, HttpError, Request, Route, text

_JSON = "application/json"


class Routes:
    """Answers from what the node's workers know."""

    def __init__(self, host: Host, workers: Callable[[], Iterable[PodWorker]]) -> None:
        self._host, self._workers = host, workers

    def all(self) -> tuple[Route, ...]:
        return (
            Route("containerLogs", "log", self.container_logs),
            Route("pods", "pods", self.pods),
            Route("stats", "stats", self.stats),
            Route("metrics", "metrics", self.metrics),
            Route("healthz", "healthz", self.healthz),
        )

    async def healthz(self, _: Request) -> Answer:
        return text("ok")

    async def metrics(self, _: Request) -> Answer:
        return text(self._host.metrics.registry.text(), CONTENT_TYPE)

    async def pods(self, _: Request) -> Answer:
        items = [worker.pod.raw for worker in self._workers()]
        return text(json.dumps({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}), _JSON)

    # -- logs

    async def container_logs(self, request: Request) -> Answer:
        if len(request.parts) != 3:
            raise HttpError(404, "expected /containerLogs/<namespace>/<pod>/<container>")
        namespace, pod, container = request.parts
        worker = self._worker(namespace, pod)
        attempt = _attempt(worker, container, previous=request.query.get("previous") == "true")
        return Answer(logs.read(attempt.folder, self._log_options(request), attempt.alive))

    def _worker(self, namespace: str, name: str) -> PodWorker:
        found = [worker for worker in self._workers() if (worker.pod.namespace, worker.pod.name) == (namespace, name)]
        if not found:
            raise HttpError(404, f'pod "{namespace}/{name}" not found')
        return next((worker for worker in found if not worker.gone), found[0])

    def _log_options(self, request: Request) -> LogOptions:
        query = request.query
        try:
            since = parse_time(query.get("sinceTime") or None)
            if query.get("sinceSeconds"):
                present = datetime.fromtimestamp(self._host.clock().wall, UTC)
                since = present - timedelta(seconds=int(query["sinceSeconds"]))
            return LogOptions(
                follow=query.get("follow") == "true",
                tail_lines=int(query["tailLines"]) if query.get("tailLines") else None,
                since=since,
                timestamps=query.get("timestamps") == "true",
                limit_bytes=int(query["limitBytes"]) if query.get("limitBytes") else None,
                stream=query.get("stream") or "All",
            )
        except ValueError as error:
            raise HttpError(400, f"log options: {error}") from error

    # -- numbers

    async def stats(self, _: Request) -> Answer:
        """`/stats/summary`, the parts there are numbers for."""
        now = self._host.clock().rfc3339()
        memory = psutil.virtual_memory()
        node = {
            "nodeName": self._host.options.name,
            "memory": {"time": now, "availableBytes": memory.available, "usageBytes": memory.total - memory.available},
        }
        pods = [self._pod_stats(worker, now) for worker in self._workers()]
        return text(json.dumps({"node": node, "pods": pods}), _JSON)

    def _pod_stats(self, worker: PodWorker, now: str) -> dict[str, object]:
        pod = worker.pod
        containers = []
        for name, usage in worker.usage():
            entry: dict[str, object] = {"name": name}
            if usage.memory_bytes is not None:
                entry["memory"] = {"time": now, "usageBytes": usage.memory_bytes}
            if usage.cpu_s is not None:
                entry["cpu"] = {"time": now, "usageCoreNanoSeconds": int(usage.cpu_s * 1e9)}
            containers.append(entry)
        return {"podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid}, "containers": containers}


def _attempt(worker: PodWorker, container: str, *, previous: bool) -> Attempt:
    """The attempt whose log is asked for. Raises `HttpError` in the kubelet's words."""
    name = f'container "{container}" in pod "{worker.pod.name}"'
    if worker.pod.container(container) is None:
        raise HttpError(404, f"{name} is not available")
    attempt = worker.attempt(container)
    if previous:
        number = worker.state.containers[container].attempt - 1
        if attempt is None or number < 0 or not (attempt.folder.parent / str(number)).exists():
            raise HttpError(400, f"previous terminated {name.replace(' in pod', ' in pod', 1)} not found")
        return Attempt(attempt.folder.parent / str(number))
    if attempt is None:
        refusal = worker.state.containers[container].refusal
        waits = worker.state.containers[container].phase in {Phase.WAITING, Phase.STARTING}
        why = refusal.reason if refusal is not None else "ContainerCreating" if waits else "unknown"
        raise HttpError(400, f"{name} is waiting to start: {why}")
    return attempt
