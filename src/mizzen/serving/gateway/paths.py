"""The paths of the Open Inference Protocol, with and without a namespace:
`[/namespaces/NS]/v2/models/M[/versions/V][/…]`.
"""

import re
from collections.abc import Iterator

import msgspec

from mizzen.serving.gateway.directory import Endpoint
from mizzen.serving.gateway.errors import HttpError

DEFAULT_NAMESPACE = "default"
EXPLAIN = ":explain"
"""After an endpoint's name, that of the endpoint that explains its answers (`POST …/NAME:explain`)."""
_PATH = re.compile(
    r"""^(/namespaces/(?P<namespace>[^/]+))?/v2
    (/?|/health/(?P<health>live|ready)|/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?(/(?P<what>ready|infer))?)$""",
    re.VERBOSE,
)
_READ = ("GET", "HEAD")


class Asked(msgspec.Struct, frozen=True):
    """What a path asks for."""

    what: str
    """`metadata`, `live`, `ready` or `infer`."""
    methods: tuple[str, ...]
    namespace: str = DEFAULT_NAMESPACE
    model: str | None = None
    """`None`: it asks of the server."""
    version: int | None = None


def parse_path(path: str) -> Asked:
    """What is asked for at that path. Raises `HttpError` where there is nothing."""
    match = _PATH.match(path)
    if match is None:
        raise HttpError(404, f"{path}: expected a path of the Open Inference Protocol, such as /v2/models/NAME/infer",
                        "not_found")  # fmt: skip
    namespace = match["namespace"] or DEFAULT_NAMESPACE
    model, version = match["model"], match["version"]
    if model is None:
        return Asked(match["health"] or "metadata", _READ, namespace)
    if version is not None and not (version.isascii() and version.isdigit() and len(version) < 18):
        raise HttpError(404, f"version: expected a number, got {version!r}", "not_found")
    what = match["what"] or "metadata"
    number = int(version) if version is not None else None
    return Asked(what, ("POST",) if what == "infer" else _READ, namespace, model, number)


def inference_paths(endpoint: Endpoint) -> Iterator[tuple[str, int | None]]:
    """Where inference on this endpoint is answered, with the version each path asks for by number."""
    prefixes = [f"/namespaces/{endpoint.namespace}/v2/models/{endpoint.name}"]
    if endpoint.namespace == DEFAULT_NAMESPACE:
        prefixes.append(f"/v2/models/{endpoint.name}")
    for prefix in prefixes:
        if endpoint.name.endswith(EXPLAIN):
            yield prefix, None
        yield f"{prefix}/infer", None
        for version in endpoint.versions:
            yield f"{prefix}/versions/{version.version}/infer", version.version
