"""The functions that Kubernetes adds to CEL: its list and regex libraries, and tests of a text's form.

Strings, math, sets and encoders are the evaluating library's own. https://kubernetes.io/docs/reference/using-api/cel/
"""

import ipaddress
import itertools
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from mizzen.local.apiserver.schema import formats
from mizzen.local.apiserver.schema.cel_library import cel

LATER = frozenset({
    "quantity", "url", "ip", "cidr", "ip.isCanonical", "semver", "isSemver", "format", "format.named", "cel.bind",
    "optional.of", "optional.none", "optional.ofNonZeroValue", "optMap", "optFlatMap", "transformList", "transformMap",
    "transformMapEntry", "sortBy", "authorizer",
})  # fmt: skip
"""What Kubernetes has and we do not: objects of their own, and macros that the evaluating library does not expand."""


def _is_sorted(items: list[Any]) -> bool:
    return all(left <= right for left, right in itertools.pairwise(items))


def _index_of(where: Any, what: Any, start: int = 0) -> int:
    """Of an item in a list, or of a text in a text; -1 where it is not there."""
    if isinstance(where, str):
        return where.find(what, start)
    return where.index(what) if what in where else -1


def _last_index_of(where: Any, what: Any, *until: int) -> int:
    if isinstance(where, str):
        return where.rfind(what, 0, until[0] + len(what)) if until else where.rfind(what)
    return len(where) - 1 - where[::-1].index(what) if what in where else -1


def _find(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found[0] if found is not None else ""


def _find_all(text: str, pattern: str, *most: int) -> list[str]:
    found = (match[0] for match in re.finditer(pattern, text))
    return list(itertools.islice(found, most[0]) if most and most[0] >= 0 else found)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _is_cidr(text: str) -> bool:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return "/" in text and re.fullmatch(r"\d+", text.rpartition("/")[2]) is not None


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme) or text.startswith("/")


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: function for library in cel.stdlib.EXTENSIONS.values() for name, function in library.items()},
    "isSorted": _is_sorted,
    "indexOf": _index_of,
    "lastIndexOf": _last_index_of,
    "find": _find,
    "findAll": _find_all,
    "isQuantity": formats.is_quantity,
    "isIP": _is_ip,
    "isCIDR": _is_cidr,
    "isURL": _is_url,
}
"""By the name under which CEL calls them; a method's first argument is what it is called on."""
