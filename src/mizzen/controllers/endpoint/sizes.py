"""How many workers a version's Deployment is made with.

A fixed number is the spec's. Where the number follows the load, `controllers/scaling` sets it for the version that gets
traffic, and it is left as found; a version that is being brought up gets as many as the one it is to take over from
has, and one at least, since what takes traffic has been seen to work; one that is kept warm (`keepPrevious`) has as
many as its successor. Each model of a graph is sized by itself.
"""

from collections.abc import Callable, Mapping

from lightkube.resources.apps_v1 import Deployment

from mizzen.controllers.endpoint.workers import deployment_name, replicas_of
from mizzen.kinds import InferenceEndpoint
from mizzen.policy.rollout import Version, version_of
from mizzen.policy.scaling.settings import settings_of


def sizes(endpoint: InferenceEndpoint, found: Mapping[str, Deployment]) -> Callable[[Version], int]:
    """Says how many for each version. `found`: the endpoint's Deployments by name."""
    settings = settings_of(endpoint.spec)
    if settings is None:
        return lambda _: endpoint.spec.scaling.replicas
    first = max(1, settings.min_replicas)
    nodes = endpoint.status.graph.nodes if endpoint.status.graph is not None else []
    traffic = [*endpoint.status.traffic, *(one for node in nodes for one in node.traffic)]
    serving = [version_of(one) for one in traffic]
    before = version_of(endpoint.status.previous) if endpoint.status.previous is not None else None

    def present(version: Version) -> int:
        own = found.get(deployment_name(endpoint.name, version))
        return replicas_of(own) if own is not None else first

    def size(version: Version) -> int:
        if version in serving:
            return present(version)
        replaced = [one for one in serving if endpoint.spec.graph is None or one.model == version.model]
        largest = max(map(present, replaced), default=first)
        return largest if version == before else max(first, largest)

    return size


def needed(endpoint: InferenceEndpoint, trouble: str) -> int:
    """How many must be ready for the endpoint to be so. Where it may have none, none: a request that comes starts one,
    unless it is known that none comes up.
    """
    settings = settings_of(endpoint.spec)
    if settings is None:
        return endpoint.spec.scaling.replicas
    return 0 if settings.min_replicas == 0 and not trouble else max(1, settings.min_replicas)
