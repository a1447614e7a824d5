"""Audits come when they are due, under names that say so, and what they find turns a condition once."""

from datetime import datetime, timedelta

from tests.controllers.builders import T0
from tests.controllers.test_featureview_decide import around, online, view

from mizzen.controllers.featureview.auditing import CONSISTENT, due, told
from mizzen.controllers.featureview.functions import deployment_for
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import FeatureView
from mizzen.kinds.meta import condition_named
from mizzen.kinds.skew import FeatureSkew, SkewReport

NOW = datetime.fromisoformat(T0)
SETTINGS = PlatformSettings("file:///store", "http://gateway", online_url="lmdb:///online")


def audited(**audit: object) -> FeatureView:
    made = view(audit={"every": "1h", "limit": 0.01, **audit})
    return online(made, around(made))


def found(of: FeatureView, differing: int, values: int = 1000, reads: int = 100, minutes: float = 0) -> FeatureView:
    at = f"{NOW + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}"
    skew = SkewReport(
        run="r", since=T0, until=at, at=at, reads=reads, values=values, differing=differing,
        features=[FeatureSkew(feature="amount", differing=differing)] if differing else [],
    )  # fmt: skip
    return of.model_copy(update={"status": of.status.model_copy(update={"skew": skew})})


def test_the_first_is_due_an_hour_after_the_view_is_online():
    made = audited()
    assert due(made, NOW).run is None
    assert due(made, NOW + timedelta(minutes=59)).after_s == 60.0
    at = due(made, NOW + timedelta(minutes=61))
    assert at.run is not None
    assert at.run.startswith("spending-audit-")
    assert at == due(made, NOW + timedelta(minutes=61)), "who looks again finds the same Job"


def test_one_that_failed_is_followed_by_another_an_hour_later():
    made = audited()
    runs = [due(made, NOW + timedelta(minutes=minutes)).run for minutes in (61, 119, 121)]
    assert runs[0] == runs[1] != runs[2]


def test_the_next_begins_where_the_last_ended():
    made = found(audited(), 0, minutes=61)
    assert due(made, NOW + timedelta(minutes=120)).run is None
    assert due(made, NOW + timedelta(minutes=122)).since == made.status.skew.until


def test_a_view_that_does_not_ask_for_audits_has_none():
    made = view()
    assert due(online(made, around(made)), NOW + timedelta(days=9)).run is None
    assert due(view(audit={}), NOW + timedelta(days=9)).run is None, "it is not online"


def test_a_condition_and_one_event_when_it_turns():
    made, kinds = audited(), []
    for minutes, differing in enumerate([3, 3, 30, 40, 2]):
        made = found(made, differing, minutes=minutes)
        status, events = told(made, T0)
        made = made.model_copy(update={"status": status})
        kinds.append((condition_named(status.conditions, CONSISTENT).status, [event.reason for event in events]))
    assert kinds == [
        ("True", []), ("True", []), ("False", ["SkewBeyondLimit"]), ("False", []), ("True", ["WithinLimit"]),
    ]  # fmt: skip


def test_what_was_found_is_said_in_words():
    status, _ = told(found(audited(), 30), T0)
    assert condition_named(status.conditions, CONSISTENT).message == (
        "30 of 1000 values of 100 online reads differ from the offline computation (3.00%, of at most 1.00%); 0 were "
        "missing, 0 extra; most in amount: 30"
    )


def test_no_reads_are_no_verdict():
    status, events = told(found(audited(), 0, values=0, reads=0), T0)
    assert (condition_named(status.conditions, CONSISTENT).status, events) == ("Unknown", ())


def test_an_audit_does_not_make_another_version_of_a_view():
    assert view(audit={"every": "5m"}).spec.digest() == view().spec.digest()


def test_functions_run_in_a_deployment_that_the_gateway_finds():
    request = [{"name": "jump", "function": "code:jump", "inputs": ["amount"]}]
    made = view(request=request, code="sha256:" + "0" * 64)
    deployment = deployment_for(made, {}, SETTINGS)
    template = deployment.spec.template
    assert deployment.metadata.name == "spending-functions"
    assert template.metadata.labels["mizzen.dev/featureview"] == "spending"
    digest = made.spec.digest()
    assert template.metadata.labels["mizzen.dev/digest"] == digest.removeprefix("sha256:")[:16]
    assert template.spec.automountServiceAccountToken is False
    other = view(request=request, code="sha256:" + "1" * 64)
    assert deployment_for(other, {}, SETTINGS).metadata.annotations != deployment.metadata.annotations
