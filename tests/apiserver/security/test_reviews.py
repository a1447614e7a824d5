"""Reviews, impersonation and the default roles, put together as a user meets them."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from tests.apiserver.security.builders import ALICE, NOW, Objects, Security, binding, role, rule, thing

from mizzen.local.apiserver.errors import BadRequest, Forbidden, Invalid
from mizzen.local.apiserver.security import bootstrap, reviews
from mizzen.local.apiserver.security.authn import ANONYMOUS
from mizzen.local.apiserver.security.impersonation import impersonate
from mizzen.local.apiserver.security.rbac import Authorizer
from mizzen.local.apiserver.types import Attributes, Json, User

ADMIN = User("admin", ("system:masters", "system:authenticated"))


@pytest.fixture
def authorizer() -> Authorizer:
    """The default roles, and alice an editor of `apps`."""
    return Authorizer(Objects(*bootstrap.objects(), binding("b", "edit", "User:alice", namespace="apps")))


def may(authorizer: Authorizer, user: User, verb: str, resource: str, group: str = "", namespace: str = "") -> bool:
    resource, _, subresource = resource.partition("/")
    attributes = Attributes(verb, group, "v1", resource, subresource, namespace)
    return authorizer.authorize(user, attributes).allowed


# Access reviews


def access(verb: str = "get", resource: str = "pods", namespace: str = "apps") -> Json:
    return {"resourceAttributes": {"verb": verb, "resource": resource, "namespace": namespace}}


def test_can_i(authorizer: Authorizer) -> None:
    review = {"kind": "SelfSubjectAccessReview", "metadata": {}, "spec": access()}
    assert reviews.self_subject_access_review(authorizer, ALICE, review)["status"] == {
        "allowed": True,
        "reason": 'RBAC: allowed by RoleBinding "b/apps" of ClusterRole "edit" to User "alice"',
    }
    denied = {**review, "spec": access(namespace="other")}
    assert reviews.self_subject_access_review(authorizer, ALICE, denied) == {**denied, "status": {"allowed": False}}


def test_can_somebody(authorizer: Authorizer) -> None:
    for spec, allowed in (
        ({"user": "alice", **access("delete")}, True),
        ({"user": "bob", **access("delete")}, False),
        ({"groups": ["system:masters"], **access("delete", namespace="other")}, True),
        (
            {
                "user": "bob",
                "groups": ["system:authenticated"],
                "nonResourceAttributes": {"verb": "get", "path": "/api"},
            },
            True,
        ),
        ({"user": "bob", "nonResourceAttributes": {"verb": "get", "path": "/metrics"}}, False),
    ):
        assert reviews.subject_access_review(authorizer, {"spec": spec})["status"]["allowed"] is allowed


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({}, ["spec.resourceAttributes", "spec.user"]),
        ({"user": "a"}, ["spec.resourceAttributes"]),
        (access(), ["spec.user"]),
        ({"user": "a", **access(), "nonResourceAttributes": {"path": "/"}}, ["spec.nonResourceAttributes"]),
    ],
)
def test_reviews_that_ask_nothing(authorizer: Authorizer, spec: Json, fields: list) -> None:
    with pytest.raises(Invalid) as caught:
        reviews.subject_access_review(authorizer, {"spec": spec})
    assert [cause.field for cause in caught.value.causes] == fields
    assert all(field in caught.value.message for field in fields)


def test_a_local_review_is_about_its_namespace(authorizer: Authorizer) -> None:
    review = {"spec": {"user": "alice", **access()}}
    assert reviews.local_subject_access_review(authorizer, "apps", review)["status"]["allowed"]
    with pytest.raises(Invalid, match=r"must match metadata\.namespace"):
        reviews.local_subject_access_review(authorizer, "other", review)
    with pytest.raises(Invalid, match="disallowed on this kind of request"):
        reviews.local_subject_access_review(
            authorizer, "apps", {"spec": {"user": "alice", "nonResourceAttributes": {"verb": "get", "path": "/"}}}
        )


def test_what_may_i(authorizer: Authorizer) -> None:
    status = reviews.self_subject_rules_review(authorizer, ALICE, {"spec": {"namespace": "apps"}})["status"]
    assert {"verbs": ["create"], "apiGroups": [""], "resources": ["pods/eviction"]} in status["resourceRules"]
    assert any("/api" in found["nonResourceURLs"] for found in status["nonResourceRules"])
    assert status["incomplete"] is False
    everything = reviews.self_subject_rules_review(authorizer, ADMIN, {"spec": {"namespace": "apps"}})["status"]
    assert {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]} in everything["resourceRules"]
    with pytest.raises(BadRequest, match="no namespace on request"):
        reviews.self_subject_rules_review(authorizer, ALICE, {"spec": {}})


# Token reviews


def test_whose_token_is_this(tmp_path: Path) -> None:
    security = Security(tmp_path)
    security.objects.put(thing("ServiceAccount", "runner", "apps", metadata={"uid": "sa-1"}))

    def review(token: str, **spec: Any) -> Json:
        status: Json = reviews.token_review(security.authenticator, {"spec": {"token": token, **spec}})["status"]
        return status

    assert review(security.token(audiences=["vault"]), audiences=["vault", "x"]) == {
        "authenticated": True,
        "user": {
            "username": "system:serviceaccount:apps:runner",
            "uid": "sa-1",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:apps", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/credential-id": ["JTI=jti-1"]},
        },
        "audiences": ["vault"],
    }
    assert review("nonsense") == {"user": {}, "error": "invalid bearer token"}
    assert "authenticated" not in review(security.token())["user"]
    assert "audiences" in review(security.token(), audiences=["vault"])["error"]
    with pytest.raises(BadRequest, match="token is required"):
        review("")


def test_who_am_i() -> None:
    answer = reviews.self_subject_review(ALICE, {"kind": "SelfSubjectReview"}, NOW + dt.timedelta(seconds=1))
    assert answer["status"] == {"userInfo": {"username": "alice", "groups": ["developers", "system:authenticated"]}}
    assert answer["metadata"] == {"creationTimestamp": "2026-01-01T00:00:01Z"}


# Impersonation


def claim(objects: Objects, *headers: tuple[str, str], user: User = ALICE) -> User:
    return impersonate(Authorizer(objects), user, headers)


def impersonator(*rules: Json) -> Objects:
    return Objects(role("i", *rules), binding("i", "i", "User:alice"))


@pytest.mark.parametrize(
    ("headers", "becomes"),
    [
        ([], ALICE),
        ([("Impersonate-User", "bob")], User("bob", ("system:authenticated",))),
        ([("impersonate-user", "bob"), ("IMPERSONATE-GROUP", "ops")], User("bob", ("ops", "system:authenticated"))),
        (
            [("Impersonate-User", "bob"), ("Impersonate-Group", "system:unauthenticated")],
            User("bob", ("system:unauthenticated",)),
        ),
        (
            [("Impersonate-User", "system:serviceaccount:apps:runner")],
            User(
                "system:serviceaccount:apps:runner",
                ("system:serviceaccounts", "system:serviceaccounts:apps", "system:authenticated"),
            ),
        ),
        ([("Impersonate-User", "system:anonymous")], ANONYMOUS),
        (
            [
                ("Impersonate-User", "bob"),
                ("Impersonate-Uid", "7"),
                ("Impersonate-Extra-A%2fB", "1"),
                ("Impersonate-Extra-a%2Fb", "2"),
            ],
            User("bob", ("system:authenticated",), "7", (("a/b", ("1", "2")),)),
        ),
    ],
)
def test_the_administrator_may_be_anybody(headers: list, becomes: User) -> None:
    user = ALICE if becomes is ALICE else ADMIN
    assert claim(Objects(), *headers, user=user) == becomes


@pytest.mark.parametrize(
    ("held", "headers", "message"),
    [
        (
            rule("get", "users"),
            [("Impersonate-User", "bob")],
            'users "bob" is forbidden: User "alice" cannot impersonate',
        ),
        (
            rule("impersonate", "users"),
            [("Impersonate-User", "bob"), ("Impersonate-Group", "system:masters")],
            'groups "system:masters" is forbidden',
        ),
        (
            rule("impersonate", "users groups"),
            [("Impersonate-User", "system:serviceaccount:apps:runner")],
            'serviceaccounts "runner" is forbidden: .* in the namespace "apps"',
        ),
        (rule("impersonate", "users", names="bob"), [("Impersonate-User", "eve")], 'users "eve" is forbidden'),
        (
            rule("impersonate", "users"),
            [("Impersonate-User", "bob"), ("Impersonate-Extra-scopes", "all")],
            r'userextras.authentication.k8s.io "all" is forbidden: .* resource "userextras/scopes"',
        ),
        (
            rule("impersonate", "users"),
            [("Impersonate-User", "bob"), ("Impersonate-Uid", "7")],
            "uids.authentication.k8s.io",
        ),
    ],
)
def test_every_claim_is_checked(held: Json, headers: list, message: str) -> None:
    with pytest.raises(Forbidden, match=message):
        claim(impersonator(held), *headers)


def test_what_is_allowed_may_be_claimed_and_nothing_is_inherited() -> None:
    objects = impersonator(rule("impersonate", "users", names="bob"), rule("impersonate", "groups", names="ops"))
    claimed = claim(objects, ("Impersonate-User", "bob"), ("Impersonate-Group", "ops"))
    assert claimed == User("bob", ("ops", "system:authenticated"))


@pytest.mark.parametrize("header", ["Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-a"])
def test_no_group_without_a_user(header: str) -> None:
    with pytest.raises(BadRequest, match="without impersonating a user"):
        claim(Objects(), (header, "x"), user=ADMIN)


# Default roles


def test_default_objects_are_well_formed_and_named_once() -> None:
    made = list(bootstrap.objects())
    names = [(thing["kind"], thing["metadata"]["name"]) for thing in made]
    assert len(set(names)) == len(names)
    roles = {name for kind, name in names if kind == "ClusterRole"}
    assert {thing["roleRef"]["name"] for thing in made if thing["kind"] == "ClusterRoleBinding"} <= roles
    assert all(thing["metadata"]["labels"]["kubernetes.io/bootstrapping"] == "rbac-defaults" for thing in made)


@pytest.mark.parametrize(
    ("user", "verb", "resource", "group", "namespace", "allowed"),
    [
        (ALICE, "create", "pods", "", "apps", True),
        (ALICE, "create", "pods", "", "other", False),
        (ALICE, "get", "pods/log", "", "apps", True),
        (ALICE, "update", "pods/status", "", "apps", False),
        (ALICE, "create", "deployments", "apps", "apps", True),
        (ALICE, "update", "deployments/scale", "apps", "apps", True),
        (ALICE, "get", "secrets", "", "apps", True),
        (ALICE, "create", "roles", "rbac.authorization.k8s.io", "apps", False),
        (ALICE, "create", "selfsubjectaccessreviews", "authorization.k8s.io", "", True),
        (ANONYMOUS, "create", "selfsubjectaccessreviews", "authorization.k8s.io", "", False),
        (User("system:node:n", ("system:nodes",)), "update", "pods/status", "", "apps", True),
        (User("system:node:n", ("system:nodes",)), "create", "serviceaccounts/token", "", "apps", True),
        (User("system:node:n", ("system:nodes",)), "delete", "nodes", "", "", False),
        (User("system:kube-scheduler"), "create", "pods/binding", "", "apps", True),
        (User("system:kube-scheduler"), "create", "pods", "", "apps", False),
    ],
)
def test_default_roles(
    authorizer: Authorizer, user: User, verb: str, resource: str, group: str, namespace: str, *, allowed: bool
) -> None:
    assert may(authorizer, user, verb, resource, group, namespace) is allowed


def test_view_sees_no_secrets_and_admin_may_grant(authorizer: Authorizer) -> None:
    objects = Objects(
        *bootstrap.objects(),
        binding("v", "view", "User:viewer", namespace="apps"),
        binding("a", "admin", "User:chief", namespace="apps"),
    )
    authorizer = Authorizer(objects)
    assert may(authorizer, User("viewer"), "list", "pods", namespace="apps")
    assert not may(authorizer, User("viewer"), "get", "secrets", namespace="apps")
    assert not may(authorizer, User("viewer"), "create", "pods", namespace="apps")
    assert may(authorizer, User("chief"), "create", "rolebindings", "rbac.authorization.k8s.io", "apps")
    assert may(authorizer, User("chief"), "create", "pods", namespace="apps"), "admin is also an editor"


@pytest.mark.parametrize(
    ("path", "allowed"), [("/healthz", True), ("/version", True), ("/readyz/etcd", False), ("/api", False)]
)
def test_what_the_public_may_read(authorizer: Authorizer, path: str, *, allowed: bool) -> None:
    assert authorizer.authorize(ANONYMOUS, Attributes("get", path=path)).allowed is allowed


def test_defaults_come_back_but_a_users_additions_stay() -> None:
    default = next(thing for thing in bootstrap.objects() if thing["metadata"]["name"] == "system:discovery")
    assert bootstrap.reconciled(None, default) == default
    assert bootstrap.reconciled(default, default) is None
    mine = rule("get", paths="/mine")
    repaired = bootstrap.reconciled({**default, "rules": [mine]}, default)
    assert repaired is not None
    assert repaired["rules"] == [mine, *default["rules"]]
    assert bootstrap.reconciled(repaired, default) is None
    switched_off = {**default, "rules": [], "metadata": {"name": "x", "annotations": {bootstrap._AUTOUPDATE: "false"}}}
    assert bootstrap.reconciled(switched_off, default) is None
