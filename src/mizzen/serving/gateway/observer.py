"""Watches inference requests from their coming to their end, for traces and the access log.

An exchange that is watched has an `Observed`; most have none, and cost nothing.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from mizzen.serving.gateway.access import AccessLog, Line
from mizzen.serving.gateway.directory import EndpointKey
from mizzen.serving.gateway.exchange import Exchange, HeaderMap
from mizzen.serving.gateway.plan import Plan
from mizzen.serving.gateway.trace_settings import TraceSettings
from mizzen.serving.gateway.tracing import Span, Trace, Tracer
from mizzen.serving.oip import InferenceRequest


class Observed:
    """One request that is watched."""

    __slots__ = ("_endpoint", "_observer", "_path", "trace")

    def __init__(self, observer: "Observer", endpoint: EndpointKey, path: str, trace: Trace | None) -> None:
        self._observer, self._endpoint, self._path = observer, endpoint, path
        self.trace = trace

    def done(self, exchange: Exchange, decoded: InferenceRequest | None, status: int, outcome: str) -> None:
        """The exchange, whose request was that, ends so."""
        observer, (namespace, name) = self._observer, self._endpoint
        now = observer.clock()
        if observer.access is not None:
            observer.access.write(
                Line(
                    time=datetime.fromtimestamp(observer.wall(), UTC).isoformat(timespec="milliseconds"),
                    namespace=namespace, endpoint=name, path=self._path, status=status, outcome=outcome,
                    total_ms=_ms(now - exchange.came_s),
                    queue_ms=_ms(exchange.sent_s - exchange.came_s) if exchange.sent_s is not None else None,
                    rows=decoded.rows if decoded is not None else None,
                    id=decoded.id if decoded is not None else None,
                    tenant=exchange.tenant or None, unit=exchange.unit, trace_id=exchange.trace_id,
                )
            )  # fmt: skip
        if observer.tracer is not None and self.trace is not None:
            rows = decoded.rows if decoded is not None else 0
            self._span(observer.tracer, self.trace, exchange, rows, status, outcome, now)

    def _span(
        self, tracer: Tracer, trace: Trace, exchange: Exchange, rows: int, status: int, outcome: str, now: float
    ) -> None:
        namespace, name = self._endpoint
        epoch_s = self._observer.wall() - now
        begin_s, end_s = exchange.came_s + epoch_s, now + epoch_s
        attributes: dict[str, str | int | float] = {
            "http.request.method": "POST", "url.path": self._path, "http.response.status_code": status,
            "ml.inference.namespace": namespace, "ml.inference.endpoint": name, "ml.inference.outcome": outcome,
        }  # fmt: skip
        if rows:
            attributes["ml.inference.rows"] = rows
        tracer.add(Span(trace, f"infer {name}", begin_s, end_s, attributes, failed=status >= 500))
        if exchange.sent_s is not None:
            sent_s = exchange.sent_s + epoch_s
            tracer.within(trace, "queue", begin_s, sent_s)
            tracer.within(trace, "compute", sent_s, end_s)


class Observer:
    """Watches all requests of a process."""

    def __init__(
        self,
        clock: Callable[[], float],
        tracer: Tracer | None,
        access: AccessLog | None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.clock, self.wall = clock, wall
        self.tracer, self.access = tracer, access

    @property
    def settings(self) -> TraceSettings:
        """Which requests are traced."""
        return self.tracer.settings if self.tracer is not None else TraceSettings(0.0)

    async def run(self) -> None:
        """Sends spans until cancelled, and then the last, and writes the last lines."""
        try:
            if self.tracer is not None:
                await self.tracer.run()
            else:
                await asyncio.get_running_loop().create_future()
        finally:
            if self.access is not None:
                self.access.close()

    def begin(self, exchange: Exchange, headers: HeaderMap, endpoint: EndpointKey, path: str) -> None:
        """Watches the exchange, if it is traced or all are written down."""
        trace = self.tracer.begin(headers.get("traceparent"), endpoint) if self.tracer is not None else None
        if trace is not None or self.access is not None:
            exchange.unit = headers.get("mizzen-unit")
            exchange.observed = Observed(self, endpoint, path, trace)


def observer_of(plan: Plan, clock: Callable[[], float]) -> Observer | None:
    """Who watches as the plan says; `None`: nobody has to."""
    tracer = None
    if plan.traces_url is not None:
        shared = Path(plan.metrics_dir) / "traces.json"
        tracer = Tracer(plan.traces_url, TraceSettings(plan.traces_ratio, shared, clock))
    access = AccessLog(plan.access_log) if plan.access_log is not None else None
    return Observer(clock, tracer, access) if tracer is not None or access is not None else None


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
