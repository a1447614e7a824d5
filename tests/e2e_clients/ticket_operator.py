"""A kopf operator: each Ticket gets a ConfigMap of its own, which follows it and is counted out at its end."""

import os
from typing import Any

import kopf
import kubernetes

GROUP = os.environ["TICKET_GROUP"]


def core() -> kubernetes.client.CoreV1Api:
    kubernetes.config.load_kube_config()
    return kubernetes.client.CoreV1Api()


@kopf.on.create(GROUP, "v1", "tickets")
def opened(name: str, namespace: str, spec: kopf.Spec, body: kopf.Body, patch: kopf.Patch, **_: Any) -> dict[str, str]:
    data = {"title": spec["title"], "priority": str(spec["priority"])}
    child = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"ticket-{name}"}, "data": data}
    kopf.adopt(child)
    core().create_namespaced_config_map(namespace, child)
    kopf.info(body, reason="Opened", message=f"Ticket {name} has its ConfigMap.")
    patch.status["phase"] = "Open"
    return {"child": child["metadata"]["name"]}


@kopf.on.field(GROUP, "v1", "tickets", field="spec.priority")
def reprioritised(old: int | None, new: int, name: str, namespace: str, patch: kopf.Patch, **_: Any) -> None:
    if old is not None:
        core().patch_namespaced_config_map(f"ticket-{name}", namespace, {"data": {"priority": str(new)}})
        patch.status["phase"] = "Reprioritised"


@kopf.on.delete(GROUP, "v1", "tickets")
def closed(name: str, namespace: str, **_: Any) -> None:
    ledger = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "closed"}, "data": {name: "closed"}}
    core().create_namespaced_config_map(namespace, ledger)
