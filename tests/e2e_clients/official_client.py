"""The official `kubernetes` client: define a kind, work with it and with built-in ones, watch, apply, tell an event."""

import json
import os
import secrets
from typing import Any

from kubernetes import client, config, dynamic, watch

NAMESPACE = os.environ["NAMESPACE"]
GROUP = f"official-{secrets.token_hex(4)}.example.com"


def define() -> str:
    """A CRD through the typed client; returns once it is established."""
    schema = client.V1JSONSchemaProps(type="object", x_kubernetes_preserve_unknown_fields=True)
    version = client.V1CustomResourceDefinitionVersion(
        name="v1",
        served=True,
        storage=True,
        schema=client.V1CustomResourceValidation(open_apiv3_schema=schema),
        subresources=client.V1CustomResourceSubresources(status={}),
    )
    names = client.V1CustomResourceDefinitionNames(plural="tickets", singular="ticket", kind="Ticket")
    spec = client.V1CustomResourceDefinitionSpec(group=GROUP, scope="Namespaced", names=names, versions=[version])
    definitions = client.ApiextensionsV1Api()
    name = f"tickets.{GROUP}"
    definitions.create_custom_resource_definition(
        client.V1CustomResourceDefinition(
            api_version="apiextensions.k8s.io/v1",
            kind="CustomResourceDefinition",
            metadata=client.V1ObjectMeta(name=name),
            spec=spec,
        )
    )
    events = watch.Watch()
    selector = f"metadata.name={name}"
    for event in events.stream(
        definitions.list_custom_resource_definition, field_selector=selector, timeout_seconds=20
    ):
        conditions = event["object"].status.conditions or [] if event["object"].status else []
        if any(one.type == "Established" and one.status == "True" for one in conditions):
            events.stop()
    return name


def tickets() -> dict[str, Any]:
    """Create, patch, status, list and watch custom objects."""
    custom = client.CustomObjectsApi()
    where = (GROUP, "v1", NAMESPACE, "tickets")
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Ticket", "metadata": {"name": "one"}, "spec": {"title": "t"}}
    made = custom.create_namespaced_custom_object(*where, body)
    custom.patch_namespaced_custom_object(*where, "one", {"spec": {"priority": 5}})
    custom.patch_namespaced_custom_object_status(*where, "one", {"status": {"phase": "Open"}})
    seen = []
    events = watch.Watch()
    version = made["metadata"]["resourceVersion"]
    for event in events.stream(
        custom.list_namespaced_custom_object, *where, resource_version=version, timeout_seconds=20
    ):
        seen.append(event["type"])
        if len(seen) == 2:
            events.stop()
    got = custom.get_namespaced_custom_object(*where, "one")
    custom.delete_namespaced_custom_object(*where, "one")
    left = custom.list_namespaced_custom_object(*where)["items"]
    return {"seen": seen, "spec": got["spec"], "status": got["status"], "left": len(left)}


def built_in() -> dict[str, Any]:
    """ConfigMaps, a Deployment scaled, an event, a conflict, pages."""
    core, apps = client.CoreV1Api(), client.AppsV1Api()
    for number in range(5):
        meta = client.V1ObjectMeta(name=f"m{number}", labels={"mine": "1"})
        core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata=meta, data={"n": str(number)}))
    pages, token = [], None
    while token != "":
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="mine", limit=2, _continue=token)
        pages.append(len(page.items))
        token = page.metadata._continue or ""
    old = core.read_namespaced_config_map("m0", NAMESPACE)
    core.patch_namespaced_config_map("m0", NAMESPACE, {"data": {"n": "9"}})
    try:
        core.replace_namespaced_config_map("m0", NAMESPACE, old)
        conflict = 200
    except client.ApiException as error:
        conflict = error.status
    template = {
        "metadata": {"labels": {"app": "w"}},
        "spec": {"schedulerName": "none", "containers": [{"name": "c", "image": "i:1"}]},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "w"}}, "template": template}
    apps.create_namespaced_deployment(NAMESPACE, {"metadata": {"name": "web"}, "spec": spec})
    scale = apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 2}})
    involved = client.V1ObjectReference(kind="ConfigMap", name="m0", namespace=NAMESPACE)
    meta = client.V1ObjectMeta(generate_name="told-")
    told = client.CoreV1Event(metadata=meta, involved_object=involved, reason="Told", message="m", type="Normal")
    core.create_namespaced_event(NAMESPACE, told)
    events = core.list_namespaced_event(NAMESPACE, field_selector="involvedObject.name=m0").items
    return {
        "pages": pages,
        "conflict": conflict,
        "replicas": scale.spec.replicas,
        "events": [event.reason for event in events],
        "may": client.AuthorizationV1Api()
        .create_self_subject_access_review(
            {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": NAMESPACE}}}
        )
        .status.allowed,
    }


def applied() -> dict[str, Any]:
    """Server-side apply through the dynamic client, found by discovery."""
    found = dynamic.DynamicClient(client.ApiClient())
    maps = found.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1"}}
    got = maps.server_side_apply(namespace=NAMESPACE, body=body, field_manager="official")
    return {"manager": got.metadata.managedFields[0].manager, "data": got.data.to_dict()}


def main() -> None:
    config.load_kube_config()
    name = define()
    try:
        print(json.dumps({"tickets": tickets(), "built_in": built_in(), "applied": applied()}))
    finally:
        client.ApiextensionsV1Api().delete_custom_resource_definition(name)


if __name__ == "__main__":
    main()
