"""How many workers a version's Deployment is made with.

A fixed number is the spec's. Where the number follows the load, `controllers/scaling` sets it for the version that gets
traffic, and it is left as found; a version that is being brought up gets as many as the one it is to take over from
has, and one at least, since what takes traffic has been seen to work; one that is kept warm (`keepPrevious`) has as
many as its successor.
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
    serving = version_of(endpoint.status.traffic[0]) if endpoint.status.traffic else None
    own = found.get(deployment_name(endpoint.name, serving)) if serving is not None else None
    present = replicas_of(own) if own is not None else first

    before = version_of(endpoint.status.previous) if endpoint.status.previous is not None else None

    def size(version: Version) -> int:
        return present if version in {serving, before} else max(first, present)

    return size


def needed(endpoint: InferenceEndpoint, trouble: str) -> int:
    """How many must be ready for the endpoint to be so. Where it may have none, none: a request that comes starts one,
    unless it is known that none comes up.
    """
    settings = settings_of(endpoint.spec)
    if settings is None:
        return endpoint.spec.scaling.replicas
    return 0 if settings.min_replicas == 0 and not trouble else max(1, settings.min_replicas)
