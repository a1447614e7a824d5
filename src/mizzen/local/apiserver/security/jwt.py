"""Signed tokens (RFC 7519) with one algorithm, ES256, and the keys that sign and check them.

There is nothing to negotiate: a token whose header names another algorithm, or a key that is not ours, is not one of
our tokens. A `KeyRing` signs with its newest key and checks with all, so that tokens outlive a rotation; keys are
files in a folder of the home, and a key is retired by deleting its file.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from mizzen.local.apiserver.security.files import read_private, write_private
from mizzen.local.apiserver.types import Json

ALGORITHM = "ES256"
_COORDINATE_BYTES = 32
TOKEN_BYTES_MAX = 16 * 1024


class InvalidToken(Exception):
    """Why a token is not accepted. For the log of the server: whoever sent it only learns that it is not."""


@dataclass(frozen=True, slots=True)
class Key:
    """One signing key. Its id is the fingerprint of its public half."""

    private: ec.EllipticCurvePrivateKey
    id: str

    @classmethod
    def of(cls, private: ec.EllipticCurvePrivateKey) -> "Key":
        public = private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(private, _encode(hashlib.sha256(public).digest()).decode())

    def jwk(self) -> Json:
        """The public half (RFC 7517)."""
        numbers = self.private.public_key().public_numbers()
        return {
            "use": "sig",
            "kty": "EC",
            "kid": self.id,
            "crv": "P-256",
            "alg": ALGORITHM,
            "x": _encode(numbers.x.to_bytes(_COORDINATE_BYTES)).decode(),
            "y": _encode(numbers.y.to_bytes(_COORDINATE_BYTES)).decode(),
        }


class KeyRing:
    """Keys, the newest first."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        if not keys:
            raise ValueError("expected at least one key")
        self.keys = keys
        self._by_id = {key.id: key for key in keys}

    @classmethod
    def open(cls, folder: Path) -> "KeyRing":
        """The keys in `folder` (`service-account-NNNN.key`); the first is made where there is none."""
        paths = sorted(folder.glob("service-account-*.key"), reverse=True)
        if not paths:
            return cls.rotate(folder)
        return cls(tuple(_load(path) for path in paths))

    @classmethod
    def rotate(cls, folder: Path) -> "KeyRing":
        """Adds a key to `folder`, which signs from now on; tokens of the others stay good."""
        numbers = [int(path.stem.rpartition("-")[2]) for path in folder.glob("service-account-*.key")]
        private = ec.generate_private_key(ec.SECP256R1())
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(folder / f"service-account-{max(numbers, default=0) + 1:04d}.key", pem)
        return cls.open(folder)

    def sign(self, claims: Json) -> str:
        key = self.keys[0]
        header = {"alg": ALGORITHM, "kid": key.id}
        signed = _encode(msgspec.json.encode(header)) + b"." + _encode(msgspec.json.encode(claims))
        r, s = utils.decode_dss_signature(key.private.sign(signed, ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(_COORDINATE_BYTES) + s.to_bytes(_COORDINATE_BYTES)
        return (signed + b"." + _encode(signature)).decode()

    def verify(self, token: str) -> Json:
        """The claims of a token that one of these keys signed. Times and audiences are the caller's to check."""
        if len(token) > TOKEN_BYTES_MAX:
            raise InvalidToken("the token is too long")
        parts = token.split(".")
        if len(parts) != 3:
            raise InvalidToken("expected three parts")
        header = _json(parts[0])
        if header.get("alg") != ALGORITHM or "crit" in header:
            raise InvalidToken(f"expected the algorithm {ALGORITHM} and no extensions")
        key = self._by_id.get(header["kid"]) if isinstance(header.get("kid"), str) else None
        if key is None:
            raise InvalidToken("signed by an unknown key")
        signature = _decode(parts[2])
        if len(signature) != 2 * _COORDINATE_BYTES:
            raise InvalidToken("expected a signature of 64 bytes")
        r, s = signature[:_COORDINATE_BYTES], signature[_COORDINATE_BYTES:]
        encoded = utils.encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
        try:
            key.private.public_key().verify(encoded, f"{parts[0]}.{parts[1]}".encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise InvalidToken("the signature does not fit") from None
        return _json(parts[1])

    def jwks(self) -> Json:
        """What `/openid/v1/jwks` answers."""
        return {"keys": [key.jwk() for key in self.keys]}

    def __repr__(self) -> str:
        return f"KeyRing({len(self.keys)} keys, signs with {self.keys[0].id})"


def looks_signed(token: str) -> bool:
    """Whether a token claims to be a JWT, so that no other way of checking it need be tried."""
    return token.count(".") == 2 and token.startswith("eyJ")


def _load(path: Path) -> Key:
    pem = read_private(path)
    private = serialization.load_pem_private_key(pem or b"", password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise TypeError(f"{path}: expected a P-256 key")
    return Key.of(private)


def _encode(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def _decode(text: str) -> bytes:
    """Base64url without padding, in its one form: a second spelling of a token would be a second token."""
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidToken("expected base64url") from None
    if _encode(content).decode() != text:
        raise InvalidToken("expected base64url without padding")
    return content


def _json(text: str) -> Json:
    try:
        document: Any = msgspec.json.decode(_decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidToken("expected JSON") from None
    if not isinstance(document, dict):
        raise InvalidToken("expected a JSON object")
    return document
