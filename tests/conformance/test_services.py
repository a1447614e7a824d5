"""Services and EndpointSlices: addresses, ports, rules, and with controllers who stands behind a Service."""

import ipaddress

import pytest

from .client import Json, Resource, refused
from .objects import WEB_LABELS, container, node, pod, service
from .surroundings import Namespace


@pytest.fixture
def services(ns: Namespace) -> Resource:
    return ns("services")


def test_defaults(services: Resource) -> None:
    """ClusterIP with an address of its own, TCP to the same port, no affinity, one family."""
    spec = services.create(service("web"))["spec"]
    address = spec.pop("clusterIP")
    assert ipaddress.ip_address(address)
    assert spec == {
        "type": "ClusterIP",
        "selector": WEB_LABELS,
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "clusterIPs": [address],
        "sessionAffinity": "None",
        "ipFamilies": [f"IPv{ipaddress.ip_address(address).version}"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
    }
    assert services.get("web")["status"] == {"loadBalancer": {}}


def test_addresses_are_not_shared(services: Resource) -> None:
    """Each Service has its own address."""
    made = [services.create(service(f"s{number}"))["spec"]["clusterIP"] for number in range(10)]
    assert len(set(made)) == 10


def test_an_address_that_is_taken(services: Resource) -> None:
    """An address can be asked for once; it is free again after deletion."""
    address = services.create(service("one"))["spec"]["clusterIP"]
    with refused(422, "Invalid", "provided IP is already allocated") as error:
        services.create(service("two", clusterIP=address))
    assert error.causes[0][0] == "spec.clusterIPs"
    services.delete("one")
    assert services.create(service("two", clusterIP=address))["spec"]["clusterIP"] == address


def test_headless(services: Resource) -> None:
    """clusterIP None has no address."""
    spec = services.create(service("web", clusterIP="None"))["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"]) == ("None", ["None"])


def test_external_name(services: Resource) -> None:
    """An ExternalName has a name and no address."""
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "far"}}
    spec = services.create(body | {"spec": {"type": "ExternalName", "externalName": "far.example.com"}})["spec"]
    assert "clusterIP" not in spec
    assert spec["externalName"] == "far.example.com"


def test_an_address_stays(services: Resource) -> None:
    """clusterIP is immutable; an update may leave it out and keeps it."""
    made = services.create(service("web"))
    with refused(422, "Invalid"):
        services.patch("web", {"spec": {"clusterIP": "None", "clusterIPs": ["None"]}})
    got = services.replace(service("web", ports=[{"port": 81}]))
    assert got["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    assert got["spec"]["ports"] == [{"port": 81, "protocol": "TCP", "targetPort": 81}]


def test_node_ports(services: Resource) -> None:
    """NodePort gives each port one of its own in the range."""
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    spec = services.create(service("web", type="NodePort", ports=ports))["spec"]
    given = [one["nodePort"] for one in spec["ports"]]
    assert all(30000 <= port <= 32767 for port in given)
    assert len(set(given)) == 2
    assert spec["externalTrafficPolicy"] == "Cluster"


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({"ports": []}, "spec.ports", "FieldValueRequired"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port", "FieldValueInvalid"),
        ({"ports": [{"port": 70000}]}, "spec.ports[0].port", "FieldValueInvalid"),
        ({"ports": [{"port": 80}, {"port": 81}]}, "spec.ports[0].name", "FieldValueRequired"),
        (
            {"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]},
            "spec.ports[1].name",
            "FieldValueDuplicate",
        ),
        ({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}, "spec.ports[1]", "FieldValueDuplicate"),
        ({"ports": [{"name": "Bad Name", "port": 80}]}, "spec.ports[0].name", "FieldValueInvalid"),
        (
            {"ports": [{"port": 80, "targetPort": "much-too-long-a-name"}]},
            "spec.ports[0].targetPort",
            "FieldValueInvalid",
        ),
        ({"ports": [{"port": 80, "protocol": "ICMP"}]}, "spec.ports[0].protocol", "FieldValueNotSupported"),
        ({"type": "Magic"}, "spec.type", "FieldValueNotSupported"),
        ({"sessionAffinity": "Maybe"}, "spec.sessionAffinity", "FieldValueNotSupported"),
        ({"clusterIP": "not-an-address"}, "spec.clusterIPs[0]", "FieldValueInvalid"),
        ({"type": "ExternalName"}, "spec.externalName", "FieldValueRequired"),
        ({"selector": {"-bad": "x"}}, "spec.selector", "FieldValueInvalid"),
        ({"ports": [{"port": 80, "nodePort": 30100}]}, "spec.ports[0].nodePort", "FieldValueForbidden"),
        ({"externalTrafficPolicy": "Local"}, "spec.externalTrafficPolicy", "FieldValueInvalid"),
    ],
    ids=range(16),
)
def test_services_that_are_wrong(services: Resource, spec: Json, field: str, reason: str) -> None:
    """Each rule names its field."""
    with refused(422, "Invalid") as error:
        services.create(service("web", **spec))
    assert (field, reason) in error.causes


def test_service_names_are_labels(services: Resource) -> None:
    """A Service's name is a DNS label."""
    for name in ("a.b", "x" * 64):
        with refused(422, "Invalid") as error:
            services.create(service(name))
        assert error.causes[0][0] == "metadata.name"


def slice_of(name: str, **fields: object) -> Json:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": 80}],
    } | fields


def test_slices(ns: Namespace) -> None:
    """An EndpointSlice keeps endpoints with conditions, and ports with defaults; its address type is fixed."""
    slices = ns("discovery.k8s.io/v1/endpointslices")
    made = slices.create(slice_of("web-1"))
    assert made["ports"] == [{"name": "http", "port": 80, "protocol": "TCP"}]
    assert made["endpoints"] == [{"addresses": ["10.1.2.3"], "conditions": {"ready": True}}]
    assert made["metadata"]["generation"] == 1
    changed = slices.patch("web-1", {"endpoints": [{"addresses": ["10.1.2.4"], "conditions": {"ready": False}}]})
    assert changed["metadata"]["generation"] == 2
    with refused(422, "Invalid") as error:
        slices.patch("web-1", {"addressType": "IPv6", "endpoints": [{"addresses": ["::1"]}]})
    assert ("addressType", "FieldValueInvalid") in error.causes


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"addressType": "Pigeon"}, "addressType"),
        ({"endpoints": [{"addresses": []}]}, "endpoints[0].addresses"),
        ({"endpoints": [{"addresses": ["x"]}]}, "endpoints[0].addresses[0]"),
        ({"endpoints": [{"addresses": ["127.0.0.1"]}]}, "endpoints[0].addresses[0]"),
        ({"endpoints": [{"addresses": ["169.254.0.1"]}]}, "endpoints[0].addresses[0]"),
        ({"endpoints": [{"addresses": ["0.0.0.0"]}]}, "endpoints[0].addresses[0]"),
        ({"endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "Bad_"}]}, "endpoints[0].nodeName"),
        ({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}, "ports[1].name"),
    ],
    ids=["type", "no-address", "no-ip", "loopback", "link-local", "unspecified", "node", "port-names"],
)
def test_slices_that_are_wrong(ns: Namespace, fields: Json, field: str) -> None:
    """Each rule names its field; loopback is no address of an endpoint."""
    with refused(422, "Invalid") as error:
        ns("discovery.k8s.io/v1/endpointslices").create(slice_of("web-1", **fields))
    assert field in {found for found, _ in error.causes}


@pytest.mark.needs_controllers
def test_ready_pods_stand_behind_a_service(ns: Namespace, pods: Resource, services: Resource, own, unique) -> None:
    """The slice of a Service lists the Pods that its selector finds, ready or not, by address and resolved port."""
    where = own("nodes", node(unique()))["metadata"]["name"]
    services.create(service("web", ports=[{"name": "http", "port": 80, "targetPort": "web"}]))
    ports = [{"containerPort": 8080, "name": "web"}]
    pods.create(pod("one", labels=WEB_LABELS, nodeName=where, containers=[container(ports=ports)]))
    ready = [{"type": "Ready", "status": "True"}]
    status = {"phase": "Running", "podIP": "10.9.8.7", "podIPs": [{"ip": "10.9.8.7"}], "conditions": ready}
    pods.patch("one", {"status": status}, "strategic", "status")
    slices = ns("discovery.k8s.io/v1/endpointslices")

    def has(ready_: bool) -> Json:
        with slices.watch(labelSelector="kubernetes.io/service-name=web") as watch:
            return watch.until(
                lambda event: any(
                    one["addresses"] == ["10.9.8.7"] and one["conditions"]["ready"] is ready_
                    for one in event.object["endpoints"] or []
                )
            ).object

    found = has(True)
    assert found["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert found["endpoints"][0]["targetRef"]["name"] == "one"
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Service", "web")
    not_ready = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    pods.patch("one", not_ready, "strategic", "status")
    has(False)
    pods.delete("one", gracePeriodSeconds=0)
