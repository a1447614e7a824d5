"""The late-binding queue of one endpoint: which request runs when, on which worker, with which others.

A request waits here until a worker asks for work, and not in a worker, so that everything that may change until the
last moment (who is ready, who has gone, whose time is over) is decided at the last moment. This is the whole decision:
plain state, no I/O; `now` (seconds, any monotonic origin) comes in with each event. What is to be done about an event
comes back as commands (`commands`): the gateway's shell performs them.

    offer ──> WAITING ──assign──> RUNNING ──answered──> GONE
                 ^                   │
                 └── failed (of several), lost (once), returned
    offer, WAITING, RUNNING ── refused, cancelled, expired, failed (alone), lost (twice) ──> GONE

**Order.** Of several priorities the most urgent is first, but a lower one in which something waits heads one batch of
every `PASSED_MAX + L` at least, where L is the number of priorities: nothing starves. Below all priorities is the
background (`rules.BACKGROUND`), where batch predictions are: its batches are kept short in time, wait for an idle
worker and take nobody else's place in a batch, so that whoever else comes waits for one such batch at most; and while
others come they leave the workers alone for most of the time (`yielding`). Within a
priority tenants share by weight, within a tenant the earliest deadline is first (`fairness`).

**Batches** are formed per lane (one model version) and group (what makes requests fit together: the shape of a row), up
to so many rows and bytes, in the order above; a request that does not fit ends its tenant's part of the batch, so that
within a tenant and a shape nobody is overtaken. There is no delay unless asked for: an idle worker is given what waits
at once. While all are busy requests gather, so batches grow with load by themselves. A worker that is busy and has a
credit left is sent a second batch only when it is a full one: that hides the way between gateway and worker and keeps
batches large. A request of more than a batch may have waits and runs in parts.

**Time** is the client's: one deadline, kept before compute. How long a batch takes is learned (`durations`), and
bounds its size under the endpoint's latency target: half of it, since who comes just after a batch has left waits for
that one and then takes as long again. A batch takes no request with which it would be late for one that it has. Who
cannot be answered in time even alone is not run. Who comes when what is before him takes longer than he has, at the
measured rate at which work is done (`pace`), is refused at once, with the time after which it would have been enough.

**Bounds.** So many rows and bytes may wait. In a full queue the least entitled loses its place: the lowest priority,
there the tenant that has most waiting for its weight, of that one of the last requests. So one tenant alone may use all
of the queue, and yet cannot keep others out.

**Failure.** A batch that the model refuses is halved until the request that is at fault fails alone. When a worker is
lost, each request of the batch that it ran is run once more, alone, on a worker that has nothing else: inference has no
effects, and alone a request that kills workers takes no other with it. Lost twice, it fails. What the worker had not
begun, and what it gives back unrun, just waits again.

**Leaving.** Who leaves the queue is not run. A batch that a worker has but cannot have begun is called back when one of
its requests has gone, and formed anew; one that it may have begun is given up when all have gone.
"""

from mizzen.policy.queue.commands import (
    Command,
    Expired,
    Failed,
    GiveUp,
    LaneStatistics,
    QueueStatistics,
    Reason,
    Refused,
)
from mizzen.policy.queue.queue import Queue
from mizzen.policy.queue.request import Batch, Phase, Request
from mizzen.policy.queue.rules import BACKGROUND, Rules

__all__ = [
    "BACKGROUND", "Batch", "Command", "Expired", "Failed", "GiveUp", "LaneStatistics", "Phase", "Queue",
    "QueueStatistics", "Reason", "Refused", "Request", "Rules",
]  # fmt: skip
