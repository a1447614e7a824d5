"""What is served besides resources: documents, version, health, metrics, and the keys that tokens are signed with."""

from collections.abc import Callable

from mizzen.local.apiserver.answers import Answer
from mizzen.local.apiserver.catalog import Catalog
from mizzen.local.apiserver.http.dispatch import wants_pretty
from mizzen.local.apiserver.http.documents import PAGE_NOT_FOUND, Documents
from mizzen.local.apiserver.http.negotiation import negotiate
from mizzen.local.apiserver.http.rendering import encoded
from mizzen.local.apiserver.metrics import Metrics
from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.security.service_account_tokens import ServiceAccountTokens
from mizzen.local.apiserver.store import Store
from mizzen.local.apiserver.store.records import encode
from mizzen.local.apiserver.types import Json

_TEXT = "text/plain; charset=utf-8"
_FIXED_PATHS = (
    "/.well-known/openid-configuration",
    "/api",
    "/api/v1",
    "/apis",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/openid/v1/jwks",
    "/readyz",
    "/version",
)

Check = Callable[[], str]
"""A health check: what is wrong, empty when nothing is."""


class Pages:
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
        self._url = f"https://{address}"
        self._checks = checks
        self._documents = Documents(catalog, str(version["gitVersion"]), address)

    def answer(self, request: Request) -> Answer:
        parts = request.path.strip("/").split("/")
        match parts:
            case ["api" | "apis", *_]:
                return self._documents.discovery(parts, request)
            case ["openapi", *rest]:
                return self._documents.openapi(rest, request)
            case ["healthz" | "livez" | "readyz", *_]:
                return self._health(parts, request)
            case ["version"]:
                return self._object(self._version, request)
            case ["metrics"]:
                return Answer(
                    self._metrics.text(self._store).encode(), content_type="text/plain; version=0.0.4; charset=utf-8"
                )
            case [".well-known", "openid-configuration"]:
                return self._object(self._tokens.openid_configuration(f"{self._url}/openid/v1/jwks"), request)
            case ["openid", "v1", "jwks"]:
                return Answer(encode(self._tokens.keys.jwks()), content_type="application/jwk-set+json")
            case [""]:
                return self._object({"paths": self._paths()}, request)
        return PAGE_NOT_FOUND

    @staticmethod
    def _object(obj: Json, request: Request) -> Answer:
        form = negotiate(request.headers.get("accept", ""), forms=False)
        return encoded(encode(obj), form, pretty=wants_pretty(request))

    def _health(self, parts: list[str], request: Request) -> Answer:
        """All checks, or one: `/readyz/store`. `?exclude=NAME` leaves one out, `?verbose` lists them.

        A server that cannot write, say because the disk is full, is not ready; it is alive all the same, because a
        restart would not help it.
        """
        endpoint, *named = parts
        checks = {"ping": self._checks["ping"]} if endpoint == "livez" else self._checks
        if named:
            check = checks.get("/".join(named))
            if check is None:
                return PAGE_NOT_FOUND
            problem = check()
            return Answer(problem.encode() or b"ok", 500 if problem else 200, _TEXT)
        excluded = set(request.query.all("exclude"))
        lines, failed = [], False
        for name, check in checks.items():
            problem = "" if name in excluded else check()
            failed = failed or bool(problem)
            said = "excluded: ok" if name in excluded else "ok"
            lines.append(f"[-]{name} failed: {problem}" if problem else f"[+]{name} {said}")
        if failed:
            return Answer("\n".join([*lines, f"{endpoint} check failed", ""]).encode(), 500, _TEXT)
        if "verbose" in request.query:
            return Answer("\n".join([*lines, f"{endpoint} check passed", ""]).encode(), content_type=_TEXT)
        return Answer(b"ok", content_type=_TEXT)

    def _paths(self) -> list[str]:
        paths = {*_FIXED_PATHS, "/livez/ping", *(f"/readyz/{name}" for name in self._checks)}
        for group in self._catalog.groups() - {""}:
            paths.add(f"/apis/{group}")
            paths |= {f"/apis/{group}/{version}" for version in self._catalog.versions(group)}
        return sorted(paths)
