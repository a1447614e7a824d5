"""What a new home starts with: namespaces, roles, the Service of the API itself. Made where it is missing, at each
start."""

from mizzen.local.apiserver.security import bootstrap as security_bootstrap
from mizzen.local.apiserver.types import Json
from mizzen.local.apiserver.verbs import internal
from mizzen.local.apiserver.verbs.context import Context

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease", "mizzen-system")
_RBAC = "rbac.authorization.k8s.io"


async def bootstrap(context: Context, port: int, ca_pem: bytes) -> None:
    for name in NAMESPACES:
        await internal.create_missing(context, ("", "v1", "namespaces"), _object("v1", "Namespace", name))
    for default in security_bootstrap.objects():
        plural = default["kind"].lower() + "s"
        stored = context.reader.get(_RBAC, plural, "", default["metadata"]["name"])
        wanted = security_bootstrap.reconciled(stored, default)
        if wanted is not None and stored is None:
            await internal.create_missing(context, (_RBAC, "v1", plural), wanted)
        elif wanted is not None:
            await internal.update(context, (_RBAC, "v1", plural), wanted)
    await internal.create_missing(context, ("", "v1", "services"), _kubernetes_service(port))
    await _publish_client_ca(context, ca_pem)


def _object(api_version: str, kind: str, name: str, namespace: str = "") -> Json:
    return {
        "kind": kind,
        "apiVersion": api_version,
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
    }


def _kubernetes_service(port: int) -> Json:
    service = _object("v1", "Service", "kubernetes", "default")
    service["metadata"]["labels"] = {"component": "apiserver", "provider": "kubernetes"}
    service["spec"] = {
        "type": "ClusterIP",
        "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
    }
    return service


async def _publish_client_ca(context: Context, ca_pem: bytes) -> None:
    """Tell kubelets, and extension servers, whose client certificates the server shows."""
    wanted = _object("v1", "ConfigMap", "extension-apiserver-authentication", "kube-system")
    wanted["data"] = {"client-ca-file": ca_pem.decode()}
    stored = context.reader.get("", "configmaps", "kube-system", wanted["metadata"]["name"])
    if stored is None:
        await internal.create_missing(context, ("", "v1", "configmaps"), wanted)
    elif stored.get("data") != wanted["data"]:
        await internal.update(context, ("", "v1", "configmaps"), {**stored, "data": wanted["data"]})
