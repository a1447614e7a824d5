"""What a request asks for, read from its path and query as Kubernetes reads them.

/api/v1/namespaces/NS/pods/NAME/log       group "", resource pods, subresource log
/apis/GROUP/VERSION/RESOURCE              a cluster-scoped resource, or all namespaces of a namespaced one
/api/v1/namespaces/NAME[/status]          the Namespace itself
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from mizzen.local.apiserver.errors import BadRequest
from mizzen.local.apiserver.types import User

_OF_NAMESPACE = frozenset({"status", "finalize"})


class Query:
    """Query parameters; the first value counts."""

    __slots__ = ("_values",)

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[str]] = {}
        if text:
            for name, value in parse_qsl(text, keep_blank_values=True):
                self._values.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str, default: str = "") -> str:
        values = self._values.get(name)
        return values[0] if values else default

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def flag(self, name: str) -> bool:
        """A boolean as Kubernetes reads it: there and neither `0` nor `false` is true, even with no value."""
        return name in self._values and self.get(name).lower() not in {"0", "false"}

    def integer(self, name: str) -> int | None:
        value = self.get(name)
        if not value:
            return None
        try:
            return int(value)
        except ValueError as error:
            raise BadRequest(f'strconv.ParseInt: parsing "{value}": invalid syntax') from error


class Target(NamedTuple):
    """The resource a path names; all empty for a path that names none."""

    group: str
    version: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    extra: str = ""
    """What follows the subresource: nothing that is served here has any."""
    watched: bool = False
    """Whether the path is one of the old ones below `watch/`, which watch without saying so in the query."""


@dataclass(slots=True)
class Request:
    """One request, identified and with its body read."""

    method: str
    path: str
    query: Query
    query_text: str
    headers: dict[str, str]
    user: User
    verb: str
    target: Target | None
    body: bytes = b""
    warnings: list[str] = field(default_factory=list)
    scope: Any = None

    def warn(self, message: str) -> None:
        """Add a Warning header to the answer, once."""
        if message not in self.warnings:
            self.warnings.append(message)

    @property
    def user_agent(self) -> str:
        return self.headers.get("user-agent", "")


def parse_target(path: str) -> Target | None:
    """The resource that a path below /api or /apis names. `path` is not yet unquoted."""
    parts = path.removeprefix("/").rstrip("/").split("/")
    if parts[0] == "api" and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    watched = len(rest) > 1 and rest[0] == "watch"
    if watched:
        rest = rest[1:]
    if "%" in path:
        rest = [unquote(part) for part in rest]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in _OF_NAMESPACE:
            rest = rest[2:]
    resource, name = rest[0], rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    return Target(group, version, resource, namespace, name, subresource, "/".join(rest[3:]), watched)


_COLLECTION_VERBS = {"GET": "list", "HEAD": "list", "POST": "create", "DELETE": "deletecollection"}
_OBJECT_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def verb_of(method: str, target: Target | None, query: Query) -> str:
    """The verb that authorization rules name."""
    if target is None:
        return method.lower()
    if target.watched:
        return "watch" if method in {"GET", "HEAD"} else ""
    if target.name:
        return _OBJECT_VERBS.get(method, "")
    verb = _COLLECTION_VERBS.get(method, "")
    return "watch" if verb == "list" and query.flag("watch") else verb
