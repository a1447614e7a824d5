"""The metrics page: the numbers of all gateway processes of this machine, added up.

Each process writes its numbers to a file of its own once a second, by renaming a complete one into place. Whichever
process is asked for the page adds what it has counted itself, as of now, to the others' files, which are at most a
second old. A process that is started again in the place of one that died takes up the numbers it left, so that a
counter never goes back; what was counted in the second before a kill is lost.
"""

import asyncio
import ipaddress
import logging
import time
from pathlib import Path

import msgspec

from mizzen.serving.gateway.directory import EndpointKey
from mizzen.serving.gateway.exchange import Headers
from mizzen.serving.gateway.families import exposition
from mizzen.serving.gateway.gateway import OTHERS, Gateway
from mizzen.serving.gateway.numbers import Numbers, Standing, added
from mizzen.serving.predictionlog.progress import progress

log = logging.getLogger("mizzen.gateway")
WRITE_EVERY_S = 1.0
PAGE_HEADERS: Headers = [("content-type", "text/plain; version=0.0.4; charset=utf-8")]
TEXT_HEADERS: Headers = [("content-type", "application/json")]


class MetricsFiles:
    """Writes this process's numbers, and makes the page of all."""

    def __init__(self, directory: Path, slot: int, gateway: Gateway, *, for_all: bool) -> None:
        self._directory = directory
        self._own = directory / f"{slot}.numbers"
        self._gateway = gateway
        self._for_all = for_all
        left = _read(self._own)
        if left is not None:
            gateway.measures.update(left.measures)
            gateway.refusals.update(left.refusals)

    async def run(self) -> None:
        """Writes now and then, until cancelled."""
        while True:
            self.write()
            await asyncio.sleep(WRITE_EVERY_S)

    def write(self) -> None:
        """A full disk costs numbers, not answers."""
        partial = self._own.with_suffix(".partial")
        try:
            partial.write_bytes(msgspec.msgpack.encode(self.numbers()))
            partial.replace(self._own)
        except OSError as error:
            log.warning("%s: %s", self._own, error)

    def numbers(self) -> Numbers:
        """This process's, as of now."""
        gateway, now_s = self._gateway, time.time()
        standing: dict[EndpointKey, Standing] = {}
        for key, service in gateway.services.items():
            queue = service.statistics()
            cache = service.cache
            stands = Standing(
                queue.rows_waiting, queue.requests_waiting, queue.batches_running, queue.workers, queue.bytes_waiting,
                queue.requests_running, queue.credits,
                cache_bytes=cache.bytes_used if cache is not None else 0,
                cache_machine_bytes=cache.machine_bytes if cache is not None else 0,
            )  # fmt: skip
            if service.recorder is not None:
                log_ = progress(service.recorder.folder)
                stands.log_lost, stands.log_waiting_bytes = log_.lost, log_.waiting_bytes
                stands.log_age_s = max(0.0, now_s - log_.committed_at_s) if log_.committed_at_s else 0.0
            standing[key if key in gateway.measures else OTHERS] = stands
        for (namespace, name), view in gateway.features.views.items():
            if view.skew is not None:
                standing[namespace, f"features/{name}"] = Standing(feature_skew=view.skew)
        return Numbers(now_s, gateway.measures, standing, gateway.refusals)

    def page(self, client: str) -> tuple[int, Headers, bytes]:
        """What a client at that address is answered."""
        if not self._for_all and not _is_local(client):
            return 403, TEXT_HEADERS, b'{"error":"metrics are for callers on this machine; see --metrics"}'
        return 200, PAGE_HEADERS, exposition(self.total()).encode()

    def total(self) -> Numbers:
        """Of all processes."""
        others = (_read(path) for path in self._directory.glob("*.numbers") if path != self._own)
        return added([self.numbers(), *(other for other in others if other is not None)])


def _read(path: Path) -> Numbers | None:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Numbers)
    except (OSError, msgspec.DecodeError):
        return None


def _is_local(client: str) -> bool:
    """`client` is `address:port`, as granian writes it: an IPv6 address in brackets."""
    address = client.rpartition(":")[0].strip("[]")
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback
