"""Discovery and OpenAPI: what is served, told to clients. Each document is made when first asked for.

Discovery is kept until the served types change. An OpenAPI document is kept under the hash of what it is made from,
so a new custom resource costs its own group's document and the index, and nobody else's.
"""

import hashlib
from collections.abc import Callable

from mizzen.local.apiserver.answers import JSON, Answer
from mizzen.local.apiserver.catalog import Catalog
from mizzen.local.apiserver.errors import NotFound
from mizzen.local.apiserver.http.dispatch import wants_pretty
from mizzen.local.apiserver.http.negotiation import PLAIN, negotiate
from mizzen.local.apiserver.http.rendering import encoded
from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.schema import discovery, openapi
from mizzen.local.apiserver.store.records import encode
from mizzen.local.apiserver.types import Json

PAGE_NOT_FOUND = Answer(b"404 page not found\n", 404, "text/plain; charset=utf-8")
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
_OPENAPI_DOCUMENTS_MAX = 256


class Documents:
    def __init__(self, catalog: Catalog, git_version: str, address: str) -> None:
        self._catalog = catalog
        self._git_version = git_version
        self._address = address
        self._generation = -1
        self._kept: dict[tuple[str, ...], bytes | None] = {}
        self._hashes: dict[str, str] = {}
        self._openapi: dict[tuple[str, str], bytes | None] = {}

    # Discovery.

    def discovery(self, parts: list[str], request: Request) -> Answer:
        """`/api`, `/apis` and what is below them, down to a version; the roots also as one aggregated document."""
        types = self._catalog.types
        match parts:
            case ["api" | "apis" as root]:
                for version in ("v2", "v2beta1"):
                    if _accepts_aggregated(request.headers.get("accept", ""), version):
                        return self._aggregated(root, version, request)
                made = self._document(
                    (root,),
                    lambda: (
                        discovery.api_versions(self._address) if root == "api" else discovery.api_group_list(types())
                    ),
                )
            case ["api", version]:
                made = self._document(("api", version), lambda: discovery.api_resource_list(types(), "", version))
            case ["apis", group]:
                made = self._document(("apis", group), lambda: discovery.api_group(types(), group))
            case ["apis", group, version]:
                made = self._document(
                    ("apis", group, version), lambda: discovery.api_resource_list(types(), group, version)
                )
            case _:
                made = None
        if made is None:
            if parts[0] == "api" or parts[1] in self._catalog.groups():
                raise NotFound("the server could not find the requested resource")
            return PAGE_NOT_FOUND
        return self._shown(made, request)

    def _aggregated(self, root: str, version: str, request: Request) -> Answer:
        made = self._document(
            ("aggregated", root, version),
            lambda: discovery.aggregated(self._catalog.types(), core=root == "api", version=version),
        )
        assert made is not None
        etag = f'"{hashlib.sha256(made).hexdigest().upper()}"'
        media_type = _AGGREGATED.format(version)
        if request.headers.get("if-none-match") == etag:
            return Answer(b"", 304, media_type, (("etag", etag),))
        body = encoded(made, PLAIN, pretty=wants_pretty(request)).body
        return Answer(body, content_type=media_type, headers=(("etag", etag), ("vary", "Accept")))

    def _document(self, key: tuple[str, ...], make: Callable[[], Json | None]) -> bytes | None:
        self._forget_old()
        if key not in self._kept:
            document = make()
            self._kept[key] = None if document is None else encode(document)
        return self._kept[key]

    def _forget_old(self) -> None:
        if self._generation != self._catalog.generation:
            self._kept.clear()
            self._hashes.clear()
            self._generation = self._catalog.generation

    @staticmethod
    def _shown(made: bytes, request: Request) -> Answer:
        form = negotiate(request.headers.get("accept", ""), forms=False)
        pretty = wants_pretty(request)
        return Answer(made) if form.media == JSON and not pretty else encoded(made, form, pretty=pretty)

    # OpenAPI.

    def openapi(self, parts: list[str], request: Request) -> Answer:
        """`v2`, `v3` and `v3/GROUP-VERSION`; with `?hash=` the answer may be kept for ever."""
        match parts:
            case ["v2"] if request.headers.get("accept", "").startswith(openapi.ASKED_PROTOBUF):
                return Answer(openapi.v2_protobuf(self._git_version), content_type=openapi.PROTOBUF)
            case ["v2"]:
                key = ""
                made = self._by_hash("v2", key, lambda: openapi.v2_document(self._catalog.types(), self._git_version))
            case ["v3"]:
                index = self._document(("openapi", "v3"), lambda: openapi.v3_index(self._catalog.types()))
                assert index is not None
                return Answer(index)
            case ["v3", *rest]:
                key = "/".join(rest)
                made = self._by_hash(
                    "v3", key, lambda: openapi.v3_document(self._catalog.types(), key, self._git_version)
                )
            case _:
                return PAGE_NOT_FOUND
        if made is None:
            return PAGE_NOT_FOUND
        right = self._hash(key)
        given = request.query.get("hash")
        if given and given != right:
            return Answer(b"", 301, headers=(("location", f"/openapi/v3/{key}?hash={right}"),))
        etag = f'"{right}"'
        headers = [("etag", etag), *([("cache-control", "public, immutable")] if given else [])]
        if request.headers.get("if-none-match") == etag:
            return Answer(b"", 304, headers=headers)
        return Answer(made, headers=headers)

    def _hash(self, key: str) -> str:
        self._forget_old()
        if key not in self._hashes:
            self._hashes[key] = openapi.document_hash(self._catalog.types(), key)
        return self._hashes[key]

    def _by_hash(self, version: str, key: str, make: Callable[[], Json | None]) -> bytes | None:
        name = (f"{version}/{key}", self._hash(key))
        if name not in self._openapi:
            if len(self._openapi) >= _OPENAPI_DOCUMENTS_MAX:
                self._openapi.clear()
            document = make()
            self._openapi[name] = None if document is None else encode(document)
        return self._openapi[name]


def _accepts_aggregated(accept: str, version: str) -> bool:
    wanted = {"g=apidiscovery.k8s.io", f"v={version}", "as=APIGroupDiscoveryList"}
    for clause in accept.replace(" ", "").split(","):
        media_type, *parameters = clause.split(";")
        if media_type in {JSON, "application/*", "*/*"} and wanted <= set(parameters):
            return True
    return False
