"""`pods/log`: passed on to the kubelet of the Pod's node, piece by piece, in both directions.

    GET https://NODE:KUBELET-PORT/containerLogs/NAMESPACE/POD/CONTAINER?follow=true&...

The server shows the kubelet a client certificate of its own CA (`security/`), as kube-apiserver does; the kubelet's own
certificate is not verified, because kubelets sign their own.
"""

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import httpx2

from mizzen.local.apiserver.answers import Answer, Stream
from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.errors import ApiError, BadRequest, Cause, InternalError, NotFound
from mizzen.local.apiserver.request import Query, Request
from mizzen.local.apiserver.schema import causes
from mizzen.local.apiserver.types import Json
from mizzen.local.apiserver.verbs.context import Context
from mizzen.local.apiserver.verbs.listing import not_found

_ADDRESSES = ("InternalIP", "ExternalIP", "Hostname")
_PASSED_ON = ("follow", "limitBytes", "previous", "sinceSeconds", "sinceTime", "stream", "tailLines", "timestamps")
_CONNECT_S = 5.0
_ERROR_BYTES_MAX = 2048
_TEXT = "text/plain"


@dataclass(slots=True)
class Logs:
    """Has one HTTP client for all kubelets; `close` it."""

    tls: ssl.SSLContext
    _client: httpx2.AsyncClient | None = field(default=None)

    async def get(self, context: Context, served: Served, request: Request) -> Answer | Stream:
        assert request.target is not None
        namespace, name = request.target.namespace, request.target.name
        _check_options(name, request.query)
        record = context.store.get(served.key, namespace, name)
        if record is None:
            raise not_found(served, name)
        pod = record.object()
        container = _container(pod, request.query.get("container"))
        node_name = pod["spec"].get("nodeName")
        if not node_name:
            return Answer(b"", 204, _TEXT)  # nothing has run yet
        node = context.store.get(("", "nodes"), "", node_name)
        if node is None:
            raise NotFound(f'nodes "{node_name}" not found', name=node_name, kind="nodes")
        path = "/".join(quote(part, safe="") for part in (namespace, name, container))
        query = urlencode([(key, request.query.get(key)) for key in _PASSED_ON if key in request.query])
        url = f"{_kubelet(node.object())}/containerLogs/{path}" + (f"?{query}" if query else "")
        return await self._open(url, name)

    async def _open(self, url: str, pod: str) -> Stream:
        if self._client is None:
            timeout = httpx2.Timeout(None, connect=_CONNECT_S)
            self._client = httpx2.AsyncClient(verify=self.tls, timeout=timeout, trust_env=False)
        try:
            response = await self._client.send(self._client.build_request("GET", url), stream=True)
        except httpx2.HTTPError as error:
            raise InternalError(
                f'Internal error occurred: Get "{url}": {str(error) or type(error).__name__}'
            ) from error
        if not 200 <= response.status_code < 300:
            raise await _refusal(response, pod)
        chunks = _chunks(response)
        return Stream(chunks, stop=lambda: None, content_type=response.headers.get("content-type", _TEXT))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


async def _chunks(response: httpx2.Response) -> AsyncIterator[bytes]:
    """What the kubelet sends, when it sends it. A node that goes away in between ends the log where it is."""
    try:
        async for chunk in response.aiter_raw():
            yield chunk
    except httpx2.HTTPError:
        return
    finally:
        await response.aclose()


async def _refusal(response: httpx2.Response, pod: str) -> ApiError:
    text = (await response.aread())[:_ERROR_BYTES_MAX].decode(errors="replace").strip()
    await response.aclose()
    match response.status_code:
        case 400:
            return BadRequest(text)
        case 404:
            return NotFound(
                f"the server could not find the requested resource ( pods/log {pod})",
                name=pod,
                kind="pods/log",
                causes=(Cause("UnexpectedServerResponse", text),),
            )
    return InternalError(f"Internal error occurred: the kubelet answered {response.status_code}: {text}")


def _container(pod: Json, wanted: str) -> str:
    """The container asked for, or the only one."""
    spec = pod["spec"]
    names = [str(c["name"]) for c in spec.get("containers") or ()]
    others = [str(c["name"]) for c in (*(spec.get("initContainers") or ()), *(spec.get("ephemeralContainers") or ()))]
    name = pod["metadata"]["name"]
    if wanted:
        if wanted not in names + others:
            raise BadRequest(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(names) == 1:
        return names[0]
    extra = f" or one of the init containers: [{' '.join(others)}]" if others else ""
    raise BadRequest(f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]{extra}")


def _kubelet(node: Json) -> str:
    status = node.get("status") or {}
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port")
    addresses = {address.get("type"): address.get("address") for address in status.get("addresses") or ()}
    host = next((addresses[kind] for kind in _ADDRESSES if addresses.get(kind)), None)
    if host is None or not port:
        name = node["metadata"]["name"]
        raise InternalError(f"Internal error occurred: no preferred addresses found or no kubelet port; node {name}")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _check_options(pod: str, query: Query) -> None:
    found = []
    numbers: dict[str, Any] = {}
    for name in ("tailLines", "limitBytes", "sinceSeconds"):
        numbers[name] = query.integer(name)
    if (numbers["tailLines"] or 0) < 0:
        found.append(causes.invalid("tailLines", numbers["tailLines"], "must be greater than or equal to 0"))
    if numbers["limitBytes"] is not None and numbers["limitBytes"] < 1:
        found.append(causes.invalid("limitBytes", numbers["limitBytes"], "must be greater than 0"))
    if numbers["sinceSeconds"] is not None and numbers["sinceSeconds"] < 1:
        found.append(causes.invalid("sinceSeconds", numbers["sinceSeconds"], "must be greater than 0"))
    if numbers["sinceSeconds"] is not None and query.get("sinceTime"):
        found.append(causes.forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    if found:
        raise causes.invalid_error("PodLogOptions", "", pod, found)
