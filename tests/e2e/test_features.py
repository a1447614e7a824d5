"""Feature views on a whole machine: online from a pushed row on, in increments, versions, and away again."""

import json
import time

import pytest
from tests.e2e.machine import Machine

RESOURCES = """
apiVersion: mizzen.dev/v1alpha1
kind: Dataset
metadata: {name: card-payments}
spec:
  source:
    push:
      columns: [{name: card, type: string, required: true}, {name: paid_at, type: timestamp, required: true},
                {name: amount, type: double}]
      commitEvery: 50ms
  eventTime: paid_at
---
kind: FeatureView
metadata: {name: card-spending}
spec:
  entities: [card]
  source: {dataset: card-payments}
  eventTime: paid_at
  aggregations:
    - {name: spent, function: sum, column: amount, windows: [1h, 24h]}
  resources: {cpu: 100m, memory: 1Gi}
---
kind: FeatureView
metadata: {name: card-jumps}
spec:
  entities: [card]
  source: {dataset: card-payments}
  eventTime: paid_at
  uses: [card-spending]
  columns: [{name: share, expression: 'amount / nullif("card-spending".spent_24h, 0)'}]
  resources: {cpu: 100m, memory: 1Gi}
"""


@pytest.fixture(scope="module")
def spending(machine: Machine) -> Machine:
    """Two views over two payments, online."""
    machine.apply(RESOURCES)
    push(machine, '[{"card": "a", "paid_at": "2026-01-01T10:00:00Z", "amount": 3.5}]')
    machine.mizzen("wait", "fv/card-spending", "fv/card-jumps", "--timeout", "120s")
    return machine


def push(machine: Machine, rows: str) -> None:
    key = machine.mizzen("token", "create", f"cards-{time.monotonic_ns()}", "--dataset", "card-payments").strip()
    machine.kubectl("wait", "dset/card-payments", "--for=jsonpath={.status.pushUrl}", "--timeout=90s")
    machine.mizzen("data", "push", "card-payments", rows, "--api-key", key)


def test_pushed_rows_come_online_in_increments(spending: Machine) -> None:
    before = spending.get("fv/card-spending")["status"]
    assert (before["entities"], before["rows"], before["newestEvent"]) == (1, 1, "2026-01-01T10:00:00Z")
    push(spending, '[{"card": "b", "paid_at": "2026-01-01T11:00:00Z", "amount": 1}]')
    spending.kubectl("wait", "fv/card-spending", "--for=jsonpath={.status.entities}=2", "--timeout=90s")
    after = spending.get("fv/card-spending")["status"]
    assert (after["rows"], after["lag"], after["version"]) == (2, 0, before["version"])
    assert after["lastRun"]["rowsRead"] == 1, "the world is not read again"


def test_a_view_in_use_is_not_deleted_and_its_records_go_with_it(spending: Machine) -> None:
    spending.kubectl("delete", "fv/card-spending", "--wait=false")
    spending.kubectl("wait", "fv/card-spending", "--for=condition=Deleted=false", "--timeout=60s")
    told = spending.condition("fv/card-spending", type_="Deleted")
    assert told["reason"] == "InUse"
    assert "featureview/card-jumps" in told["message"]
    assert spending.condition("fv/card-spending")["status"] == "True"
    spending.kubectl("delete", "fv/card-jumps", "--timeout=90s")
    spending.kubectl("wait", "fv/card-spending", "--for=delete", "--timeout=90s")
    events = json.loads(spending.kubectl("get", "events", "-o", "json"))["items"]
    reasons = {each["reason"] for each in events if each["involvedObject"]["name"] == "card-spending"}
    assert {"Online", "InUse", "Removed"} <= reasons
