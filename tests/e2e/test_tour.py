"""From rows to answers on one machine, as a newcomer would go: every verb of the command line once."""

import json
import urllib.request

import numpy as np
import pandas as pd
import pytest
from tests.e2e.machine import PROJECT, Machine


def test_applied_resources_become_true(serving: Machine) -> None:
    """The dataset has its rows, the version its metrics and lineage, the alias its reason, the endpoint its version."""
    dataset = serving.get("dset/things")
    assert (dataset["status"]["rows"], dataset["status"]["version"]) == (1000, 1)
    version = serving.get("mv/thing-1")
    assert version["spec"]["metrics"]["accuracy"] > 0.9
    lineage = version["spec"]["lineage"]
    assert lineage["datasets"][0]["digest"] == dataset["status"]["digest"]
    assert lineage["code"] == serving.get("tj/thing")["spec"]["code"]
    assert lineage["packages"]["scikit-learn"]
    assert version["spec"]["conversion"]["maxAbsDifference"] < 1e-4
    alias = serving.get("mdl/thing")["status"]["aliases"][0]
    assert (alias["name"], alias["version"]) == ("production", 1)
    assert "accuracy at least 0.8" in alias["reason"]
    assert serving.get("ie/thing")["status"]["serving"] == "thing:1"


def test_predict_answers_rows_by_name_and_by_position(serving: Machine) -> None:
    rows = '[{"a": 3, "b": 3, "c": 0}, {"a": -3, "b": -3, "c": 0}]'
    by_name = json.loads(serving.mizzen("predict", "thing", rows, "-o", "json"))
    assert by_name["label"] == [1, 0]
    by_position = json.loads(serving.mizzen("predict", "thing", "[[3, 3, 0]]", "-o", "json"))
    assert by_position["label"] == [1]
    assert np.allclose(by_name["probabilities"][0], by_position["probabilities"][0])


def test_predict_says_what_is_wrong_with_the_rows(serving: Machine) -> None:
    assert "expected a column 'c' (columns: a, b)" in serving.mizzen("predict", "thing", '{"a": 1, "b": 2}', code=2)
    assert "expected JSON" in serving.mizzen("predict", "thing", "{a: 1", code=2)
    assert "not found" in serving.mizzen("predict", "nobody", "[[1]]", code=4)


def test_an_endpoint_is_closed_without_a_key_and_open_with_one(serving: Machine) -> None:
    url = f"{serving.endpoints_url}/v2/models/thing"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, timeout=10)
    assert refused.value.code == 401
    assert "error" in json.loads(refused.value.read())
    key = serving.mizzen("token", "create", "reader", "--endpoint", "thing").strip()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.loads(answer.read())["name"] == "thing"
    assert "reader" in serving.mizzen("token", "list")
    serving.mizzen("token", "revoke", "reader")
    assert "reader" not in serving.mizzen("token", "list")


def test_get_describe_logs_events_and_status_tell(serving: Machine) -> None:
    assert "thing:1" in serving.mizzen("get", "ie")
    assert "dataset.mizzen.dev/things" in serving.mizzen("get", "dset,mdl", "-o", "wide")
    assert "kind: InferenceEndpoint" in serving.mizzen("get", "ie/thing", "-o", "yaml")
    described = serving.mizzen("describe", "tj/thing")
    assert "Succeeded" in described
    assert "made thing-1" in described
    assert "training on 800 rows" in serving.mizzen("logs", "tj/thing")
    assert "AliasMoved" in serving.mizzen("events")
    status = serving.mizzen("status")
    assert "inferenceendpoints" in status
    assert "Running" in status
    assert "ok" in serving.mizzen("doctor", code=None)
    assert "mizzen" in serving.mizzen("version")


def test_applying_again_changes_nothing_and_diff_says_so(serving: Machine) -> None:
    manifest = str(PROJECT / "resources.yaml")
    serving.mizzen("apply", "-f", manifest)
    assert serving.mizzen("apply", "-f", manifest).count("unchanged") == 4
    assert serving.mizzen("diff", "-f", manifest) == ""
    changed = (PROJECT / "resources.yaml").read_text().replace("atLeast: 0.8", "atLeast: 0.85")
    told = serving.mizzen("diff", "-f", "-", "--code", str(PROJECT), text=changed, code=1)
    assert [line.split() for line in told.splitlines() if line.startswith("+ ")] == [["+", "atLeast:", "0.85"]]


def test_python_has_the_same_verbs_and_deploys_in_one_line(serving: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mizzen.deploy` and `endpoint.predict` answer as the estimator does; deploying again replaces the version."""
    monkeypatch.setenv("MIZZEN_HOME", str(serving.home))
    monkeypatch.setenv("KUBECONFIG", str(serving.kubeconfig))
    from sklearn.linear_model import Ridge

    import mizzen

    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=["u", "v"])
    with mizzen.Client() as client:
        first = Ridge().fit(frame, frame["u"] * 2)
        endpoint = mizzen.deploy(first, name="ridge", example=frame.head(), client=client)
        answer = endpoint.predict(frame)
        assert np.allclose(answer["prediction"].ravel(), first.predict(frame), atol=1e-5)
        second = Ridge().fit(frame, frame["v"] * 3)
        again = mizzen.deploy(second, name="ridge", example=frame.head(), client=client)
        assert again.model_version != endpoint.model_version
        assert np.allclose(again.predict(frame)["prediction"].ravel(), second.predict(frame), atol=1e-5)

        endpoint.delete()


def test_delete_takes_what_belongs_to_it(serving: Machine) -> None:
    serving.mizzen("apply", "-f", "-", text="apiVersion: mizzen.dev/v1alpha1\nkind: Model\nmetadata: {name: gone}\n")
    assert "deleted" in serving.mizzen("delete", "mdl/gone")
    assert "not found" in serving.mizzen("get", "mdl/gone", code=4)
