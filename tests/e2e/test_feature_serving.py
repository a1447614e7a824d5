"""From rows to answers: a dataset, a view of it, a model trained on its features as they were known, an endpoint that is
asked by keys alone; and its answers are what the offline computation gives, whoever is killed in between.
"""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from tests.e2e.machine import Machine

from mizzen.data.features.definition import definition_of
from mizzen.data.features.pointintime import Clocks, Use, join
from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table
from mizzen.kinds import FeatureView
from mizzen.serving.predictionlog.table import LogTable

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).parent / "cards"
WEIGHTS = {"amount": 1.0, "spent_1h": 10.0, "payments": 100.0, "ceiling": 1000.0, "share": 1e6}
PATIENCE_S = 120.0


def eventually(holds: Callable[[], Any], what: str) -> Any:
    deadline_s = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline_s, f"not within {PATIENCE_S} s: {what}"
        pause.wait(0.2)


@pytest.fixture(scope="module")
def machine():
    """One of its own, since processes of it are killed."""
    with Machine() as up:
        up.up()
        up.mizzen("apply", "-f", str(PROJECT / "resources.yaml"))
        yield up


class Cards:
    """Payments that are pushed, and what an endpoint says of cards."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.began = datetime.now(UTC)
        self.pushed = 0
        self._key = machine.mizzen("token", "create", "pushes", "--dataset", "payments").strip()
        machine.kubectl("wait", "dset/payments", "--for=jsonpath={.status.pushUrl}", "--timeout=90s")

    def push(self, *rows: tuple[str, float, float, float | None]) -> None:
        """(card, minutes ago, amount, ceiling)"""
        made = [
            {"card": card, "paid_at": (self.began - timedelta(minutes=minutes)).isoformat(), "amount": amount,
             "ceiling": ceiling}
            for card, minutes, amount, ceiling in rows
        ]  # fmt: skip
        self.pushed += len(rows)
        self.machine.mizzen("data", "push", "payments", "-", "--api-key", self._key, text=json.dumps(made))

    def online(self) -> None:
        """Waits until every payment is."""
        eventually(lambda: self.view["status"].get("rows") == self.pushed, f"{self.pushed} payments are online")

    @property
    def view(self) -> dict[str, Any]:
        return self.machine.get("fv/spending")

    def ask(self, path: str, body: dict[str, Any], key: str = "") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.machine.inference_port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body), {"Authorization": f"Bearer {key}"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def answers(self, *asked: tuple[str, float]) -> list[float]:
        """What the endpoint says, of keys and amounts alone; tried again while a process comes back."""
        body = {"instances": [{"card": card, "amount": amount} for card, amount in asked]}

        def once() -> list[float] | None:
            try:
                status, answer = self.ask("/v1/endpoints/cards:predict", body)
            except (ConnectionError, http.client.HTTPException):
                return None
            if status != 200:
                return None
            return [value for row in answer["predictions"] for value in row.values()]

        found: list[float] = eventually(once, "the endpoint answers")
        return found

    def offline(self, *asked: tuple[str, float]) -> list[float]:
        """The same by a point-in-time join over the dataset, and the function of the request by hand."""
        dataset = self.machine.get("dset/payments")
        table = Table(Store.open((self.machine.home / "store").as_uri()), "default", "payments")
        definition = definition_of(FeatureView.from_server(self.view))
        now = pa.array([datetime.now(UTC)] * len(asked), pa.timestamp("us", "UTC"))
        spine = pa.table({"card": [card for card, _ in asked], "at": now, "amount": [amount for _, amount in asked]})
        rows = join(spine, [Use(definition, table.at(dataset["status"]["version"]))], Clocks("at")).to_pylist()
        for row in rows:
            row["share"] = row["amount"] / row["ceiling"]
        return [sum(WEIGHTS[name] * row[name] for name in WEIGHTS) for row in rows]


def killed(machine: Machine, module: str) -> int:
    """Kills whatever runs a module for this machine; how many."""
    count = 0
    for process in psutil.process_iter(["cmdline", "environ"]):
        environ = process.info["environ"] or {}
        home = str(machine.home)
        ours = environ.get("MIZZEN_HOME") == home or any(home in value for value in environ.values())
        if ours and module in (process.info["cmdline"] or []):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                count += 1
    return count


@pytest.fixture(scope="module")
def cards(machine: Machine) -> Cards:
    made = Cards(machine)
    made.push(("a", 30, 5.0, 100.0), ("a", 20, 7.0, 200.0), ("b", 90, 9.0, 50.0), ("b", 10, 1.0, 40.0))
    made.online()
    for what in ("fv/spending", "tj/cards", "mdl/cards", "ie/cards"):
        machine.mizzen("wait", what, "--timeout", "120s")
    return made


ASKED = (("a", 3.0), ("b", 8.0), ("nobody", 2.0))


def test_answers_of_keys_alone_are_those_of_the_offline_computation(cards: Cards) -> None:
    found = cards.answers(*ASKED)
    np.testing.assert_allclose(found, cards.offline(*ASKED), rtol=1e-5)
    status, answer = cards.ask(
        "/v2/models/cards/infer",
        {"inputs": [{"name": "card", "shape": [1, 1], "datatype": "BYTES", "data": ["b"]},
                    {"name": "amount", "shape": [1, 1], "datatype": "FP64", "data": [8.0]}]},
    )  # fmt: skip
    assert status == 200, answer
    assert answer["outputs"][0]["data"][0] == pytest.approx(found[1], rel=1e-6)


def test_killed_gateways_and_writers_lose_nothing(machine: Machine, cards: Cards) -> None:
    assert killed(machine, "mizzen.serving.gateway.process") >= 1
    np.testing.assert_allclose(cards.answers(*ASKED), cards.offline(*ASKED), rtol=1e-5)
    cards.push(*((f"c{number % 7}", number % 50, number / 3, 10.0 + number) for number in range(500)))
    eventually(lambda: killed(machine, "mizzen.data.features.jobs.materialise"), "a writer is at work")
    assert killed(machine, "mizzen.serving.worker.functions") >= 1
    cards.online()
    asked = (*ASKED, ("c1", 4.0), ("c6", 6.0))
    np.testing.assert_allclose(cards.answers(*asked), cards.offline(*asked), rtol=1e-5)


def test_features_are_read_without_a_model_and_told_on_the_command_line(machine: Machine, cards: Cards) -> None:
    key = machine.mizzen("token", "create", "reads", "--features", "spending").strip()
    status, answer = cards.ask(
        "/v1/features/spending", {"entities": {"card": ["a", "nobody"], "amount": [20.0, 1.0]}}, key
    )
    assert status == 200, answer
    assert answer["features"]["share"] == [0.1, None]
    assert answer["features"]["payments"] == [2, None]
    listed = json.loads(machine.mizzen("features", "ls", "-o", "json"))
    assert [(row["name"], row["keys"], row["ready"]) for row in listed] == [("spending", "card", "True")]
    assert "spending:share" in machine.mizzen("features", "ls", "share")
    described = json.loads(machine.mizzen("features", "describe", "spending", "-o", "json"))
    made_of = {feature["name"]: feature["madeOf"] for feature in described["features"]}
    assert made_of["spent_1h"] == "sum of amount in 1h"
    assert made_of["share"] == "cards:share(amount, ceiling)"
    lineage = json.loads(machine.mizzen("features", "lineage", "spending", "-o", "json"))
    assert lineage["source"] == "dataset/payments"
    assert lineage["used_by"] == ["inferenceendpoint/cards", "trainingjob/cards"]
    assert lineage["models"] == ["cards:1"]
    values = json.loads(machine.mizzen("features", "values", "spending", "a", "-o", "json"))
    assert (values["found"], values["values"]["ceiling"]) == (True, 200.0)
    assert json.loads(machine.mizzen("features", "values", "spending", "nobody", "-o", "json"))["found"] is False
    assert "expected a value for each of card" in machine.mizzen("features", "values", "spending", "a", "b", code=2)


def logged(machine: Machine, card: str) -> list[dict[str, Any]]:
    """The requests of a card that are in the prediction log."""
    if not (machine.home / "store" / "predictions" / "default" / "cards").exists():
        return []
    rows = LogTable(Store.open((machine.home / "store").as_uri()), "predictions/default/cards").arrow()
    return [] if rows is None else [row for row in rows.to_pylist() if row["input_card"] == card]


def test_what_was_used_is_logged(machine: Machine, cards: Cards) -> None:
    cards.answers(("a", 3.0))
    row = eventually(lambda: logged(machine, "a"), "requests are in the table")[-1]
    assert row["input_amount"] == pytest.approx(3.0)
    assert (row["feature_ceiling"], row["feature_payments"]) == (200.0, 2.0)
    assert row["feature_share"] == pytest.approx(0.015)


def test_reads_are_audited(machine: Machine, cards: Cards) -> None:
    def consistent() -> dict[str, Any] | None:
        cards.answers(*ASKED)
        status = cards.view["status"]
        found = next((c for c in status["conditions"] if c["type"] == "Consistent"), {})
        return status if found.get("status") in {"True", "False"} else None

    status = eventually(consistent, "an audit has compared reads")
    assert status["skew"]["reads"] > 0
    assert status["skew"]["differing"] == 0, status["skew"]


def test_an_entity_is_forgotten_everywhere(machine: Machine, cards: Cards) -> None:
    """Lake and its versions, training set, online records, logged requests; the receipt does not name it."""
    known = len(logged(machine, "b"))
    cards.answers(("b", 3.0))
    eventually(lambda: len(logged(machine, "b")) > known, "requests are in the table")
    said = machine.mizzen("data", "forget", "nobodys=b", "--yes", code=2)
    assert "found none with nobodys" in said
    before = machine.get("dset/payments")["status"]
    rows = json.loads(
        machine.mizzen("data", "sql", "SELECT count(*) AS n FROM payments WHERE card = 'b'", "-o", "json")
    )
    assert rows[0]["n"] > 0
    receipt = json.loads(machine.mizzen("data", "forget", "card=b", "--yes"))
    places = {place["what"]: place for place in receipt["places"]}
    assert {"dataset/payments", "trainingset/cards-set", "predictions/cards", "featureview/spending"} <= set(places)
    assert all(place.get("verified", True) for place in places.values())
    assert places["dataset/payments"]["versions"] > 0
    assert '"b"' not in json.dumps(receipt)
    after = machine.get("dset/payments")["status"]
    assert after["version"] > before["version"]
    assert after["rows"] == before["rows"] - rows[0]["n"]
    kept = [one["version"] for one in json.loads(machine.mizzen("data", "versions", "payments", "-o", "json"))]
    for version in kept:
        query = f"SELECT count(*) AS n FROM \"payments@{version}\" WHERE card = 'b'"
        assert json.loads(machine.mizzen("data", "sql", query, "-o", "json")) == [{"n": 0}], "time travel sees none"
    eventually(lambda: cards.view["status"].get("sourceVersion") == after["version"], "the view follows")
    values = json.loads(machine.mizzen("features", "values", "spending", "b", "-o", "json"))
    assert values["found"] is False
    assert logged(machine, "b") == []
    again = json.loads(machine.mizzen("data", "forget", "card=b", "--yes"))
    assert all(place["rows"] == 0 for place in again["places"]), "nothing is left to forget"
