"""Whether what an endpoint looks up is there: its views, online, at the version it wants, and fresh.

`FeaturesReady` says what is wrong with a view. An endpoint whose requests are all refused for it is not Ready either: a
view that was never online, or one whose rows have all outlived its ttl where the endpoint's policy for stale rows is
`error`. While a changed view is brought online the one before is served, and nothing is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from mizzen.controllers.conditions import Happened, Moment
from mizzen.controllers.endpoint.decide import READY
from mizzen.kinds import FeatureView, InferenceEndpoint
from mizzen.kinds.lookups import ViewFeatures
from mizzen.kinds.meta import condition_named
from mizzen.kinds.scalars import duration_s
from mizzen.kinds.serve import InferenceEndpointStatus

FEATURES_READY = "FeaturesReady"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a view that is looked up in."""

    reason: str
    message: str
    refuses: bool
    """Whether every request is refused for it."""


@dataclass(frozen=True, slots=True)
class LookupsStated:
    """What came of it beside the conditions."""

    events: tuple[Happened, ...] = ()
    look_again_s: float | None = None
    """When a view's rows will have outlived its ttl."""


def state_lookups(
    endpoint: InferenceEndpoint, status: InferenceEndpointStatus, views: Mapping[str, FeatureView], now: datetime
) -> LookupsStated:
    """Says in `status`, a copy that the decision owns, how the views stand; nothing where none are looked up in."""
    wanted = endpoint.spec.features
    if wanted is None:
        status.conditions = [one for one in status.conditions if one.type != FEATURES_READY]
        return LookupsStated()
    moment = Moment(endpoint.metadata.generation or 0, f"{now:%Y-%m-%dT%H:%M:%SZ}")
    present = wanted.time is None  # else requests say of when they are, and rows of then are fresh
    found = [problem_of(index, used, views.get(used.view), now if present else None)
             for index, used in enumerate(wanted.views)]  # fmt: skip
    problems = [problem for problem in found if problem is not None]
    ends = [stale_at(views[used.view]) for used in wanted.views if present and used.view in views]
    later_s = [(end - now).total_seconds() for end in ends if end is not None and end > now]
    look_again_s = min(later_s, default=None)
    if not problems:
        moment.state(status, FEATURES_READY, "True", "Online", f"{len(wanted.views)} views are online")
        return LookupsStated(look_again_s=look_again_s)
    first = next((problem for problem in problems if problem.refuses), problems[0])
    before = condition_named(endpoint.status.conditions, FEATURES_READY)
    moment.state(status, FEATURES_READY, "False", first.reason, first.message)
    ready = condition_named(status.conditions, READY)
    if first.refuses and ready is not None and ready.status == "True":
        # In the place of what was said before, so that it became untrue when it did, and not at each look.
        said = [condition_named(endpoint.status.conditions, READY)]
        others = [one for one in status.conditions if one.type != READY]
        status.conditions = [*others, *(one for one in said if one is not None)]
        moment.state(status, READY, "False", first.reason, first.message)
    is_news = before is None or before.reason != first.reason
    return LookupsStated((Happened("Warning", first.reason, first.message),) if is_news else (), look_again_s)


def problem_of(index: int, used: ViewFeatures, view: FeatureView | None, now: datetime | None) -> Problem | None:
    """What is wrong with a view; `now`: where requests are of the present."""
    path = f"spec.features.views[{index}]"
    if view is None:
        return Problem("ViewMissing", f"{path}.view: expected an existing FeatureView, found no {used.view}", True)
    version = view.status.version
    if version is None or not view.spec.online:
        why = condition_named(view.status.conditions, READY)
        said = "its spec has online: false" if not view.spec.online else why.message if why is not None else ""
        message = f"{path}.view: FeatureView {used.view} is not online{': ' if said else ''}{said}"
        return Problem("ViewNotOnline", message, True)
    if used.version is not None and used.version != version:
        message = (
            f"{path}.version: expected FeatureView {used.view} at version {used.version}, found {version}: train the "
            "model anew, or declare the view as it was"
        )
        return Problem("ViewChanged", message, False)
    end = stale_at(view)
    if now is not None and end is not None and end <= now:
        message = (
            f"{path}.view: the newest row of FeatureView {used.view} is of {view.status.newest_event}, older than its "
            f"ttl of {view.spec.ttl}; requests get what spec.features says of stale rows: {used.stale}"
        )
        return Problem("ViewStale", message, used.stale == "error")
    return None


def stale_at(view: FeatureView) -> datetime | None:
    """When the newest of all rows outlives the view's ttl; `None` where rows do not age."""
    if view.spec.ttl is None or view.status.newest_event is None or not view.spec.columns:
        return None
    return datetime.fromisoformat(view.status.newest_event) + timedelta(seconds=duration_s(view.spec.ttl))
