"""The entries of `metadata.managedFields`: who owns which fields of one object.

`Ownership` is what one request works on. It is read from the object's entries, changed, and written back in Kubernetes'
order; what did not change is written back as it was.
"""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from mizzen.local.apiserver.patch.fields import (
    MEMBER,
    FieldsError,
    FieldSet,
    difference,
    ordered,
    parse,
    union,
)
from mizzen.local.apiserver.patch.structure import Structure
from mizzen.local.apiserver.types import Json

UPDATE_ENTRIES_MAX = 10
_ANCIENT = "ancient-changes"


class Owner(NamedTuple):
    """Who an entry belongs to: entries of one owner are one entry. Owners sort as conflicts list them."""

    manager: str
    operation: str
    api_version: str
    """Empty for Apply: an applier stays one manager when it moves to another version."""
    subresource: str

    @classmethod
    def of_update(cls, manager: str, api_version: str, subresource: str) -> "Owner":
        return cls(manager or "unknown", "Update", api_version, subresource)

    @classmethod
    def of_apply(cls, manager: str, subresource: str) -> "Owner":
        return cls(manager, "Apply", "", subresource)

    def __str__(self) -> str:
        """As conflicts name it."""
        text = f'"{self.manager}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == "Update" else text


@dataclass(frozen=True, slots=True)
class Entry:
    """One owner's fields, at the version and time it last set them."""

    fields: FieldSet
    api_version: str
    time: str = ""


def document(owner: Owner, entry: Entry) -> Json:
    """A `metav1.ManagedFieldsEntry`."""
    written: Json = {"manager": owner.manager, "operation": owner.operation, "apiVersion": entry.api_version}
    if entry.time:
        written["time"] = entry.time
    written["fieldsType"] = "FieldsV1"
    written["fieldsV1"] = entry.fields
    if owner.subresource:
        written["subresource"] = owner.subresource
    return written


@dataclass(slots=True)
class Ownership:
    """The entries of one object while a request works on them."""

    entries: dict[Owner, Entry] = field(default_factory=dict)
    stored: dict[Owner, tuple[Entry, Json]] = field(default_factory=dict, repr=False)
    """The entries as they were read, with their documents."""

    @classmethod
    def read(cls, documents: Any) -> "Ownership":
        """From managedFields that this server wrote."""
        ownership = cls()
        for written in documents or ():
            operation, api_version = written["operation"], written["apiVersion"]
            owner = Owner(
                written.get("manager", ""),
                operation,
                "" if operation == "Apply" else api_version,
                written.get("subresource", ""),
            )
            entry = Entry(written.get("fieldsV1") or {}, api_version, written.get("time", ""))
            ownership.entries[owner] = entry
            ownership.stored[owner] = (entry, written)
        return ownership

    @classmethod
    def read_from_client(cls, documents: Any) -> "Ownership":
        """From managedFields that a client wrote. Raises `FieldsError` where Kubernetes could not have written them."""
        if not isinstance(documents, list) or not all(isinstance(written, dict) for written in documents):
            raise FieldsError("expected a list of entries")
        for written in documents:
            if written.get("operation") not in {"Apply", "Update"}:
                raise FieldsError("operation must be `Apply` or `Update`")
            if not written.get("apiVersion"):
                raise FieldsError("apiVersion must not be empty")
            if written.get("fieldsType") != "FieldsV1":
                raise FieldsError("fieldsType must be FieldsV1")
            texts = (written.get(name) or "" for name in ("manager", "subresource", "time", "apiVersion"))
            if not all(isinstance(text, str) for text in texts):
                raise FieldsError("manager, subresource, time and apiVersion must be strings")
        return cls.read([{**written, "fieldsV1": parse(written.get("fieldsV1") or {})} for written in documents])

    def write(self) -> list[Json]:
        """The entries in Kubernetes' order: appliers first, then by time, then by name."""
        in_order = sorted(
            self.entries.items(),
            key=lambda item: (
                item[0].operation,
                item[1].time,
                item[0].manager,
                item[1].api_version,
                item[0].subresource,
            ),
        )
        return [self._written(owner, entry) for owner, entry in in_order]

    def _written(self, owner: Owner, entry: Entry) -> Json:
        before, written = self.stored.get(owner, (None, None))
        if written is not None and entry is before:
            return written
        return document(owner, replace(entry, fields=ordered(entry.fields)))

    def put(self, owner: Owner, entry: Entry) -> None:
        """An owner of nothing has no entry."""
        if entry.fields:
            self.entries[owner] = entry
        else:
            self.entries.pop(owner, None)

    def take_away(self, taken: FieldSet, *, but: Owner | None = None) -> None:
        """Nobody except `but` owns `taken` any more."""
        if not taken:
            return
        for owner, entry in list(self.entries.items()):
            if owner != but:
                kept = difference(entry.fields, taken)
                if kept != entry.fields:
                    self.put(owner, replace(entry, fields=kept))

    def reconcile(self, structure: Structure) -> None:
        """Fields below what has since become one leaf (a list that a new schema made atomic) are owned as that leaf."""
        for owner, entry in list(self.entries.items()):
            reconciled = _reconciled(entry.fields, structure)
            if reconciled is not entry.fields:
                self.entries[owner] = replace(entry, fields=reconciled)

    def cap(self) -> None:
        """Folds the oldest updates of each version into one entry until no more than the maximum are left."""
        updaters = [owner for owner in self.entries if owner.operation != "Apply"]
        surplus = len(updaters) - UPDATE_ENTRIES_MAX
        first: dict[str, Owner] = {}
        for owner in sorted(updaters, key=lambda owner: (self.entries[owner].time, owner)):
            if surplus <= 0:
                return
            entry = self.entries[owner]
            if entry.api_version not in first:
                first[entry.api_version] = owner
                continue
            bucket = Owner.of_update(_ANCIENT, entry.api_version, "")
            if bucket not in self.entries:
                self.entries[bucket] = self.entries.pop(first[entry.api_version])
            folded = union(entry.fields, self.entries[bucket].fields)
            if owner != bucket:
                del self.entries[owner]
            self.entries[bucket] = Entry(folded, entry.api_version, entry.time)
            surplus -= 1


def _reconciled(fields: FieldSet, structure: Structure) -> FieldSet:
    changed = fields
    for element, node in fields.items():
        if not node or element == ".":
            continue
        below = _structure_below(structure, element)
        if below is None:
            continue
        atomic = below.atomic_map if below.is_map else below.atomic_list
        # What may be a map or a list (a value of no type) is never taken for one leaf.
        reconciled = MEMBER if atomic and below.is_map != below.is_list else _reconciled(node, below)
        if reconciled is not node:
            if changed is fields:
                changed = dict(fields)
            changed[element] = reconciled
    return changed


def _structure_below(structure: Structure, element: str) -> Structure | None:
    """The structure that a path element leads to; None where the schema does not know it."""
    if element.startswith("f:"):
        name = element[2:]
        known = structure.is_map and (name in structure.declared or structure.extra is not None)
        return structure.children[name] if known else None
    return structure.item if element.startswith("k:") else None
