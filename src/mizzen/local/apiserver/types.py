"""The words the API server's parts share: a served resource, a request's user, what a user asks to do.

The parts: `store` keeps objects and their history; `schema/` says what an object of a type may look like; `patch/` is
the pure arithmetic of the four patches; `security/` says who asks and whether they may; `strategies/` is what
Kubernetes knows of each of its own types; `verbs/` puts these together; `http` is the wire. Each part knows this
module and `errors`, and `verbs` and `http` know the rest.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

Json = dict[str, Any]
"""A JSON object. Objects in the store are never changed in place: whoever changes one copies it first."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a Table answer. `json_path` is empty for computed columns of built-in types."""

    name: str
    type: str
    json_path: str = ""
    priority: int = 0
    description: str = ""
    format: str = ""


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where a custom resource keeps its replica numbers (JSON paths such as `.spec.replicas`)."""

    spec: str
    status: str
    selector: str = ""


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One served resource: a group, a version and a plural."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    load_schema: Callable[[], Json] = field(repr=False, compare=False)
    """Gives `schema`, always the same object. Called when the type is first used: no server waits for the schemas of
    types that nobody asks for."""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
    subresources: frozenset[str] = frozenset()
    """`status`, `scale`, `log`, `binding`, `token`, `finalize`, `eviction`."""
    columns: tuple[Column, ...] = ()
    scale: ScalePaths | None = None
    custom: bool = False
    """Whether a CustomResourceDefinition made this."""
    stored: bool = True
    """False for requests that are answered and not kept (SubjectAccessReview, TokenReview)."""
    list_kind: str = ""
    """The kind of a list of these; empty for the usual one, the kind with `List` after it."""
    storage_version: str = ""
    """Of a custom resource: the version its definition stores; empty for built-in types."""
    deprecation: str = ""
    """A warning for every request of this version; empty where it is not deprecated."""
    selectable_fields: tuple[str, ...] = ()
    """JSON paths (`.spec.color`) that field selectors may name beside `metadata.name` and `metadata.namespace`."""

    @property
    def schema(self) -> Json:
        """Structural OpenAPI v3 schema of the whole object, `$ref`-free, with `x-kubernetes-*` extensions (list types,
        map keys, patch strategies). Validation, pruning, defaulting, patches and OpenAPI documents all read this one.

        Sub-schemas may be shared between places (it is a graph without cycles, not always a tree), and are never
        changed.
        """
        return self.load_schema()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def key(self) -> tuple[str, str]:
        """What objects are stored under, whatever the version asked for: `(group, plural)`."""
        return self.group, self.plural


def qualified(key: tuple[str, str]) -> str:
    """`deployments.apps`, `pods`: a resource as messages name it, from `(group, plural)`."""
    group, plural = key
    return f"{plural}.{group}" if group else plural


@dataclass(frozen=True, slots=True)
class User:
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a user asks to do: the words RBAC rules are matched with."""

    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    """The URL path of a non-resource request; empty for resources."""


class Reader(Protocol):
    """The newest durable objects, without waiting; each decoded anew, the caller's own."""

    def get(self, group: str, plural: str, namespace: str, name: str) -> Json | None:
        """One object; `namespace` is empty for cluster-scoped resources."""
        ...

    def list(self, group: str, plural: str) -> Iterable[Json]:
        """All objects of a resource, in all namespaces."""
        ...

    def changes(self, group: str, plural: str) -> int:
        """A number that differs after every change to an object of this resource."""
        ...


@dataclass(frozen=True, slots=True)
class AdmissionContext:
    """A write on its way to the store, as admission plugins see it: `(context, object) -> object`.

    Plugins run after decoding, defaulting and merging, before validation; they raise `Forbidden` (or another error) to
    refuse. On DELETE the object is the one to be deleted and what is returned is not used.
    """

    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    rtype: ResourceType
    subresource: str
    namespace: str
    name: str
    user: User
    old: Json | None
    """The stored object of an update."""
    dry_run: bool
    reader: Reader
    now: datetime
    warn: Callable[[str], None]
    """Adds a Warning header to the answer."""
