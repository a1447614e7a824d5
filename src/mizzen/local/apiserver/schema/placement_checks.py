"""What Kubernetes checks of where a Pod may run: tolerations, affinity, spreading, and the gates before scheduling."""

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import names
from mizzen.local.apiserver.schema.causes import duplicate, forbidden, invalid, not_supported, required
from mizzen.local.apiserver.types import Json

_UNSATISFIABLE = ("DoNotSchedule", "ScheduleAnyway")
_WITH_VALUES = frozenset({"In", "NotIn"})
_WITHOUT_VALUES = frozenset({"Exists", "DoesNotExist"})
_COMPARING = frozenset({"Gt", "Lt"})


def toleration(value: Json) -> Iterator[Cause]:
    key, operator, text = value.get("key") or "", value.get("operator") or "", value.get("value") or ""
    effect = value.get("effect") or ""
    if key:
        yield from (invalid("key", key, reason) for reason in names.qualified_name(key))
    elif operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield invalid("operator", operator, detail)
    if value.get("tolerationSeconds") is not None and effect != "NoExecute":
        yield invalid("effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
    if operator == "Exists" and text:
        yield invalid("operator", text, "value must be empty when `operator` is 'Exists'")
    elif operator in {"", "Equal"} and (errors := names.label_value(text)):
        yield invalid("operator", text, ";".join(errors))


def node_selector(value: Json) -> Iterator[Cause]:
    if not value.get("nodeSelectorTerms"):
        yield required("nodeSelectorTerms", "must have at least one node selector term")


def node_requirement(value: Json) -> Iterator[Cause]:
    """One line of `matchExpressions` or `matchFields`."""
    operator, values, key = value.get("operator") or "", value.get("values") or [], value.get("key") or ""
    if operator in _WITH_VALUES and not values:
        yield required("values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in _WITHOUT_VALUES and values:
        yield forbidden("values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    elif operator in _COMPARING and len(values) != 1:
        yield required("values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
    elif operator not in _WITH_VALUES | _WITHOUT_VALUES | _COMPARING:
        yield invalid("operator", operator, "not a valid selector operator")
    yield from (invalid("key", key, reason) for reason in names.qualified_name(key))


def weighted(value: Json) -> Iterator[Cause]:
    if not 1 <= (value.get("weight") or 0) <= 100:
        yield invalid("weight", value.get("weight") or 0, "must be in the range 1-100")


def pod_affinity_term(value: Json) -> Iterator[Cause]:
    key = value.get("topologyKey") or ""
    for name in value.get("namespaces") or ():
        yield from (invalid("namespace", name, reason) for reason in names.dns_label(name))
    if not key:
        yield required("topologyKey", "can not be empty")
    yield from (invalid("topologyKey", key, reason) for reason in names.qualified_name(key))


def spread_constraint(value: Json) -> Iterator[Cause]:
    unsatisfiable = value.get("whenUnsatisfiable") or ""
    for field in ("maxSkew", "minDomains"):
        number = value.get(field)
        if number is not None and number <= 0:
            yield invalid(field, number, "must be greater than zero")
    if not value.get("topologyKey"):
        yield required("topologyKey", "can not be empty")
    if unsatisfiable not in _UNSATISFIABLE:
        yield not_supported("whenUnsatisfiable", unsatisfiable, _UNSATISFIABLE)
    if value.get("minDomains") is not None and unsatisfiable != "DoNotSchedule":
        detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {unsatisfiable}"
        yield invalid("minDomains", value["minDomains"], detail)


def pod_placement(spec: Json) -> Iterator[Cause]:
    """What is said of the lists in a Pod's spec as wholes."""
    gates = [gate.get("name") or "" for gate in spec.get("schedulingGates") or ()]
    for index, name in enumerate(gates):
        yield from (invalid(f"schedulingGates[{index}]", name, reason) for reason in names.qualified_name(name))
        if name in gates[:index]:
            yield duplicate(f"schedulingGates[{index}]", name)
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        name = gate.get("conditionType") or ""
        place = f"readinessGates[{index}].conditionType"
        yield from (invalid(place, name, reason) for reason in names.qualified_name(name))
    constraints = spec.get("topologySpreadConstraints") or ()
    spreads = [(one.get("topologyKey"), one.get("whenUnsatisfiable")) for one in constraints]
    for (index, one), (_, other) in combinations(enumerate(spreads), 2):
        if one == other:
            place = f"topologySpreadConstraints[{index}].{{topologyKey, whenUnsatisfiable}}"
            yield duplicate(place, f"{{{one[0]}, {one[1]}}}")


CHECKS: dict[str, Callable[[Json], Iterable[Cause]]] = {
    "core.v1.NodeSelector": node_selector,
    "core.v1.NodeSelectorRequirement": node_requirement,
    "core.v1.PodAffinityTerm": pod_affinity_term,
    "core.v1.PreferredSchedulingTerm": weighted,
    "core.v1.Toleration": toleration,
    "core.v1.TopologySpreadConstraint": spread_constraint,
    "core.v1.WeightedPodAffinityTerm": weighted,
}
