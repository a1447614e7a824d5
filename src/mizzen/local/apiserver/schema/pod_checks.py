"""What Kubernetes checks of Pods and their templates, beyond types and enums, in its words.

Each check takes one object and yields causes with fields named from that object on. Where a Pod may run is checked in
`placement_checks`, as whom in `security_checks`. Not checked, since nothing on one machine depends on it: Windows, and
most volume types.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mizzen.kinds.scalars import quantity
from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import names
from mizzen.local.apiserver.schema.causes import child, duplicate, forbidden, invalid, not_supported, required, shown
from mizzen.local.apiserver.schema.placement_checks import pod_placement
from mizzen.local.apiserver.types import Json

_FIELD_PATHS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP",
    "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
_SUBSCRIPTED = re.compile(r"^(?P<path>metadata\.(?:labels|annotations))\['(?P<key>.*)'\]$")
_PORT_NAME = re.compile(r"^[a-z0-9-]+$")
_ENV_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS = (*_PROBE_HANDLERS, "sleep")
_OPERATING_SYSTEMS = ("linux", "windows")
_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
_NAMESERVERS_MAX = 3
_SEARCHES_MAX = 32
INT32_MAX = 2**31 - 1


def in_range(field: str, value: int, low: int, high: int) -> Iterator[Cause]:
    if not low <= value <= high:
        yield invalid(field, value, f"must be between {low} and {high}, inclusive")


def non_negative(value: Json, *fields: str) -> Iterator[Cause]:
    for field in fields:
        if (value.get(field) or 0) < 0:
            yield invalid(field, value[field], "must be greater than or equal to 0")


def at(path: str, causes: Iterable[Cause]) -> Iterator[Cause]:
    """The causes with their fields under `path`."""
    return (Cause(cause.reason, cause.message, child(path, cause.field)) for cause in causes)


def port_number(field: str, value: Any) -> Iterator[Cause]:
    if isinstance(value, int):
        yield from in_range(field, value, 1, 65535)


def port_name(field: str, value: str) -> Iterator[Cause]:
    if len(value) > 15:
        yield invalid(field, value, "must be no more than 15 characters")
    if not _PORT_NAME.match(value):
        yield invalid(field, value, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= character <= "z" for character in value):
        yield invalid(field, value, "must contain at least one letter (a-z)")
    if "--" in value:
        yield invalid(field, value, "must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        yield invalid(field, value, "must not begin or end with a hyphen")


def pod_spec(value: Json) -> Iterator[Cause]:
    volumes = value.get("volumes") or []
    containers, inits = value.get("containers") or [], value.get("initContainers") or []
    yield from _unique_names(volumes, "volumes")
    known = {volume.get("name") for volume in volumes}
    if not containers:
        yield required("containers")
    for place, listed in (("containers", containers), ("initContainers", inits)):
        for index, container in enumerate(listed):
            yield from at(f"{place}[{index}]", _mounts(container, known))
    yield from _unique_names(containers, "containers")
    yield from _unique_names(inits, "initContainers", {container.get("name") for container in containers})
    for index, container in enumerate(inits):
        if container.get("restartPolicy") != "Always":
            for field in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
                if container.get(field) is not None:
                    detail = "may not be set for init containers without restartPolicy=Always"
                    yield forbidden(f"initContainers[{index}].{field}", detail)
    for key, text in (value.get("nodeSelector") or {}).items():
        yield from (invalid("nodeSelector", key, reason) for reason in names.qualified_name(key))
        yield from (invalid("nodeSelector", text, reason) for reason in names.label_value(text))
    for field, check in (("serviceAccountName", names.dns_subdomain), ("nodeName", names.dns_subdomain),
                         ("hostname", names.dns_label), ("subdomain", names.dns_label)):  # fmt: skip
        if value.get(field):
            yield from (invalid(field, value[field], reason) for reason in check(value[field]))
    if value.get("activeDeadlineSeconds") is not None:
        yield from in_range("activeDeadlineSeconds", value["activeDeadlineSeconds"], 1, INT32_MAX)
    yield from pod_placement(value)
    yield from _dns(value)
    yield from _host_ports(value)


def pod(value: Json) -> Iterator[Cause]:
    """What holds for Pods and not for the templates they are made from."""
    spec = value.get("spec") or {}
    if spec.get("ephemeralContainers"):
        yield forbidden("spec.ephemeralContainers", "cannot be set on create")
    if spec.get("nodeName") and spec.get("schedulingGates"):
        yield forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared")
    for place, index, one in _containers(spec):
        image = one.get("image") or ""
        if image != image.strip():
            yield invalid(f"spec.{place}[{index}].image", image, "must not have leading or trailing whitespace")


def _containers(spec: Json) -> Iterator[tuple[str, int, Json]]:
    for place in ("containers", "initContainers"):
        yield from ((place, index, one) for index, one in enumerate(spec.get(place) or ()))


def _dns(spec: Json) -> Iterator[Cause]:
    config = spec.get("dnsConfig")
    servers, searches = (config or {}).get("nameservers") or [], (config or {}).get("searches") or []
    if spec.get("dnsPolicy") == "None" and config is None:
        yield required("dnsConfig", "must provide `dnsConfig` when `dnsPolicy` is None")
    elif spec.get("dnsPolicy") == "None" and not servers:
        detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        yield required("dnsConfig.nameservers", detail)
    if len(servers) > _NAMESERVERS_MAX:
        yield invalid("dnsConfig.nameservers", servers, f"must not have more than {_NAMESERVERS_MAX} nameservers")
    if len(searches) > _SEARCHES_MAX:
        yield invalid("dnsConfig.searches", searches, f"must not have more than {_SEARCHES_MAX} search paths")


def _host_ports(spec: Json) -> Iterator[Cause]:
    """Each port of the host once; on the host's network it is the container's."""
    seen = set()
    for place, index, one in _containers(spec):
        for number, port in enumerate(one.get("ports") or ()):
            field, host_port = f"{place}[{index}].ports[{number}].hostPort", port.get("hostPort") or 0
            if host_port and spec.get("hostNetwork") and host_port != port.get("containerPort"):
                yield invalid(field, host_port, "must match `containerPort` when `hostNetwork` is true")
            taken = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{host_port}"
            if host_port and (place, taken) in seen:
                yield duplicate(field, taken)
            seen.add((place, taken))


def operating_system(value: Json) -> Iterator[Cause]:
    if not value.get("name"):
        yield required("name")
    elif value["name"] not in _OPERATING_SYSTEMS:
        yield not_supported("", value["name"], _OPERATING_SYSTEMS)


def _unique_names(items: list[Json], place: str, taken: Iterable[Any] = ()) -> Iterator[Cause]:
    seen = set(taken)
    for index, item in enumerate(items):
        name = item.get("name")
        if name and name in seen:
            yield duplicate(f"{place}[{index}].name", name)
        seen.add(name)


def _mounts(container: Json, volumes: set[Any]) -> Iterator[Cause]:
    paths = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        place, name, path = f"volumeMounts[{index}]", mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            yield required(f"{place}.name")
        if name not in volumes:
            yield Cause("FieldValueNotFound", f"Not found: {shown(name)}", f"{place}.name")
        if not path:
            yield required(f"{place}.mountPath")
        elif path in paths:
            yield invalid(f"{place}.mountPath", path, "must be unique")
        paths.add(path)


def container(value: Json) -> Iterator[Cause]:
    if not value.get("name"):
        yield required("name")
    else:
        yield from (invalid("name", value["name"], reason) for reason in names.dns_label(value["name"]))
    if not value.get("image"):
        yield required("image")
    seen = set()
    for index, port in enumerate(value.get("ports") or ()):
        name = port.get("name")
        if name and name in seen:
            yield duplicate(f"ports[{index}].name", name)
        seen.add(name)
    for field in ("readinessProbe", "livenessProbe", "startupProbe"):
        probe = value.get(field)
        if probe is not None and field != "readinessProbe" and (probe.get("successThreshold") or 1) != 1:
            yield invalid(f"{field}.successThreshold", probe["successThreshold"], "must be 1")
    if value.get("restartPolicy") and value["restartPolicy"] not in {"Always", "OnFailure", "Never"}:
        yield not_supported("restartPolicy", value["restartPolicy"], ("Always", "OnFailure", "Never"))


def container_port(value: Json) -> Iterator[Cause]:
    if value.get("name"):
        yield from port_name("name", value["name"])
    if not value.get("containerPort"):
        yield required("containerPort")
    else:
        yield from port_number("containerPort", value["containerPort"])
    if value.get("hostPort"):
        yield from port_number("hostPort", value["hostPort"])


def env_var(value: Json) -> Iterator[Cause]:
    name = value.get("name") or ""
    if not name:
        yield required("name")
    elif not all(" " <= character <= "~" and character != "=" for character in name):
        detail = "a valid environment variable name must consist only of printable ASCII characters other than '='"
        yield invalid("name", name, detail)
    source = value.get("valueFrom")
    if source is None:
        return
    given = [field for field in _ENV_SOURCES if source.get(field) is not None]
    if not given:
        detail = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        )
        yield invalid("valueFrom", "", detail)
    elif value.get("value"):
        yield invalid("valueFrom", "", "may not be specified when `value` is not empty")
    elif len(given) > 1:
        yield invalid("valueFrom", "", "may not have more than one field specified at a time")
    if source.get("fieldRef") is not None:
        yield from at("valueFrom.fieldRef", _field_ref(source["fieldRef"]))


def _field_ref(value: Json) -> Iterator[Cause]:
    path = value.get("fieldPath") or ""
    subscripted = _SUBSCRIPTED.match(path)
    if not path:
        yield required("fieldPath")
    elif subscripted is not None:
        key = subscripted["key"]
        checked = key.lower() if subscripted["path"] == "metadata.annotations" else key
        yield from (invalid("", key, reason) for reason in names.qualified_name(checked))
    elif path not in _FIELD_PATHS:
        yield invalid("fieldPath", path, f"error converting fieldPath: field label not supported: {path}")


def key_reference(value: Json) -> Iterator[Cause]:
    """A key of a Secret or ConfigMap."""
    if not value.get("key"):
        yield required("key")
    else:
        yield from (invalid("key", value["key"], reason) for reason in names.config_key(value["key"]))


def volume(value: Json) -> Iterator[Cause]:
    name = value.get("name") or ""
    sources = [field for field in value if field != "name" and value[field] is not None]
    if not sources:
        yield required("", "must specify a volume type")
    for extra in sources[1:]:
        yield forbidden(extra, "may not specify more than 1 volume type")
    if not name:
        yield required("name")
    else:
        yield from (invalid("name", name, reason) for reason in names.dns_label(name))


def _handler(value: Json, kinds: Iterable[str]) -> Iterator[Cause]:
    given = [field for field in kinds if value.get(field) is not None]
    if not given:
        yield required("", "must specify a handler type")
    for extra in given[1:]:
        yield forbidden(extra, "may not specify more than 1 handler type")


def lifecycle_handler(value: Json) -> Iterator[Cause]:
    yield from _handler(value, _HOOK_HANDLERS)


def probe(value: Json) -> Iterator[Cause]:
    yield from _handler(value, _PROBE_HANDLERS)
    fields = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
    yield from non_negative(value, *fields)


def http_get(value: Json) -> Iterator[Cause]:
    yield from _handler_port(value)
    if not value.get("path"):
        yield required("path")


def _handler_port(value: Json) -> Iterator[Cause]:
    port = value.get("port")
    if isinstance(port, int):
        yield from port_number("port", port)
    else:
        yield from port_name("port", port or "")


def exec_action(value: Json) -> Iterator[Cause]:
    if not value.get("command"):
        yield required("command")


def resource_name(name: str) -> Iterator[Cause]:
    """What a container may ask for: what Kubernetes knows, or a device of somebody's domain."""
    errors = names.qualified_name(name)
    yield from (invalid("", name, reason) for reason in errors)
    if errors or name in _RESOURCES or name.startswith("hugepages-"):
        return
    if "/" not in name:
        yield invalid("", name, "must be a standard resource type or fully qualified")
        yield invalid("", name, "must be a standard resource for containers")
    elif "kubernetes.io/" not in name and (name.startswith("requests.") or names.qualified_name(f"requests.{name}")):
        yield invalid("", name, "doesn't follow extended resource name standard")


def named_source(*fields: str) -> Callable[[Json], Iterable[Cause]]:
    """A volume's source that is nothing without these."""
    return lambda value: (required(field) for field in fields if not value.get(field))


def resources(value: Json) -> Iterator[Cause]:
    limits, requests = value.get("limits") or {}, value.get("requests") or {}
    for place, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            yield from at(f"{place}[{name}]", resource_name(name))
            if quantity(str(amount)) < 0:
                yield invalid(f"{place}[{name}]", str(amount), "must be greater than or equal to 0")
    for name, amount in requests.items():
        if name in limits and quantity(str(amount)) > quantity(str(limits[name])):
            detail = f"must be less than or equal to {name} limit of {limits[name]}"
            yield invalid("requests", str(amount), detail)


CHECKS: dict[str, Callable[[Json], Iterable[Cause]]] = {
    "core.v1.ConfigMapKeySelector": key_reference,
    "core.v1.ConfigMapVolumeSource": named_source("name"),
    "core.v1.Container": container,
    "core.v1.ContainerPort": container_port,
    "core.v1.EnvVar": env_var,
    "core.v1.ExecAction": exec_action,
    "core.v1.HTTPGetAction": http_get,
    "core.v1.HostPathVolumeSource": named_source("path"),
    "core.v1.LifecycleHandler": lifecycle_handler,
    "core.v1.PersistentVolumeClaimVolumeSource": named_source("claimName"),
    "core.v1.Pod": pod,
    "core.v1.PodOS": operating_system,
    "core.v1.PodSpec": pod_spec,
    "core.v1.Probe": probe,
    "core.v1.ResourceRequirements": resources,
    "core.v1.SecretKeySelector": key_reference,
    "core.v1.SecretVolumeSource": named_source("secretName"),
    "core.v1.TCPSocketAction": _handler_port,
    "core.v1.Volume": volume,
}
