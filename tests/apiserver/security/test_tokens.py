"""Users' tokens: hashed at rest, ended by deletion or time, and never more than they may claim."""

import base64
import datetime as dt
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.apiserver.security.builders import NOW, Objects

from mizzen.local.apiserver.security import tokens
from mizzen.local.apiserver.security.tokens import UserTokens, ensure_admin, new_token, secret
from mizzen.local.apiserver.types import User


def test_the_admins_token_is_kept_as_a_hash_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = ensure_admin(path, None)
    assert token.startswith("mzn_")
    assert token not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    admin = User("admin", ("system:masters", "system:authenticated"))
    assert UserTokens(path, Objects()).find(token, NOW) == admin


def test_the_admins_token_stays_while_the_kubeconfig_has_it(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = ensure_admin(path, None)
    assert ensure_admin(path, token) == token
    replaced = ensure_admin(path, "mzn_of-another-home")
    assert replaced != token
    users = UserTokens(path, Objects())
    assert users.find(replaced, NOW) is not None
    assert users.find(token, NOW) is None


def test_a_secret_makes_a_token_valid_and_does_not_hold_it(tmp_path: Path) -> None:
    token = new_token()
    made = secret(token, "alice@example.com", ("developers", "ops"))
    assert token not in json.dumps(made)
    assert all(token.encode() not in base64.b64decode(value) for value in made["data"].values())
    objects = Objects()
    users = UserTokens(tmp_path / "none", objects)
    assert users.find(token, NOW) is None
    objects.put(made)
    assert users.find(token, NOW) == User("alice@example.com", ("developers", "ops", "system:authenticated"))
    objects.drop("Secret", "kube-system", made["metadata"]["name"])
    assert users.find(token, NOW) is None


def test_a_token_ends_at_its_time(tmp_path: Path) -> None:
    token = new_token()
    made = secret(token, "alice", expires=NOW + dt.timedelta(hours=1))
    users = UserTokens(tmp_path / "none", Objects(made))
    assert users.find(token, NOW + dt.timedelta(minutes=59)) is not None
    assert users.find(token, NOW + dt.timedelta(minutes=60)) is None


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        ("system:admin", ()),
        ("alice", ("system:masters",)),
        ("alice", ("system:nodes",)),
        ("", ()),
        ("alice", ("",)),
        ("alice", ("a,system:masters",)),
    ],
)
def test_no_secret_makes_a_system_identity(tmp_path: Path, user: str, groups: tuple[str, ...]) -> None:
    """Neither through the function nor by writing the Secret oneself."""
    token = new_token()
    with pytest.raises(ValueError, match="does not begin with system:"):
        secret(token, user, groups)
    forged = secret(token, "mallory")
    forged["data"] |= {
        "user": base64.b64encode(user.encode()).decode(),
        "groups": base64.b64encode(",".join(groups).encode()).decode(),
    }
    found = UserTokens(tmp_path / "none", Objects(forged)).find(token, NOW)
    assert found is None or (user, groups) == ("alice", ("",)), "an empty list of groups is no group"
    assert found is None or found.groups == ("system:authenticated",)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "Opaque"},
        {"metadata": {"namespace": "default"}},
        {"metadata": {"name": "another"}},
        {"data": {}},
        {"data": None},
        {"data": {"user": "!!", "hash": "!!"}},
        {"data": {"user": 3}},
    ],
)
def test_another_secret_makes_nobody(tmp_path: Path, change: dict) -> None:
    token = new_token()
    made = {**secret(token, "alice"), **change}
    made["metadata"] = {**secret(token, "alice")["metadata"], **change.get("metadata", {})}
    assert UserTokens(tmp_path / "none", Objects(made)).find(token, NOW) is None


@pytest.mark.parametrize("expires", ["yesterday", "2027-01-01T00:00:00"])
def test_an_end_that_cannot_be_read_is_not_for_ever(tmp_path: Path, expires: str) -> None:
    token = new_token()
    made = secret(token, "alice")
    made["data"]["expires"] = base64.b64encode(expires.encode()).decode()
    assert UserTokens(tmp_path / "none", Objects(made)).find(token, NOW) is None


@given(st.text(max_size=80))
def test_a_users_label_is_a_label(user: str) -> None:
    """Whatever a user is called."""
    label = tokens._label(user)
    assert len(label) <= 63
    assert label == label.strip("-")
    assert all(character.isascii() and (character.isalnum() or character == "-") for character in label)


def test_tokens_are_long_and_different() -> None:
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    assert min(map(len, made)) >= 43
