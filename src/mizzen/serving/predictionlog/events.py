"""CloudEvents for those who set a sink: each request and its answer, as KServe's logger sends them.

Binary mode over HTTP: the body is the Open Inference Protocol's JSON, and headers say what it is. Types are
`org.kubeflow.serving.inference.request` and `.response`; the two of a request share their `Ce-Id`. What has no answer
has a request event alone; of an answer in parts each is a response, those after the first with `/1`, `/2`, … behind the
id.

Segments come here after the table has them, so a sink that is away delays no table. Delivery is at least once: a
writer that was killed amid a segment sends it again, with the same ids. A sink that refuses an event (4xx) is not
asked again with it, and what waits for a sink beyond `BACKLOG_BYTES` is given up, oldest first; both are counted.
"""

import asyncio
import itertools
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import httpx2

from mizzen.serving.oip.response import json_data
from mizzen.serving.predictionlog.record import Chunk, Record, Stream, redactions
from mizzen.serving.predictionlog.spool import Contents
from mizzen.serving.tensors import BadTensorError, Tensor, TensorSpec, row_slices

REQUEST, RESPONSE = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"
BACKLOG_BYTES = 64 << 20
TOGETHER = 16
"""Events on their way at once."""
TIMEOUT_S = 10.0
_AGAIN = frozenset({408, 425, 429})


class SinkUnavailable(Exception):
    """The sink does not take events now."""


class Event(NamedTuple):
    """One HTTP request to the sink."""

    url: str
    headers: dict[str, str]
    body: bytes


def events_of(contents: Contents) -> Iterator[Event]:
    """The events of a segment, in order."""
    for chunk in contents.chunks:
        stream = contents.streams[chunk.stream]
        if not stream.sink:
            continue
        inputs = _parts(stream, stream.inputs, stream.columns, chunk, chunk.inputs)
        outputs = _parts(stream, stream.outputs, (), chunk, chunk.outputs)
        for record, given, got in itertools.zip_longest(chunk.records, inputs, outputs):
            if record is None:
                break
            if given is not None and stream.events in {"request", "all"}:
                yield _event(stream, chunk, record, REQUEST, {"id": record.id, "inputs": given})
            if got is not None and stream.events in {"response", "all"}:
                answer = {
                    "model_name": stream.endpoint, "model_version": str(stream.version), "id": record.id, "outputs":
                    got,
                }  # fmt: skip
                yield _event(stream, chunk, record, RESPONSE, answer)


def _event(stream: Stream, chunk: Chunk, record: Record, type_: str, body: object) -> Event:
    came_s = chunk.epoch_s + record.came_s
    seconds = came_s if type_ == REQUEST else came_s + record.total_s
    headers = {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": f"{record.id}/{record.part}" if record.part else record.id,
        "ce-type": type_,
        "ce-source": f"/namespaces/{stream.namespace}/inferenceendpoints/{stream.endpoint}",
        "ce-time": datetime.fromtimestamp(seconds, UTC).isoformat(),
        "ce-inferenceservicename": stream.endpoint,
        "ce-namespace": stream.namespace,
        "ce-component": "predictor",
        "ce-endpoint": f"{stream.model}-{stream.version}",
    }
    return Event(stream.sink, headers, json.dumps(body).encode())


def _parts(
    stream: Stream, specs: Sequence[TensorSpec], columns: Sequence[str], chunk: Chunk, data: list[bytes]
) -> list[list[dict[str, object]]]:
    """Each record's tensors as the protocol's JSON has them; empty where the chunk has none. Redacted values are
    null.
    """
    if not data:
        return []
    hidden = redactions(specs, columns, stream.redact)
    told = chunk.input_shapes if specs is stream.inputs else chunk.output_shapes
    rows = [record.rows for record in chunk.records]
    of_tensor = []
    for index, spec in enumerate(specs):
        if hidden.get(index) == []:
            continue
        if told is None:
            whole = Tensor(spec.name, spec.datatype, (sum(rows), *spec.shape[1:]), data[index])
            parts = row_slices(whole, rows)
        else:
            flat = Tensor(spec.name, spec.datatype, (sum(map(_elements, (of[index] for of in told))),), data[index])
            parts = row_slices(flat, [_elements(of[index]) for of in told])
            for part, of in zip(parts, told, strict=True):
                part.shape = tuple(of[index])
        of_tensor.append([_json(part, hidden.get(index, [])) for part in parts])
    return [list(tensors) for tensors in zip(*of_tensor, strict=True)]


def _elements(shape: Sequence[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def _json(tensor: Tensor, hidden: list[int]) -> dict[str, object]:
    try:
        values: list[object] = json.loads(json_data(tensor))
    except BadTensorError:  # bytes that are no text have no JSON form
        values = []
    for column in hidden:
        values[column :: tensor.shape[1]] = [None] * tensor.shape[0]
    return {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype, "data": values}


async def deliver(client: httpx2.AsyncClient, contents: Contents) -> int:
    """Sends all events of a segment; returns how many the sink refused for good.

    Raises `SinkUnavailable` where one could not be delivered: all are to be sent again.
    """
    refused = 0
    events = events_of(contents)
    while batch := list(itertools.islice(events, TOGETHER)):
        refused += sum(await asyncio.gather(*(_send(client, event) for event in batch)))
    return refused


async def _send(client: httpx2.AsyncClient, event: Event) -> bool:
    """Whether the sink refused it for good."""
    try:
        answer = await client.post(event.url, content=event.body, headers=event.headers, timeout=TIMEOUT_S)
    except httpx2.HTTPError as error:
        raise SinkUnavailable(f"{event.url}: {error}") from error
    except (ValueError, httpx2.InvalidURL):
        return True  # a header that HTTP has no form for
    if answer.status_code >= 500 or answer.status_code in _AGAIN:
        raise SinkUnavailable(f"{event.url}: answered {answer.status_code}")
    return answer.status_code >= 400
