"""The label `pod-template-hash`: a short name for a Pod template, so that Pods of two templates are never mixed."""

from collections.abc import Mapping
from typing import Any

import msgspec

from mizzen.kube.resources import Json

HASH_LABEL = "pod-template-hash"
_SAFE = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels and no look-alikes: no hash is a word."""


def template_hash(template: Mapping[str, Any], collisions: int) -> str:
    """FNV-1a (32 bits) of the template's canonical JSON, and of the number of collisions where there were any.

    Kubernetes hashes a Go print-out of the struct, which nobody else can repeat and nobody needs to: a ReplicaSet is
    recognised by its template, never by this name.
    """
    text = msgspec.json.encode(without_hash(template), order="deterministic")
    if collisions:
        text += str(collisions).encode()
    value = 0x811C9DC5
    for byte in text:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return "".join(_SAFE[int(digit) % len(_SAFE)] for digit in str(value))


def without_hash(template: Mapping[str, Any]) -> Json:
    """The template as it was before the label was put on."""
    metadata = dict(template.get("metadata") or {})
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH_LABEL}
    metadata["labels"] = labels
    # A server writes this into templates, and another leaves it out.
    metadata.pop("creationTimestamp", None)
    return {**template, "metadata": metadata}


def same_template(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two templates make the same Pods."""
    first, second = without_hash(one), without_hash(other)
    return first == second or bool(_without_empty(first) == _without_empty(second))


def _without_empty(value: Any) -> Any:
    """Absent, null and an empty list mean the same in a template; an empty text may be a label's value, and an empty
    object be there to be empty (`emptyDir: {}`).
    """
    if isinstance(value, dict):
        return {key: _without_empty(inner) for key, inner in value.items() if inner not in (None, [])}
    return [_without_empty(inner) for inner in value] if isinstance(value, list) else value
