"""What is served besides resources: discovery, OpenAPI, version, health and metrics."""

import hashlib
from collections.abc import Callable
from typing import Any

from mizzen.local.apiserver.answers import JSON, Answer, Reply
from mizzen.local.apiserver.catalog import Catalog
from mizzen.local.apiserver.errors import NotFound
from mizzen.local.apiserver.http.dispatch import wants_pretty
from mizzen.local.apiserver.http.negotiation import Representation, negotiate
from mizzen.local.apiserver.http.rendering import encoded
from mizzen.local.apiserver.metrics import Metrics
from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.schema import discovery, openapi
from mizzen.local.apiserver.security.service_account_tokens import ServiceAccountTokens
from mizzen.local.apiserver.store import Store
from mizzen.local.apiserver.store.records import encode
from mizzen.local.apiserver.types import Json

_NOT_FOUND = Answer(b"404 page not found\n", 404, "text/plain; charset=utf-8")
_TEXT = "text/plain; charset=utf-8"
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"

Check = Callable[[], str]
"""A health check: what is wrong, empty when nothing is."""


class Pages:
    """Discovery documents are made when first asked for and kept until the served types change."""

    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        metrics: Metrics,
        tokens: ServiceAccountTokens,
        version: Json,
        address: str,
        checks: dict[str, Check],
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._metrics = metrics
        self._tokens = tokens
        self._version = version
        self._address = address
        self._url = f"https://{address}"
        self._checks = checks
        self._documents: dict[tuple[str, ...], Any] = {}
        self._documents_of = -1

    async def answer(self, request: Request) -> Reply:
        path = request.path.rstrip("/") or "/"
        parts = path.strip("/").split("/")
        match parts[0]:
            case "api" | "apis":
                return self._discovery(parts, request)
            case "healthz" | "livez" | "readyz":
                return self._health(parts, request)
            case "openapi":
                return self._openapi(parts[1:], request)
            case ".well-known" if parts[1:] == ["openid-configuration"]:
                return self._object(self._tokens.openid_configuration(f"{self._url}/openid/v1/jwks"), request)
            case "openid" if parts[1:] == ["v1", "jwks"]:
                return Answer(encode(self._tokens.keys.jwks()), content_type="application/jwk-set+json")
            case "version" if len(parts) == 1:
                return self._object(self._version, request)
            case "metrics" if len(parts) == 1:
                return Answer(
                    self._metrics.text(self._store).encode(), content_type="text/plain; version=0.0.4; charset=utf-8"
                )
            case "":
                return self._object({"paths": self._paths()}, request)
        return _NOT_FOUND

    def _object(self, obj: Json, request: Request, form: Representation | None = None) -> Answer:
        form = form or negotiate(request.headers.get("accept", ""), forms=False)
        return encoded(obj, form, pretty=wants_pretty(request))

    def _kept(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        if self._documents_of != self._catalog.generation:
            self._documents.clear()
            self._documents_of = self._catalog.generation
        if key not in self._documents:
            self._documents[key] = make()
        return self._documents[key]

    def _discovery(self, parts: list[str], request: Request) -> Answer:
        types = self._catalog.types
        if len(parts) == 1:
            core = parts[0] == "api"
            accept = request.headers.get("accept", "").replace(" ", "")
            for version in ("v2", "v2beta1"):
                if _accepts_aggregated(accept, version):
                    document = self._kept(
                        ("aggregated", parts[0], version),
                        lambda version=version: discovery.aggregated(types(), core=core, version=version),  # type: ignore[misc]
                    )
                    assert document is not None
                    made = encoded(document, Representation(JSON), pretty=wants_pretty(request))
                    return Answer(made.body, content_type=_AGGREGATED.format(version))
            document = self._kept(
                (parts[0],),
                lambda: discovery.api_versions(self._address) if core else discovery.api_group_list(types()),
            )
        elif parts[0] == "api":
            document = self._kept(tuple(parts), lambda: discovery.api_resource_list(types(), "", parts[1]))
        elif len(parts) == 2:
            document = self._kept(tuple(parts), lambda: discovery.api_group(types(), parts[1]))
        else:
            document = self._kept(tuple(parts), lambda: discovery.api_resource_list(types(), parts[1], parts[2]))
        if document is None:
            known = parts[0] == "api" or parts[1] in self._catalog.groups()
            if known:
                raise NotFound("the server could not find the requested resource")
            return _NOT_FOUND
        return self._object(document, request)

    def _openapi(self, parts: list[str], request: Request) -> Answer:
        """Version 3 by group and version, version 2 as a whole. Documents are kept as bytes: they are long."""
        types, key = self._catalog.types, "/".join(parts[1:])
        git_version = str(self._version["gitVersion"])
        if parts == ["v2"]:
            made = self._kept_bytes("v2", lambda: openapi.v2_document(types(), git_version))
        elif parts == ["v3"]:
            made = self._kept_bytes("v3", lambda: openapi.v3_index(types()))
        elif parts[:1] == ["v3"]:
            made = self._kept_bytes(f"v3/{key}", lambda: openapi.v3_document(types(), key, git_version))
        else:
            return _NOT_FOUND
        if made is None:
            return _NOT_FOUND
        etag = f'"{hashlib.sha256(made).hexdigest().upper()}"'
        if request.headers.get("if-none-match") == etag:
            return Answer(b"", 304, headers=(("etag", etag),))
        cached = (("cache-control", "public, immutable"),) if "hash" in request.query else ()
        return Answer(made, headers=(("etag", etag), *cached))

    def _kept_bytes(self, name: str, make: Callable[[], Json | None]) -> bytes | None:
        def encoded_document() -> bytes | None:
            document = make()
            return None if document is None else encode(document)

        kept = self._kept(("openapi", name), encoded_document)
        assert kept is None or isinstance(kept, bytes)
        return kept

    def _health(self, parts: list[str], request: Request) -> Answer:
        endpoint = parts[0]
        if len(parts) == 2:
            check = self._checks.get(parts[1])
            if check is None:
                return _NOT_FOUND
            problem = check()
            return Answer(b"ok" if not problem else problem.encode(), 200 if not problem else 500, _TEXT)
        excluded = set(request.query.all("exclude"))
        lines, failed = [], False
        for name, check in self._checks.items():
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
                continue
            problem = check()
            failed = failed or bool(problem)
            lines.append(f"[-]{name} failed: {problem}" if problem else f"[+]{name} ok")
        if failed:
            return Answer("\n".join([*lines, f"{endpoint} check failed", ""]).encode(), 500, _TEXT)
        if "verbose" in request.query:
            return Answer("\n".join([*lines, f"{endpoint} check passed", ""]).encode(), content_type=_TEXT)
        return Answer(b"ok", content_type=_TEXT)

    def _paths(self) -> list[str]:
        paths = {
            "/api",
            "/api/v1",
            "/apis",
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/readyz",
            "/version",
        }
        for group in self._catalog.groups() - {""}:
            paths.add(f"/apis/{group}")
            paths |= {f"/apis/{group}/{version}" for version in self._catalog.versions(group)}
        return sorted(paths)


def _accepts_aggregated(accept: str, version: str) -> bool:
    for clause in accept.split(","):
        media_type, *parameters = clause.split(";")
        if media_type in {JSON, "application/*", "*/*"} and {
            "g=apidiscovery.k8s.io",
            f"v={version}",
            "as=APIGroupDiscoveryList",
        } <= set(parameters):
            return True
    return False
