"""Asking an endpoint: who answers, with which signature, and the request itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from mizzen.kinds import InferenceEndpoint, ModelVersion
from mizzen.kinds.build import Signature
from mizzen.kube.client import Client
from mizzen.sdk import keys, tensors
from mizzen.sdk.tensors import Array

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
    if endpoint.status.url is None or not endpoint.status.traffic:
        raise PredictionError(f"endpoint {name} serves nothing yet: `mizzen describe ie {name}` says why", 503)
    version = await client.get(ModelVersion, endpoint.status.traffic[0].model_version, namespace)
    if key is None and endpoint.spec.access != "anonymous":
        key = await keys.own_key(client, namespace, home)
    return Address(endpoint.status.url, version.spec.signature, key)


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


def _error_of(response: httpx2.Response) -> str:
    try:
        document: Any = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        return response.text[:500]
    return str(document.get("error", document)) if isinstance(document, Mapping) else response.text[:500]
