"""Slices of a Service: one for each distinct set of ports that its Pods really have."""

import json
from typing import Any

from mizzen.kinds.names import ANNOTATION_PORTS
from mizzen.local.cluster.endpoints import bound_ports, ports_of, slices_of

from .builders import pod, service

HTTP = {"name": "http", "port": 80, "targetPort": "web"}


def listening(name: str, address: str | None, *, bound: dict[str, int] | None = None, **more: Any) -> Any:
    annotations = {ANNOTATION_PORTS: json.dumps(bound)} if bound is not None else {}
    status = {"podIP": address, "podIPs": [{"ip": address}]} if address else {}
    ports = [{"name": "web", "containerPort": 8080}]
    return pod(
        name, node="n", phase="Running", annotations=annotations, status=status, ports=ports, ready=False, **more
    )


def ready(one: Any) -> Any:
    one["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    return one


def test_pods_with_the_same_ports_share_a_slice_and_others_have_their_own() -> None:
    pods = [
        ready(listening("a", "10.0.0.1")),
        ready(listening("b", "10.0.0.2", bound={"web": 41000})),
        ready(listening("c", "10.0.0.3", bound={"web": 41000})),
        ready(listening("d", "10.0.0.4", bound={"web": 42000})),
        listening("pending", None),
    ]
    found = [(one.ports, [e["addresses"][0] for e in one.endpoints]) for one in slices_of(service(HTTP), pods)]
    assert found == [
        ((("http", "TCP", 8080, ""),), ["10.0.0.1"]),
        ((("http", "TCP", 41000, ""),), ["10.0.0.2", "10.0.0.3"]),
        ((("http", "TCP", 42000, ""),), ["10.0.0.4"]),
    ]


def test_a_service_without_pods_has_an_empty_slice() -> None:
    (empty,) = slices_of(service(HTTP), [listening("pending", None)])
    assert (empty.address_type, empty.ports, empty.endpoints) == ("IPv4", (), ())
    assert [one.address_type for one in slices_of(service(HTTP, ipFamilies=["IPv6", "IPv4"]), [])] == ["IPv6", "IPv4"]


def test_conditions_say_ready_serving_and_terminating() -> None:
    def conditions(one: Any, **spec: Any) -> tuple[bool, bool, bool]:
        ((slice_),) = slices_of(service(HTTP, **spec), [one])
        found = slice_.endpoints[0]["conditions"]
        return found["ready"], found["serving"], found["terminating"]

    assert conditions(ready(listening("a", "10.0.0.1"))) == (True, True, False)
    assert conditions(listening("a", "10.0.0.1")) == (False, False, False)
    assert conditions(ready(listening("a", "10.0.0.1", deleted=True))) == (False, True, True)
    assert conditions(listening("a", "10.0.0.1"), publishNotReadyAddresses=True) == (True, False, False)


def test_ports_are_found_by_number_by_name_and_through_what_the_node_bound() -> None:
    one = listening("a", "10.0.0.1", bound={"web": 41000})
    assert ports_of(service({"port": 80}), one) == (("", "TCP", 80, ""),)
    assert ports_of(service({"port": 80, "targetPort": 8080}), one) == (("", "TCP", 41000, ""),)
    assert ports_of(service({"port": 80, "targetPort": 9090}), one) == (("", "TCP", 9090, ""),)
    assert ports_of(service({"port": 80, "targetPort": "none"}), one) == ()
    udp = {"port": 53, "targetPort": "web", "protocol": "UDP"}
    assert ports_of(service(udp), one) == (), "a port of the same name and another protocol is another port"
    assert ports_of(service({"port": 80, "appProtocol": "h2c", "name": "x"}), one) == (("x", "TCP", 80, "h2c"),)


def test_an_annotation_that_is_none_is_passed_over() -> None:
    for text in ("", "no json", "[]", "3", '{"web": "text"}'):
        assert bound_ports(pod(annotations={ANNOTATION_PORTS: text})) == {}


def test_addresses_are_of_the_services_families() -> None:
    both = pod("a", node="n", status={"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]})

    def families(*wanted: str) -> list[tuple[str, str]]:
        found = slices_of(service(HTTP, ipFamilies=list(wanted)), [both])
        return [(one.address_type, one.endpoints[0]["addresses"][0]) for one in found]

    assert families("IPv4") == [("IPv4", "10.0.0.1")]
    assert families("IPv4", "IPv6") == [("IPv4", "10.0.0.1"), ("IPv6", "fd00::1")]
    assert families() == [("IPv4", "10.0.0.1"), ("IPv6", "fd00::1")]


def test_a_slice_holds_a_hundred() -> None:
    pods = [ready(listening(f"p{n:03}", f"10.0.{n // 250}.{n % 250}")) for n in range(250)]
    assert [len(one.endpoints) for one in slices_of(service(HTTP), pods)] == [100, 100, 50]
