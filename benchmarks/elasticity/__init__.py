"""From zero to many and back: starts, scale-ups, swaps, many endpoints, and what becomes of requests and memory meanwhile.

`make bench-elasticity` runs all of it in about 20 minutes, `QUICK=1` with a tenth of the cycles and endpoints in six, and
`ONLY="starts peers"` only those parts; a part's rows are written when it ends, and those of other parts stay. Mizzen is a
whole one in a home of its own, with real processes, asked over HTTP. A cold start is from the moment at which the request
is sent to an endpoint without a process until its answer is there. A scale-up is from the wish (the patch of
`spec.scaling.replicas`) until the endpoint's status counts the worker as ready: from how soon a *load* is noticed, reports
once a second and the windows of the policy, see `docs/scaling.md`.

The memory of processes is compared with what it was after the first cycles, by when what is kept of the past (1,000
events, 8 MiB of changes for watches, what workers told) is full. Peers start the same small model in environments of their
own. The policies over recorded traffic are simulated (`docs/scaling-simulations.md`); the traces are found by
`MIZZEN_DATA`. Batch predictions beside an endpoint are measured by `benchmarks/batch.py`, which says how.
"""

from collections.abc import Callable
from typing import Any

from benchmarks import batch
from benchmarks.elasticity import cycles, many, peers, starts, traces

Rows = list[dict[str, Any]]
PARTS: dict[str, Callable[[], Rows]] = {
    "starts": starts.rows,
    "updown": cycles.up_and_down,
    "swaps": cycles.swaps,
    "zeros": cycles.zeros,
    "many": many.rows,
    "peers": peers.rows,
    "traces": traces.rows,
    "batch": batch.run,
}
