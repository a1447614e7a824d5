"""The roles and bindings that every cluster starts with, as objects.

They are Kubernetes' own for what this server serves, with the same names, labels and annotations, so that
documentation, charts and `kubectl auth can-i` mean the same here: `cluster-admin`, `admin`, `edit`, `view`
(aggregated by label), and the `system:` roles that users, nodes and the scheduler have. Each is created where it is
not there; an existing one (which carries `rbac.authorization.kubernetes.io/autoupdate: "true"`) gets back rules that
it has lost.
"""

from collections.abc import Iterator

from mizzen.local.apiserver.security.rbac import GROUP
from mizzen.local.apiserver.types import Json

_READ = ("get", "list", "watch")
_WRITE = ("create", "update", "patch", "delete", "deletecollection")
_AUTHENTICATED = "system:authenticated"
_UNAUTHENTICATED = "system:unauthenticated"
_SERVICE_ACCOUNTS = "system:serviceaccounts"
_AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"


def _rule(verbs: tuple[str, ...], groups: tuple[str, ...], *resources: str, names: tuple[str, ...] = ()) -> Json:
    rule: Json = {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}
    return rule | ({"resourceNames": list(names)} if names else {})


def _get(*paths: str) -> Json:
    return {"nonResourceURLs": list(paths), "verbs": ["get"]}


_CORE = ("",)
_APPS = ("apps",)
_BATCH = ("batch",)
_EVENTS = ("", "events.k8s.io")
_LEASES = ("coordination.k8s.io",)

_VIEW = (
    _rule(_READ, _CORE, "pods", "serviceaccounts", "services", "services/status", "endpoints", "configmaps"),
    _rule(_READ, _CORE, "bindings", "pods/status", "namespaces/status", "pods/log"),
    _rule(_READ, _CORE, "namespaces"),
    _rule(_READ, _EVENTS, "events"),
    _rule(_READ, ("discovery.k8s.io",), "endpointslices"),
    _rule(_READ, _APPS, "deployments", "deployments/status", "deployments/scale"),
    _rule(_READ, _APPS, "replicasets", "replicasets/status", "replicasets/scale"),
    _rule(_READ, _BATCH, "jobs", "jobs/status"),
)
_EDIT = (
    _rule(_READ, _CORE, "pods/attach", "pods/proxy", "pods/exec", "pods/portforward", "secrets", "services/proxy"),
    _rule(("impersonate",), _CORE, "serviceaccounts"),
    _rule(_WRITE, _CORE, "pods", "pods/attach", "pods/proxy", "pods/exec", "pods/portforward"),
    _rule(("create",), _CORE, "pods/eviction"),
    _rule(_WRITE, _CORE, "serviceaccounts", "services", "services/proxy", "configmaps", "secrets"),
    _rule(("create",), _CORE, "serviceaccounts/token"),
    _rule(_WRITE, _EVENTS, "events"),
    _rule(
        _WRITE, _APPS, "deployments", "deployments/scale", "deployments/rollback", "replicasets", "replicasets/scale"
    ),
    _rule(_WRITE, _BATCH, "jobs"),
    _rule((*_READ, *_WRITE), _LEASES, "leases"),
)
_ADMIN = (
    _rule(("create",), ("authorization.k8s.io",), "localsubjectaccessreviews"),
    _rule((*_READ, *_WRITE), (GROUP,), "roles", "rolebindings"),
)
_DELEGATED_REVIEWS = (
    _rule(("create",), ("authentication.k8s.io",), "tokenreviews"),
    _rule(("create",), ("authorization.k8s.io",), "subjectaccessreviews"),
)
_NODE = (
    _rule(("create",), ("authentication.k8s.io",), "tokenreviews"),
    _rule(("create",), ("authorization.k8s.io",), "subjectaccessreviews", "localsubjectaccessreviews"),
    _rule(_READ, _CORE, "services"),
    _rule(("create", *_READ), _CORE, "nodes"),
    _rule(("update", "patch"), _CORE, "nodes/status"),
    _rule(("update", "patch"), _CORE, "nodes"),
    _rule(("create", "update", "patch"), _EVENTS, "events"),
    _rule(_READ, _CORE, "pods"),
    _rule(("create", "delete"), _CORE, "pods"),
    _rule(("update", "patch"), _CORE, "pods/status"),
    _rule(("create",), _CORE, "pods/eviction"),
    _rule(_READ, _CORE, "secrets", "configmaps"),
    _rule(("get", "create", "update", "patch", "delete"), _LEASES, "leases"),
    _rule(("create",), _CORE, "serviceaccounts/token"),
    _rule(("get",), _CORE, "serviceaccounts"),
)
_SCHEDULER = (
    _rule(("create", "patch", "update"), _EVENTS, "events"),
    _rule(("create",), _LEASES, "leases"),
    _rule(("get", "update", "list", "watch"), _LEASES, "leases", names=("kube-scheduler",)),
    _rule(_READ, _CORE, "nodes"),
    _rule((*_READ, "delete"), _CORE, "pods"),
    _rule(("create",), _CORE, "pods/binding", "bindings"),
    _rule(("patch", "update"), _CORE, "pods/status"),
    _rule(_READ, _CORE, "services", "namespaces"),
    _rule(_READ, _APPS, "replicasets"),
    *_DELEGATED_REVIEWS,
)
_CONTROLLER_MANAGER = (
    _rule(("create", "patch", "update"), _EVENTS, "events"),
    _rule(("create",), _LEASES, "leases"),
    _rule(("get", "update"), _LEASES, "leases", names=("kube-controller-manager",)),
    _rule(("create",), _CORE, "secrets", "serviceaccounts"),
    _rule(("delete",), _CORE, "secrets"),
    _rule(("get",), _CORE, "namespaces", "secrets", "serviceaccounts", "configmaps"),
    _rule(("update",), _CORE, "secrets", "serviceaccounts"),
    *_DELEGATED_REVIEWS,
    _rule(("list", "watch"), ("*",), "*"),
    _rule(("create",), _CORE, "serviceaccounts/token"),
)
_HEALTH = ("/livez", "/readyz", "/healthz")

_CLUSTER_ROLES: dict[str, tuple[Json, ...]] = {
    "cluster-admin": (_rule(("*",), ("*",), "*"), {"nonResourceURLs": ["*"], "verbs": ["*"]}),
    "system:discovery": (
        _get(*_HEALTH, "/version", "/version/", "/openapi", "/openapi/*", "/api", "/api/*", "/apis", "/apis/*"),
    ),
    "system:monitoring": (
        _get("/metrics", "/metrics/slis", *_HEALTH, *(f"{path}/*" for path in _HEALTH)),
        _rule(("get",), _CORE, "nodes/metrics"),
    ),
    "system:basic-user": (
        _rule(("create",), ("authorization.k8s.io",), "selfsubjectaccessreviews", "selfsubjectrulesreviews"),
        _rule(("create",), ("authentication.k8s.io",), "selfsubjectreviews"),
    ),
    "system:public-info-viewer": (_get(*_HEALTH, "/version", "/version/"),),
    "system:aggregate-to-admin": _ADMIN,
    "system:aggregate-to-edit": _EDIT,
    "system:aggregate-to-view": _VIEW,
    "system:node": _NODE,
    "system:auth-delegator": _DELEGATED_REVIEWS,
    "system:kube-scheduler": _SCHEDULER,
    "system:kube-controller-manager": _CONTROLLER_MANAGER,
    "system:service-account-issuer-discovery": (
        _get(
            "/.well-known/openid-configuration",
            "/.well-known/openid-configuration/",
            "/openid/v1/jwks",
            "/openid/v1/jwks/",
        ),
    ),
}
_AGGREGATES = {"admin": "aggregate-to-admin", "edit": "aggregate-to-edit", "view": "aggregate-to-view"}
_AGGREGATED_INTO = {
    "system:aggregate-to-admin": "aggregate-to-admin",
    "system:aggregate-to-edit": "aggregate-to-edit",
    "system:aggregate-to-view": "aggregate-to-view",
    "edit": "aggregate-to-admin",
    "view": "aggregate-to-edit",
}
_BINDINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "cluster-admin": (("Group", "system:masters"),),
    "system:monitoring": (("Group", "system:monitoring"),),
    "system:discovery": (("Group", _AUTHENTICATED),),
    "system:basic-user": (("Group", _AUTHENTICATED),),
    "system:public-info-viewer": (("Group", _AUTHENTICATED), ("Group", _UNAUTHENTICATED)),
    "system:node": (("Group", "system:nodes"),),  # there is no node authorizer here that would know a node's own Pods
    "system:kube-scheduler": (("User", "system:kube-scheduler"),),
    "system:kube-controller-manager": (("User", "system:kube-controller-manager"),),
    "system:service-account-issuer-discovery": (("Group", _SERVICE_ACCOUNTS),),
}


def _metadata(name: str) -> Json:
    labels = {"kubernetes.io/bootstrapping": "rbac-defaults"}
    if name in _AGGREGATED_INTO:
        labels[f"rbac.authorization.k8s.io/{_AGGREGATED_INTO[name]}"] = "true"
    return {"name": name, "labels": labels, "annotations": {_AUTOUPDATE: "true"}}


def objects() -> Iterator[Json]:
    """All default ClusterRoles, then their bindings."""
    for name, rules in _CLUSTER_ROLES.items():
        yield _object("ClusterRole", name, {"rules": list(rules)})
    for name, label in _AGGREGATES.items():
        selector = {"matchLabels": {f"rbac.authorization.k8s.io/{label}": "true"}}
        yield _object("ClusterRole", name, {"aggregationRule": {"clusterRoleSelectors": [selector]}, "rules": []})
    for name, subjects in _BINDINGS.items():
        yield _object(
            "ClusterRoleBinding",
            name,
            {
                "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
                "subjects": [{"apiGroup": GROUP, "kind": kind, "name": subject} for kind, subject in subjects],
            },
        )


def _object(kind: str, name: str, content: Json) -> Json:
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": _metadata(name)} | content


def reconciled(stored: Json | None, default: Json) -> Json | None:
    """What to store for a default at start: it itself where it is missing, the stored one with what it lost of its
    rules or subjects, or None where nothing is to be done (also where a user has switched autoupdate off).
    """
    if stored is None:
        return default
    if (stored["metadata"].get("annotations") or {}).get(_AUTOUPDATE) == "false" or "aggregationRule" in default:
        return None
    part = "rules" if default["kind"] == "ClusterRole" else "subjects"
    missing = [entry for entry in default[part] if entry not in (stored.get(part) or [])]
    return {**stored, part: [*(stored.get(part) or []), *missing]} if missing else None
