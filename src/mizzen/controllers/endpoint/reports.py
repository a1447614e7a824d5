"""What workers say of themselves (`/status` on their health port): what they run on, and the memory they take.

A worker has no access to the Kubernetes API, so it is asked: once for each start of its container, when it is ready, in
the background; the answer queues the endpoint. One that cannot be reached (a network policy may be in the way) is asked
again after a while, and the endpoint's status says less meanwhile: nothing else depends on it.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightkube.resources.core_v1 import Pod

from mizzen.controllers.endpoint.crashes import restarts
from mizzen.kinds.names import ANNOTATION_PORTS
from mizzen.kube.resources import Key, meta_of

log = logging.getLogger(__name__)
TIMEOUT_S, ASK_AGAIN_S = 2.0, 60.0
ANSWER_BYTES_MAX = 64 * 1024
HEALTH_PORT = 7091


@dataclass(frozen=True, slots=True)
class Report:
    """Empty and `None` where it was not told."""

    runtime: str = ""
    provider: str = ""
    threads: int | None = None
    memory_bytes: int | None = None
    peak_bytes: int | None = None
    fetch_s: float | None = None
    load_s: float | None = None
    warm_up_s: float | None = None


class Reports:
    """What was told of the last start of each Pod's container, while the Pod is there. `seen` is for an informer to
    call.
    """

    def __init__(self, clock: Callable[[], float], told: Callable[[Key], None]) -> None:
        """`told` is called with the key that a report was asked for, when it has come."""
        self._clock, self._told = clock, told
        self._known: dict[str, tuple[int, Report]] = {}
        self._asked: dict[str, tuple[int, float]] = {}
        """By the Pod's uid: after which restart, and the report or when it was asked for."""
        self._asking: set[asyncio.Task[None]] = set()

    def of(self, pod: Pod, key: Key) -> Report:
        """What is known of a ready worker; it is asked for where nothing is."""
        uid, start, address = meta_of(pod).uid, restarts(pod), _address(pod)
        known_start, found = self._known.get(uid, (None, Report()))
        if known_start == start:
            return found
        if address is not None and self._is_due(uid, start):
            self._asked[uid] = start, self._clock()
            task = asyncio.get_running_loop().create_task(self._ask(uid, start, *address, key))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        return Report()

    def seen(self, old: Pod | None, new: Pod | None) -> None:
        """A Pod has come, changed or gone."""
        if old is not None and new is None:
            uid = meta_of(old).uid
            self._known.pop(uid, None)
            self._asked.pop(uid, None)

    def _is_due(self, uid: str, start: int) -> bool:
        asked_start, asked_s = self._asked.get(uid, (None, 0.0))
        return asked_start != start or self._clock() - asked_s >= ASK_AGAIN_S

    async def _ask(self, uid: str, start: int, host: str, port: int, key: Key) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                document = await _get(host, port)
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
            log.debug("%s: no report from %s:%s: %s", key, host, port, error)
            return
        if uid in self._asked:  # or the Pod is gone meanwhile
            self._known[uid] = start, report_of(document)
            self._told(key)


def report_of(document: Any) -> Report:
    """What a worker's `/status` says; a field that is not understood is left out."""
    body = document if isinstance(document, dict) else {}
    found, memory = body.get("facts"), body.get("memory")
    facts = found if isinstance(found, dict) else {}
    threads = str(facts.get("threads", ""))
    sizes = memory if isinstance(memory, dict) else {}
    taken, most = sizes.get("proportionalBytes"), sizes.get("peakBytes")
    return Report(
        runtime=str(facts.get("runtime", "")),
        provider=str(facts.get("provider", "")),
        threads=int(threads) if threads.isdigit() else None,
        memory_bytes=taken if isinstance(taken, int) else None,
        peak_bytes=most if isinstance(most, int) else None,
        fetch_s=_seconds(body.get("fetchS")),
        load_s=_seconds(body.get("loadS")),
        warm_up_s=_seconds(body.get("warmUpS")),
    )


def _seconds(value: Any) -> float | None:
    return round(float(value), 3) if isinstance(value, int | float) else None


async def _get(host: str, port: int) -> Any:
    reader, writer = await asyncio.open_connection(host, port, limit=ANSWER_BYTES_MAX)
    try:
        writer.write(b"GET /status HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise ValueError(f"expected 200, got {head[:40]!r}")
        return json.loads(await reader.read(ANSWER_BYTES_MAX))
    finally:
        writer.close()


def _address(pod: Pod) -> tuple[str, int] | None:
    """Of a ready Pod: its node may have chosen another port than the container's."""
    status = pod.status
    ready = status is not None and any(c.type == "Ready" and c.status == "True" for c in status.conditions or ())
    if status is None or not ready or not status.podIP:
        return None
    try:
        port = json.loads(meta_of(pod).annotations.get(ANNOTATION_PORTS, "{}")).get("health", HEALTH_PORT)
    except (ValueError, AttributeError):
        return None
    return (status.podIP, port) if isinstance(port, int) else None
