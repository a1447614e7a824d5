"""Nobody grants more than they have: messages as the real server words them, and permissions against an oracle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.apiserver.security.builders import ALICE, Objects, admission, binding, role, rule

from mizzen.local.apiserver.errors import Forbidden, NotFound
from mizzen.local.apiserver.security.escalation import NoEscalation, covers, permissions
from mizzen.local.apiserver.security.rbac import Authorizer, Rule
from mizzen.local.apiserver.types import Attributes, Json, User

RBAC = "rbac.authorization.k8s.io"
ADMIN = User("admin", ("system:masters",))


def holding(*rules: Json) -> Objects:
    """Alice holds these rules everywhere, and nothing else."""
    return Objects(role("held", *rules), binding("held", "held", "User:alice"))


def check(objects: Objects, thing: Json, *, old: Json | None = None, user: User = ALICE) -> Json:
    plugin = NoEscalation(Authorizer(objects))
    metadata = thing["metadata"]
    context = admission(
        thing["kind"],
        "CREATE" if old is None else "UPDATE",
        objects=objects,
        user=user,
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        old=old,
    )
    return plugin(context, thing)


def refusal(objects: Objects, thing: Json, *, old: Json | None = None) -> str:
    with pytest.raises(Forbidden) as caught:
        check(objects, thing, old=old)
    return caught.value.message


def test_what_is_missing_is_listed() -> None:
    message = refusal(
        holding(rule("get", "pods")),
        role("x", rule("get list", "pods secrets"), rule("get", paths="/x/*"), namespace="au"),
    )
    assert message == (
        'roles.rbac.authorization.k8s.io "x" is forbidden: user "alice" (groups=["developers" "system:authenticated"]) '
        "is attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["pods"], Verbs:["list"]}\n'
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}\n'
        '{NonResourceURLs:["/x/*"], Verbs:["get"]}'
    )


def test_what_is_held_may_be_granted() -> None:
    objects = holding(rule("get list", "pods"))
    for written in (rule("get", "pods"), rule("get list", "pods", names="a b")):
        granted = role("x", written, namespace="apps")
        assert check(objects, granted) == granted


def test_a_right_to_one_object_is_no_right_to_all() -> None:
    assert "attempting to grant" in refusal(
        holding(rule("get", "secrets", names="a")), role("x", rule("get", "secrets"))
    )


def test_rights_in_one_namespace_do_not_count_in_another() -> None:
    objects = Objects(role("r", rule("get", "pods")), binding("b", "r", "User:alice", namespace="apps"))
    check(objects, role("x", rule("get", "pods"), namespace="apps"))
    refusal(objects, role("x", rule("get", "pods"), namespace="other"))
    refusal(objects, role("x", rule("get", "pods")))


def test_escalate_allows_it() -> None:
    objects = holding(rule("escalate", "roles", RBAC))
    check(objects, role("x", rule("*", "*", "*"), namespace="apps"))
    refusal(objects, role("x", rule("*", "*", "*")))


def test_the_administrator_is_not_asked() -> None:
    check(Objects(), role("x", rule("*", "*", "*")), user=ADMIN)


def test_an_update_is_checked_whole() -> None:
    """Whoever touches a role answers for all of it, unless only the garbage collector's fields change."""
    old = role("x", rule("delete", "pods"))
    objects = holding(rule("get", "pods"))
    refusal(objects, role("x", rule("delete", "pods"), rule("get", "pods")), old=old)
    check(objects, {**old, "metadata": {**old["metadata"], "finalizers": ["a/b"]}}, old=old)
    refusal(objects, {**old, "metadata": {**old["metadata"], "finalizers": ["a/b"], "labels": {"a": "b"}}}, old=old)


def test_an_aggregation_rule_needs_everything() -> None:
    aggregating = role("x", aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]})
    message = refusal(holding(rule("get", "pods")), aggregating)
    assert message.endswith("must have cluster-admin privileges to use the aggregationRule")
    check(holding(rule("*", "*", "*"), rule("*", paths="*")), aggregating)
    assert "aggregationRule" in refusal(holding(rule("get", "pods")), role("x"), old=aggregating)


def test_a_role_may_be_bound_by_who_holds_it_or_may_bind_it() -> None:
    reader = role("reader", rule("get", "pods"))
    bound = binding("b", "reader", "User:bob", namespace="apps")
    for rules in ([rule("get", "pods")], [rule("bind", "clusterroles", RBAC, names="reader")]):
        objects = holding(*rules)
        objects.put(reader)
        assert check(objects, bound) == bound
    objects = holding(rule("bind", "clusterroles", RBAC, names="other"), rule("bind", "roles", RBAC))
    objects.put(reader)
    assert 'rolebindings.rbac.authorization.k8s.io "b" is forbidden: user "alice"' in refusal(objects, bound)


def test_a_role_that_is_not_there_cannot_be_bound() -> None:
    """Else it could be filled in later."""
    with pytest.raises(NotFound, match=r'clusterroles\.rbac\.authorization\.k8s\.io "gone" not found'):
        check(Objects(), binding("b", "gone", "User:bob"))


def test_an_aggregated_role_is_bound_with_all_that_it_gathers() -> None:
    objects = holding(rule("get", "pods"))
    objects.put(role("all", aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"part": "true"}}]}))
    objects.put(role("part", rule("get", "secrets"), metadata={"labels": {"part": "true"}}))
    assert '"secrets"' in refusal(objects, binding("b", "all", "User:bob"))


def test_other_objects_are_let_through() -> None:
    pod = {"kind": "Pod", "metadata": {"name": "p", "namespace": "apps"}}
    assert check(Objects(), pod) is pod


# Rules taken apart

words = st.lists(st.sampled_from(["*", "a", "b"]), min_size=1, max_size=2)
resources = st.lists(st.sampled_from(["*", "a", "a/s", "*/s"]), min_size=1, max_size=2)
rules = st.one_of(
    st.fixed_dictionaries(
        {"verbs": words, "apiGroups": words, "resources": resources},
        optional={"resourceNames": st.lists(st.sampled_from("xy"), min_size=1, max_size=2)},
    ),
    st.fixed_dictionaries(
        {"verbs": words, "nonResourceURLs": st.lists(st.sampled_from(["/a", "/a/*", "*"]), min_size=1, max_size=2)}
    ),
)
every_request = [
    Attributes(verb, group, "", resource, subresource, name=name)
    for verb in "abc"
    for group in "abc"
    for resource in "abc"
    for subresource in ("", "s")
    for name in ("", "x")
] + [Attributes(verb, path=path) for verb in "abc" for path in ("/a", "/a/b", "/b")]


@given(rules)
def test_a_rule_is_all_its_permissions(written: Json) -> None:
    """Taking a rule apart neither adds nor loses anything, and it covers each of its parts."""
    singles = list(permissions(written))
    for asked in every_request:
        assert Rule.of(written).allows(asked) == any(Rule.of(single).allows(asked) for single in singles)
    assert all(covers(written, single) for single in singles)


@given(held=rules, wanted=rules)
def test_what_is_covered_is_really_held(held: Json, wanted: Json) -> None:
    """No request is allowed by what may be granted that was not allowed to the one who grants it."""
    for single in permissions(wanted):
        if covers(held, single):
            for asked in every_request:
                assert not Rule.of(single).allows(asked) or Rule.of(held).allows(asked)
