"""What Kubernetes checks of Services and EndpointSlices, in its words."""

import ipaddress
from collections.abc import Callable, Iterable, Iterator

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import names
from mizzen.local.apiserver.schema.causes import duplicate, forbidden, invalid, required, too_many
from mizzen.local.apiserver.schema.pod_checks import in_range, port_name, port_number
from mizzen.local.apiserver.types import Json

_ADDRESSES_MAX = 100
_LINK_LOCAL_MULTICAST = {4: ipaddress.ip_network("224.0.0.0/24"), 6: ipaddress.ip_network("ff02::/16")}


def service_spec(value: Json) -> Iterator[Cause]:
    ports, kind = value.get("ports") or [], value.get("type")
    headless = value.get("clusterIP") == "None"
    if not ports and not headless and kind != "ExternalName":
        yield required("ports")
    if kind == "ExternalName" and not value.get("externalName"):
        yield required("externalName")
    for key, text in (value.get("selector") or {}).items():
        yield from (invalid("selector", key, reason) for reason in names.qualified_name(key))
        yield from (invalid("selector", text, reason) for reason in names.label_value(text))
    seen_names, seen_ports = set(), set()
    for index, port in enumerate(ports):
        name, pair = port.get("name") or "", (port.get("protocol"), port.get("port"))
        if not name and len(ports) > 1:
            yield required(f"ports[{index}].name")
        elif name in seen_names:
            yield duplicate(f"ports[{index}].name", name)
        if pair in seen_ports:
            yield duplicate(f"ports[{index}]", {"port": port.get("port"), "protocol": port.get("protocol")})
        seen_names.add(name)
        seen_ports.add(pair)
    yield from _service_exposure(value)


def _service_exposure(value: Json) -> Iterator[Cause]:
    """Node ports and the policy of traffic from outside, by the Service's type."""
    kind, seen = value.get("type"), set()
    for index, port in enumerate(value.get("ports") or ()):
        node_port = port.get("nodePort")
        if not node_port:
            continue
        if kind == "ClusterIP":
            yield forbidden(f"ports[{index}].nodePort", "may not be used when `type` is 'ClusterIP'")
        if (port.get("protocol"), node_port) in seen:
            yield duplicate(f"ports[{index}].nodePort", node_port)
        seen.add((port.get("protocol"), node_port))
    policy, reached = value.get("externalTrafficPolicy"), kind in {"NodePort", "LoadBalancer"}
    if policy and not reached and not (kind == "ClusterIP" and value.get("externalIPs")):
        yield invalid("externalTrafficPolicy", policy, "may only be set for externally-accessible services")
    if kind in {"NodePort", "LoadBalancer"} and value.get("clusterIP") == "None":
        yield invalid("clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")


def service_port(value: Json) -> Iterator[Cause]:
    if value.get("name"):
        yield from (invalid("name", value["name"], reason) for reason in names.dns_label(value["name"]))
    yield from in_range("port", value.get("port") or 0, 1, 65535)
    target = value.get("targetPort")
    if isinstance(target, str):
        yield from port_name("targetPort", target)
    else:
        yield from port_number("targetPort", target or 0)


def endpoint_slice(value: Json) -> Iterator[Cause]:
    if not value.get("addressType"):
        yield required("addressType")
    for index, endpoint in enumerate(value.get("endpoints") or ()):
        addresses, place = endpoint.get("addresses") or [], f"endpoints[{index}]"
        if not addresses:
            yield required(f"{place}.addresses", "must contain at least 1 address")
        elif len(addresses) > _ADDRESSES_MAX:
            yield too_many(f"{place}.addresses", len(addresses), _ADDRESSES_MAX)
        for position, address in enumerate(addresses):
            yield from _endpoint_address(f"{place}.addresses[{position}]", address, value.get("addressType"))
        for field, check in (("nodeName", names.dns_subdomain), ("hostname", names.dns_label)):
            if endpoint.get(field) is not None:
                yield from (invalid(f"{place}.{field}", endpoint[field], text) for text in check(endpoint[field]))
    seen = set()
    for index, port in enumerate(value.get("ports") or ()):
        name = port.get("name") or ""
        yield from (invalid(f"ports[{index}].name", name, text) for text in names.dns_label(name) if name)
        if name in seen:
            yield duplicate(f"ports[{index}].name", name)
        seen.add(name)


def _endpoint_address(field: str, text: str, kind: str | None) -> Iterator[Cause]:
    """Unlike on a cluster, a loopback address will do: where all Pods are on one machine, they are there."""
    if kind == "FQDN":
        yield from (invalid(field, text, reason) for reason in names.dns_subdomain(text))
    if kind not in {"IPv4", "IPv6"}:
        return
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        yield invalid(field, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
        return
    if kind != f"IPv{address.version}":
        yield invalid(field.rpartition("[")[0], text, f"must be an {kind} address")
    if address.is_unspecified:
        yield invalid(field, text, f"may not be unspecified ({text})")
    if address.is_link_local:
        yield invalid(field, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    if address in _LINK_LOCAL_MULTICAST[address.version]:
        yield invalid(field, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")


CHECKS: dict[str, Callable[[Json], Iterable[Cause]]] = {
    "core.v1.ServicePort": service_port,
    "core.v1.ServiceSpec": service_spec,
    "discovery.v1.EndpointSlice": endpoint_slice,
}
