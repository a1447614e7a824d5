"""One node asked: an exchange like a client's to the node's service, but its request and its answer are tensors."""

from collections.abc import Callable, Mapping, Sequence

from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.served import Served
from mizzen.serving.oip import BadRequestError, InferenceRequest
from mizzen.serving.tensors import Tensor, TensorSpec

Tensors = Mapping[str, Tensor]
"""By name; what a tensor calls itself may be another node's name for it."""
Outcome = dict[str, Tensor] | HttpError
Then = Callable[[Outcome], None]
"""Told once how a node came out: its outputs, or why there are none."""


class Hop(Exchange):
    """A request of the graph's own."""

    __slots__ = ("_fail", "_inputs", "_then")

    def __init__(
        self, inputs: Tensors, now: float, deadline_s: float, then: Then, fail: Callable[[HttpError], None]
    ) -> None:
        """`fail` is called where telling `then` has failed."""
        super().__init__(now, deadline_s)
        self._fail = fail
        self._inputs: Tensors = inputs
        self._then: Then | None = then

    def read(self, served: Served) -> InferenceRequest:
        """The inputs in that version's order. Raises `BadRequestError` where they are not what it takes."""
        inputs = [_checked(spec, self._inputs.get(spec.name)) for spec in served.asked.inputs]
        rows = inputs[0].shape[0] if served.batchable else 1
        if served.batchable and any(tensor.shape[0] != rows for tensor in inputs):
            shapes = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in inputs)
            raise BadRequestError(f"expected the same number of rows in all inputs, got {shapes}")
        return InferenceRequest(inputs, rows)

    def write(self, served: Served, outputs: Sequence[Tensor]) -> None:
        then, self._then = self._then, None
        if then is not None:
            then({spec.name: tensor for spec, tensor in zip(served.signature.outputs, outputs, strict=True)})
        self.abandon()

    def refuse(self, error: HttpError) -> None:
        then, self._then = self._then, None
        self.abandon()
        if then is not None:
            then(error)
        else:
            self._fail(error)

    def forget(self) -> None:
        """Nobody waits for it any more, and nobody is to be told."""
        self._then = self._fail = _nothing


def _nothing(_: Outcome) -> None:
    """Told to nobody."""


def _checked(spec: TensorSpec, tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise BadRequestError(f"input {spec.name!r}: missing")
    shape, wanted = tensor.shape, spec.shape
    fits = len(shape) == len(wanted) and all(w in {-1, n} for w, n in zip(wanted, shape, strict=True))
    if tensor.datatype != spec.datatype or not fits:
        raise BadRequestError(
            f"input {spec.name!r}: expected {spec.datatype}{list(wanted)}, got {tensor.datatype}{list(shape)}"
        )
    return tensor if tensor.name == spec.name else Tensor(spec.name, spec.datatype, shape, tensor.data)
