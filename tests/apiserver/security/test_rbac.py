"""Authorization: matching by the book, freshness, refusals word for word, and a naive oracle on generated policies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.apiserver.security.builders import ALICE, Objects, binding, role, rule

from mizzen.local.apiserver.errors import Forbidden
from mizzen.local.apiserver.security.rbac import Authorizer, Decision, rules_of, stale_aggregates
from mizzen.local.apiserver.security.refusals import forbidden
from mizzen.local.apiserver.types import Attributes, Json, User

ACCOUNT = User("system:serviceaccount:apps:runner", ("system:serviceaccounts", "system:authenticated"))


def may(objects: Objects, user: User, verb: str, resource: str = "", **words: str) -> bool:
    resource, _, subresource = resource.partition("/")
    attributes = Attributes(verb, resource=resource, subresource=subresource, **words)
    return Authorizer(objects).authorize(user, attributes).allowed


def with_rule(written: Json) -> Objects:
    return Objects(role("r", written), binding("b", "r", "User:alice"))


# Rules


@pytest.mark.parametrize(
    ("written", "verb", "resource", "words", "allowed"),
    [
        (rule("get", "pods"), "get", "pods", {}, True),
        (rule("get", "pods"), "get", "pods", {"namespace": "apps"}, True),
        (rule("get", "pods"), "list", "pods", {}, False),
        (rule("*", "pods"), "deletecollection", "pods", {}, True),
        (rule("get", "pods"), "get", "services", {}, False),
        (rule("get", "pods"), "get", "pods/log", {}, False),
        (rule("get", "pods/log"), "get", "pods/log", {}, True),
        (rule("get", "pods/log"), "get", "pods", {}, False),
        (rule("get", "*"), "get", "pods/log", {}, True),
        (rule("update", "*/scale", "apps"), "update", "deployments/scale", {"group": "apps"}, True),
        (rule("update", "*/scale", "apps"), "update", "deployments", {"group": "apps"}, False),
        (rule("update", "*/scale", "apps"), "update", "deployments/status", {"group": "apps"}, False),
        (rule("update", "deployments/*", "apps"), "update", "deployments/scale", {"group": "apps"}, False),
        (rule("get", "pods", "apps"), "get", "pods", {}, False),
        (rule("get", "pods", "*"), "get", "pods", {"group": "apps"}, True),
        (rule("get", "secrets", names="mine"), "get", "secrets", {"name": "mine"}, True),
        (rule("get", "secrets", names="mine"), "get", "secrets", {"name": "yours"}, False),
        (rule("list create", "secrets", names="mine"), "list", "secrets", {}, False),
        (rule("list", "secrets", names="mine"), "list", "secrets", {"name": "mine"}, True),
        (rule("get", paths="/metrics"), "get", "", {"path": "/metrics"}, True),
        (rule("get", paths="/metrics"), "get", "", {"path": "/metrics/x"}, False),
        (rule("get", paths="/healthz/*"), "get", "", {"path": "/healthz/etcd"}, True),
        (rule("get", paths="/healthz/*"), "get", "", {"path": "/healthz"}, False),
        (rule("get", paths="*"), "post", "", {"path": "/x"}, False),
        (rule("*", paths="*"), "post", "", {"path": "/x"}, True),
        (rule("*", "*", "*"), "get", "", {"path": "/metrics"}, False),
        (rule("*", paths="*"), "get", "pods", {}, False),
        ({}, "get", "pods", {}, False),
        ({"verbs": None, "apiGroups": None, "resources": None}, "get", "pods", {}, False),
    ],
)
def test_rules(written: Json, verb: str, resource: str, words: dict, allowed: bool) -> None:
    assert may(with_rule(written), ALICE, verb, resource, **words) is allowed


# Bindings


@pytest.mark.parametrize(
    ("subject", "user", "allowed"),
    [
        ("User:alice", ALICE, True),
        ("User:alic", ALICE, False),
        ("Group:developers", ALICE, True),
        ("Group:alice", ALICE, False),
        ("User:developers", ALICE, False),
        ("Group:system:authenticated", ACCOUNT, True),
        ("ServiceAccount:apps/runner", ACCOUNT, True),
        ("ServiceAccount:other/runner", ACCOUNT, False),
        ("ServiceAccount:runner", ACCOUNT, False),
        ("User:system:serviceaccount:apps:runner", ACCOUNT, True),
        ("Robot:alice", ALICE, False),
    ],
)
def test_subjects(subject: str, user: User, *, allowed: bool) -> None:
    assert may(Objects(role("r", rule("get", "pods")), binding("b", "r", subject)), user, "get", "pods") is allowed


def test_a_role_binding_gives_in_its_namespace_only() -> None:
    """Also a ClusterRole's rules; a service account without namespace is one of that namespace."""
    objects = Objects(
        role("reader", rule("get", "pods")),
        role("writer", rule("create", "pods"), namespace="apps"),
        binding("b", "reader", "User:alice", "ServiceAccount:runner", namespace="apps"),
        binding("c", "writer", "User:alice", namespace="apps", cluster_role=False),
        binding("d", "writer", "User:alice", namespace="other", cluster_role=False),
    )
    for verb in ("get", "create"):
        assert may(objects, ALICE, verb, "pods", namespace="apps")
        assert not may(objects, ALICE, verb, "pods", namespace="other")
        assert not may(objects, ALICE, verb, "pods")
    assert may(objects, ACCOUNT, "get", "pods", namespace="apps")


def test_a_binding_to_a_role_that_is_not_there_gives_nothing() -> None:
    objects = Objects(binding("b", "gone", "User:alice"))
    assert not may(objects, ALICE, "get", "pods")
    objects.put(role("gone", rule("get", "pods")))
    assert may(objects, ALICE, "get", "pods")


def test_the_administrator_may_do_everything_whatever_is_stored() -> None:
    admin = User("admin", ("system:masters",))
    assert may(Objects(), admin, "delete", "nodes")
    assert may(Objects(), admin, "get", path="/anything")


def test_the_reason_names_the_binding() -> None:
    objects = Objects(
        role("r", rule("get", "pods")),
        binding("b", "r", "Group:developers"),
        binding("n", "r", "ServiceAccount:runner", namespace="apps"),
    )
    authorizer = Authorizer(objects)
    get = Attributes("get", resource="pods", namespace="apps")
    assert authorizer.authorize(ALICE, get) == Decision(
        allowed=True, reason='RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to Group "developers"'
    )
    assert authorizer.authorize(ACCOUNT, get).reason == (
        'RBAC: allowed by RoleBinding "n/apps" of ClusterRole "r" to ServiceAccount "runner/apps"'
    )


# Freshness


def test_decisions_follow_every_change_at_once() -> None:
    objects = Objects()
    authorizer = Authorizer(objects)
    get = Attributes("get", resource="pods", namespace="apps")
    assert not authorizer.authorize(ALICE, get).allowed
    steps = [
        (lambda: objects.put(role("r", rule("get", "pods"))), False),
        (lambda: objects.put(binding("b", "r", "User:alice")), True),
        (lambda: objects.put(role("r", rule("list", "pods"))), False),
        (lambda: objects.put(role("r", rule("get", "pods"))), True),
        (lambda: objects.drop("ClusterRoleBinding", "", "b"), False),
        (lambda: objects.put(role("x", rule("get", "pods"), namespace="apps")), False),
        (lambda: objects.put(binding("y", "x", "User:alice", namespace="apps", cluster_role=False)), True),
        (lambda: objects.drop("Role", "apps", "x"), False),
    ]
    for change, allowed in steps:
        change()
        assert authorizer.authorize(ALICE, get).allowed is allowed


def test_an_unchanged_policy_is_compiled_once() -> None:
    authorizer = Authorizer(with_rule(rule("get", "pods")))
    for index in range(50):
        authorizer.authorize(ALICE, Attributes("get", resource="pods", name=f"p{index % 5}"))
    assert (authorizer.statistics().compiled, authorizer.statistics().decisions) == (1, 5)


def test_memory_is_bounded() -> None:
    authorizer = Authorizer(with_rule(rule("get", "pods")))
    for index in range(20_000):
        authorizer.authorize(User(f"u{index}"), Attributes("get", resource="pods"))
    statistics = authorizer.statistics()
    assert statistics.decisions <= 8192
    assert statistics.users <= 512


# Aggregation

TO_ADMIN = {"labels": {"to-admin": "true"}}


def aggregated(name: str, *selectors: Json, **metadata: dict) -> Json:
    return role(name, aggregationRule={"clusterRoleSelectors": list(selectors)}, metadata=metadata)


def test_an_aggregated_role_has_the_rules_of_those_it_selects() -> None:
    """At once, through several levels, and even in a circle."""
    objects = Objects(
        aggregated("admin", {"matchLabels": {"to-admin": "true"}}),
        aggregated("edit", {"matchLabels": {"to-edit": "true"}}, **TO_ADMIN),
        role("pods", rule("get", "pods"), metadata={"labels": {"to-edit": "true"}}),
        binding("b", "admin", "User:alice"),
    )
    assert may(objects, ALICE, "get", "pods")
    assert not may(objects, ALICE, "get", "services")
    objects.put(role("services", rule("get", "services"), metadata=TO_ADMIN))
    assert may(objects, ALICE, "get", "services")
    objects.put(aggregated("edit", {"matchLabels": {"to-admin": "true"}}, **TO_ADMIN))
    assert may(objects, ALICE, "get", "services")
    assert not may(objects, ALICE, "get", "pods")


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({"matchLabels": {"to-admin": "true"}}, True),
        ({"matchLabels": {"to-admin": "false"}}, False),
        ({"matchExpressions": [{"key": "to-admin", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "to-admin", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "to-admin", "operator": "In", "values": ["true"]}]}, True),
        ({"matchExpressions": [{"key": "to-admin", "operator": "NotIn", "values": ["true"]}]}, False),
        ({"matchExpressions": [{"key": "to-admin", "operator": "Bogus"}]}, False),
    ],
)
def test_selectors_of_aggregation(selector: Json, *, selected: bool) -> None:
    parts = [aggregated("all", selector), role("part", rule("get", "pods"), metadata=TO_ADMIN)]
    assert rules_of(parts[0], parts) == ([rule("get", "pods")] if selected else [])


def test_what_is_aggregated_can_be_written_where_users_see_it() -> None:
    objects = Objects(aggregated("all", {"matchLabels": {"to-admin": "true"}}), role("plain", rule("get", "nodes")))
    assert stale_aggregates(objects) == []
    objects.put(role("part", rule("get", "pods"), metadata=TO_ADMIN))
    (stale,) = stale_aggregates(objects)
    assert (stale["metadata"]["name"], stale["rules"]) == ("all", [rule("get", "pods")])
    objects.put(stale)
    assert stale_aggregates(objects) == []


# Refusals


@pytest.mark.parametrize(
    ("attributes", "message", "details"),
    [
        (
            Attributes("list", resource="pods", namespace="default"),
            'pods is forbidden: User "alice" cannot list resource "pods" in API group "" in the namespace "default"',
            {"kind": "pods"},
        ),
        (
            Attributes("list", resource="pods"),
            'pods is forbidden: User "alice" cannot list resource "pods" in API group "" at the cluster scope',
            {"kind": "pods"},
        ),
        (
            Attributes("delete", "b", "v1", "jobs", name="j"),
            'jobs.b "j" is forbidden: User "alice" cannot delete resource "jobs" in API group "b" at the cluster scope',
            {"name": "j", "group": "b", "kind": "jobs"},
        ),
        (
            Attributes("get", resource="pods", subresource="log", namespace="a", name="p"),
            'pods "p" is forbidden: User "alice" cannot get resource "pods/log" in API group "" in the namespace "a"',
            {"name": "p", "kind": "pods"},
        ),
        (Attributes("get", path="/metrics"), 'forbidden: User "alice" cannot get path "/metrics"', None),
    ],
)
def test_refusals_are_worded_as_kubernetes_words_them(
    attributes: Attributes, message: str, details: Json | None
) -> None:
    with pytest.raises(Forbidden) as caught:
        Authorizer(Objects()).require(ALICE, attributes)
    status = caught.value.to_status()
    assert (status["message"], status["reason"], status["code"]) == (message, "Forbidden", 403)
    assert status.get("details") == details


def test_a_refusal_holds_no_html() -> None:
    refused = forbidden(User('<script>"&'), Attributes("list", resource="pods"), "because <b>")
    assert refused.message == (
        'pods is forbidden: User "&lt;script&gt;"&amp;" cannot list resource "pods" in API group "" '
        "at the cluster scope: because <b>"
    )


# A naive oracle: all bindings, all rules, one after the other.

words = st.sampled_from(["a", "b", "c"])
starred = st.lists(words | st.just("*"), max_size=2)
namespaces = st.sampled_from(["", "n1", "n2"])
resources = st.lists(
    st.sampled_from(["*", "*/s", "a", "b", "a/s", "b/s", "a/t", "a/*"]),
    max_size=2,
)
rules = st.fixed_dictionaries(
    {"verbs": starred},
    optional={
        "apiGroups": starred,
        "resources": resources,
        "resourceNames": st.lists(words, max_size=1),
        "nonResourceURLs": st.lists(st.sampled_from(["*", "/a", "/a/*", "/a*"]), max_size=1),
    },
)
roles = st.builds(
    lambda name, namespace, written: role(name, *written, namespace=namespace),
    words,
    namespaces,
    st.lists(rules, max_size=2),
)
subjects = st.sampled_from(["User:u1", "User:u2", "Group:g1", "ServiceAccount:n1/a", "ServiceAccount:a"])
bindings = st.builds(
    lambda name, namespace, ref, who, cluster: binding(
        name, ref, *who, namespace=namespace, cluster_role=cluster or not namespace
    ),
    words,
    namespaces,
    words,
    st.lists(subjects, max_size=2),
    st.booleans(),
)
users = st.sampled_from(
    [User("u1"), User("u2", ("g1",)), User("system:serviceaccount:n1:a"), User("system:serviceaccount:n2:a")]
)
requests = st.one_of(
    st.builds(
        lambda verb, group, resource, subresource, namespace, name: Attributes(
            verb, group, "v1", resource, subresource, namespace, name
        ),
        words,
        words,
        words,
        st.sampled_from(["", "s", "t"]),
        namespaces,
        st.sampled_from(["", "a", "b"]),
    ),
    st.builds(lambda verb, path: Attributes(verb, path=path), words, st.sampled_from(["/a", "/a/b", "/ab", "/b"])),
)


def naive(objects: list[Json], user: User, asked: Attributes) -> bool:
    found = False
    stored = {
        (thing["kind"], thing["metadata"].get("namespace", ""), thing["metadata"]["name"]): thing for thing in objects
    }
    for (kind, namespace, _), bound in stored.items():
        if not kind.endswith("Binding") or (namespace and namespace != asked.namespace):
            continue
        for subject in bound["subjects"]:
            home = subject.get("namespace") or namespace
            who = {
                "User": user.name == subject["name"],
                "Group": subject["name"] in user.groups,
                "ServiceAccount": bool(home) and user.name == f"system:serviceaccount:{home}:{subject['name']}",
            }[subject["kind"]]
            ref = bound["roleRef"]
            target = stored.get((ref["kind"], "" if ref["kind"] == "ClusterRole" else namespace, ref["name"]))
            if who and target:
                found = found or any(naive_rule(written, asked) for written in target["rules"])
    return found


def naive_rule(written: Json, asked: Attributes) -> bool:
    if not any(verb in {"*", asked.verb} for verb in written["verbs"]):
        return False
    if asked.path:
        return any(
            url in {"*", asked.path} or (url[-1] == "*" and asked.path.startswith(url[:-1]))
            for url in written.get("nonResourceURLs", [])
        )
    wanted = asked.resource + ("/" + asked.subresource if asked.subresource else "")
    return (
        any(group in {"*", asked.group} for group in written.get("apiGroups", []))
        and any(
            pattern in {"*", wanted} or (asked.subresource and pattern == "*/" + asked.subresource)
            for pattern in written.get("resources", [])
        )
        and (not written.get("resourceNames") or asked.name in written["resourceNames"])
    )


@given(
    policy=st.lists(roles | bindings, max_size=8),
    later=st.lists(roles | bindings, max_size=3),
    asked=st.lists(st.tuples(users, requests), min_size=1, max_size=4),
)
def test_agrees_with_a_naive_oracle(
    policy: list[Json], later: list[Json], asked: list[tuple[User, Attributes]]
) -> None:
    """Before and after changes, for users asking in turn."""
    objects = Objects(*policy)
    authorizer = Authorizer(objects)
    stored = {
        (thing["kind"], thing["metadata"].get("namespace", ""), thing["metadata"]["name"]): thing for thing in policy
    }
    for change in [None, *later]:
        if change is not None:
            objects.put(change)
            stored[change["kind"], change["metadata"].get("namespace", ""), change["metadata"]["name"]] = change
        for user, attributes in asked:
            expected = naive(list(stored.values()), user, attributes)
            assert authorizer.authorize(user, attributes).allowed is expected
            assert authorizer.authorize(user, attributes).allowed is expected, "from memory"


@given(policy=st.lists(roles | bindings, max_size=8), user=users, namespace=namespaces)
def test_the_rules_of_a_user_are_what_decides(policy: list[Json], user: User, namespace: str) -> None:
    """`rules_for` lists what `authorize` goes by."""
    authorizer = Authorizer(Objects(*policy))
    held = authorizer.rules_for(user, namespace)
    for asked in (Attributes("a", "a", "v1", "a", "", namespace), Attributes("a", "a", "v1", "a", "s", namespace, "a")):
        assert authorizer.authorize(user, asked).allowed is any(rule.allows(asked) for rule in held)
