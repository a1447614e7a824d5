"""The ways into the registry: a trained model, and a model file without training.

Each checks first, then stores, then creates the version: what is found under a version's digest is always whole, and a
model that cannot be served never gets a number. All of it can be repeated: objects are stored by digest, and a version
with a run is found again.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mizzen.data.lake.code import bundle, put_bundle
from mizzen.data.lake.objects import Store
from mizzen.kinds.build import Lineage, ModelVersion
from mizzen.kube.client import Client
from mizzen.registry.artifact import put_model
from mizzen.registry.errors import ConversionDiffers, ConversionFailed, ModelUnfit
from mizzen.registry.extras import part
from mizzen.registry.lineage import imported_packages, python_version
from mizzen.registry.onnx_file import RUNTIME_ERRORS, inspect, session_of, zeros_for
from mizzen.registry.originals import Original, onnx_bytes, original_of
from mizzen.registry.package import FORMATS
from mizzen.registry.prepared import Prepared
from mizzen.registry.python_model import PythonModel, prepare_python
from mizzen.registry.rows import NUMPY, Rows, inputs_of
from mizzen.registry.version import ClusterVersions, Versions, create_version

log = logging.getLogger(__name__)


def prepare(
    model: Any,
    example: Any | None = None,
    holdout: Any | None = None,
    form: Literal["auto", "onnx", "native"] = "auto",
    code: tuple[Store, str] | None = None,
) -> Prepared:
    """Makes ONNX of a trained model and checks it, or inspects a model file.

    `example` is some rows of what the model is given; only model files can do without. `holdout` is rows for the check.
    `form`: where there is no conversion to ONNX that answers the same, the model is kept in its library's own format,
    unless it is to be `onnx`; with `native` it is kept so in any case. `code`: the store, and the digest of a bundle
    in it, where a model's types may be the user's own.
    Raises `ModelUnfit` of the kind that says what is wrong.
    """
    if isinstance(model, str | os.PathLike) and Path(model).suffix in FORMATS:
        return part("native").prepare_native_file(Path(model), example)  # type: ignore[no-any-return]
    if type(model).__module__.startswith("torch.export"):
        return part("torch_program").prepare_program(model, example, holdout)  # type: ignore[no-any-return]
    original = original_of(model)
    if original is None:
        return _prepared_onnx(onnx_bytes(model) or b"", example)
    if example is None:
        raise ModelUnfit(
            "expected some rows as an example, from which the model's inputs get their names and types, got none"
        )
    if form == "native":
        return part("native").prepare_native(original, example, holdout, code)  # type: ignore[no-any-return]
    try:
        converted = part("convert").convert(original, example, holdout)
    except (ConversionFailed, ConversionDiffers) as failure:
        if form == "onnx":
            raise
        return _prepared_instead(original, example, holdout, code, failure)
    return Prepared(
        converted.model,
        converted.signature,
        converted.example,
        converted.check,
        original.source_type,
        beside=converted.beside,
    )


def _prepared_instead(
    original: Original, example: Any, holdout: Any | None, code: tuple[Store, str] | None, failure: ModelUnfit
) -> Prepared:
    """In its library's own format. Raises `failure` where that cannot be done either."""
    try:
        prepared: Prepared = part("native").prepare_native(original, example, holdout, code)
    except ModelUnfit as error:
        raise type(failure)(f"{failure}; nor can it be kept in its own format: {error}") from error
    log.info("%s is kept as %s: %s", original.source_type, prepared.format, failure)
    return prepared


def _prepared_onnx(model: bytes, example: Any | None) -> Prepared:
    inspected = inspect(model)
    signature = inspected.signature
    feed = zeros_for(signature) if inspected.answers_zeros else None
    if example is not None:
        if isinstance(example, Mapping):
            feed = {one.name: np.asarray(example.get(one.name, ()), NUMPY[one.datatype]) for one in signature.inputs}
        else:
            rows = Rows(example)
            inputs = inputs_of(signature, rows)
            feed = inputs.feed(rows)
            signature.columns = list(inputs.columns)
        try:
            session_of(model).run(None, feed)
        except RUNTIME_ERRORS as error:
            raise ModelUnfit(f"the model cannot run its example: {' '.join(str(error).split())[:300]}") from error
    return Prepared(model, signature, feed, None, "onnx")


async def register(
    versions: Versions,
    store: Store,
    name: str,
    prepared: Prepared,
    *,
    run: str | None = None,
    metrics: Mapping[str, float] | None = None,
    lineage: Lineage | None = None,
) -> ModelVersion:
    """Stores a prepared model and makes it the next version of `name` (or returns the one that `run` made)."""
    artifact = put_model(store, prepared)
    base = lineage if lineage is not None else Lineage(python=python_version(), packages=imported_packages())
    return await create_version(
        versions,
        model=name,
        run=run,
        artifact=artifact,
        signature=prepared.signature,
        metrics=metrics or {},
        lineage=base.model_copy(update={"source_type": prepared.source_type}),
        conversion=prepared.check,
    )


async def register_file(
    client: Client,
    store: Store,
    model: str,
    path: Path,
    *,
    namespace: str = "default",
    example: Any | None = None,
    metrics: Mapping[str, float] | None = None,
) -> ModelVersion:
    """Makes a model file the next version of `model`. Raises `ModelUnfit` where it cannot be served."""
    prepared = prepare(path, example)
    return await register(
        ClusterVersions(client, namespace), store, model, prepared, metrics=metrics, lineage=Lineage()
    )


async def register_python(
    client: Client,
    store: Store,
    name: str,
    model: PythonModel,
    code: Path,
    *,
    example: Any | None = None,
    namespace: str = "default",
    metrics: Mapping[str, float] | None = None,
) -> ModelVersion:
    """Makes a class of the project folder `code` the next version of `name`.

    Raises `ModelUnfit` where it cannot be served, `CodeError` where the folder is no project.
    """
    prepared = prepare_python(model, store, put_bundle(store, bundle(code)), example)
    lineage = Lineage(code=prepared.code, entrypoint=model.entrypoint, parameters=dict(model.parameters))
    versions = ClusterVersions(client, namespace)
    return await register(versions, store, name, prepared, metrics=metrics, lineage=lineage)


async def register_estimator(
    client: Client,
    store: Store,
    model: str,
    estimator: Any,
    *,
    example: Any | None = None,
    holdout: Any | None = None,
    form: Literal["auto", "onnx", "native"] = "auto",
    code: tuple[Store, str] | None = None,
    namespace: str = "default",
    metrics: Mapping[str, float] | None = None,
) -> ModelVersion:
    """Makes a trained model the next version of `model`; see `prepare`.

    Raises `ModelUnfit` where it cannot be served.
    """
    prepared = prepare(estimator, example, holdout, form, code)
    return await register(ClusterVersions(client, namespace), store, model, prepared, metrics=metrics)
