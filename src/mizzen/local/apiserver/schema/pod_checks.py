"""What Kubernetes checks of Pods and their templates, beyond types and enums, in its words.

Each check takes one object and yields causes with fields named from that object on. Where a Pod may run is checked in
`scheduling_checks`. Not checked, since nothing on one machine depends on it: Windows and most volume types.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mizzen.kinds.scalars import quantity
from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import names, scheduling_checks
from mizzen.local.apiserver.schema.causes import child, duplicate, forbidden, invalid, not_supported, required, shown
from mizzen.local.apiserver.types import Json

_FIELD_PATHS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP",
    "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
_SUBSCRIPTED = re.compile(r"^(?P<path>metadata\.(?:labels|annotations))\['(?P<key>.*)'\]$")
_PORT_NAME = re.compile(r"^[a-z0-9-]+$")
_ENV_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
_OPERATING_SYSTEMS = ("linux", "windows")
_CONTAINER_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
_RESOURCES = _CONTAINER_RESOURCES | {
    "requests.cpu", "requests.memory", "requests.ephemeral-storage", "limits.cpu", "limits.memory",
    "limits.ephemeral-storage", "pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps",
    "persistentvolumeclaims", "storage", "requests.storage", "services.nodeports", "services.loadbalancers",
}  # fmt: skip
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
    if value.get("dnsPolicy") == "None":
        yield from _own_dns(value.get("dnsConfig"))
    system = value.get("os")
    if system is not None and not system.get("name"):
        yield required("os.name")
    elif system is not None and system["name"] not in _OPERATING_SYSTEMS:
        yield not_supported("os", system["name"], _OPERATING_SYSTEMS)
    yield from scheduling_checks.pod_spec(value)


def _own_dns(config: Json | None) -> Iterator[Cause]:
    if config is None:
        yield required("dnsConfig", "must provide `dnsConfig` when `dnsPolicy` is None")
    elif not config.get("nameservers"):
        detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        yield required("dnsConfig.nameservers", detail)


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
    image = value.get("image") or ""
    if not image:
        yield required("image")
    elif image != image.strip():
        yield invalid("image", image, "must not have leading or trailing whitespace")
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


def secret_volume(value: Json) -> Iterator[Cause]:
    if not value.get("secretName"):
        yield required("secretName")


def config_map_volume(value: Json) -> Iterator[Cause]:
    if not value.get("name"):
        yield required("name")


def _one_handler(value: Json, handlers: tuple[str, ...]) -> Iterator[Cause]:
    given = [field for field in handlers if value.get(field) is not None]
    if not given:
        yield required("", "must specify a handler type")
    for extra in given[1:]:
        yield forbidden(extra, "may not specify more than 1 handler type")


def hook(value: Json) -> Iterator[Cause]:
    yield from _one_handler(value, _HOOK_HANDLERS)


def probe(value: Json) -> Iterator[Cause]:
    yield from _one_handler(value, _PROBE_HANDLERS)
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


def resources(value: Json) -> Iterator[Cause]:
    limits, requests = value.get("limits") or {}, value.get("requests") or {}
    for place, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            yield from _resource_name(f"{place}[{name}]", name)
            if quantity(str(amount)) < 0:
                yield invalid(f"{place}[{name}]", str(amount), "must be greater than or equal to 0")
    for name, amount in requests.items():
        if name in limits and quantity(str(amount)) > quantity(str(limits[name])):
            detail = f"must be less than or equal to {name} limit of {limits[name]}"
            yield invalid("requests", str(amount), detail)


def _resource_name(field: str, name: str) -> Iterator[Cause]:
    errors = names.qualified_name(name)
    yield from (invalid(field, name, reason) for reason in errors)
    if "/" not in name:
        huge = name.startswith("hugepages-")
        if not errors and not huge and name not in _RESOURCES:
            yield invalid(field, name, "must be a standard resource type or fully qualified")
        if not huge and name not in _CONTAINER_RESOURCES:
            yield invalid(field, name, "must be a standard resource for containers")
    elif "kubernetes.io/" not in name and (name.startswith("requests.") or names.qualified_name(f"requests.{name}")):
        yield invalid(field, name, "doesn't follow extended resource name standard")


def security_context(value: Json) -> Iterator[Cause]:
    """Of a container."""
    yield from _identities(value, "runAsUser", "runAsGroup")
    if value.get("allowPrivilegeEscalation") is False:
        if value.get("privileged"):
            yield invalid("", value, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
        if "CAP_SYS_ADMIN" in ((value.get("capabilities") or {}).get("add") or ()):
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            yield invalid("", value, detail)


def pod_security_context(value: Json) -> Iterator[Cause]:
    yield from _identities(value, "fsGroup", "runAsUser", "runAsGroup")
    for index, group in enumerate(value.get("supplementalGroups") or ()):
        yield from in_range(f"supplementalGroups[{index}]", group, 0, INT32_MAX)


def _identities(value: Json, *fields: str) -> Iterator[Cause]:
    for field in fields:
        if value.get(field) is not None:
            yield from in_range(field, value[field], 0, INT32_MAX)


CHECKS: dict[str, Callable[[Json], Iterable[Cause]]] = scheduling_checks.CHECKS | {
    "core.v1.ConfigMapKeySelector": key_reference,
    "core.v1.ConfigMapVolumeSource": config_map_volume,
    "core.v1.Container": container,
    "core.v1.ContainerPort": container_port,
    "core.v1.EnvVar": env_var,
    "core.v1.ExecAction": exec_action,
    "core.v1.HTTPGetAction": http_get,
    "core.v1.LifecycleHandler": hook,
    "core.v1.PodSecurityContext": pod_security_context,
    "core.v1.PodSpec": pod_spec,
    "core.v1.Probe": probe,
    "core.v1.ResourceRequirements": resources,
    "core.v1.SecretKeySelector": key_reference,
    "core.v1.SecretVolumeSource": secret_volume,
    "core.v1.SecurityContext": security_context,
    "core.v1.TCPSocketAction": _handler_port,
    "core.v1.Volume": volume,
}
