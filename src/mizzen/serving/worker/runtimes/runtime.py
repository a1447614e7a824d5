"""What every runtime does, whichever library it stands on.

A runtime is made once, from a model that has been verified, and is used by one thread at a time. It is given arrays by
input name and gives arrays in the order of the signature's outputs. It raises `TaskError` where the model cannot be
loaded and `BatchError` where rows are refused, in words for the client; nothing else leaves it.
"""

from collections.abc import Iterator, Mapping, Sequence

from mizzen.serving.frames import Parameter
from mizzen.serving.tensors import Signature
from mizzen.serving.worker.arrays import Array
from mizzen.serving.worker.errors import BatchError

MESSAGE_CHARACTERS_MAX = 1000


class Runtime:
    """One model in its library."""

    signature: Signature
    streams = False
    """Whether `generate` is there."""
    steady = False
    """Whether a batch's size tells how long it takes: no code of a user's runs in it."""
    text = False
    """Whether `BYTES` come as text and not as bytes."""

    @property
    def facts(self) -> dict[str, str]:
        """What it runs on, for people: `runtime`, `provider`, `threads`."""
        return {}

    def run(self, inputs: dict[str, Array]) -> Sequence[Array]:
        """The outputs of a batch, in the signature's order."""
        raise NotImplementedError

    def generate(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> Iterator[Sequence[Array]]:
        """The outputs of one request, part by part."""
        del inputs, parameters
        raise BatchError("the model gives whole answers only")


def first_line(error: BaseException) -> str:
    """What an exception says, as much of it as is for a client."""
    return str(error).partition("\n")[0][:MESSAGE_CHARACTERS_MAX]
