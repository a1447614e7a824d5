"""Deletions that the informer is told of at once."""

from mizzen.kube.client import Client
from mizzen.kube.errors import NotFound
from mizzen.kube.informer import Informer
from mizzen.kube.query import Propagation
from mizzen.kube.resources import Untyped
from mizzen.local.cluster.objects import Object, name_of, namespace_of, uid_of


async def delete(
    client: Client,
    informer: Informer[Untyped],
    obj: Object,
    *,
    propagation: Propagation | None = None,
    resource_version: str | None = None,
    grace_period_s: int | None = None,
) -> None:
    """Deletes that very object (by its uid), or finds it gone."""
    try:
        left = await client.delete(
            informer.cls, name_of(obj), namespace_of(obj) or None, uid=uid_of(obj), propagation=propagation,
            resource_version=resource_version, grace_period_s=grace_period_s,
        )  # fmt: skip
    except NotFound:
        left = None
    if left is None:
        informer.deleted(informer.cls(obj))
    else:
        informer.wrote(left)
