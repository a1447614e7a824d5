"""Models in the store: `models/sha256/<hex>.onnx`, or `<hex>.model.json` and the files it names (`package.py`), and
beside each an example request that it answers.

The example is the body of an Open Inference Protocol request as JSON: a worker warms up on it, and a person can send it
with curl. JSON has no NaN: where a row of the example lacks a number, it says 0.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mizzen.data.lake.objects import Store, digest_of, path_by_digest
from mizzen.kinds.build import Artifact, Signature
from mizzen.registry.package import ENDING, FILES_FOLDER, REQUIREMENTS, Package, decode
from mizzen.registry.prepared import Prepared

_FOLDER, _MODEL, _EXAMPLE = "models", ".onnx", ".example.json"


def model_path(digest: str) -> str:
    """Where the model lies in the store."""
    return path_by_digest(_FOLDER, digest, _MODEL)


def example_path(digest: str) -> str:
    """Where its example lies."""
    return path_by_digest(_FOLDER, digest, _EXAMPLE)


def put_model(store: Store, prepared: Prepared) -> Artifact:
    """Stores the model with all that belongs to it. It comes last: whoever finds it finds the rest too."""
    digest = digest_of(prepared.model)
    for entry, data in prepared.parts:
        path = path_by_digest(FILES_FOLDER, entry.digest, "")
        if store.stat(path) is None:
            store.put(path, data)
    if prepared.example is not None:
        store.put(example_path(digest), example_request(prepared.signature, prepared.example))
    for ending, data in prepared.beside:
        store.put(path_by_digest(_FOLDER, digest, ending), data)
    store.put_by_digest(_FOLDER, prepared.model, _MODEL if prepared.format == "onnx" else ENDING)
    lock = next((entry.digest for entry, _ in prepared.parts if entry.path == REQUIREMENTS), None)
    return Artifact(
        digest=digest,
        format=prepared.format,
        bytes=len(prepared.model) + sum(entry.bytes for entry, _ in prepared.parts),
        code=prepared.code,
        entrypoint=prepared.entrypoint,
        requirements=lock,
        untrusted_types=list(prepared.untrusted),
    )


def get_model(store: Store, digest: str) -> bytes:
    """The model's bytes. Raises `DigestMismatch` where they are not those."""
    return store.get_by_digest(_FOLDER, digest, _MODEL)


def get_package(store: Store, digest: str) -> Package:
    """The document of a model with several parts. Raises `DigestMismatch` where it is another."""
    return decode(store.get_by_digest(_FOLDER, digest, ENDING))


def example_request(signature: Signature, example: dict[str, NDArray[Any]]) -> bytes:
    """The rows as the JSON body of an inference request."""
    inputs = []
    for tensor in signature.inputs:
        values = example[tensor.name]
        finite = np.nan_to_num(values, posinf=0.0, neginf=0.0) if values.dtype.kind == "f" else values
        data = [_text(one) if tensor.datatype == "BYTES" else one for one in finite.reshape(-1).tolist()]
        inputs.append({"name": tensor.name, "shape": [*values.shape], "datatype": tensor.datatype, "data": data})
    return json.dumps({"inputs": inputs}, allow_nan=False).encode()


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
