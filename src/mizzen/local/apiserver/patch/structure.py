"""What a schema means for ownership: which values are taken apart, and what the parts are called.

Server-side apply sees an object as a tree. A map is taken apart into its fields and an associative list into its
elements; a scalar, and a map or list that is `atomic`, is a leaf and has one owner. `Structure` is one node of a schema
read this way, as Kubernetes reads it (kube-openapi `schemaconv`):

* `x-kubernetes-list-type: map` names elements by their keys, `set` by their value; without a list type a patch strategy
  of `merge` says the same; every other list is atomic. Maps are granular unless `x-kubernetes-map-type: atomic`.
* A value without a type, or under `x-kubernetes-preserve-unknown-fields`, is taken apart as it comes: maps into fields,
  lists as leaves.
* A field of Kubernetes' own types may be there though JSON leaves it out (`go_structs`): it counts as there and empty.

Structures are made when first met and kept, so that a walk costs dictionary look-ups only.
"""

import json
from typing import Any

from mizzen.local.apiserver.patch.go_structs import KEY_DEFAULTS, name_of, zeros_of
from mizzen.local.apiserver.patch.values import ABSENT
from mizzen.local.apiserver.types import Json

_STRUCTURES_MAX = 1024
_text = json.encoder.encode_basestring

_STRING_MAP: Json = {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA: Json = {
    "type": "object",
    "properties": {
        "annotations": _STRING_MAP,
        "creationTimestamp": {"type": "string", "format": "date-time"},
        "deletionGracePeriodSeconds": {"type": "integer"},
        "deletionTimestamp": {"type": "string", "format": "date-time"},
        "finalizers": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "generateName": {"type": "string"},
        "generation": {"type": "integer"},
        "labels": _STRING_MAP,
        "managedFields": {"type": "array", "items": {"type": "object"}},
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "ownerReferences": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "apiVersion": {"type": "string"},
                    "blockOwnerDeletion": {"type": "boolean"},
                    "controller": {"type": "boolean"},
                    "kind": {"type": "string"},
                    "name": {"type": "string"},
                    "uid": {"type": "string"},
                },
                "x-kubernetes-map-type": "atomic",
            },
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["uid"],
        },
        "resourceVersion": {"type": "string"},
        "selfLink": {"type": "string"},
        "uid": {"type": "string"},
    },
}
"""The schema of `metadata` at the root of every object. A CustomResourceDefinition only says that it is an object."""


class StructureError(ValueError):
    """A list element that cannot be named, in Kubernetes' words."""


class _Children(dict[str, "Structure"]):
    """The structures of a map's fields, made when first asked for. A field that is not declared has the structure of
    the map's other values, or that of anything where there are to be none."""

    __slots__ = ("_owner",)

    def __init__(self, owner: "Structure") -> None:
        super().__init__()
        self._owner = owner

    def __missing__(self, name: str) -> "Structure":
        owner = self._owner
        schema = owner.declared.get(name)
        if schema is None:
            return owner.extra or DEDUCED
        child = self[name] = Structure(schema, preserve=owner.preserve)
        return child


class Structure:
    """One node of a schema, read for ownership: which shapes a value may have here, and how each is taken apart."""

    __slots__ = (
        "atomic_list",
        "atomic_map",
        "children",
        "declared",
        "exact",
        "extra",
        "is_list",
        "is_map",
        "item",
        "key_defaults",
        "keys",
        "open",
        "preserve",
        "scalar",
        "zeros",
    )

    def __init__(self, schema: Json, *, preserve: bool) -> None:
        if len(schema.get("allOf", ())) == 1 and "type" not in schema:
            schema = {**schema["allOf"][0], **schema}
        self.preserve = preserve or schema.get("x-kubernetes-preserve-unknown-fields") is True
        kind = schema.get("type")
        untyped = kind is None
        self.is_map = untyped or kind == "object"
        self.is_list = untyped or kind == "array"
        self.scalar = _scalar(schema)
        self.exact = not (self.preserve or _holds_anything(schema))
        """Whether Python's `==` on two such values is exact: nowhere below may a boolean stand where a number stood."""

        self.declared: dict[str, Json] = schema.get("properties", {})
        self.atomic_map = schema.get("x-kubernetes-map-type") == "atomic"
        self.children = _Children(self)
        additional = schema.get("additionalProperties")
        self.open = bool(additional) or (additional is None and (self.preserve or not self.declared))
        """Whether a map may have fields that are not declared."""
        self.extra = Structure(additional, preserve=self.preserve) if isinstance(additional, dict) else None
        """Their structure, where one is given."""
        self.zeros = zeros_of(schema)

        items = schema.get("items")
        self.keys, self.atomic_list = _list_keys(schema)
        self.atomic_list = self.atomic_list or not items
        self.item = DEDUCED if self.atomic_list else Structure(items or {}, preserve=self.preserve)
        self.key_defaults = _key_defaults(items or {}, self.keys)

    def element(self, value: Any) -> str:
        """The path element that names `value` in this associative list."""
        if not self.keys:
            if isinstance(value, dict):
                raise StructureError("associative list without keys has an element that's a map type")
            if isinstance(value, list):
                raise StructureError("not supported: associative list with lists as elements")
            if value is None:
                raise StructureError("associative list without keys has an element that's an explicit null")
            return "v:" + scalar_text(value)
        if value is None:
            raise StructureError("associative list with keys may not have a null element")
        if not isinstance(value, dict):
            raise StructureError("associative list with keys may not have non-map elements")
        named = [
            f'"{key}":{scalar_text(found)}'
            for key in self.keys
            if (found := value.get(key, ABSENT)) is not ABSENT
            or (found := self.key_defaults.get(key, ABSENT)) is not ABSENT
        ]
        if not named:
            keys = " ".join(f'"{key}"' for key in self.keys)
            raise StructureError(
                f"associative list with keys has an element that omits all key fields [{keys}] "
                "(and doesn't have default values for any key fields)"
            )
        return "k:{" + ",".join(named) + "}"


def scalar_text(value: Any) -> str:
    """A scalar in the one JSON text that path elements are compared by: 1.0 is 1."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _deduced() -> Structure:
    """The structure of values of which the schema says nothing."""
    structure = Structure.__new__(Structure)
    structure.preserve = structure.is_map = structure.is_list = structure.open = True
    structure.atomic_map, structure.atomic_list, structure.exact = False, True, False
    structure.scalar, structure.keys = "untyped", ()
    structure.declared, structure.zeros, structure.key_defaults = {}, {}, {}
    structure.extra, structure.item = None, structure
    structure.children = _Children(structure)
    return structure


DEDUCED = _deduced()


def _scalar(schema: Json) -> str:
    """`string`, `boolean`, `numeric`, `untyped` (any of these), or empty where no scalar may stand."""
    match schema.get("type"):
        case "string":
            return "string" if schema.get("format", "") in {"", "byte"} else "untyped"
        case "integer" | "number":
            return "numeric"
        case "boolean":
            return "boolean"
        case None:
            return "untyped"
        case _:
            return ""


def _list_keys(schema: Json) -> tuple[tuple[str, ...], bool]:
    """The keys of an associative list's elements (none for a set), and whether the list is atomic instead."""
    list_type = schema.get("x-kubernetes-list-type")
    if list_type is not None:
        return tuple(sorted(schema.get("x-kubernetes-list-map-keys", ()))), list_type not in {"map", "set"}
    if "merge" in str(schema.get("x-kubernetes-patch-strategy", "")).split(","):
        key = schema.get("x-kubernetes-patch-merge-key")
        return ((str(key),) if key else ()), False
    return (), True


def _key_defaults(item: Json, keys: tuple[str, ...]) -> dict[str, Any]:
    """What stands for the keys that an element leaves out."""
    fields = item.get("properties", {})
    declared = {key: fields[key]["default"] for key in keys if "default" in fields.get(key, {})}
    return KEY_DEFAULTS.get(name_of(item), {}) | declared


_inexact: dict[int, tuple[Json, bool]] = {}


def _holds_anything(schema: Json) -> bool:
    """Whether a value of no certain type may stand here or below. Remembered, since schemas share their parts."""
    known = _inexact.get(id(schema))
    if known is None:
        known = _inexact[id(schema)] = (schema, _may_hold_anything(schema))
    return known[1]


def _may_hold_anything(schema: Json) -> bool:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return True
    match schema.get("type"):
        case "object":
            additional = schema.get("additionalProperties")
            if additional is True or (additional is None and not schema.get("properties")):
                return True
            below = [*schema.get("properties", {}).values(), *([additional] if isinstance(additional, dict) else [])]
            return any(map(_holds_anything, below))
        case "array":
            return "items" not in schema or _holds_anything(schema["items"])
        case None:
            return not (schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string")
        case _:
            return False


_structures: dict[int, tuple[Json, Structure]] = {}


def structure_of(schema: Json) -> Structure:
    """The structure of a whole object's schema. Schemas are known by identity: the same one is read once."""
    known = _structures.get(id(schema))
    if known is not None:
        return known[1]
    if len(_structures) >= _STRUCTURES_MAX:  # of definitions that were replaced
        _structures.clear()
        _inexact.clear()
    rooted = {**schema, "type": "object", "properties": {**schema.get("properties", {}), "metadata": _METADATA}}
    structure = Structure(rooted, preserve=False)
    if name_of(schema):
        structure.zeros = {"metadata": {}, **structure.zeros}
    _structures[id(schema)] = (schema, structure)  # the schema is held so that its id stays its own
    return structure
