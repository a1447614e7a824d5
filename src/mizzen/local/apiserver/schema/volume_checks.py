"""What Kubernetes checks of the volumes that work on one machine, and of their mounts; in its words."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mizzen.kinds.scalars import quantity
from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema.causes import forbidden, invalid, not_supported, required, shown
from mizzen.local.apiserver.types import Json

_MODE_MAX = 0o777
_MODE_TEXT = "must be a number between 0 and 0777 (octal), both inclusive"
_DOWNWARD_FIELDS = (
    "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
)  # fmt: skip
RESOURCES = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage",
    "requests.memory",
)  # fmt: skip


def mounts(container: Json, volumes: set[Any]) -> Iterator[Cause]:
    """The `volumeMounts` of a container in a Pod with volumes of these names."""
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
        yield from _inside("volumeMounts.subPath", mount.get("subPath") or "")
        expression = mount.get("subPathExpr") or ""
        if expression and mount.get("subPath"):
            yield invalid(f"{place}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
        yield from _inside("volumeMounts.subPathExpr", expression)


def _inside(field: str, path: str) -> Iterator[Cause]:
    """A path that stays in the folder it begins in."""
    if path.startswith("/"):
        yield invalid(field, path, "must be a relative path")
    if ".." in path.split("/"):
        yield invalid(field, path, "must not contain '..'")


def _mode(value: Json, field: str) -> Iterator[Cause]:
    mode = value.get(field)
    if mode is not None and not 0 <= mode <= _MODE_MAX:
        yield invalid(field, mode, _MODE_TEXT)


def secret(value: Json) -> Iterator[Cause]:
    if not value.get("secretName"):
        yield required("secretName")
    yield from _mode(value, "defaultMode")


def config_map(value: Json) -> Iterator[Cause]:
    if not value.get("name"):
        yield required("name")
    yield from _mode(value, "defaultMode")


def named(value: Json) -> Iterator[Cause]:
    """A ConfigMap or Secret as a source of a projected volume."""
    if not value.get("name"):
        yield required("name")


def key_to_path(value: Json) -> Iterator[Cause]:
    if not value.get("key"):
        yield required("key")
    if not value.get("path"):
        yield required("path")
    yield from _inside("path", value.get("path") or "")
    yield from _mode(value, "mode")


def downward_file(value: Json) -> Iterator[Cause]:
    if not value.get("path"):
        yield required("path")
    yield from _inside("path", value.get("path") or "")
    field, resource = value.get("fieldRef"), value.get("resourceFieldRef")
    if field is not None and resource is not None:
        yield invalid("", "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
    elif field is not None:
        path = field.get("fieldPath") or ""
        if not path:
            yield required("fieldRef.fieldPath")
        elif path.partition("[")[0] not in _DOWNWARD_FIELDS:
            yield not_supported("fieldRef.fieldPath", path, _DOWNWARD_FIELDS)
    elif resource is None:
        yield required("", "one of fieldRef and resourceFieldRef is required")
    elif not resource.get("containerName"):
        yield required("resourceFieldRef.containerName")
    yield from _mode(value, "mode")


def resource_field(value: Json) -> Iterator[Cause]:
    resource = value.get("resource") or ""
    if not resource:
        yield required("resource")
    elif resource not in RESOURCES and "hugepages-" not in resource:
        yield not_supported("resource", resource, RESOURCES)


def host_path(value: Json) -> Iterator[Cause]:
    path = value.get("path") or ""
    if not path:
        yield required("path")
    elif ".." in path.split("/"):
        yield invalid("path", path, "must not contain '..'")


def claim(value: Json) -> Iterator[Cause]:
    if not value.get("claimName"):
        yield required("claimName")


def empty_dir(value: Json) -> Iterator[Cause]:
    size = value.get("sizeLimit")
    if size is not None and quantity(str(size)) < 0:
        yield forbidden("sizeLimit", "SizeLimit field must be a valid resource quantity")


def service_account_token(value: Json) -> Iterator[Cause]:
    seconds = value.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        yield invalid("expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
    if seconds is not None and seconds > 1 << 32:
        yield invalid("expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
    if not value.get("path"):
        yield required("path")
    yield from _inside("path", value.get("path") or "")


CHECKS: dict[str, Callable[[Json], Iterable[Cause]]] = {
    "core.v1.ConfigMapProjection": named,
    "core.v1.ConfigMapVolumeSource": config_map,
    "core.v1.DownwardAPIVolumeFile": downward_file,
    "core.v1.EmptyDirVolumeSource": empty_dir,
    "core.v1.HostPathVolumeSource": host_path,
    "core.v1.KeyToPath": key_to_path,
    "core.v1.PersistentVolumeClaimVolumeSource": claim,
    "core.v1.ResourceFieldSelector": resource_field,
    "core.v1.SecretProjection": named,
    "core.v1.SecretVolumeSource": secret,
    "core.v1.ServiceAccountTokenProjection": service_account_token,
}
