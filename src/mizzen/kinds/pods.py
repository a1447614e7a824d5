"""What a user may say about the Pods that do the work of a resource."""

from typing import Annotated

from pydantic import Field

from mizzen.kinds.meta import Wire
from mizzen.kinds.scalars import Duration, Quantity


class Resources(Wire):
    """What the Pod asks for: the scheduler keeps it free for it."""

    cpu: Quantity = "1"
    """Processor cores: `500m` is half a core. More may be used while nobody else asks for it."""
    memory: Quantity = "2Gi"
    """Memory, which is also the limit: a Pod that takes more is killed (OOMKilled)."""


class SecretKey(Wire):
    """One key of a Secret in the same namespace."""

    name: str
    key: str


class EnvValue(Wire):
    """An environment variable: a plain `value`, or one key of a Secret."""

    name: str = Field(pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")
    value: str | None = None
    secret: SecretKey | None = None


class PodOptions(Wire):
    """Resources, environment and time limit of the Pod."""

    resources: Resources = Field(default_factory=Resources)
    """Processor and memory."""
    env: Annotated[
        list[EnvValue],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = Field(default_factory=list)
    """Environment variables of the Pod."""
    timeout: Duration = "6h"
    """The Job is stopped after this long."""
    retries: int = Field(default=1, ge=0, le=100)
    """How often a Pod that was lost or killed is started again. A function that raised is not tried again."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels the node must have."""
