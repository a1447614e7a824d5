"""Service accounts: their tokens, and how Pods get them."""

import base64
import json

import pytest

from .client import Api, Json, Resource, eventually, refused
from .objects import account, binding, container, pod, role, rule, secret, service_account
from .surroundings import Namespace


def request_token(accounts: Resource, name: str = "robot", **spec: object) -> Json:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    return accounts.post(name, "token", body)


def claims_of(token: str) -> Json:
    part = token.split(".")[1]
    claims: Json = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


@pytest.fixture
def accounts(ns: Namespace) -> Resource:
    """Service accounts of the test's namespace, with one `robot`."""
    resource = ns("serviceaccounts")
    resource.create(service_account("robot"))
    return resource


def test_the_claims_of_a_token(accounts: Resource, ns: Namespace) -> None:
    """A token is a JWT: issuer, audience, subject, times, an identity of its own, and the account's uid."""
    uid = accounts.get("robot")["metadata"]["uid"]
    answer = request_token(accounts, expirationSeconds=1200)
    assert (answer["kind"], answer["apiVersion"]) == ("TokenRequest", "authentication.k8s.io/v1")
    token = answer["status"]["token"]
    header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    assert header["alg"] in {"RS256", "ES256"}
    assert header["kid"]
    claims = claims_of(token)
    assert claims["sub"] == f"system:serviceaccount:{ns.name}:robot"
    assert claims["aud"] == answer["spec"]["audiences"]
    assert claims["iss"]
    assert claims["jti"]
    assert claims["exp"] - claims["iat"] == 1200
    assert claims["nbf"] == claims["iat"]
    assert claims["kubernetes.io"] == {"namespace": ns.name, "serviceaccount": {"name": "robot", "uid": uid}}
    assert answer["status"]["expirationTimestamp"]


def test_the_token_is_its_accounts(api: Api, accounts: Resource, ns: Namespace) -> None:
    """With the token one is the account: refused until it is bound to a role."""
    robot = api.with_token(request_token(accounts)["status"]["token"])
    with refused(403, "Forbidden", f'User "system:serviceaccount:{ns.name}:robot"'):
        ns("configmaps", robot).list()
    ns("rbac.authorization.k8s.io/v1/roles").create(role("r", rule("list", "configmaps")))
    ns("rbac.authorization.k8s.io/v1/rolebindings").create(binding("r", "r", account("robot", ns.name)))
    eventually(lambda: robot.request("GET", ns("configmaps").path).status_code == 200, "the binding holds")


def test_a_token_dies_with_its_account(api: Api, accounts: Resource) -> None:
    """Deleting the account, even to make it again, ends its tokens."""
    robot = api.with_token(request_token(accounts)["status"]["token"])
    assert robot.request("GET", "/version").status_code == 200
    accounts.delete("robot")
    accounts.create(service_account("robot"))
    eventually(lambda: robot.request("GET", "/version").status_code == 401, "the token is refused")


@pytest.mark.parametrize("audiences", [["vault"], ["vault", "other"]])
def test_a_token_for_others_is_not_for_the_server(api: Api, accounts: Resource, audiences: list[str]) -> None:
    """A token for another audience is refused here, and reviewed for its audience."""
    token = request_token(accounts, audiences=audiences)["status"]["token"]
    assert claims_of(token)["aud"] == audiences
    assert api.with_token(token).request("GET", "/version").status_code == 401
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    spec = {"token": token, "audiences": ["vault", "unrelated"]}
    status = api.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body | {"spec": spec})["status"]
    assert (status["authenticated"], status["audiences"]) == (True, ["vault"])


@pytest.mark.parametrize("seconds", [1, 599, 2**33])
def test_the_life_of_a_token_has_bounds(accounts: Resource, seconds: int) -> None:
    """At least ten minutes, at most 2^32 seconds."""
    with refused(422, "Invalid") as error:
        request_token(accounts, expirationSeconds=seconds)
    assert error.causes[0][0] == "spec.expirationSeconds"


def test_a_token_of_nobody(accounts: Resource) -> None:
    """An account that is not there has no tokens."""
    with refused(404, "NotFound", 'serviceaccounts "absent" not found'):
        request_token(accounts, "absent")


def test_a_token_bound_to_a_pod(api: Api, accounts: Resource, pods: Resource, ns: Namespace) -> None:
    """A token may be bound to a Pod of the account: its claims name the Pod, and it dies with it."""
    uid = pods.create(pod("one", serviceAccountName="robot", schedulerName="none"))["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "one", "uid": uid}
    token = request_token(accounts, boundObjectRef=reference)["status"]["token"]
    assert claims_of(token)["kubernetes.io"]["pod"] == {"name": "one", "uid": uid}
    robot = api.with_token(token)
    assert robot.request("GET", "/version").status_code == 200
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    info = robot.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body)["status"]["userInfo"]
    assert info["extra"]["authentication.kubernetes.io/pod-name"] == ["one"]
    assert info["extra"]["authentication.kubernetes.io/pod-uid"] == [uid]
    pods.delete("one")
    eventually(lambda: robot.request("GET", "/version").status_code == 401, "the token is refused")


def test_a_token_bound_to_the_wrong_pod(accounts: Resource, pods: Resource) -> None:
    """The Pod must be there, be the one that is meant, and run as the account."""
    pods.create(pod("other", schedulerName="none"))
    pods.create(pod("mine", schedulerName="none", serviceAccountName="robot"))
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "absent"}
    with refused(404, "NotFound"):
        request_token(accounts, boundObjectRef=reference)
    with refused(409, "Conflict"):
        request_token(accounts, boundObjectRef=reference | {"name": "mine", "uid": "0000"})
    with refused(400, "BadRequest"):
        request_token(accounts, boundObjectRef=reference | {"name": "other"})


def test_a_token_bound_to_a_secret(accounts: Resource, ns: Namespace) -> None:
    """Binding to a Secret ties the token's life to it."""
    made = ns("secrets").create(secret("tie"))
    reference = {"apiVersion": "v1", "kind": "Secret", "name": "tie"}
    claims = claims_of(request_token(accounts, boundObjectRef=reference)["status"]["token"])
    assert claims["kubernetes.io"]["secret"] == {"name": "tie", "uid": made["metadata"]["uid"]}


def test_keys_are_published(api: Api, accounts: Resource) -> None:
    """The issuer's discovery document and keys are served; a token's key is among them."""
    header = request_token(accounts)["status"]["token"].split(".")[0]
    kid = json.loads(base64.urlsafe_b64decode(header + "=="))["kid"]
    document = api.get("/.well-known/openid-configuration")
    assert document["issuer"]
    keys = api.get("/openid/v1/jwks")["keys"]
    assert kid in {key["kid"] for key in keys}


# Admission


def test_pods_get_an_account(pods: Resource) -> None:
    """A Pod that names no account runs as `default`."""
    spec = pods.create(pod("one", schedulerName="none"))["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")


def test_pods_need_an_account_that_is_there(pods: Resource) -> None:
    """An account that does not exist is forbidden, with the reason."""
    with refused(403, "Forbidden", "error looking up service account") as error:
        pods.create(pod("one", serviceAccountName="absent"))
    assert error.details == {"name": "one", "kind": "pods"}


def test_pods_get_a_token_volume(pods: Resource) -> None:
    """Each container gets the projected volume: token, the server's CA, the namespace."""
    spec = pods.create(pod("one", schedulerName="none", containers=[container("a"), container("b")]))["spec"]
    (volume,) = [one for one in spec["volumes"] if one["name"].startswith("kube-api-access-")]
    assert volume["projected"]["defaultMode"] == 420
    assert volume["projected"]["sources"] == [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
        {
            "downwardAPI": {
                "items": [{"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"}]
            }
        },
    ]
    for one in spec["containers"]:
        assert one["volumeMounts"] == [
            {
                "name": volume["name"],
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                "readOnly": True,
            }
        ]


def test_the_token_volume_can_be_declined(pods: Resource, accounts: Resource) -> None:
    """By the Pod, or by the account; the Pod's word counts more."""
    accounts.create(service_account("shy", automountServiceAccountToken=False))
    declined = pods.create(pod("a", schedulerName="none", automountServiceAccountToken=False))
    shy = pods.create(pod("b", schedulerName="none", serviceAccountName="shy"))
    insists = pods.create(pod("c", schedulerName="none", serviceAccountName="shy", automountServiceAccountToken=True))
    assert "volumes" not in declined["spec"]
    assert "volumes" not in shy["spec"]
    assert "volumes" in insists["spec"]


def test_a_container_may_bring_its_own_mount(pods: Resource) -> None:
    """A container that mounts something at the token's place keeps it."""
    mount = {"name": "mine", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    body = pod(
        "one",
        schedulerName="none",
        containers=[container(volumeMounts=[mount])],
        volumes=[{"name": "mine", "emptyDir": {}}],
    )
    made = pods.create(body)["spec"]
    assert [one["name"] for one in made["containers"][0]["volumeMounts"]] == ["mine"]


def test_image_pull_secrets_come_from_the_account(pods: Resource, accounts: Resource) -> None:
    """A Pod without imagePullSecrets takes those of its account."""
    accounts.create(service_account("puller", imagePullSecrets=[{"name": "registry"}]))
    made = pods.create(pod("one", schedulerName="none", serviceAccountName="puller"))
    assert made["spec"]["imagePullSecrets"] == [{"name": "registry"}]


@pytest.mark.needs_controllers
def test_each_namespace_has_a_default_account(ns: Namespace) -> None:
    """The account `default`, and the CA for Pods, come by themselves, and come back when deleted."""
    accounts = ns("serviceaccounts")
    first = accounts.wait("default", lambda _: True)
    assert "ca.crt" in ns("configmaps").wait("kube-root-ca.crt", lambda _: True)["data"]
    accounts.delete("default")
    again = accounts.wait("default", lambda got: got["metadata"]["uid"] != first["metadata"]["uid"])
    assert again["metadata"]["name"] == "default"
