"""Quantities in the one form Kubernetes stores: `1000m` as `1`, `1024Mi` as `1Gi`, `0.5` as `500m`.

The family of the suffix is kept (binary, decimal, exponent); within it the largest suffix that leaves an integer is
taken. Amounts finer than a nano are rounded up, as in apimachinery's `resource.Quantity`.
"""

import re
from collections.abc import Iterable
from decimal import ROUND_UP, Decimal

from mizzen.kinds.scalars import quantity
from mizzen.local.apiserver.types import Json

_BINARY = re.compile(r"[KMGTPE]i$")
_EXPONENT = re.compile(r"[eE][+-]?\d+$")
_DECIMAL_SUFFIXES = {-9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}
_BINARY_SUFFIXES = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_NANO = Decimal("1e-9")


def canonical(value: object) -> object:
    """The stored form of a quantity; anything that is none is given back as it is, for validation to say so."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    text = str(value).strip()
    try:
        amount = quantity(text)
    except ValueError:
        return value
    amount = amount.quantize(_NANO, rounding=ROUND_UP) if amount % _NANO else amount
    if _BINARY.search(text) and amount == amount.to_integral_value():
        return _binary(int(amount))
    exponent, mantissa = _decimal(amount)
    suffix = f"e{exponent}" if _EXPONENT.search(text) and exponent else _DECIMAL_SUFFIXES[exponent]
    return f"{mantissa}{suffix}"


def _binary(amount: int) -> str:
    power = 0
    while amount and amount % 1024 == 0 and power + 1 < len(_BINARY_SUFFIXES):
        amount, power = amount // 1024, power + 1
    return f"{amount}{_BINARY_SUFFIXES[power]}"


def _decimal(amount: Decimal) -> tuple[int, int]:
    """The largest exponent, a multiple of three, that leaves an integer, and that integer."""
    nanos = int(amount.scaleb(9))
    exponent = -9
    while nanos and nanos % 1000 == 0 and exponent < 18:
        nanos, exponent = nanos // 1000, exponent + 3
    return (exponent, nanos) if nanos else (0, 0)


def canonical_amounts(obj: Json, fields: Iterable[str]) -> Json:
    """A copy with the amounts of some fields (`{"cpu": "1000m"}`) in their stored form."""
    changed = {
        field: {name: canonical(amount) for name, amount in obj[field].items()}
        for field in fields
        if isinstance(obj.get(field), dict)
    }
    return {**obj, **changed}
