"""What a Pod asks for that a node without containers cannot give: said in an event, never silently wrong.

Pure: a Pod in, sentences out. What cannot be started at all is not here (see `environment.command`, `volumes.payload`).
"""

from collections.abc import Iterator

from mizzen.local.node.podspec import ContainerSpec, Json, PodSpec

_POD_FIELDS = {
    "hostPID": "Pods share the machine's process numbers in any case",
    "hostIPC": "Pods share the machine's IPC in any case",
    "shareProcessNamespace": "Pods share the machine's process numbers in any case",
    "runtimeClassName": "there is one runtime: processes",
    "dnsConfig": "names are resolved as on the machine",
    "hostAliases": "names are resolved as on the machine",
    "subdomain": "names are resolved as on the machine",
    "resourceClaims": "devices are not allocated; the process sees those of the machine",
    "overhead": "there is no overhead",
    "ephemeralContainers": "ephemeral containers are not started",
}
_SECURITY_FIELDS = {
    "privileged": "the process has the rights of the node's user",
    "runAsUser": "the process runs as the node's user",
    "runAsGroup": "the process runs as the node's user",
    "runAsNonRoot": "the process runs as the node's user",
    "supplementalGroups": "the process runs as the node's user",
    "fsGroup": "volumes belong to the node's user",
    "readOnlyRootFilesystem": "the machine's file system is as writable as it is to the node's user",
    "seccompProfile": "no profile is applied",
    "appArmorProfile": "no profile is applied",
    "seLinuxOptions": "no label is applied",
    "sysctls": "kernel parameters are the machine's",
}
_CONTAINER_FIELDS = {
    "stdin": "standard input is empty",
    "tty": "there is no terminal",
    "volumeDevices": "block devices are not attached",
    "resizePolicy": "resources are not changed while it runs",
    "restartPolicyRules": "only restartPolicy is followed",
}
_HARMLESS = {"seccompProfile": {"type": "RuntimeDefault"}}


def image_note(pod: PodSpec, python: str) -> str:
    """What stands where a kubelet says that it pulled the image."""
    images = ", ".join(sorted({container.image for container in pod.containers if container.image}))
    return f"Image {images or '(none)'} is recorded and not used: this node runs Pods as processes, with {python}"


def unsupported(pod: PodSpec, enforced: frozenset[str]) -> tuple[str, ...]:
    """One sentence for each thing asked for and not given. `enforced`: what this node can hold
    of it: resource limits by name, `runAsNonRoot` where the node itself is not root.
    """
    return (*_of_pod(pod, enforced), *(text for c in pod.containers for text in _of_container(pod, c, enforced)))


def _of_pod(pod: PodSpec, enforced: frozenset[str]) -> Iterator[str]:
    for name, why in _POD_FIELDS.items():
        if pod.spec.get(name):
            yield f"spec.{name}: {why}"
    yield from _security("spec.securityContext", pod.spec.get("securityContext") or {}, enforced)
    for volume in pod.spec.get("volumes") or ():
        empty = volume.get("emptyDir") or {}
        if empty.get("sizeLimit"):
            yield f"volume {volume['name']}: sizeLimit is not enforced"
        if empty.get("medium"):
            yield f"volume {volume['name']}: medium {empty['medium']} is an ordinary folder"


def _security(path: str, context: Json, enforced: frozenset[str]) -> Iterator[str]:
    for name, why in _SECURITY_FIELDS.items():
        if context.get(name) and context[name] != _HARMLESS.get(name) and name not in enforced:
            yield f"{path}.{name}: {why}"


def _of_container(pod: PodSpec, container: ContainerSpec, enforced: frozenset[str]) -> Iterator[str]:
    path = f"container {container.name}"
    for name, why in _CONTAINER_FIELDS.items():
        if container.raw.get(name):
            yield f"{path}: {name}: {why}"
    yield from _security(f"{path}: securityContext", container.raw.get("securityContext") or {}, enforced)
    limits = (container.raw.get("resources") or {}).get("limits") or {}
    if "cpu" in limits and "cpu" not in enforced:
        yield f"{path}: resources.limits.cpu is not enforced here"
    for name in limits:
        if name not in {"cpu", "memory"}:
            yield f"{path}: resources.limits.{name} is not enforced"
    writable = [m["mountPath"] for m in container.raw.get("volumeMounts") or () if m.get("readOnly")]
    folders = {v["name"] for v in pod.spec.get("volumes") or () if "emptyDir" in v or "hostPath" in v}
    for mount in container.raw.get("volumeMounts") or ():
        if mount["mountPath"] in writable and mount["name"] in folders:
            yield f"{path}: mount {mount['mountPath']}: readOnly is not enforced"
