"""What Kubernetes checks of Services and of the EndpointSlices behind them."""

from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import names
from mizzen.local.apiserver.schema.causes import duplicate, forbidden, invalid, required, too_many
from mizzen.local.apiserver.schema.pod_checks import at, in_range, port_name, port_number
from mizzen.local.apiserver.types import Json

_EXTERNAL = frozenset({"LoadBalancer", "NodePort"})
_ADDRESSES_MAX = 100
_ENDPOINTS_MAX = 1000
_ADDRESS_TEXT = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def service_spec(value: Json) -> Iterator[Cause]:
    ports, kind = value.get("ports") or [], value.get("type")
    headless = value.get("clusterIP") == "None"
    if not ports and not headless and kind != "ExternalName":
        yield required("ports")
    if kind == "ExternalName" and not value.get("externalName"):
        yield required("externalName")
    if value.get("externalTrafficPolicy") and kind not in _EXTERNAL and not value.get("externalIPs"):
        detail = "may only be set for externally-accessible services"
        yield invalid("externalTrafficPolicy", value["externalTrafficPolicy"], detail)
    for index, address in enumerate(value.get("externalIPs") or ()):
        yield from at(f"externalIPs[{index}]", endpoint_address(address))
    for key, text in (value.get("selector") or {}).items():
        yield from (invalid("selector", key, reason) for reason in names.qualified_name(key))
        yield from (invalid("selector", text, reason) for reason in names.label_value(text))
    seen_names, seen_ports, seen_node_ports = set(), set(), set()
    for index, port in enumerate(ports):
        name, pair = port.get("name") or "", (port.get("protocol"), port.get("port"))
        if not name and len(ports) > 1:
            yield required(f"ports[{index}].name")
        elif name in seen_names:
            yield duplicate(f"ports[{index}].name", name)
        if pair in seen_ports:
            yield duplicate(f"ports[{index}]", {"port": port.get("port"), "protocol": port.get("protocol")})
        node_port = (port.get("protocol"), port.get("nodePort"))
        if port.get("nodePort") and kind == "ClusterIP":
            yield forbidden(f"ports[{index}].nodePort", "may not be used when `type` is 'ClusterIP'")
        if port.get("nodePort") and node_port in seen_node_ports:
            yield duplicate(f"ports[{index}].nodePort", port["nodePort"])
        seen_node_ports.add(node_port)
        seen_names.add(name)
        seen_ports.add(pair)


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
    kind = value.get("addressType") or ""
    if not kind:
        yield required("addressType")
    yield from _slice_ports(value.get("ports") or [])
    endpoints = value.get("endpoints") or []
    if len(endpoints) > _ENDPOINTS_MAX:
        yield too_many("endpoints", len(endpoints), _ENDPOINTS_MAX)
        return
    for index, endpoint in enumerate(endpoints):
        yield from at(f"endpoints[{index}]", _endpoint(endpoint, kind))


def _endpoint(value: Json, kind: str) -> Iterator[Cause]:
    addresses = value.get("addresses") or []
    if not addresses:
        yield required("addresses", "must contain at least 1 address")
    if len(addresses) > _ADDRESSES_MAX:
        yield too_many("addresses", len(addresses), _ADDRESSES_MAX)
    for index, address in enumerate(addresses):
        place = f"addresses[{index}]"
        if kind == "FQDN":
            yield from (invalid(place, address, reason) for reason in names.dns_subdomain(address))
        else:
            yield from at(place, endpoint_address(address, kind))
    for field, check in (("nodeName", names.dns_subdomain), ("hostname", names.dns_label)):
        if value.get(field) is not None:
            yield from (invalid(field, value[field], reason) for reason in check(value[field]))


def endpoint_address(text: str, kind: str = "") -> Iterator[Cause]:
    """An address that traffic can be sent to: none that means another machine everywhere."""
    try:
        address = ip_address(text)
    except ValueError:
        yield invalid("", text, _ADDRESS_TEXT)
        return
    if isinstance(address, {"IPv4": IPv6Address, "IPv6": IPv4Address}.get(kind, ())):
        yield invalid("", text, f"must be an {kind} address")
    if address.is_unspecified:
        yield invalid("", text, f"may not be unspecified ({text})")
    if address.is_loopback:
        yield invalid("", text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
    if address.is_link_local:
        yield invalid("", text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")


def _slice_ports(ports: list[Json]) -> Iterator[Cause]:
    seen = set()
    for index, port in enumerate(ports):
        name = port.get("name") or ""
        if name:
            yield from (invalid(f"ports[{index}].name", name, reason) for reason in names.dns_label(name))
        if name in seen:
            yield duplicate(f"ports[{index}].name", name)
        seen.add(name)


CHECKS: dict[str, Callable[[Json], Iterable[Cause]]] = {
    "core.v1.ServicePort": service_port,
    "core.v1.ServiceSpec": service_spec,
    "discovery.v1.EndpointSlice": endpoint_slice,
}
