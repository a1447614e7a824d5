"""Columns and cells of the built-in kinds, as `kubectl get` on a cluster shows them. (Pods are in `pod_row`.)"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from mizzen.local.apiserver.schema.ages import age, human_duration, parsed_time
from mizzen.local.apiserver.schema.pod_row import pod_cells
from mizzen.local.apiserver.types import Column, Json

Cells = Callable[[Json, datetime], list[Any]]

NAME = Column("Name", "string", format="name", description="Name must be unique within a namespace.")
AGE = Column(
    "Age",
    "string",
    description="CreationTimestamp is a timestamp representing the server time when this object was created.",
)


def _columns(*names: str, wide: tuple[str, ...] = (), integers: tuple[str, ...] = ()) -> tuple[Column, ...]:
    known = {"Name": NAME, "Age": AGE}
    shown = [known.get(name) or Column(name, "integer" if name in integers else "string") for name in names]
    return (*shown, *(Column(name, "string", priority=1) for name in wide))


_TEMPLATE = ("Containers", "Images", "Selector")


def _age(obj: Json, now: datetime) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now)


def _name(obj: Json) -> str:
    return str(obj["metadata"].get("name", ""))


def _template(obj: Json) -> list[str]:
    spec = obj.get("spec", {})
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers") or []
    names, images = (",".join(item.get(key, "") for item in containers) for key in ("name", "image"))
    return [names, images, selector_text(spec.get("selector"))]


def selector_text(selector: Json | None) -> str:
    """A label selector as kubectl takes it: `app=web,tier in (a,b)`."""
    if selector is None:
        return "<none>"
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for rule in selector.get("matchExpressions") or ():
        key, values = rule["key"], ",".join(sorted(rule.get("values") or ()))
        shapes = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        parts.append(shapes.get(rule.get("operator"), "<error>"))
    return ",".join(sorted(parts, key=lambda part: part.lstrip("!"))) or "<none>"


def _deployment(obj: Json, now: datetime) -> list[Any]:
    spec, status = obj.get("spec", {}), obj.get("status", {})
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}"
    counts = [status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    return [_name(obj), ready, *counts, _age(obj, now), *_template(obj)]


def _replica_set(obj: Json, now: datetime) -> list[Any]:
    spec, status = obj.get("spec", {}), obj.get("status", {})
    counts = [spec.get("replicas", 1), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [_name(obj), *counts, _age(obj, now), *_template(obj)]


def _job(obj: Json, now: datetime) -> list[Any]:
    spec, status = obj.get("spec", {}), obj.get("status", {})
    done, wanted, parallel = status.get("succeeded", 0), spec.get("completions"), spec.get("parallelism", 0)
    shown = f"{done}/{wanted}" if wanted is not None else f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"
    start, end = parsed_time(status.get("startTime")), parsed_time(status.get("completionTime"))
    duration = "" if start is None else human_duration(((end or now) - start).total_seconds())
    true = {item["type"] for item in status.get("conditions") or () if item.get("status") == "True"}
    words = [("Complete", "Complete"), ("Failed", "Failed")]
    if obj["metadata"].get("deletionTimestamp"):
        true.add("deleted")
    words += [("deleted", "Terminating"), ("Suspended", "Suspended")]
    words += [("FailureTarget", "FailureTarget"), ("SuccessCriteriaMet", "SuccessCriteriaMet")]
    word = next((shown for condition, shown in words if condition in true), "Running")
    return [_name(obj), word, shown, duration, _age(obj, now), *_template(obj)]


def _service(obj: Json, now: datetime) -> list[Any]:
    spec = obj.get("spec", {})
    ips = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    ports = []
    for port in spec.get("ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        ports.append(f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}")
    selector = ",".join(f"{key}={value}" for key, value in sorted((spec.get("selector") or {}).items()))
    return [
        _name(obj), spec.get("type", "ClusterIP"), ips[0] if ips else "<none>",
        _external_ip(spec, obj.get("status", {})), ",".join(ports) or "<none>", _age(obj, now), selector or "<none>",
    ]  # fmt: skip


def _external_ip(spec: Json, status: Json) -> str:
    kind, external = spec.get("type", "ClusterIP"), list(spec.get("externalIPs") or ())
    if kind == "ExternalName":
        return str(spec.get("externalName", ""))
    if kind == "LoadBalancer":
        ingress = (status.get("loadBalancer") or {}).get("ingress") or []
        given = sorted({item.get("ip") or item.get("hostname") or "" for item in ingress})
        return ",".join([*given, *external]) or "<pending>"
    return ",".join(external) or "<none>"


def _node(obj: Json, now: datetime) -> list[Any]:
    status, info = obj.get("status", {}), obj.get("status", {}).get("nodeInfo") or {}
    ready = next((item for item in status.get("conditions") or () if item.get("type") == "Ready"), None)
    words = ["Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"]
    if obj.get("spec", {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    prefix = "node-role.kubernetes.io/"
    labels = obj["metadata"].get("labels") or {}
    roles = {key.removeprefix(prefix) for key in labels if key.startswith(prefix)} | {
        labels.get("kubernetes.io/role", "")
    }
    addresses = {item.get("type"): item.get("address") for item in reversed(status.get("addresses") or [])}
    architecture = f" ({info['architecture']})" if info.get("architecture") else ""
    return [
        _name(obj), ",".join(words), ",".join(sorted(roles - {""})) or "<none>", _age(obj, now),
        info.get("kubeletVersion", ""), addresses.get("InternalIP", "<none>"), addresses.get("ExternalIP", "<none>"),
        info.get("osImage") or "<unknown>", f"{info.get('kernelVersion') or '<unknown>'}{architecture}",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]  # fmt: skip


def _event(obj: Json, now: datetime) -> list[Any]:
    """An Event of either API: core's field names, else those of events.k8s.io."""
    involved = obj.get("involvedObject") or obj.get("regarding") or {}
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    series = obj.get("series")
    first = age(obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime"), now)
    latest = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp")
    last = age(latest, now) if latest else first
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    if series is not None:
        last, count = age(series.get("lastObservedTime"), now), series.get("count", 0)
    kind, name = involved.get("kind", "").lower(), involved.get("name", "")
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    return [
        last, obj.get("type", ""), obj.get("reason", ""), f"{kind}/{name}" if name else kind,
        involved.get("fieldPath", ""), f"{component}, {host}" if host else component,
        (obj.get("message") or obj.get("note") or "").strip(), first, count, _name(obj),
    ]  # fmt: skip


def _listed(items: Iterable[str]) -> str:
    """At most three, and how many more."""
    every = list(items)
    if not every:
        return "<unset>"
    return ",".join(every[:3]) + (f" + {len(every) - 3} more..." if len(every) > 3 else "")


def _endpoint_slice(obj: Json, now: datetime) -> list[Any]:
    ports = [str(item.get("port") or item.get("name") or "*") for item in obj.get("ports") or ()]
    addresses = [address for item in obj.get("endpoints") or () for address in item.get("addresses") or ()]
    return [_name(obj), obj.get("addressType", ""), _listed(ports), _listed(addresses), _age(obj, now)]


def _binding(obj: Json, now: datetime) -> list[Any]:
    ref, named = obj.get("roleRef") or {}, dict[str, list[str]](User=[], Group=[], ServiceAccount=[])
    for subject in obj.get("subjects") or ():
        name = subject.get("name", "")
        shown = f"{subject.get('namespace', '')}/{name}" if subject.get("kind") == "ServiceAccount" else name
        named.setdefault(subject.get("kind", ""), []).append(shown)
    role = f"{ref.get('kind', '')}/{ref.get('name', '')}"
    return [_name(obj), role, _age(obj, now), *(", ".join(named[kind]) for kind in ("User", "Group", "ServiceAccount"))]


def _plain(*cells: Callable[[Json], Any]) -> Cells:
    """Name, what these functions say, and age."""
    return lambda obj, now: [_name(obj), *(cell(obj) for cell in cells), _age(obj, now)]


_CREATED = (NAME, Column("Created At", "date", description=AGE.description))
_BINDING = _columns("Name", "Role", "Age", wide=("Users", "Groups", "ServiceAccounts"))
_EVENT = (
    *_columns("Last Seen", "Type", "Reason", "Object", wide=("Subobject", "Source")), Column("Message", "string"),
    *_columns(wide=("First Seen", "Count")), Column("Name", "string", format="name", priority=1),
)  # fmt: skip

ROWS: dict[tuple[str, str], tuple[tuple[Column, ...], Cells]] = {
    ("", "Pod"): (
        _columns(
            "Name", "Ready", "Status", "Restarts", "Age", wide=("IP", "Node", "Nominated Node", "Readiness Gates")
        ),
        pod_cells,
    ),
    ("apps", "Deployment"): (_columns("Name", "Ready", "Up-to-date", "Available", "Age", wide=_TEMPLATE), _deployment),
    ("apps", "ReplicaSet"): (
        _columns(
            "Name", "Desired", "Current", "Ready", "Age", wide=_TEMPLATE, integers=("Desired", "Current", "Ready")
        ),
        _replica_set,
    ),
    ("batch", "Job"): (_columns("Name", "Status", "Completions", "Duration", "Age", wide=_TEMPLATE), _job),
    ("", "Service"): (
        _columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", wide=("Selector",)),
        _service,
    ),
    ("", "Node"): (
        _columns(
            "Name", "Status", "Roles", "Age", "Version",
            wide=("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"),
        ),
        _node,
    ),
    ("", "Event"): (_EVENT, _event),
    ("events.k8s.io", "Event"): (_EVENT, _event),
    ("", "Namespace"): (_columns("Name", "Status", "Age"), _plain(lambda obj: obj.get("status", {}).get("phase", ""))),
    ("", "Secret"): (
        _columns("Name", "Type", "Data", "Age"),
        _plain(lambda obj: obj.get("type", ""), lambda obj: len(obj.get("data") or ())),
    ),
    ("", "ConfigMap"): (
        _columns("Name", "Data", "Age"),
        _plain(lambda obj: len(obj.get("data") or ()) + len(obj.get("binaryData") or ())),
    ),
    ("", "ServiceAccount"): (_columns("Name", "Age"), _plain()),
    ("coordination.k8s.io", "Lease"): (
        _columns("Name", "Holder", "Age"),
        _plain(lambda obj: (obj.get("spec") or {}).get("holderIdentity", "")),
    ),
    ("discovery.k8s.io", "EndpointSlice"): (
        _columns("Name", "AddressType", "Ports", "Endpoints", "Age"),
        _endpoint_slice,
    ),
    ("rbac.authorization.k8s.io", "RoleBinding"): (_BINDING, _binding),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): (_BINDING, _binding),
}  # fmt: skip
"""By group and kind. Kinds that are not here show their name and when they were created."""

CREATED_AT: tuple[tuple[Column, ...], Cells] = (
    _CREATED,
    lambda obj, _: [_name(obj), obj["metadata"].get("creationTimestamp")],
)
