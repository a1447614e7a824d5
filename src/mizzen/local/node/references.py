"""What a Pod refers to: the ConfigMaps and Secrets in its namespace, and which of them must be there."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mizzen.local.node.podspec import Json, PodSpec

SourceKind = Literal["ConfigMap", "Secret"]


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """One ConfigMap or Secret."""

    kind: SourceKind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()} {self.name!r}"


Sources = Mapping[Source, Json | None]
"""The objects a Pod refers to; `None` for one that is not there."""


def sources_of(pod: PodSpec) -> frozenset[Source]:
    """All that the containers' environments and the volumes refer to."""
    found = {
        Source(kind, pod.namespace, name)
        for container in pod.containers
        for kind, name in _in_environment(container.raw)
    }
    for volume in pod.spec.get("volumes") or ():
        found |= {Source(kind, pod.namespace, name) for kind, name in _in_volume(volume)}
    return frozenset(found)


def _in_environment(container: Json) -> Iterator[tuple[SourceKind, str]]:
    for entry in container.get("envFrom") or ():
        if "configMapRef" in entry:
            yield "ConfigMap", entry["configMapRef"].get("name", "")
        if "secretRef" in entry:
            yield "Secret", entry["secretRef"].get("name", "")
    for variable in container.get("env") or ():
        origin = variable.get("valueFrom") or {}
        if "configMapKeyRef" in origin:
            yield "ConfigMap", origin["configMapKeyRef"].get("name", "")
        if "secretKeyRef" in origin:
            yield "Secret", origin["secretKeyRef"].get("name", "")


def _in_volume(volume: Json) -> Iterator[tuple[SourceKind, str]]:
    if "configMap" in volume:
        yield "ConfigMap", volume["configMap"].get("name", "")
    if "secret" in volume:
        yield "Secret", volume["secret"].get("secretName", "")
    for projection in (volume.get("projected") or {}).get("sources") or ():
        if "configMap" in projection:
            yield "ConfigMap", projection["configMap"].get("name", "")
        if "secret" in projection:
            yield "Secret", projection["secret"].get("name", "")


def data_of(kind: SourceKind, found: Mapping[str, Any]) -> dict[str, bytes]:
    """The keys and bytes of a ConfigMap or Secret."""
    if kind == "Secret":
        return {key: _decoded(value) for key, value in (found.get("data") or {}).items()}
    binary = {key: _decoded(value) for key, value in (found.get("binaryData") or {}).items()}
    return {key: str(value).encode() for key, value in (found.get("data") or {}).items()} | binary


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value or "", validate=True)
    except binascii.Error:
        return b""  # an API server would not have taken it
