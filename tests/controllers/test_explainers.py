"""Explainers: workers of the served version with a task of their own, that nobody takes for workers that answer."""

import json

import pytest
from tests.controllers.builders import SETTINGS, T0, endpoint
from tests.controllers.test_endpoint_graph import endpoint as graph_endpoint

from mizzen.controllers.endpoint.explainers import explainers_of, state_explaining
from mizzen.controllers.endpoint.workers import deployment_for, deployment_name, must_apply
from mizzen.kinds.meta import condition_named
from mizzen.kinds.names import LABEL_ENDPOINT, LABEL_EXPLAINS
from mizzen.policy.rollout import Version

DIGEST = "sha256:" + "a" * 64
SERVING = {
    "traffic": [{"modelVersion": "late-1", "model": "late", "version": 1, "digest": DIGEST, "percent": 100}],
    "url": "http://127.0.0.1:7080/v2/models/late",
}
VERSION = Version("late-1", "late", 1, DIGEST)


def test_the_version_with_traffic_gets_explainers_of_its_own() -> None:
    asking = endpoint(SERVING, explain={"method": "kernel", "coalitions": 100, "replicas": 2})
    ((name, made),) = explainers_of(asking, asking.status, SETTINGS).items()
    assert made.metadata.name == name != deployment_name("late", VERSION)
    assert len(name) <= 57
    assert made.spec.replicas == 2
    task = json.loads(made.spec.template.spec.containers[0].env[0].value)
    assert (task["endpoint"], task["digest"]) == ("late:explain", DIGEST)
    assert task["explain"] == {"method": "kernel", "coalitions": 100}
    labels = made.spec.selector.matchLabels
    assert labels == made.spec.template.metadata.labels == made.metadata.labels
    assert labels[LABEL_EXPLAINS] == "late"
    assert LABEL_ENDPOINT not in labels, "it is no worker that answers"
    workers = deployment_for(asking, VERSION, SETTINGS).spec.selector.matchLabels
    assert not workers.items() <= labels.items()
    assert must_apply(made, deployment_for(asking, VERSION, SETTINGS))
    assert not must_apply(made, explainers_of(asking, asking.status, SETTINGS)[name])


def test_none_where_none_are_asked_for_or_nothing_is_served() -> None:
    assert explainers_of(endpoint(SERVING), endpoint(SERVING).status, SETTINGS) == {}
    starting = endpoint(explain={})
    assert explainers_of(starting, starting.status, SETTINGS) == {}


def test_the_status_says_how_many_are_ready() -> None:
    asking = endpoint(SERVING, explain={})
    found = explainers_of(asking, asking.status, SETTINGS)
    status = asking.status.model_copy(deep=True)
    state_explaining(asking, status, found, T0)
    condition = condition_named(status.conditions, "Explaining")
    assert condition is not None
    assert (condition.status, condition.message) == (
        "False",
        "0 of 1 explainers ready at http://127.0.0.1:7080/v2/models/late:explain",
    )
    state_explaining(endpoint(SERVING), status, {}, T0)
    assert condition_named(status.conditions, "Explaining") is None


def test_a_graph_is_explained_at_its_models() -> None:
    with pytest.raises(ValueError, match="explain: expected with model, not with graph"):
        graph_endpoint(explain={})
