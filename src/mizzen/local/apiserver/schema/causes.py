"""Causes in Kubernetes' words, and values as Go prints them: clients and their tests match these texts.

Each function makes one `Cause` of the type that its name says; `field` is a path such as `spec.containers[0].image`.
"""

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from mizzen.local.apiserver.errors import Cause, Invalid

NO_FIELD = "<nil>"
"""How Kubernetes prints the path of an error that has none."""

_HTML = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def quoted(text: str) -> str:
    """Go's `%q`."""
    return json.dumps(text, ensure_ascii=False)


def number(value: float) -> str:
    """Go's `%v` of a number: six digits before the exponent is used, where the shortest form has no more."""
    if isinstance(value, int):
        return str(value)
    digits = Decimal(repr(value)).normalize()
    exponent = digits.adjusted()
    if digits and not -4 <= exponent < max(21 if len(digits.as_tuple().digits) > 21 else 6, 0):
        sign, figures, _ = digits.as_tuple()
        text = "".join(map(str, figures))
        mantissa = text[0] + (f".{text[1:]}" if len(text) > 1 else "")
        return f"{'-' if sign else ''}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    return f"{digits:f}"


def json_text(value: Any) -> str:
    """Go's `json.Marshal`: keys in order, no spaces, HTML's characters escaped."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).translate(_HTML)


def shown(value: Any) -> str:
    """A value as an error message shows it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number(value)
    return quoted(value) if isinstance(value, str) else json_text(value)


def invalid(field: str, value: Any, detail: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {shown(value)}: {detail}", field)


def type_invalid(field: str, value: Any, detail: str) -> Cause:
    return Cause("FieldValueTypeInvalid", f"Invalid value: {shown(value)}: {detail}", field)


def required(field: str, detail: str = "") -> Cause:
    return Cause("FieldValueRequired", f"Required value: {detail}" if detail else "Required value", field)


def forbidden(field: str, detail: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {detail}", field)


def duplicate(field: str, value: Any) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {shown(value)}", field)


def not_supported(field: str, value: Any, supported: Iterable[Any]) -> Cause:
    allowed = ", ".join(quoted(item if isinstance(item, str) else json_text(item)) for item in supported)
    return Cause("FieldValueNotSupported", f"Unsupported value: {shown(value)}: supported values: {allowed}", field)


def too_long(field: str, maximum: int) -> Cause:
    unit = "byte" if maximum == 1 else "bytes"
    return Cause("FieldValueTooLong", f"Too long: may not be more than {maximum} {unit}", field)


def too_many(field: str, actual: int, maximum: int) -> Cause:
    unit = "item" if maximum == 1 else "items"
    return Cause("FieldValueTooMany", f"Too many: {actual}: must have at most {maximum} {unit}", field)


def child(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def invalid_error(kind: str, group: str, name: str, causes: Iterable[Cause]) -> Invalid:
    """The answer 422 for these causes, worded as Kubernetes does."""
    listed = tuple(causes)
    texts = list(dict.fromkeys(f"{cause.field}: {cause.message}" for cause in listed))
    body = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    qualified = f"{kind}.{group}" if group else kind
    return Invalid(f"{qualified} {quoted(name)} is invalid: {body}", name=name, group=group, kind=kind, causes=listed)
