"""Types of tensors on their way through a graph, and when one fits where another is expected."""

from collections.abc import Iterable
from dataclasses import dataclass

from mizzen.kinds.build import Signature, Tensor


class GraphError(ValueError):
    """The graph's parts do not fit: where, and what was expected and found."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


@dataclass(frozen=True, slots=True)
class Type:
    """A datatype of the Open Inference Protocol and a shape; -1 stands where any length goes."""

    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.datatype}{list(self.shape)}"

    @property
    def counts_rows(self) -> bool:
        """Whether its first dimension is of any length: that of the rows."""
        return self.shape[:1] == (-1,)


Ports = dict[str, Type]
"""Tensors by name."""


def ports_of(tensors: Iterable[Tensor]) -> Ports:
    """The tensors of one side of a signature."""
    return {tensor.name: Type(tensor.datatype, tuple(tensor.shape)) for tensor in tensors}


def signature_of(inputs: Ports, outputs: Ports) -> Signature:
    """The other way."""

    def tensors(ports: Ports) -> list[Tensor]:
        return [
            Tensor.model_validate({"name": name, "datatype": type_.datatype, "shape": list(type_.shape)})
            for name, type_ in ports.items()
        ]

    return Signature(inputs=tensors(inputs), outputs=tensors(outputs))


def met(one: Type, other: Type) -> Type | None:
    """What is of both types: where one leaves a length open the other decides. `None`: nothing is."""
    if one.datatype != other.datatype or len(one.shape) != len(other.shape):
        return None
    shape = []
    for a, b in zip(one.shape, other.shape, strict=True):
        if a != b and -1 not in {a, b}:
            return None
        shape.append(max(a, b))
    return Type(one.datatype, tuple(shape))


def joined(one: Type, other: Type) -> Type | None:
    """What both are of: where their lengths differ it is left open. `None`: they are too different."""
    if one.datatype != other.datatype or len(one.shape) != len(other.shape):
        return None
    return Type(one.datatype, tuple(a if a == b else -1 for a, b in zip(one.shape, other.shape, strict=True)))


def named(ports: Ports) -> str:
    """For messages: `x FP32[-1, 3], y INT64[-1]`."""
    return ", ".join(f"{name} {type_}" for name, type_ in ports.items()) or "nothing"
