"""What Kubernetes checks of the identity and the rights that Pods and their containers ask for."""

from collections.abc import Callable, Iterable, Iterator

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema.causes import invalid, not_supported, required
from mizzen.local.apiserver.types import Json

_ID_MAX = 2**31 - 1
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")


def _ids(value: Json, *fields: str) -> Iterator[Cause]:
    """Users and groups."""
    for field in fields:
        if value.get(field) is not None and not 0 <= value[field] <= _ID_MAX:
            yield invalid(field, value[field], f"must be between 0 and {_ID_MAX}, inclusive")


def pod_security(value: Json) -> Iterator[Cause]:
    yield from _ids(value, "fsGroup", "runAsUser", "runAsGroup")
    for index, group in enumerate(value.get("supplementalGroups") or ()):
        if not 0 <= group <= _ID_MAX:
            yield invalid(f"supplementalGroups[{index}]", group, f"must be between 0 and {_ID_MAX}, inclusive")


def container_security(value: Json) -> Iterator[Cause]:
    yield from _ids(value, "runAsUser", "runAsGroup")
    if value.get("allowPrivilegeEscalation") is not False:
        return
    if value.get("privileged"):
        yield invalid("", value, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
    if "CAP_SYS_ADMIN" in ((value.get("capabilities") or {}).get("add") or ()):
        detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
        yield invalid("", value, detail)


def seccomp(value: Json) -> Iterator[Cause]:
    if not value.get("type"):
        yield not_supported("type", "", _PROFILES)
    yield from _local_profile(value, "seccomp")


def app_armor(value: Json) -> Iterator[Cause]:
    if not value.get("type"):
        yield required("type", "type is required when appArmorProfile is set")
    yield from _local_profile(value, "AppArmor")


def _local_profile(value: Json, which: str) -> Iterator[Cause]:
    """A file of the node is named for the type `Localhost` and for no other."""
    local, is_local = value.get("localhostProfile"), value.get("type") == "Localhost"
    if is_local and not local:
        yield required("localhostProfile", f"must be set when {which} type is Localhost")
    if not is_local and local is not None:
        yield invalid("localhostProfile", local, f"can only be set when {which} type is Localhost")


CHECKS: dict[str, Callable[[Json], Iterable[Cause]]] = {
    "core.v1.PodSecurityContext": pod_security,
    "core.v1.SecurityContext": container_security,
    "core.v1.AppArmorProfile": app_armor,
    "core.v1.SeccompProfile": seccomp,
}
