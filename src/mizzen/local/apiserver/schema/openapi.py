"""OpenAPI documents of what is served: version 3, one for each group and version, and version 2, one for all.

kubectl reads version 3: `explain` walks the schemas, `apply` and `create` look whether PATCH takes `fieldValidation`,
and `diff` and `apply` read merge keys from the schemas. It asks for the index first, whose URLs hold a hash, and keeps
what it got as long as the hash stays. The hash is made from what the document is made from, so the index is cheap and a
document is only made when somebody reads it; callers keep it under its hash.

Not here: the protobuf form of version 2, which kubectl before 1.30 prefers; it is content without it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from importlib.metadata import version as distribution_version
from typing import Any

import msgspec

from mizzen.local.apiserver.schema import models
from mizzen.local.apiserver.schema.builtin import SUBRESOURCE_TYPES, definition_name
from mizzen.local.apiserver.schema.openapi_paths import paths_of
from mizzen.local.apiserver.schema.rules import DEFINITION
from mizzen.local.apiserver.types import Json, ResourceType

_REFERENCE_V2 = "#/definitions/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_ALWAYS = tuple(f"{_META}{name}" for name in ("DeleteOptions", "Patch", "Status"))
_SECURITY = {
    "BearerToken": {
        "description": "Bearer Token authentication",
        "type": "apiKey",
        "name": "authorization",
        "in": "header",
    }
}
_TYPE_META = {
    "apiVersion": (
        "APIVersion defines the versioned schema of this representation of an object. Servers should convert "
        "recognized schemas to the latest internal value, and may reject unrecognized values. More info: "
        "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"
    ),
    "kind": (
        "Kind is a string value representing the REST resource this object represents. Servers may infer this from the "
        "endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: "
        "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
    ),
}
_METADATA = (
    "Standard object's metadata. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)
_SPECIAL_V3: dict[str, Json] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
        "oneOf": [{"type": "integer"}, {"type": "string"}],
        "format": "int-or-string",
    },
}
_SPECIAL_V2: dict[str, Json] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string"},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": "string", "format": "int-or-string"},
}
_NOT_IN_V2 = ("oneOf", "anyOf", "allOf", "not", "nullable", "default")
ASKED_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
PROTOBUF = ASKED_PROTOBUF.replace("@", ".")
"""As the answer names it: with `@` it is no media type."""


def schema_name(rtype: ResourceType) -> str:
    """The name of a type's schema: `io.k8s.api.core.v1.Pod`, `dev.mizzen.v1alpha1.Dataset`."""
    name = None if rtype.custom else definition_name(rtype.group, rtype.version, rtype.kind)
    return name or ".".join([*reversed(rtype.group.split(".")), rtype.version, rtype.kind])


def list_kind(rtype: ResourceType) -> str:
    """The kind of a list of these."""
    return rtype.list_kind or f"{rtype.kind}List"


def group_versions(types: Iterable[ResourceType]) -> list[str]:
    """The keys of the index: `api/v1`, `apis/apps/v1`, …"""
    found = {(rtype.group, rtype.version) for rtype in types}
    return sorted(f"apis/{group}/{version}" if group else f"api/{version}" for group, version in found)


def _of(types: Iterable[ResourceType], key: str) -> list[ResourceType]:
    served = (rtype for rtype in types if group_versions([rtype]) == [key])
    return sorted(served, key=lambda rtype: rtype.plural)


def document_hash(types: Iterable[ResourceType], key: str = "") -> str:
    """The hash of the version 3 document of that key, or of the version 2 document of all types; also their ETag."""
    digest = hashlib.sha512(f"{distribution_version('lightkube-models')} {key}".encode())
    for rtype in sorted(types, key=lambda t: (t.group, t.version, t.plural)):
        if key and group_versions([rtype]) != [key]:
            continue
        facts = [rtype.group, rtype.version, rtype.kind, rtype.plural, rtype.namespaced, list_kind(rtype), rtype.verbs]
        schema = rtype.schema if rtype.custom else None
        digest.update(msgspec.json.encode([*facts, sorted(rtype.subresources), schema]))
    return digest.hexdigest().upper()


def v3_index(types: Iterable[ResourceType]) -> Json:
    """`/openapi/v3`."""
    listed = list(types)
    urls = {key: f"/openapi/v3/{key}?hash={document_hash(listed, key)}" for key in group_versions(listed)}
    return {"paths": {key: {"serverRelativeURL": url} for key, url in urls.items()}}


def v3_document(types: Iterable[ResourceType], key: str, kubernetes_version: str) -> Json | None:
    """`/openapi/v3/KEY`, with a key of the index; `None` where nothing of it is served."""
    served = _of(types, key)
    if not served:
        return None
    paths: Json = {}
    for rtype in served:
        paths.update(paths_of(rtype, schema_name(rtype), models.REFERENCE, v3=True))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": kubernetes_version},
        "paths": paths,
        "components": {"schemas": _schemas(served, v3=True), "securitySchemes": _SECURITY},
        "security": [{"BearerToken": []}],
    }


def v2_document(types: Iterable[ResourceType], kubernetes_version: str) -> Json:
    """`/openapi/v2`, as JSON."""
    listed = sorted(types, key=lambda t: (t.group, t.version, t.plural))
    paths: Json = {}
    for rtype in listed:
        paths.update(paths_of(rtype, schema_name(rtype), _REFERENCE_V2, v3=False))
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": kubernetes_version},
        "paths": paths,
        "definitions": _schemas(listed, v3=False),
        "securityDefinitions": _SECURITY,
        "security": [{"BearerToken": []}],
    }


def v2_protobuf(kubernetes_version: str) -> bytes:
    """`/openapi/v2` as gnostic's message `Document`, without definitions.

    kubectl asks for it to validate a kind that is in no document of version 3; finding none here either, it goes on to
    say that there is no such kind.
    """
    info = _field(1, b"Kubernetes") + _field(2, kubernetes_version.encode())
    return _field(1, b"2.0") + _field(2, info) + _field(8, b"")


def _field(number: int, value: bytes) -> bytes:
    assert len(value) < 128, "a length of one byte"
    return bytes((number << 3 | 2, len(value))) + value


def _schemas(types: list[ResourceType], *, v3: bool) -> Json:
    """Every schema that the paths of these types refer to, and those that they refer to."""
    found: Json = {}
    wanted = list(_ALWAYS)
    for rtype in types:
        name = schema_name(rtype)
        if rtype.custom:
            found[name] = _custom(rtype, v3=v3)
        wanted += [name, *_bodies(rtype)]
        if "list" in rtype.verbs:
            found[f"{name.rpartition('.')[0]}.{list_kind(rtype)}"] = _list(rtype, name, v3=v3)
            wanted.append(models.LIST_META)
    todo = [*wanted, *(name for schema in found.values() for name in _referred(schema))]
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = published(name, v3=v3)
            todo += _referred(found[name])
    for rtype in types:
        _name_kind(found, schema_name(rtype), rtype.group, rtype.version, rtype.kind)
        for sub in rtype.subresources:
            if (other := SUBRESOURCE_TYPES.get(sub)) is not None:
                _name_kind(found, schema_name(other), other.group, other.version, other.kind)
    return dict(sorted(found.items()))


def _bodies(rtype: ResourceType) -> Iterator[str]:
    """Names of the schemas of the subresources' bodies."""
    for sub in sorted(rtype.subresources):
        if (other := SUBRESOURCE_TYPES.get(sub)) is not None:
            yield schema_name(other)


def _referred(schema: Json) -> set[str]:
    return {name.removeprefix(_REFERENCE_V2) for name in models.references(schema)}


def _name_kind(found: Json, name: str, group: str, version: str, kind: str) -> None:
    found[name] = {
        **found[name],
        "x-kubernetes-group-version-kind": [{"group": group, "kind": kind, "version": version}],
    }


def published(name: str, *, v3: bool) -> Json:
    """A definition of Kubernetes as it publishes it: with descriptions, and references in the form of that version."""
    special = (_SPECIAL_V3 if v3 else _SPECIAL_V2).get(name)
    if special is not None:
        return special
    schema = models.definition(name)
    about, fields = models.descriptions(name)
    described: Json = {"description": about} if about else {}
    if "properties" not in schema:
        return {**described, **_reference_form(schema, v3=v3)}
    properties = {}
    for field, node in sorted(schema["properties"].items()):
        told: Json = {"description": fields[field]} if fields.get(field) else {}
        form = _reference_form(node, v3=v3)
        if v3 and "$ref" in form and (told or len(form) > 1):
            rest = {key: value for key, value in form.items() if key != "$ref"}
            form = {"allOf": [{"$ref": form["$ref"]}], **rest}
        properties[field] = {**told, **form}
    return {**described, **schema, "properties": properties}


def _reference_form(node: Any, *, v3: bool) -> Any:
    """References and untyped values as that version of OpenAPI says them."""
    if isinstance(node, dict):
        plain = {key: _reference_form(value, v3=v3) for key, value in node.items() if key != DEFINITION}
        if isinstance(node.get("$ref"), str) and not v3:
            plain["$ref"] = node["$ref"].replace(models.REFERENCE, _REFERENCE_V2)
        return plain
    return [_reference_form(item, v3=v3) for item in node] if isinstance(node, list) else node


def _custom(rtype: ResourceType, *, v3: bool) -> Json:
    """The schema of a custom resource: metadata by reference, and without what version 2 cannot say."""
    schema = rtype.schema
    reference = (models.REFERENCE if v3 else _REFERENCE_V2) + models.OBJECT_META
    properties = {name: sub for name, sub in schema["properties"].items() if name != "metadata"}
    for name, text in _TYPE_META.items():
        properties[name] = {"description": text, **properties[name]}
    shown = {name: sub if v3 else _for_v2(sub) for name, sub in properties.items()}
    metadata = {"allOf": [{"$ref": reference}]} if v3 else {"$ref": reference}
    return {
        **(schema if v3 else _for_v2(schema)),
        "properties": {**shown, "metadata": {"description": _METADATA, **metadata}},
    }


def _for_v2(schema: Json) -> Json:
    """A structural schema without what OpenAPI 2 has no words for; it then allows more, never less."""
    if schema.get("x-kubernetes-int-or-string"):
        return {key: value for key, value in schema.items() if key not in {*_NOT_IN_V2, "type"}}
    if schema.get("x-kubernetes-preserve-unknown-fields") and schema.get("nullable"):
        return {key: schema[key] for key in schema if key.startswith("x-") or key == "description"}
    kept = {key: value for key, value in schema.items() if key not in _NOT_IN_V2}
    if "properties" in kept:
        kept["properties"] = {name: _for_v2(sub) for name, sub in kept["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = _for_v2(kept[key])
    return kept


def _list(rtype: ResourceType, name: str, *, v3: bool) -> Json:
    prefix = models.REFERENCE if v3 else _REFERENCE_V2
    metadata = {"allOf": [{"$ref": prefix + models.LIST_META}]} if v3 else {"$ref": prefix + models.LIST_META}
    return {
        "description": f"{list_kind(rtype)} is a list of {rtype.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            **{field: {"description": text, "type": "string"} for field, text in _TYPE_META.items()},
            "items": {"description": f"List of {rtype.plural}.", "type": "array", "items": {"$ref": prefix + name}},
            "metadata": {"description": "Standard list metadata.", **metadata},
        },
        "x-kubernetes-group-version-kind": [{"group": rtype.group, "kind": list_kind(rtype), "version": rtype.version}],
    }
