"""A container's environment, command and working folder: pure, from its spec and the objects it refers to.

The order is Kubernetes': what the node provides, then `envFrom`, then `env`, later ones winning; `$(NAME)` in a value
means a variable defined before it, `$$` is one dollar sign, and what is not known stays as it stands. What the node
promises (`MIZZEN_…`) cannot be overridden.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING

from mizzen.kinds.scalars import quantity
from mizzen.local.node.podspec import ContainerSpec, Json, PodSpec
from mizzen.local.node.references import Source, Sources, data_of

_REFERENCE = re.compile(r"\$\$|\$\(([^()]*)\)")
_SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['(.*)'\]$")


class ConfigError(Exception):
    """A container cannot be made as it stands: `CreateContainerConfigError`, or another reason. Tried again later."""

    def __init__(self, message: str, reason: str = "CreateContainerConfigError") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a Pod may ask about where it runs."""

    name: str
    address: str
    cpu: float
    """Cores to be had."""
    memory_bytes: int


def expand(text: str, known: Mapping[str, str]) -> str:
    """`$(NAME)` replaced by the value of a known variable; `$$(NAME)` stands for the text `$(NAME)`.

    >>> expand("$(HOST):$(PORT) $$(HOST) $(OTHER)", {"HOST": "h", "PORT": "1"})
    'h:1 $(HOST) $(OTHER)'
    """

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return known.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def environment(
    pod: PodSpec, container: ContainerSpec, provided: Mapping[str, str], sources: Sources, facts: NodeFacts
) -> dict[str, str]:
    """All variables of the container. Raises `ConfigError` where something it refers to is not there."""
    found = dict(provided)
    for entry in container.raw.get("envFrom") or ():
        found |= _all_keys(pod, entry, sources)
    for variable in container.raw.get("env") or ():
        value = _value(pod, container, variable, sources, facts, found)
        if value is not None:
            found[variable["name"]] = value
    return found | {name: value for name, value in provided.items() if name.startswith("MIZZEN_")}


def command(container: ContainerSpec, known: Mapping[str, str]) -> tuple[str, ...]:
    """The command line. Raises `ConfigError` where only the image knows what to run."""
    words = [*(container.raw.get("command") or ())]
    if not words:
        raise ConfigError(
            f"container {container.name!r} has no command: this node runs Pods as processes and cannot take the "
            f"command from the image {container.image!r}; set spec.containers[].command",
            "CreateContainerError",
        )
    return tuple(expand(word, known) for word in [*words, *(container.raw.get("args") or ())])


def _all_keys(pod: PodSpec, entry: Json, sources: Sources) -> dict[str, str]:
    kind, reference = ("ConfigMap", entry.get("configMapRef")), ("Secret", entry.get("secretRef"))
    found: dict[str, str] = {}
    for source_kind, origin in (kind, reference):
        if origin is None:
            continue
        data = _data(Source(source_kind, pod.namespace, origin.get("name", "")), origin, sources)  # type: ignore[arg-type]
        for key, value in sorted((data or {}).items()):
            found[f"{entry.get('prefix') or ''}{key}"] = _text(value, key)
    return found


def _data(source: Source, reference: Json, sources: Sources) -> dict[str, bytes] | None:
    """`None` where the object is not there and need not be."""
    found = sources.get(source)
    if found is None:
        if reference.get("optional"):
            return None
        raise ConfigError(f"{source.kind.lower()} {source.name!r} not found")
    return data_of(source.kind, found)


def _text(value: bytes, key: str) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"key {key!r}: expected text, found bytes that are not UTF-8; mount it as a file") from None
    if "\0" in text:
        raise ConfigError(f"key {key!r}: expected text, found a NUL byte; mount it as a file")
    return text


def _value(
    pod: PodSpec, container: ContainerSpec, variable: Json, sources: Sources, facts: NodeFacts, known: Mapping[str, str]
) -> str | None:
    """One variable's value; `None` where it is optional and not there."""
    origin = variable.get("valueFrom")
    if not origin:
        return expand(variable.get("value") or "", known)
    if "fieldRef" in origin:
        return field(pod, origin["fieldRef"].get("fieldPath", ""), facts)
    if "resourceFieldRef" in origin:
        return resource(pod, container, origin["resourceFieldRef"], facts)
    for kind, name in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
        reference = origin.get(name)
        if reference is None:
            continue
        source = Source(kind, pod.namespace, reference.get("name", ""))  # type: ignore[arg-type]
        data = _data(source, reference, sources)
        key = reference.get("key", "")
        if data is not None and key in data:
            return _text(data[key], key)
        if reference.get("optional"):
            return None
        raise ConfigError(f"couldn't find key {key} in {kind} {pod.namespace}/{source.name}")
    raise ConfigError(f"env {variable['name']}: valueFrom {sorted(origin)} is not known to this node")


def field(pod: PodSpec, path: str, facts: NodeFacts) -> str:
    """What a `fieldRef` names. Raises `ConfigError` for a path that is not supported."""
    subscript = _SUBSCRIPT.match(path)
    if subscript is not None:
        return (pod.labels if subscript[1] == "labels" else pod.annotations).get(subscript[2], "")
    match path:
        case "metadata.name":
            return pod.name
        case "metadata.namespace":
            return pod.namespace
        case "metadata.uid":
            return pod.uid
        case "metadata.labels":
            return _listed(pod.labels)
        case "metadata.annotations":
            return _listed(pod.annotations)
        case "spec.nodeName":
            return str(pod.spec.get("nodeName") or facts.name)
        case "spec.serviceAccountName":
            return str(pod.spec.get("serviceAccountName") or "default")
        case "status.podIP" | "status.podIPs" | "status.hostIP" | "status.hostIPs":
            return facts.address
    raise ConfigError(f"fieldRef {path!r} is not supported")


def _listed(pairs: Mapping[str, str]) -> str:
    """As the downward API writes labels: `key="value"` lines, sorted, quoted as Go quotes."""
    quoted = (
        f'{key}="{value}"'
        for key, raw in sorted(pairs.items())
        for value in [raw.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")]
    )
    return "\n".join(quoted)


def resource(pod: PodSpec, container: ContainerSpec, reference: Json, facts: NodeFacts) -> str:
    """What a `resourceFieldRef` names, in units of its divisor, rounded up; the node's own where there is no limit."""
    chosen = pod.container(reference.get("containerName") or container.name)
    if chosen is None:
        raise ConfigError(f"resourceFieldRef: there is no container {reference.get('containerName')!r}")
    kind, _, name = str(reference.get("resource", "")).partition(".")
    resources = chosen.raw.get("resources") or {}
    found = (resources.get(kind) or {}).get(name)
    if found is None and kind == "requests":
        found = (resources.get("limits") or {}).get(name) if name in (resources.get("limits") or {}) else "0"
    if found is None:
        whole = {"cpu": str(facts.cpu), "memory": str(facts.memory_bytes)}
        if name not in whole:
            raise ConfigError(f"resourceFieldRef: {reference.get('resource')!r} is not set")
        found = whole[name]
    divisor = quantity(str(reference.get("divisor") or "1")) or quantity("1")
    return str(math.ceil((quantity(str(found)) / divisor).quantize(quantity("0.000001"), ROUND_CEILING)))
