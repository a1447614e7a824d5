"""Controllers, and what runs them: changes in, keys queued, one reconcile at a time for each key.

    informer ──change──► Watch.keys(old), Watch.keys(new) ──► WorkQueue ──► Controller.reconcile(key)
                                                                 ▲                 │ done · again after N s · error
                                                                 └─────────────────┘

A reconcile is told a key and nothing else: it looks at the whole state and closes the difference. So it may run twice,
late, or for a change that was missed, and the outcome is the same. All keys are also reconciled anew from time to time
(`resync_s`).

What `reconcile` raises decides what follows: `Permanent` is recorded and the key is left until something changes;
anything else is tried again after growing waits. Conflicts and other answers of the server are everyday; what is not an
`ApiError` is a bug, which is logged with its traceback and does not stop the other keys.

With an `Election`, informers run at once, so that a standby is warm, and reconciling begins when this process leads.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mizzen.kube.errors import ApiError
from mizzen.kube.events import Recorder
from mizzen.kube.informer import Informer, Informers, InformerStatistics
from mizzen.kube.leases import Election
from mizzen.kube.metrics import Registry
from mizzen.kube.resources import Key, info_of, meta_of
from mizzen.kube.workqueue import QueueStatistics, WorkQueue

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """What a reconcile wants next: to run again after that time, or (`None`) only when something changes."""

    after_s: float | None = None


class Permanent(Exception):
    """Trying again will not help until something changes: a wrong spec, a missing permission."""


def itself(obj: object) -> Iterable[Key]:
    """The object's own key."""
    return (meta_of(obj).key,)


def controller_of(cls: type[Any]) -> Callable[[object], Iterable[Key]]:
    """The key of the `cls` that controls the object, by its owner references."""
    info = info_of(cls)

    def keys(obj: object) -> Iterable[Key]:
        meta = meta_of(obj)
        owner = meta.controller
        if owner is None or owner.kind != info.kind or owner.api_version.rpartition("/")[0] != info.group:
            return ()
        return (Key(meta.namespace if info.namespaced else None, owner.name),)

    return keys


def labelled(label: str) -> Callable[[object], Iterable[Key]]:
    """The key that a label names, in the object's own namespace."""

    def keys(obj: object) -> Iterable[Key]:
        meta = meta_of(obj)
        name = meta.labels.get(label)
        return (Key(meta.namespace, name),) if name else ()

    return keys


@dataclass(frozen=True, slots=True)
class Watch(Generic[T]):
    """Which changes concern a controller: those of an informer's objects, and whose keys they queue."""

    informer: Informer[T]
    keys: Callable[[T], Iterable[Key]] = itself
    when: Callable[[T | None, T | None], bool] | None = None
    """Passes over changes for which it is false; all concern us where it is `None`."""


def differs(facts: Callable[[T], object]) -> Callable[[T | None, T | None], bool]:
    """For `Watch.when`: what comes, what goes, and what has other facts than before."""

    def when(old: T | None, new: T | None) -> bool:
        return old is None or new is None or facts(old) != facts(new)

    return when


class Controller(ABC):
    """Makes one kind true. `name` is for logs, metrics and Events."""

    name: str
    workers: int = 4
    """Keys reconciled at the same time."""
    timeout_s: float = 120.0
    """A reconcile that takes longer is cancelled and counts as failed."""
    queue: WorkQueue[Key]
    """Set before `run` and the first `reconcile`, for a controller that finds keys by itself."""

    @abstractmethod
    def watches(self) -> Sequence[Watch[Any]]:
        """What to follow; the first is the kind that this controller makes true. May be empty: see `run`, `queue`."""

    @abstractmethod
    async def reconcile(self, key: Key) -> Result | None:
        """Looks at the state and closes the difference."""

    async def run(self) -> None:  # noqa: B027 - most have none
        """Work of its own beside reconciling, for as long as it leads. By default none."""

    async def on_unreadable(self, key: Key, why: str) -> None:
        """The object under the key does not fit its class; where an earlier version did, that is reconciled after this.

        By default this is only logged.
        """
        log.warning("%s %s: %s", self.name, key, why)


@dataclass(frozen=True, slots=True)
class ControllerStatistics:
    """What a controller did."""

    name: str
    queue: QueueStatistics
    reconciled: int
    failed: int
    errors: dict[str, str]
    """The last error of each key that is failing now."""


@dataclass(frozen=True, slots=True)
class RuntimeStatistics:
    """All controllers and informers of a runtime."""

    leading: bool
    controllers: tuple[ControllerStatistics, ...]
    informers: tuple[InformerStatistics, ...]


@dataclass(eq=False)
class _Running:
    """A controller with its queue."""

    controller: Controller
    queue: WorkQueue[Key]
    watches: tuple[Watch[Any], ...] = ()
    """The first is of the kind that the controller makes true."""
    errors: dict[Key, str] = field(default_factory=dict)
    permanent: set[Key] = field(default_factory=set)
    reconciled: int = 0
    failed: int = 0

    def attach(self) -> None:
        self.controller.queue = self.queue
        self.watches = tuple(self.controller.watches())
        for watch in self.watches:
            watch.informer.subscribe(self._subscriber(watch))
        for watch in self.watches[:1]:
            watch.informer.subscribe_unreadable(self.queue.add)

    def _subscriber(self, watch: Watch[Any]) -> Callable[[Any, Any], None]:
        def changed(old: Any, new: Any) -> None:
            if watch.when is not None and not watch.when(old, new):
                return
            for obj in (old, new):
                if obj is not None:
                    for key in watch.keys(obj):
                        self.permanent.discard(key)
                        self.queue.add(key)

        return changed

    def resync(self) -> None:
        for primary in self.watches[:1]:
            for obj in primary.informer.list():
                for key in primary.keys(obj):
                    if key not in self.permanent:
                        self.queue.add(key)

    def statistics(self) -> ControllerStatistics:
        errors = {str(key): error for key, error in self.errors.items()}
        return ControllerStatistics(
            self.controller.name, self.queue.statistics(), self.reconciled, self.failed, errors
        )  # fmt: skip


class Runtime:
    """Runs controllers over shared informers until stopped."""

    def __init__(
        self,
        informers: Informers,
        controllers: Sequence[Controller],
        *,
        recorder: Recorder | None = None,
        election: Election | None = None,
        metrics: Registry | None = None,
        resync_s: float = 900.0,
        grace_s: float = 10.0,
    ) -> None:
        self._informers = informers
        self._running = [_Running(controller, WorkQueue()) for controller in controllers]
        self._recorder = recorder
        self._election = election
        self._resync_s = resync_s
        self._grace_s = grace_s
        self._stopping = asyncio.Event()
        self._started = asyncio.Event()
        registry = metrics or Registry()
        self._seconds = registry.histogram(
            "mizzen_reconcile_seconds", "Time of one reconcile, by controller and outcome.", ("controller", "outcome")
        )
        depth = registry.gauge("mizzen_queue_waiting", "Keys that wait to be reconciled.", ("controller",))
        for one in self._running:
            depth.set(lambda queue=one.queue: queue.statistics().waiting, one.controller.name)  # type: ignore[misc]

    async def run(self) -> None:
        """Runs until `stop`, then ends in order. Raises `LeadershipLost` where the lease was lost, and the errors of
        informers and of `Controller.run`, which are bugs.
        """
        background = [asyncio.ensure_future(self._informers.run())]
        if self._recorder is not None:
            background.append(asyncio.ensure_future(self._recorder.run()))
        main = asyncio.ensure_future(self._election.run(self._lead) if self._election else self._lead())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            done, _ = await asyncio.wait({main, stopping, *background}, return_when=asyncio.FIRST_COMPLETED)
            if done == {stopping}:
                if not self._started.is_set():
                    # A candidate that does not lead yet has nothing to end in order.
                    main.cancel()
                done, _ = await asyncio.wait({main, *background}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                if not task.cancelled():
                    task.result()
            if self._recorder is not None:
                await self._recorder.flush(timeout_s=2.0)
        finally:
            for task in (main, stopping, *background):
                task.cancel()
            await asyncio.gather(main, stopping, *background, return_exceptions=True)

    def stop(self) -> None:
        """Begins an orderly end: no new reconciles; those that run get `grace_s` to finish."""
        self._stopping.set()

    async def started(self) -> None:
        """Waits until reconciling has begun: the informers are synced and, with an election, this process leads."""
        await self._started.wait()

    def statistics(self) -> RuntimeStatistics:
        return RuntimeStatistics(
            self._started.is_set(),
            tuple(one.statistics() for one in self._running),
            self._informers.statistics(),
        )

    async def _lead(self) -> None:
        await self._informers.synced()
        for one in self._running:
            one.attach()
        self._started.set()
        tasks = [asyncio.ensure_future(self._resync())]
        for one in self._running:
            tasks.append(asyncio.ensure_future(one.controller.run()))
            tasks += [asyncio.ensure_future(self._work(one)) for _ in range(one.controller.workers)]
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await self._until_stopped_or_broken(stopping, tasks)
            await self._wind_down()
        finally:
            self._started.clear()
            for task in (stopping, *tasks):
                task.cancel()
            await asyncio.gather(stopping, *tasks, return_exceptions=True)

    @staticmethod
    async def _until_stopped_or_broken(stopping: "asyncio.Task[Any]", tasks: "list[asyncio.Task[None]]") -> None:
        pending = {stopping, *tasks}
        while stopping in pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()

    async def _wind_down(self) -> None:
        for one in self._running:
            one.queue.shutdown()
        try:
            async with asyncio.timeout(self._grace_s):
                for one in self._running:
                    await one.queue.idle()
        except TimeoutError:
            log.warning("reconciles still running after %s s are cancelled", self._grace_s)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._resync_s)
            for one in self._running:
                one.resync()

    async def _work(self, one: _Running) -> None:
        while (key := await one.queue.get()) is not None:
            began_s = asyncio.get_running_loop().time()
            try:
                outcome = await self._reconcile(one, key)
            finally:
                one.queue.done(key)
            self._seconds.observe(asyncio.get_running_loop().time() - began_s, one.controller.name, outcome)
            # A reconcile that finds nothing to do waits for nothing: a thousand of them must not hold up the loop.
            await asyncio.sleep(0)

    async def _reconcile(self, one: _Running, key: Key) -> str:
        """One reconcile, whatever comes of it: no failure of one key may stop the others."""
        one.reconciled += 1
        try:
            async with asyncio.timeout(one.controller.timeout_s):
                result = await self._look_and_reconcile(one, key)
        except Permanent as error:
            self._failed(one, key, error)
            one.queue.forget(key)
            one.permanent.add(key)
            log.warning("%s %s: %s", one.controller.name, key, error)
            return "permanent"
        except ApiError as error:
            self._failed(one, key, error)
            wait_s = one.queue.add_rate_limited(key)
            log.debug("%s %s: %s; again in %.2f s", one.controller.name, key, error, wait_s)
            return "error"
        except Exception as error:
            self._failed(one, key, error)
            wait_s = one.queue.add_rate_limited(key)
            log.exception("%s %s: failed; again in %.2f s", one.controller.name, key, wait_s)
            return "error"
        one.errors.pop(key, None)
        one.queue.forget(key)
        if result is not None and result.after_s is not None:
            one.queue.add_after(key, result.after_s)
            return "again"
        return "done"

    @staticmethod
    async def _look_and_reconcile(one: _Running, key: Key) -> Result | None:
        for primary in one.watches[:1]:
            unreadable = primary.informer.unreadable.get(key)
            if unreadable is not None:
                await one.controller.on_unreadable(key, unreadable)
                if primary.informer.at(key) is None:
                    # It is there, and yet we know nothing of it: to reconcile would be to take it for deleted.
                    return None
        return await one.controller.reconcile(key)

    @staticmethod
    def _failed(one: _Running, key: Key, error: Exception) -> None:
        one.failed += 1
        one.errors[key] = f"{type(error).__name__}: {error}"
