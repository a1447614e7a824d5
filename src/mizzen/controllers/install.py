"""What a control plane must hold before the controllers can work: the CRDs, a namespace, roles, the settings.

Everything is server-side applied, so that bringing up a newer version brings these up to date too.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.rbac_v1 import RoleRef, Subject
from lightkube.resources.core_v1 import ServiceAccount
from lightkube.resources.rbac_authorization_v1 import RoleBinding

from mizzen.controllers.jobs import MANAGED_BY
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import GROUP, KINDS
from mizzen.kinds.definitions import definitions
from mizzen.kinds.names import PUSH_SERVER, RUNNER_SERVICE_ACCOUNT, SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE
from mizzen.kube import conditions
from mizzen.kube.client import Client
from mizzen.kube.resources import ResourceInfo, untyped

FIELD_MANAGER = "mizzen-install"
ESTABLISH_TIMEOUT_S = 30.0

_CRD = ResourceInfo(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
_NAMESPACE = ResourceInfo("", "v1", "Namespace", "namespaces", namespaced=False)
_CLUSTER_ROLE = ResourceInfo("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False)
_CLUSTER_ROLE_BINDING = ResourceInfo(
    "rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)
_SERVICE_ACCOUNT = ResourceInfo("", "v1", "ServiceAccount", "serviceaccounts", namespaced=True)
_CONFIG_MAP = ResourceInfo("", "v1", "ConfigMap", "configmaps", namespaced=True)


def runner_role() -> dict[str, Any]:
    """What the Pods of Jobs may do: read our kinds, make model versions, report into the statuses they are about."""
    ours = [
        "datasets", "featureviews", "models", "modelversions", "trainingjobs", "inferenceendpoints", "batchpredictions",
    ]  # fmt: skip
    reported = ["datasets/status", "featureviews/status", "trainingjobs/status", "batchpredictions/status"]
    return {
        "apiVersion": _CLUSTER_ROLE.api_version,
        "kind": _CLUSTER_ROLE.kind,
        "metadata": {"name": RUNNER_SERVICE_ACCOUNT, "labels": dict(MANAGED_BY)},
        "rules": [
            {"apiGroups": [GROUP], "resources": ours, "verbs": ["get", "list", "watch"]},
            {"apiGroups": [GROUP], "resources": ["modelversions"], "verbs": ["create"]},
            {"apiGroups": [GROUP], "resources": reported, "verbs": ["get", "patch"]},
        ],
    }


def push_server_objects() -> list[dict[str, Any]]:
    """What the push server may do: know the Datasets, report into their statuses, and know keys by their hashes."""
    metadata = {"name": PUSH_SERVER, "labels": dict(MANAGED_BY)}
    subject = {"kind": "ServiceAccount", "name": PUSH_SERVER, "namespace": SYSTEM_NAMESPACE}
    rules = [
        {"apiGroups": [GROUP], "resources": ["datasets"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [GROUP], "resources": ["datasets/status"], "verbs": ["get", "patch"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [SETTINGS_CONFIG_MAP], "verbs": ["get"]},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": PUSH_SERVER}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**metadata, "namespace": SYSTEM_NAMESPACE}},
        {"apiVersion": _CLUSTER_ROLE.api_version, "kind": "ClusterRole", "metadata": metadata, "rules": rules},
        {
            "apiVersion": _CLUSTER_ROLE.api_version,
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": role,
            "subjects": [subject],
        },
    ]


def runner_objects(namespace: str) -> Sequence[object]:
    """The service account of a namespace's Job Pods, bound to the runner role."""
    metadata = ObjectMeta(name=RUNNER_SERVICE_ACCOUNT, namespace=namespace, labels=dict(MANAGED_BY))
    return (
        ServiceAccount(metadata=metadata),
        RoleBinding(
            metadata=metadata,
            roleRef=RoleRef(apiGroup="rbac.authorization.k8s.io", kind="ClusterRole", name=RUNNER_SERVICE_ACCOUNT),
            subjects=[Subject(kind="ServiceAccount", name=RUNNER_SERVICE_ACCOUNT, namespace=namespace)],
        ),
    )


async def install(client: Client, settings: PlatformSettings | None) -> None:
    """Puts everything there and returns when our kinds are served. `settings` of `None` leaves those that are there."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}}
    wanted: list[tuple[ResourceInfo, dict[str, Any]]] = [
        *((_CRD, crd) for crd in definitions()),
        (_NAMESPACE, namespace),
        (_CLUSTER_ROLE, runner_role()),
        *zip((_SERVICE_ACCOUNT, _CLUSTER_ROLE, _CLUSTER_ROLE_BINDING), push_server_objects(), strict=True),
    ]
    if settings is not None:
        wanted.append((_CONFIG_MAP, settings.to_config_map()))
    for info, wire in wanted:
        await client.apply(untyped(info)(wire), field_manager=FIELD_MANAGER, force=True)
    async with asyncio.timeout(ESTABLISH_TIMEOUT_S):
        await asyncio.gather(*(_established(client, f"{kind.plural}.{GROUP}") for kind in KINDS))


async def _established(client: Client, name: str) -> None:
    cls, fields = untyped(_CRD), {"metadata.name": name}
    while True:
        listed = await client.list(cls, fields=fields)
        if any(_is_established(crd) for crd in listed):
            return
        watch = client.watch(cls, resource_version=listed.resource_version, fields=fields)
        async with aclosing(watch) as events:
            async for event in events:
                if event.payload is not None and _is_established(event.payload):
                    return


def _is_established(crd: dict[str, Any]) -> bool:
    return conditions.is_true((crd.get("status") or {}).get("conditions"), "Established")
