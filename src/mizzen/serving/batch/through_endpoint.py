"""An endpoint's workers, asked by its gateway like any client's requests, behind everybody else's.

Its requests ask for the background (`policy.queue`): they wait below all priorities and are given to an idle worker
alone. The version is pinned in the path, so that all answers of a run are of one model; where the endpoint goes on to
another, the run goes on with a worker of its own.

How much is asked for at once follows what the endpoint takes: one slice more after each round of answers, half as much
after a refusal (additive increase, multiplicative decrease, as TCP has it).
"""

import contextlib
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx2
import msgspec

from mizzen.data.pod import Failure
from mizzen.policy.queue import BACKGROUND
from mizzen.serving.batch.predictor import Again, Gone, Refused
from mizzen.serving.batch.task import BatchTask
from mizzen.serving.tensors import Tensor

KEY = "MIZZEN_API_KEY"
TIMEOUT_S = 120.0
"""Longer than an endpoint lets requests wait by default."""
WIDTH_FIRST, WIDTH_MAX = 2.0, 64.0
STEP_LATER = 1 / 16
"""How much slower it grows again once it was refused: how much the endpoint takes is about known then."""
WIDTH_FOR_WORKER = 4.0
"""Slices on their way for each worker: enough that none of them waits for the next, and the queue stays short."""


class ThroughEndpoint:
    """A `Predictor`."""

    def __init__(self, task: BatchTask, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        address = task.endpoint
        assert address is not None, "the controller says which endpoint"
        self.rows_max = min(task.batch_rows, address.batch_rows_max)
        self._name = address.name
        self._url = f"{address.url}/versions/{task.model.version}/infer"
        key = os.environ.get(KEY)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx2.Limits(max_connections=int(WIDTH_MAX))
        self._http = httpx2.AsyncClient(
            headers=headers, timeout=TIMEOUT_S, trust_env=False, limits=limits, transport=transport
        )
        self._width, self._step = WIDTH_FIRST, 1.0
        self._width_max = min(WIDTH_MAX, WIDTH_FOR_WORKER * max(1, address.workers))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    @property
    def width(self) -> int:
        """See `Predictor`."""
        return int(self._width)

    async def predict(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See `Predictor`."""
        body, headers = _request(inputs)
        try:
            response = await self._http.post(self._url, content=body, headers=headers)
        except httpx2.TransportError as error:
            self._width = 1.0
            raise Again(f"endpoint {self._name} does not answer: {str(error) or type(error).__name__}") from error
        if response.status_code == httpx2.codes.OK:
            self._width = min(self._width_max, self._width + self._step / self._width)
            return _outputs(response)
        raise self._refusal(response)

    def _refusal(self, response: httpx2.Response) -> Again | Gone | Refused | Failure:
        said = _error_of(response)
        status = response.status_code
        if status in {401, 403}:
            # A key that was made just now may not have reached the gateway yet.
            return Again(f"endpoint {self._name} does not know the run's API key yet: {said}")
        if status == 404:
            return Gone(f"endpoint {self._name} does not serve this version any more: {said}")
        if status in {400, 413, 500}:
            return Refused(said)
        self._width, self._step = max(1.0, self._width / 2), STEP_LATER
        return Again(f"endpoint {self._name} is busy ({status}): {said}", _retry_after_s(response))


def _request(inputs: Sequence[Tensor]) -> tuple[bytes, dict[str, str]]:
    """The Open Inference Protocol with binary tensors."""
    tensors = [
        {
            "name": tensor.name,
            "shape": tensor.shape,
            "datatype": tensor.datatype,
            "parameters": {"binary_data_size": len(tensor.data)},
        }
        for tensor in inputs
    ]
    head = msgspec.json.encode({"inputs": tensors, "parameters": {"binary_data_output": True, "priority": BACKGROUND}})
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return b"".join([head, *(tensor.data for tensor in inputs)]), headers


def _outputs(response: httpx2.Response) -> list[Tensor]:
    body = response.content
    size = int(response.headers.get("Inference-Header-Content-Length", len(body)))
    document: dict[str, Any] = msgspec.json.decode(body[:size])
    outputs, position = [], size
    for output in document["outputs"]:
        bytes_ = output["parameters"]["binary_data_size"]
        data = memoryview(body)[position : position + bytes_]
        outputs.append(Tensor(output["name"], output["datatype"], tuple(output["shape"]), data))
        position += bytes_
    return outputs


def _error_of(response: httpx2.Response) -> str:
    with contextlib.suppress(msgspec.DecodeError):
        document = msgspec.json.decode(response.content)
        if isinstance(document, dict) and "error" in document:
            return str(document["error"])
    return response.text[:300]


def _retry_after_s(response: httpx2.Response) -> float | None:
    """In seconds; a gateway gives no dates."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None
