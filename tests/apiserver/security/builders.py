"""An in-memory `types.Reader`, objects to put in it, and the security parts put together over both."""

import datetime as dt
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mizzen.local.apiserver.schema.builtin import BUILTIN_TYPES
from mizzen.local.apiserver.security.authn import Authenticator
from mizzen.local.apiserver.security.jwt import KeyRing
from mizzen.local.apiserver.security.rbac import GROUP
from mizzen.local.apiserver.security.service_account_tokens import ServiceAccountTokens
from mizzen.local.apiserver.security.tokens import UserTokens
from mizzen.local.apiserver.types import AdmissionContext, Json, ResourceType, User

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ALICE = User("alice", ("developers", "system:authenticated"))
PLURALS = {
    "ClusterRole": (GROUP, "clusterroles"),
    "ClusterRoleBinding": (GROUP, "clusterrolebindings"),
    "Role": (GROUP, "roles"),
    "RoleBinding": (GROUP, "rolebindings"),
    "Namespace": ("", "namespaces"),
    "Node": ("", "nodes"),
    "Pod": ("", "pods"),
    "Secret": ("", "secrets"),
    "ServiceAccount": ("", "serviceaccounts"),
}


class Objects:
    """A store of few words."""

    def __init__(self, *things: Json) -> None:
        self._things: dict[tuple[str, str, str, str], Json] = {}
        self._changes: dict[tuple[str, str], int] = {}
        self._uids = itertools.count(1)
        for thing in things:
            self.put(thing)

    def put(self, thing: Json) -> Json:
        metadata = {"uid": f"u-{next(self._uids)}", **thing["metadata"]}
        key = self._key(thing["kind"], metadata.get("namespace", ""), metadata["name"])
        self._things[key] = {**thing, "metadata": metadata}
        self._changes[key[:2]] = self.changes(*key[:2]) + 1
        return self._things[key]

    def drop(self, kind: str, namespace: str, name: str) -> None:
        key = self._key(kind, namespace, name)
        del self._things[key]
        self._changes[key[:2]] += 1

    def get(self, group: str, plural: str, namespace: str, name: str) -> Json | None:
        return self._things.get((group, plural, namespace, name))

    def list(self, group: str, plural: str) -> Iterable[Json]:
        return [thing for key, thing in self._things.items() if key[:2] == (group, plural)]

    def changes(self, group: str, plural: str) -> int:
        return self._changes.get((group, plural), 0)

    @staticmethod
    def _key(kind: str, namespace: str, name: str) -> tuple[str, str, str, str]:
        return (*PLURALS[kind], namespace, name)


def thing(kind: str, name: str, namespace: str = "", **content: Any) -> Json:
    metadata: Json = {"name": name, **content.pop("metadata", {})}
    return {"kind": kind, "metadata": metadata | ({"namespace": namespace} if namespace else {}), **content}


def rule(verbs: str = "", resources: str = "", groups: str = "", names: str = "", paths: str = "") -> Json:
    """Words separated by spaces; the core group is written `core`."""
    written: Json = {"verbs": verbs.split()}
    if paths:
        return {**written, "nonResourceURLs": paths.split()}
    written |= {"apiGroups": ["" if group == "core" else group for group in (groups or "core").split()]}
    written |= {"resources": resources.split()}
    return written | ({"resourceNames": names.split()} if names else {})


def role(name: str, *rules: Json, namespace: str = "", **content: Any) -> Json:
    return thing("Role" if namespace else "ClusterRole", name, namespace, rules=list(rules), **content)


def binding(name: str, role_name: str, *subjects: str, namespace: str = "", cluster_role: bool = True) -> Json:
    """Subjects are written `User:alice`, `Group:developers`, `ServiceAccount:ns/name`."""
    return thing(
        "RoleBinding" if namespace else "ClusterRoleBinding",
        name,
        namespace,
        roleRef={"apiGroup": GROUP, "kind": "ClusterRole" if cluster_role else "Role", "name": role_name},
        subjects=[_subject(subject) for subject in subjects],
    )


def _subject(text: str) -> Json:
    kind, _, name = text.partition(":")
    if kind == "ServiceAccount":
        namespace, _, name = name.rpartition("/")
        return {"kind": kind, "name": name} | ({"namespace": namespace} if namespace else {})
    return {"kind": kind, "name": name, "apiGroup": GROUP}


@dataclass
class Clock:
    now: dt.datetime = NOW

    def __call__(self) -> dt.datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += dt.timedelta(**duration)


@dataclass
class Security:
    """What the API server composes, over an in-memory store and a folder."""

    folder: Path
    objects: Objects = field(default_factory=Objects)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        ids = itertools.count(1)
        self.accounts = ServiceAccountTokens(KeyRing.open(self.folder), self.objects, lambda: f"jti-{next(ids)}")
        self.users = UserTokens(self.folder / "tokens.json", self.objects)
        self.authenticator = Authenticator(self.users, self.accounts, self.clock)

    def token(self, namespace: str = "apps", name: str = "runner", **spec: Any) -> str:
        answer = self.accounts.issue(namespace, name, {"spec": spec}, self.clock.now)
        token: str = answer["status"]["token"]
        return token


def rtype(kind: str) -> ResourceType:
    return next(found for found in BUILTIN_TYPES if found.kind == kind)


def admission(
    kind: str,
    operation: Any = "CREATE",
    *,
    objects: Objects,
    user: User = ALICE,
    namespace: str = "apps",
    name: str = "it",
    old: Json | None = None,
    subresource: str = "",
    warn: Callable[[str], None] = lambda _: None,
) -> AdmissionContext:
    return AdmissionContext(
        operation=operation,
        rtype=rtype(kind),
        subresource=subresource,
        namespace=namespace,
        name=name,
        user=user,
        old=old,
        dry_run=False,
        reader=objects,
        now=NOW,
        warn=warn,
    )
