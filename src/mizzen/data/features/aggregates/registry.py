"""Aggregates by name, and which columns each can be of."""

from dataclasses import dataclass

import pyarrow as pa

from mizzen.data.features.aggregates.base import Aggregate
from mizzen.data.features.aggregates.counting import Count, Rate
from mizzen.data.features.aggregates.distinct import ApproximateDistinct, Distinct
from mizzen.data.features.aggregates.extremes import Maximum, Minimum
from mizzen.data.features.aggregates.moments import StandardDeviation, Variance
from mizzen.data.features.aggregates.ordered import First, Last, LastK, TimeSinceLast
from mizzen.data.features.aggregates.sketches import Quantile, TopK
from mizzen.data.features.aggregates.sums import Mean, Sum
from mizzen.data.features.columns import Domain
from mizzen.data.features.errors import DefinitionError

_PLAIN: dict[str, type[Aggregate]] = {
    kind.function: kind
    for kind in (Count, Rate, Sum, Mean, Minimum, Maximum, Variance, StandardDeviation, First, Last, TimeSinceLast,
                 Distinct, ApproximateDistinct)
}  # fmt: skip
_OF_NUMBERS = frozenset({"sum", "mean", "variance", "std", "quantile"})
_ORDERED = frozenset({"min", "max", "first", "last", "last_k", "distinct", "top_k"})
FUNCTIONS = (*_PLAIN, "last_k", "quantile", "top_k")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What some aggregates need besides their column."""

    k: int = 0
    """Of last_k and top_k: how many."""
    q: float = 0.5
    """Of quantile: which, from 0 to 1."""


def aggregate_for(function: str, domain: Domain, parameters: Parameters) -> Aggregate:
    """The aggregate of that name over such a column.

    Raises `DefinitionError` where it cannot be of such values.
    """
    type_ = domain.type
    if function in _OF_NUMBERS and not domain.is_number:
        raise DefinitionError(f"{function}: expected a column of numbers, found one of {type_}")
    if function in _ORDERED and (pa.types.is_nested(type_) or pa.types.is_fixed_size_binary(type_)):
        raise DefinitionError(f"{function}: expected a column of values with an order, found one of {type_}")
    if function == "last_k":
        return LastK(domain, parameters.k)
    if function == "top_k":
        return TopK(domain, parameters.k)
    if function == "quantile":
        return Quantile(domain, parameters.q)
    if function not in _PLAIN:
        raise DefinitionError(f"expected one of {', '.join(FUNCTIONS)}, found {function}")
    return _PLAIN[function](domain)
