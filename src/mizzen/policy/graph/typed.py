"""A declared graph with its models' signatures: checked, and every tensor's way worked out.

Types flow upwards: a model takes and gives what its signature says; what a node takes is what the nodes it asks take
and do not get from each other; what it gives is what they give, chosen or combined. Where two nodes take the same input
it has to be of both types. The result says for each use of a node where each of its inputs comes from, so that whoever
runs the graph looks nothing up and decides nothing but the conditions.

What only a condition (or a splitter's `by`) looks at has no type from below. It is taken from above: from what the node
is given where it is used in a sequence; at the beginning of a graph it has to be declared in the node's `inputs`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mizzen.kinds.build import Signature
from mizzen.kinds.graph import Combiner, Graph, GraphNode, Member, Step, Use
from mizzen.policy.graph.combining import combined_type
from mizzen.policy.graph.expression import Condition, ExpressionError, compiled, names_in
from mizzen.policy.graph.ports import GraphError, Ports, Type, joined, met, named, ports_of

HOPS_MAX = 256
"""Models that one request may be sent to, at most: a node may be used often, and what it asks too."""
OWN = -1
"""As the place a tensor comes from: what the node itself was given."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where one tensor comes from: the outputs of the use at `place`, or `OWN`."""

    name: str
    """What it is called where it goes."""
    place: int
    source: str
    """What it is called where it comes from."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One use of a node."""

    node: "Typed"
    inputs: tuple[Way, ...]
    soft: bool = False
    weight: float = 1.0
    when: Condition | None = None


@dataclass(frozen=True, slots=True)
class Typed:
    """A node, with what it takes and gives."""

    node: GraphNode
    path: str
    inputs: Ports
    outputs: Ports
    uses: tuple[Asked, ...] = ()
    given: tuple[Way, ...] = ()
    """Where its outputs come from; of switches and splitters, and of combined outputs, from each that was asked."""
    combined: Mapping[str, Combiner] = field(default_factory=dict)
    by_row: bool = False
    """Whether each row may go its own way: the first dimension of all it takes and gives counts rows."""

    @property
    def hops(self) -> int:
        """Models and endpoints that are asked at most, each time that this node is."""
        return _hops(self, {})


def typed(graph: Graph, leaves: Mapping[str, Signature]) -> Typed:
    """The graph's first node; `leaves` are the signatures of its models and endpoints, by the node's name.

    Raises `GraphError` where something does not fit.
    """
    root = _Typing(graph, leaves).node(graph.nodes[0].name, {})
    if root.hops > HOPS_MAX:
        raise GraphError("graph", f"expected a request to be sent to at most {HOPS_MAX} models, found {root.hops}")
    return root


class _Typing:
    def __init__(self, graph: Graph, leaves: Mapping[str, Signature]) -> None:
        self._graph = graph
        self._leaves = leaves
        self._places = {node.name: index for index, node in enumerate(graph.nodes)}
        self._known: dict[tuple[str, frozenset[tuple[str, Type]]], Typed] = {}

    def node(self, name: str, context: Ports) -> Typed:
        """That node where it is given `context`."""
        key = (name, frozenset(context.items()))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._typed(self._graph.named(name), context)
        return found

    def _typed(self, node: GraphNode, context: Ports) -> Typed:
        path = f"graph.nodes[{self._places[node.name]}]"
        if node.model is not None or node.endpoint is not None:
            signature = self._leaves[node.name]
            return Typed(node, path, ports_of(signature.inputs), ports_of(signature.outputs))
        if node.sequence is not None:
            return self._sequence(node, node.sequence, path, context)
        if node.ensemble is not None:
            return self._ensemble(node, path, context)
        return self._choice(node, path, context)

    # Sequences

    def _sequence(self, node: GraphNode, steps: list[Step], path: str, context: Ports) -> Typed:
        own: Ports = {}
        asked: list[Asked] = []
        for index, step in enumerate(steps):
            where = f"{path}.sequence[{index}]"
            before = asked[-1].node.outputs if asked else context
            callee = self.node(step.node, {**context, **own, **before})
            ways = [
                self._step_way(name, type_, step, callee, asked, own, where) for name, type_ in callee.inputs.items()
            ]
            _no_others(step, callee, where)
            if step.dependency == "Soft":
                _gives_back(callee, where)
            asked.append(Asked(callee, tuple(ways), soft=step.dependency == "Soft"))
        if node.outputs:
            given = [self._chosen(name, text, asked, own, path) for name, text in node.outputs.items()]
        else:
            given = [Way(name, len(asked) - 1, name) for name in asked[-1].node.outputs]
        _all_used(asked, given, path)
        return _made(node, path, own, asked, given)

    def _step_way(
        self, name: str, type_: Type, step: Step, callee: Typed, asked: list[Asked], own: Ports, where: str
    ) -> Way:
        """Where one input of a step comes from."""
        said = step.inputs.get(name)
        if said is not None:
            return self._said_way(name, type_, said, asked, own, f"{where}.inputs.{name}")
        if not asked:
            _take(own, name, type_, where)
            return Way(name, OWN, name)
        previous = asked[-1].node.outputs
        only = next(iter(previous)) if len(previous) == len(callee.inputs) == 1 else None
        source = name if name in previous else only
        if source is not None:
            _fit(previous[source], type_, f"{where}.inputs.{name}", f"{asked[-1].node.node.name}.{source}")
            return Way(name, len(asked) - 1, source)
        if name in own:
            _take(own, name, type_, where)
            return Way(name, OWN, name)
        raise GraphError(
            f"{where}.inputs.{name}",
            f"expected to know where {name} {type_} comes from: the step before gives {named(previous)}, and no step "
            f"before takes {name}. Say `inputs: {{{name}: inputs.{name}}}` where the graph is to be given it",
        )

    def _said_way(self, name: str, type_: Type, said: str, asked: list[Asked], own: Ports, path: str) -> Way:
        owner, _, source = said.partition(".")
        if owner == "inputs":
            _take(own, source, type_, path)
            return Way(name, OWN, source)
        place = _place(owner, source, asked, path)
        _fit(asked[place].node.outputs[source], type_, path, said)
        return Way(name, place, source)

    def _chosen(self, name: str, said: str, asked: list[Asked], own: Ports, path: str) -> Way:
        owner, _, source = said.partition(".")
        path = f"{path}.outputs.{name}"
        if owner != "inputs":
            return Way(name, _place(owner, source, asked, path), source)
        if source not in own:
            raise GraphError(path, f"expected one of what the node takes ({named(own)}), found {source}")
        return Way(name, OWN, source)

    # Ensembles

    def _ensemble(self, node: GraphNode, path: str, context: Ports) -> Typed:
        ensemble = node.ensemble
        assert ensemble is not None, "asked of ensembles only"
        own: Ports = {}
        asked = []
        for index, member in enumerate(ensemble.members):
            where = f"{path}.ensemble.members[{index}]"
            callee = self.node(member.node, context)
            ways = _own_ways(member, callee, own, where)
            asked.append(Asked(callee, ways, soft=member.dependency == "Soft", weight=member.weight))
        if node.outputs:
            given = [self._chosen(name, text, asked, own, path) for name, text in node.outputs.items()]
            if any(way.place != OWN and asked[way.place].soft for way in given):
                raise GraphError(f"{path}.outputs", "expected Hard members: an answer cannot lack an output")
            return _made(node, path, own, asked, given)
        combined: dict[str, Combiner] = dict(ensemble.combine_outputs)
        if ensemble.combine is not None:
            combined = dict.fromkeys(asked[0].node.outputs, ensemble.combine)
        if not combined:
            return _made(node, path, own, asked, _side_by_side(asked, ensemble.members, path))
        outputs: Ports = {}
        for name, combiner in combined.items():
            types = [_output(one, name, f"{path}.ensemble.members[{i}]") for i, one in enumerate(asked)]
            found = combined_type(combiner, types)
            if isinstance(found, str):
                raise GraphError(f"{path}.ensemble.combine", f"{name}: {found}")
            outputs[name] = found
        return Typed(node, path, own, outputs, tuple(asked), (), combined, _by_row(own, outputs))

    # Switches and splitters

    def _choice(self, node: GraphNode, path: str, context: Ports) -> Typed:
        own: Ports = {}
        declared = {**context, **ports_of(node.inputs)}
        asked = []
        for inner, use in node.uses:
            callee = self.node(use.node, declared)
            asked.append((use, f"{path}.{inner}", callee, _own_ways(use, callee, own, f"{path}.{inner}")))
        if node.splitter is not None and node.splitter.by is not None:
            _look_at(node.splitter.by, own, declared, f"{path}.splitter.by")
        conditions = []
        for index, case in enumerate(node.switch or ()):
            if case.when is not None:
                conditions.append(_condition_inputs(case.when, own, declared, f"{path}.switch[{index}].when"))
        outputs = _same_outputs([(where, callee) for _, where, callee, _ in asked])
        compiled_ = [_compiled(text, own, where) for text, where in conditions]
        compiled_ += [None] * (len(asked) - len(compiled_))
        weights = [share.weight for share in node.splitter.shares] if node.splitter is not None else [1] * len(asked)
        uses = tuple(
            Asked(callee, ways, weight=weight, when=when)
            for (_, _, callee, ways), weight, when in zip(asked, weights, compiled_, strict=True)
        )
        if node.switch is not None and node.switch[-1].when is not None:
            raise GraphError(f"{path}.switch", "expected a last case without `when`, for rows that no case holds for")
        if node.outputs:
            raise GraphError(f"{path}.outputs", "expected none: a switch or splitter gives what each way gives")
        by_row = _by_row(own, outputs)
        looked_at = {name for when in compiled_ if when is not None for name in when.inputs}
        looked_at |= {node.splitter.by} if node.splitter is not None and node.splitter.by is not None else set()
        if not by_row and any(own[name].counts_rows for name in looked_at):
            raise GraphError(
                path,
                "expected a first dimension of any length, that of the rows, in all it takes and gives, since rows may "
                f"go different ways; found {named(own)}; {named(outputs)}",
            )
        return Typed(node, path, own, outputs, uses, (), {}, by_row)


def _hops(node: Typed, known: dict[int, int]) -> int:
    found = known.get(id(node))
    if found is None:
        found = known[id(node)] = sum(_hops(asked.node, known) for asked in node.uses) if node.uses else 1
    return found


def _made(node: GraphNode, path: str, own: Ports, asked: list[Asked], given: Iterable[Way]) -> Typed:
    ways = tuple(given)
    outputs = {
        way.name: own[way.source] if way.place == OWN else asked[way.place].node.outputs[way.source] for way in ways
    }
    return Typed(node, path, own, outputs, tuple(asked), ways, {}, _by_row(own, outputs))


def _by_row(inputs: Ports, outputs: Ports) -> bool:
    return all(type_.counts_rows for type_ in (*inputs.values(), *outputs.values()))


def _take(own: Ports, name: str, type_: Type, path: str) -> None:
    """The node takes that input, too."""
    old = own.get(name)
    found = type_ if old is None else met(old, type_)
    if found is None:
        raise GraphError(path, f"{name}: expected {old}, as another node takes it, found {type_}")
    own[name] = found


def _fit(given: Type, needed: Type, path: str, what: str) -> None:
    if met(given, needed) is None:
        raise GraphError(path, f"expected {needed}, found {what} of {given}")


def _place(owner: str, source: str, asked: list[Asked], path: str) -> int:
    """The last use of the node `owner` before here, which has to give `source`."""
    places = [index for index, one in enumerate(asked) if one.node.node.name == owner]
    if not places:
        known = ", ".join(("inputs", *(one.node.node.name for one in asked)))
        raise GraphError(path, f"expected a tensor of one of {known}, found one of {owner}")
    outputs = asked[places[-1]].node.outputs
    if source not in outputs:
        raise GraphError(path, f"expected one of what {owner} gives ({named(outputs)}), found {source}")
    return places[-1]


def _no_others(use: Use, callee: Typed, path: str) -> None:
    for name in use.inputs:
        if name not in callee.inputs:
            raise GraphError(f"{path}.inputs.{name}", f"expected one of what {use.node} takes ({named(callee.inputs)})")


def _own_ways(use: Use, callee: Typed, own: Ports, path: str) -> tuple[Way, ...]:
    """Everything comes from what the node itself is given."""
    _no_others(use, callee, path)
    ways = []
    for name, type_ in callee.inputs.items():
        owner, _, source = use.inputs.get(name, f"inputs.{name}").partition(".")
        if owner != "inputs":
            raise GraphError(f"{path}.inputs.{name}", f"expected inputs.NAME, found {owner}.{source}")
        _take(own, source, type_, path)
        ways.append(Way(name, OWN, source))
    return tuple(ways)


def _gives_back(callee: Typed, path: str) -> None:
    for name, type_ in callee.outputs.items():
        taken = callee.inputs.get(name)
        if taken is None or met(taken, type_) is None:
            raise GraphError(
                f"{path}.dependency",
                f"expected a Soft step to give only what it takes ({named(callee.inputs)}), so that the sequence can "
                f"go on without it, found {name} {type_}",
            )


def _all_used(asked: list[Asked], given: list[Way], path: str) -> None:
    """A step that nobody listens to is a step that was not connected."""
    used = {way.place for way in given}.union(*({way.place for way in one.inputs} for one in asked))
    for index, one in enumerate(asked):
        if index not in used:
            raise GraphError(
                f"{path}.sequence[{index}]",
                f"expected what {one.node.node.name} gives ({named(one.node.outputs)}) to be taken by a later step, or "
                "to be in `outputs`: say in a later step's `inputs` what it takes from here",
            )


def _side_by_side(asked: list[Asked], members: list[Member], path: str) -> list[Way]:
    ways: dict[str, Way] = {}
    for place, one in enumerate(asked):
        if one.soft:
            raise GraphError(f"{path}.ensemble.members[{place}].dependency", "expected Hard where nothing is combined")
        for name in one.node.outputs:
            if name in ways:
                other = members[ways[name].place].node
                raise GraphError(
                    f"{path}.ensemble",
                    f"expected different outputs, found {name} of {other} and of {members[place].node}: say how "
                    f"they combine (combine: mean), or name them apart "
                    f"(outputs: {{{name}-2: {members[place].node}.{name}}})",
                )
            ways[name] = Way(name, place, name)
    return list(ways.values())


def _output(one: Asked, name: str, path: str) -> Type:
    found = one.node.outputs.get(name)
    if found is None:
        raise GraphError(path, f"expected the output {name}, found {named(one.node.outputs)}")
    return found


def _same_outputs(ways: list[tuple[str, Typed]]) -> Ports:
    """What all ways give."""
    outputs = dict(ways[0][1].outputs)
    for path, callee in ways[1:]:
        if callee.outputs.keys() != outputs.keys():
            raise GraphError(
                path, f"expected the same outputs as the first ({named(outputs)}), found {named(callee.outputs)}"
            )
        for name, type_ in callee.outputs.items():
            found = joined(outputs[name], type_)
            if found is None:
                raise GraphError(path, f"{name}: expected {outputs[name]} as the first gives, found {type_}")
            outputs[name] = found
    return outputs


def _look_at(name: str, own: Ports, declared: Ports, path: str) -> None:
    """A condition looks at that input."""
    if name in own:
        return
    type_ = declared.get(name)
    if type_ is None:
        raise GraphError(
            path,
            f"expected an input of known type ({named({**declared, **own})}), found {name}: declare it in the node's "
            f"`inputs` (inputs: [{{name: {name}, datatype: FP32, shape: [-1, 1]}}])",
        )
    own[name] = type_


def _condition_inputs(text: str, own: Ports, declared: Ports, path: str) -> tuple[str, str]:
    try:
        names = names_in(text)
    except ExpressionError as error:
        raise GraphError(path, str(error)) from error
    for name in sorted(names):
        _look_at(name, own, declared, path)
    return text, path


def _compiled(text: str, own: Ports, path: str) -> Condition | None:
    try:
        return compiled(text, own)
    except ExpressionError as error:
        raise GraphError(path, str(error)) from error
