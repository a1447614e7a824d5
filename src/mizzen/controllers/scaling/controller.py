"""Scales the workers of the version that gets traffic: load, decide (`policy.scaling`), apply.

Reports come from the gateways (`listening`); a report with anything in it has its endpoint decided, at most once a
tick, and at once where requests wait for a first worker. An endpoint with nothing to follow is not looked at until a
report, or the moment its policy named.

Of a graph each model is followed by itself, under the endpoint's name and the node's, as gateways report it (`graphs`).

The number is set through the Deployment's scale subresource. Nobody else sets it: `controllers/endpoint` makes a
Deployment with a first number and leaves it alone from then on. The reason goes into `status.scaling` when the number
or the rule changes, and into an event when the number does.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Node, Pod

from mizzen.controllers.conditions import Happened, Moment
from mizzen.controllers.endpoint.workers import deployment_name, replicas_of
from mizzen.controllers.jobs import MANAGED_BY
from mizzen.controllers.platform import Platform, ResourceController
from mizzen.controllers.scaling.following import Followed
from mizzen.controllers.scaling.graphs import endpoint_of, served_by, together
from mizzen.controllers.scaling.listening import Listener
from mizzen.controllers.scaling.loads import Loads
from mizzen.controllers.scaling.rooms import rooms, size_of, unplaced
from mizzen.kinds import InferenceEndpoint
from mizzen.kinds.names import LABEL_ENDPOINT
from mizzen.kinds.scaling import ScalingStatus
from mizzen.kinds.serve import InferenceEndpointStatus
from mizzen.kube.errors import NotFound
from mizzen.kube.resources import Key
from mizzen.kube.runtime import Result, Watch, differs, labelled
from mizzen.policy.rollout import Version
from mizzen.policy.scaling.decision import NEVER_S, TICK_S, Decision, Seen
from mizzen.policy.scaling.placement import arithmetic
from mizzen.policy.scaling.reports import Report
from mizzen.policy.scaling.settings import Settings, settings_of

PLACED = "Placed"


class ScalingController(ResourceController):
    """Keeps as many workers as the load asks for. `listen`: where gateways report to; `None`: they do not."""

    name = "scaling"

    def __init__(self, platform: Platform, listen: str | None = None) -> None:
        super().__init__(platform)
        informers = platform.informers
        self._endpoints = informers.of(InferenceEndpoint)
        self._deployments = informers.of(Deployment, labels=MANAGED_BY)
        self._followed: dict[Key, dict[str, Followed]] = {}
        """By endpoint, and by the name under which its load is reported."""
        self._loads = Loads()
        self._listener = Listener(listen, self._heard, self._loads.gone) if listen is not None else None

    def watches(self) -> Sequence[Watch[Any]]:
        return (
            Watch(self._endpoints, when=differs(_facts)),
            Watch(self._deployments, labelled(LABEL_ENDPOINT), differs(_size)),
            Watch(self.platform.pods, self._troubled),
        )

    async def run(self) -> None:
        """Listens for as long as it leads."""
        if self._listener is not None:
            await self._listener.run()
        await asyncio.get_running_loop().create_future()

    async def reconcile(self, key: Key) -> Result | None:
        endpoint = self._endpoints.at(key)
        if endpoint is None or endpoint.metadata.deletion_timestamp is not None:
            self._followed.pop(key, None)
            return None
        status = endpoint.status.model_copy()
        settings = settings_of(endpoint.spec)
        decision = None
        if settings is None:
            self._followed.pop(key, None)
            status.scaling = None
        else:
            decisions = await self._follow_all(endpoint, key, settings)
            if decisions:
                followed, decision = together(decisions)
                self._say(status, followed, decision)
        await self._judge_placement(endpoint, status)
        await self.platform.write_status(endpoint, endpoint.status, status)
        return Result(after_s=decision.again_s) if decision is not None and decision.again_s < NEVER_S else None

    async def _follow_all(
        self, endpoint: InferenceEndpoint, key: Key, settings: Settings
    ) -> dict[str, tuple[Followed, Decision]]:
        """Decides and scales all of it that gets traffic. A part that gets none any more is not followed; where nothing
        gets any, what was followed is kept for when it does again.
        """
        served, decisions = served_by(endpoint), {}
        if not served:
            return {}
        before, now = self._followed.get(key, {}), asyncio.get_running_loop().time()
        self._followed[key] = {name: before.get(name) or Followed(settings, now) for name in served}
        for name, followed in self._followed[key].items():
            followed.change(settings)
            decision = await self._follow(endpoint, Key(key.namespace, name), served[name], followed)
            if decision is not None:
                decisions[name] = followed, decision
        return decisions

    async def _follow(
        self, endpoint: InferenceEndpoint, key: Key, version: Version, followed: Followed
    ) -> Decision | None:
        """Decides and scales; `None` while there is no Deployment of the version."""
        deployment = self._deployments.get(endpoint.namespace, deployment_name(endpoint.name, version))
        if deployment is None:
            return None
        now, wall_s = asyncio.get_running_loop().time(), self.platform.now().timestamp()
        seen = self._seen(key, deployment, now)
        decision = followed.decide(now, wall_s, seen)
        if decision.desired != seen.wanted:
            followed.asked(now, seen.wanted, decision.desired)
            await self._scale(endpoint, deployment, seen.wanted, decision)
        return decision

    # Giving way (`density`)

    def idle(self) -> dict[Key, float]:
        """How long those have been idle that may give way."""
        now, wall_s = asyncio.get_running_loop().time(), self.platform.now().timestamp()
        if not self._loads.is_known(now):
            return {}
        found = {
            Key(endpoint.namespace, name): followed.idle_s(now, wall_s)
            for endpoint, all_of_it in self._followed.items()
            for name, followed in all_of_it.items()
        }
        resting = {key: idle_s for key, idle_s in found.items() if idle_s is not None}
        return {key: idle_s for key, idle_s in resting.items() if self._loads.standing(key) == (0, 0)}

    def give_way(self, key: Key, whom: Key) -> None:
        """The endpoint's workers make room for another's."""
        followed = self._followed_as(key)
        if followed is not None:
            followed.give_way(str(whom))
            self.queue.add(key)

    def _followed_as(self, key: Key) -> Followed | None:
        """What is followed under that name, of an endpoint or of a graph's model."""
        return self._followed.get(endpoint_of(key), {}).get(key.name)

    # Reports

    def _heard(self, source: int, report: Report) -> None:
        now, wall_s = asyncio.get_running_loop().time(), self.platform.now().timestamp()
        for key, flow in self._loads.heard(source, report, now).items():
            followed = self._followed_as(key)
            if followed is None:
                continue
            followed.report(now, wall_s, flow)
            waits = bool(self._loads.standing(key)[0])
            if now - followed.decided_s >= TICK_S or (waits and followed.wanted == 0):
                self.queue.add(endpoint_of(key))

    def _seen(self, key: Key, deployment: Deployment, now: float) -> Seen:
        waiting, running = self._loads.standing(key)
        ready = (deployment.status.readyReplicas or 0) if deployment.status is not None else 0
        wanted = replicas_of(deployment)
        return Seen(min(ready, wanted), wanted, waiting, running, self._loads.is_known(now))

    # What it does

    async def _scale(
        self, endpoint: InferenceEndpoint, deployment: Deployment, before: int, decision: Decision
    ) -> None:
        name = deployment.metadata.name if deployment.metadata is not None else None
        assert name is not None, "what the server holds has a name"
        try:
            await self.platform.client.scale(Deployment, name, decision.desired, namespace=endpoint.namespace)
        except NotFound:
            return
        reason = "ScaledUp" if decision.desired > before else "ScaledDown"
        message = f"from {before} to {decision.desired} workers, by {decision.rule}: {decision.why}"
        self.platform.tell(endpoint, [Happened("Normal", reason, message)])

    def _say(self, status: InferenceEndpointStatus, followed: Followed, decision: Decision) -> None:
        """Into the status, where the number or the rule is another: not with each tick's numbers."""
        old = status.scaling
        if old is not None and (old.desired, old.rule) == (decision.desired, decision.rule):
            return
        ready_s = followed.time_to_ready_s
        status.scaling = ScalingStatus(
            desired=decision.desired,
            rule=decision.rule,
            why=decision.why,
            since=old.since if old is not None and old.desired == decision.desired else self.platform.now_text(),
            time_to_ready=f"{ready_s:.3g}s" if ready_s is not None else None,
        )

    async def _judge_placement(self, endpoint: InferenceEndpoint, status: InferenceEndpointStatus) -> None:
        """Says with the arithmetic which workers no node takes."""
        pods = self.platform.pods.by_index("endpoint", f"{endpoint.namespace}/{endpoint.name}")
        waiting = [pod for pod in pods if unplaced(pod)]
        moment = Moment(endpoint.metadata.generation or 0, self.platform.now_text())
        if not waiting:
            if any(one.type == PLACED and one.status != "True" for one in status.conditions):
                moment.state(status, PLACED, "True", "Placed")
            return
        client = self.platform.client
        nodes, placed = await asyncio.gather(client.list(Node), client.list(Pod))
        asked = size_of(waiting[0])
        why = arithmetic(rooms(nodes, placed), asked.cpu, asked.memory) or unplaced(waiting[0])
        moment.state(status, PLACED, "False", "NoRoom", f"{len(waiting)} workers wait for room: {why}")

    def _troubled(self, pod: Pod) -> Iterable[Key]:
        """A worker that no node takes concerns us; others are seen through their Deployment."""
        return labelled(LABEL_ENDPOINT)(pod) if unplaced(pod) else ()


def _facts(endpoint: InferenceEndpoint) -> tuple[object, ...]:
    """All of an endpoint that a decision may depend on."""
    nodes = endpoint.status.graph.nodes if endpoint.status.graph is not None else []
    traffic = endpoint.status.traffic, [node.traffic for node in nodes]
    return endpoint.metadata.generation, endpoint.metadata.deletion_timestamp, traffic


def _size(deployment: Deployment) -> tuple[object, ...]:
    return replicas_of(deployment), deployment.status.readyReplicas if deployment.status is not None else None
