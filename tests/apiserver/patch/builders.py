"""A custom resource with every kind of field that ownership knows, and Kubernetes' own types, behind short verbs."""

import copy
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from mizzen.local.apiserver.patch import managed
from mizzen.local.apiserver.schema.builtin import BUILTIN_TYPES
from mizzen.local.apiserver.types import Json

STRING = {"type": "string"}
STRINGS = {"type": "object", "additionalProperties": STRING}
SPEC: Json = {
    "type": "object",
    "properties": {
        "text": STRING,
        "number": {"type": "integer"},
        "flag": {"type": "boolean"},
        "struct": {
            "type": "object",
            "properties": {
                "x": STRING,
                "y": {"type": "integer"},
                "deep": {"type": "object", "properties": {"z": STRING}},
            },
        },
        "map": STRINGS,
        "mapOfStructs": {
            "type": "object",
            "additionalProperties": {"type": "object", "properties": {"p": STRING, "q": STRING}},
        },
        "atomicMap": {**STRINGS, "x-kubernetes-map-type": "atomic"},
        "atomicList": {"type": "array", "items": STRING},
        "set": {"type": "array", "items": STRING, "x-kubernetes-list-type": "set"},
        "numbers": {"type": "array", "items": {"type": "integer"}, "x-kubernetes-list-type": "set"},
        "ports": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port", "protocol"],
            "items": {
                "type": "object",
                "required": ["port"],
                "properties": {
                    "port": {"type": "integer"},
                    "protocol": {"type": "string", "default": "TCP"},
                    "name": STRING,
                    "tags": {"type": "array", "items": STRING, "x-kubernetes-list-type": "set"},
                },
            },
        },
        "items": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": STRING, "value": STRING, "labels": STRINGS},
            },
        },
        "anything": {"x-kubernetes-preserve-unknown-fields": True, "type": "object"},
        "untyped": {"x-kubernetes-preserve-unknown-fields": True},
        "intOrString": {"x-kubernetes-int-or-string": True},
    },
}
WIDGET: Json = {
    "type": "object",
    "properties": {
        "apiVersion": STRING,
        "kind": STRING,
        "metadata": {"type": "object"},
        "spec": SPEC,
        "status": {"type": "object", "properties": {"phase": STRING}},
    },
}


@dataclass
class Kind:
    """Objects of one type and what managers do with them, at a time that moves on with each write."""

    schema: Json
    api_version: str
    kind: str
    now_s: int = 0

    def object(self, spec: Json | None = None, **metadata: Any) -> Json:
        made: Json = {"apiVersion": self.api_version, "kind": self.kind, "metadata": {"name": "it", **metadata}}
        return made if spec is None else {**made, "spec": spec}

    def create(self, made: Json, manager: str = "creator") -> Json:
        made = {**made, "metadata": {**made["metadata"], "uid": "u-1", "creationTimestamp": "t"}}
        return managed.updated(
            None, made, schema=self.schema, manager=manager, api_version=self.api_version, now=self.tick()
        )

    def update(self, old: Json, new: Json, manager: str = "updater", subresource: str = "") -> Json:
        new = {**new, "metadata": {"uid": "u-1", "creationTimestamp": "t", **new["metadata"]}}
        return managed.updated(
            old,
            new,
            schema=self.schema,
            manager=manager,
            api_version=self.api_version,
            subresource=subresource,
            now=self.tick(),
        )

    def apply(
        self, live: Json | None, applied: Json, manager: str = "applier", *, force: bool = False, **options: Any
    ) -> Json:
        before = copy.deepcopy((live, applied))
        result = managed.apply(
            live,
            applied,
            schema=self.schema,
            manager=manager,
            force=force,
            api_version=self.api_version,
            now=self.tick(),
            **options,
        )
        assert (live, applied) == before, "arguments are values"
        if live is None:
            result["metadata"] |= {"uid": "u-1", "creationTimestamp": "t"}
        return result

    def tick(self) -> str:
        self.now_s += 1
        return f"2026-01-01T{self.now_s // 3600 % 24:02}:{self.now_s // 60 % 60:02}:{self.now_s % 60:02}Z"


def _builtin(name: str) -> Kind:
    rtype = next(rtype for rtype in BUILTIN_TYPES if rtype.kind == name)
    return Kind(rtype.schema, rtype.api_version, name)


WIDGETS = Kind(WIDGET, "example.dev/v1", "Widget")
DEPLOYMENTS = _builtin("Deployment")
PODS = _builtin("Pod")
CONFIG_MAPS = _builtin("ConfigMap")


# Generated specs of a Widget.

words = st.sampled_from("abcd")
string_maps = st.dictionaries(words, words, max_size=2)


def _records(fields: dict[str, st.SearchStrategy], *keys: str, key: Any) -> st.SearchStrategy:
    required = {name: fields[name] for name in keys}
    optional = {name: fields[name] for name in fields if name not in keys}
    return st.lists(st.fixed_dictionaries(required, optional=optional), max_size=3, unique_by=key)


anything = st.recursive(
    words | st.integers(0, 2) | st.booleans(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
FIELDS: dict[str, st.SearchStrategy] = {
    "text": words,
    "number": st.integers(0, 2),
    "flag": st.booleans(),
    "struct": st.fixed_dictionaries(
        {}, optional={"x": words, "y": st.integers(0, 2), "deep": st.fixed_dictionaries({}, optional={"z": words})}
    ),
    "map": string_maps,
    "mapOfStructs": st.dictionaries(words, st.fixed_dictionaries({}, optional={"p": words, "q": words}), max_size=2),
    "atomicMap": string_maps,
    "atomicList": st.lists(words, max_size=2),
    "set": st.lists(words, max_size=3, unique=True),
    "numbers": st.lists(st.sampled_from([1, 2, 10, 30]), max_size=3, unique=True),
    "ports": _records(
        {
            "port": st.sampled_from([9, 80]),
            "protocol": st.sampled_from(["TCP", "UDP"]),
            "name": words,
            "tags": st.lists(words, max_size=2, unique=True),
        },
        "port",
        key=lambda port: (port["port"], port.get("protocol", "TCP")),
    ),
    "items": _records({"name": words, "value": words, "labels": string_maps}, "name", key=lambda item: item["name"]),
    "anything": st.dictionaries(words, anything, max_size=2),
    "untyped": anything,
    "intOrString": st.sampled_from([1, 2, "x"]),
}


def specs(*names: str) -> st.SearchStrategy[Json]:
    """Specs with some of the named fields; of all where none is named."""
    return st.fixed_dictionaries({}, optional={name: FIELDS[name] for name in names or FIELDS})
