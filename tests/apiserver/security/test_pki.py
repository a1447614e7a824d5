"""The server's identity: real handshakes, renewal, and files that others cannot read."""

import datetime as dt
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from tests.apiserver.security.builders import NOW

from mizzen.local.apiserver.security import pki

REAL_NOW = dt.datetime.now(dt.UTC)
"""Handshakes are checked by OpenSSL, which has a clock of its own."""


def handshake(identity: pki.Identity, name: str, client: ssl.SSLContext | None = None) -> ssl.SSLObject:
    """A client that trusts only this CA and the server, over memory; the client's side when done."""
    if client is None:
        client = ssl.create_default_context(cadata=identity.ca_pem.decode())
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = identity.server_context().wrap_bio(to_server, to_client, server_side=True)
    client_side = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (client_side, server_side):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client_side.version() is not None, "the handshake did not end"
    return client_side


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.mark.parametrize(
    "name",
    ["localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"],
)
def test_clients_that_trust_the_ca_reach_the_server_by_its_names(tmp_path: Path, name: str) -> None:
    identity = pki.ensure(tmp_path, now=REAL_NOW)
    assert handshake(identity, name).version() == "TLSv1.3"


def test_more_names_and_addresses_may_be_given(tmp_path: Path) -> None:
    identity = pki.ensure(tmp_path, now=REAL_NOW, names=("box.example",), addresses=("10.0.0.7",))
    handshake(identity, "box.example")
    handshake(identity, "10.0.0.7")


def test_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)hostname mismatch"):
        handshake(pki.ensure(tmp_path, now=REAL_NOW), "evil.example")


def test_a_client_of_another_home_is_refused(tmp_path: Path) -> None:
    identity, other = pki.ensure(tmp_path / "a", now=REAL_NOW), pki.ensure(tmp_path / "b", now=REAL_NOW)
    client = ssl.create_default_context(cadata=other.ca_pem.decode())
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(identity, "localhost", client)


def test_nothing_older_than_tls_1_3_is_spoken(tmp_path: Path) -> None:
    identity = pki.ensure(tmp_path, now=REAL_NOW)
    client = ssl.create_default_context(cadata=identity.ca_pem.decode())
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)version|protocol"):
        handshake(identity, "localhost", client)


def test_a_running_server_takes_a_renewed_certificate(tmp_path: Path) -> None:
    old = pki.ensure(tmp_path, now=REAL_NOW - dt.timedelta(days=300))
    context = old.server_context()
    new = pki.ensure(tmp_path, now=REAL_NOW)
    assert new.expires > old.expires
    new.load_into(context)
    handshake(new, "localhost", ssl.create_default_context(cadata=old.ca_pem.decode()))


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    pki.ensure(tmp_path, now=NOW)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    pki.ensure(tmp_path, now=NOW + dt.timedelta(days=200))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda folder: (folder / "apiserver.crt").unlink(), id="certificate gone"),
        pytest.param(lambda folder: (folder / "apiserver.key").unlink(), id="key gone"),
        pytest.param(lambda folder: (folder / "apiserver.crt").write_text("nonsense"), id="certificate spoilt"),
        pytest.param(lambda folder: (folder / "apiserver.key").write_text("nonsense"), id="key spoilt"),
        pytest.param(
            lambda folder: (folder / "apiserver.key").write_bytes((folder / "ca.key").read_bytes()), id="another's key"
        ),
    ],
)
def test_a_spoilt_certificate_is_made_again_under_the_same_ca(tmp_path: Path, spoil: object) -> None:
    ca = pki.ensure(tmp_path, now=REAL_NOW).ca_pem
    spoil(tmp_path)  # type: ignore[operator]
    identity = pki.ensure(tmp_path, now=REAL_NOW)
    assert identity.ca_pem == ca
    handshake(identity, "localhost")


@pytest.mark.parametrize("lost", ["ca.crt", "ca.key"])
def test_without_its_ca_a_home_gets_a_new_identity(tmp_path: Path, lost: str) -> None:
    ca = pki.ensure(tmp_path, now=REAL_NOW).ca_pem
    (tmp_path / lost).unlink()
    identity = pki.ensure(tmp_path, now=REAL_NOW)
    assert identity.ca_pem != ca
    handshake(identity, "localhost")


def test_certificates_are_renewed_before_they_run_out_and_the_ca_is_kept(tmp_path: Path) -> None:
    first = pki.ensure(tmp_path, now=NOW)
    ca = load(tmp_path / "ca.crt")
    assert ca.not_valid_after_utc - NOW == pki.CA_LIFETIME
    assert first.expires - NOW == pki.SERVER_LIFETIME
    for day in range(0, 3000, 30):
        now = NOW + dt.timedelta(days=day)
        identity = pki.ensure(tmp_path, now=now)
        assert identity.expires - now >= pki.RENEW_BEFORE
        assert identity.ca_pem == first.ca_pem


def test_a_certificate_never_outlives_its_ca(tmp_path: Path) -> None:
    first = pki.ensure(tmp_path, now=NOW)
    late = NOW + pki.CA_LIFETIME - dt.timedelta(days=200)
    identity = pki.ensure(tmp_path, now=late)
    assert identity.ca_pem != first.ca_pem
    assert identity.expires <= load(tmp_path / "ca.crt").not_valid_after_utc


def test_new_names_make_a_new_certificate(tmp_path: Path) -> None:
    pki.ensure(tmp_path, now=REAL_NOW)
    handshake(pki.ensure(tmp_path, now=REAL_NOW, names=("new.example",)), "new.example")


def test_keys_are_the_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    pki.ensure(folder, now=NOW)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"ca.crt": 0o600, "ca.key": 0o600, "apiserver.crt": 0o600, "apiserver.key": 0o600}
    (folder / "ca.key").chmod(0o644)
    pki.ensure(folder, now=NOW)
    assert stat.S_IMODE((folder / "ca.key").stat().st_mode) == 0o600


def test_the_certificate_serves_and_does_not_sign(tmp_path: Path) -> None:
    pki.ensure(tmp_path, now=NOW)
    certificate, ca = load(tmp_path / "apiserver.crt"), load(tmp_path / "ca.crt")
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
