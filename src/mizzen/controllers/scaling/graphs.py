"""What of an endpoint is scaled by itself: its version, or of a graph each model, as gateways report them.

Nodes of one model are one service in a gateway, under the name of the first of them (`fraud/score`), and share workers.
Where two ask for the same version by other words (`score@production`, `score:3`), its workers follow the first's load.
"""

from collections.abc import Mapping

from mizzen.controllers.scaling.following import Followed
from mizzen.kinds import InferenceEndpoint
from mizzen.kube.resources import Key
from mizzen.policy.rollout import Version, version_of
from mizzen.policy.scaling.decision import Decision


def endpoint_of(followed: Key) -> Key:
    """The endpoint of what is followed: itself, or that of which it is a model."""
    return Key(followed.namespace, followed.name.partition("/")[0])


def served_by(endpoint: InferenceEndpoint) -> dict[str, Version]:
    """The versions that get traffic, by the name under which their load is reported."""
    if endpoint.spec.graph is None:
        traffic = endpoint.status.traffic
        return {endpoint.name: version_of(traffic[0])} if traffic else {}
    nodes = endpoint.status.graph.nodes if endpoint.status.graph is not None else []
    serving = {node.name: version_of(node.traffic[0]) for node in nodes if node.traffic}
    first: dict[str | None, str] = {}
    for node in endpoint.spec.graph.models:
        first.setdefault(node.model, node.name)
    names = {serving[name]: name for name in reversed(first.values()) if name in serving}
    return {f"{endpoint.name}/{name}": version for version, name in names.items()}


def together(decisions: Mapping[str, tuple[Followed, Decision]]) -> tuple[Followed, Decision]:
    """What is said of all of them: of one, what it says; of several, how many in all and each one's reason."""
    if len(decisions) == 1:
        return next(iter(decisions.values()))
    found = {name.partition("/")[2]: decision for name, (_, decision) in decisions.items()}
    slowest = max((followed for followed, _ in decisions.values()), key=lambda one: one.time_to_ready_s or 0.0)
    return slowest, Decision(
        desired=sum(decision.desired for decision in found.values()),
        rule=", ".join(f"{name} {decision.desired} by {decision.rule}" for name, decision in found.items()),
        why="; ".join(f"{name}: {decision.why}" for name, decision in found.items()),
        again_s=min(decision.again_s for decision in found.values()),
    )
