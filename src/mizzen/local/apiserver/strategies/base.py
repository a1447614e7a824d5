"""What every type answers; the base class is what custom resources get.

A strategy is asked, in this order: of a create `default`, `prepare_create`, `validate`; of an update `default`,
`prepare_update`, `validate` and `validate_update`; of a change of status `prepare_status` and `validate_status`. The
objects that `default` and `prepare_*` are given belong to the caller and are changed in place. What is wrong is returned.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.types import Json, Reader, ResourceType


def timestamp(moment: datetime) -> str:
    """`metav1.Time`: UTC to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a strategy may look at besides the object."""

    rtype: ResourceType
    reader: Reader
    now: datetime
    dry_run: bool


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

    def has_status(self, rtype: ResourceType) -> bool:
        """Whether status is written through its subresource only."""
        return "status" in rtype.subresources

    def default(self, obj: Json) -> None:
        """Fill in what the schema's defaults do not."""

    def prepare_create(self, obj: Json, around: Surroundings) -> None:
        """Drop what a client may not set and make what the server sets."""
        if self.has_status(around.rtype):
            obj.pop("status", None)

    def prepare_update(self, obj: Json, old: Json, around: Surroundings) -> None:
        """Keep of the old object what an update may not change without saying so."""
        if self.has_status(around.rtype):
            keep(obj, old, ("status",))

    def prepare_status(self, obj: Json, old: Json, around: Surroundings) -> None:
        """A change of status: nothing else changes. Custom resources keep all metadata but managedFields."""
        managed = obj["metadata"].get("managedFields")
        kept = {name: value for name, value in old.items() if name != "status"}
        status = obj.get("status")
        obj.clear()
        obj.update(kept)
        obj["metadata"] = {**old["metadata"], **({"managedFields": managed} if managed is not None else {})}
        if status is not None:
            obj["status"] = status

    def validate(self, obj: Json, around: Surroundings) -> Iterable[Cause]:
        """What is wrong with an object that is created or updated, besides metadata and schema."""
        return ()

    def validate_update(self, obj: Json, old: Json, around: Surroundings) -> Iterable[Cause]:
        """What may not change in this way."""
        return ()

    def validate_status(self, obj: Json, old: Json, around: Surroundings) -> Iterable[Cause]:
        return ()

    def spec_changed(self, obj: Json, old: Json, rtype: ResourceType) -> bool:
        """Whether the generation grows: of custom resources anything but metadata (and status) counts."""
        ignored = {"metadata", "status"} if self.has_status(rtype) else {"metadata"}
        return {k: v for k, v in obj.items() if k not in ignored} != {k: v for k, v in old.items() if k not in ignored}

    def grace_period_s(self, obj: Json, requested: int | None) -> int:
        """How long an object of a graceful type is given to end."""
        return 0 if requested is None else requested


class CustomStrategy(Strategy):
    """Custom resources."""

    generation = True
    unconditional_update = False


def keep(obj: Json, old: Json, names: Iterable[str]) -> None:
    """Take fields from the old object."""
    for name in names:
        if name in old:
            obj[name] = old[name]
        else:
            obj.pop(name, None)
