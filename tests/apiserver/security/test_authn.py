"""Authorization headers, anonymous requests and the cache."""

from pathlib import Path

import pytest
from tests.apiserver.security.builders import Security, thing

from mizzen.local.apiserver.errors import Unauthorized
from mizzen.local.apiserver.security import authn
from mizzen.local.apiserver.security.authn import ANONYMOUS
from mizzen.local.apiserver.security.tokens import new_token, secret
from mizzen.local.apiserver.types import User


@pytest.fixture
def security(tmp_path: Path) -> Security:
    made = Security(tmp_path)
    made.objects.put(thing("ServiceAccount", "runner", "apps"))
    return made


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version", "/version/"])
def test_anybody_may_ask_how_the_server_is(security: Security, path: str) -> None:
    assert security.authenticator.authenticate(None, path=path) == ANONYMOUS


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/api",
        "/apis/apps/v1",
        "/metrics",
        "/openapi/v3",
        "/healthzz",
        "/version/x",
        "/readyz/../api",
        "/readyz/etcd",
        "/versions",
    ],
)
def test_nobody_else_is_let_in_without_a_credential(security: Security, path: str) -> None:
    with pytest.raises(Unauthorized):
        security.authenticator.authenticate(None, path=path)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer nope", "Bearer é", "Bearer " + "x" * 20_000]
)
def test_a_credential_that_does_not_hold_is_not_taken_for_none(security: Security, header: str) -> None:
    """Not even where none is needed."""
    with pytest.raises(Unauthorized) as caught:
        security.authenticator.authenticate(header, path="/healthz")
    assert caught.value.to_status()["message"] == "Unauthorized"


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {}", "  Bearer {}  "])
def test_the_scheme_is_read_as_http_says(security: Security, form: str) -> None:
    token = new_token()
    security.objects.put(secret(token, "alice"))
    assert security.authenticator.authenticate(form.format(token)) == User("alice", ("system:authenticated",))


def test_a_users_token_is_for_the_api_server_only(security: Security) -> None:
    token = new_token()
    security.objects.put(secret(token, "alice"))
    with pytest.raises(Unauthorized):
        security.authenticator.authenticate(f"Bearer {token}", ("vault",))


def test_a_signature_is_checked_once(security: Security) -> None:
    token = security.token()
    for _ in range(3):
        security.authenticator.authenticate(f"Bearer {token}")
    statistics = security.authenticator.statistics()
    assert (statistics.misses, statistics.hits, statistics.cached) == (1, 2, 1)


def test_the_cache_is_bounded_and_holds_no_forgeries(security: Security, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authn, "_CACHED_MAX", 4)
    tokens = [security.token() for _ in range(9)]
    for token in tokens:
        security.authenticator.authenticate(f"Bearer {token}")
        with pytest.raises(Unauthorized):
            security.authenticator.authenticate(f"Bearer {token[:-4]}AAAA")
    statistics = security.authenticator.statistics()
    assert (statistics.cached, statistics.rejected) == (4, 9)
    security.authenticator.authenticate(f"Bearer {tokens[0]}")
