"""OpenTelemetry traces: W3C context in, spans out by OTLP over HTTP, in its JSON form.

A request with a `traceparent` is traced if its caller's was (parent-based); one without is drawn by its trace id, so
that every service that draws at the same ratio takes the same. A traced request is a span, with spans of its waiting
and of its batch's computing within it. `Trace.context` is what goes on to whoever is asked on its behalf.

Spans are kept until there are some, and sent together; a collector that is away or slow costs spans, which are counted,
and nothing else. Without a collector there is no `Tracer`, and a request is asked one question.
"""

import asyncio
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import httpx2

from mizzen.serving.gateway.directory import EndpointKey
from mizzen.serving.gateway.trace_settings import TraceSettings
from mizzen.version import __version__

log = logging.getLogger("mizzen.gateway")
_TRACEPARENT = re.compile(r"^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$")
_SAMPLED = 1
SEND_EVERY_S = 1.0
SPANS_MAX = 4096
TIMEOUT_S = 5.0
_SERVER, _INTERNAL = 2, 1
_ERROR = 2


class Trace(NamedTuple):
    """One request's place in a trace."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty: it is the first."""

    @property
    def context(self) -> str:
        """The `traceparent` for whoever is asked on its behalf."""
        return f"00-{self.trace_id}-{self.span_id}-01"


class Span(NamedTuple):
    """What was done, from when to when (wall clock)."""

    trace: Trace
    name: str
    begin_s: float
    end_s: float
    attributes: Mapping[str, str | int | float]
    kind: int = _SERVER
    failed: bool = False


class Tracer:
    """Draws, keeps and sends."""

    def __init__(
        self,
        url: str,
        settings: TraceSettings,
        service: str = "mizzen-gateway",
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.url = url if url.endswith("/v1/traces") else url.rstrip("/") + "/v1/traces"
        self.settings = settings
        self._service = service
        self._random = random
        self._spans: list[Span] = []
        self.lost = 0

    def begin(self, traceparent: str | None, endpoint: EndpointKey) -> Trace | None:
        """The place of a request that came there with this context; `None` where it is not traced."""
        match = _TRACEPARENT.match(traceparent) if traceparent is not None else None
        if match is not None and _is_valid(match):
            if not (int(match[4], 16) & _SAMPLED and self.settings.draws(endpoint, None)):
                return None
            return Trace(match[2], self._random(8).hex(), match[3])
        drawn = self._random(16)
        if not self.settings.draws(endpoint, int.from_bytes(drawn[8:], "big")):
            return None
        return Trace(drawn.hex(), self._random(8).hex(), "")

    def within(self, trace: Trace, name: str, begin_s: float, end_s: float, **attributes: str | float) -> None:
        """A part of a traced request."""
        self.add(Span(Trace(trace.trace_id, self._random(8).hex(), trace.span_id), name, begin_s, end_s, attributes,
                      _INTERNAL))  # fmt: skip

    def add(self, span: Span) -> None:
        """Keeps a span until it is sent, if there is room."""
        if len(self._spans) < SPANS_MAX:
            self._spans.append(span)
        else:
            self.lost += 1

    async def run(self) -> None:
        """Sends what is kept now and then, until cancelled."""
        async with httpx2.AsyncClient(timeout=TIMEOUT_S) as client:
            try:
                while True:
                    await asyncio.sleep(SEND_EVERY_S)
                    await self.send(client)
            finally:
                await self.send(client)

    async def send(self, client: httpx2.AsyncClient) -> None:
        """Sends what is kept. What cannot be sent is lost."""
        spans, self._spans = self._spans, []
        if not spans:
            return
        headers = {"content-type": "application/json"}
        try:
            answer = await client.post(self.url, content=self.encoded(spans), headers=headers)
            answer.raise_for_status()
        except httpx2.HTTPError as error:
            self.lost += len(spans)
            log.warning("%d spans are lost: %s: %s", len(spans), self.url, error)

    def encoded(self, spans: list[Span]) -> bytes:
        """An `ExportTraceServiceRequest` as JSON."""
        resource = {"attributes": _attributes({"service.name": self._service, "service.version": __version__})}
        scope = {"scope": {"name": "mizzen", "version": __version__}, "spans": [_encoded(span) for span in spans]}
        return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}).encode()


def _is_valid(match: re.Match[str]) -> bool:
    """W3C: version ff is none, version 00 has no more fields, and ids of zeros are none."""
    return (
        match[1] != "ff" and not (match[1] == "00" and match[5]) and bool(match[2].strip("0") and match[3].strip("0"))
    )


def _encoded(span: Span) -> dict[str, Any]:
    encoded: dict[str, Any] = {
        "traceId": span.trace.trace_id,
        "spanId": span.trace.span_id,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(round(span.begin_s * 1e9)),
        "endTimeUnixNano": str(round(span.end_s * 1e9)),
        "attributes": _attributes(span.attributes),
    }
    if span.trace.parent_id:
        encoded["parentSpanId"] = span.trace.parent_id
    if span.failed:
        encoded["status"] = {"code": _ERROR}
    return encoded


def _attributes(values: Mapping[str, str | float]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: str | float) -> dict[str, Any]:
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}
