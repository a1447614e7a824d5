"""Asking an endpoint: who answers, with which signature, and the request itself."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from mizzen.kinds import InferenceEndpoint, ModelVersion
from mizzen.kinds.build import Signature
from mizzen.kube.client import Client
from mizzen.sdk import keys, tensors
from mizzen.sdk.tensors import Array, DataError

TIMEOUT_S = 60.0


class PredictionError(Exception):
    """The endpoint refused or failed. `status` is the HTTP code, 0 where nothing answered."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Address:
    """An endpoint as a caller needs it."""

    url: str
    """Append `/infer`."""
    signature: Signature
    key: str | None


async def address_of(client: Client, name: str, namespace: str, home: Path, key: str | None = None) -> Address:
    """Where the endpoint answers, what it takes and the key to use. Raises `NotFound`, `PredictionError`."""
    endpoint = await client.get(InferenceEndpoint, name, namespace)
    status = endpoint.status
    if status.url is not None and status.graph is not None and status.graph.signature is not None:
        return Address(status.url, status.graph.signature, await _key(client, endpoint, namespace, home, key))
    if status.url is None or not status.traffic:
        raise PredictionError(f"endpoint {name} serves nothing yet: `mizzen describe ie {name}` says why", 503)
    version = await client.get(ModelVersion, status.traffic[0].model_version, namespace)
    return Address(status.url, version.spec.signature, await _key(client, endpoint, namespace, home, key))


async def _key(client: Client, endpoint: InferenceEndpoint, namespace: str, home: Path, key: str | None) -> str | None:
    if key is None and endpoint.spec.access != "anonymous":
        return await keys.own_key(client, namespace, home)
    return key


def request_of(address: Address, data: object) -> tuple[bytes, dict[str, str]]:
    """The body and headers for the data: rows, or a document of the protocol as it is. Raises `DataError`."""
    headers = {"Authorization": f"Bearer {address.key}"} if address.key else {}
    if isinstance(data, Mapping) and "inputs" in data:
        return msgspec.json.encode(data), {"Content-Type": "application/json", **headers}
    if isinstance(data, Mapping) and set(data) == {"instances"}:
        data = data["instances"]
    body, own = tensors.encode(tensors.arrays_of(data, address.signature), address.signature)
    return body, {**own, **headers}


async def predict(address: Address, data: object) -> dict[str, Array]:
    """The outputs by name. Raises `DataError`, `PredictionError`."""
    body, headers = request_of(address, data)
    async with httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http:
        try:
            response = await http.post(f"{address.url}/infer", content=body, headers=headers)
        except httpx2.TransportError as error:
            raise PredictionError(f"nothing answers at {address.url}: {error}. Is `mizzen up` running?", 0) from error
    if response.status_code != httpx2.codes.OK:
        raise PredictionError(f"{response.status_code}: {_error_of(response)}", response.status_code)
    length = response.headers.get("Inference-Header-Content-Length")
    return tensors.decode(response.content, int(length) if length else None)


async def stream(address: Address, data: object) -> AsyncIterator[dict[str, Any]]:
    """The parts of an answer as they come: outputs by name. `data` is one request as `generate` takes it: inputs by
    name, and `parameters`. Raises `DataError`, `PredictionError`, also after some parts.
    """
    if not isinstance(data, Mapping):
        raise DataError(f"expected one object with the inputs by name, got {type(data).__name__}")
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {address.key}"} if address.key else {})
    timeout = httpx2.Timeout(TIMEOUT_S)  # of each part
    async with httpx2.AsyncClient(timeout=timeout, trust_env=False) as http:
        try:
            asked = http.stream(
                "POST", f"{address.url}/generate_stream", content=msgspec.json.encode(data), headers=headers
            )
            async with asked as response:
                if response.status_code != httpx2.codes.OK:
                    await response.aread()
                    raise PredictionError(f"{response.status_code}: {_error_of(response)}", response.status_code)
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        yield _part(line.removeprefix("data: "))
        except httpx2.TransportError as error:
            raise PredictionError(f"{address.url}: the answer broke off: {error!r}", 0) from error


def _part(text: str) -> dict[str, Any]:
    part: dict[str, Any] = msgspec.json.decode(text)
    if "error" in part:
        raise PredictionError(str(part["error"]), httpx2.codes.INTERNAL_SERVER_ERROR)
    return {name: value for name, value in part.items() if name not in {"model_name", "model_version", "id"}}


def _error_of(response: httpx2.Response) -> str:
    try:
        document: Any = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        return response.text[:500]
    return str(document.get("error", document)) if isinstance(document, Mapping) else response.text[:500]
