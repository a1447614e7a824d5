"""What every kind has: names, metadata, conditions, and how its wire form relates to Python.

Field names are snake_case here and camelCase on the wire. Reading what a user wrote forbids unknown fields; reading
what a server sent ignores them (`Resource.from_server`), so that an older program can read a newer object.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "mizzen.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""RFC 1123 label: what Kubernetes asks of most names."""

Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339 in UTC, as Kubernetes writes it: `2026-01-31T12:00:00Z`."""


class Wire(BaseModel):
    """A value with a wire form: camelCase, unknown fields forbidden."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        protected_namespaces=(),
        validate_default=False,
        defer_build=True,  # every process of the platform imports all kinds, and most use few
    )

    def to_wire(self) -> dict[str, Any]:
        """The JSON form: camelCase, absent where `None`."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OwnerReference(Wire):
    """`metav1.OwnerReference`."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Wire):
    """`metav1.ObjectMeta`, the fields in use."""

    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    creation_timestamp: Timestamp | None = None
    deletion_timestamp: Timestamp | None = None
    deletion_grace_period_seconds: int | None = None
    finalizers: list[str] = Field(default_factory=list)
    owner_references: list[OwnerReference] = Field(default_factory=list)
    managed_fields: list[dict[str, Any]] | None = None


class Condition(Wire):
    """`metav1.Condition`: one observed aspect, with its reason."""

    type: str = Field(max_length=316)
    """Aspect in CamelCase: `Ready`, or what leads to it."""
    status: Literal["True", "False", "Unknown"]
    """Whether the aspect holds."""
    reason: str = Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    """Why, as one CamelCase word for programs."""
    message: str = Field(default="", max_length=32768)
    """Why, as a sentence for people."""
    last_transition_time: Timestamp
    """When `status` last changed."""
    observed_generation: int | None = Field(default=None, ge=0)
    """The `metadata.generation` this was observed for."""


class Status(Wire):
    """What every status has."""

    observed_generation: int | None = None
    """The `metadata.generation` that the controller last acted on."""
    conditions: Annotated[
        list[Condition],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = Field(default_factory=list)
    """Observed aspects with reasons; `Ready` is the sum of the others."""


@dataclass(frozen=True, slots=True)
class PrinterColumn:
    """A column of `kubectl get`: `priority` 0 is always shown, 1 only with `-o wide`."""

    name: str
    json_path: str
    type: Literal["string", "integer", "number", "boolean", "date"] = "string"
    priority: int = 0
    description: str = ""


AGE = PrinterColumn("Age", ".metadata.creationTimestamp", "date")
READY = PrinterColumn("Ready", '.status.conditions[?(@.type=="Ready")].status')
REASON = PrinterColumn("Reason", '.status.conditions[?(@.type=="Ready")].reason')
MESSAGE = PrinterColumn("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1)


@dataclass(frozen=True, slots=True)
class Scale:
    """Where the scale subresource finds its numbers."""

    spec_replicas_path: str
    status_replicas_path: str
    label_selector_path: str


class Resource(Wire):
    """A kind: metadata, spec and status, and how it is named in the API."""

    plural: ClassVar[str]
    short_names: ClassVar[tuple[str, ...]] = ()
    categories: ClassVar[tuple[str, ...]] = ("mizzen", "all")
    columns: ClassVar[tuple[PrinterColumn, ...]] = (READY, REASON, AGE)
    scale: ClassVar[Scale | None] = None

    api_version: Literal["mizzen.dev/v1alpha1"] = "mizzen.dev/v1alpha1"
    kind: str
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)

    @classmethod
    def from_server(cls, wire: dict[str, Any]) -> Self:
        """Reads what a server sent; fields this version does not know are ignored.

        Raises `pydantic.ValidationError` where a known field has a wrong value (the server's schema is older or newer).
        """
        return cls.model_validate(wire, extra="ignore")

    @property
    def name(self) -> str:
        """`metadata.name`; empty while the server has not generated it."""
        return self.metadata.name or ""

    @property
    def namespace(self) -> str:
        """`metadata.namespace`; `default` where absent."""
        return self.metadata.namespace or "default"


def condition_named(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """The condition of that type, or `None` where it was never observed."""
    return next((condition for condition in conditions if condition.type == type_), None)


def is_true(conditions: Iterable[Condition], type_: str) -> bool:
    """Whether that condition was observed and holds."""
    condition = condition_named(conditions, type_)
    return condition is not None and condition.status == "True"


def with_condition(conditions: Iterable[Condition], new: Condition) -> list[Condition]:
    """The conditions with `new` in the place of its type; the old transition time is kept if the status is the same."""
    kept = list(conditions)
    for index, old in enumerate(kept):
        if old.type == new.type:
            same = old.status == new.status
            kept[index] = new.model_copy(update={"last_transition_time": old.last_transition_time}) if same else new
            return kept
    return [*kept, new]
