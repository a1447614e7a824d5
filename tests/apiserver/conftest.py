"""An API server of the test's own, in a home of its own, and a client that speaks to it over TLS."""

import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from mizzen.local.apiserver.server import ApiServer

Json = dict[str, Any]
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


@dataclass
class Api:
    """Requests of one user; each answers `(status, body)`."""

    http: httpx2.AsyncClient
    server: ApiServer

    async def call(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **query: str
    ):
        headers = {"Content-Type": content_type} if body is not None else {}
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        response = await self.http.request(method, path, content=content, headers=headers, params=query)
        return response.status_code, response.json() if "json" in response.headers["content-type"] else response.text

    async def get(self, path: str, **query: str) -> Json:
        return await self.ok("GET", path, **query)

    async def create(self, path: str, body: Json, **query: str) -> Json:
        return await self.ok("POST", path, body, **query)

    async def merge(self, path: str, body: Json, **query: str) -> Json:
        return await self.ok("PATCH", path, body, MERGE, **query)

    async def delete(self, path: str, body: Json | None = None, **query: str) -> Json:
        return await self.ok("DELETE", path, body, **query)

    async def ok(self, method: str, path: str, body: Any = None, content_type: str = "application/json", **query: str):
        status, answer = await self.call(method, path, body, content_type, **query)
        assert status < 300, answer
        return answer

    @asynccontextmanager
    async def watch(self, path: str, **query: str) -> AsyncIterator[AsyncIterator[Json]]:
        """The events of a watch, one by one."""
        async with self.http.stream("GET", path, params={"watch": "true", **query}) as response:
            assert response.status_code == 200, await response.aread()
            yield (json.loads(line) async for line in response.aiter_lines())


def config_map(name: str, data: dict[str, str] | None = None, **metadata: Any) -> Json:
    body: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}}
    return {**body, "data": data} if data else body


def pod(name: str, **spec: Any) -> Json:
    containers = [{"name": "main", "image": "none"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers, **spec}}


def definition(plural: str = "widgets", kind: str = "Widget", schema: Json | None = None, **version: Any) -> Json:
    opened = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema or opened}, **version}
    names = {"plural": plural, "kind": kind}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [served]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": spec,
    }


def client_of(server: ApiServer, token: str | None = None) -> httpx2.AsyncClient:
    """A client with the kubeconfig's trust and, unless another is given, its token."""
    config = yaml.safe_load(server.kubeconfig.read_text())
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.load_verify_locations(cadata=_ca(config))
    bearer = token or config["users"][0]["user"]["token"]
    headers = {"Authorization": f"Bearer {bearer}", "User-Agent": "test/1"}
    return httpx2.AsyncClient(base_url=server.url, verify=trust, headers=headers, timeout=20)


def _ca(config: Json) -> str:
    return base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    started = ApiServer(tmp_path / "home", port=0)
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[Api]:
    async with client_of(server) as http:
        yield Api(http, server)
