"""Who may do what: authentication, RBAC, reviews, impersonation, escalation."""

from collections.abc import Callable

import pytest

from .client import Api, Json, Refused, Resource, eventually, refused
from .objects import account, binding, config_map, role, rule, service_account, user
from .surroundings import Namespace

ROLES = "rbac.authorization.k8s.io/v1/roles"
BINDINGS = "rbac.authorization.k8s.io/v1/rolebindings"
CLUSTER_ROLES = "rbac.authorization.k8s.io/v1/clusterroles"
CLUSTER_BINDINGS = "rbac.authorization.k8s.io/v1/clusterrolebindings"


def token_of(ns: Namespace, name: str) -> str:
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    return str(ns("serviceaccounts").post(name, "token", request)["status"]["token"])


@pytest.fixture
def robot(ns: Namespace, api: Api) -> Api:
    """A service account of the test's namespace, by its own token, with no rights but everybody's."""
    ns("serviceaccounts").create(service_account("robot"))
    return api.with_token(token_of(ns, "robot"))


def rules_of(who: Api, namespace: str) -> Json:
    """What SelfSubjectRulesReview says."""
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
    status: Json = who.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", body)["status"]
    return status


def await_rules(who: Api, ns: Namespace, *rules: Json) -> None:
    """Return once the rules hold: servers learn of RBAC changes by watching, soon but not at once."""

    def hold() -> bool:
        status = rules_of(who, ns.name)
        return all(one in status["resourceRules"] + status["nonResourceRules"] for one in rules)

    eventually(hold, f"the rules hold: {rules}")


def grant(robot: Api, ns: Namespace, *rules: Json) -> None:
    """Give the robot these rules in its namespace."""
    ns(ROLES).create(role("robot", *rules))
    ns(BINDINGS).create(binding("robot", "robot", account("robot", ns.name)))
    await_rules(robot, ns, *rules)


# Authentication


def test_without_credentials(api: Api) -> None:
    """An anonymous request to the API is forbidden (or, where anonymous access is off, unauthorized)."""
    response = api.anonymous().request("GET", "/api/v1/namespaces")
    assert response.status_code in {401, 403}
    status = response.json()
    assert (status["kind"], status["reason"]) == (
        "Status",
        {401: "Unauthorized", 403: "Forbidden"}[response.status_code],
    )
    if response.status_code == 403:
        assert 'User "system:anonymous" cannot list resource "namespaces"' in status["message"]


@pytest.mark.parametrize("credentials", ["Bearer nope", "Bearer a.b.c", "Bearer", "Basic bm86bm8="], ids=range(4))
def test_bad_credentials(api: Api, credentials: str) -> None:
    """A token that nobody issued is 401 even where anonymous requests are allowed; what is no bearer is anonymous."""
    response = api.anonymous(Authorization=credentials).request("GET", "/api/v1/namespaces")
    assert response.status_code in ({401} if credentials in {"Bearer nope", "Bearer a.b.c"} else {401, 403})
    if response.status_code == 401:
        assert response.json() == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": "Unauthorized",
            "reason": "Unauthorized",
            "code": 401,
        }


def test_a_bad_token_opens_nothing(api: Api) -> None:
    """Not even what everybody may read."""
    assert api.with_token("nope").request("GET", "/version").status_code == 401


def test_a_forged_token(api: Api, ns: Namespace, robot: Api) -> None:
    """A token whose claims or signature are changed is refused."""
    header, claims, signature = token_of(ns, "robot").split(".")
    flipped = signature[:-2] + ("AA" if not signature.endswith("AA") else "BB")
    for forged in (f"{header}.{claims}.{flipped}", f"{header}.{claims}.", f"eyJhbGciOiJub25lIn0.{claims}."):
        assert api.with_token(forged).request("GET", "/version").status_code == 401


def test_who_am_i(api: Api, ns: Namespace, robot: Api) -> None:
    """SelfSubjectReview tells a user who the server takes them for."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    info = robot.call("POST", path, body)["status"]["userInfo"]
    assert info["username"] == f"system:serviceaccount:{ns.name}:robot"
    assert set(info["groups"]) == {
        "system:serviceaccounts",
        f"system:serviceaccounts:{ns.name}",
        "system:authenticated",
    }
    assert info["uid"] == ns("serviceaccounts").get("robot")["metadata"]["uid"]
    assert "system:authenticated" in api.call("POST", path, body)["status"]["userInfo"]["groups"]


# RBAC


def test_nothing_is_allowed_at_first(robot: Api, ns: Namespace) -> None:
    """A new service account may do nothing; the refusal says who, what, and where."""
    name = f"system:serviceaccount:{ns.name}:robot"
    with refused(403, "Forbidden") as error:
        ns("configmaps", robot).list()
    assert error.message == (
        f'configmaps is forbidden: User "{name}" cannot list resource "configmaps" in API group "" '
        f'in the namespace "{ns.name}"'
    )
    assert error.details == {"kind": "configmaps"}
    with refused(403, "Forbidden") as error:
        ns("apps/v1/deployments", robot).delete("web")
    assert error.message == (
        f'deployments.apps "web" is forbidden: User "{name}" cannot delete resource "deployments" in API group "apps" '
        f'in the namespace "{ns.name}"'
    )
    assert error.details == {"name": "web", "group": "apps", "kind": "deployments"}
    with refused(403, "Forbidden", 'cannot list resource "nodes" in API group "" at the cluster scope'):
        robot.resource("nodes").list()


def test_a_role_allows_its_verbs(robot: Api, ns: Namespace, namespaces) -> None:
    """The verbs and resources of the rule, in the binding's namespace, and no more."""
    grant(robot, ns, rule("get,list,create", "configmaps"))
    maps = ns("configmaps", robot)
    maps.create(config_map("one"))
    assert maps.get("one")["metadata"]["name"] == "one"
    assert "one" in maps.names()
    for attempt in (
        lambda: maps.delete("one"),
        lambda: maps.patch("one", {"data": {}}),
        lambda: maps.replace(config_map("one")),
        maps.delete_all,
        lambda: ns("secrets", robot).list(),
        lambda: namespaces()("configmaps", robot).list(),
        lambda: robot.resource("configmaps").list(),
    ):
        with refused(403, "Forbidden"):
            attempt()
    with refused(403, "Forbidden", 'cannot watch resource "configmaps"'), maps.watch():
        pass


def test_rights_can_be_taken_away(robot: Api, ns: Namespace) -> None:
    """Deleting the binding ends the right."""
    grant(robot, ns, rule("list", "configmaps"))
    ns("configmaps", robot).list()
    ns(BINDINGS).delete("robot")
    eventually_refused(lambda: ns("configmaps", robot).list())


def eventually_refused(attempt: Callable[[], object]) -> None:
    def is_refused() -> bool:
        try:
            attempt()
        except Refused as error:
            return error.code == 403
        return False

    eventually(is_refused, "the request is forbidden")


@pytest.mark.parametrize(
    ("rules", "allowed", "denied"),
    [
        ([rule("*", "configmaps")], [("delete", "configmaps", "x")], [("get", "secrets", "x")]),
        ([rule("get", "*")], [("get", "secrets", "x"), ("get", "configmaps", "x")], [("delete", "secrets", "x")]),
        (
            [rule("get", "configmaps", resourceNames=["one"])],
            [("get", "configmaps", "one")],
            [("get", "configmaps", "two"), ("list", "configmaps", "")],
        ),
        ([rule("get", "pods/log")], [("get", "pods/log", "x")], [("get", "pods", "x")]),
        ([rule("get", "pods")], [("get", "pods", "x")], [("get", "pods/log", "x")]),
        ([rule("patch", "*/status")], [("patch", "pods/status", "x")], [("patch", "pods", "x")]),
        ([rule("get", "deployments", "apps")], [("get", "apps/deployments", "x")], [("get", "deployments", "x")]),
        ([rule("get", "widgets", "*")], [("get", "any.example.com/widgets", "x")], [("list", "widgets", "")]),
        ([rule("get", "a"), rule("list", "b")], [("get", "a", ""), ("list", "b", "")], [("list", "a", "")]),
    ],
    ids=["verbs", "resources", "names", "subresource", "no-subresource", "any-status", "group", "any-group", "two"],
)
def test_rules(api: Api, robot: Api, ns: Namespace, rules, allowed, denied) -> None:
    """Wildcards, names, groups and subresources of rules, as SubjectAccessReview sees them."""
    grant(robot, ns, *rules)
    who = f"system:serviceaccount:{ns.name}:robot"
    questions = [(question, True) for question in allowed] + [(question, False) for question in denied]
    for (verb, resource, name), expected in questions:
        assert may(api, who, verb, resource, name, ns.name) is expected, (verb, resource, name)


def may(api: Api, who: str, verb: str, resource: str, name: str = "", namespace: str = "", *groups: str) -> bool:
    """What SubjectAccessReview says of `resource`: `plural/subresource`, after `group/` where it has one."""
    parts = resource.split("/")
    group = parts.pop(0) if "." in parts[0] or parts[0] == "apps" else ""
    attributes = {"verb": verb, "group": group, "resource": parts[0], "namespace": namespace, "name": name}
    if len(parts) > 1:
        attributes["subresource"] = parts[1]
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": who, "groups": list(groups), "resourceAttributes": attributes},
    }
    answer = api.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    allowed: bool = answer["status"]["allowed"]
    return allowed


def test_a_cluster_role_bound_in_a_namespace(robot: Api, ns: Namespace, own, unique) -> None:
    """A RoleBinding gives the rules of a ClusterRole in its own namespace only."""
    name = unique()
    own(CLUSTER_ROLES, role(name, rule("list", "configmaps,nodes"), cluster=True))
    ns(BINDINGS).create(binding("robot", name, account("robot", ns.name), role_kind="ClusterRole"))
    await_rules(robot, ns, rule("list", "configmaps,nodes"))
    ns("configmaps", robot).list()
    for attempt in (robot.resource("configmaps").list, robot.resource("nodes").list):
        with refused(403, "Forbidden"):
            attempt()


def test_a_cluster_binding(robot: Api, ns: Namespace, namespaces, own, unique) -> None:
    """A ClusterRoleBinding gives its rules everywhere, non-resource paths too."""
    name = unique()
    rules = [rule("list", "configmaps,nodes"), {"verbs": ["get"], "nonResourceURLs": ["/metrics", "/debug/*"]}]
    own(CLUSTER_ROLES, role(name, *rules, cluster=True))
    own(CLUSTER_BINDINGS, binding(name, name, account("robot", ns.name), cluster=True))
    await_rules(robot, ns, *rules)
    namespaces()("configmaps", robot).list()
    robot.resource("configmaps").list()
    robot.resource("nodes").list()
    assert robot.request("GET", "/metrics").status_code != 403
    with refused(403, "Forbidden", f'User "system:serviceaccount:{ns.name}:robot" cannot get path "/logs/"'):
        robot.get("/logs/")


def test_subjects(api: Api, ns: Namespace) -> None:
    """Users, groups and service accounts are bound."""
    ns(ROLES).create(role("reader", rule("get", "configmaps")))
    subjects = [user("ann"), {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "crew"}]
    ns(BINDINGS).create(binding("reader", "reader", *subjects))
    eventually(lambda: may(api, "ann", "get", "configmaps", "x", ns.name), "the binding holds")
    assert not may(api, "bob", "get", "configmaps", "x", ns.name)
    assert may(api, "bob", "get", "configmaps", "x", ns.name, "crew")
    assert not may(api, "crew", "get", "configmaps", "x", ns.name)


def test_masters_may_do_everything(api: Api, ns: Namespace) -> None:
    """The group system:masters is above RBAC."""
    assert may(api, "x", "destroy", "anything", "x", ns.name, "system:masters")


def test_aggregated_cluster_roles_hold_their_parts(api: Api, own, unique) -> None:
    """The built-in roles view, edit and admin exist and grow from one another; cluster-admin is everything."""
    roles = api.resource(CLUSTER_ROLES)
    assert roles.get("cluster-admin")["rules"][0] == {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    for name in ("view", "edit", "admin", "system:basic-user", "system:discovery", "system:public-info-viewer"):
        assert roles.get(name)["metadata"]["labels"]["kubernetes.io/bootstrapping"] == "rbac-defaults"


@pytest.mark.parametrize(
    ("name", "may_write", "may_bind"), [("view", False, False), ("edit", True, False), ("admin", True, True)]
)
@pytest.mark.needs_controllers
def test_built_in_roles(api: Api, ns: Namespace, name: str, may_write: bool, may_bind: bool) -> None:
    """view reads but no Secrets; edit writes; admin also gives rights away. Aggregated by a controller."""
    ns(BINDINGS).create(binding("ann", name, user("ann"), role_kind="ClusterRole"))
    eventually(lambda: may(api, "ann", "list", "configmaps", "", ns.name), "the binding holds")
    assert may(api, "ann", "get", "apps/deployments", "x", ns.name)
    assert may(api, "ann", "create", "apps/deployments", "", ns.name) is may_write
    assert may(api, "ann", "get", "secrets", "x", ns.name) is may_write
    assert may(api, "ann", "create", "rbac.authorization.k8s.io/rolebindings", "", ns.name) is may_bind


def test_the_role_of_a_binding_is_fixed(ns: Namespace) -> None:
    """roleRef is immutable."""
    ns(BINDINGS).create(binding("b", "one", user("ann")))
    with refused(422, "Invalid", "cannot change roleRef") as error:
        ns(BINDINGS).patch("b", {"roleRef": {"name": "two"}})
    assert error.causes == [("roleRef", "FieldValueInvalid")]


def test_roles_are_validated(ns: Namespace) -> None:
    """A rule needs verbs, groups and resources; subjects need a kind that is known."""
    with refused(422, "Invalid") as error:
        ns(ROLES).create(role("bad", {"verbs": [], "resources": ["pods"], "apiGroups": [""]}))
    assert error.causes == [("rules[0].verbs", "FieldValueRequired")]
    with refused(422, "Invalid"):
        ns(ROLES).create(role("bad", {"verbs": ["get"], "resources": ["pods"]}))
    with refused(422, "Invalid") as error:
        ns(BINDINGS).create(binding("bad", "x", {"kind": "Robot", "name": "r"}))
    assert error.causes[0][0] == "subjects[0].kind"


# Escalation


@pytest.fixture
def granter(api: Api, ns: Namespace) -> Api:
    """A user who may write roles and bindings of the namespace and read ConfigMaps, and no more."""
    name = f"granter-of-{ns.name}"
    writes = rule("get,create,update,patch", "roles,rolebindings", "rbac.authorization.k8s.io")
    rules = [writes, rule("get,list", "configmaps")]
    ns(ROLES).create(role("granter", *rules))
    ns(BINDINGS).create(binding("granter", "granter", user(name)))
    who = api.impersonating(name, "system:authenticated")
    await_rules(who, ns, *rules)
    return who


def test_nobody_grants_what_they_do_not_have(granter: Api, ns: Namespace) -> None:
    """A role with more rights than its author has is refused; with the same rights it is made."""
    ns(ROLES, granter).create(role("same", rule("get", "configmaps")))
    with refused(403, "Forbidden", "is attempting to grant RBAC permissions not currently held"):
        ns(ROLES, granter).create(role("more", rule("get,delete", "configmaps")))
    with refused(403, "Forbidden"):
        ns(ROLES, granter).patch("same", {"rules": [rule("*", "*", "*")]})


def test_nobody_binds_what_they_do_not_have(granter: Api, ns: Namespace) -> None:
    """Binding a stronger role is refused, for oneself or for others."""
    ns(ROLES).create(role("strong", rule("get", "secrets")))
    for subject in (user("ann"), user(f"granter-of-{ns.name}")):
        with refused(403, "Forbidden", "is attempting to grant RBAC permissions not currently held"):
            ns(BINDINGS, granter).create(binding("b", "strong", subject))
    with refused(403, "Forbidden"):
        ns(BINDINGS, granter).create(binding("b", "cluster-admin", user("ann"), role_kind="ClusterRole"))


def test_bind_and_escalate_are_verbs(granter: Api, ns: Namespace) -> None:
    """The verbs bind and escalate lift the check on purpose."""
    ns(ROLES).create(role("strong", rule("get", "secrets")))
    allowed = role("lifted", rule("bind,escalate", "roles", "rbac.authorization.k8s.io"))
    ns(ROLES).create(allowed)
    ns(BINDINGS).create(binding("lifted", "lifted", user(f"granter-of-{ns.name}")))
    await_rules(granter, ns, *allowed["rules"])
    ns(BINDINGS, granter).create(binding("b", "strong", user("ann")))
    ns(ROLES, granter).create(role("more", rule("delete", "configmaps")))


# Impersonation


def test_impersonation(api: Api, ns: Namespace) -> None:
    """Who may impersonate acts with the rights of the other, and no more."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    ann = api.impersonating("ann", "crew", Impersonate_Uid="u1", Impersonate_Extra_Scope="wide")
    info = ann.call("POST", path, body)["status"]["userInfo"]
    assert (info["username"], info["uid"]) == ("ann", "u1")
    assert set(info["groups"]) == {"crew", "system:authenticated"}
    assert info["extra"] == {"scope": ["wide"]}
    with refused(403, "Forbidden", 'User "ann" cannot list resource "configmaps"'):
        ns("configmaps", ann).list()


def test_impersonating_a_service_account(api: Api, ns: Namespace, robot: Api) -> None:
    """A service account's name brings its groups."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    other = api.impersonating(f"system:serviceaccount:{ns.name}:robot")
    info = other.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body)["status"]["userInfo"]
    assert {"system:serviceaccounts", f"system:serviceaccounts:{ns.name}"} <= set(info["groups"])


def test_impersonation_is_a_right(robot: Api, ns: Namespace) -> None:
    """Without the verb impersonate it is forbidden, and says so."""
    robot._headers["Impersonate-User"] = "ann"
    with refused(403, "Forbidden", "cannot impersonate"):
        ns("configmaps", robot).list()


def test_impersonating_groups_without_a_user(api: Api) -> None:
    """Groups alone are nobody."""
    response = api.request("GET", "/version", headers={"Impersonate-Group": "system:masters"})
    assert response.status_code in {400, 403, 500}


# Reviews


def test_subject_access_review(api: Api, ns: Namespace) -> None:
    """The answer holds the question, and allowed; with neither or both attributes it is invalid."""
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    body: Json = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    attributes = {"verb": "get", "resource": "pods", "namespace": ns.name}
    answer = api.call("POST", path, body | {"spec": {"user": "ann", "resourceAttributes": attributes}})
    assert answer["spec"]["user"] == "ann"
    assert answer["status"]["allowed"] is False
    assert answer["status"].get("denied", False) is False
    for spec in ({"user": "ann"}, {"resourceAttributes": attributes}):
        with refused(422, "Invalid"):
            api.call("POST", path, body | {"spec": spec})
    nonresource = {
        "user": "ann",
        "groups": ["system:authenticated"],
        "nonResourceAttributes": {"verb": "get", "path": "/version"},
    }
    assert api.call("POST", path, body | {"spec": nonresource})["status"]["allowed"] is True


def test_self_subject_access_review(robot: Api, ns: Namespace) -> None:
    """Everybody may ask about themselves."""
    grant(robot, ns, rule("get", "configmaps"))
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

    def allowed(**attributes: str) -> bool:
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        answer = robot.call("POST", path, body | {"spec": {"resourceAttributes": attributes | {"namespace": ns.name}}})
        return bool(answer["status"]["allowed"])

    assert allowed(verb="get", resource="configmaps")
    assert not allowed(verb="delete", resource="configmaps")


def test_local_subject_access_review(api: Api, ns: Namespace) -> None:
    """In a namespace, about that namespace."""
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "LocalSubjectAccessReview",
        "metadata": {"namespace": ns.name},
        "spec": {"user": "ann", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": ns.name}},
    }
    path = f"/apis/authorization.k8s.io/v1/namespaces/{ns.name}/localsubjectaccessreviews"
    assert api.call("POST", path, body)["status"]["allowed"] is False
    body["spec"]["resourceAttributes"]["namespace"] = "default"
    with refused(422, "Invalid"):
        api.call("POST", path, body)


def test_self_subject_rules_review(robot: Api, ns: Namespace) -> None:
    """The rules that hold for the asker in a namespace."""
    grant(robot, ns, rule("get", "configmaps", resourceNames=["one"]))
    status = rules_of(robot, ns.name)
    mine = {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"]}
    assert mine in status["resourceRules"]
    assert any("/version" in one["nonResourceURLs"] for one in status["nonResourceRules"])
    assert status["incomplete"] is False


def test_only_some_may_ask_about_others(robot: Api, ns: Namespace) -> None:
    """SubjectAccessReview is itself a right."""
    with refused(403, "Forbidden"):
        may(robot, "ann", "get", "configmaps", "x", ns.name)


def test_token_review(api: Api, ns: Namespace, robot: Api) -> None:
    """TokenReview tells whose token it is; a bad one is not authenticated, which is no error."""

    def review(token: str, **spec: object) -> Json:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token} | spec}
        status: Json = api.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)["status"]
        return status

    good = review(token_of(ns, "robot"))
    assert good["authenticated"] is True
    assert good["user"]["username"] == f"system:serviceaccount:{ns.name}:robot"
    bad = review("nope")
    assert bad.get("authenticated", False) is False
    assert bad.get("user", {}) == {}
    foreign = review(token_of(ns, "robot"), audiences=["somebody-else"])
    assert foreign.get("authenticated", False) is False


def test_writes_need_their_own_verb(robot: Api, ns: Namespace) -> None:
    """An apply that creates needs create besides patch; a delete of a collection needs deletecollection."""
    grant(robot, ns, rule("patch,get,delete", "configmaps"))
    maps = ns("configmaps", robot)
    with refused(403, "Forbidden", 'cannot create resource "configmaps"'):
        maps.apply(config_map("one"))
    ns("configmaps").create(config_map("one"))
    maps.apply(config_map("one", {"a": "1"}), force="true")
    with refused(403, "Forbidden", 'cannot deletecollection resource "configmaps"'):
        maps.delete_all()


def test_status_is_a_right_of_its_own(robot: Api, widgets: Resource, widgets_group: str, ns: Namespace) -> None:
    """Rights on an object do not include its status, nor the other way round."""
    grant(robot, ns, rule("patch", "widgets/status", widgets_group))
    widgets.create({"apiVersion": f"{widgets_group}/v1", "kind": "Widget", "metadata": {"name": "one"}})
    mine = ns(f"{widgets_group}/v1/widgets", robot)
    assert mine.patch("one", {"status": {"x": 1}}, subresource="status")["status"] == {"x": 1}
    with refused(403, "Forbidden"):
        mine.patch("one", {"spec": {"x": 1}})
