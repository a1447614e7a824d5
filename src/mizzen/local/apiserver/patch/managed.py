"""Field ownership and server-side apply: `metadata.managedFields` kept as Kubernetes keeps it.

Every field of an object that somebody set has owners, called managers. There is one entry for each manager,
operation, subresource and, for updates, API version.

* `updated` follows a create, an update or a patch: what the new object changes belongs to its manager, and to nobody
  else any more; what it removes belongs to nobody. More than ten entries of updates are folded into
  `ancient-changes`.
* `apply` merges an applied configuration into the live object. A field that another manager owns with another value
  is a conflict, unless `force` takes it. A field that this manager applied before and no longer does is removed,
  unless somebody else owns it. An apply that changes nothing returns the live object itself, so that nothing is
  written.

The algebra is structured-merge-diff's, step for step, and so is what Kubernetes wraps around it: ownership is tracked
from creation or from the first apply, some metadata has no owner, and kubectl may move between client-side and
server-side apply. Versions of a type share one structure, since this server converts by name only.

A create must stay cheap, since every object is created once: it walks the new object once and writes FieldsV1
directly.
"""

from dataclasses import dataclass, replace
from typing import Any

from mizzen.local.apiserver.errors import BadRequest, InternalError
from mizzen.local.apiserver.patch import last_applied
from mizzen.local.apiserver.patch.applied import named_fields, problems
from mizzen.local.apiserver.patch.comparison import compare
from mizzen.local.apiserver.patch.conflicts import ApplyConflict
from mizzen.local.apiserver.patch.entries import Entry, Owner, Ownership, document
from mizzen.local.apiserver.patch.fields import (
    EMPTY,
    MEMBER,
    FieldsError,
    FieldSet,
    difference,
    intersection,
    union,
    with_named_fields,
    without,
)
from mizzen.local.apiserver.patch.merging import merge, remove
from mizzen.local.apiserver.patch.structure import Structure, StructureError, structure_of
from mizzen.local.apiserver.patch.values import same
from mizzen.local.apiserver.types import Json, ResourceType

_BEFORE_FIRST_APPLY = "before-first-apply"
_KUBECTL = "kubectl"
"""The manager of `kubectl apply --server-side`, for whom client-side apply's annotation is kept."""

_NOT_OWNED: FieldSet = {
    "f:apiVersion": MEMBER,
    "f:kind": MEMBER,
    "f:metadata": {
        ".": MEMBER,
        "f:name": MEMBER,
        "f:namespace": MEMBER,
        "f:creationTimestamp": MEMBER,
        "f:selfLink": MEMBER,
        "f:uid": MEMBER,
        "f:clusterName": MEMBER,
        "f:generation": MEMBER,
        "f:managedFields": MEMBER,
        "f:resourceVersion": MEMBER,
    },
}
"""What says which object this is, or is the server's own: no manager owns it."""


def updated(
    old: Json | None,
    new: Json,
    *,
    schema: Json,
    manager: str,
    operation: str = "Update",
    api_version: str,
    subresource: str = "",
    now: str,
    reset: FieldSet = EMPTY,
) -> Json:
    """`new` with the managedFields that follow from `manager` having made it of `old` (None: created).

    `now` is RFC 3339 in UTC and seconds, as `metav1.Time` is written. A client resets ownership by sending
    managedFields `[]` or `[{}]`; it is tracked again from the next apply.

    `reset` names fields that this endpoint does not take from a client (see `reset_by`): writing them makes nobody
    their owner.
    """
    structure = structure_of(schema)
    owner = Owner(manager or "unknown", operation, api_version, subresource)
    given = new.get("metadata", {}).get("managedFields")
    bare = _bare(new)
    try:
        if old is None and not given:
            owned = _owned(without(compare(structure, {}, bare).changed, reset))
            return _with(bare, [document(owner, Entry(owned, api_version, now))] if owned else [])
        ownership = _ownership_before(old, given, subresource)
        if old is not None and not ownership.entries:
            return bare
        _note_update(ownership, structure, _bare(old or {}), bare, owner, now, reset)
    except StructureError:
        return bare  # a list that cannot be taken apart: validation refuses the object, or it has no owners
    ownership.cap()
    return _with(bare, ownership.write())


def _ownership_before(old: Json | None, given: Any, subresource: str) -> Ownership:
    """The entries that a request starts from: the client's own where it sent some, else the live object's."""
    stored = (old or {}).get("metadata", {}).get("managedFields", [])
    if subresource or given == stored or given is None:
        return Ownership.read(stored)
    if given in ([], [{}]):
        return Ownership()
    try:
        return Ownership.read_from_client(given)
    except FieldsError:  # what a client got wrong does not cost the object its owners
        return Ownership.read(stored)


def _note_update(
    ownership: Ownership,
    structure: Structure,
    old: Json,
    new: Json,
    owner: Owner,
    now: str,
    reset: FieldSet = EMPTY,
) -> None:
    comparison = compare(structure, old, new)
    changed = without(comparison.changed, reset)
    ownership.reconcile(structure)
    ownership.take_away(union(changed, without(comparison.removed, reset)))
    mine = _owned(changed)
    if mine:
        before = ownership.entries.get(owner)
        fields = union(mine, before.fields) if before else mine
        ownership.entries[owner] = Entry(fields, owner.api_version, now)


def apply(
    live: Json | None,
    applied: Json,
    *,
    schema: Json,
    manager: str,
    force: bool,
    api_version: str,
    subresource: str = "",
    now: str,
    reset: FieldSet = EMPTY,
) -> Json:
    """The live object (None: there is none yet) with `applied` merged in.

    Fields of `reset` (see `updated`) are neither owned nor in conflict. Raises `Conflict` with a cause for each field.
    """
    structure = structure_of(schema)
    _check(applied, structure, api_version)
    owner = Owner.of_apply(manager, subresource)
    request = _Apply(structure, _bare(live or {}), applied, owner, api_version, reset)
    ownership = Ownership.read((live or {}).get("metadata", {}).get("managedFields"))
    try:
        if live is not None and not ownership.entries:
            before = Owner.of_update(_BEFORE_FIRST_APPLY, api_version, subresource)
            _note_update(ownership, structure, {}, request.live, before, now, reset)
        try:
            result = request.run(ownership, force=force)
        except ApplyConflict as conflict:
            result = _settle_with_client_side_apply(request, ownership, conflict)
    except StructureError as problem:
        raise InternalError(f"failed to create typed live object ({_story(live or {})}): {problem}") from problem
    if result is not request.live and owner in ownership.entries:
        ownership.entries[owner] = replace(ownership.entries[owner], time=now)
    if manager == _KUBECTL:
        result = last_applied.refreshed(result, applied)
    entries = ownership.write()
    if live is not None and result is request.live and entries == live.get("metadata", {}).get("managedFields", []):
        return live
    return _with(_bare(result), entries)


def _check(applied: Json, structure: Structure, api_version: str) -> None:
    metadata = applied.get("metadata") or {}
    if metadata.get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil")
    if applied.get("apiVersion") != api_version:
        raise BadRequest(
            "Incorrect version specified in apply patch. "
            f"Specified patch version: {applied.get('apiVersion')}, expected: {api_version}"
        )
    for problem in problems(structure, applied):
        raise InternalError(f"failed to create typed patch object ({_story(applied)}): {problem}")


def _story(thing: Json) -> str:
    metadata = thing.get("metadata") or {}
    name = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
    return f"{name}; {thing.get('apiVersion', '')}, Kind={thing.get('kind', '')}"


@dataclass(frozen=True, slots=True)
class _Apply:
    """One apply request. It may run twice: once to find its conflicts, once to force them."""

    structure: Structure
    live: Json
    applied: Json
    owner: Owner
    api_version: str
    reset: FieldSet

    def run(self, ownership: Ownership, *, force: bool) -> Json:
        """The new object (the live one itself where nothing changes); `ownership` is left alone by a conflict."""
        trial = Ownership(dict(ownership.entries), ownership.stored)
        trial.reconcile(self.structure)
        before = trial.entries.get(self.owner)
        named = without(named_fields(self.structure, self.applied), self.reset)
        trial.entries[self.owner] = Entry(named, self.api_version, before.time if before else "")
        merged = merge(self.structure, self.live, self.applied)
        if before is not None:
            merged = self._pruned(merged, before.fields, trial)
        comparison = compare(self.structure, self.live, merged)
        changed = without(comparison.changed, self.reset)
        contested = {
            owner: fields
            for owner, entry in trial.entries.items()
            if owner != self.owner and (fields := intersection(entry.fields, changed))
        }
        if contested and not force:
            raise ApplyConflict(contested)
        trial.take_away(union(changed, without(comparison.removed, self.reset)), but=self.owner)
        trial.put(self.owner, self._entry(before, difference(named, _NOT_OWNED)))
        ownership.entries = trial.entries
        return self.live if merged is self.live or same(self.live, merged) else merged

    def _entry(self, before: Entry | None, fields: FieldSet) -> Entry:
        """`before` itself where it says the same, so that it is written as it was."""
        if before is not None and before.fields == fields and before.api_version == self.api_version:
            return before
        return Entry(fields, self.api_version, before.time if before else "")

    def _pruned(self, merged: Json, last: FieldSet, ownership: Ownership) -> Json:
        """`merged` without what this manager applied before and nobody applies or owns any more."""
        owned = EMPTY
        for entry in ownership.entries.values():
            owned = union(owned, entry.fields)
        if not difference(last, owned):
            return merged
        last = self._named_too(last)
        there = self._fields_of(merged)
        kept = self._fields_of(remove(self.structure, merged, last))
        # Back comes what somebody owns; then what nobody ever owned and only went because its parent did.
        owned_again = remove(self.structure, merged, difference(there, union(kept, self._named_too(owned))))
        gone = difference(there, self._fields_of(owned_again))
        pruned: Json = remove(self.structure, merged, intersection(gone, last))
        return pruned

    def _named_too(self, fields: FieldSet) -> FieldSet:
        return with_named_fields(fields, self.structure)

    def _fields_of(self, merged: Json) -> FieldSet:
        return self._named_too(named_fields(self.structure, merged))


def _settle_with_client_side_apply(request: _Apply, ownership: Ownership, conflict: ApplyConflict) -> Json:
    """kubectl may take over, from itself, what client-side apply had set and nobody has changed since."""
    if request.owner.manager != _KUBECTL:
        raise conflict.to_error()
    allowed = last_applied.still_true(request.structure, request.live, request.api_version)
    remaining = conflict.without(allowed)
    if remaining is not None:
        raise remaining.to_error()
    return request.run(ownership, force=True)


def settled(old: Json, new: Json) -> Json:
    """`old` itself where `new` differs from it by times of managedFields only: a write of nothing is not written."""
    before, after = old.get("metadata", {}), new.get("metadata", {})
    old_entries, new_entries = before.get("managedFields", []), after.get("managedFields", [])
    if len(old_entries) != len(new_entries):
        return new
    if any({**one, "time": ""} != {**other, "time": ""} for one, other in zip(old_entries, new_entries, strict=True)):
        return new
    return old if same(_with(_bare(new), old_entries), old) else new


def reset_by(rtype: ResourceType, subresource: str) -> FieldSet:
    """What an endpoint of a type does not take from a client, for `reset`: the main one (empty) no status where status
    has an endpoint of its own, and that one nothing but status (and, of Kubernetes' own types, most metadata)."""
    if not subresource:
        return {"f:status": MEMBER} if "status" in rtype.subresources else EMPTY
    if subresource != "status":
        return EMPTY
    if not rtype.custom:
        return {"f:spec": MEMBER, "f:metadata": {"f:deletionTimestamp": MEMBER, "f:ownerReferences": MEMBER}}
    others = ("metadata", *(name for name in rtype.schema.get("properties", {}) if name != "status"))
    return {f"f:{name}": MEMBER for name in others}


def _owned(fields: FieldSet) -> FieldSet:
    return difference(fields, _NOT_OWNED)


def _bare(thing: Json) -> Json:
    """The object without its managedFields, which own nothing and are owned by nobody, and without the empty maps and
    lists that `metadata` does not keep."""
    metadata = thing.get("metadata")
    if not isinstance(metadata, dict):
        return thing
    kept = {name: value for name, value in metadata.items() if name != "managedFields" and value not in _NOTHING}
    return thing if len(kept) == len(metadata) else {**thing, "metadata": kept}


_NOTHING: tuple[Any, ...] = ({}, [], None)


def _with(bare: Json, entries: list[Json]) -> Json:
    return {**bare, "metadata": {**bare.get("metadata", {}), "managedFields": entries}} if entries else bare
