"""Kubernetes' notations: durations (`1h30m`, `500ms`) and quantities (`250m`, `2Gi`).

Seconds and plain numbers inside; the notation only at the edge.
"""

import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_DURATION_UNIT_S = {
    "ns": Decimal("1e-9"), "us": Decimal("1e-6"), "µs": Decimal("1e-6"), "ms": Decimal("1e-3"),
    "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400),
}  # fmt: skip
_QUANTITY = re.compile(r"^([+-]?(?:\d+(?:\.\d*)?|\.\d+))([eE][+-]?\d+|[KMGTPE]i|[numkMGTPE]|)$")
_QUANTITY_UNIT = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(1000),
    "M": Decimal(10) ** 6, "G": Decimal(10) ** 9, "T": Decimal(10) ** 12, "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18, "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40, "Pi": Decimal(2) ** 50, "Ei": Decimal(2) ** 60,
}  # fmt: skip


@lru_cache(maxsize=1024)
def duration_s(text: str) -> float:
    """Seconds of a duration in Go's notation, with days: `1h30m` is 5400.

    Raises `ValueError` where it is none.

    >>> duration_s("1h30m"), duration_s("250ms")
    (5400.0, 0.25)
    """
    position, total = 0, Decimal(0)
    while (part := _DURATION_PART.match(text, position)) is not None:
        total += Decimal(part[1]) * _DURATION_UNIT_S[part[2]]
        position = part.end()
    if position != len(text) or not text:
        raise ValueError("expected a duration such as 30s, 5m or 1h30m")
    return float(total)


@lru_cache(maxsize=1024)
def quantity(text: str) -> Decimal:
    """The number a Kubernetes quantity stands for: `250m` is 0.25, `2Gi` is 2147483648.

    Raises `ValueError` where it is none.

    >>> quantity("250m"), quantity("2Gi")
    (Decimal('0.250'), Decimal('2147483648'))
    """
    match = _QUANTITY.match(text)
    if match is None:
        raise ValueError("expected a quantity such as 500m, 2 or 1Gi")
    number, unit = match[1], match[2]
    try:
        return Decimal(number + unit) if unit[:1] in {"e", "E"} and len(unit) > 1 and unit != "Ei" \
            else Decimal(number) * _QUANTITY_UNIT[unit]  # fmt: skip
    except InvalidOperation as error:
        raise ValueError("expected a quantity such as 500m, 2 or 1Gi") from error


def _checked_duration(text: str) -> str:
    duration_s(text)
    return text


def _checked_quantity(text: str) -> str:
    if quantity(text) < 0:
        raise ValueError("expected a quantity that is not negative")
    return text


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Duration = Annotated[str, AfterValidator(_checked_duration), Field(json_schema_extra={"x-mizzen-format": "duration"})]
"""A duration in Go's notation. In Python, `duration_s(value)` gives seconds."""

Quantity = Annotated[
    str,
    BeforeValidator(_number_as_text),
    AfterValidator(_checked_quantity),
    Field(json_schema_extra={"x-mizzen-format": "quantity"}),
]
"""A Kubernetes quantity; a YAML number is taken too. In Python, `quantity(value)` gives the number."""
