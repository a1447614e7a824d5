"""The EndpointSlice controller: where the Pods of a Service are reached.

On the machine of one a Pod does not have its ports to itself: the node binds what is free and says so in the Pod's
annotation `node.mizzen.dev/ports`. So Pods of one Service may listen on different ports, and since an EndpointSlice has
one set of ports for all its endpoints, each distinct set becomes a slice of its own. Where no Pod has the annotation,
this is what Kubernetes does. What slices a Service should have is decided by `slices_of`, which is pure.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mizzen.kinds.names import ANNOTATION_PORTS
from mizzen.kube.resources import Json, Key, Untyped
from mizzen.kube.runtime import Controller, Result, Watch, controller_of
from mizzen.local.cluster.context import ClusterContext
from mizzen.local.cluster.objects import (
    EndpointSlice,
    Object,
    Pod,
    Service,
    annotations_of,
    controlled_by,
    is_deleted,
    labels_of,
    name_of,
    namespace_of,
    spec_of,
    status_of,
    uid_of,
)
from mizzen.local.cluster.pods import is_finished, is_ready, node_of
from mizzen.local.cluster.selectors import matches_labels
from mizzen.local.cluster.workloads.ownership import index_by_controller
from mizzen.local.cluster.writing import delete

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_OURS = "endpointslice-controller.k8s.io"
_HEADLESS = "service.kubernetes.io/headless"
_ENDPOINTS_MAX = 100
"""In one slice, as in Kubernetes."""

Ports = tuple[tuple[str, str, int, str], ...]
"""Name, protocol, number and application protocol of each port that could be found in a Pod."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice as it should be."""

    address_type: str
    ports: Ports
    endpoints: tuple[Json, ...]


def slices_of(service: Object, pods: Iterable[Object]) -> list[Slice]:
    """The slices of a Service with these Pods, in a fixed order."""
    spec = spec_of(service)
    groups: dict[tuple[str, Ports], list[Json]] = {}
    for pod in sorted(pods, key=name_of):
        for address_type, address in addresses_of(pod, spec.get("ipFamilies") or ()):
            endpoint = _endpoint(pod, address, always_ready=bool(spec.get("publishNotReadyAddresses")))
            groups.setdefault((address_type, ports_of(service, pod)), []).append(endpoint)
    if not groups:
        # An empty slice says that there is nobody, which is not the same as nobody having looked.
        return [Slice(address_type, (), ()) for address_type in spec.get("ipFamilies") or ("IPv4",)]
    return [
        Slice(address_type, ports, tuple(endpoints[start : start + _ENDPOINTS_MAX]))
        for (address_type, ports), endpoints in sorted(groups.items(), key=lambda group: group[0])
        for start in range(0, len(endpoints), _ENDPOINTS_MAX)
    ]


def addresses_of(pod: Object, families: Sequence[str]) -> list[tuple[str, str]]:
    """The Pod's addresses of the families that the Service has (of any, where it does not say)."""
    status = status_of(pod)
    listed = [one.get("ip") for one in status.get("podIPs") or ()] or [status.get("podIP")]
    typed = [("IPv6" if ":" in address else "IPv4", address) for address in listed if address]
    return [(type_, address) for type_, address in typed if not families or type_ in families]


def ports_of(service: Object, pod: Object) -> Ports:
    """The Service's ports as they are in the Pod: by number, or by the name of a container's port.

    A named port that the Pod does not have is left out, as in Kubernetes.
    """
    bound = bound_ports(pod)
    found = []
    for port in spec_of(service).get("ports") or ():
        target = port.get("targetPort") or port["port"]
        number = _number_in(pod, bound, target, port.get("protocol") or "TCP")
        if number is not None:
            found.append(
                (port.get("name") or "", port.get("protocol") or "TCP", number, port.get("appProtocol") or "")
            )  # fmt: skip
    return tuple(found)


def bound_ports(pod: Object) -> Mapping[str, int]:
    """The ports that the node really bound, by name; empty where it did not say."""
    try:
        said = json.loads(annotations_of(pod).get(ANNOTATION_PORTS, "{}"))
    except ValueError:
        return {}
    if not isinstance(said, dict):
        return {}
    return {str(name): number for name, number in said.items() if isinstance(number, int)}


def _number_in(pod: Object, bound: Mapping[str, int], target: int | str, protocol: str) -> int | None:
    for container in spec_of(pod).get("containers") or ():
        for port in container.get("ports") or ():
            same = port.get("name") == target if isinstance(target, str) else port["containerPort"] == target
            if same and (port.get("protocol") or "TCP") == protocol:
                return int(bound.get(port.get("name") or "", port["containerPort"]))
    return target if isinstance(target, int) else None


def _endpoint(pod: Object, address: str, *, always_ready: bool) -> Json:
    serving, terminating = is_ready(pod), is_deleted(pod)
    endpoint: Json = {
        "addresses": [address],
        "conditions": {
            "ready": always_ready or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "nodeName": node_of(pod),
        "targetRef": {"kind": "Pod", "namespace": namespace_of(pod), "name": name_of(pod), "uid": uid_of(pod)},
    }
    hostname = spec_of(pod).get("hostname")
    return endpoint | ({"hostname": hostname} if hostname and spec_of(pod).get("subdomain") else {})


class EndpointSliceController(Controller):
    """Keeps the slices of each Service that selects Pods."""

    name = "endpointslice-controller"

    def __init__(self, cluster: ClusterContext) -> None:
        self._client = cluster.client
        self._services = cluster.informers.of(Service)
        self._pods = cluster.informers.of(Pod)
        self._slices = cluster.informers.of(EndpointSlice)
        index_by_controller(self._slices)
        self._slices.add_index("service", _service_of)
        self._pods.add_index("namespace", _namespace)

    def watches(self) -> Sequence[Watch[Any]]:
        return (
            Watch(self._services),
            Watch(self._pods, self._selecting),
            Watch(self._slices, controller_of(Service)),
        )

    def _selecting(self, pod: Untyped) -> Iterable[Key]:
        for service in self._services.list(namespace_of(pod)):
            selector = spec_of(service).get("selector")
            if selector and matches_labels(selector, labels_of(pod)):
                yield Key(namespace_of(service), name_of(service))

    async def reconcile(self, key: Key) -> Result | None:
        service = self._services.at(key)
        selector = spec_of(service).get("selector") if service is not None else None
        if service is None or not selector or spec_of(service).get("type") == "ExternalName" or is_deleted(service):
            # Slices of a Service that is gone are garbage; those of one without a selector are somebody else's.
            return None
        pods = [
            pod
            for pod in self._pods.by_index("namespace", namespace_of(service))
            if matches_labels(selector, labels_of(pod)) and not is_finished(pod) and node_of(pod)
        ]
        await self._make_true(service, slices_of(service, pods))
        return None

    async def _make_true(self, service: Untyped, wanted: list[Slice]) -> None:
        """Changes slices that have the ports already, makes those that are missing, deletes those that are left."""
        spare = [
            one
            for one in self._slices.by_index("service", f"{namespace_of(service)}/{name_of(service)}")
            if labels_of(one).get(MANAGED_BY) == _OURS and not is_deleted(one)
        ]
        for slice_ in wanted:
            body = _body(service, slice_)
            same = next((one for one in spare if _is_like(one, slice_)), None)
            if same is None:
                self._slices.wrote(await self._client.create(EndpointSlice(body)))
                continue
            spare.remove(same)
            changed = {**same, "endpoints": body["endpoints"], "ports": body["ports"]}
            if not body["endpoints"] and not same.get("endpoints"):
                # Servers write an empty list as null, or leave it out.
                changed |= {key: same[key] for key in ("endpoints", "ports") if key in same}
            changed["metadata"] = {**same["metadata"], "labels": {**labels_of(same), **body["metadata"]["labels"]}}
            if changed != same:
                self._slices.wrote(await self._client.replace(EndpointSlice(changed)))
        for one in spare:
            await delete(self._client, self._slices, one)


def _body(service: Object, slice_: Slice) -> Json:
    headless = {_HEADLESS: ""} if spec_of(service).get("clusterIP") == "None" else {}
    owner = controlled_by({"apiVersion": "v1", "kind": "Service", "metadata": service["metadata"]})
    return {
        "metadata": {
            "generateName": f"{name_of(service)}-",
            "namespace": namespace_of(service),
            "labels": {**labels_of(service), SERVICE_NAME: name_of(service), MANAGED_BY: _OURS, **headless},
            "ownerReferences": [owner],
        },
        "addressType": slice_.address_type,
        "endpoints": list(slice_.endpoints),
        "ports": [
            {"name": name, "protocol": protocol, "port": number} | ({"appProtocol": app} if app else {})
            for name, protocol, number, app in slice_.ports
        ],
    }


def _is_like(one: Object, slice_: Slice) -> bool:
    """Whether a slice that is there has the address type and ports of a wanted one."""
    ports = tuple(
        (port.get("name") or "", port.get("protocol") or "TCP", port.get("port") or 0, port.get("appProtocol") or "")
        for port in one.get("ports") or ()
    )
    return bool(one.get("addressType") == slice_.address_type and ports == slice_.ports)


def _service_of(one: Object) -> Sequence[str]:
    return (f"{namespace_of(one)}/{labels_of(one).get(SERVICE_NAME, '')}",)


def _namespace(obj: Object) -> Sequence[str]:
    return (namespace_of(obj),)
