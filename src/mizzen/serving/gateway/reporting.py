"""Tells the scaling controller what comes, what waits and what runs: pushed, not polled.

Requests pay nothing for it. The sums are made once a second from what is counted anyway (`measures`): what was sent to
workers and what waits now says how many came; the time from a request to its answer less the time to its worker says
how long requests were at workers. Only how many wait is looked at more often, `SAMPLE_S` apart, and only at endpoints
that have anything to do.

Each model of a graph is told of by itself, as `ENDPOINT/NODE`.

A request that finds no worker at all is told at once (`starved`), so that a start costs no tick. One connection is kept
to the controller, over a Unix socket (`unix:/path`) or TCP (`host:port`); while there is none, requests are served as
ever, and the sums go on.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable

from mizzen.policy.scaling.reports import EndpointTotals, Report, encode
from mizzen.serving.gateway.directory import EndpointKey
from mizzen.serving.gateway.gateway import Gateway
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.service import Service

log = logging.getLogger("mizzen.gateway")
REPORT_S = 1.0
SAMPLE_S = 0.1
RETRY_S_FIRST, RETRY_S_MAX = 0.05, 2.0
TOKEN_VARIABLE = "MIZZEN_REPORT_TOKEN"  # noqa: S105 - the variable's name
NEVER_SENT = ("queue_full", "no_worker")
"""Outcomes of requests that came and never got to a worker."""


class Reporter:
    """Reports of one gateway process."""

    def __init__(self, gateway: Gateway, address: str, clock: Callable[[], float]) -> None:
        self._gateway = gateway
        self._address = address
        self._clock = clock
        self._waiting_s: dict[EndpointKey, float] = {}
        self._sampled_s: dict[EndpointKey, float] = {}
        """Endpoints that have something to do, and when they were last looked at."""
        self._told: dict[EndpointKey, EndpointTotals] = {}
        self._starved: set[EndpointKey] = set()
        self._wake = asyncio.Event()
        gateway.on_starved = self.starved

    def starved(self, service: Service) -> None:
        """Requests wait and there is no worker."""
        key = service.endpoint.key
        if key not in self._starved:
            self._starved.add(key)
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        sampling = asyncio.get_running_loop().create_task(self._sample())
        failures = 0
        try:
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await self._connect()
                    failures = 0
                    try:
                        await self._tell(writer)
                    finally:
                        writer.close()
                await asyncio.sleep(min(RETRY_S_FIRST * 2**failures, RETRY_S_MAX))
                failures = min(failures + 1, 8)
        finally:
            sampling.cancel()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._address.startswith("unix:"):
            return await asyncio.open_unix_connection(self._address.removeprefix("unix:"))
        host, _, port = self._address.rpartition(":")
        return await asyncio.open_connection(host.strip("[]"), int(port))

    async def _tell(self, writer: asyncio.StreamWriter) -> None:
        """Reports over one connection, until it breaks. The first holds all sums: from there they count."""
        self._told.clear()
        token = "" if self._address.startswith("unix:") else os.environ.get(TOKEN_VARIABLE, "")
        while True:
            endpoints = [totals for key in self._gateway.measures if (totals := self._changed(key)) is not None]
            self._starved &= {key for key in self._starved if self._is_starved(key)}
            self._wake.clear()
            writer.write(encode(Report(endpoints, token)) + b"\n")
            await writer.drain()
            token = ""
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), REPORT_S)

    def _is_starved(self, key: EndpointKey) -> bool:
        service = self._gateway.measured(key)
        return service is not None and bool(service.statistics().requests_waiting)

    def _changed(self, key: EndpointKey) -> EndpointTotals | None:
        totals = self._totals(key, self._gateway.measures[key])
        before = self._told.get(key)
        if totals == before and not totals.waiting and not totals.running:
            self._sampled_s.pop(key, None)
            return None
        if before is not None or totals.waiting or totals.running:
            self._sampled_s.setdefault(key, self._clock())
        self._told[key] = totals
        return totals

    def _totals(self, key: EndpointKey, measures: Measures) -> EndpointTotals:
        service = self._gateway.measured(key)
        waiting = running = 0
        if service is not None:
            standing = service.statistics()
            waiting, running = standing.requests_waiting, standing.batches_running
        sent = sum(measures.queue_s.counts)
        never_sent = sum(measures.outcomes.get(name, 0) for name in NEVER_SENT)
        return EndpointTotals(
            namespace=key[0],
            name=key[1],
            arrivals=sent + never_sent + waiting,
            running_s=max(0.0, measures.request_s.total - measures.queue_s.total),
            waiting_s=self._waiting_s.get(key, 0.0),
            busy_s=measures.compute_s.total,
            answered=sum(measures.request_s.counts),
            waiting=waiting,
            running=running,
        )

    async def _sample(self) -> None:
        """How many wait, now and then, where there is anything to do."""
        while True:
            await asyncio.sleep(SAMPLE_S)
            now = self._clock()
            for key, before in list(self._sampled_s.items()):
                service = self._gateway.measured(key)
                if service is None:
                    del self._sampled_s[key]
                    continue
                waiting = service.statistics().requests_waiting
                self._waiting_s[key] = self._waiting_s.get(key, 0.0) + waiting * (now - before)
                self._sampled_s[key] = now
