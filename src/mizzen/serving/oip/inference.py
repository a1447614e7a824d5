"""A request that fits its model's signature, whatever protocol it came by."""

import msgspec

from mizzen.serving.tensors import Tensor

Parameter = bool | int | float | str


class WantedOutput(msgspec.Struct, frozen=True):
    """An output the client asked for, and whether as binary."""

    name: str
    binary: bool


class InferenceRequest(msgspec.Struct):
    """A request that fits the model's signature."""

    inputs: list[Tensor]
    """In the signature's order."""
    rows: int
    """Length of the first dimension where the model is batchable, else 1."""
    id: str | None = None
    timeout_us: int | None = None
    """How long the client will wait, from now; 0 as `None`: as long as the endpoint says."""
    priority: int = 0
    """1 is the most urgent, larger is less so; 0: the endpoint's default (Triton's schedule policy)."""
    outputs: tuple[WantedOutput, ...] | None = None
    """`None`: all outputs, in `binary` form or not."""
    binary: bool = False
    parameters: dict[str, Parameter] | None = None
    """What else the client said, for a model that reads it."""
    given: list[Tensor] | None = None
    """What the client sent, where the inputs were made of it: keys, whose features were looked up."""
