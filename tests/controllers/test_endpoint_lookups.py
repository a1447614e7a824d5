"""An endpoint says whether the views that it looks up in are there, online, as it wants them, and fresh; and heals."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.controllers.builders import T0, endpoint, metadata

from mizzen.controllers.conditions import Moment
from mizzen.controllers.endpoint.lookups import FEATURES_READY, LookupsStated, state_lookups
from mizzen.kinds import FeatureView, InferenceEndpoint
from mizzen.kinds.meta import condition_named
from mizzen.kinds.serve import InferenceEndpointStatus

NOW = datetime.fromisoformat(T0)
ONLINE = {"version": "0855680c7258", "newestEvent": f"{NOW:%Y-%m-%dT%H:%M:%SZ}"}


def view(status: dict[str, Any] | None = None, **spec: Any) -> FeatureView:
    body = {"entities": ["card"], "source": {"dataset": "payments"}, "eventTime": "at", "columns": ["amount"], **spec}
    return FeatureView.model_validate(
        {"metadata": metadata("spending"), "spec": body, "status": ONLINE if status is None else status}
    )


def looking(lookup: dict[str, Any] | None = None, **use: Any) -> InferenceEndpoint:
    return endpoint(features={"views": [{"view": "spending", **use}], **(lookup or {})})


def look(
    of: InferenceEndpoint, found: FeatureView | None, now: datetime = NOW
) -> tuple[InferenceEndpoint, LookupsStated]:
    """The endpoint after a look at which its workers were ready."""
    status: InferenceEndpointStatus = of.status.model_copy(deep=True)
    Moment(1, f"{now:%Y-%m-%dT%H:%M:%SZ}").state(status, "Ready", "True", "Serving", "late:1 answers")
    stated = state_lookups(of, status, {} if found is None else {found.name: found}, now)
    return of.model_copy(update={"status": status}), stated


def said(of: InferenceEndpoint, type_: str) -> tuple[str, str]:
    condition = condition_named(of.status.conditions, type_)
    assert condition is not None
    return condition.status, condition.reason


LATE = NOW + timedelta(hours=3)


@pytest.mark.parametrize(
    ("of", "found", "reason", "refuses"),
    [
        (looking(), None, "ViewMissing", True),
        (looking(), view({}), "ViewNotOnline", True),
        (looking(), view(online=False), "ViewNotOnline", True),
        (looking(version="aaaaaaaaaaaa"), view(), "ViewChanged", False),
        (looking(), view(ttl="2h"), "ViewStale", False),
        (looking(stale="empty"), view(ttl="2h"), "ViewStale", False),
        (looking(stale="error"), view(ttl="2h"), "ViewStale", True),
    ],
)
def test_what_is_wrong_is_said_once_and_heals(
    of: InferenceEndpoint, found: FeatureView | None, reason: str, refuses: bool
) -> None:
    """Ready is false where requests are refused for it, since when they are, and true again when it is mended."""
    after, stated = look(of, found, LATE)
    assert said(after, FEATURES_READY) == ("False", reason)
    assert said(after, "Ready") == (("False", reason) if refuses else ("True", "Serving"))
    assert [event.reason for event in stated.events] == [reason]
    again, stated = look(after, found, LATE + timedelta(minutes=1))
    assert stated.events == ()
    assert again.status.conditions == after.status.conditions, "nothing to write"
    fresh = {"version": of.spec.features.views[0].version or ONLINE["version"], "newestEvent": f"{LATE:%FT%TZ}"}
    healed, stated = look(again, view(fresh, ttl="2h"), LATE + timedelta(minutes=2))
    assert said(healed, FEATURES_READY) == ("True", "Online")
    assert said(healed, "Ready") == ("True", "Serving")
    assert stated.events == ()


def test_rows_that_will_be_stale_are_looked_at_then() -> None:
    _, stated = look(looking(), view(ttl="2h"), NOW + timedelta(minutes=30))
    assert stated.look_again_s == 5400.0


@pytest.mark.parametrize(
    ("of", "found"),
    [
        (looking(), view(columns=[], aggregations=[{"name": "n", "function": "count", "window": "1h"}], ttl="2h")),
        (looking({"time": "asked_at"}), view(ttl="2h")),
        (looking(version="0855680c7258"), view()),
    ],
)
def test_what_does_not_age_is_not_stale(of: InferenceEndpoint, found: FeatureView) -> None:
    """Windows let go of events by themselves, and requests that say when they are asked are not of now."""
    after, stated = look(of, found, LATE)
    assert said(after, FEATURES_READY) == ("True", "Online")
    assert stated.look_again_s is None


def test_an_endpoint_that_looks_nothing_up_says_nothing_of_it() -> None:
    after, _ = look(looking(), None)
    plain, _ = look(endpoint().model_copy(update={"status": after.status}), None)
    assert condition_named(plain.status.conditions, FEATURES_READY) is None
