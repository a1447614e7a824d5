"""What a model's signature expects of a request, whatever protocol it comes by.

All that follows from the signature is worked out beforehand. Each error names the place as the client wrote it:
`inputs[0].shape: expected [-1, 20], got [3, 19]`.
"""

from collections.abc import Iterable, Sequence
from typing import cast

from mizzen.serving.oip.inference import InferenceRequest, WantedOutput
from mizzen.serving.tensors import (
    DATATYPES,
    BadTensorError,
    Buffer,
    Signature,
    Tensor,
    TensorSpec,
    checked_size,
    element_count,
)

NO_SHARED_MEMORY = "shared memory is not offered"
NO_CLASSIFICATION = "classification is not offered"


class BadRequestError(ValueError):
    """What the client sent cannot be answered. The message is for the client: path, what was expected, what was
    found.
    """


class ExpectedInput:
    """One input of the signature."""

    __slots__ = ("_elements_of_row", "_shape", "_tail", "datatype", "index", "name")

    def __init__(self, index: int, spec: TensorSpec) -> None:
        self.index = index
        self.name = spec.name
        self.datatype = DATATYPES[spec.datatype]
        self._shape = spec.shape
        self._tail = spec.shape[1:] if spec.shape[:1] == (-1,) and -1 not in spec.shape[1:] else None
        """What follows the rows, where that is fixed."""
        self._elements_of_row = element_count(self._tail) if self._tail is not None else 0

    def check(self, datatype: str, shape: tuple[int, ...], index: int) -> None:
        """Raises `BadRequestError` where the index-th input given is not of this datatype and shape."""
        if datatype != self.datatype.name:
            raise BadRequestError(f"inputs[{index}].datatype: expected {self.datatype.name}, got {datatype}")
        if self._tail is not None and shape[1:] == self._tail and shape and shape[0] >= 0:
            return
        wanted = self._shape
        if len(shape) != len(wanted) or any(w not in {-1, n} or n < 0 for w, n in zip(wanted, shape, strict=True)):
            raise BadRequestError(f"inputs[{index}].shape: expected {list(wanted)}, got {list(shape)}")

    def count(self, shape: tuple[int, ...]) -> int:
        """Elements of a shape that was checked."""
        return shape[0] * self._elements_of_row if self._tail is not None else element_count(shape)

    def checked(self, shape: tuple[int, ...], data: Buffer, path: str) -> Buffer:
        """The raw data, where it holds exactly the elements of the shape. Raises `BadRequestError`."""
        try:
            checked_size(self.datatype, shape, data)
        except BadTensorError as error:
            raise BadRequestError(f"{path}: {error}") from error
        if self.datatype.json == "boolean" and bytes(data).strip(b"\0\1"):
            raise BadRequestError(f"{path}: expected booleans, each a byte of 0 or 1, got other bytes")
        return data


class Expectations:
    """A signature as requests are held against it."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.inputs = {spec.name: ExpectedInput(index, spec) for index, spec in enumerate(signature.inputs)}
        self._outputs = {spec.name for spec in signature.outputs}
        self._batchable = signature.batchable

    def input(self, name: str, index: int, given: Sequence[Tensor | None]) -> ExpectedInput:
        """The input that the index-th given is. Raises `BadRequestError` where there is none, or it came before."""
        found = self.inputs.get(name)
        if found is None:
            raise BadRequestError(f"inputs[{index}].name: expected one of {names(self.inputs)}, got {name!r}")
        if given[found.index] is not None:
            raise BadRequestError(f"inputs[{index}].name: {name!r} was given before")
        return found

    def request(self, given: Sequence[Tensor | None], id_: str | None) -> InferenceRequest:
        """The request with these inputs. Raises `BadRequestError` where one is missing, or their rows differ."""
        if None in given:
            missing = [name for name, one in self.inputs.items() if given[one.index] is None]
            raise BadRequestError(f"inputs: missing {names(missing)}")
        inputs = cast("list[Tensor]", given)
        return InferenceRequest(inputs, _rows(inputs) if self._batchable else 1, id_)

    def output(self, name: str, index: int, wanted: dict[str, WantedOutput]) -> None:
        """Raises `BadRequestError` where the index-th output asked for is none, or was asked for before."""
        if name not in self._outputs:
            known = names(spec.name for spec in self.signature.outputs)
            raise BadRequestError(f"outputs[{index}].name: expected one of {known}, got {name!r}")
        if name in wanted:
            raise BadRequestError(f"outputs[{index}].name: {name!r} was asked for before")


def schedule(request: InferenceRequest, timeout_us: int | None, priority: int) -> None:
    """Takes up Triton's schedule policy. Raises `BadRequestError`."""
    if timeout_us is not None and timeout_us < 0:
        raise BadRequestError(f"parameters.timeout: expected microseconds, at least 0, got {timeout_us}")
    if priority < 0:
        raise BadRequestError(f"parameters.priority: expected 0 (default), 1 (most urgent) or more, got {priority}")
    request.timeout_us = timeout_us
    request.priority = priority


def names(found: Iterable[str]) -> str:
    """Names as an error lists them."""
    return ", ".join(map(repr, found))


def _rows(inputs: list[Tensor]) -> int:
    rows = inputs[0].shape[0]
    if rows == 0:
        raise BadRequestError(f"input {inputs[0].name!r}: expected at least 1 row, got 0")
    for tensor in inputs[1:]:
        if tensor.shape[0] != rows:
            raise BadRequestError(
                f"input {tensor.name!r}: expected {rows} rows as {inputs[0].name!r} has, got {tensor.shape[0]}"
            )
    return rows
