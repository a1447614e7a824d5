"""What every controller of ours works with: the client, shared informers, the settings, and how status is written.

Status is written once a reconcile, and only where it changed, as a merge patch of what differs. The patch names the
version of the object that the decision saw, so a decision made on old facts is refused (`Conflict`) and made again;
fields that a Pod reports itself are not touched unless the decision touched them.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Pod, ServiceAccount
from lightkube.resources.rbac_authorization_v1 import RoleBinding

from mizzen.controllers.conditions import Happened, Moment
from mizzen.controllers.install import runner_objects
from mizzen.controllers.jobs import MANAGED_BY
from mizzen.controllers.settings import PlatformSettings, SettingsError
from mizzen.kinds import Resource
from mizzen.kinds.meta import Status
from mizzen.kinds.names import LABEL_RUN, RUNNER_SERVICE_ACCOUNT, SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE
from mizzen.kube.client import Client
from mizzen.kube.clock import Clock, utc_now
from mizzen.kube.errors import AlreadyExists, NotFound
from mizzen.kube.events import Recorder
from mizzen.kube.informer import Informer, Informers
from mizzen.kube.resources import Key, info_of, meta_of, untyped
from mizzen.kube.runtime import Controller
from mizzen.kube.times import format_time

FIELD_MANAGER = "mizzen-controllers"
RUN_INDEX = "run"
log = logging.getLogger(__name__)


def _runs(pod: Pod) -> Iterable[str]:
    meta = meta_of(pod)
    run = meta.labels.get(LABEL_RUN)
    return (f"{meta.namespace}/{run}",) if run else ()


@dataclass(eq=False)
class Platform:
    """Shared by all controllers of one process."""

    client: Client
    informers: Informers
    recorder: Recorder
    clock: Clock = utc_now
    jobs: Informer[Job] = field(init=False)
    pods: Informer[Pod] = field(init=False)

    def __post_init__(self) -> None:
        labels = MANAGED_BY
        self.jobs = self.informers.of(Job, labels=labels)
        self.pods = self.informers.of(Pod, labels=labels)
        self.pods.add_index(RUN_INDEX, _runs)
        self._settings = self.informers.of(ConfigMap, SYSTEM_NAMESPACE, fields={"metadata.name": SETTINGS_CONFIG_MAP})
        self._accounts = self.informers.of(ServiceAccount, labels=labels)
        self._bindings = self.informers.of(RoleBinding, labels=labels)

    @property
    def settings_informer(self) -> Informer[ConfigMap]:
        return self._settings

    def settings(self) -> PlatformSettings:
        """Raises `SettingsError` where the ConfigMap lacks something."""
        found = self._settings.get(SYSTEM_NAMESPACE, SETTINGS_CONFIG_MAP)
        return PlatformSettings.from_config_map(found.data if found is not None else None)

    def now(self) -> datetime:
        return self.clock()

    def now_text(self) -> str:
        """The time as Kubernetes writes it."""
        return format_time(self.clock())

    def pods_of(self, namespace: str, run: str) -> Iterable[Pod]:
        """The Pods of one Job of ours."""
        return self.pods.by_index(RUN_INDEX, f"{namespace}/{run}")

    async def create_job(self, job: Job) -> None:
        """Makes the Job; one that is there already is the same work. Its namespace gets the runner account first."""
        namespace = meta_of(job).namespace or "default"
        known = (
            self._accounts.get(namespace, RUNNER_SERVICE_ACCOUNT),
            self._bindings.get(namespace, RUNNER_SERVICE_ACCOUNT),
        )
        if None in known:
            for obj in runner_objects(namespace):
                await self.create_missing(obj)
        await self.create_missing(job)

    async def create_missing(self, obj: object) -> None:
        """Creates the object unless it is there."""
        try:
            await self.client.create(obj, field_manager=FIELD_MANAGER)
        except AlreadyExists:
            log.debug("%s is there already", meta_of(obj).name)

    async def write_status(self, obj: Resource, old: Status, new: Status) -> None:
        """Patches what differs. Raises `Conflict` where the object changed since it was read."""
        if old == new or not (change := difference(old.to_wire(), new.to_wire())):
            return
        body = {"metadata": {"resourceVersion": obj.metadata.resource_version}, "status": change}
        written = await self.client.patch(
            type(obj), obj.name, body, namespace=obj.namespace, subresource="status", field_manager=FIELD_MANAGER
        )
        self.informers.of(type(obj)).wrote(written)  # or the next decision is made on the state before, and refused

    def tell(self, obj: Resource, events: Iterable[Happened]) -> None:
        """Records what happened."""
        for event in events:
            self.recorder.record(obj, event.type, event.reason, event.message)


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that makes `old` into `new`; empty where they are equal.

    >>> difference({"a": 1, "b": {"c": 2}}, {"b": {"c": 3}})
    {'b': {'c': 3}, 'a': None}
    """
    change: dict[str, Any] = {}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = difference(before, value)
            if inner:
                change[key] = inner
        elif key not in old or before != value:
            change[key] = value
    return change | {key: None for key in old if key not in new}


class ResourceController(Controller):
    """A controller of one of our kinds: says on the object itself where its spec makes no sense."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    async def on_unreadable(self, key: Key, why: str) -> None:
        """Puts what is wrong with the spec into the condition `Ready`, as far as the schema let it pass."""
        cls = self.watches()[0].informer.cls
        client, raw = self.platform.client, untyped(info_of(cls))
        try:
            obj = await client.get(raw, key.name, key.namespace)
        except NotFound:
            return
        status = Status.model_validate(
            {"conditions": (obj.get("status") or {}).get("conditions") or []}, extra="ignore"
        )
        before = status.to_wire()
        moment = Moment(obj["metadata"].get("generation") or 0, self.platform.now_text())
        moment.state(status, "Ready", "False", "InvalidSpec", why)
        change = difference(before, status.to_wire())
        if change:
            await client.patch(
                raw,
                key.name,
                {"status": change},
                namespace=key.namespace,
                subresource="status",
                field_manager=FIELD_MANAGER,
            )

    def settings_or_none(self, obj: Resource) -> PlatformSettings | None:
        """The platform's settings; where they are incomplete, an event on the object says so."""
        try:
            return self.platform.settings()
        except SettingsError as error:
            self.platform.tell(obj, [Happened("Warning", "PlatformNotSet", str(error))])
            return None
