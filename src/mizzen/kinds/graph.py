"""A graph of models behind one endpoint: which node asks which, and what flows between them.

A graph is a list of named nodes; the first is where a request begins. A node is a model, another endpoint, or one of
four ways to put nodes together: `sequence`, `ensemble`, `switch`, `splitter`. A transform in Python is a model like any
other (format `python`). Here is what can be told from the graph alone: names, and that it ends; whether the tensors fit
together is judged where the models are known (`mizzen.policy.graph`).
"""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mizzen.kinds.build import Tensor
from mizzen.kinds.meta import DNS_LABEL, Wire
from mizzen.kinds.names import ModelReference

NODES_MAX = 64
REFERENCE = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(@[a-z][-a-z0-9]*|:[1-9][0-9]*)$"
SOURCE = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\..+$"


def _checked_reference(text: str) -> str:
    ModelReference.parse(text)
    return text


ModelName = Annotated[str, AfterValidator(_checked_reference), Field(json_schema_extra={"pattern": REFERENCE})]
"""`name@alias` (followed as the alias moves) or `name:version` (fixed)."""
Source = Annotated[str, Field(pattern=SOURCE)]
"""Where a tensor comes from: `inputs.NAME` of the node itself, or `NODE.OUTPUT`."""
Combiner = Literal["mean", "median", "min", "max", "sum", "vote", "concat"]


class Use(Wire):
    """One node's use of another."""

    node: str = Field(pattern=DNS_LABEL)
    """Name of the node."""
    inputs: dict[str, Source] = Field(default_factory=dict)
    """Where its inputs come from, where that does not follow from their names."""


class Step(Use):
    """One step of a sequence.

    An input that `inputs` does not name is the previous step's output of that name; or its only output, where the step
    has one input only; or what the sequence was given under that name for an earlier step. The first step takes what
    the sequence is given.
    """

    dependency: Literal["Hard", "Soft"] = "Hard"
    """What a failure means: `Hard`, that the request fails; `Soft`, that the sequence goes on with what the step was
    given, which it therefore has to give back under the same names."""


class Member(Use):
    """One member of an ensemble: takes what the ensemble is given."""

    dependency: Literal["Hard", "Soft"] = "Hard"
    """What a failure means: `Hard`, that the request fails; `Soft`, that the member is left out; one has to be left."""
    weight: float = Field(default=1.0, ge=0.001)
    """How much it counts in `mean`, `sum` and `vote`."""


class Ensemble(Wire):
    """All members at once, on the same inputs."""

    members: list[Member] = Field(min_length=1)
    combine: Combiner | None = None
    """How members' outputs of one name become one. Absent: their outputs are put side by side, and differ in name."""
    combine_outputs: dict[str, Combiner] = Field(default_factory=dict)
    """The same by output, where each is to be combined in a way of its own; others are left out."""


class Case(Use):
    """One way to go."""

    when: str | None = None
    """An expression over the switch's inputs, such as `score > 3 and country == "NL"`. It is judged for each row, and a
    row goes to the first case that holds. Absent, in the last case: whatever is left."""


class Share(Use):
    """One part of a split."""

    weight: int = Field(ge=0)
    """Its part of all weights."""


class Splitter(Wire):
    """Requests spread over nodes by weight."""

    shares: list[Share] = Field(min_length=1)
    by: str | None = None
    """An input whose value decides, row by row: the same value goes the same way. Absent: the request's unit decides
    (header `Mizzen-Unit`), or where it has none, chance."""


class GraphNode(Wire):
    """One node: exactly one of `model`, `endpoint`, `sequence`, `ensemble`, `switch` and `splitter`."""

    name: str = Field(pattern=DNS_LABEL)
    model: ModelName | None = None
    """A model version, with workers and a queue of its own."""
    endpoint: str | None = Field(default=None, pattern=DNS_LABEL)
    """Another endpoint of the namespace, with its own workers, queue and limits."""
    sequence: list[Step] | None = Field(default=None, min_length=1)
    """One after the other."""
    ensemble: Ensemble | None = None
    """All at once, outputs merged."""
    switch: list[Case] | None = Field(default=None, min_length=1)
    """The first case that holds."""
    splitter: Splitter | None = None
    """One of several, by weight."""
    inputs: list[Tensor] = Field(default_factory=list)
    """Inputs of a switch or splitter that only its conditions look at, where their types cannot be told otherwise."""
    outputs: dict[str, Source] = Field(default_factory=dict)
    """What the node gives, by name; absent: what the last step gives, all that members give, or what each way gives."""

    @property
    def uses(self) -> list[tuple[str, Use]]:
        """The nodes this one asks, each with its path here."""
        if self.sequence is not None:
            return [(f"sequence[{i}]", step) for i, step in enumerate(self.sequence)]
        if self.ensemble is not None:
            return [(f"ensemble.members[{i}]", member) for i, member in enumerate(self.ensemble.members)]
        if self.switch is not None:
            return [(f"switch[{i}]", case) for i, case in enumerate(self.switch)]
        if self.splitter is not None:
            return [(f"splitter.shares[{i}]", share) for i, share in enumerate(self.splitter.shares)]
        return []

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        ways = ("model", "endpoint", "sequence", "ensemble", "switch", "splitter")
        named = [way for way in ways if getattr(self, way) is not None]
        if len(named) != 1:
            found = " and ".join(named) or "none"
            raise ValueError(f"expected exactly one of {', '.join(ways)}, found {found}")
        if self.switch is not None and any(case.when is None for case in self.switch[:-1]):
            raise ValueError("switch: expected `when` in every case but the last: what follows would never be reached")
        if self.splitter is not None and not any(share.weight for share in self.splitter.shares):
            raise ValueError("splitter.shares: expected a weight above 0, found none")
        if self.ensemble is not None and self.ensemble.combine is not None and self.ensemble.combine_outputs:
            raise ValueError("ensemble: expected either combine or combineOutputs, found both")
        if self.outputs and (self.model is not None or self.endpoint is not None):
            raise ValueError("outputs: expected none: a model gives what it gives; choose where it is used")
        return self


class Graph(Wire):
    """Nodes, of which the first is where a request begins."""

    nodes: Annotated[
        list[GraphNode],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = Field(min_length=1, max_length=NODES_MAX)

    def named(self, name: str) -> GraphNode:
        """The node of that name, which exists."""
        return next(node for node in self.nodes if node.name == name)

    @property
    def models(self) -> list[GraphNode]:
        """The nodes that are models."""
        return [node for node in self.nodes if node.model is not None]

    @model_validator(mode="after")
    def _ends(self) -> Self:
        places = {node.name: index for index, node in enumerate(self.nodes)}
        if len(places) != len(self.nodes):
            twice = next(node.name for i, node in enumerate(self.nodes) if places[node.name] != i)
            raise ValueError(f"nodes: expected different names, found {twice} twice")
        if "inputs" in places:
            raise ValueError(
                f"nodes[{places['inputs']}].name: `inputs` stands for what a node is given; choose another"
            )
        for index, node in enumerate(self.nodes):
            for path, use in node.uses:
                if use.node not in places:
                    known = ", ".join(places)
                    raise ValueError(f"nodes[{index}].{path}.node: expected one of {known}, found {use.node}")
        circle = next(_circles(self), None)
        if circle is not None:
            raise ValueError(f"nodes: expected a graph without circles, found {' -> '.join(circle)}")
        unused = places.keys() - _reached(self)
        if unused:
            raise ValueError(f"nodes: expected every node to be reached from {self.nodes[0].name}, "
                             f"found {', '.join(sorted(unused))} beside it")  # fmt: skip
        return self


def _reached(graph: Graph) -> set[str]:
    reached: set[str] = set()
    waiting = [graph.nodes[0].name]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [use.node for _, use in graph.named(name).uses]
    return reached


def _circles(graph: Graph) -> Iterator[list[str]]:
    """Ways that lead back to where they came from, from the first node on."""
    done: set[str] = set()
    for root in graph.nodes:
        way: list[str] = []
        waiting: list[tuple[str, bool]] = [(root.name, True)]
        while waiting:
            name, enters = waiting.pop()
            if not enters:
                done.add(way.pop())
            elif name in way:
                yield [*way[way.index(name) :], name]
            elif name not in done:
                way.append(name)
                waiting.append((name, False))
                waiting += [(use.node, True) for _, use in reversed(graph.named(name).uses)]
