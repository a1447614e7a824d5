"""A request that is larger than a batch: its rows taken apart for the queue's parts, its outputs put together again."""

from collections.abc import Sequence

from mizzen.policy.queue import Request
from mizzen.serving.tensors import BadTensorError, Tensor, row_slices


class Split:
    """The parts of one request, while they wait, run and come back in any order."""

    __slots__ = ("_left", "_outputs", "inputs", "parts")

    def __init__(self, parts: list[Request], inputs: Sequence[Tensor]) -> None:
        rows = [part.rows for part in parts]
        self.parts = parts
        self.inputs: list[Sequence[Tensor]] = list(zip(*(row_slices(tensor, rows) for tensor in inputs), strict=True))
        """Those of each part."""
        self._outputs: list[Sequence[Tensor]] = [()] * len(parts)
        self._left = len(parts)

    def put(self, part: Request, outputs: Sequence[Tensor]) -> Sequence[Tensor] | None:
        """A part was answered. Returns the whole's outputs once all were.

        Raises `BadTensorError` where they do not fit together.
        """
        self._outputs[part.index] = outputs
        self._left -= 1
        return None if self._left else [_stacked(pieces) for pieces in zip(*self._outputs, strict=True)]


def _stacked(pieces: Sequence[Tensor]) -> Tensor:
    """Tensors below one another. Raises `BadTensorError` where their rows differ in shape."""
    first = pieces[0]
    rest = first.shape[1:]
    rows = 0
    for piece in pieces:
        if piece.shape[1:] != rest:
            raise BadTensorError(
                f"output {first.name!r}: the request was run in parts, and rows of shape {list(rest)} and "
                f"{list(piece.shape[1:])} do not make one tensor"
            )
        rows += piece.shape[0]
    return Tensor(first.name, first.datatype, (rows, *rest), b"".join([piece.data for piece in pieces]))
