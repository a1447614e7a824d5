"""One object in words: what it is, what is wanted, what was observed, and what happened."""

from collections.abc import Mapping, Sequence
from typing import Any

from mizzen.cli import output
from mizzen.sdk import tables

HIDDEN_METADATA = frozenset({"managedFields", "name", "namespace", "resourceVersion", "uid", "generation", "selfLink"})
CLIENT_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"


def describe(obj: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> None:
    """Prints the object."""
    metadata = obj["metadata"]
    print(f"{'Name:':<16}{metadata['name']}")
    if metadata.get("namespace"):
        print(f"{'Namespace:':<16}{metadata['namespace']}")
    print(f"{'Kind:':<16}{obj['kind']} ({obj['apiVersion']}), generation {metadata.get('generation', 0)}")
    for key, value in metadata.items():
        if key == "annotations":
            value = {name: text for name, text in value.items() if name != CLIENT_ANNOTATION}  # noqa: PLW2901
        if key not in HIDDEN_METADATA and value:
            _print(key, value, 0)
    for part in ("spec", "data", "status"):
        body = obj.get(part)
        if isinstance(body, Mapping):
            rest = {
                key: value for key, value in body.items() if key != "conditions" and value not in (None, [], {}, "")
            }
            if rest:
                _print(part, rest, 0)
    _conditions((obj.get("status") or {}).get("conditions") or ())
    if events:
        print("\nEvents:")
        output.table(("when", "type", "object", "reason", "message"), [event_row(event) for event in events])
    print()


def _conditions(conditions: Sequence[Mapping[str, Any]]) -> None:
    if not conditions:
        return
    print("\nConditions:")
    rows = [
        (c.get("type"), c.get("status"), c.get("reason", ""), c.get("lastTransitionTime", ""), c.get("message", ""))
        for c in conditions
    ]
    output.table(("type", "status", "reason", "since", "message"), rows)


def event_row(event: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """One event as a row: when, type, object, reason, message."""
    involved = event.get("involvedObject") or {}
    times = tables.how_often(dict(event))
    message = str(event.get("message", "")).strip()
    return (
        tables.when(dict(event))[:19].replace("T", " "),
        str(event.get("type", "")),
        f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}",
        str(event.get("reason", "")),
        message if times == 1 else f"{message} (x{times})",
    )


def _print(key: str, value: Any, depth: int) -> None:
    """A structure as indented lines; short lists and maps stay on one."""
    pad = "  " * depth
    title = key[:1].upper() + key[1:] if depth == 0 else key
    if isinstance(value, Mapping) and value:
        print(f"{pad}{title}:")
        for name, inner in value.items():
            if inner not in (None, [], {}):
                _print(str(name), inner, depth + 1)
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        print(f"{pad}{title}:")
        for item in value:
            words = "  ".join(f"{name}: {_short(inner)}" for name, inner in item.items() if inner not in (None, [], {}))
            print(f"{pad}  - {words}")
    else:
        width = max(len(title) + 2, 16 - len(pad))
        print(f"{pad}{f'{title}:':<{width}}{_short(value)}")


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_short(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return ", ".join(_short(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
