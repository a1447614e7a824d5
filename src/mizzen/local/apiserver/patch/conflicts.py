"""Fields that an apply would take from other managers, and the error that says so in Kubernetes' words."""

from mizzen.local.apiserver.errors import Cause, Conflict
from mizzen.local.apiserver.patch.entries import Owner
from mizzen.local.apiserver.patch.fields import FieldSet, difference, path_text, paths


class ApplyConflict(Exception):
    """The contested fields of each owner."""

    def __init__(self, fields: dict[Owner, FieldSet]) -> None:
        super().__init__(", ".join(map(str, fields)))
        self.fields = fields

    def without(self, allowed: FieldSet) -> "ApplyConflict | None":
        """What is left when `allowed` may be taken; None for nothing."""
        remaining = {owner: kept for owner, fields in self.fields.items() if (kept := difference(fields, allowed))}
        return ApplyConflict(remaining) if remaining else None

    def to_error(self) -> Conflict:
        found = [(owner, path_text(path)) for owner in sorted(self.fields) for path in paths(self.fields[owner])]
        causes = tuple(Cause("FieldManagerConflict", f"conflict with {owner}", path) for owner, path in found)
        if len(found) == 1:
            owner, path = found[0]
            return Conflict(f"Apply failed with 1 conflict: conflict with {owner}: {path}", causes=causes)
        lines: list[str] = []
        for owner in sorted(self.fields):
            lines.append(f"conflicts with {owner}:")
            lines.extend(f"- {path_text(path)}" for path in paths(self.fields[owner]))
        return Conflict(f"Apply failed with {len(found)} conflicts: " + "\n".join(lines), causes=causes)
