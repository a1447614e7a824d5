"""What only the payment itself can tell: the same functions for rows of the training set and for requests."""

import numpy as np
from numpy.typing import NDArray

CENTS = 0.01


def times_usual(amount: NDArray[np.float64], spent_30d: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many times what the customer usually spends; of a customer who has spent nothing, 0."""
    return np.where(spent_30d > CENTS, amount / np.maximum(spent_30d, CENTS), 0.0)
