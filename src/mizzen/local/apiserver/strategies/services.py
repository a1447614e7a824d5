"""Services: virtual addresses and node ports, given once and kept.

Nothing routes the addresses on one machine; they are given because clients and charts expect them, from the range that
kube-apiserver has by default, and each only once.
"""

import hashlib
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import causes
from mizzen.local.apiserver.strategies.base import Strategy, Surroundings, keep
from mizzen.local.apiserver.types import Json

_KEY = ("", "services")
_RANGE = IPv4Network("10.96.0.0/16")
_NODE_PORTS = range(30000, 32768)
_API = ("default", "kubernetes")
_NONE = "None"
_REACHED = frozenset({"NodePort", "LoadBalancer"})
"""The types that are reached from outside."""


class ServiceStrategy(Strategy):
    returns_deleted = True
    create_on_update = True

    def prepare_create(self, obj: Json, around: Surroundings) -> None:
        obj["status"] = {"loadBalancer": {}}
        _allocate(obj, around)

    def prepare_update(self, obj: Json, old: Json, around: Surroundings) -> None:
        spec, before = obj.get("spec") or {}, old.get("spec") or {}
        obj["spec"] = _without_leftovers(_with_allocated(spec, before), before)
        _allocate(obj, around)

    def validate(self, obj: Json, around: Surroundings) -> Iterable[Cause]:
        spec = obj["spec"]
        address = spec.get("clusterIP", "")
        if address and address != _NONE:
            try:
                inside = IPv4Address(address) in _RANGE
            except ValueError:
                detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
                yield causes.invalid("spec.clusterIPs[0]", address, detail)
                return
            if not inside:
                detail = f"failed to allocate IP {address}: the provided network does not match the current range"
                yield causes.invalid("spec.clusterIPs", spec.get("clusterIPs", [address]), detail)
            elif any(_address(other) == address for other in _others(obj, around)):
                detail = f"failed to allocate IP {address}: provided IP is already allocated"
                yield causes.invalid("spec.clusterIPs", spec.get("clusterIPs", [address]), detail)


def _address(service: Json) -> str:
    return str(service.get("spec", {}).get("clusterIP") or "")


def _others(obj: Json, around: Surroundings) -> list[Json]:
    name = (obj["metadata"].get("namespace"), obj["metadata"].get("name"))
    return [
        other
        for other in around.newest(_KEY)
        if (other["metadata"].get("namespace"), other["metadata"].get("name")) != name
    ]


def _with_allocated(new: Json, before: Json) -> Json:
    """An update that does not name what was given keeps it, while the type still has it."""
    spec = {**new}
    if "ExternalName" in {spec.get("type"), before.get("type")}:
        return spec
    if not spec.get("clusterIP"):
        keep(spec, before, ("clusterIP", "clusterIPs"))
    for field in ("ipFamilies", "ipFamilyPolicy"):
        if not spec.get(field):
            keep(spec, before, (field,))
    if spec.get("type") in {"NodePort", "LoadBalancer"}:
        given = {(p.get("protocol"), p.get("port")): p.get("nodePort") for p in before.get("ports") or ()}
        spec["ports"] = [
            {**port, "nodePort": node_port}
            if not port.get("nodePort") and (node_port := given.get((port.get("protocol"), port.get("port"))))
            else port
            for port in spec.get("ports") or ()
        ]
    return spec


def _without_leftovers(spec: Json, before: Json) -> Json:
    """A Service of another type drops what only the old type had, unless the update changes that too."""
    spec, kind, earlier = {**spec}, spec.get("type"), before.get("type")
    given = {port.get("nodePort") for port in before.get("ports") or ()}
    if earlier in _REACHED and kind not in _REACHED:
        ports = spec.get("ports") or []
        if all(port.get("nodePort") in given for port in ports if port.get("nodePort")):
            spec["ports"] = [{name: value for name, value in port.items() if name != "nodePort"} for port in ports]
        if not spec.get("externalIPs"):
            _drop_unchanged(spec, before, "externalTrafficPolicy")
    if earlier == "LoadBalancer" and kind != "LoadBalancer":
        _drop_unchanged(spec, before, "allocateLoadBalancerNodePorts")
        _drop_unchanged(spec, before, "loadBalancerClass")
    return spec


def _drop_unchanged(spec: Json, before: Json, field: str) -> None:
    if spec.get(field) == before.get(field):
        spec.pop(field, None)


def _allocate(obj: Json, around: Surroundings) -> None:
    spec = obj["spec"] = {**(obj.get("spec") or {})}
    if spec.get("type") == "ExternalName":
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            spec.pop(field, None)
        return
    if not spec.get("clusterIP"):
        spec["clusterIP"] = spec["clusterIPs"][0] if spec.get("clusterIPs") else _free_address(obj, around)
    spec["clusterIPs"] = [spec["clusterIP"]]
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    if spec.get("type") in {"NodePort", "LoadBalancer"} and spec.get("allocateLoadBalancerNodePorts", True):
        spec["ports"] = _with_node_ports(obj, around)


def _free_address(obj: Json, around: Surroundings) -> str:
    if (obj["metadata"].get("namespace"), obj["metadata"].get("name")) == _API:
        return str(_RANGE[1])
    taken = {_address(other) for other in around.newest(_KEY)}
    start = _scattered(obj, _RANGE.num_addresses - 3)
    for offset in range(_RANGE.num_addresses - 3):
        address = str(_RANGE[2 + (start + offset) % (_RANGE.num_addresses - 3)])
        if address not in taken:
            return address
    return ""  # 65,533 Services: refused by validation, which misses the address


def _with_node_ports(obj: Json, around: Surroundings) -> list[Json]:
    ports: list[Json] = obj["spec"].get("ports") or []
    taken = {port.get("nodePort") for other in _others(obj, around) for port in other["spec"].get("ports") or ()}
    taken |= {port.get("nodePort") for port in ports}
    start = _scattered(obj, len(_NODE_PORTS))
    free = (n for n in (*_NODE_PORTS[start:], *_NODE_PORTS[:start]) if n not in taken)
    return [port if port.get("nodePort") else {**port, "nodePort": next(free)} for port in ports]


def _scattered(obj: Json, size: int) -> int:
    """Where to begin looking: by the object's uid, so that addresses are not given again right after a delete."""
    return int.from_bytes(hashlib.sha256(str(obj["metadata"].get("uid", "")).encode()).digest()[:4], "big") % size
