"""How a Python class is named on the server, and how its objects travel: one face for three sorts of class.

* one of our kinds (`mizzen.kinds`, pydantic),
* a lightkube resource class (`lightkube.resources.core_v1.Pod`, msgspec structs generated from Kubernetes' OpenAPI),
* `untyped(info)`: a `dict` subclass that knows its kind, for what has no class or must be kept verbatim.

Everything else in this package is written against `info_of`, `decode`, `encode` and `meta_of` and does not ask which
sort it has.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, ClassVar, TypeVar, cast

import msgspec
import pydantic
from lightkube.core.resource import ApiInfo, NamespacedResource

from mizzen.kinds.meta import GROUP, VERSION, Resource
from mizzen.kube.errors import DecodeError
from mizzen.kube.times import format_micro_time, format_time, parse_time

T = TypeVar("T")
Json = dict[str, Any]

_MICRO_TIMES = frozenset({"acquireTime", "renewTime", "eventTime", "lastObservedTime"})
"""Fields of type `metav1.MicroTime`: servers insist on six digits after the point there. lightkube has one type for
both, so they are told apart by name."""


@dataclass(frozen=True, slots=True)
class ResourceInfo:
    """Where a kind is served: what its URL is made of."""

    group: str
    """Empty for the core group."""
    version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """`v1`, or `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path: of the collection, of one object, or of one of its subresources."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [self.plural, *filter(None, (name, subresource))]
        return "/".join(parts)

    def named(self, name: str) -> str:
        """An object in words, as kubectl has it: `deployment.apps/web`."""
        kind = self.kind.lower()
        return f"{kind}.{self.group}/{name}" if self.group else f"{kind}/{name}"

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


class Untyped(dict[str, Any]):
    """An object as plain JSON. Made by `untyped(info)`; the class knows its kind, the object is an ordinary dict."""

    info: ClassVar[ResourceInfo]
    metadata_only: ClassVar[bool] = False
    """Whether only the metadata is asked for and kept."""


@cache
def untyped(info: ResourceInfo) -> type[Untyped]:
    """The class of plain-JSON objects of that kind: the same one at each call."""
    return type(f"Untyped{info.kind}", (Untyped,), {"info": info})


@cache
def metadata_of(info: ResourceInfo) -> type[Untyped]:
    """The class of objects of that kind of which only the metadata is asked for and kept: for who watches all kinds."""
    return type(f"MetadataOf{info.kind}", (Untyped,), {"info": info, "metadata_only": True})


_infos: dict[type[Any], ResourceInfo] = {}


def info_of(cls: type[Any]) -> ResourceInfo:
    """Where the objects of that class are served. Raises `TypeError` where it is no kind."""
    info = _infos.get(cls)
    if info is None:
        info = _infos[cls] = _find_info(cls)
    return info


def _find_info(cls: type[Any]) -> ResourceInfo:
    if issubclass(cls, Untyped) and cls is not Untyped:
        return cls.info
    if issubclass(cls, Resource) and cls is not Resource:
        return ResourceInfo(GROUP, VERSION, cls.__name__, cls.plural, namespaced=True)
    api = getattr(cls, "_api_info", None)
    if not isinstance(api, ApiInfo) or api.action is not None:
        raise TypeError(
            f"{cls.__module__}.{cls.__qualname__}: expected one of mizzen.kinds, a lightkube resource class such as "
            "lightkube.resources.core_v1.Pod, or untyped(ResourceInfo(...))"
        )
    named = api.resource
    return ResourceInfo(named.group, named.version, named.kind, api.plural, issubclass(cls, NamespacedResource))


@dataclass(frozen=True, slots=True)
class Owner:
    """One entry of `metadata.ownerReferences`."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_deletion: bool = False


@dataclass(frozen=True, slots=True)
class Meta:
    """What all objects have, read the same way from all sorts of class."""

    namespace: str | None
    name: str
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[Owner, ...] = ()
    finalizers: tuple[str, ...] = ()
    created: datetime | None = None
    deleted: datetime | None = None
    """When deletion was asked for; `None` for an object that is to stay."""

    @property
    def key(self) -> "Key":
        return Key(self.namespace, self.name)

    @property
    def controller(self) -> Owner | None:
        """The owner that manages this object, if one does."""
        return next((owner for owner in self.owners if owner.controller), None)


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Names one object of a kind. `namespace` is `None` for kinds without namespaces."""

    namespace: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def meta_of(obj: object) -> Meta:
    """The metadata of an object of any sort."""
    if isinstance(obj, dict):
        return _meta_of_wire(obj.get("metadata") or {})
    if isinstance(obj, Resource):
        return _meta_of_kind(obj)
    return _meta_of_struct(obj)


def _meta_of_wire(meta: Mapping[str, Any]) -> Meta:
    return Meta(
        meta.get("namespace") or None,
        meta.get("name") or "",
        meta.get("uid") or "",
        meta.get("resourceVersion") or "",
        meta.get("generation") or 0,
        meta.get("labels") or {},
        meta.get("annotations") or {},
        tuple(
            Owner(
                owner.get("apiVersion", ""),
                owner.get("kind", ""),
                owner.get("name", ""),
                owner.get("uid", ""),
                bool(owner.get("controller")),
                bool(owner.get("blockOwnerDeletion")),
            )
            for owner in meta.get("ownerReferences") or ()
        ),
        tuple(meta.get("finalizers") or ()),
        parse_time(meta.get("creationTimestamp")),
        parse_time(meta.get("deletionTimestamp")),
    )


def _meta_of_kind(obj: Resource) -> Meta:
    meta = obj.metadata
    return Meta(
        meta.namespace,
        meta.name or "",
        meta.uid or "",
        meta.resource_version or "",
        meta.generation or 0,
        meta.labels,
        meta.annotations,
        tuple(
            Owner(o.api_version, o.kind, o.name, o.uid, bool(o.controller), bool(o.block_owner_deletion))
            for o in meta.owner_references
        ),
        tuple(meta.finalizers),
        parse_time(meta.creation_timestamp),
        parse_time(meta.deletion_timestamp),
    )


def _meta_of_struct(obj: object) -> Meta:
    meta = getattr(obj, "metadata", None)
    if meta is None:
        return Meta(None, "")
    return Meta(
        meta.namespace,
        meta.name or "",
        meta.uid or "",
        meta.resourceVersion or "",
        meta.generation or 0,
        meta.labels or {},
        meta.annotations or {},
        tuple(
            Owner(o.apiVersion, o.kind, o.name, o.uid, bool(o.controller), bool(o.blockOwnerDeletion))
            for o in meta.ownerReferences or ()
        ),
        tuple(meta.finalizers or ()),
        meta.creationTimestamp,
        meta.deletionTimestamp,
    )


_json_object = msgspec.json.Decoder(dict[str, Any])
_struct_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}


def decode(cls: type[T], wire: bytes | msgspec.Raw) -> T:
    """An object from its JSON. Raises `DecodeError` where the class cannot hold it."""
    try:
        if issubclass(cls, Untyped):
            # Items of a list of a built-in kind come without these two, and of metadata alone with others.
            head = {"apiVersion": cls.info.api_version, "kind": cls.info.kind}
            if cls.metadata_only:
                meta = _json_object.decode(wire).get("metadata") or {}
                return cast("T", cls(head | {"metadata": {k: v for k, v in meta.items() if k != "managedFields"}}))
            return cast("T", cls(head | _json_object.decode(wire)))
        if issubclass(cls, Resource):
            return cast("T", cls.from_server(_json_object.decode(wire)))
        return _decode_struct(cls, wire)
    except (msgspec.DecodeError, pydantic.ValidationError) as error:
        raise DecodeError(_what_does_not_fit(cls, wire, error)) from error


def without_managed_fields(obj: T) -> T:
    """The same object, less what it says of who wrote which of its fields."""
    if isinstance(obj, dict):
        obj.get("metadata", {}).pop("managedFields", None)
    elif isinstance(obj, Resource):
        obj.metadata.managed_fields = None
    else:
        metadata = getattr(obj, "metadata", None)
        if metadata is not None:
            metadata.managedFields = None
    return obj


def _decode_struct(cls: type[T], wire: bytes | msgspec.Raw) -> T:
    decoder = _struct_decoders.get(cls)
    if decoder is None:
        decoder = _struct_decoders[cls] = msgspec.json.Decoder(cls)
    try:
        return cast("T", decoder.decode(wire))
    except msgspec.ValidationError:
        # Go writes `null` for an empty list that has no `omitempty`; the generated classes want it absent or empty.
        return msgspec.convert(_nulls_as_empty(msgspec.json.decode(wire)), cls)


_LISTS_THAT_GO_LEAVES_NULL = frozenset({"containers", "endpoints", "conditions", "subsets", "rules", "items"})


def _nulls_as_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: [] if inner is None else _nulls_as_empty(inner)
            for key, inner in value.items()
            if inner is not None or key in _LISTS_THAT_GO_LEAVES_NULL
        }
    return [_nulls_as_empty(inner) for inner in value] if isinstance(value, list) else value


def _what_does_not_fit(cls: type[Any], wire: bytes | msgspec.Raw, error: Exception) -> str:
    try:
        meta = meta_of(_json_object.decode(wire))
        which = f" {meta.key}"
    except (msgspec.DecodeError, AttributeError, ValueError):
        which = ""
    return f"{info_of(cls)}{which}: cannot be read as {cls.__name__}: {error}"


def encode(obj: object) -> Json:
    """The JSON form of an object, with `apiVersion` and `kind`; what is absent or empty in metadata is left out."""
    info = info_of(type(obj))
    head = {"apiVersion": info.api_version, "kind": info.kind}
    if isinstance(obj, dict):
        return {**head, **obj}
    if isinstance(obj, Resource):
        wire = obj.to_wire()
        wire["metadata"] = {key: value for key, value in wire["metadata"].items() if value not in ({}, [])}
        return {**head, **wire}
    return {**head, **_with_times(msgspec.to_builtins(obj, builtin_types=(datetime,)))}


def _with_times(value: Any) -> Any:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, datetime):
            value[key] = format_micro_time(inner) if key in _MICRO_TIMES else format_time(inner)
        elif isinstance(inner, dict | list):
            _with_times(inner)
    return value
