"""What is added to objects, and refused, after a user may write them and before they are stored.

`plugins` gives the admission plugins in the order in which they run, each a function `(context, object) -> object` that
raises to refuse. Objects are not changed in place. They are Kubernetes' own of the same names, as far as they concern
what this server serves.
"""

from collections.abc import Callable

from mizzen.local.apiserver.errors import Cause, NotFound
from mizzen.local.apiserver.security.escalation import NoEscalation
from mizzen.local.apiserver.security.rbac import Authorizer
from mizzen.local.apiserver.security.refusals import refusal
from mizzen.local.apiserver.types import AdmissionContext, Json

Plugin = Callable[[AdmissionContext, Json], Json]

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
TOKEN_EXPIRATION_S = 3607
"""Kubernetes' own number: an hour, told apart from an hour that somebody asked for."""

_VOLUME_PREFIX = "kube-api-access-"
_DEFAULT_ACCOUNT = "default"
_IMMORTAL = ("default", "kube-system", "kube-public")
_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_TOLERATION_S = 300


def plugins(authorizer: Authorizer, *, name_suffix: Callable[[], str]) -> tuple[Plugin, ...]:
    """All plugins, in order. `name_suffix` gives the five characters that end a generated name."""
    return (
        namespace_lifecycle,  # nothing is created in a namespace that is not there or is ending
        ServiceAccount(name_suffix),  # a Pod runs as an account that exists, and finds its token
        default_tolerations,  # a Pod stays five minutes on a node that is lost
        NoEscalation(authorizer),  # nobody grants more than they have
    )


def namespace_lifecycle(context: AdmissionContext, thing: Json) -> Json:
    """Nothing is written in a namespace that is not there; nothing is created in one that is ending; the
    namespaces that the cluster needs are not deleted.
    """
    rtype = context.rtype
    if rtype.key == ("", "namespaces"):
        if context.operation == "DELETE" and context.name in _IMMORTAL:
            raise refusal(context, "this namespace may not be deleted")
        return thing
    leaks_names = rtype.key == ("authorization.k8s.io", "localsubjectaccessreviews")
    if not context.namespace or context.operation == "DELETE" or leaks_names:
        return thing
    namespace = context.reader.get("", "namespaces", "", context.namespace)
    if namespace is None:
        name = context.namespace
        raise NotFound(f'namespaces "{name}" not found', name=name, kind="namespaces")
    if context.operation == "CREATE" and _is_ending(namespace):
        raise refusal(
            context,
            f"unable to create new content in namespace {context.namespace} because it is being terminated",
            Cause("NamespaceTerminating", f"namespace {context.namespace} is being terminated", "metadata.namespace"),
        )
    return thing


def _is_ending(namespace: Json) -> bool:
    phase = (namespace.get("status") or {}).get("phase")
    return phase == "Terminating" or bool(namespace["metadata"].get("deletionTimestamp"))


class ServiceAccount:
    """A Pod runs as a service account, `default` unless it names another, which must exist; and unless automounting is
    off, each of its containers finds the account's token, the cluster's CA and its namespace at `TOKEN_PATH`."""

    def __init__(self, name_suffix: Callable[[], str]) -> None:
        self._name_suffix = name_suffix

    def __call__(self, context: AdmissionContext, pod: Json) -> Json:
        if context.rtype.key != ("", "pods") or context.subresource or context.operation != "CREATE":
            return pod
        spec: Json = pod.get("spec") or {}
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or _DEFAULT_ACCOUNT
        account = context.reader.get("", "serviceaccounts", context.namespace, name)
        if account is None:
            raise refusal(
                context,
                f'error looking up service account {context.namespace}/{name}: serviceaccount "{name}" not found',
            )
        spec = {**spec, "serviceAccountName": name, "serviceAccount": name}
        if _automounts(spec, account):
            spec = self._with_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [{"name": secret["name"]} for secret in account["imagePullSecrets"]]
        return {**pod, "spec": spec}

    def _with_token(self, spec: Json) -> Json:
        volumes: list[Json] = spec.get("volumes") or []
        existing = next((volume["name"] for volume in volumes if volume["name"].startswith(_VOLUME_PREFIX)), None)
        name = existing or _VOLUME_PREFIX + self._name_suffix()
        mount = {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}
        mounted = {
            part: [_with_mount(container, mount) for container in spec[part]]
            for part in ("initContainers", "containers")
            if spec.get(part)
        }
        if existing is None and any(mount in (c.get("volumeMounts") or ()) for part in mounted.values() for c in part):
            mounted["volumes"] = [*volumes, {"name": name, "projected": _token_volume()}]
        return {**spec, **mounted}


def _automounts(spec: Json, account: Json) -> bool:
    """The Pod's wish, else the account's, else yes."""
    wishes = (spec.get("automountServiceAccountToken"), account.get("automountServiceAccountToken"))
    return next((wish for wish in wishes if wish is not None), True)


def _with_mount(container: Json, mount: Json) -> Json:
    mounts: list[Json] = container.get("volumeMounts") or []
    if any(other.get("mountPath") == TOKEN_PATH for other in mounts):
        return container
    return {**container, "volumeMounts": [*mounts, mount]}


def _token_volume() -> Json:
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_EXPIRATION_S}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
        ],
    }


def default_tolerations(context: AdmissionContext, pod: Json) -> Json:
    """A Pod tolerates a node that is not ready or unreachable for five minutes, unless it says otherwise."""
    if context.rtype.key != ("", "pods") or context.subresource or context.operation not in {"CREATE", "UPDATE"}:
        return pod
    spec: Json = pod.get("spec") or {}
    tolerations: list[Json] = spec.get("tolerations") or []
    added = [
        {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _TOLERATION_S}
        for taint in _TAINTS
        if not any(_tolerates(toleration, taint) for toleration in tolerations)
    ]
    return {**pod, "spec": {**spec, "tolerations": [*tolerations, *added]}} if added else pod


def _tolerates(toleration: Json, taint: str) -> bool:
    return (toleration.get("key") or taint) == taint and toleration.get("effect", "") in {"", "NoExecute"}
