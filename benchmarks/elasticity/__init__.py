"""From zero to many and back: starts, scale-ups, swaps, many endpoints, and what becomes of requests and memory meanwhile.

`make bench-elasticity` runs it in about six minutes, with fewer cycles and endpoints than the aims name;
`MIZZEN_BENCH_FULL=1` runs all of them (about half an hour). Everything is a whole Mizzen in a home of its own, with real
processes, asked over HTTP. A cold start is from the moment at which the request is sent to an endpoint without a process
until its answer is there. A scale-up is from the wish (the patch of `spec.scaling.replicas`) until the endpoint's status
counts the worker as ready: from how soon a *load* is noticed, reports once a second and the windows of the policy, see
`docs/scaling.md`.

Batch predictions beside an endpoint are measured by `benchmarks/batch.py`, which says how.
"""

from typing import Any

from benchmarks import batch
from benchmarks.elasticity import cycles, many, starts


def run() -> list[dict[str, Any]]:
    """The rows."""
    return [*starts.rows(), *cycles.rows(), *many.rows(), *batch.run()]
