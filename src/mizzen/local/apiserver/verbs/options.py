"""What the query of a write asks for, checked as Kubernetes checks it."""

from dataclasses import dataclass

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.schema import causes

_VALIDATION = ("", "Ignore", "Strict", "Warn")


@dataclass(frozen=True, slots=True)
class WriteOptions:
    dry_run: bool
    field_manager: str
    """Who owns the fields that change; by default the first word of the client's user agent."""
    field_validation: str
    """`Strict`, `Warn` or `Ignore`."""
    force: bool = False


def write_options(request: Request, kind: str, *, apply: bool = False) -> WriteOptions:
    """`kind` is that of the options: `CreateOptions`, `UpdateOptions` or `PatchOptions`."""
    query = request.query
    found: list[Cause] = []
    manager = query.get("fieldManager")
    if apply and not manager:
        found.append(causes.required("fieldManager", "is required for apply patch"))
    if "force" in query and kind == "PatchOptions" and not apply:
        found.append(causes.forbidden("force", "may not be specified for non-apply patch"))
    if len(manager) > 128:
        found.append(causes.too_long("fieldManager", 128))
    found += [
        causes.invalid("fieldManager", manager, f"invalid character U+{ord(character):04X} (at position {position})")
        for position, character in enumerate(manager)
        if not character.isprintable()
    ]
    dry_run = dry_run_of(query.all("dryRun"), found)
    validation = query.get("fieldValidation")
    if validation not in _VALIDATION:
        found.append(causes.not_supported("fieldValidation", validation, _VALIDATION))
    if found:
        raise causes.invalid_error(kind, "meta.k8s.io", "", found)
    return WriteOptions(
        dry_run, manager or default_manager(request.user_agent), validation or "Warn", query.flag("force")
    )


def dry_run_of(values: list[str], found: list[Cause]) -> bool:
    if any(value != "All" for value in values):
        found.append(causes.not_supported("dryRun", values, ["All"]))
    return bool(values)


def default_manager(user_agent: str) -> str:
    product = user_agent.partition("/")[0]
    return "".join(character for character in product if character.isprintable())[:128] or "unknown"
