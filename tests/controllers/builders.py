"""Objects for tests: small, valid, with overrides."""

from typing import Any

from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import BatchPrediction, Dataset, InferenceEndpoint, Model, ModelVersion, TrainingJob

T0, T1, T2 = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"
CODE = "sha256:" + "c" * 64
SETTINGS = PlatformSettings("file:///store", "http://127.0.0.1:7080")


def metadata(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": "default", "uid": f"uid-{name}", "generation": 1, "resourceVersion": "1", **more}


def dataset(name: str = "flights", status: dict[str, Any] | None = None, generation: int = 1, **spec: Any) -> Dataset:
    body = {"source": {"python": "flights:rows"}, "code": CODE, **spec}
    return Dataset.model_validate(
        {"metadata": metadata(name, generation=generation), "spec": body, "status": status or {}}
    )


def loaded_dataset(name: str = "flights", version: int = 0) -> Dataset:
    condition = {
        "type": "Loaded",
        "status": "True",
        "reason": "Loaded",
        "lastTransitionTime": T0,
        "observedGeneration": 1,
    }
    return dataset(name, {"version": version, "digest": "sha256:" + "d" * 64, "conditions": [condition]})


def training(name: str = "late", status: dict[str, Any] | None = None, generation: int = 1, **spec: Any) -> TrainingJob:
    body = {"model": "late", "entrypoint": "train:fit", "code": CODE, "datasets": [{"name": "flights"}], **spec}
    return TrainingJob.model_validate(
        {"metadata": metadata(name, generation=generation), "spec": body, "status": status or {}}
    )


def model(name: str = "late", status: dict[str, Any] | None = None, **spec: Any) -> Model:
    return Model.model_validate({"metadata": metadata(name), "spec": spec, "status": status or {}})


def model_version(number: int, *, model: str = "late", auc: float = 0.7) -> ModelVersion:
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 3]}
    spec = {
        "model": model,
        "version": number,
        "artifact": {"digest": f"sha256:{number:064x}", "bytes": 10},
        "signature": {"inputs": [tensor], "outputs": [tensor]},
        "metrics": {"roc_auc": auc},
    }
    return ModelVersion.model_validate({"metadata": metadata(f"{model}-{number}"), "spec": spec})


def endpoint(status: dict[str, Any] | None = None, generation: int = 1, **spec: Any) -> InferenceEndpoint:
    body = {"model": "late@production", **spec}
    return InferenceEndpoint.model_validate(
        {"metadata": metadata("late", generation=generation), "spec": body, "status": status or {}}
    )


def batch(
    name: str = "nightly", status: dict[str, Any] | None = None, generation: int = 1, **spec: Any
) -> BatchPrediction:
    body = {"model": "late:3", "input": {"dataset": "flights"}, "output": {"dataset": "scored"}, **spec}
    if "endpoint" in body:
        del body["model"]
    made = metadata(name, generation=generation, creationTimestamp=T0)
    return BatchPrediction.model_validate({"metadata": made, "spec": body, "status": status or {}})
