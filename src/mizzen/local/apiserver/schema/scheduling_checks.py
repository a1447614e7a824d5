"""What Kubernetes checks of where a Pod may run: tolerations, affinity, topology, gates; in its words."""

from collections.abc import Callable, Iterable, Iterator

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import names
from mizzen.local.apiserver.schema.causes import duplicate, forbidden, invalid, required
from mizzen.local.apiserver.types import Json

_NODE_FIELDS = frozenset({"metadata.name"})
_NO_OPERATOR = "not a valid selector operator"


def toleration(value: Json) -> Iterator[Cause]:
    key, operator, text = value.get("key") or "", value.get("operator") or "", value.get("value") or ""
    yield from (invalid("key", key, reason) for reason in names.qualified_name(key) if key)
    if not key and operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield invalid("operator", operator, detail)
    if value.get("tolerationSeconds") is not None and value.get("effect") != "NoExecute":
        yield invalid("effect", value.get("effect", ""), "effect must be 'NoExecute' when `tolerationSeconds` is set")
    if operator in {"", "Equal"} and (errors := names.label_value(text)):
        yield invalid("operator", text, ";".join(errors))
    if operator == "Exists" and text:
        yield invalid("operator", text, "value must be empty when `operator` is 'Exists'")


def node_selector(value: Json) -> Iterator[Cause]:
    if not value.get("nodeSelectorTerms"):
        yield required("nodeSelectorTerms", "must have at least one node selector term")


def node_selector_term(value: Json) -> Iterator[Cause]:
    for index, rule in enumerate(value.get("matchExpressions") or ()):
        yield from _node_labels(rule, f"matchExpressions[{index}]")
    for index, rule in enumerate(value.get("matchFields") or ()):
        yield from _node_fields(rule, f"matchFields[{index}]")


def _node_labels(rule: Json, place: str) -> Iterator[Cause]:
    key, operator, values = rule.get("key") or "", rule.get("operator") or "", rule.get("values") or []
    if operator in {"In", "NotIn"} and not values:
        yield required(f"{place}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in {"Exists", "DoesNotExist"} and values:
        yield forbidden(f"{place}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    elif operator in {"Gt", "Lt"} and len(values) != 1:
        yield required(f"{place}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
    elif operator not in {"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"}:
        yield invalid(f"{place}.operator", operator, _NO_OPERATOR)
    yield from (invalid(f"{place}.key", key, reason) for reason in names.qualified_name(key))
    for index, text in enumerate(values):
        yield from (invalid(f"{place}.values[{index}]", text, reason) for reason in names.label_value(text))


def _node_fields(rule: Json, place: str) -> Iterator[Cause]:
    key, operator, values = rule.get("key") or "", rule.get("operator") or "", rule.get("values") or []
    if operator not in {"In", "NotIn"}:
        yield invalid(f"{place}.operator", operator, _NO_OPERATOR)
    elif len(values) != 1:
        detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        yield required(f"{place}.values", detail)
    if key not in _NODE_FIELDS:
        yield invalid(f"{place}.key", key, "not a valid field selector key")


def weighted(value: Json) -> Iterator[Cause]:
    weight = value.get("weight") or 0
    if not 1 <= weight <= 100:
        yield invalid("weight", weight, "must be in the range 1-100")


def pod_affinity_term(value: Json) -> Iterator[Cause]:
    if not value.get("topologyKey"):
        yield required("topologyKey", "can not be empty")


def spread_constraint(value: Json) -> Iterator[Cause]:
    skew, domains = value.get("maxSkew") or 0, value.get("minDomains")
    if skew <= 0:
        yield invalid("maxSkew", skew, "must be greater than 0")
    if not value.get("topologyKey"):
        yield required("topologyKey", "can not be empty")
    if domains is not None and domains <= 0:
        yield invalid("minDomains", domains, "must be greater than 0")
    action = value.get("whenUnsatisfiable") or ""
    if domains is not None and action != "DoNotSchedule":
        detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
        yield invalid("minDomains", domains, detail)


def pod_spec(value: Json) -> Iterator[Cause]:
    """Of a Pod's spec as a whole."""
    seen = set()
    for index, gate in enumerate(value.get("schedulingGates") or ()):
        name = gate.get("name") or ""
        yield from (invalid(f"schedulingGates[{index}]", name, reason) for reason in names.qualified_name(name))
        if name in seen:
            yield duplicate(f"schedulingGates[{index}]", name)
        seen.add(name)
    for index, gate in enumerate(value.get("readinessGates") or ()):
        kind, place = gate.get("conditionType") or "", f"readinessGates[{index}].conditionType"
        yield from (invalid(place, kind, reason) for reason in names.qualified_name(kind))
    constraints = [
        (one.get("topologyKey"), one.get("whenUnsatisfiable")) for one in value.get("topologySpreadConstraints") or ()
    ]
    for index, pair in enumerate(constraints):
        if pair in constraints[index + 1 :]:
            place = f"topologySpreadConstraints[{index}].{{topologyKey, whenUnsatisfiable}}"
            yield duplicate(place, f"{{{pair[0]}, {pair[1]}}}")


CHECKS: dict[str, Callable[[Json], Iterable[Cause]]] = {
    "core.v1.NodeSelector": node_selector,
    "core.v1.NodeSelectorTerm": node_selector_term,
    "core.v1.PodAffinityTerm": pod_affinity_term,
    "core.v1.PreferredSchedulingTerm": weighted,
    "core.v1.Toleration": toleration,
    "core.v1.TopologySpreadConstraint": spread_constraint,
    "core.v1.WeightedPodAffinityTerm": weighted,
}
