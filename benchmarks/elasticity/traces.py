"""The scaling policies over recorded traffic, on virtual time: who is late, and what it costs."""

import os
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.elasticity.machine import QUICK, row
from mizzen.simulate.comparing import compare
from mizzen.simulate.outcome import Outcome
from mizzen.simulate.scenario import POLICIES, Scenario
from mizzen.simulate.traces import load_times, read

DATA = Path(os.environ.get("MIZZEN_DATA", Path(__file__).parents[3] / "shared" / "data")) / "serving"
SYSTEMS = {"forecast": "mizzen", "reactive": "mizzen, reactive", "kpa": "Knative's rule", "fixed": "fixed fleet"}
_TWITTER = Scenario(service_s=0.1, wait_s_max=0.5, max_replicas=200, time_to_ready_s=30.0)
_LANGUAGE = Scenario(slots=8, time_to_ready_s=60.0, timeout_s=60.0, max_replicas=60)
_IMAGES = Scenario(min_replicas=0, max_replicas=8, wait_s_max=5.0, timeout_s=300.0)
_STARTS = "alibaba_gentd26/basemodel_update_latency_anon.tar.gz"
TRACES = (
    ("Azure 2023, conversations", "azure_llm_2023_conv.csv.gz", _LANGUAGE),
    ("Azure 2023, code", "azure_llm_2023_code.csv.gz", _LANGUAGE),
    ("Mooncake", "mooncake_conversation_trace.jsonl.gz", _LANGUAGE),
    ("GenTD26, 87 models", "alibaba_gentd26/lora_request_trace.csv", _IMAGES),
    ("Twitter 2018, 22 days", "twitter_2018_per_second_counts.txt.gz", _TWITTER),
)
LONG = 1
"""So many of the last take minutes."""


def rows() -> list[dict[str, Any]]:
    if not DATA.is_dir():
        print("traces: left out, the recorded traces are not here: set MIZZEN_DATA")
        return []
    found = []
    for name, file, given in TRACES[:-LONG] if QUICK else TRACES:
        scenario = replace(given, load_times_s=_measured_starts()) if given is _IMAGES else given
        for outcome in compare(read(DATA / file), scenario, POLICIES):
            found += _rows(name, scenario, outcome)
    return found


def _rows(name: str, scenario: Scenario, outcome: Outcome) -> Iterator[dict[str, Any]]:
    system = SYSTEMS[outcome.policy]
    ready = "measured starts" if scenario.load_times_s else f"starts of {scenario.time_to_ready_s:g} s"
    told = (
        f"{round(outcome.requests):,} requests, {ready}; waited at the median {outcome.wait_s(0.5):.3g} s, "
        + ", ".join(f"p{100 * share:g} {outcome.wait_s(share):.3g} s" for share in (0.9, 0.99))
    )
    late = f"waited over {scenario.wait_s_max:g} s; {told}"
    yield row(f"{name}: requests late", "%", 100 * outcome.late_share, late, system=system)
    idle = f"{100 * outcome.idle_share:.0f} % idle, at most {outcome.replicas_max} workers, {outcome.starts:,} starts"
    yield row(f"{name}: worker-hours", "h", outcome.replica_hours, idle, system=system)


def _measured_starts() -> list[float]:
    """Seconds, as the archive has them."""
    with tarfile.open(DATA / _STARTS) as archive, tempfile.TemporaryDirectory() as folder:
        (member,) = (one for one in archive.getmembers() if one.isfile())
        archive.extract(member, folder, filter="data")
        return load_times(Path(folder) / member.name)
