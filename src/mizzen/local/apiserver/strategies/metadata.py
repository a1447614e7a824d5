"""`metadata` of any object: what the server fills in, and what is wrong with the rest."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.names import dns_label_errors, label_value_errors, qualified_name_errors
from mizzen.local.apiserver.schema import causes
from mizzen.local.apiserver.types import Json

_ANNOTATIONS_BYTES_MAX = 256 * 1024
_IMMUTABLE = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"


def validate_metadata(
    metadata: Json, *, namespaced: bool, name_errors: Callable[[str], list[str]], path: str = "metadata"
) -> Iterator[Cause]:
    name = metadata.get("name", "")
    if not name:
        yield causes.required(f"{path}.name", "name or generateName is required")
    else:
        for error in name_errors(name):
            yield causes.invalid(f"{path}.name", name, error)
    if namespaced:
        for error in dns_label_errors(metadata.get("namespace", "")):
            yield causes.invalid(f"{path}.namespace", metadata.get("namespace", ""), error)
    yield from validate_labels(metadata.get("labels") or {}, f"{path}.labels")
    yield from validate_annotations(metadata.get("annotations") or {}, f"{path}.annotations")
    if metadata.get("ownerReferences"):
        yield from _validate_owners(metadata["ownerReferences"], f"{path}.ownerReferences")
    if metadata.get("finalizers"):
        yield from _validate_finalizers(metadata["finalizers"], f"{path}.finalizers")


def validate_labels(labels: Mapping[str, Any], path: str) -> Iterator[Cause]:
    for key, value in labels.items():
        for error in qualified_name_errors(key):
            yield causes.invalid(path, key, error)
        for error in label_value_errors(value or ""):
            yield causes.invalid(path, value, error)


def validate_annotations(annotations: Mapping[str, Any], path: str) -> Iterator[Cause]:
    size = 0
    for key, value in annotations.items():
        size += len(key) + len(value or "")
        for error in qualified_name_errors(key.lower()):
            yield causes.invalid(path, key, error)
    if size > _ANNOTATIONS_BYTES_MAX:
        yield causes.too_long(path, _ANNOTATIONS_BYTES_MAX)


def _validate_owners(references: list[Json], path: str) -> Iterator[Cause]:
    controller = ""
    for index, reference in enumerate(references):
        place = f"{path}[{index}]"
        if not reference.get("apiVersion", "").rpartition("/")[2]:
            yield causes.invalid(f"{place}.apiVersion", reference.get("apiVersion", ""), "version must not be empty")
        for field in ("kind", "name", "uid"):
            if not reference.get(field):
                yield causes.invalid(f"{place}.{field}", "", "must not be empty")
        if (reference.get("apiVersion"), reference.get("kind")) == ("v1", "Event"):
            yield causes.invalid(place, reference, "/v1, Kind=Event is disallowed from being an owner")
        if reference.get("controller"):
            this = f"{reference.get('kind', '')}/{reference.get('name', '')}"
            if controller:
                yield causes.invalid(
                    path,
                    references,
                    "Only one reference can have Controller set to true. Found \"true\" in references for "
                    f"{controller} and {this}",
                )
            else:
                controller = this


def _validate_finalizers(finalizers: list[str], path: str) -> Iterator[Cause]:
    for finalizer in finalizers:
        for error in qualified_name_errors(finalizer):
            yield causes.invalid(path, finalizer, error)
    if ORPHAN in finalizers and FOREGROUND in finalizers:
        yield causes.invalid(path, finalizers, f"finalizer {ORPHAN} and {FOREGROUND} cannot be both set")


def validate_metadata_update(metadata: Json, old: Json, path: str = "metadata") -> Iterator[Cause]:
    if old.get("deletionTimestamp"):
        extra = sorted(set(metadata.get("finalizers") or ()) - set(old.get("finalizers") or ()))
        if extra:
            listed = ", ".join(causes.quoted(finalizer) for finalizer in extra)
            yield causes.forbidden(
                f"{path}.finalizers",
                "no new finalizers can be added if the object is being deleted, found new finalizers "
                f"[]string{{{listed}}}",
            )
    for field in _IMMUTABLE:
        if metadata.get(field) != old.get(field):
            yield causes.invalid(f"{path}.{field}", metadata.get(field), "field is immutable")
