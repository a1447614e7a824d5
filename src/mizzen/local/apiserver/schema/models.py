"""Kubernetes' own types as OpenAPI definitions, read from the `lightkube-models` package.

Each class of the package is one definition: annotations give JSON types and which fields must be there, docstrings give
descriptions, `facts` gives the rest. Definitions refer to each other by `$ref`, as in the documents that Kubernetes
publishes; `expanded` follows the references, for those who walk an object. Both are made when first asked for.
"""

import functools
import re
from types import ModuleType
from typing import Any

from lightkube.models import (
    apiextensions_v1,
    apps_v1,
    authentication_v1,
    authorization_v1,
    autoscaling_v1,
    batch_v1,
    coordination_v1,
    core_v1,
    discovery_v1,
    events_v1,
    meta_v1,
    policy_v1,
    rbac_v1,
)

from mizzen.local.apiserver.schema import facts
from mizzen.local.apiserver.schema.rules import DEFINITION
from mizzen.local.apiserver.types import Json

REFERENCE = "#/components/schemas/"

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
OBJECT_META = f"{_META}ObjectMeta"
LIST_META = f"{_META}ListMeta"
MICRO_TIME = f"{_META}MicroTime"
_SCHEMA_PROPS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
_SUBRESOURCE_STATUS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceSubresourceStatus"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"

_MODULES: dict[str, ModuleType] = {
    "io.k8s.api.core.v1": core_v1,
    "io.k8s.api.apps.v1": apps_v1,
    "io.k8s.api.batch.v1": batch_v1,
    "io.k8s.api.rbac.v1": rbac_v1,
    "io.k8s.api.authentication.v1": authentication_v1,
    "io.k8s.api.authorization.v1": authorization_v1,
    "io.k8s.api.autoscaling.v1": autoscaling_v1,
    "io.k8s.api.coordination.v1": coordination_v1,
    "io.k8s.api.discovery.v1": discovery_v1,
    "io.k8s.api.events.v1": events_v1,
    "io.k8s.api.policy.v1": policy_v1,
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1": apiextensions_v1,
    "io.k8s.apimachinery.pkg.apis.meta.v1": meta_v1,
}
_PREFIXES = {module.__name__.rpartition(".")[2]: prefix for prefix, module in _MODULES.items()}

_ANY: Json = {"x-kubernetes-preserve-unknown-fields": True}
_SPECIAL: dict[str, Json] = {
    _QUANTITY: {"x-kubernetes-int-or-string": True, "format": "quantity"},
    _INT_OR_STRING: {"x-kubernetes-int-or-string": True, "format": "int-or-string"},
    f"{_META}Time": {"type": "string", "format": "date-time"},
    MICRO_TIME: {"type": "string", "format": "date-time"},
    f"{_META}FieldsV1": {"type": "object", **_ANY},
    f"{_META}Patch": {"type": "object", **_ANY},
    "io.k8s.apimachinery.pkg.runtime.RawExtension": {"type": "object", **_ANY},
    _SUBRESOURCE_STATUS: {"type": "object"},
}
"""Types whose JSON form is not that of their class."""

_PRIMITIVES: dict[str, Json] = {
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "float": {"type": "number", "format": "double"},
}
_ALIASES = {
    "resource.Quantity": _QUANTITY,
    "util_intstr.IntOrString": _INT_OR_STRING,
    "runtime.RawExtension": "io.k8s.apimachinery.pkg.runtime.RawExtension",
    "CustomResourceSubresourceStatus": _SUBRESOURCE_STATUS,
}
_ANYTHING = frozenset(
    {"JSON", "JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrStringArray", "Any"}
)
_LIST = re.compile(r"^List\[(.*)\]$")
_OPTIONAL = re.compile(r"^Optional\[(.*)\]$")
_PARAMETER = re.compile(r"^ *\* \*\*(?P<name>\S+)\*\* ``[^`]*`` - (?P<text>.*)$")


def wire_name(attribute: str) -> str:
    """The JSON name of a model's attribute: `continue_` is `continue`, `x_kubernetes_list_type` has dashes."""
    if attribute.startswith("d_"):
        return f"${attribute[2:]}"
    return attribute.replace("_", "-") if attribute.startswith("x_") else attribute.rstrip("_")


def _model(name: str) -> type:
    prefix, _, class_name = name.rpartition(".")
    model = getattr(_MODULES[prefix], class_name)
    assert isinstance(model, type)
    return model


def _reference(annotation: str, prefix: str) -> str:
    if annotation in _ALIASES:
        return _ALIASES[annotation]
    module, _, name = annotation.rpartition(".")
    return f"{_PREFIXES.get(module, module) if module else prefix}.{name}"


def _node(annotation: str, prefix: str, type_name: str, field: str) -> Json:
    """The schema of one field, with references."""
    if (inner := _OPTIONAL.match(annotation)) is not None:
        return _node(inner[1], prefix, type_name, field)
    if (inner := _LIST.match(annotation)) is not None:
        return {"type": "array", "items": _node(inner[1], prefix, type_name, field)}
    if annotation == "int":
        return {"type": "integer", "format": facts.integer_format(type_name, field)}
    if annotation in {"dict", "Dict"}:
        values: dict[str, Json] = {
            "Quantity": {"$ref": REFERENCE + _QUANTITY},
            "byte": {"type": "string", "format": "byte"},
            "strings": {"type": "array", "items": {"type": "string"}},
            "JSONSchemaProps": {"$ref": REFERENCE + _SCHEMA_PROPS},
            "JSON": _ANY,
            "string": {"type": "string"},
        }
        if type_name == "ManagedFieldsEntry":
            return {"$ref": f"{REFERENCE}{_META}FieldsV1"}
        return {"type": "object", "additionalProperties": values[facts.map_values(type_name, field)]}
    if annotation in _ANYTHING:
        return _ANY
    if annotation in _PRIMITIVES:
        return _PRIMITIVES[annotation]
    target = _reference(annotation, prefix)
    known = target in _SPECIAL or target.rpartition(".")[0] in _MODULES
    # What a served type holds of groups that are not served (alpha scheduling) is kept as it is.
    return {"$ref": REFERENCE + target} if known else {"type": "object", **_ANY}


def _with_facts(node: Json, type_name: str, field: str) -> Json:
    place = f"{type_name}.{field}"
    more: Json = {}
    if node.get("type") == "array":
        list_map = facts.LIST_MAPS.get(place)
        more["x-kubernetes-list-type"] = "map" if list_map else "set" if place in facts.LIST_SETS else "atomic"
        if list_map is not None:
            more["x-kubernetes-list-map-keys"] = list(list_map.keys)
            if list_map.strategy:
                more["x-kubernetes-patch-merge-key"] = list_map.merge_key
                more["x-kubernetes-patch-strategy"] = list_map.strategy
    if place in facts.PATCHED_OTHERWISE:
        strategy, merge_key = facts.PATCHED_OTHERWISE[place]
        more["x-kubernetes-patch-strategy"] = strategy
        if merge_key:
            more["x-kubernetes-patch-merge-key"] = merge_key
    if place in facts.ATOMIC:
        more["x-kubernetes-map-type"] = "atomic"
    if place in facts.ENUMS:
        more["enum"] = list(facts.ENUMS[place])
    if place in facts.BYTE_FIELDS:
        more["format"] = "byte"
    return {**node, **more}


@functools.cache
def definition(name: str) -> Json:
    """The OpenAPI definition of that name, with references to others and without descriptions.

    Raises `KeyError` or `AttributeError` where there is none.
    """
    if name in _SPECIAL:
        return _SPECIAL[name]
    prefix, _, type_name = name.rpartition(".")
    properties: Json = {}
    required = []
    for attribute, annotation in _model(name).__annotations__.items():
        field = wire_name(attribute)
        properties[field] = _with_facts(_node(annotation, prefix, type_name, field), type_name, field)
        if _OPTIONAL.match(annotation) is None:
            required.append(field)
    schema: Json = {"type": "object", "properties": properties}
    if required:
        schema["required"] = sorted(required)
    if type_name in facts.ATOMIC:
        schema["x-kubernetes-map-type"] = "atomic"
    return schema


@functools.cache
def expanded(name: str) -> Json:
    """The definition with every reference followed. A type that holds itself (JSON Schema) is left open at that
    point."""
    schema = definition(name)
    if name == MICRO_TIME:
        return {**schema, DEFINITION: name}
    if name == _SCHEMA_PROPS:
        return {"type": "object", **_ANY, DEFINITION: name}
    if "properties" not in schema:
        return schema
    properties = {field: _expanded_node(node) for field, node in schema["properties"].items()}
    for field, node in properties.items():
        if f"{name.rpartition('.')[2]}.{field}" in facts.CHECKED_ELSEWHERE:
            properties[field] = {key: value for key, value in node.items() if key != "enum"}
    return {**schema, "properties": properties, DEFINITION: name}


def _expanded_node(node: Json) -> Json:
    if "$ref" in node:
        target = expanded(node["$ref"].removeprefix(REFERENCE))
        return {**target, **{k: v for k, v in node.items() if k != "$ref"}} if len(node) > 1 else target
    if "items" in node:
        return {**node, "items": _expanded_node(node["items"])}
    if isinstance(node.get("additionalProperties"), dict):
        return {**node, "additionalProperties": _expanded_node(node["additionalProperties"])}
    return node


@functools.cache
def descriptions(name: str) -> tuple[str, dict[str, str]]:
    """What the definition and each of its fields are for, in Kubernetes' words."""
    if name in _SPECIAL:
        return "", {}
    lines = (_model(name).__doc__ or "").splitlines()
    own: list[str] = []
    fields: dict[str, list[str]] = {}
    target = own
    for line in lines:
        if (match := _PARAMETER.match(line)) is not None:
            target = fields.setdefault(wire_name(match["name"]), [])
            target.append(match["text"])
        elif line.strip() != "**parameters**":
            target.append(line.strip())
    return _paragraphs(own), {field: _paragraphs(text) for field, text in fields.items()}


def _paragraphs(lines: list[str]) -> str:
    """Lines as the author's paragraphs: a line break inside one is a space."""
    text = "\n".join(lines).strip()
    return "\n\n".join(" ".join(part.split("\n")) for part in re.split(r"\n{2,}", text))


def references(node: Any) -> set[str]:
    """The definitions that a schema refers to directly."""
    if isinstance(node, dict):
        found = {node["$ref"].removeprefix(REFERENCE)} if isinstance(node.get("$ref"), str) else set()
        return found.union(*(references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(references(item) for item in node))
    return set()
