"""Whose Pods (and ReplicaSets) are whose: what a controller owns by reference, what it takes on, what it lets go.

The rules of Kubernetes' ControllerRefManager: an object without a controller that the selector selects is adopted; one
that we control and the selector no longer selects is released; another's is never touched. Both are written with the
uid of the object as a precondition, and adoption only by an owner that a fresh read shows alive, so that an owner that
was deleted and made anew under its name does not adopt what belongs to the old.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mizzen.kube.client import Client
from mizzen.kube.errors import Invalid, NotFound
from mizzen.kube.informer import Informer
from mizzen.kube.resources import Untyped
from mizzen.local.cluster.objects import (
    Object,
    controlled_by,
    controller_uid,
    is_deleted,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
)
from mizzen.local.cluster.selectors import matches

_BY_CONTROLLER = "controller"


def index_by_controller(informer: Informer[Untyped]) -> None:
    """Keeps an informer's objects findable by the uid of their controller, and those without one by namespace."""
    informer.add_index(_BY_CONTROLLER, _controller_or_orphan)


def _controller_or_orphan(obj: Untyped) -> Sequence[str]:
    return (controller_uid(obj) or f"orphans in {namespace_of(obj)}",)


def controlled(informer: Informer[Untyped], owner: Object) -> Sequence[Untyped]:
    """The objects whose controller is `owner`."""
    return informer.by_index(_BY_CONTROLLER, uid_of(owner))


async def claim(
    client: Client,
    informer: Informer[Untyped],
    owner: Object,
    selector: Mapping[str, Any] | None,
    *,
    finalizer: str = "",
) -> list[Untyped]:
    """The objects of the owner after adopting and releasing; those adopted get the finalizer."""
    mine: list[Untyped] = []
    for obj in controlled(informer, owner):
        if matches(selector, labels_of(obj)) or is_deleted(owner):
            mine.append(obj)
        else:
            await _change_owner(client, informer, obj, {"$patch": "delete", "uid": uid_of(owner)})
    if is_deleted(owner):
        return mine
    orphans = [
        obj
        for obj in informer.by_index(_BY_CONTROLLER, f"orphans in {namespace_of(owner)}")
        if matches(selector, labels_of(obj)) and not is_deleted(obj)
    ]
    if orphans and await _is_alive(client, owner):
        for obj in orphans:
            adopted = await _change_owner(client, informer, obj, controlled_by(owner), finalizer)
            if adopted is not None:
                mine.append(adopted)
    return mine


async def _is_alive(client: Client, owner: Object) -> bool:
    try:
        fresh = await client.get(type(owner), name_of(owner), namespace_of(owner))
    except NotFound:
        return False
    return uid_of(fresh) == uid_of(owner) and not is_deleted(fresh)


async def _change_owner(
    client: Client, informer: Informer[Untyped], obj: Untyped, reference: Mapping[str, Any], finalizer: str = ""
) -> Untyped | None:
    """The object with the reference added, or taken out; `None` where it is gone or another of its name is there."""
    metadata = {"uid": uid_of(obj), "ownerReferences": [reference]}
    body = {"metadata": metadata | ({"finalizers": [finalizer]} if finalizer else {})}
    try:
        patched = await client.patch(
            type(obj), name_of(obj), body, namespace=namespace_of(obj), type_="strategic"
        )  # fmt: skip
    except (NotFound, Invalid):
        return None
    return informer.wrote(patched)
