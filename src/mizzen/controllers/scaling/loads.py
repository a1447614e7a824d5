"""What all gateway processes together said of each endpoint: plain state, told with times.

An endpoint's load is known while at least one gateway is connected and none of those has been silent for `SILENT_S`.
"""

from dataclasses import dataclass, field

from mizzen.kube.resources import Key
from mizzen.policy.scaling.meter import Flow
from mizzen.policy.scaling.reports import EndpointTotals, Report

SILENT_S = 5.0


@dataclass(slots=True)
class _Gateway:
    heard_s: float
    totals: dict[Key, EndpointTotals] = field(default_factory=dict)
    standing: dict[Key, tuple[int, int]] = field(default_factory=dict)
    """Waiting and running, of endpoints at which anything does."""


class Loads:
    """The reports of all gateways, put together."""

    def __init__(self) -> None:
        self._gateways: dict[int, _Gateway] = {}

    def heard(self, source: int, report: Report, now: float) -> dict[Key, Flow]:
        """Takes a report. Returns what happened at each endpoint in it."""
        gateway = self._gateways.setdefault(source, _Gateway(now))
        gateway.heard_s = now
        gateway.standing.clear()
        flows: dict[Key, Flow] = {}
        for totals in report.endpoints:
            key = Key(totals.namespace, totals.name)
            flows[key] = totals.since(gateway.totals.get(key))
            gateway.totals[key] = totals
            if totals.waiting or totals.running:
                gateway.standing[key] = (totals.waiting, totals.running)
        return flows

    def gone(self, source: int) -> None:
        """A gateway process has ended, or cannot reach us."""
        self._gateways.pop(source, None)

    def standing(self, key: Key) -> tuple[int, int]:
        """Requests that wait, and batches that run, at all gateways."""
        found = [gateway.standing[key] for gateway in self._gateways.values() if key in gateway.standing]
        return sum(waiting for waiting, _ in found), sum(running for _, running in found)

    def is_known(self, now: float) -> bool:
        """Whether what is not reported is not there."""
        return bool(self._gateways) and all(now - one.heard_s <= SILENT_S for one in self._gateways.values())
