"""The home's own certificate authority and the API server's certificate.

At first start a CA is made (ECDSA P-256, ten years) and with it a server certificate (one year) for the names and
addresses that clients may use. The certificate is made again, under the same CA, when a quarter of its life is left,
when the names have changed, or when its files do not fit together; clients notice nothing. The CA is made again only
when its own files are gone or it has run out, after which every kubeconfig must be written anew.

Nothing here is asked for at a certificate's end of life: `ensure` is called at each start and then daily by whoever
holds the server, and `Identity.load_into` gives a running TLS context the new certificate for its next handshakes.
"""

import datetime as dt
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mizzen.local.apiserver.security.files import read_private, write_private

CA_LIFETIME = dt.timedelta(days=3650)
SERVER_LIFETIME = dt.timedelta(days=365)
RENEW_BEFORE = dt.timedelta(days=90)
_CLOCK_SKEW = dt.timedelta(minutes=5)
"""Certificates are valid from a little before they are made, for clients whose clocks are behind."""

NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
ADDRESSES = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Identity:
    """What the server shows and what clients trust."""

    ca_pem: bytes
    certificate: Path
    """The server's certificate followed by its CA's, as TLS servers send them."""
    key: Path
    expires: dt.datetime

    def server_context(self, alpn: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
        """A TLS 1.3-only context for the server's side."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(list(alpn))
        self.load_into(context)
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self.certificate, self.key)


def ensure(folder: Path, *, now: dt.datetime, names: tuple[str, ...] = (), addresses: tuple[str, ...] = ()) -> Identity:
    """The identity kept in `folder`, made or renewed where needed.

    `now` is aware; `names` and `addresses` are more than `NAMES`, `ADDRESSES` and this machine's host name.
    """
    wanted = _subject_names((*NAMES, socket.gethostname(), *names), (*ADDRESSES, *addresses))
    ca_key, ca = _ensure_ca(folder, now)
    certificate_path, key_path = folder / "apiserver.crt", folder / "apiserver.key"
    certificate = _load_server_certificate(certificate_path, key_path, ca, wanted, now)
    ca_pem = ca.public_bytes(serialization.Encoding.PEM)
    if certificate is None:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign_server_certificate(key, ca_key, ca, wanted, now)
        write_private(key_path, _key_pem(key))
        write_private(certificate_path, certificate.public_bytes(serialization.Encoding.PEM) + ca_pem)
    return Identity(ca_pem, certificate_path, key_path, certificate.not_valid_after_utc)


def _ensure_ca(folder: Path, now: dt.datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    certificate_path, key_path = folder / "ca.crt", folder / "ca.key"
    key_pem, certificate_pem = read_private(key_path), read_private(certificate_path)
    if key_pem and certificate_pem:
        key, ca = _load_key(key_pem), x509.load_pem_x509_certificate(certificate_pem)
        if key.public_key() == ca.public_key() and ca.not_valid_after_utc > now + SERVER_LIFETIME:
            return key, ca
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mizzen-ca")])
    ca = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(key_path, _key_pem(key))
    write_private(certificate_path, ca.public_bytes(serialization.Encoding.PEM))
    return key, ca


def _sign_server_certificate(
    key: ec.EllipticCurvePrivateKey,
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    names: frozenset[x509.GeneralName],
    now: dt.datetime,
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mizzen-apiserver")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + SERVER_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(key_cert_sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(sorted(names, key=str)), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _load_server_certificate(
    certificate_path: Path, key_path: Path, ca: x509.Certificate, wanted: frozenset[x509.GeneralName], now: dt.datetime
) -> x509.Certificate | None:
    """The certificate on disk where it may still be used."""
    key_pem, certificate_pem = read_private(key_path), read_private(certificate_path)
    if not key_pem or not certificate_pem:
        return None
    try:
        key, certificate = _load_key(key_pem), x509.load_pem_x509_certificate(certificate_pem)
        certificate.verify_directly_issued_by(ca)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return None
    fits = key.public_key() == certificate.public_key() and frozenset(names) == wanted
    fresh = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW_BEFORE
    return certificate if fits and fresh else None


def _subject_names(names: tuple[str, ...], addresses: tuple[str, ...]) -> frozenset[x509.GeneralName]:
    dns = [x509.DNSName(name) for name in names if name.isascii() and name]
    return frozenset([*dns, *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses)])


def _key_usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("expected an elliptic curve key")
    return key
