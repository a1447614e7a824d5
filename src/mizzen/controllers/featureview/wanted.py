"""Which run a FeatureView wants now, and what it cannot begin without.

A run has a name that says what it is to reach: the version of the definition, the version of the source, and which try
it is. So a controller that looks again finds the Job instead of making a second one, and a change that decides no value
(an owner, a description) asks for nothing.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mizzen.kinds import Dataset, FeatureView
from mizzen.kinds.meta import condition_named
from mizzen.kinds.names import ANNOTATION_MATERIALISE

NAME_MAX = 36
LOOK_EVERY_S = 60.0
_KEEPS = "lmdb:"
"""Of an online store that is a file: what was written stays. A server may come back empty."""
Problem = tuple[str, str]
"""(reason, message)."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the view's namespace holds that it depends on."""

    views: Mapping[str, FeatureView]
    """By name, those that are not being deleted."""
    datasets: Mapping[str, Dataset]
    online_url: str = ""
    now_s: float = 0.0
    """Since 1970."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the view should be at."""

    digest: str
    """Of the definition, with those of the views it uses."""
    run: str = ""
    target: int | None = None
    """The version of the source's table."""
    uses: Sequence[tuple[FeatureView, int]] = field(default_factory=tuple)
    """The views it builds upon, and those that they do, each with the version of its source to read."""
    problem: Problem | None = None
    look_again_s: float | None = None
    """After which time another run is wanted though nothing changes."""

    @property
    def version(self) -> str:
        """What the status calls it."""
        return version_of(self.digest)


def version_of(digest: str) -> str:
    """The first 12 hex digits of a digest."""
    return digest.removeprefix("sha256:")[:12]


def wanted_run(view: FeatureView, around: Surroundings) -> Wanted:
    """The run that would bring the view to where it should be; it may have ended already."""
    if circle := circle_of(view, around.views):
        message = f"spec.uses: expected no view that refers to itself, found {' -> '.join(circle)}"
        return Wanted("", problem=("CircularViews", message))
    digest = digest_of(view, around.views)
    problem = _problem(view, around)
    if problem is not None:
        return Wanted(digest, problem=problem)
    target = _source_version(view, around)
    uses = [(used, _source_version(used, around) or 0) for used in used_views(view, around.views)]
    occasion = [view.metadata.uid or "", around.online_url, str(view.status.failed_runs)]
    occasion.append(view.metadata.annotations.get(ANNOTATION_MATERIALISE, ""))
    look_again_s = None
    if view.spec.online:
        occasion.append(str(target))
        if not around.online_url.startswith(_KEEPS):
            look_again_s = _looked_after(view, around, occasion)
    else:  # only a change of the columns can make a view unfit that was checked
        columns = around.datasets[view.spec.source.dataset or ""].status.columns
        occasion += ["offline", *(f"{column.name} {column.type}" for column in columns)]
    tag = hashlib.sha256("\n".join(map(str, occasion)).encode()).hexdigest()[:8]
    run = f"{view.name[:NAME_MAX].rstrip('-')}-{version_of(digest)}-{tag}"
    return Wanted(digest, run, target, uses, look_again_s=look_again_s)


def _looked_after(view: FeatureView, around: Surroundings, occasion: list[str]) -> float | None:
    """Adds what asks for another run where the store lost what it had; when to look again, where this view does.

    One view of a namespace, the sentinel, looks once a minute, whether there is anything new or not; what it finds the
    store to be, the others are held against.
    """
    sentinel = min(other.name for other in [view, *around.views.values()] if other.spec.online)
    if view.name == sentinel:
        slot, into_s = divmod(around.now_s, LOOK_EVERY_S)
        occasion.append(f"look {int(slot)}")
        return LOOK_EVERY_S - into_s
    there, mine = around.views[sentinel].status.incarnation, view.status.incarnation
    if there is not None and mine is not None and there != mine:
        occasion.append(f"fill {there}")
    return None


def digest_of(view: FeatureView, views: Mapping[str, FeatureView]) -> str:
    """The content address of a view that is in no circle."""
    return view.spec.digest({name: digest_of(views[name], views) for name in view.spec.uses if name in views})


def as_defined(view: FeatureView) -> dict[str, Any]:
    """The view's name and spec, without what its surroundings made of it: what a Pod is told."""
    metadata = {"name": view.name, "namespace": view.namespace}
    return {"apiVersion": view.api_version, "kind": view.kind, "metadata": metadata, "spec": view.spec.to_wire()}


def used_views(view: FeatureView, views: Mapping[str, FeatureView]) -> list[FeatureView]:
    """The views that one builds upon, and those that they do, each once."""
    found: dict[str, FeatureView] = {}
    waiting = [*view.spec.uses]
    while waiting:
        name = waiting.pop(0)
        if name in views and name not in found:
            found[name] = views[name]
            waiting += views[name].spec.uses
    return list(found.values())


def circle_of(view: FeatureView, views: Mapping[str, FeatureView]) -> list[str]:
    """The views that use each other in a circle through this one, in order; empty where there is none."""
    paths = [[name] for name in view.spec.uses]
    seen: set[str] = set()
    while paths:
        path = paths.pop()
        if path[-1] == view.name:
            return [view.name, *path]
        if path[-1] in views and path[-1] not in seen:
            seen.add(path[-1])
            paths += [[*path, name] for name in views[path[-1]].spec.uses]
    return []


def _problem(view: FeatureView, around: Surroundings) -> Problem | None:
    if view.spec.online and not around.online_url:
        message = "ConfigMap mizzen-system/mizzen: expected data.onlineUrl (such as redis://host:6379/0), found none"
        return "NoOnlineStore", message
    if view.spec.request and view.spec.code is None:
        message = (
            "spec.code: expected the digest of a code bundle, since request features are Python functions. "
            "`mizzen apply` fills it with the manifest's folder; `mizzen bundle FOLDER` prints one."
        )
        return "NoCode", message
    for name in view.spec.uses:
        if name not in around.views:
            return "ViewMissing", f"spec.uses: expected an existing FeatureView, found no {name}"
    for each in [view, *used_views(view, around.views)]:
        if (problem := _source_problem(each, around, is_used=each is not view)) is not None:
            return problem
    return None


def _source_problem(view: FeatureView, around: Surroundings, *, is_used: bool) -> Problem | None:
    of = f" of the view {view.name}, which this one uses" if is_used else ""
    if view.spec.source.stream is not None:
        return "NoStreams", f"spec.source{of}: expected a dataset: there are no streams yet; push rows to a Dataset"
    name = view.spec.source.dataset or ""
    dataset = around.datasets.get(name)
    if dataset is None:
        return "SourceMissing", f"spec.source.dataset{of}: expected an existing Dataset, found no {name}"
    if dataset.status.version is None:
        ready = condition_named(dataset.status.conditions, "Ready")
        why = f" ({ready.reason}: {ready.message})" if ready is not None and ready.message else ""
        return "WaitingForSource", f"waits for dataset {name}{of}, which has no version yet{why}"
    return None


def _source_version(view: FeatureView, around: Surroundings) -> int | None:
    dataset = around.datasets.get(view.spec.source.dataset or "")
    return dataset.status.version if dataset is not None else None
