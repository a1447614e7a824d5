"""The annotations by which a Deployment and its ReplicaSets remember revisions and sizes. Pure.

`kubectl rollout history` and `undo` read them: a ReplicaSet is a revision, and to go back is to give its template to
the Deployment again, by which the old ReplicaSet becomes the newest revision.
"""

from collections.abc import Iterable, Mapping

from mizzen.local.cluster.objects import Object, annotations_of

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MOST = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED,
        MOST,
        "deprecated.deployment.rollback.to",
    }
)
_HISTORY_CHARACTERS = 2000


def revision(replica_set: Object) -> int:
    """Which revision of its Deployment a ReplicaSet is; 0 where that is not known."""
    return number(replica_set, REVISION) or 0


def number(obj: Object, annotation: str) -> int | None:
    """An annotation as a number; `None` where it is absent or none."""
    try:
        return int(annotations_of(obj).get(annotation, ""))
    except ValueError:
        return None


def next_revision(old: Iterable[Object]) -> int:
    """One more than any there was."""
    return max((revision(one) for one in old), default=0) + 1


def annotated(deployment: Object, replica_set: Object | None, revision_: int) -> dict[str, str]:
    """The annotations of a Deployment's newest ReplicaSet: those of the Deployment, and the revision it is now.

    A ReplicaSet that was an earlier revision keeps that in its history.
    """
    had = dict(annotations_of(replica_set)) if replica_set is not None else {}
    new = had | {key: value for key, value in annotations_of(deployment).items() if key not in _NOT_COPIED}
    was = revision(replica_set) if replica_set is not None else 0
    if was < revision_:
        new[REVISION] = str(revision_)
        if was:
            history = f"{had.get(REVISION_HISTORY, '')},{was}".lstrip(",")
            # Oldest first, and not without end.
            while len(history) > _HISTORY_CHARACTERS:
                history = history.partition(",")[2]
            new[REVISION_HISTORY] = history
    return new


def sized(desired: int, most: int) -> dict[str, str]:
    """What a ReplicaSet remembers of how large the Deployment was meant to be when it was last scaled."""
    return {DESIRED: str(desired), MOST: str(most)}


def remembers(replica_set: Object, sizes: Mapping[str, str]) -> bool:
    """Whether it has these annotations already."""
    return all(annotations_of(replica_set).get(key) == value for key, value in sizes.items())
