"""One Pod on this node: looks, asks `lifecycle` what to do, does it, writes the status. One task a Pod.

    informer ─► update ─┐
    shim ended ─────────┤                          ┌─► Containers   (processes)
    probe answered ─────┼─► state ─► decide ─► do ─┼─► Materials    (volumes, tokens)
    source changed ─────┤             ▲            └─► StatusWriter (API server)
    time ───────────────┘             └── wake

`state` changes only here, in steps that do not wait, so there is nothing to lock. A worker can be thrown away at any
moment and made anew: `run` begins by taking back what runs, which is also what happens after a crash of the node.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any

from mizzen.kube.errors import ApiError, NotFound
from mizzen.kube.events import EventType
from mizzen.local.node import adoption, podstate
from mizzen.local.node.attempts import Attempt, wait_until_ended
from mizzen.local.node.containers import Containers, kill_leftovers
from mizzen.local.node.environment import ConfigError
from mizzen.local.node.host import Host
from mizzen.local.node.lifecycle import NODE_SHUTDOWN, Action, End, Finish, Prepare, Probe, Start, Stop, decide
from mizzen.local.node.limits import Usage, usage_in
from mizzen.local.node.materials import Materials
from mizzen.local.node.podfolder import PodFolder
from mizzen.local.node.podspec import ContainerSpec, PodSpec, ProbeKind
from mizzen.local.node.podstate import ContainerState, PodState, Refusal, Stopping
from mizzen.local.node.podstatus import SETTLED, pod_phase
from mizzen.local.node.resources import POD
from mizzen.local.node.statuswriter import StatusWriter
from mizzen.local.node.trials import Trials
from mizzen.local.node.unsupported import image_note, unsupported

log = logging.getLogger(__name__)

_RETRY_S = 10.0
"""A container that could not be made is tried again after this, and at once when something it refers to changes."""
_PREPARE_RETRY_FIRST_S, _PREPARE_RETRY_MAX_S = 0.5, 120.0
_KEEPER_LATE_S = 15.0
"""A shim that has not ended this long after the grace is itself stuck, and is killed with all it keeps."""
_HOOK_LEFT_S = 2.0
"""What a container is given to end in when its preStop hook has used up the grace."""


class PodWorker:
    """Runs one Pod until it is gone. Made and supervised by `Node`."""

    def __init__(self, host: Host, pod: PodSpec) -> None:
        self.host, self.pod = host, pod
        self.folder = PodFolder(host.home, pod.uid)
        self.containers = Containers(host, self.folder)
        self.materials = Materials(host, self.folder, self._sources_changed)
        self.trials = Trials(host, self.containers, self.materials)
        self.writer = StatusWriter(host, self._facts)
        self.state: PodState = podstate.first_seen(pod, host.clock())
        self.gone = False
        """The API server no longer has the Pod: end what runs, then forget it."""
        self._changed = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._attempts: dict[str, Attempt] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._finished = asyncio.Event()

    def __repr__(self) -> str:
        return f"PodWorker({self.pod.key}, {pod_phase(self.pod, self.state)})"

    # -- what happens to it

    def update(self, pod: PodSpec) -> None:
        """The Pod as the API server now has it."""
        relevant = (pod.labels, pod.annotations) != (self.pod.labels, self.pod.annotations)
        self.pod = pod
        if relevant:
            self.materials.refresh_soon()
        self._changed.set()

    def forget(self) -> None:
        """The API server has no such Pod any more."""
        self.gone = True
        if self.pod.deletion_grace_s is None:
            self.pod = replace(self.pod, deletion_grace_s=self.pod.grace_s)
        self._changed.set()

    def attempt(self, container: str) -> Attempt | None:
        """The present or last attempt of a container."""
        return self._attempts.get(container)

    def usage(self) -> Iterator[tuple[str, Usage]]:
        """What each running container uses."""
        for name, container in self.state.containers.items():
            attempt = self._attempts.get(name)
            if container.alive and attempt is not None:
                yield name, usage_in(attempt.groups())

    async def drain(self) -> None:
        """Ends what runs, for good: the node is going away. Returns when nothing runs any more."""
        self.state = replace(self.state, verdict=NODE_SHUTDOWN)
        self._changed.set()
        while self.state.any_alive:
            await asyncio.gather(*(ended.wait() for name, ended in self._ended.items() if self._get(name).alive))
            await asyncio.sleep(0)
        await self.writer.write_now()

    # -- running

    async def run(self) -> None:
        """Until the Pod is gone from the API server, its processes ended and its folder removed."""
        first = await asyncio.to_thread(self.folder.open, self.pod.raw, self.state.started, self.host.clock())
        if first is not None:
            self.state = replace(self.state, started=first)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await self._take_back(known=first is not None)
                self._introduce(known=first is not None)
                support = [
                    self._tasks.create_task(self.writer.run(), name=f"status of {self.pod.key}"),
                    self._tasks.create_task(self.materials.run(self._current), name=f"volumes of {self.pod.key}"),
                ]
                await self._loop()
                for task in support:
                    task.cancel()
        finally:
            self.materials.close()
        await asyncio.to_thread(self._remove)

    def _current(self) -> PodSpec:
        return self.pod

    def _facts(self) -> tuple[PodSpec, PodState, PodFolder]:
        return self.pod, self.state, self.folder

    async def _loop(self) -> None:
        while not self._finished.is_set():
            now = self.host.clock()
            self.state = podstate.must_end(self.pod, self.state, now.steady)
            await self._settle()
            decision = decide(self.pod, self.state, now)
            for action in decision.actions:
                self._do(action)
            self.writer.wake()
            if decision.actions:
                continue  # until there is nothing more to do about the state as it is now
            timeout_s = None if decision.wake is None else max(decision.wake - self.host.clock().steady, 0.0)
            await _wait(self._changed, timeout_s)

    async def _settle(self) -> None:
        """When the Pod has ended, it stays so, and what it needs no more is taken away."""
        phase = pod_phase(self.pod, self.state)
        if self.state.settled or phase not in SETTLED or self.state.any_alive:
            return
        self.state = replace(self.state, settled=phase)
        await self.materials.remove()

    def _do(self, action: Action) -> None:
        match action:
            case Prepare():
                self.state = replace(self.state, busy=True)
                self._spawn(self._prepare(), "prepare")
            case Start(name):
                self._set(name, podstate.starting(self._get(name)))
                self._spawn(self._start(self._spec(name)), f"start {name}")
            case Stop(name, grace_s, message):
                first = self._get(name).stopping is None
                deadline = self.host.clock().steady + grace_s
                self._set(name, replace(self._get(name), stopping=Stopping(message, deadline)))
                self._event("Normal", "Killing", message)
                self._spawn(self._stop(self._spec(name), grace_s, first), f"stop {name}")
            case Probe(name, kind):
                self._set(name, podstate.trying(self._get(name), kind))
                self._spawn(self._probe(self._spec(name), kind), f"{kind} probe of {name}")
            case End(verdict):
                self.state = replace(self.state, verdict=verdict)
                self._event("Warning", verdict.reason, verdict.message)
            case Finish():
                self.state = replace(self.state, busy=True)
                self._spawn(self._finish(), "finish")

    # -- taking back

    async def _take_back(self, *, known: bool) -> None:
        """What runs or ran here before this worker was made; of a Pod that is not known there is nothing to read."""
        what = (self.containers, self.pod, self.state)
        found = await asyncio.to_thread(adoption.take_back, *what) if known else adoption.take_back(*what)
        self.state = found.state
        self._attempts |= found.attempts
        if found.adopted:
            self.host.metrics.adopted.add(by=len(found.adopted))
            log.info("%s: took back %s", self.pod.key, ", ".join(found.adopted))
        for name in found.alive:
            self._watch(self._spec(name), self._attempts[name], None)
        self._publish_ports()

    def _introduce(self, *, known: bool) -> None:
        """Says once what this node does not do as others do."""
        if self.state.prepared:
            self.materials.refresh_soon()
        if not known and not self.state.settled:
            self._event("Normal", "ImageNotUsed", image_note(self.pod, self.host.machine.python))
            for text in unsupported(self.pod, self.host.enforcement.enforced):
                self._event("Warning", "Unsupported", text)

    def _publish_ports(self) -> None:
        ports = self.folder.ports() or {}
        self.host.ports[self.pod.uid] = frozenset(ports.values())

    # -- actions

    async def _prepare(self) -> None:
        refusal: Refusal | None = None
        try:
            await self.materials.prepare(self.pod)
            self._publish_ports()
        except ConfigError as error:
            tries = 1 if self.state.refusal is None else self.state.refusal.tries + 1
            wait_s = min(_PREPARE_RETRY_FIRST_S * 2.0 ** (tries - 1), _PREPARE_RETRY_MAX_S)
            refusal = Refusal("ContainerCreating", str(error), self.host.clock().steady + wait_s, tries)
            self._event("Warning", error.reason, str(error))
        self.state = replace(self.state, busy=False, prepared=refusal is None, refusal=refusal)
        self._changed.set()

    async def _start(self, spec: ContainerSpec) -> None:
        before = self._get(spec.name)
        began = self.host.clock()
        delay_s = podstate.next_delay_s(before)
        try:
            sources = await self.materials.sources(self.pod)
            begun = await self.containers.begin(self.pod, spec, before.attempt + 1, delay_s, sources)
        except (ConfigError, OSError) as error:
            reason = error.reason if isinstance(error, ConfigError) else "CreateContainerError"
            self._refuse(spec, reason, str(error))
            return
        self._attempts[spec.name] = begun.attempt
        self.trials.begun(spec.name, begun.launch)
        self.host.metrics.started.add()
        if begun.running is not None:
            self.host.metrics.start_s.observe(self.host.clock().steady - began.steady)
            self._set(
                spec.name,
                podstate.running(self._get(spec.name), spec, begun.attempt.number, delay_s, begun.running.started),
            )
            self._event("Normal", "Started", f"Started container {spec.name} as process {begun.running.pid}")
        self._watch(spec, begun.attempt, begun.shim)
        if begun.running is not None and self._get(spec.name).hook_pending:
            await self._post_start(spec, begun.attempt)

    def _refuse(self, spec: ContainerSpec, reason: str, message: str) -> None:
        retry = self.host.clock().steady + _RETRY_S
        self._set(spec.name, podstate.refused(self._get(spec.name), Refusal(reason, message, retry)))
        self._event("Warning", "Failed", f"Error: {message}")
        self._changed.set()

    def _watch(self, spec: ContainerSpec, attempt: Attempt, shim: int | None) -> None:
        self._ended[spec.name] = asyncio.Event()
        self._spawn(self._until_ended(spec, attempt, shim), f"watch {spec.name}")

    async def _until_ended(self, spec: ContainerSpec, attempt: Attempt, shim: int | None) -> None:
        await wait_until_ended(attempt, shim)
        end = await self.containers.collect(spec, attempt)
        self._ended[spec.name].set()
        before = self._get(spec.name)
        self.host.metrics.exited.add(end.reason)
        self._set(spec.name, podstate.exited(before, end, attempt.delay_s()))
        if end.reason == "StartError":
            self._event("Warning", "Failed", f"Error: container {spec.name}: {end.message}")
        elif end.reason == "OOMKilled":
            self._event("Warning", "OOMKilling", f"Container {spec.name} used more memory than its limit")
        if said := await asyncio.to_thread(attempt.shim_error):
            log.error("%s: the keeper of %s failed: %s", self.pod.key, spec.name, said)
        self._say_backoff(spec)
        self._changed.set()

    def _say_backoff(self, spec: ContainerSpec) -> None:
        container = self._get(spec.name)
        until = container.backoff_until
        if container.delay_s and until is not None and until > self.host.clock().steady:
            message = f"Back-off restarting failed container {spec.name} in pod {self.pod.name}_{self.pod.namespace}"
            self._event("Warning", "BackOff", f"{message}({self.pod.uid})")

    async def _post_start(self, spec: ContainerSpec, attempt: Attempt) -> None:
        hook = spec.hook("postStart") or {}
        answer = await self.trials.attempt(self.pod, spec, attempt, hook, self.pod.grace_s or 30.0)
        container = self._get(spec.name)
        if container.attempt != attempt.number or not container.alive:
            return
        if answer.ok:
            self._set(spec.name, podstate.hook_done(container, spec, self.host.clock().steady))
        else:
            self._event("Warning", "FailedPostStartHook", f"PostStartHook failed: {answer.message}")
            self._do(Stop(spec.name, self.pod.grace_s, f"FailedPostStartHook of container {spec.name}"))
        self._changed.set()

    async def _stop(self, spec: ContainerSpec, grace_s: float, first: bool) -> None:
        attempt, ended = self._attempts[spec.name], self._ended[spec.name]
        hook = spec.hook("preStop")
        began = self.host.clock().steady
        if hook is not None and first and grace_s > 0:
            waiting = asyncio.create_task(ended.wait())
            trying = asyncio.create_task(self.trials.attempt(self.pod, spec, attempt, hook, grace_s))
            await asyncio.wait({waiting, trying}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            trying.cancel()
            if trying.done() and not trying.cancelled() and not trying.result().ok:
                self._event("Warning", "FailedPreStopHook", f"PreStopHook failed: {trying.result().message}")
            grace_s = max(grace_s - (self.host.clock().steady - began), _HOOK_LEFT_S)
        await asyncio.to_thread(attempt.request_stop, grace_s)
        try:
            async with asyncio.timeout(grace_s + _KEEPER_LATE_S):
                await ended.wait()
        except TimeoutError:
            log.warning("%s: the keeper of %s does not end: killing all there is", self.pod.key, spec.name)
            await asyncio.to_thread(kill_leftovers, self.folder.rootfs(spec.name), attempt)

    async def _probe(self, spec: ContainerSpec, kind: ProbeKind) -> None:
        before = self._get(spec.name)
        if kind not in before.probes:
            return  # the container has ended since this was decided
        counts = before.probes[kind].counts
        probe, attempt = spec.probes[kind], self._attempts[spec.name]
        answer = await self.trials.attempt(self.pod, spec, attempt, probe.action, probe.timeout_s)
        container = self._get(spec.name)
        if container.attempt != before.attempt or kind not in container.probes:
            return
        now = self.host.clock().steady
        self._set(spec.name, podstate.probed(container, spec, kind, answer.ok, now, answer.message))
        self.host.metrics.probes.add(kind, "success" if answer.ok else "failure")
        if not answer.ok and counts and before.probes[kind].last is not None:  # the first may well come too early
            self._event("Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {answer.message}")
        self._changed.set()

    async def _finish(self) -> None:
        """The last status, then the API server may forget the Pod."""
        if not self.gone:
            try:
                await self.writer.write_now()
                await self.host.client.delete(
                    POD, self.pod.name, self.pod.namespace, uid=self.pod.uid, grace_period_s=0
                )  # fmt: skip
            except NotFound:
                pass
            except ApiError as error:
                log.info("%s: not deleted yet: %s", self.pod.key, error)
                await asyncio.sleep(1.0)
                self.state = replace(self.state, busy=False)
                self._changed.set()
                return
        self._finished.set()
        self._changed.set()

    def _remove(self) -> None:
        self.host.ports.pop(self.pod.uid, None)
        self.folder.remove()

    # -- small things

    def _spec(self, name: str) -> ContainerSpec:
        spec = self.pod.container(name)
        if spec is None:
            raise KeyError(f"{self.pod.key} has no container {name!r}")
        return spec

    def _get(self, name: str) -> ContainerState:
        return self.state.containers[name]

    def _set(self, name: str, container: ContainerState) -> None:
        self.state = self.state.with_container(name, container)
        self._changed.set()

    def _spawn(self, work: Coroutine[Any, Any, None], what: str) -> None:
        if self._tasks is None:
            raise RuntimeError(f"{self!r}: {what}: the worker does not run")
        self._tasks.create_task(work, name=f"{what} of {self.pod.key}")

    def _event(self, type_: EventType, reason: str, message: str) -> None:
        self.host.recorder.record(self.pod.raw, type_, reason, message)

    def _sources_changed(self) -> None:
        """A ConfigMap or Secret changed: what waited for it is tried again at once."""
        now = self.host.clock().steady
        if self.state.refusal is not None:
            self.state = replace(self.state, refusal=replace(self.state.refusal, retry=now))
        for name, container in self.state.containers.items():
            if container.refusal is not None:
                self._set(name, replace(container, refusal=replace(container.refusal, retry=now)))
        self._changed.set()


async def _wait(changed: asyncio.Event, timeout_s: float | None) -> None:
    """Waits for the event, at most that long, and clears it."""
    try:
        async with asyncio.timeout(timeout_s):
            await changed.wait()
    except TimeoutError:
        return
    finally:
        changed.clear()
