"""Making, adopting and cleaning up the containers of one Pod: the hands of `podworker`.

All that touches the disk or waits for a process runs in threads; what comes back are values of `podstate`.
"""

import asyncio
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from mizzen.kinds.scalars import quantity
from mizzen.local.node import logs, mounts, processes
from mizzen.local.node.attempts import Attempt, Launch, Running, attempts, end_of_file
from mizzen.local.node.environment import ConfigError, command, environment, expand
from mizzen.local.node.host import Host
from mizzen.local.node.limits import Enclosure, Limits, dissolve, pids_in
from mizzen.local.node.podfolder import PodFolder, cache_folder
from mizzen.local.node.podspec import ContainerSpec, Json, PodSpec
from mizzen.local.node.podstate import Exit
from mizzen.local.node.ports import variable
from mizzen.local.node.prefork import NotReadyError
from mizzen.local.node.references import Sources

log = logging.getLogger(__name__)
MESSAGE_BYTES_MAX = 4096
ATTEMPTS_KEPT = 2
"""The present one and the one before, for `kubectl logs --previous`."""
_FILES = {"configMap", "secret", "projected", "downwardAPI"}
"""The volumes that are sets of files; the worker fills them."""
_OOM_SCORES = {"Guaranteed": 100, "Burstable": 500, "BestEffort": 1000}
"""When the machine runs out of memory, Pods go before the control plane does, the least promised first."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt whose shim was started."""

    attempt: Attempt
    launch: Launch
    shim: int
    running: Running | None
    """`None` where the command could not be started: the exit says why."""


class Containers:
    """The containers of one Pod on disk and as processes."""

    def __init__(self, host: Host, folder: PodFolder) -> None:
        self.host, self.folder = host, folder

    # -- beginning

    async def begin(self, pod: PodSpec, spec: ContainerSpec, number: int, delay_s: float, sources: Sources) -> Begun:
        """Starts attempt `number`. Raises `ConfigError`, `OSError`: nothing was begun then."""
        attempt = Attempt(self.folder.container(spec.name) / str(number))
        launch, shim, ready = await asyncio.to_thread(self._launch, pod, spec, attempt, delay_s, sources)
        await end_of_file(ready)
        return Begun(attempt, launch, shim, attempt.running())

    def _launch(
        self, pod: PodSpec, spec: ContainerSpec, attempt: Attempt, delay_s: float, sources: Sources
    ) -> tuple[Launch, int, int]:
        self._forget_old(spec, attempt.number)
        launch = self.launch(pod, spec, sources)
        self._make_rootfs(pod, spec, launch)
        enclosure = self._enclose(spec, attempt)
        launch = replace(launch, groups=enclosure.groups, oom_file=enclosure.oom_file)
        attempt.create(delay_s, self.host.clock(), launch.groups)
        return (launch, *self._begin(attempt, launch))

    def _begin(self, attempt: Attempt, launch: Launch) -> tuple[int, int]:
        spawn = self.host.prefork.spawn(launch)
        if spawn is not None:
            try:
                return attempt.launch(launch, spawn)
            except NotReadyError as error:
                log.debug("%r: %s", attempt, error)
        return attempt.launch(launch)

    def _forget_old(self, spec: ContainerSpec, number: int) -> None:
        for old in attempts(self.folder.container(spec.name)):
            if old.number <= number - ATTEMPTS_KEPT or (old.number == number and not old.begun()):
                old.remove()

    def launch(self, pod: PodSpec, spec: ContainerSpec, sources: Sources) -> Launch:
        """What to run; the control groups are added when it starts. Raises `ConfigError`."""
        index = pod.containers.index(spec)
        rootfs, temporary = self.folder.rootfs(spec.name), self.folder.temporary(index)
        provided = self.host.environment() | {
            "HOME": str(rootfs),
            "TMPDIR": str(temporary),
            "HOSTNAME": str(pod.spec.get("hostname") or pod.name),
            processes.ROOTFS_VARIABLE: str(rootfs),
            "MIZZEN_RUN_DIR": str(temporary.parent),
            "MIZZEN_CACHE_DIR": str(cache_folder(self.folder.home)),
            **{variable(name): str(port) for name, port in (self.folder.ports() or {}).items()},
        }
        known = environment(pod, spec, provided, sources, self.host.facts)
        work = spec.raw.get("workingDir")
        context = (spec.raw.get("securityContext") or {}) | {}
        return Launch(
            command=command(spec, known),
            environment=known,
            folder=mounts.inside(rootfs, work) if work else rootfs,
            grace_s=pod.grace_s,
            log_bytes_max=self.host.options.log_bytes_max,
            log_files_max=self.host.options.log_files_max,
            oom_score=_OOM_SCORES.get(str(pod.status.get("qosClass")), 1000),
            no_new_privileges=context.get("allowPrivilegeEscalation") is False,
        )

    def _make_rootfs(self, pod: PodSpec, spec: ContainerSpec, launch: Launch) -> None:
        rootfs, temporary = self.folder.rootfs(spec.name), self.folder.temporary(pod.containers.index(spec))
        for folder in (rootfs, temporary):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        volumes = {volume["name"]: volume for volume in pod.spec.get("volumes") or ()}
        # Outer mounts first, so that an inner one is made in what the outer one shows.
        for entry in sorted(spec.raw.get("volumeMounts") or (), key=lambda mount: mount["mountPath"].count("/")):
            volume = volumes.get(entry["name"])
            if volume is None:
                raise ConfigError(f"volumeMounts: there is no volume {entry['name']!r}")
            sub_path = entry.get("subPath") or expand(entry.get("subPathExpr") or "", launch.environment)
            try:
                mounts.mount(rootfs, entry["mountPath"], self._source(volume), sub_path)
            except (OSError, ValueError) as error:
                raise ConfigError(f"mount {entry['mountPath']}: {error}", "CreateContainerError") from error
        message = mounts.inside(rootfs, spec.message_path)
        message.parent.mkdir(parents=True, exist_ok=True)
        message.touch(mode=0o666)
        launch.folder.mkdir(parents=True, exist_ok=True)

    def _source(self, volume: Json) -> Path:
        folder = self.folder.volume(volume["name"])
        return folder if _FILES & volume.keys() else mounts.make_folder(volume, folder)

    def _enclose(self, spec: ContainerSpec, attempt: Attempt) -> Enclosure:
        groups = self.host.groups
        if groups is None:
            return Enclosure()
        resources = spec.raw.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        wanted = Limits(
            memory_bytes=memory_limit(spec),
            cpu=float(quantity(str(limits["cpu"]))) if "cpu" in limits else None,
            cpu_request=float(quantity(str(requests["cpu"]))) if "cpu" in requests else None,
            pids=self.host.options.processes_max,
        )
        try:
            return groups.enclose(f"{self.folder.uid}.{spec.name}.{attempt.number}", wanted)
        except OSError as error:
            raise ConfigError(f"resource limits cannot be set: {error}", "CreateContainerError") from error

    def inside(self, pod: PodSpec, spec: ContainerSpec, attempt: Attempt, sources: Sources) -> Launch:
        """How to run another command in a running container. Raises `ConfigError`."""
        return replace(self.launch(pod, spec, sources), groups=attempt.groups())

    # -- looking

    def latest(self, spec: ContainerSpec) -> tuple[Attempt | None, Attempt | None]:
        """(the last attempt that was begun, the one before), as found on disk."""
        begun = [attempt for attempt in attempts(self.folder.container(spec.name)) if attempt.begun()]
        return (begun[-1] if begun else None), (begun[-2] if len(begun) > 1 else None)

    # -- ending

    async def collect(self, spec: ContainerSpec, attempt: Attempt) -> Exit:
        """How an attempt ended whose shim is gone. When this returns, no process of it is left."""
        return await asyncio.to_thread(self.collect_now, spec, attempt)

    def collect_now(self, spec: ContainerSpec, attempt: Attempt) -> Exit:
        """The same, in a thread already."""
        if not (attempt.folder / "exit").exists():
            kill_leftovers(self.folder.rootfs(spec.name), attempt)
        end = attempt.exit(self.host.clock)
        dissolve(attempt.groups())
        return replace(end, message=self._message(spec, attempt, end))

    def _message(self, spec: ContainerSpec, attempt: Attempt, end: Exit) -> str:
        if end.reason == "StartError":
            return end.message
        path = mounts.inside(self.folder.rootfs(spec.name), spec.message_path)
        try:
            with path.open("rb") as file:
                text = file.read(MESSAGE_BYTES_MAX).decode(errors="replace")
        except OSError:
            text = ""
        if not text and not end.ok and spec.message_from_log:
            text = logs.last_words(attempt.folder)
        return text or end.message


def kill_leftovers(rootfs: Path, attempt: Attempt) -> list[int]:
    """Kills what a container left when its shim was killed. Returns the process numbers."""
    left = {process.pid: process for process in processes.marked(rootfs)}
    left |= {process.pid: process for process in processes.numbered(pids_in(attempt.groups()))}
    processes.kill(left.values())
    return sorted(left)


def memory_limit(spec: ContainerSpec) -> int | None:
    """The container's memory limit in bytes."""
    limit = ((spec.raw.get("resources") or {}).get("limits") or {}).get("memory")
    return None if limit is None else int(quantity(str(limit)))
