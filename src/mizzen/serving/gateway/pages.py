"""What the protocol tells of the server and its models, as plain values that REST writes as JSON and gRPC as messages.

Who may ask is the gateway's business; here is only what is so. Models are the endpoints: their versions those that get
traffic. What Triton's extensions let a client load, unload and log is declared in resources here, so it is told and not
taken; what is traced is set (`trace_settings`).
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from mizzen.serving.gateway.directory import EndpointKey
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.measures import Measures, VersionMeasures
from mizzen.serving.gateway.service import Service
from mizzen.version import __version__

PLATFORM = "onnxruntime_onnx"
EXTENSIONS = (
    "binary_tensor_data", "generate", "model_configuration", "model_repository", "parameters", "schedule_policy",
    "statistics", "trace",
)  # fmt: skip
_DATA_TYPES = (
    "INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
    "STRING", "BF16",
)  # fmt: skip
"""Triton's `DataType`, in the order of its numbers."""
_NS_PER_S = 1_000_000_000
T = TypeVar("T")


class _IndexRequest(msgspec.Struct):
    ready: bool = False


Totals = Callable[[EndpointKey], Measures]
"""What all gateway processes of this machine have counted at an endpoint."""


def server() -> dict[str, Any]:
    """Server metadata."""
    return {"name": "mizzen", "version": __version__, "extensions": list(EXTENSIONS)}


def model(service: Service, number: int | None) -> dict[str, Any]:
    """Model metadata. Raises `HttpError` where it is not known yet."""
    check_version(service, number)
    found = service.signature(number)
    if found is None:
        name = service.endpoint.name
        raise HttpError(503, f"{name}: what it takes is not known yet, since no version gets traffic", "not_ready")
    _, signature = found
    tensors = {
        what: [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]
        for what, specs in (("inputs", signature.inputs), ("outputs", signature.outputs))
    }
    return {
        "name": service.endpoint.name, "versions": [str(version.version) for version in service.endpoint.versions],
        "platform": PLATFORM, **tensors,
    }  # fmt: skip


def is_ready(service: Service, number: int | None) -> bool:
    """Whether a version has a worker; any version where no number is said."""
    check_version(service, number)
    return any(number is None or version.version == number for version in service.ready_versions)


def check_version(service: Service, number: int | None) -> None:
    """Raises `HttpError` where that version gets no traffic."""
    versions = service.endpoint.versions
    if number is not None and all(version.version != number for version in versions):
        known = ", ".join(str(version.version) for version in versions) or "none"
        raise HttpError(404, f"version: expected one that gets traffic ({known}), got {number}", "not_found")


def configuration(service: Service, number: int | None) -> dict[str, Any]:
    """The model's configuration as Triton tells it, as far as it means anything here."""
    found = model(service, number)
    batchable = all(spec["shape"][:1] == [-1] for spec in (*found["inputs"], *found["outputs"]))

    def tensor(spec: dict[str, Any]) -> dict[str, Any]:
        name = "STRING" if spec["datatype"] == "BYTES" else spec["datatype"]
        return {"name": spec["name"], "data_type": f"TYPE_{name}", "dims": spec["shape"][1 if batchable else 0 :]}

    return {
        "name": found["name"], "platform": PLATFORM, "backend": "onnxruntime",
        "max_batch_size": service.endpoint.batch_rows_max if batchable else 0,
        "input": [tensor(spec) for spec in found["inputs"]], "output": [tensor(spec) for spec in found["outputs"]],
    }  # fmt: skip


def data_type_number(name: str) -> int:
    """Triton's number of a `TYPE_…`."""
    return _DATA_TYPES.index(name.removeprefix("TYPE_"))


def index(services: Iterable[Service], *, ready_only: bool) -> list[dict[str, str]]:
    """The repository's index: each version that gets traffic, and whether it has a worker."""
    found = []
    for service in services:
        ready = {version.version for version in service.ready_versions}
        rows = [
            {"name": service.endpoint.name, "version": str(version.version),
             "state": "READY" if version.version in ready else "UNAVAILABLE",
             "reason": "" if version.version in ready else "no worker is ready"}
            for version in service.endpoint.versions
        ]  # fmt: skip
        if not rows:
            reason = service.endpoint.hopeless or "no version gets traffic"
            rows = [{"name": service.endpoint.name, "version": "", "state": "UNAVAILABLE", "reason": reason}]
        found += [row for row in rows if not ready_only or row["state"] == "READY"]
    return found


def statistics(services: Iterable[Service], totals: Totals, number: int | None) -> dict[str, Any]:
    """What was counted at each version that gets traffic, or at that one, in Triton's words.

    Requests that were refused before a version was chosen for them are counted at the endpoint (`/metrics`), and here
    only where there is one version.
    """
    found = []
    for service in services:
        check_version(service, number)
        measures = totals(service.endpoint.key)
        versions = [version.version for version in service.endpoint.versions or service.versions]
        for version in versions if number is None else [number]:
            counted = measures.versions.get(version, VersionMeasures())
            failed = counted.failed
            if len(versions) == 1:
                failed = sum(measures.outcomes.values()) - measures.outcomes.get("ok", 0)
            found.append(
                {
                    "name": service.endpoint.name,
                    "version": str(version),
                    "inference_count": counted.rows,
                    "execution_count": counted.batches,
                    "inference_stats": {
                        "success": _duration(counted.ok, counted.ok_s),
                        "fail": {"count": failed, "ns": 0},
                        "queue": _duration(counted.sent, counted.sent_s),
                        "compute_infer": _duration(counted.batches, counted.compute_s),
                    },
                }
            )
    return {"model_stats": found}


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * _NS_PER_S)}


def listing(services: Iterable[Service]) -> dict[str, Any]:
    """The endpoints, and where each is described."""
    return {
        "models": [
            {"name": service.endpoint.name,
             "versions": [str(version.version) for version in service.endpoint.versions],
             "ready": bool(service.ready_versions),
             "openapi": f"/namespaces/{service.endpoint.namespace}/v2/models/{service.endpoint.name}/openapi.json"}
            for service in services
        ]
    }  # fmt: skip


def asks_for_ready(body: bytes) -> bool:
    """Whether a request for the index wants ready models alone. Raises `HttpError`."""
    return _decoded(body, _IndexRequest).ready


def settings_in(body: bytes) -> dict[str, Any]:
    """The settings that a client asks for. Raises `HttpError`."""
    return _decoded(body, dict[str, Any])


def _decoded(body: bytes, type_: type[T]) -> T:
    if not body.strip():
        body = b"{}"
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"body: expected JSON: {error}", "bad_request") from error
