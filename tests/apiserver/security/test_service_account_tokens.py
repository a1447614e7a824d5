"""Tokens of service accounts, from honest requests and from everybody else."""

import base64
import datetime as dt
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.apiserver.security.builders import NOW, Security, thing

from mizzen.local.apiserver.errors import ApiError, BadRequest, Conflict, Invalid, NotFound, Unauthorized
from mizzen.local.apiserver.security.jwt import InvalidToken, Key, KeyRing
from mizzen.local.apiserver.security.service_account_tokens import ISSUER, ServiceAccountTokens
from mizzen.local.apiserver.types import User

POD = {"kind": "Pod", "apiVersion": "v1", "name": "p"}


@pytest.fixture
def security(tmp_path: Path) -> Security:
    made = Security(tmp_path)
    made.objects.put(thing("ServiceAccount", "runner", "apps", metadata={"uid": "sa-1"}))
    made.objects.put(thing("ServiceAccount", "other", "apps", metadata={"uid": "sa-2"}))
    made.objects.put(thing("Node", "n", metadata={"uid": "node-1"}))
    pod = {"serviceAccountName": "runner", "nodeName": "n"}
    made.objects.put(thing("Pod", "p", "apps", metadata={"uid": "pod-1"}, spec=pod))
    return made


def who(security: Security, token: str, *audiences: str) -> User:
    return security.authenticator.authenticate(f"Bearer {token}", audiences)


def expect_refused(security: Security, token: str, *audiences: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        who(security, token, *audiences)
    assert caught.value.message == "Unauthorized", "whoever sent it does not learn why"


def decode(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=="))


def encode(content: object) -> str:
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


# Honest requests


def test_a_token_is_its_service_account(security: Security) -> None:
    assert who(security, security.token()) == User(
        "system:serviceaccount:apps:runner",
        ("system:serviceaccounts", "system:serviceaccounts:apps", "system:authenticated"),
        "sa-1",
        (("authentication.kubernetes.io/credential-id", ("JTI=jti-1",)),),
    )


def test_the_answer_is_the_request_with_a_token_and_its_end(security: Security) -> None:
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    answer = security.accounts.issue("apps", "runner", request, NOW)
    assert answer["metadata"] == {
        "name": "runner",
        "namespace": "apps",
        "uid": "sa-1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    assert answer["spec"] == {"audiences": [ISSUER], "expirationSeconds": 600, "boundObjectRef": None}
    assert answer["status"]["expirationTimestamp"] == "2026-01-01T00:10:00Z"


def test_claims_are_those_of_kubernetes(security: Security) -> None:
    token = security.token(audiences=["vault"], expirationSeconds=3600, boundObjectRef=POD)
    header, claims, _ = token.split(".")
    assert decode(header) == {"alg": "ES256", "kid": security.accounts.keys.keys[0].id}
    issued_s = int(NOW.timestamp())
    assert decode(claims) == {
        "aud": ["vault"],
        "exp": issued_s + 3600,
        "iat": issued_s,
        "iss": ISSUER,
        "jti": "jti-1",
        "kubernetes.io": {
            "namespace": "apps",
            "node": {"name": "n", "uid": "node-1"},
            "pod": {"name": "p", "uid": "pod-1"},
            "serviceaccount": {"name": "runner", "uid": "sa-1"},
        },
        "nbf": issued_s,
        "sub": "system:serviceaccount:apps:runner",
    }


def test_a_pods_token_tells_its_pod_and_node(security: Security) -> None:
    extra = dict(who(security, security.token(boundObjectRef=POD)).extra)
    assert extra == {
        "authentication.kubernetes.io/credential-id": ("JTI=jti-1",),
        "authentication.kubernetes.io/node-name": ("n",),
        "authentication.kubernetes.io/node-uid": ("node-1",),
        "authentication.kubernetes.io/pod-name": ("p",),
        "authentication.kubernetes.io/pod-uid": ("pod-1",),
    }


def test_anybody_can_check_a_token_with_the_published_keys(security: Security) -> None:
    """As an OIDC consumer does, without our code."""
    token = security.token()
    (jwk,) = security.accounts.keys.jwks()["keys"]
    assert (jwk["kty"], jwk["crv"], jwk["alg"], jwk["use"]) == ("EC", "P-256", "ES256", "sig")
    x, y = (int.from_bytes(base64.urlsafe_b64decode(jwk[name] + "==")) for name in "xy")
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    der = utils.encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    key.verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))
    configuration = security.accounts.openid_configuration("https://here/openid/v1/jwks")
    assert configuration["issuer"] == ISSUER == decode(token.split(".")[1])["iss"]


# What a request may not ask for


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ({"expirationSeconds": 599}, Invalid, "may not specify a duration less than 10 minutes"),
        ({"expirationSeconds": 0}, Invalid, "may not specify a duration less than 10 minutes"),
        ({"expirationSeconds": (1 << 32) + 1}, Invalid, r"may not specify a duration larger than 2\^32 seconds"),
        ({"expirationSeconds": "600"}, BadRequest, "expected an integer"),
        ({"expirationSeconds": True}, BadRequest, "expected an integer"),
        ({"boundObjectRef": {**POD, "name": "gone"}}, NotFound, 'pods "gone" not found'),
        ({"boundObjectRef": {**POD, "uid": "pod-0"}}, Conflict, "does not match the UID in record"),
        (
            {"boundObjectRef": {**POD, "kind": "ConfigMap"}},
            BadRequest,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
        ({"boundObjectRef": {**POD, "apiVersion": "apps/v1"}}, BadRequest, "object of type apps/v1, Kind=Pod"),
    ],
)
def test_requests_that_are_refused(security: Security, spec: dict, error: type[ApiError], message: str) -> None:
    with pytest.raises(error, match=message):
        security.token(**spec)


def test_a_pods_token_is_only_for_the_pods_own_account(security: Security) -> None:
    with pytest.raises(BadRequest, match="pod running with different serviceaccount name"):
        security.token(name="other", boundObjectRef=POD)


def test_no_token_for_an_account_that_is_not_there(security: Security) -> None:
    with pytest.raises(NotFound, match='serviceaccounts "nobody" not found'):
        security.token(name="nobody")


@pytest.mark.parametrize(
    ("metadata", "error"),
    [({"name": "other"}, Invalid), ({"namespace": "elsewhere"}, Invalid), ({"uid": "sa-0"}, Conflict)],
)
def test_a_request_about_another_account(security: Security, metadata: dict, error: type[ApiError]) -> None:
    with pytest.raises(error):
        security.accounts.issue("apps", "runner", {"metadata": metadata}, NOW)


# Ends


def test_a_token_runs_out(security: Security) -> None:
    token = security.token(expirationSeconds=600)
    security.clock.advance(seconds=600 + 59)
    who(security, token)
    security.clock.advance(seconds=1)
    expect_refused(security, token)


def test_a_token_is_not_valid_before_its_time(security: Security) -> None:
    token = security.token()
    security.clock.advance(seconds=-60)
    who(security, token)
    security.clock.advance(seconds=-1)
    expect_refused(security, token)


@pytest.mark.parametrize(("kind", "name"), [("ServiceAccount", "runner"), ("Pod", "p")])
def test_a_token_dies_with_what_it_is_bound_to(security: Security, kind: str, name: str) -> None:
    """Also when it was accepted a moment ago, and when a successor has the same name."""
    token = security.token(boundObjectRef=POD)
    who(security, token)
    stored = security.objects.get(*{"Pod": ("", "pods"), "ServiceAccount": ("", "serviceaccounts")}[kind], "apps", name)
    assert stored is not None
    security.objects.drop(kind, "apps", name)
    expect_refused(security, token)
    security.objects.put({**stored, "metadata": {**stored["metadata"], "uid": "another"}})
    expect_refused(security, token)
    security.objects.put(stored)
    who(security, token)


def test_a_token_of_a_pod_that_is_being_deleted_lives_one_more_minute(security: Security) -> None:
    """Long enough for the Pod to say goodbye."""
    token = security.token(boundObjectRef=POD)
    pod = security.objects.get("", "pods", "apps", "p")
    assert pod is not None
    deleted = {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    security.objects.put({**pod, "metadata": deleted})
    security.clock.advance(seconds=60)
    who(security, token)
    security.clock.advance(seconds=1)
    expect_refused(security, token)


def test_a_pods_token_does_not_die_with_its_node(security: Security) -> None:
    token = security.token(boundObjectRef=POD)
    security.objects.drop("Node", "", "n")
    who(security, token)


def test_a_token_bound_to_a_node_does(security: Security) -> None:
    token = security.token(boundObjectRef={"kind": "Node", "apiVersion": "v1", "name": "n"})
    assert dict(who(security, token).extra)["authentication.kubernetes.io/node-name"] == ("n",)
    security.objects.drop("Node", "", "n")
    expect_refused(security, token)


# Audiences


def test_a_token_is_good_for_its_audiences_only(security: Security) -> None:
    for_vault = security.token(audiences=["vault", "consul"])
    expect_refused(security, for_vault)
    expect_refused(security, for_vault, "other")
    assert security.authenticator.check(for_vault, ("other", "vault"))[1] == ("vault",)
    expect_refused(security, security.token(), "vault")


# Forgeries


def forged(security: Security, *, claims: dict | None = None, header: dict | None = None) -> tuple[dict, dict]:
    token = security.token()
    own_header, own_claims, _ = token.split(".")
    return {**decode(own_header), **(header or {})}, {**decode(own_claims), **(claims or {})}


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None])
def test_alg_none_is_no_signature(security: Security, algorithm: str | None) -> None:
    header, claims = forged(security, header={"alg": algorithm})
    for signature in ("", encode(b"x" * 64)):
        expect_refused(security, f"{encode(header)}.{encode(claims)}.{signature}")


def test_the_public_key_is_no_shared_secret(security: Security) -> None:
    """The classic confusion: HS256 signed with what everybody may read."""
    header, claims = forged(security, header={"alg": "HS256"})
    (jwk,) = security.accounts.keys.jwks()["keys"]
    signed = f"{encode(header)}.{encode(claims)}"
    for secret in (jwk["x"].encode(), jwk["kid"].encode(), json.dumps(jwk).encode()):
        signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        expect_refused(security, f"{signed}.{encode(signature)}")


def test_another_key_with_our_name_does_not_sign_for_us(security: Security, tmp_path: Path) -> None:
    other = KeyRing((Key(ec.generate_private_key(ec.SECP256R1()), security.accounts.keys.keys[0].id),))
    _, claims = forged(security)
    expect_refused(security, other.sign(claims))
    assert tmp_path.exists()


def test_another_clusters_token_is_not_ours(security: Security, tmp_path: Path) -> None:
    expect_refused(security, KeyRing.open(tmp_path / "other").sign(forged(security)[1]))


@pytest.mark.parametrize(
    "change",
    [
        {"sub": "system:serviceaccount:kube-system:admin"},
        {"sub": "admin"},
        {"iss": "https://evil.example"},
        {"exp": None},
        {"exp": "9999999999"},
        {"exp": True},
        {"nbf": None},
        {"iat": None},
        {"aud": None},
        {"kubernetes.io": None},
        {"kubernetes.io": {"namespace": "apps", "serviceaccount": {"name": "runner", "uid": "stale"}}},
        {"kubernetes.io": {"namespace": "apps", "serviceaccount": {"name": "runner"}}},
    ],
)
def test_signed_claims_that_do_not_hold_together_are_refused(security: Security, change: dict) -> None:
    """Even with our own signature: nothing that these functions would issue, so a key was misused."""
    _, claims = forged(security, claims=change)
    expect_refused(security, security.accounts.keys.sign({k: v for k, v in claims.items() if v is not None}))


@pytest.fixture
def token(security: Security) -> str:
    return security.token()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_to_a_token_ends_it(security: Security, token: str, data: st.DataObject) -> None:
    """One character changed, left out or added, or the end cut off, anywhere; also where base64 has bits to spare."""
    place = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ "))
    changed = data.draw(
        st.sampled_from(
            [
                token[:place] + character + token[place + 1 :],
                token[:place] + token[place + 1 :],
                token[:place] + character + token[place:],
                token[:place],
            ]
        )
    )
    if changed.strip() != token:
        expect_refused(security, changed)


@pytest.mark.parametrize(
    "token",
    ["eyJ.eyJ.x", "eyJhbGciOiJFUzI1NiJ9..", "eyJ" + "a" * 20_000 + ".b.c", "eyJé.a.b", f"{encode([1])}.{encode({})}.x"],
)
def test_nonsense_is_refused(security: Security, token: str) -> None:
    expect_refused(security, token)


def test_a_critical_extension_is_not_ignored(security: Security) -> None:
    header, claims = forged(security, header={"crit": ["exp"]})
    key = security.accounts.keys.keys[0]
    signed = f"{encode(header)}.{encode(claims)}"
    r, s = utils.decode_dss_signature(key.private.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    expect_refused(security, f"{signed}.{encode(r.to_bytes(32) + s.to_bytes(32))}")


# Keys


def test_tokens_outlive_a_rotation_and_end_with_their_key(tmp_path: Path, security: Security) -> None:
    old = security.token()
    rotated = KeyRing.rotate(tmp_path)
    after = ServiceAccountTokens(rotated, security.objects, lambda: "j")
    new = after.issue("apps", "runner", {}, NOW)["status"]["token"]
    assert after.claims(old)["sub"] == after.claims(new)["sub"]
    assert [key["kid"] for key in rotated.jwks()["keys"]] == [
        decode(token.split(".")[0])["kid"] for token in (new, old)
    ]
    (tmp_path / "service-account-0001.key").unlink()
    with pytest.raises(InvalidToken, match="unknown key"):
        KeyRing.open(tmp_path).verify(old)
    KeyRing.open(tmp_path).verify(new)


def test_a_home_keeps_its_keys(tmp_path: Path, security: Security) -> None:
    token = security.token()
    assert KeyRing.open(tmp_path).verify(token)["sub"] == "system:serviceaccount:apps:runner"
    assert (tmp_path / "service-account-0001.key").stat().st_mode & 0o777 == 0o600


def test_a_far_end_is_no_overflow(security: Security) -> None:
    token = security.token(expirationSeconds=1 << 32)
    security.clock.advance(days=365 * 100)
    who(security, token)
    assert security.clock.now > NOW + dt.timedelta(days=365)
