"""JSON Merge Patch (RFC 7386): objects are merged member by member, null removes, everything else replaces."""

from typing import Any

from mizzen.local.apiserver.errors import BadRequest
from mizzen.local.apiserver.types import Json


def apply(document: Json, patch: Any) -> Json:
    """The document after the patch; unchanged members are shared with `document`."""
    if not isinstance(patch, dict):
        raise BadRequest("error decoding patch: expected an object with the fields to change")
    return _merge(document, patch)


def _merge(document: Json, patch: Json) -> Json:
    merged = document.copy()
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            current = merged.get(name)
            merged[name] = _merge(current if isinstance(current, dict) else {}, value)
        else:
            merged[name] = value
    return merged
