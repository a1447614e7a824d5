"""What an endpoint says of its log."""

from datetime import UTC, datetime, timedelta

from mizzen.kinds import InferenceEndpoint
from mizzen.kinds.meta import condition_named
from mizzen.serving.predictionlog.progress import Written
from mizzen.serving.predictionlog.reporting import PREDICTIONS_LOGGED, Reporter

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Api:
    """One endpoint; patches are merged into it."""

    def __init__(self, *, logged: bool = True) -> None:
        spec = {"model": "m:1", **({"logging": {}} if logged else {})}
        self.endpoint = InferenceEndpoint.from_server(
            {"apiVersion": "mizzen.dev/v1alpha1", "kind": "InferenceEndpoint", "metadata": {"name": "m", "resourceVersion": "1"},
             "spec": spec, "status": {"conditions": [
                 {"type": "Ready", "status": "True", "reason": "Serving", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
             ]}}
        )  # fmt: skip
        self.patches = 0

    async def get(self, *_) -> InferenceEndpoint:
        return self.endpoint

    async def patch(self, cls, name, body, **_) -> None:
        self.patches += 1
        assert body["metadata"]["resourceVersion"] == "1"
        wire = self.endpoint.to_wire()
        wire["status"].update(body["status"])
        self.endpoint = InferenceEndpoint.from_server(wire)

    def condition(self):
        return condition_named(self.endpoint.status.conditions, PREDICTIONS_LOGGED)


async def test_the_endpoint_says_what_became_of_its_records():
    api, now = Api(), [NOON]
    reporter = Reporter(api, "file:///store", lambda: now[0])
    await reporter([Written("default", "m", committed=5, committed_at_s=NOON.timestamp())])
    told = api.endpoint.status.logging
    assert (told.table, told.committed, told.lost) == ("file:///store/predictions/default/m", 5, 0)
    assert told.last_commit == "2026-01-01T12:00:00Z"
    assert (api.condition().status, api.condition().reason) == ("True", "Written")
    assert condition_named(api.endpoint.status.conditions, "Ready").status == "True", "others' conditions stay"

    await reporter([Written("default", "m", committed=5, trouble="s3: answered 503")])
    assert (api.condition().status, api.condition().reason, api.condition().message) == (
        "False", "TableUnavailable", "s3: answered 503"
    )  # fmt: skip

    await reporter([Written("default", "m", committed=6, lost=3)])
    assert (api.condition().reason, api.condition().status) == ("RecordsLost", "False")
    now[0] += timedelta(minutes=5)
    await reporter([Written("default", "m", committed=7, lost=3)])
    assert api.condition().reason == "RecordsLost", "for a while, so that someone sees it"
    now[0] += timedelta(minutes=6)
    await reporter([Written("default", "m", committed=8, lost=3)])
    assert (api.condition().reason, api.condition().message) == ("Written", "records are in the table; 3 were lost")


async def test_no_news_is_not_told():
    api = Api()
    reporter = Reporter(api, "file:///store", lambda: NOON)
    for _ in range(3):
        await reporter([Written("default", "m", committed=5)])
    assert api.patches == 1


async def test_an_endpoint_that_is_not_logged_says_nothing():
    api = Api(logged=False)
    await Reporter(api, "file:///store", lambda: NOON)([Written("default", "m")])
    assert api.patches == 0
