"""The paths of REST: the Open Inference Protocol's with Triton's extensions, with and without a namespace, and the
route for people.

    [/namespaces/NS]/v2[/health/live|ready]
    [/namespaces/NS]/v2/models                                   listing
    [/namespaces/NS]/v2/models/stats
    [/namespaces/NS]/v2/models/M[/versions/V][/ready|config|stats|infer|generate|generate_stream|openapi.json|…]
    [/namespaces/NS]/v2/repository/index
    [/namespaces/NS]/v2/trace/setting
    [/namespaces/NS]/v1/endpoints/M:predict|explain
    [/namespaces/NS]/v1/features/SERVICE                         vectors of features
    [/namespaces/NS]/get-online-features                         the same as Feast has it
"""

import re
from collections.abc import Iterator

import msgspec

from mizzen.serving.gateway.directory import Endpoint
from mizzen.serving.gateway.errors import HttpError

DEFAULT_NAMESPACE = "default"
EXPLAIN = ":explain"
"""After an endpoint's name, that of the endpoint that explains its answers (`POST …/NAME:explain`)."""


FEATURES = ("features", "get-online-features")
"""What the feature server answers."""
INFERENCE = ("infer", "generate", "generate_stream")
"""What is asked of a version by a path of its own, and answered by a worker."""
_PATH = re.compile(
    r"""^(/namespaces/(?P<namespace>[^/]+))?
    (/v2/?(?P<server>|health/live|health/ready|models|models/stats|repository/index|trace/setting)
    |/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?
     (/(?P<what>ready|config|stats|infer|generate|generate_stream|openapi\.json|trace/setting))?
    |/v1/endpoints/(?P<endpoint>[^/:]+):(?P<verb>predict|explain)
    |/v1/(?P<vectors>features)/(?P<service>[^/]+)
    |/(?P<feast>get-online-features))$""",
    re.VERBOSE,
)
_READ = ("GET", "HEAD")
_METHODS = {
    "features": ("POST",), "get-online-features": ("POST",),
    "infer": ("POST",), "predict": ("POST",), "generate": ("POST",), "generate_stream": ("POST",),
    "repository/index": ("POST",), "trace/setting": (*_READ, "POST"),
}  # fmt: skip


class Asked(msgspec.Struct, frozen=True):
    """What a path asks for."""

    what: str
    """As in the path; `metadata` where it ends with the server's or the model's name."""
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
    if match["server"] is not None:
        what = match["server"] or "metadata"
        return Asked(what, _METHODS.get(what, _READ), namespace)
    what = match["verb"] or match["what"] or match["vectors"] or match["feast"] or "metadata"
    model, version = match["endpoint"] or match["model"] or match["service"], match["version"]
    if what == "explain":
        what, model = "predict", f"{model}{EXPLAIN}"
    number = version_number(version) if version is not None else None
    return Asked(what, _METHODS.get(what, _READ), namespace, model, number)


def version_number(version: str) -> int:
    """Raises `HttpError` where that is no version."""
    if not (version.isascii() and version.isdigit() and len(version) < 18):
        raise HttpError(404, f"version: expected a number, got {version!r}", "not_found")
    return int(version)


def inference_paths(endpoint: Endpoint) -> Iterator[tuple[str, int | None, str]]:
    """Where requests of this endpoint are answered by workers, the version each path asks for, and what it asks."""
    prefixes = [f"/namespaces/{endpoint.namespace}"]
    if endpoint.namespace == DEFAULT_NAMESPACE:
        prefixes.append("")
    for prefix in prefixes:
        if endpoint.name.endswith(EXPLAIN):
            yield f"{prefix}/v1/endpoints/{endpoint.name}", None, "predict"
            yield f"{prefix}/v2/models/{endpoint.name}", None, "infer"
        else:
            yield f"{prefix}/v1/endpoints/{endpoint.name}:predict", None, "predict"
        model = f"{prefix}/v2/models/{endpoint.name}"
        for what in INFERENCE:
            yield f"{model}/{what}", None, what
            for version in endpoint.versions:
                yield f"{model}/versions/{version.version}/{what}", version.version, what
