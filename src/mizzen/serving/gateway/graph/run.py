"""One request on its way through a graph: what it waits for, and how all of it is given up at once.

Hops belong to a scope, scopes to a scope, up to that of the run: a branch that is not needed any more (another member
of an ensemble has failed) is given up with everything under it, and the run with all its branches when its client goes.
Every hop has the run's one deadline, so whoever is late is told so by the queue it waits in; there is no timer here.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.graph.hop import Hop, Outcome, Tensors, Then


class HopRecord(msgspec.Struct, frozen=True):
    """How one hop went, for traces."""

    node: str
    began_s: float
    ended_s: float
    outcome: str
    """`ok`, or the error's name."""


HopHook = Callable[[Exchange, HopRecord], None]
"""Told of each hop that ended, with the client's exchange."""


class Target(Protocol):
    """A service, as a hop sees it."""

    def accept(self, exchange: Exchange) -> None: ...
    def leave(self, exchange: Exchange) -> None: ...


class Run(msgspec.Struct, frozen=True):
    """What all hops of a request have in common."""

    exchange: Exchange
    """The client's."""
    clock: Callable[[], float]
    hook: HopHook | None
    fail: Callable[[HttpError], None]
    """Ends the request where a hop's outcome cannot be dealt with, for a reason that is a bug."""


class Scope:
    """Hops and scopes that can be given up together. The run's own is `Exchange.run` of the client's exchange."""

    __slots__ = ("_hops", "_inner", "open", "run")

    def __init__(self, run: Run, outer: "Scope | None" = None) -> None:
        self.run = run
        self.open: bool = outer.open if outer is not None else True
        self._hops: dict[Hop, Target] = {}
        self._inner: list[Scope] = []
        if outer is not None:
            outer._inner.append(self)  # noqa: SLF001 - its own class

    def give_up(self) -> None:
        """Nobody waits for anything in here any more."""
        self.open = False
        hops, self._hops = self._hops, {}
        for hop, target in hops.items():
            hop.forget()
            target.leave(hop)
        inner, self._inner = self._inner, []
        for scope in inner:
            scope.give_up()

    def ask(self, node: str, target: Target, inputs: Tensors, then: Then) -> None:
        """Sends a hop. `then` is told how it came out, unless this is given up before."""
        run = self.run
        began_s = run.clock()

        def ended(outcome: Outcome) -> None:
            self._hops.pop(hop, None)
            if run.hook is not None:
                name = outcome.outcome if isinstance(outcome, HttpError) else "ok"
                run.hook(run.exchange, HopRecord(node, began_s, run.clock(), name))
            if self.open:
                then(outcome)

        exchange = run.exchange
        hop = Hop(inputs, began_s, exchange.deadline_s, ended, run.fail)
        hop.tenant, hop.unit = exchange.tenant, exchange.unit
        self._hops[hop] = target
        target.accept(hop)
