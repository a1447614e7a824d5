"""Whether a Pod may run on a node: an ordered tuple of filters, each with the words in which it refuses.

The words are kube-scheduler's, because people search for them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from mizzen.kube.conditions import is_true
from mizzen.local.cluster.objects import Object, controller_uid, labels_of, name_of, spec_of, status_of
from mizzen.local.cluster.scheduling.amounts import Amounts, amounts, requests_of
from mizzen.local.cluster.selectors import matches_labels, matches_node_selector

_ZERO = Decimal(0)
_UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


@dataclass(slots=True)
class Candidate:
    """A node and what is left of it, while a plan is made."""

    node: Object
    allocatable: Amounts
    used: Amounts = field(default_factory=dict)
    ports: set[tuple[str, str, int]] = field(default_factory=set)
    """Host ports taken: address, protocol, number."""
    controllers: dict[str, int] = field(default_factory=dict)
    """How many Pods of each controller are there."""

    @classmethod
    def of(cls, node: Object) -> "Candidate":
        return cls(node, amounts(status_of(node).get("allocatable") or status_of(node).get("capacity")))

    @property
    def name(self) -> str:
        return name_of(self.node)

    def take(self, pod: Object) -> None:
        """Sets aside what the Pod asks for."""
        for name, amount in requests_of(pod).items():
            self.used[name] = self.used.get(name, _ZERO) + amount
        self.ports |= host_ports(pod)
        owner = controller_uid(pod)
        if owner:
            self.controllers[owner] = self.controllers.get(owner, 0) + 1


def host_ports(pod: Object) -> set[tuple[str, str, int]]:
    """The ports of the node that a Pod wants for itself."""
    return {
        (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", port["hostPort"])
        for container in spec_of(pod).get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("hostPort")
    }


def tolerates(pod: Object, taint: Mapping[str, Any]) -> bool:
    """Whether one of the Pod's tolerations covers the taint."""
    return any(covers(toleration, taint) for toleration in spec_of(pod).get("tolerations") or ())


def covers(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Whether a toleration covers a taint. An empty key with `Exists` covers all, an empty effect each."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def _is_ready(_: Object, candidate: Candidate) -> Iterable[str]:
    """The node says that it is ready."""
    if not is_true(status_of(candidate.node).get("conditions"), "Ready"):
        yield "node(s) were not ready"


def _is_schedulable(pod: Object, candidate: Candidate) -> Iterable[str]:
    """The node is not cordoned."""
    if spec_of(candidate.node).get("unschedulable") and not tolerates(pod, _UNSCHEDULABLE):
        yield "node(s) were unschedulable"


def _taints_are_tolerated(pod: Object, candidate: Candidate) -> Iterable[str]:
    """The Pod tolerates what the node is tainted with."""
    for taint in spec_of(candidate.node).get("taints") or ():
        if taint.get("effect") in {"NoSchedule", "NoExecute"} and not tolerates(pod, taint):
            yield f"node(s) had untolerated taint {{{taint.get('key')}: {taint.get('value') or ''}}}"
            return


def _is_selected(pod: Object, candidate: Candidate) -> Iterable[str]:
    """The node has the labels that the Pod asks for."""
    spec, labels = spec_of(pod), labels_of(candidate.node)
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    selected = matches_labels(spec.get("nodeSelector"), labels)
    if affinity is not None:
        selected = selected and matches_node_selector(affinity.get("nodeSelectorTerms") or (), labels, candidate.name)
    if not selected:
        yield "node(s) didn't match Pod's node affinity/selector"


def _ports_are_free(pod: Object, candidate: Candidate) -> Iterable[str]:
    """No Pod there has the host ports that this one wants."""
    for address, protocol, number in host_ports(pod):
        for taken_address, taken_protocol, taken_number in candidate.ports:
            same_address = "0.0.0.0" in {address, taken_address} or address == taken_address
            if same_address and (protocol, number) == (taken_protocol, taken_number):
                yield "node(s) didn't have free ports for the requested pod ports"
                return


def _fits(pod: Object, candidate: Candidate) -> Iterable[str]:
    """What the Pod asks for is left."""
    for name, amount in sorted(requests_of(pod).items()):
        left = candidate.allocatable.get(name, _ZERO) - candidate.used.get(name, _ZERO)
        if amount > left and amount > 0:
            yield "Too many pods" if name == "pods" else f"Insufficient {name}"


Filter = Callable[[Object, Candidate], Iterable[str]]
FILTERS: tuple[Filter, ...] = (
    _is_ready, _is_schedulable, _taints_are_tolerated, _is_selected, _ports_are_free, _fits,
)  # fmt: skip


def refusals(pod: Object, candidate: Candidate) -> list[str]:
    """Why the Pod may not run there, by the first filter that refuses; empty where it may."""
    for accepts in FILTERS:
        reasons = list(accepts(pod, candidate))
        if reasons:
            return reasons
    return []
