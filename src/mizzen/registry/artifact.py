"""Models in the store: `models/sha256/<hex>.onnx`, and beside each an example request that it answers.

The example is the body of an Open Inference Protocol request as JSON: a worker warms up on it, and a person can send it
with curl. JSON has no NaN: where a row of the example lacks a number, it says 0.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mizzen.data.lake.objects import Store, digest_of, path_by_digest
from mizzen.kinds.build import Artifact, Signature

_FOLDER, _MODEL, _EXAMPLE = "models", ".onnx", ".example.json"


def model_path(digest: str) -> str:
    """Where the model lies in the store."""
    return path_by_digest(_FOLDER, digest, _MODEL)


def example_path(digest: str) -> str:
    """Where its example lies."""
    return path_by_digest(_FOLDER, digest, _EXAMPLE)


def put_model(store: Store, model: bytes, signature: Signature, example: dict[str, NDArray[Any]] | None) -> Artifact:
    """Stores the model and its example, if any. The model comes last: whoever finds it finds the example too."""
    digest = digest_of(model)
    if example is not None:
        store.put(example_path(digest), example_request(signature, example))
    store.put_by_digest(_FOLDER, model, _MODEL)
    return Artifact(digest=digest, bytes=len(model))


def get_model(store: Store, digest: str) -> bytes:
    """The model's bytes. Raises `DigestMismatch` where they are not those."""
    return store.get_by_digest(_FOLDER, digest, _MODEL)


def example_request(signature: Signature, example: dict[str, NDArray[Any]]) -> bytes:
    """The rows as the JSON body of an inference request."""
    inputs = []
    for tensor in signature.inputs:
        values = example[tensor.name]
        finite = np.nan_to_num(values, posinf=0.0, neginf=0.0) if values.dtype.kind == "f" else values
        data = finite.reshape(-1).tolist()
        inputs.append({"name": tensor.name, "shape": [*values.shape], "datatype": tensor.datatype, "data": data})
    return json.dumps({"inputs": inputs}, allow_nan=False).encode()
