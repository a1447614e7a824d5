"""CustomResourceDefinitions: which are acceptable, the types they define, and the status they get.

`check_crd` says what Kubernetes would refuse (`crd_schema` the part about schemas); `resource_types` makes the served
versions; `status_of` accepts names that no other definition of the group has taken. Versions differ in name and schema
only: conversion is `None`, and webhooks are refused.
"""

from collections.abc import Iterable
from typing import Any

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import models, names
from mizzen.local.apiserver.schema.causes import invalid, not_supported, quoted, required
from mizzen.local.apiserver.schema.crd_schema import check_schema
from mizzen.local.apiserver.schema.discovery import version_priority
from mizzen.local.apiserver.types import Column, Json, ResourceType, ScalePaths

_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_AGE = Column("Age", "date", ".metadata.creationTimestamp", description=(
    "CreationTimestamp is a timestamp representing the server time when this object was created. It is not "
    "guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is "
    "represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
))  # fmt: skip


def check_crd(crd: Json, old: Json | None = None) -> list[Cause]:
    """What is wrong with a definition, after defaulting; with `old`, also what an update may not change."""
    spec, found = crd.get("spec", {}), list[Cause]()
    spec_names = spec.get("names", {})
    expected = f"{spec_names.get('plural', '')}.{spec.get('group', '')}"
    if crd.get("metadata", {}).get("name") != expected:
        name = crd.get("metadata", {}).get("name", "")
        found.append(invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    found += _check_group(spec.get("group", ""))
    if not spec.get("scope"):
        found.append(required("spec.scope"))
    elif spec["scope"] not in {"Cluster", "Namespaced"}:
        found.append(not_supported("spec.scope", spec["scope"], ("Cluster", "Namespaced")))
    if spec.get("preserveUnknownFields"):
        detail = (
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        )
        found.append(invalid("spec.preserveUnknownFields", True, detail))
    versions = spec.get("versions") or []
    for index, version in enumerate(versions):
        found += _check_version(version, f"spec.versions[{index}]")
    listed = [version.get("name", "") for version in versions]
    if len(set(listed)) < len(listed):
        found.append(invalid("spec.versions", versions, "must contain unique version names"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        found.append(invalid("spec.versions", versions, "must have exactly one version marked as storage version"))
    found += _check_names(spec_names, "spec.names")
    strategy = spec.get("conversion", {}).get("strategy", "None")
    if strategy != "None":
        found.append(not_supported("spec.conversion.strategy", strategy, ("None",)))
    return found + (_check_update(crd, old) if old is not None else [])


def _check_group(group: str) -> list[Cause]:
    if not group:
        return [required("spec.group")]
    if errors := names.dns_subdomain(group):
        return [invalid("spec.group", group, ",".join(errors))]
    return [] if "." in group else [invalid("spec.group", group, "should be a domain with at least one dot")]


def _check_version(version: Json, path: str) -> list[Cause]:
    name = version.get("name", "")
    errors = names.dns_1035_label(name)
    found = [invalid(f"{path}.name", name, ",".join(errors))] if errors else []
    schema = version.get("schema", {}).get("openAPIV3Schema")
    if schema is None:
        found.append(required(f"{path}.schema.openAPIV3Schema"))
    else:
        found += check_schema(schema, f"{path}.schema.openAPIV3Schema")
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        found += _check_column(column, f"{path}.additionalPrinterColumns[{index}]")
    scale = version.get("subresources", {}).get("scale")
    if scale is not None:
        found += _check_scale(scale, f"{path}.subresources.scale")
    return found


def _check_column(column: Json, path: str) -> list[Cause]:
    found = [] if column.get("name") else [required(f"{path}.name")]
    types, formats = ",".join(_COLUMN_TYPES), ",".join(_COLUMN_FORMATS)
    if not column.get("type"):
        found.append(required(f"{path}.type", f"must be one of {types}"))
    elif column["type"] not in _COLUMN_TYPES:
        found.append(invalid(f"{path}.type", column["type"], f"must be one of {types}"))
    if column.get("format") and column["format"] not in _COLUMN_FORMATS:
        found.append(invalid(f"{path}.format", column["format"], f"must be one of {formats}"))
    if not column.get("jsonPath"):
        found.append(required(f"{path}.JSONPath"))
    elif not column["jsonPath"].startswith("."):
        found.append(invalid(f"{path}.JSONPath", column["jsonPath"], "must be a simple json path starting with ."))
    return found


def _check_scale(scale: Json, path: str) -> list[Cause]:
    found = []
    for name, roots in (("specReplicasPath", (".spec.",)), ("statusReplicasPath", (".status.",))):
        value = scale.get(name)
        if not value:
            found.append(required(f"{path}.{name}"))
        elif not value.startswith("."):
            found.append(invalid(f"{path}.{name}", value, "must be a simple json path starting with ."))
        elif not value.startswith(roots):
            found.append(invalid(f"{path}.{name}", value, f"should be a json path under {roots[0][:-1]}"))
    selector = scale.get("labelSelectorPath")
    if selector and not selector.startswith((".spec.", ".status.")):
        found.append(
            invalid(f"{path}.labelSelectorPath", selector, "should be a json path under either .spec or .status")
        )
    return found


def _check_names(value: Json, path: str) -> list[Cause]:
    found = [required(f"{path}.{name}") for name in ("plural", "singular", "kind", "listKind") if not value.get(name)]
    found += [
        invalid(f"{path}.{name}", value[name], ",".join(errors))
        for name in ("plural", "singular")
        if value.get(name) and (errors := names.dns_1035_label(value[name]))
    ]
    for name in ("kind", "listKind"):
        if value.get(name) and (errors := names.dns_1035_label(value[name].lower())):
            detail = f"may have mixed case, but should otherwise match: {','.join(errors)}"
            found.append(invalid(f"{path}.{name}", value[name], detail))
    for name in ("shortNames", "categories"):
        for index, item in enumerate(value.get(name) or ()):
            if errors := names.dns_1035_label(item):
                found.append(invalid(f"{path}.{name}[{index}]", item, ",".join(errors)))
    if value.get("kind") and value.get("kind") == value.get("listKind"):
        found.append(invalid(f"{path}.listKind", value["listKind"], "kind and listKind may not be the same"))
    return found


def _check_update(crd: Json, old: Json) -> list[Cause]:
    spec, old_spec = crd["spec"], old["spec"]
    said, before = spec.get("names", {}), old_spec.get("names", {})
    pairs = [(f"spec.{place}", spec.get(place, ""), old_spec.get(place, "")) for place in ("group", "scope")]
    pairs += [(f"spec.names.{name}", said.get(name, ""), before.get(name, "")) for name in ("kind", "plural")]
    found = [invalid(path, new, "field is immutable") for path, new, was in pairs if new != was]
    listed = {version.get("name") for version in spec.get("versions") or ()}
    stored = crd.get("status", {}).get("storedVersions") or []
    for index, version in enumerate(stored):
        if version not in listed:
            detail = (
                f"missing from spec.versions; {version} was previously a storage version, and must remain in "
                f"spec.versions "
                "until a storage migration ensures no data remains persisted in "
                f"{version} and removes {version} from status.storedVersions"
            )
            found.append(invalid(f"status.storedVersions[{index}]", version, detail))
    return found


def resource_types(crd: Json) -> list[ResourceType]:
    """The types of the served versions, with the names that were accepted."""
    return [_resource_type(crd, version) for version in crd["spec"]["versions"] if version.get("served")]


def _resource_type(crd: Json, version: Json) -> ResourceType:
    spec = crd["spec"]
    accepted = crd.get("status", {}).get("acceptedNames") or {}
    used = accepted if accepted.get("plural") and accepted.get("kind") else spec["names"]
    subresources = version.get("subresources") or {}
    scale = subresources.get("scale")
    schema = complete_schema(version.get("schema", {}).get("openAPIV3Schema", {}))
    return ResourceType(
        group=spec["group"],
        version=version["name"],
        kind=used["kind"],
        plural=used["plural"],
        singular=used.get("singular") or used["kind"].lower(),
        namespaced=spec["scope"] == "Namespaced",
        load_schema=lambda: schema,
        short_names=tuple(used.get("shortNames") or ()),
        categories=tuple(used.get("categories") or ()),
        subresources=frozenset(name for name in ("status", "scale") if subresources.get(name) is not None),
        columns=_columns(version),
        scale=_scale_paths(scale) if scale is not None else None,
        custom=True,
        list_kind=used.get("listKind", ""),
        storage_version=next(item["name"] for item in spec["versions"] if item.get("storage")),
        deprecation=_deprecation(spec, version),
        selectable_fields=tuple(item["jsonPath"] for item in version.get("selectableFields") or ()),
    )


def _columns(version: Json) -> tuple[Column, ...]:
    defined = version.get("additionalPrinterColumns")
    if not defined:
        return (_AGE,)
    return tuple(
        Column(
            name=column["name"],
            type=column["type"],
            json_path=column["jsonPath"],
            priority=column.get("priority", 0),
            description=column.get("description", ""),
            format=column.get("format", ""),
        )
        for column in defined
    )


def _scale_paths(scale: Json) -> ScalePaths:
    return ScalePaths(scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath", ""))


def _deprecation(spec: Json, version: Json) -> str:
    if not version.get("deprecated"):
        return ""
    said: str = version.get("deprecationWarning", "")
    group, kind = spec["group"], spec["names"]["kind"]
    newer = [
        other["name"]
        for other in spec["versions"]
        if other.get("served")
        and not other.get("deprecated")
        and version_priority(other["name"]) > version_priority(version["name"])
    ]
    advice = f"; use {group}/{max(newer, key=version_priority)} {kind}" if newer else ""
    return said or f"{group}/{version['name']} {kind} is deprecated{advice}"


def complete_schema(schema: Json) -> Json:
    """The schema with what every object has, also those inside: `apiVersion`, `kind` and all of `metadata`."""
    properties: dict[str, Any] = {name: _completed(sub) for name, sub in schema.get("properties", {}).items()}
    meta = models.expanded(models.OBJECT_META)
    restricted = properties.get("metadata", {}).get("properties")
    if restricted:  # patterns and lengths of `name` and `generateName`, the only ones a definition may restrict
        meta = {**meta, "allOf": [{"properties": restricted}]}
    properties["apiVersion"] = {"type": "string", **properties.get("apiVersion", {})}
    properties["kind"] = {"type": "string", **properties.get("kind", {})}
    properties["metadata"] = meta
    return {**schema, "type": "object", "properties": properties}


def _completed(schema: Json) -> Json:
    if schema.get("x-kubernetes-embedded-resource"):
        return complete_schema(schema)
    changed = {}
    if schema.get("properties"):
        changed["properties"] = {name: _completed(sub) for name, sub in schema["properties"].items()}
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            changed[name] = _completed(schema[name])
    return {**schema, **changed} if changed else schema


def status_of(crd: Json, others: Iterable[Json], now: str) -> Json:
    """The status of a definition: names that are free are accepted, and a definition whose names all are is
    established.

    `others` are the other definitions; `now` is an RFC 3339 time for conditions that change.
    """
    spec, status = crd["spec"], crd.get("status") or {}
    accepted = dict(status.get("acceptedNames") or {})
    conflict = _accept_names(
        spec["names"], accepted, [other for other in others if other["spec"]["group"] == spec["group"]]
    )
    naming = ("True", "NoConflicts", "no conflicts found") if conflict is None else ("False", *conflict)
    was_established = any(c["type"] == "Established" and c["status"] == "True" for c in status.get("conditions") or ())
    if conflict is None or was_established:
        established = ("True", "InitialNamesAccepted", "the initial names have been accepted")
    else:
        established = ("False", "NotAccepted", "not all names are accepted")
    conditions = list(status.get("conditions") or ())
    for name, (holds, reason, message) in (("NamesAccepted", naming), ("Established", established)):
        _set_condition(conditions, {"type": name, "status": holds, "reason": reason, "message": message}, now)
    storage = next((version["name"] for version in spec["versions"] if version.get("storage")), "")
    stored = list(status.get("storedVersions") or ())
    if storage and storage not in stored:
        stored.append(storage)
    return {**status, "acceptedNames": accepted, "conditions": conditions, "storedVersions": stored}


def _accept_names(wanted: Json, accepted: Json, others: list[Json]) -> tuple[str, str] | None:
    """Puts free names into `accepted`; the reason and message of the last conflict, if there is one."""
    resources, kinds = set[str](), set[str]()
    for other in others:
        taken = other.get("status", {}).get("acceptedNames") or {}
        resources |= {taken.get("plural", ""), taken.get("singular", ""), *(taken.get("shortNames") or ())}
        kinds |= {taken.get("kind", ""), taken.get("listKind", "")}
    conflict = None
    for name, used, reason in (
        ("plural", resources, "PluralConflict"), ("singular", resources, "SingularConflict"),
        ("shortNames", resources, "ShortNamesConflict"), ("kind", kinds, "KindConflict"),
        ("listKind", kinds, "ListKindConflict"),
    ):  # fmt: skip
        if name not in wanted:
            accepted.pop(name, None)
            continue
        mine = accepted.get(name) or []
        listed = wanted[name] if name == "shortNames" else [wanted[name]]
        clashes = [
            item
            for item in listed
            if item in used and item != mine and item not in (mine if name == "shortNames" else [])
        ]
        if clashes:
            texts = [f"{quoted(item)} is already in use" for item in clashes]
            conflict = reason, texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        else:
            accepted[name] = wanted[name]
    if wanted.get("categories"):
        accepted["categories"] = wanted["categories"]
    else:
        accepted.pop("categories", None)
    return conflict


def _set_condition(conditions: list[Json], new: Json, now: str) -> None:
    for index, old in enumerate(conditions):
        if old["type"] == new["type"]:
            since = old.get("lastTransitionTime", now) if old["status"] == new["status"] else now
            conditions[index] = {"lastTransitionTime": since, **new}
            return
    conditions.append({"lastTransitionTime": now, **new})
