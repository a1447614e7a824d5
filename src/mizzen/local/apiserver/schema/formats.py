"""String formats that Kubernetes checks, and its regular expressions (RE2) in Python's.

An unknown format says nothing, as in Kubernetes. Patterns are searched for anywhere unless anchored; Python has no
linear time engine, so a pattern made to be slow is slow here and not in Kubernetes (a stated limit).
"""

import functools
import ipaddress
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from email.utils import parseaddr
from urllib.parse import urlsplit

from mizzen.kinds.scalars import quantity

_POSIX_CLASSES = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7F", "blank": r"\t ", "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ", "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_POSIX_CLASS = re.compile(r"\[:(\w+):\]")
_END = re.compile(r"(\\.|\[\^?\]?(?:\\.|[^\]\\])*\])|\$|\\z", re.DOTALL)
_UNIT = r"(?:ns|us|µs|μs|ms|s|m|h)"
_GO_DURATION = re.compile(rf"[+-]?(?:0|(?:(?:\d+(?:\.\d*)?|\.\d+){_UNIT})+)", re.ASCII)
_WORDED_DURATION = re.compile(
    r"\d+\s*(?:nano|micro|milli|sec|min|hr|hour|day|wk|week|(?:ns|us|µs|ms|s|m|h|d|w)(?![A-Za-zµ]))",
    re.ASCII | re.IGNORECASE,
)
_TIME = re.compile(r"(\d{2}):(\d{2}):(\d{2})(\.\d+)?(z|[+-]\d{2}:\d{2})", re.ASCII)
_MICROS = re.compile(r"\d\.\d{6}(?!\d)")
_SHORT_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_HOSTNAME = re.compile(r"[^\W_](?:-?[^\W_]{0,62})?|(?:[^\W_](?:(?:[^\W_]|-){0,61}[^\W_])?\.)+[^\W\d_]{2,63}")
"""Kubernetes' own: one label has at most one dash, after its first letter."""


@functools.lru_cache(maxsize=4096)
def pattern(text: str) -> Callable[[str], object]:
    """The search of that RE2 pattern. `$` is the very end; classes such as `\\d` are ASCII.

    Raises `re.error` where Python cannot read it.
    """
    classes = _POSIX_CLASS.sub(lambda match: _POSIX_CLASSES.get(match[1], match[0]), text)
    ended = _END.sub(lambda match: match[1] if match[1] and match[0] != r"\z" else r"\Z", classes)
    flags = re.ASCII
    if ended.startswith("(?s)"):
        flags, ended = flags | re.DOTALL, ended[4:]
    return re.compile(ended, flags).search


def _full(expression: str, flags: int = 0) -> Callable[[str], bool]:
    match = re.compile(expression, re.ASCII | flags).fullmatch
    return lambda text: match(text) is not None


def is_ipv4(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == 4 and all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts)


def is_ipv6(text: str) -> bool:
    try:
        return ":" in text and "%" not in text and bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


def _has_ipv4_form(text: str) -> bool:
    """What Kubernetes takes for the format `ipv4`: also an IPv6 address that ends in one."""
    return is_ipv4(text) or ("." in text and is_ipv6(text))


def is_cidr(text: str) -> bool:
    address, slash, bits = text.partition("/")
    if not slash or not bits.isascii() or not bits.isdigit():
        return False
    return (is_ipv4(address) and int(bits) <= 32) or (is_ipv6(address) and int(bits) <= 128)


def is_date(text: str) -> bool:
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII) is None:
        return False
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


def is_date_time(text: str) -> bool:
    day, separator, rest = text.lower().partition("t")
    match = _TIME.search(rest)
    return bool(separator) and is_date(day) and match is not None and match[1] <= "23" and match[2] <= "59" >= match[3]


def is_rfc3339(text: str) -> bool:
    """What Go reads as a `metav1.Time`: stricter than the format `date-time`."""
    match = _TIME.fullmatch(text[11:].lower())
    return (
        text[10:11] == "T"
        and is_date(text[:10])
        and match is not None
        and match[1] <= "23"
        and match[2] <= "59" >= match[3]
    )


def is_micro_time(text: str) -> bool:
    """What Go reads as a `metav1.MicroTime`: six digits of a second, no more and no less."""
    return is_rfc3339(text) and _MICROS.search(text) is not None


def utc(text: str, digits: int) -> str:
    """A time as Kubernetes writes it: in UTC, with so many digits of a second. What is no time stays as it is."""
    if not is_rfc3339(text):
        return text
    moment = datetime.fromisoformat(text).astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{moment.microsecond:06d}"[: digits + 1] if digits else "") + "Z"


def is_duration(text: str) -> bool:
    return _GO_DURATION.fullmatch(text) is not None or _WORDED_DURATION.search(text) is not None


def is_quantity(text: str) -> bool:
    try:
        quantity(text)
    except ValueError:
        return False
    return True


def _is_email(text: str) -> bool:
    address = parseaddr(text)[1]
    local, at, domain = address.rpartition("@")
    return bool(at and local and domain) and " " not in address


def _is_uri(text: str) -> bool:
    if any(ord(character) <= 0x20 or character == "\x7f" for character in text):
        return False
    try:
        return text.startswith("/") or (bool(urlsplit(text).scheme) and text != "")
    except ValueError:
        return False


def _is_hostname(text: str) -> bool:
    return len(text) <= 255 and _HOSTNAME.fullmatch(text) is not None


def _is_mac(text: str) -> bool:
    pairs, quads = r"(?:[0-9A-Fa-f]{2}%s){%d}[0-9A-Fa-f]{2}", r"(?:[0-9A-Fa-f]{4}\.){%d}[0-9A-Fa-f]{4}"
    forms = [pairs % (mark, count) for mark in (":", "-") for count in (5, 7, 19)]
    return any(re.fullmatch(form, text) for form in [*forms, *(quads % count for count in (2, 3, 9))])


def _is_credit_card(text: str) -> bool:
    digits = [int(character) for character in re.sub(r"[^0-9]", "", text)]
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return 13 <= len(digits) <= 16 and (sum(digits[-1::-2]) + doubled) % 10 == 0


def _is_isbn10(text: str) -> bool:
    bare = re.sub(r"[\s-]", "", text)
    if re.fullmatch(r"[0-9]{9}[0-9X]", bare) is None:
        return False
    return sum((i + 1) * (10 if c == "X" else int(c)) for i, c in enumerate(bare)) % 11 == 0


def _is_isbn13(text: str) -> bool:
    bare = re.sub(r"[\s-]", "", text)
    return (
        re.fullmatch(r"[0-9]{13}", bare) is not None
        and sum(int(c) * (1, 3)[i % 2] for i, c in enumerate(bare)) % 10 == 0
    )


def _uuid(version: str, variant: str) -> Callable[[str], bool]:
    hexadecimal = rf"[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{version}[0-9a-f]{{3}}-?{variant}[0-9a-f]{{3}}-?[0-9a-f]{{12}}"
    return _full(hexadecimal, re.IGNORECASE)


_is_short_name = _full(_SHORT_NAME)
_is_long_name = _full(rf"{_SHORT_NAME}(\.{_SHORT_NAME})*")
_BYTE_OF_COLOR = r"\s*(?:0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*"

FORMATS: dict[str, Callable[[str], bool]] = {
    "bsonobjectid": _full(r"[0-9a-fA-F]{24}"),
    "byte": _full(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})"),
    "cidr": is_cidr,
    "creditcard": _is_credit_card,
    "date": is_date,
    "datetime": is_date_time,
    "duration": is_duration,
    "email": _is_email,
    "hexcolor": _full(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "hostname": _is_hostname,
    "ipv4": _has_ipv4_form,
    "ipv6": is_ipv6,
    "isbn": lambda text: _is_isbn10(text) or _is_isbn13(text),
    "isbn10": _is_isbn10,
    "isbn13": _is_isbn13,
    "k8slongname": lambda text: len(text) <= 253 and _is_long_name(text),
    "k8sshortname": lambda text: len(text) <= 63 and _is_short_name(text),
    "mac": _is_mac,
    "rgbcolor": _full(rf"rgb\({_BYTE_OF_COLOR},{_BYTE_OF_COLOR},{_BYTE_OF_COLOR}\)"),
    "ssn": _full(r"\d{3}[- ]\d{2}[- ]\d{4}"),
    "uri": _is_uri,
    "uuid": _uuid("[0-9a-f]", "[0-9a-f]"),
    "uuid3": _uuid("3", "[0-9a-f]"),
    "uuid4": _uuid("4", "[89ab]"),
    "uuid5": _uuid("5", "[89ab]"),
}
"""Checks by the format's name without dashes."""


def is_go_bytes(text: str) -> bool:
    """Base64 as Go reads it: in any number of lines, and of nothing too."""
    bare = text.replace("\n", "").replace("\r", "")
    return not bare or FORMATS["byte"](bare)


def check_of(name: str) -> Callable[[str], bool] | None:
    """The check of that format, or `None` where nothing is checked."""
    return FORMATS.get(name.replace("-", ""))
