"""Traces and the access log: what callers are told of a request, by its context and by lines."""

import json
from collections import Counter

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.serving.gateway.access import AccessLog
from mizzen.serving.gateway.gateway import Gateway
from mizzen.serving.gateway.observer import Observer
from mizzen.serving.gateway.trace_settings import TraceSettings
from mizzen.serving.gateway.tracing import SPANS_MAX, Span, Trace, Tracer

from .played import Stage, endpoint, turn

pytestmark = pytest.mark.looptime
HERE = "default", "m"
IDS = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Sink:
    """A collector that keeps what it is sent."""

    def __init__(self, status: int = 200) -> None:
        self.spans: list[dict] = []
        self.status = status
        self.client = httpx2.AsyncClient(transport=httpx2.MockTransport(self._take))

    def _take(self, request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/v1/traces"
        document = json.loads(request.content)
        (resource,) = document["resourceSpans"]
        names = {pair["key"]: pair["value"] for pair in resource["resource"]["attributes"]}
        assert names["service.name"] == {"stringValue": "mizzen-gateway"}
        (scope,) = resource["scopeSpans"]
        self.spans += scope["spans"]
        return httpx2.Response(self.status)


def tracer(ratio: float = 1.0) -> Tracer:
    return Tracer("http://collector:4318", TraceSettings(ratio))


def stage_with(observer: Observer) -> Stage:
    stage = Stage()
    stage.gateway = Gateway(stage.gateway.clock, connect=stage._linked, observer=observer)
    stage.gateway.endpoint_changed(endpoint())
    return stage


def test_a_caller_who_traces_is_followed_and_one_who_does_not_is_not():
    one = tracer(0.0)
    trace = one.begin(f"00-{IDS[0]}-{IDS[1]}-01", HERE)
    assert (trace.trace_id, trace.parent_id) == IDS
    assert trace.context == f"00-{IDS[0]}-{trace.span_id}-01"
    assert trace.span_id != IDS[1]
    assert tracer(1.0).begin(f"00-{IDS[0]}-{IDS[1]}-00", HERE) is None


@pytest.mark.parametrize(
    "bad",
    [
        "", "00", f"ff-{IDS[0]}-{IDS[1]}-01", f"00-{'0' * 32}-{IDS[1]}-01", f"00-{IDS[0]}-{'0' * 16}-01",
        f"00-{IDS[0]}-{IDS[1]}-01-more", f"00-{IDS[0].upper()}-{IDS[1]}-01", f"00-{IDS[0]}-{IDS[1]}-1",
    ],
)  # fmt: skip
def test_what_is_no_context_is_as_none(bad):
    trace = tracer(1.0).begin(bad, HERE)
    assert trace is not None
    assert trace.parent_id == ""
    assert trace.trace_id != IDS[0]


def test_a_context_of_a_later_version_is_understood():
    assert tracer(0.0).begin(f"01-{IDS[0]}-{IDS[1]}-01-what-comes", HERE).trace_id == IDS[0]


@given(st.floats(0, 1), st.binary(min_size=16, max_size=16))
def test_drawing_is_by_the_trace_id_alone(ratio, drawn):
    """Whoever draws the same id at the same or a higher ratio takes it too."""
    taken = Tracer("http://c", TraceSettings(ratio), random=lambda n: drawn[:n]).begin(None, HERE) is not None
    assert taken == (int.from_bytes(drawn[8:], "big") < round(ratio * 2**64))


async def test_a_traced_request_is_a_span_with_its_waiting_and_its_computing():
    one, sink = tracer(), Sink()
    stage = stage_with(Observer(stage_clock := (lambda: 5.0), one, None, wall=lambda: 1000.0))
    link = stage.worker()
    stage.call(1.0, traceparent=f"00-{IDS[0]}-{IDS[1]}-01")
    stage.call(2.0, traceparent=f"00-{IDS[0]}-{IDS[1]}-00")
    stage.call(body=b"{", traceparent=f"00-{IDS[0]}-{IDS[1]}-01")
    await turn()
    link.answer()
    await one.send(sink.client)
    assert Counter(span["name"] for span in sink.spans) == {"infer m": 2, "queue": 1, "compute": 1}
    assert {span["traceId"] for span in sink.spans} == {IDS[0]}
    refused, whole = [span for span in sink.spans if span["name"] == "infer m"]
    assert whole["parentSpanId"] == IDS[1]
    assert all(span["parentSpanId"] == whole["spanId"] for span in sink.spans if span["name"] in {"queue", "compute"})
    attributes = {pair["key"]: pair["value"] for pair in whole["attributes"]}
    assert attributes["ml.inference.rows"] == {"intValue": "1"}
    assert {"key": "http.response.status_code", "value": {"intValue": "400"}} in refused["attributes"]
    assert stage_clock() == 5.0


async def test_a_failure_of_ours_is_an_error_and_one_of_the_clients_is_not():
    one, sink = tracer(), Sink()
    stage = stage_with(Observer(lambda: 0.0, one, None))
    link = stage.worker()
    stage.call(1.0)
    await turn()
    link.fail("no")
    stage.call(body=b"{")
    await one.send(sink.client)
    by_status = {
        pair["value"]["intValue"]: span.get("status")
        for span in sink.spans for pair in span["attributes"] if pair["key"] == "http.response.status_code"
    }  # fmt: skip
    assert by_status["400"] is None
    assert by_status["500"] == {"code": 2}


async def test_spans_that_cannot_be_kept_or_sent_are_counted():
    one = tracer()
    span = Span(Trace(*IDS, ""), "x", 0.0, 1.0, {})
    for _ in range(SPANS_MAX + 3):
        one.add(span)
    assert one.lost == 3
    await one.send(Sink(503).client)
    assert one.lost == SPANS_MAX + 3
    await one.send(Sink(503).client)
    assert one.lost == SPANS_MAX + 3


async def test_every_request_is_a_line(tmp_path):
    access = AccessLog(str(tmp_path / "access.log"))
    stage = stage_with(Observer(lambda: 0.0, None, access, wall=lambda: 1_700_000_000.0))
    link = stage.worker()
    body = {"id": "mine", "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
    stage.call(body=json.dumps(body).encode(), mizzen_unit="u1")
    await turn()
    link.answer()
    stage.call(body=b"{")
    gone = stage.call(1.0)
    gone.leave()
    access.close()
    lines = [json.loads(line) for line in (tmp_path / "access.log").read_bytes().splitlines()]
    assert [(line["status"], line["outcome"]) for line in lines] == [
        (200, "ok"),
        (400, "bad_request"),
        (499, "cancelled"),
    ]
    assert lines[0]["time"] == "2023-11-14T22:13:20.000+00:00"
    assert {key: lines[0][key] for key in ("namespace", "endpoint", "path", "rows", "id", "unit")} == {
        "namespace": "default", "endpoint": "m", "path": "/v2/models/m/infer", "rows": 1, "id": "mine", "unit": "u1"
    }  # fmt: skip
    assert "trace_id" not in lines[0]


async def test_what_is_not_watched_has_nothing():
    stage = stage_with(Observer(lambda: 0.0, tracer(0.0), None))
    stage.worker()
    assert stage.call(1.0).exchange.observed is None
