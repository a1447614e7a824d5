"""Triton's generate extension as a codec: one row as a flat JSON object, whose keys are the model's inputs.

    {"text": "a b c", "parameters": {"most": 2}, "id": "7"}   ->   {"id": "7", "model_name": "m", …, "text": "A"}

A value is written without a list where the input's row has one element. What is not an input goes into `parameters`,
which the model reads. An unknown key is refused, as a column that is not there.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from mizzen.serving.oip.expected import BadRequestError, schedule
from mizzen.serving.oip.inference import InferenceRequest
from mizzen.serving.oip.request import decoded_json
from mizzen.serving.rows import column, row_values, value_type
from mizzen.serving.tensors import Buffer, Signature, Tensor, TensorSpec

_encode = msgspec.json.Encoder().encode
_Parameters = dict[str, bool | int | float | str]


class GenerateCodec:
    """One row to tensors, and parts of its answer back, for one model version."""

    def __init__(self, model: str, version: str, signature: Signature) -> None:
        batchable = signature.batchable
        self._inputs = [spec if batchable else _as_row(spec) for spec in signature.inputs]
        self._batchable = batchable
        self._head = {"model_name": model, "model_version": version}
        fields: list[tuple[str, Any]] = [(f"c{index}", value_type(spec)) for index, spec in enumerate(self._inputs)]
        names = {f"c{index}": spec.name for index, spec in enumerate(self._inputs)}
        for name, type_, default in (("id", str | None, None), ("parameters", _Parameters | None, None)):
            if name not in names.values():
                fields.append((name, type_, default))  # type: ignore[arg-type]
        request = msgspec.defstruct("Generate", fields, forbid_unknown_fields=True, rename=names, kw_only=True)
        self._decode = msgspec.json.Decoder(request).decode

    def decode(self, body: Buffer) -> InferenceRequest:
        """The request. Raises `BadRequestError`."""
        found: Any = decoded_json(self._decode, body)
        inputs = []
        for index, spec in enumerate(self._inputs):
            one = column(spec, [getattr(found, f"c{index}")], "")
            shape = one.shape if self._batchable else one.shape[1:]
            inputs.append(Tensor(one.name, one.datatype, shape, one.data))
        request = InferenceRequest(inputs, 1, getattr(found, "id", None))
        parameters: _Parameters = getattr(found, "parameters", None) or {}
        timeout, priority = (parameters.pop(name, 0) for name in ("timeout", "priority"))
        for name, value in (("timeout", timeout), ("priority", priority)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise BadRequestError(f"parameters.{name}: expected an integer, got {value!r}")
        schedule(request, int(timeout) or None, int(priority))
        request.parameters = parameters
        return request

    def encode(self, request: InferenceRequest, outputs: Sequence[Tensor]) -> bytes:
        """A part of the answer. Raises `BadTensorError` where an output has no JSON form."""
        head = self._head if request.id is None else {"id": request.id, **self._head}
        values = {}
        for output in outputs:
            rows = row_values(output)
            values[output.name] = rows[0] if len(rows) == 1 else rows
        return _encode({**head, **values})


def _as_row(spec: TensorSpec) -> TensorSpec:
    """The whole input as one row."""
    return TensorSpec(spec.name, spec.datatype, (-1, *spec.shape))
