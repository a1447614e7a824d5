"""Client-side apply's annotation, kept true so that a user may go between client-side and server-side apply."""

from typing import Any

import msgspec

from mizzen.local.apiserver.patch.applied import named_fields, problems
from mizzen.local.apiserver.patch.comparison import compare
from mizzen.local.apiserver.patch.fields import EMPTY, FieldSet, difference, union
from mizzen.local.apiserver.patch.structure import Structure
from mizzen.local.apiserver.types import Json

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
ANNOTATIONS_BYTES_MAX = 256 * 1024


def still_true(structure: Structure, live: Json, api_version: str) -> FieldSet:
    """The fields that client-side apply set and that still have its value; none without a usable annotation."""
    text = _annotations(live).get(ANNOTATION)
    if not text:
        return EMPTY
    try:
        configuration = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return EMPTY
    if not isinstance(configuration, dict) or configuration.get("apiVersion") != api_version:
        return EMPTY
    if any(True for _ in problems(structure, configuration)):
        return EMPTY
    comparison = compare(structure, configuration, live)
    return difference(named_fields(structure, configuration), union(comparison.changed, comparison.removed))


def refreshed(result: Json, applied: Json) -> Json:
    """`result` with the annotation, where it has one, saying what kubectl applied just now."""
    annotations = _annotations(result)
    if not annotations.get(ANNOTATION):
        return result
    configuration = dict(applied)
    if ANNOTATION in _annotations(applied):
        kept = {name: value for name, value in _annotations(applied).items() if name != ANNOTATION}
        configuration["metadata"] = {**applied["metadata"], "annotations": kept}
    text = msgspec.json.encode(configuration, order="sorted").decode() + "\n"
    if annotations[ANNOTATION] == text:
        return result
    annotations = {**annotations, ANNOTATION: text}
    if (
        sum(len(name.encode()) + len(str(value).encode()) for name, value in annotations.items())
        > ANNOTATIONS_BYTES_MAX
    ):
        del annotations[ANNOTATION]
    return {**result, "metadata": {**result["metadata"], "annotations": annotations}}


def _annotations(thing: Json) -> dict[str, Any]:
    annotations = thing.get("metadata", {}).get("annotations")
    return annotations if isinstance(annotations, dict) else {}
