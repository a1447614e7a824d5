"""Who answers rows: the port, and how it says that it cannot.

PredictorError
 |- Refused    the model does not take these rows: asking again gives the same; fewer of them may do
 |- Lost       the worker went while it had them: ask again, alone, for it may have been the rows
 |- Again      not now: come again after so many seconds
 `- Gone       never again: this version is not served there any more
"""

from collections.abc import Sequence
from typing import Protocol

from mizzen.serving.tensors import Tensor


class PredictorError(Exception):
    """There is no answer; the message says why."""


class Refused(PredictorError):
    """The model does not take these rows."""


class Lost(PredictorError):
    """The worker went while it had them."""


class Again(PredictorError):
    """Not now. `after_s` is when it may be tried again; `None`: who asks knows best."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class Gone(PredictorError):
    """This version is not served there any more."""


class Predictor(Protocol):
    """One model version. Cancelling a call gives its rows up."""

    @property
    def width(self) -> int:
        """How many calls it has use for at once, now."""

    @property
    def rows_max(self) -> int:
        """Rows of one call at most."""

    async def predict(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs for these rows, with a row for each of theirs. Raises `PredictorError`, and `Failure` where no
        call will ever succeed.
        """
