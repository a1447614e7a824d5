"""How many servers keep a wait short: the M/M/c queue.

Requests that come at random (Poisson) and take random times (exponential) at `c` servers wait with probability C(c, a)
(Erlang's second formula, 1917), where the offered load `a` is the number of servers busy on average. Who waits, waits
an exponential time of mean `s / (c - a)` for a mean service of `s`:

    P(wait > t) = C(c, a) · exp(-(c - a) · t / s)          E[wait] = C(c, a) · s / (c - a)

C is found from the recursion of Erlang's first formula, B(0) = 1, B(k) = a·B(k-1) / (k + a·B(k-1)), which is stable for
any load. Larger fleets need less slack for the same wait, which no fixed utilisation says: that is the gain over a
target such as 70 %. Real arrivals are burstier than Poisson; what is measured corrects it (`targets`).

Source: Gross, Shortle, Thompson, Harris: Fundamentals of Queueing Theory, 5th ed., section 3.3.
"""

import math
from collections.abc import Callable

SERVERS_MAX = 100_000


def wait_probability(servers: int, load: float) -> float:
    """C(c, a): the share of requests that find all servers busy; 1 where the servers are not enough.

    >>> round(wait_probability(2, 1.0), 4)
    0.3333
    """
    if load <= 0:
        return 0.0
    if servers <= load:
        return 1.0
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = load * blocked / (k + load * blocked)
    return servers * blocked / (servers - load * (1.0 - blocked))


def servers_for_wait(load: float, service_s: float, wait_s: float) -> int:
    """The fewest servers with a mean wait of at most `wait_s`.

    >>> servers_for_wait(load=7.0, service_s=1.0, wait_s=0.1)
    10
    """
    return _fewest(load, lambda c, probability: probability * service_s / (c - load) <= wait_s)


def servers_for_tail(load: float, service_s: float, wait_s: float, share: float) -> int:
    """The fewest servers with which at most `share` of the requests wait longer than `wait_s`.

    >>> servers_for_tail(load=7.0, service_s=1.0, wait_s=1.0, share=0.05)
    10
    """
    return _fewest(load, lambda c, probability: probability * math.exp(-(c - load) * wait_s / service_s) <= share)


def _fewest(load: float, enough: Callable[[int, float], bool]) -> int:
    if load <= 0:
        return 0
    blocked, servers = 1.0, 0
    while servers < SERVERS_MAX:
        servers += 1
        blocked = load * blocked / (servers + load * blocked)
        if servers > load and enough(servers, servers * blocked / (servers - load * (1.0 - blocked))):
            return servers
    return SERVERS_MAX
