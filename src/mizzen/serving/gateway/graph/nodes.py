"""What each kind of node does with the tensors it is given.

A node is begun with its inputs and tells `then` once how it came out, at once or later; nothing here waits or sleeps.
Where each tensor comes from was worked out beforehand (`mizzen.policy.graph.typed`), so a step costs a few look-ups.
A failure says at which node it happened: `node score: no worker was ready …`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mizzen.policy.graph.combining import combine
from mizzen.policy.graph.splitting import ways
from mizzen.policy.graph.typed import OWN, Typed, Way
from mizzen.policy.traffic import key_of, point_of
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.graph.arrays import (
    columns_of,
    put_together,
    rows_bytes,
    taken,
    tensor_of,
    values_of,
)
from mizzen.serving.gateway.graph.hop import Outcome, Tensors, Then
from mizzen.serving.gateway.graph.run import Scope, Target
from mizzen.serving.tensors import BadTensorError, Tensor

Targets = Callable[[str], Target | None]
"""The service of the node of that name; `None` while there is none."""


class Node(Protocol):
    """Anything that can be asked."""

    def begin(self, scope: Scope, inputs: Tensors, then: Then) -> None: ...


def node_of(typed: Typed, targets: Targets, salt: str, chance: Callable[[], float]) -> Node:
    """The node that runs, with all below it. `salt` tells this graph's splits from another's."""
    if not typed.uses:
        return Leaf(typed, targets)
    asked = [node_of(one.node, targets, salt, chance) for one in typed.uses]
    if typed.node.sequence is not None:
        return Sequence_(typed, asked)
    if typed.node.ensemble is not None:
        return Ensemble(typed, asked)
    if typed.node.switch is not None:
        return Switch(typed, asked)
    return Splitter(typed, asked, f"{salt}/{typed.node.name}", chance)


class Leaf:
    """A model, or another endpoint."""

    def __init__(self, typed: Typed, targets: Targets) -> None:
        self._name = typed.node.name
        self._outputs = list(typed.outputs)
        self._targets = targets

    def begin(self, scope: Scope, inputs: Tensors, then: Then) -> None:
        target = self._targets(self._name)
        if target is None:
            then(HttpError(503, f"node {self._name}: there is no such endpoint", "unavailable", retry_after_s=1.0))
            return

        def ended(outcome: Outcome) -> None:
            if isinstance(outcome, HttpError):
                error = HttpError(outcome.status, f"node {self._name}: {outcome.message}", outcome.outcome)
                error.headers = outcome.headers
                then(error)
            elif any(name not in outcome for name in self._outputs):
                found = ", ".join(outcome)
                message = f"node {self._name}: expected {', '.join(self._outputs)}, got {found}"
                then(HttpError(500, message, "bad_output"))
            else:
                then(outcome)

        scope.ask(self._name, target, inputs, ended)


class Sequence_:  # noqa: N801 - the field's word, which typing has too
    """One after the other."""

    def __init__(self, typed: Typed, steps: Sequence[Node]) -> None:
        self.typed = typed
        self.steps = steps

    def begin(self, scope: Scope, inputs: Tensors, then: Then) -> None:
        _Steps(self, scope, inputs, then).go_on()


class _Steps:
    """A sequence under way."""

    __slots__ = ("_found", "_inputs", "_scope", "_sequence", "_taken", "_then")

    def __init__(self, sequence: Sequence_, scope: Scope, inputs: Tensors, then: Then) -> None:
        self._sequence = sequence
        self._scope = scope
        self._inputs = inputs
        self._then = then
        self._found: list[Tensors] = []
        self._taken: Tensors = {}
        """What the present step was given."""

    def go_on(self) -> None:
        typed, place = self._sequence.typed, len(self._found)
        if place == len(typed.uses):
            self._then(_given(typed.given, self._inputs, self._found))
            return
        self._taken = _given(typed.uses[place].inputs, self._inputs, self._found)
        self._sequence.steps[place].begin(self._scope, self._taken, self._ended)

    def _ended(self, outcome: Outcome) -> None:
        asked = self._sequence.typed.uses[len(self._found)]
        if not isinstance(outcome, HttpError):
            self._found.append(outcome)
        elif asked.soft:
            self._found.append({name: self._taken[name] for name in asked.node.outputs})
        else:
            self._then(outcome)
            return
        self.go_on()


class Ensemble:
    """All at once; the first failure of a member that has to answer is that of all, and the others are given up."""

    def __init__(self, typed: Typed, members: Sequence[Node]) -> None:
        self.typed = typed
        self._members = members

    def begin(self, scope: Scope, inputs: Tensors, then: Then) -> None:
        under_way = _Members(self, Scope(scope.run, scope), inputs, then)
        for place, (asked, member) in enumerate(zip(self.typed.uses, self._members, strict=True)):
            if not under_way.scope.open:
                return
            member.begin(under_way.scope, _given(asked.inputs, inputs, ()), partial(under_way.ended, place))

    def merged(self, inputs: Tensors, found: Sequence[Tensors | None]) -> Outcome:
        """The outputs of those that have any, one at least, as one."""
        typed = self.typed
        if not typed.combined:
            return _given(typed.given, inputs, [outputs or {} for outputs in found])
        pairs = zip(found, typed.uses, strict=True)
        members = [(outputs, asked.weight) for outputs, asked in pairs if outputs is not None]
        weights = [weight for _, weight in members]
        merged: dict[str, Tensor] = {}
        for name, combiner in typed.combined.items():
            try:
                values = combine(combiner, [values_of(outputs[name]) for outputs, _ in members], weights)
            except ValueError as error:
                return HttpError(500, f"node {typed.node.name}: {combiner} of {name}: {error}", "bad_output")
            merged[name] = tensor_of(name, typed.outputs[name].datatype, values)
        return merged


class _Members:
    """An ensemble under way."""

    __slots__ = ("_ensemble", "_error", "_found", "_inputs", "_left", "_then", "scope")

    def __init__(self, ensemble: Ensemble, scope: Scope, inputs: Tensors, then: Then) -> None:
        self._ensemble = ensemble
        self.scope = scope
        self._inputs = inputs
        self._then = then
        self._left = len(ensemble.typed.uses)
        self._found: list[Tensors | None] = [None] * self._left
        self._error: HttpError | None = None

    def ended(self, place: int, outcome: Outcome) -> None:
        self._left -= 1
        if not isinstance(outcome, HttpError):
            self._found[place] = outcome
        else:
            self._error = outcome
            if not self._ensemble.typed.uses[place].soft:
                self.scope.give_up()
                self._then(outcome)
                return
        if not self._left:
            none = all(outputs is None for outputs in self._found)
            error = self._error if none else None
            self._then(error if error is not None else self._ensemble.merged(self._inputs, self._found))


class Switch:
    """Each row to the first case that holds for it."""

    def __init__(self, typed: Typed, cases: Sequence[Node]) -> None:
        self._typed = typed
        self._cases = cases

    def begin(self, scope: Scope, inputs: Tensors, then: Then) -> None:
        typed = self._typed
        rows = _rows(inputs) if typed.by_row else 1
        chosen = np.full(rows, len(typed.uses) - 1, np.int64)
        open_ = np.ones(rows, np.bool_)
        try:
            for place, asked in enumerate(typed.uses):
                if asked.when is not None and open_.any():
                    columns = {name: columns_of(inputs[name], rows) for name in asked.when.inputs}
                    holds = asked.when.holds(columns, rows) & open_
                    chosen[holds] = place
                    open_ &= ~holds
        except BadTensorError as error:
            then(HttpError(400, f"node {typed.node.name}: {error}", "bad_request"))
            return
        _send(scope, typed, self._cases, inputs, chosen, then)


class Splitter:
    """Each unit its way."""

    def __init__(self, typed: Typed, shares: Sequence[Node], salt: str, chance: Callable[[], float]) -> None:
        splitter = typed.node.splitter
        assert splitter is not None, "made of splitters only"
        self._typed = typed
        self._shares = shares
        self._key = key_of(salt)
        self._by = splitter.by
        self._weights = [share.weight for share in splitter.shares]
        self._chance = chance

    def begin(self, scope: Scope, inputs: Tensors, then: Then) -> None:
        rows = _rows(inputs) if self._typed.by_row else 1
        unit = scope.run.exchange.unit
        if self._by is not None:
            points = [point_of(self._key, row) for row in rows_bytes(inputs[self._by], rows)]
        else:
            point = self._chance() if unit is None else point_of(self._key, unit.encode("utf-8", "surrogatepass"))
            points = [point] * rows
        _send(scope, self._typed, self._shares, inputs, ways(self._weights, points), then)


def _send(
    scope: Scope, typed: Typed, nodes: Sequence[Node], inputs: Tensors, chosen: NDArray[np.int64], then: Then
) -> None:
    """Each row the way that was chosen for it; where all go the same way nothing is taken apart."""
    first = int(chosen[0])
    if bool((chosen == first).all()):
        nodes[first].begin(scope, _given(typed.uses[first].inputs, inputs, ()), then)
        return
    used = [int(place) for place in np.unique(chosen)]
    under_way = _Ways(typed, Scope(scope.run, scope), len(chosen), len(used), then)
    for place in used:
        if not under_way.scope.open:
            return
        places = np.flatnonzero(chosen == place)
        part = {way.name: taken(inputs[way.source], places) for way in typed.uses[place].inputs}
        nodes[place].begin(under_way.scope, part, partial(under_way.ended, places))


class _Ways:
    """Rows under way on several ways."""

    __slots__ = ("_found", "_rows", "_then", "_typed", "_ways", "scope")

    def __init__(self, typed: Typed, scope: Scope, rows: int, ways_: int, then: Then) -> None:
        self._typed = typed
        self.scope = scope
        self._rows = rows
        self._ways = ways_
        self._then = then
        self._found: list[tuple[NDArray[np.int64], Tensors]] = []

    def ended(self, places: NDArray[np.int64], outcome: Outcome) -> None:
        if isinstance(outcome, HttpError):
            self.scope.give_up()
            self._then(outcome)
            return
        self._found.append((places, outcome))
        if len(self._found) < self._ways:
            return
        try:
            whole: Outcome = {
                name: put_together([(at, part[name]) for at, part in self._found], self._rows)
                for name in self._typed.outputs
            }
        except BadTensorError as error:
            whole = HttpError(500, f"node {self._typed.node.name}: {error}", "bad_output")
        self._then(whole)


def _given(ways_: Sequence[Way], own: Tensors, found: Sequence[Tensors]) -> dict[str, Tensor]:
    """The tensors that come these ways."""
    return {way.name: (own if way.place == OWN else found[way.place])[way.source] for way in ways_}


def _rows(inputs: Tensors) -> int:
    return next(iter(inputs.values())).shape[0]
