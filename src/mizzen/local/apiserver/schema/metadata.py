"""`metadata` of any object: names by kind, labels, annotations, finalizers, owners; what an update may not change.

`check` is for what is about to be stored, after names were generated; `check_update` compares with what was there.
"""

from typing import Any

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import names
from mizzen.local.apiserver.schema.causes import child, forbidden, invalid, required, too_long
from mizzen.local.apiserver.types import Json, ResourceType

_ANNOTATIONS_BYTES_MAX = 256 * 1024
_IMMUTABLE = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})
_OWNER_TEXTS = frozenset({"apiVersion", "kind", "name", "uid"})
_NAME_CHECKS: dict[tuple[str, str], names.NameCheck] = {
    ("", "namespaces"): names.dns_label,
    ("", "services"): names.dns_label,
    ("rbac.authorization.k8s.io", "roles"): names.path_segment,
    ("rbac.authorization.k8s.io", "rolebindings"): names.path_segment,
    ("rbac.authorization.k8s.io", "clusterroles"): names.path_segment,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): names.path_segment,
}


def name_check(rtype: ResourceType) -> names.NameCheck:
    """What names of that type must be: most are DNS subdomains."""
    return _NAME_CHECKS.get(rtype.key, names.dns_subdomain)


def check(rtype: ResourceType, metadata: Json) -> list[Cause]:
    """What is wrong with the metadata of an object that is about to be created."""
    found: list[Cause] = []
    right = name_check(rtype)
    generate_name, name = metadata.get("generateName", ""), metadata.get("name", "")
    if generate_name:
        masked = f"{generate_name[:-2]}a" if len(generate_name) > 1 and generate_name.endswith("-") else generate_name
        found += [invalid("metadata.generateName", generate_name, text) for text in right(masked)]
    if not name:
        found.append(required("metadata.name", "name or generateName is required"))
    else:
        found += [invalid("metadata.name", name, text) for text in right(name)]
    namespace = metadata.get("namespace", "")
    if rtype.namespaced and not namespace:
        found.append(required("metadata.namespace"))
    elif rtype.namespaced:
        found += [invalid("metadata.namespace", namespace, text) for text in names.dns_label(namespace)]
    elif namespace:
        found.append(forbidden("metadata.namespace", "not allowed on this type"))
    return found + contents(metadata, "metadata") + _unqualified(rtype, metadata)


def _unqualified(rtype: ResourceType, metadata: Json) -> list[Cause]:
    """Finalizers of built-in types have a domain, but for Kubernetes' own."""
    detail = "name is neither a standard finalizer name nor is it fully qualified"
    return [
        invalid(f"metadata.finalizers[{index}]", name, detail)
        for index, name in enumerate(metadata.get("finalizers") or ())
        if not rtype.custom and "/" not in name and name not in _FINALIZERS
    ]


def contents(metadata: Json, path: str) -> list[Cause]:
    """What is wrong with labels, annotations, owners and finalizers."""
    found: list[Cause] = []
    if metadata.get("generation", 0) < 0:
        found.append(invalid(child(path, "generation"), metadata["generation"], "must be greater than or equal to 0"))
    found += labels(metadata.get("labels") or {}, child(path, "labels"))
    found += _annotations(metadata.get("annotations") or {}, child(path, "annotations"))
    found += _owners(metadata.get("ownerReferences") or [], child(path, "ownerReferences"))
    finalizers, place = metadata.get("finalizers") or [], child(path, "finalizers")
    found += [invalid(place, item, text) for item in finalizers for text in names.qualified_name(item)]
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        found.append(invalid(place, finalizers, "finalizer orphan and foregroundDeletion cannot be both set"))
    return found


def is_typed(metadata: Any) -> bool:
    """Whether the parts that `contents` looks at have their JSON types."""
    if not isinstance(metadata, dict):
        return False
    texts = [metadata.get(name, "") for name in ("name", "generateName", "namespace")]
    maps = [metadata.get(name) or {} for name in ("labels", "annotations")]
    lists = [metadata.get(name) or [] for name in ("finalizers", "ownerReferences")]
    if not all(isinstance(value, dict) for value in maps) or not all(isinstance(value, list) for value in lists):
        return False
    texts += [text for value in maps for text in value.values()] + lists[0]
    owners = [
        text for owner in lists[1] if isinstance(owner, dict) for key, text in owner.items() if key in _OWNER_TEXTS
    ]
    number = metadata.get("generation", 0)
    return (
        all(isinstance(text, str) for text in [*texts, *owners])
        and all(isinstance(owner, dict) for owner in lists[1])
        and isinstance(number, int)
    )


def labels(value: Json, path: str) -> list[Cause]:
    """What is wrong with a set of labels."""
    found = []
    for key, text in value.items():
        found += [invalid(path, key, reason) for reason in names.qualified_name(key)]
        found += [invalid(path, text, reason) for reason in names.label_value(text)]
    return found


def _annotations(value: Json, path: str) -> list[Cause]:
    found = [invalid(path, key, reason) for key in value for reason in names.qualified_name(key.lower())]
    if sum(len(key.encode()) + len(text.encode()) for key, text in value.items()) > _ANNOTATIONS_BYTES_MAX:
        found.append(too_long(path, _ANNOTATIONS_BYTES_MAX))
    return found


def _owners(value: list[Json], path: str) -> list[Cause]:
    found: list[Cause] = []
    controller = ""
    for owner in value:
        if not owner.get("apiVersion", "").rpartition("/")[2]:
            found.append(invalid(f"{path}.apiVersion", owner.get("apiVersion", ""), "version must not be empty"))
        found += [
            invalid(f"{path}.{name}", "", "must not be empty")
            for name in ("kind", "name", "uid")
            if not owner.get(name)
        ]
        if (owner.get("apiVersion"), owner.get("kind")) == ("v1", "Event"):
            found.append(invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            this = f"{owner.get('kind', '')}/{owner.get('name', '')}"
            if controller:
                detail = 'Only one reference can have Controller set to true. Found "true" in references for'
                found.append(invalid(path, value, f"{detail} {controller} and {this}"))
            else:
                controller = this
    return found


def check_update(metadata: Json, old: Json) -> list[Cause]:
    """What an update may not change in metadata, and what is wrong with the rest of it."""
    found: list[Cause] = []
    if old.get("deletionTimestamp"):
        new = sorted(set(metadata.get("finalizers") or ()) - set(old.get("finalizers") or ()))
        if new:
            listed = ", ".join(f'"{item}"' for item in new)
            detail = "no new finalizers can be added if the object is being deleted, found new finalizers"
            found.append(forbidden("metadata.finalizers", f"{detail} []string{{{listed}}}"))
    if metadata.get("generation", 0) < old.get("generation", 0):
        found.append(invalid("metadata.generation", metadata.get("generation", 0), "must not be decremented"))
    found += [
        invalid(f"metadata.{name}", metadata.get(name), "field is immutable")
        for name in _IMMUTABLE
        if _said(metadata, name) != _said(old, name)
    ]
    return found + contents({k: v for k, v in metadata.items() if k != "finalizers"}, "metadata")


def _said(metadata: Json, name: str) -> Any:
    return metadata.get(name) or None
