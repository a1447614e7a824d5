"""Nobody grants more than they have.

Whoever creates or changes a role must hold, in that namespace, every permission that it names, or be allowed the verb
`escalate` on it; whoever binds a role must hold all that the role names, or be allowed `bind` on it. Otherwise the
right to write roles would be the right to everything. Rules are taken apart into single permissions, of which each
must be covered by one rule that the user has; the refusal lists what is missing.
"""

from collections.abc import Iterator

from mizzen.local.apiserver.errors import NotFound
from mizzen.local.apiserver.security.rbac import ALL, GROUP, Authorizer, rules_of
from mizzen.local.apiserver.security.refusals import refusal
from mizzen.local.apiserver.security.tokens import MASTERS
from mizzen.local.apiserver.types import AdmissionContext, Attributes, Json, Reader, User

_ROLES = ("roles", "clusterroles")
_BINDINGS = ("rolebindings", "clusterrolebindings")
_EVERYTHING: list[Json] = [
    {"verbs": [ALL], "apiGroups": [ALL], "resources": [ALL]},
    {"verbs": [ALL], "nonResourceURLs": [ALL]},
]


class NoEscalation:
    """An admission plugin: roles and bindings only give what their author has."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def __call__(self, context: AdmissionContext, thing: Json) -> Json:
        if context.rtype.group != GROUP or context.operation not in {"CREATE", "UPDATE"} or context.subresource:
            return thing
        if MASTERS in context.user.groups or _only_collected(context.old, thing):
            return thing
        if context.rtype.plural in _ROLES:
            self._check_role(context, thing)
        elif context.rtype.plural in _BINDINGS:
            self._check_binding(context, thing)
        return thing

    def _check_role(self, context: AdmissionContext, role: Json) -> None:
        name = context.name if context.operation == "UPDATE" else ""
        if self._may(context.user, "escalate", context.rtype.plural, context.namespace, name):
            return
        self._check_held(context, role.get("rules") or [])
        if _aggregates(role) or _aggregates(context.old or {}):
            missing = self._missing(context.user, context.namespace, _EVERYTHING)
            if missing:
                raise refusal(context, "must have cluster-admin privileges to use the aggregationRule")

    def _check_binding(self, context: AdmissionContext, binding: Json) -> None:
        ref = binding.get("roleRef") or {}
        plural = "clusterroles" if ref.get("kind") == "ClusterRole" else "roles"
        if self._may(context.user, "bind", plural, context.namespace, ref.get("name", "")):
            return
        self._check_held(context, _referred_rules(context.reader, plural, context.namespace, ref.get("name", "")))

    def _may(self, user: User, verb: str, plural: str, namespace: str, name: str) -> bool:
        attributes = Attributes(verb, GROUP, "*", plural, namespace=namespace, name=name)
        return self._authorizer.authorize(user, attributes).allowed

    def _check_held(self, context: AdmissionContext, rules: list[Json]) -> None:
        missing = self._missing(context.user, context.namespace, rules)
        if missing:
            groups = " ".join(f'"{group}"' for group in context.user.groups)
            lines = "\n".join(sorted({_text(rule) for rule in _compacted(missing)}))
            raise refusal(
                context,
                f'user "{context.user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions '
                f"not currently held:\n{lines}",
            )

    def _missing(self, user: User, namespace: str, rules: list[Json]) -> list[Json]:
        held = [rule.source for rule in self._authorizer.rules_for(user, namespace)]
        return [
            single for rule in rules for single in permissions(rule) if not any(covers(own, single) for own in held)
        ]


def _only_collected(old: Json | None, new: Json) -> bool:
    """Whether an update changes nothing but what the garbage collector may have to."""
    if old is None:
        return False
    ignored = {"ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation"}
    kept_old, kept_new = (
        {**thing, "metadata": {name: value for name, value in thing["metadata"].items() if name not in ignored}}
        for thing in (old, new)
    )
    collected_changed = any(
        old["metadata"].get(name) != new["metadata"].get(name) for name in ("ownerReferences", "finalizers")
    )
    return collected_changed and kept_old == kept_new


def _aggregates(role: Json) -> bool:
    return bool((role.get("aggregationRule") or {}).get("clusterRoleSelectors"))


def _referred_rules(reader: Reader, plural: str, namespace: str, name: str) -> list[Json]:
    role = reader.get(GROUP, plural, namespace if plural == "roles" else "", name)
    if role is None:
        raise NotFound(f'{plural}.{GROUP} "{name}" not found', name=name, group=GROUP, kind=plural)
    return rules_of(role, list(reader.list(GROUP, "clusterroles")))


# Rules as sets of single permissions


def permissions(rule: Json) -> Iterator[Json]:
    """The rule taken apart: one verb on one resource (of one name, where it has names) or on one path."""
    names = rule.get("resourceNames") or []
    for verb in rule.get("verbs") or []:
        for group in rule.get("apiGroups") or []:
            for resource in rule.get("resources") or []:
                single = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                yield from ({**single, "resourceNames": [name]} for name in names) if names else [single]
        yield from ({"nonResourceURLs": [path], "verbs": [verb]} for path in rule.get("nonResourceURLs") or [])


def covers(held: Json, single: Json) -> bool:
    """Whether one rule gives a single permission."""
    if not _has(held.get("verbs"), single["verbs"][0]):
        return False
    if "nonResourceURLs" in single:
        path = single["nonResourceURLs"][0]
        return any(
            own in {ALL, path} or (own.endswith("*") and path.startswith(own.rstrip("*")))
            for own in held.get("nonResourceURLs") or []
        )
    if not _has(held.get("apiGroups"), single["apiGroups"][0]):
        return False
    resource: str = single["resources"][0]
    of_any = f"*/{resource.partition('/')[2]}" if "/" in resource else ""
    if not _has(held.get("resources"), resource) and of_any not in (held.get("resources") or []):
        return False
    names = held.get("resourceNames") or []
    return not names or single.get("resourceNames", [None])[0] in names


def _has(held: list[str] | None, wanted: str) -> bool:
    return held is not None and (ALL in held or wanted in held)


def _compacted(singles: list[Json]) -> list[Json]:
    """Permissions on one resource as one rule, for people to read."""
    by_resource: dict[tuple[str, str, str], Json] = {}
    others: list[Json] = []
    for single in singles:
        if "nonResourceURLs" in single:
            others.append(single)
            continue
        key = single["apiGroups"][0], single["resources"][0], single.get("resourceNames", [""])[0]
        rule = by_resource.setdefault(key, {**single, "verbs": []})
        rule["verbs"].extend(single["verbs"])
    return [*by_resource.values(), *others]


_PARTS = {
    "APIGroups": "apiGroups",
    "Resources": "resources",
    "NonResourceURLs": "nonResourceURLs",
    "ResourceNames": "resourceNames",
    "Verbs": "verbs",
}


def _text(rule: Json) -> str:
    parts = (
        f"{word}:[" + " ".join(f'"{value}"' for value in rule[field]) + "]"
        for word, field in _PARTS.items()
        if rule.get(field)
    )
    return "{" + ", ".join(parts) + "}"
