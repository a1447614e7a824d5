"""What every type answers; the base class is what custom resources and the simplest of Kubernetes' own get.

Schemas say what an object looks like, default it and check it (`schema/`); a strategy says what a *change* may do,
and what the server makes of an object by itself. It is asked, in this order: of a create `prepare_create`, `validate`
and `validate_create`; of an update `prepare_update`, `validate` and `validate_update`; of both `warnings`; of a change
of status `prepare_status` and `validate_status`. `prepare_*` set fields of the object they are given; what is inside
those fields may be shared with other objects, so that is made anew, never changed. What is wrong is returned.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import updates
from mizzen.local.apiserver.types import Json, ResourceType


def timestamp(moment: datetime) -> str:
    """`metav1.Time`: UTC to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a strategy may look at besides the object."""

    rtype: ResourceType
    now: datetime
    newest: Callable[[tuple[str, str]], list[Json]]
    """All objects of a resource, those included that are on their way to the disk."""


class Strategy:
    """The rules of a type. Stateless."""

    generation = False
    """Whether `metadata.generation` counts changes of the spec."""
    create_on_update = False
    """Whether a PUT of what is not there creates it."""
    unconditional_update = True
    """Whether an update without a resourceVersion overwrites whatever is there."""
    returns_deleted = False
    """Whether a delete answers with the object instead of a Status."""
    graceful = False
    """Whether a delete first marks the object and leaves its end to someone else (the kubelet)."""
    owns = True
    """Whether objects of the type can own others: how a delete treats what they own means something."""
    takes_status = False
    """Whether a create may say what the status is."""

    def prepare_create(self, obj: Json, around: Surroundings) -> None:
        """Make what the server makes. Status is what its defaults are by then, unless the type takes it."""

    def prepare_update(self, obj: Json, old: Json, around: Surroundings) -> None:
        """Keep of the old object what an update does not change; status is kept before."""

    def prepare_status(self, obj: Json, old: Json, around: Surroundings) -> None:
        """A change of status changes nothing else. Of Kubernetes' own types that is: not the spec."""
        keep(obj, old, ("spec",))

    def validate(self, obj: Json, around: Surroundings) -> Iterable[Cause]:
        """What is wrong with an object that is created or updated, besides metadata and schema."""
        return ()

    def validate_create(self, obj: Json, around: Surroundings) -> Iterable[Cause]:
        """What is wrong with a new object only."""
        return ()

    def validate_update(self, obj: Json, old: Json, around: Surroundings) -> Iterable[Cause]:
        """What may not change in this way."""
        return updates.check_update(around.rtype, obj, old)

    def warnings(self, obj: Json, old: Json | None) -> Iterable[str]:
        """What works but is hardly meant, for the client to know."""
        return ()

    def validate_status(self, obj: Json, old: Json, around: Surroundings) -> Iterable[Cause]:
        return ()

    def spec_changed(self, obj: Json, old: Json, rtype: ResourceType) -> bool:
        """Whether the generation grows."""
        return obj.get("spec") != old.get("spec")

    def grace_period_s(self, obj: Json, requested: int | None) -> int:
        """How long an object of a graceful type is given to end."""
        return 0


class CustomStrategy(Strategy):
    """Custom resources: everything but metadata (and status, where it is a subresource) counts as spec."""

    generation = True
    unconditional_update = False

    def prepare_status(self, obj: Json, old: Json, around: Surroundings) -> None:
        """Nothing but status changes; of metadata only who manages which fields."""
        managed, status = obj["metadata"].get("managedFields"), obj.get("status")
        obj.clear()
        obj.update(old)
        obj["metadata"] = dict(old["metadata"])
        if managed is not None:
            obj["metadata"]["managedFields"] = managed
        obj.pop("status", None)
        if status is not None:
            obj["status"] = status

    def spec_changed(self, obj: Json, old: Json, rtype: ResourceType) -> bool:
        ignored = {"metadata", "status"} if "status" in rtype.subresources else {"metadata"}
        return {k: v for k, v in obj.items() if k not in ignored} != {k: v for k, v in old.items() if k not in ignored}


def keep(obj: Json, old: Json, names: Iterable[str]) -> None:
    """Take fields from the old object."""
    for name in names:
        if name in old:
            obj[name] = old[name]
        else:
            obj.pop(name, None)
