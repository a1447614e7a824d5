"""Role-based access control: whether a user may do what they ask.

A rule allows verbs on resources or on URL paths; Roles and ClusterRoles hold rules; bindings give them to users,
groups and service accounts, in one namespace or everywhere. Nothing is denied by a rule: what none allows is
forbidden.

The whole of it is compiled when one of the four resources has changed, and the rules of a user when they first ask
after that. Decisions are remembered until the next change, since most requests repeat. The group `system:masters` may
do everything, whatever is stored, so that nobody can lock the administrator out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mizzen.local.apiserver.security.refusals import forbidden
from mizzen.local.apiserver.security.tokens import MASTERS
from mizzen.local.apiserver.types import Attributes, Json, Reader, User

GROUP = "rbac.authorization.k8s.io"
ALL = "*"
_PLURALS = ("clusterroles", "clusterrolebindings", "roles", "rolebindings")
_DECISIONS_MAX = 8192
_USERS_MAX = 512


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether, and by which binding."""

    allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A PolicyRule, ready to be asked."""

    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    paths: tuple[str, ...] = ()
    source: Json = field(default_factory=dict, compare=False, repr=False)
    """The rule as it was written."""

    @classmethod
    def of(cls, rule: Json) -> "Rule":
        return cls(
            frozenset(rule.get("verbs") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("resources") or ()),
            frozenset(rule.get("resourceNames") or ()),
            tuple(rule.get("nonResourceURLs") or ()),
            rule,
        )

    def allows(self, attributes: Attributes) -> bool:
        if attributes.verb not in self.verbs and ALL not in self.verbs:
            return False
        if attributes.path:
            return any(_path_matches(pattern, attributes.path) for pattern in self.paths)
        if attributes.group not in self.groups and ALL not in self.groups:
            return False
        if self.names and attributes.name not in self.names:
            return False
        return self._resource_matches(attributes.resource, attributes.subresource)

    def _resource_matches(self, resource: str, subresource: str) -> bool:
        if ALL in self.resources:
            return True
        if not subresource:
            return resource in self.resources
        return f"{resource}/{subresource}" in self.resources or f"*/{subresource}" in self.resources


def _path_matches(pattern: str, path: str) -> bool:
    return pattern in {ALL, path} or (pattern.endswith("*") and path.startswith(pattern.rstrip("*")))


@dataclass(frozen=True, slots=True)
class _Grant:
    """The rules that one binding gives to one kind of subject, with the words that say so."""

    namespace: str
    """Empty: everywhere."""
    rules: tuple[Rule, ...]
    reason: str


@dataclass(slots=True)
class _Policy:
    """All that is stored, by whom it is given to."""

    users: dict[str, list[_Grant]] = field(default_factory=dict)
    groups: dict[str, list[_Grant]] = field(default_factory=dict)

    def grants_of(self, user: User) -> Iterator[_Grant]:
        yield from self.users.get(user.name, ())
        for group in dict.fromkeys(user.groups):
            yield from self.groups.get(group, ())


@dataclass(frozen=True, slots=True)
class AuthorizerStatistics:
    compiled: int
    decisions: int
    users: int


class Authorizer:
    """Decides by what the reader holds now."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._changes: tuple[int, ...] | None = None
        self._policy = _Policy()
        self._grants: dict[tuple[str, tuple[str, ...]], tuple[_Grant, ...]] = {}
        self._decisions: dict[tuple[str, tuple[str, ...], Attributes], Decision] = {}
        self._compiled = 0

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        if MASTERS in user.groups:
            return _MASTERS_MAY
        self._refresh()
        key = user.name, user.groups, attributes
        decision = self._decisions.get(key)
        if decision is None:
            decision = self._decide(user, attributes)
            if len(self._decisions) >= _DECISIONS_MAX:
                self._decisions.clear()
            self._decisions[key] = decision
        return decision

    def require(self, user: User, attributes: Attributes) -> None:
        """Raises `Forbidden` in Kubernetes' words unless the user may."""
        decision = self.authorize(user, attributes)
        if not decision.allowed:
            raise forbidden(user, attributes, decision.reason)

    def rules_for(self, user: User, namespace: str) -> list[Rule]:
        """All rules the user has in a namespace (empty: those that hold everywhere)."""
        self._refresh()
        rules = [_EVERYTHING, _EVERY_PATH] if MASTERS in user.groups else []
        for grant in self._grants_of(user):
            if grant.namespace in {"", namespace}:
                rules.extend(grant.rules)
        return rules

    def _decide(self, user: User, attributes: Attributes) -> Decision:
        for grant in self._grants_of(user):
            if (not grant.namespace or grant.namespace == attributes.namespace) and any(
                rule.allows(attributes) for rule in grant.rules
            ):
                return Decision(allowed=True, reason=grant.reason)
        return _NOBODY_SAYS_SO

    def _grants_of(self, user: User) -> tuple[_Grant, ...]:
        key = user.name, user.groups
        grants = self._grants.get(key)
        if grants is None:
            if len(self._grants) >= _USERS_MAX:
                self._grants.clear()
            # What holds everywhere is asked first, as Kubernetes does; it is also what most users have.
            grants = tuple(sorted(self._policy.grants_of(user), key=lambda grant: grant.namespace != ""))
            self._grants[key] = grants
        return grants

    def _refresh(self) -> None:
        changes = tuple(self._reader.changes(GROUP, plural) for plural in _PLURALS)
        if changes != self._changes:
            self._policy = _compile(self._reader)
            self._grants.clear()
            self._decisions.clear()
            self._changes = changes
            self._compiled += 1

    def statistics(self) -> AuthorizerStatistics:
        return AuthorizerStatistics(self._compiled, len(self._decisions), len(self._grants))

    def __repr__(self) -> str:
        return f"Authorizer({self.statistics()})"


_MASTERS_MAY = Decision(allowed=True, reason="")
_NOBODY_SAYS_SO = Decision(allowed=False, reason="")
_EVERYTHING = Rule.of({"verbs": [ALL], "apiGroups": [ALL], "resources": [ALL]})
_EVERY_PATH = Rule.of({"verbs": [ALL], "nonResourceURLs": [ALL]})


def _compile(reader: Reader) -> _Policy:
    cluster_roles = {role["metadata"]["name"]: role for role in reader.list(GROUP, "clusterroles")}
    compiled = {
        name: tuple(map(Rule.of, rules_of(role, cluster_roles.values()))) for name, role in cluster_roles.items()
    }
    roles = {
        (role["metadata"]["namespace"], role["metadata"]["name"]): tuple(map(Rule.of, role.get("rules") or ()))
        for role in reader.list(GROUP, "roles")
    }
    policy = _Policy()
    for binding in reader.list(GROUP, "clusterrolebindings"):
        _add(policy, binding, "", compiled.get(binding["roleRef"]["name"]))
    for binding in reader.list(GROUP, "rolebindings"):
        namespace, ref = binding["metadata"]["namespace"], binding["roleRef"]
        rules = compiled.get(ref["name"]) if ref["kind"] == "ClusterRole" else roles.get((namespace, ref["name"]))
        _add(policy, binding, namespace, rules)
    return policy


def _add(policy: _Policy, binding: Json, namespace: str, rules: tuple[Rule, ...] | None) -> None:
    """A binding to a role that is not there gives nothing."""
    for subject in (binding.get("subjects") or ()) if rules else ():
        kind, name = subject.get("kind"), subject.get("name", "")
        grant = _Grant(namespace, rules or (), _reason(binding, subject, namespace))
        if kind == "User":
            policy.users.setdefault(name, []).append(grant)
        elif kind == "Group":
            policy.groups.setdefault(name, []).append(grant)
        elif kind == "ServiceAccount" and (home := subject.get("namespace") or namespace):
            policy.users.setdefault(f"system:serviceaccount:{home}:{name}", []).append(grant)


def _reason(binding: Json, subject: Json, namespace: str) -> str:
    name = binding["metadata"]["name"]
    who = subject.get("name", "")
    if subject.get("kind") == "ServiceAccount":
        who = f"{who}/{subject.get('namespace') or namespace}"
    bound = f'RoleBinding "{name}/{namespace}"' if namespace else f'ClusterRoleBinding "{name}"'
    ref = binding["roleRef"]
    return f'RBAC: allowed by {bound} of {ref["kind"]} "{ref["name"]}" to {subject.get("kind")} "{who}"'


# Aggregation


def rules_of(role: Json, cluster_roles: Iterable[Json], seen: frozenset[str] = frozenset()) -> list[Json]:
    """A ClusterRole's rules; those of an aggregated one are the rules of all roles that it selects."""
    selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors")
    if not selectors:
        return list(role.get("rules") or ())
    name = role["metadata"]["name"]
    seen |= {name}
    rules: list[Json] = []
    for other in sorted(cluster_roles, key=lambda other: str(other["metadata"]["name"])):
        labels = other["metadata"].get("labels") or {}
        if other["metadata"]["name"] not in seen and any(selects(selector, labels) for selector in selectors):
            rules.extend(rule for rule in rules_of(other, cluster_roles, seen) if rule not in rules)
    return rules


def stale_aggregates(reader: Reader) -> list[Json]:
    """ClusterRoles whose stored rules are not what they aggregate, as they should be stored: for whoever keeps them, so
    that users see what they are given. Decisions do not wait for it."""
    roles = list(reader.list(GROUP, "clusterroles"))
    wanted = [
        {**role, "rules": rules_of(role, roles)}
        for role in roles
        if (role.get("aggregationRule") or {}).get("clusterRoleSelectors")
    ]
    stored = {role["metadata"]["name"]: role.get("rules") or [] for role in roles}
    return [role for role in wanted if role["rules"] != stored[role["metadata"]["name"]]]


def selects(selector: Json, labels: dict[str, str]) -> bool:
    """Whether a `metav1.LabelSelector` selects these labels."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_meets(requirement, labels) for requirement in selector.get("matchExpressions") or ())


def _meets(requirement: Json, labels: dict[str, str]) -> bool:
    key, values = requirement["key"], requirement.get("values") or ()
    match requirement["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            return False
