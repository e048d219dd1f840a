"""Ed25519 signatures (RFC 8032) over canonical bytes, with keys as PEM files that openssl reads.

What is signed begins with a name of its kind and a zero byte, so that a signature of one thing never serves for
another.

The package ``cryptography`` takes tens of milliseconds to import: it is, when the first key is used.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from memodb.errors import InvalidInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["HEAD", "RECEIPT", "SIGNATURE_BYTES", "Signer", "fingerprint", "new_key", "pem_of", "verify"]

HEAD: Final = b"memodb head 1\0"
RECEIPT: Final = b"memodb receipt 1\0"
SIGNATURE_BYTES: Final = 64
_MAX_PEM_BYTES: Final = 4096


def new_key() -> bytes:
    """A new private key: unencrypted PKCS #8 as PEM, about 120 bytes. Whoever reads it can sign in its owner's name."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Signer:
    """A private key, ready to sign.

    Parameters
    ----------
    pem : bytes
        As :func:`new_key` makes it.

    Raises
    ------
    InvalidInput
        It is no unencrypted Ed25519 private key.
    """

    def __init__(self, pem: bytes) -> None:
        from cryptography.exceptions import InternalError, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(pem, password=None) if len(pem) <= _MAX_PEM_BYTES else None
        except (ValueError, TypeError, UnsupportedAlgorithm, InternalError) as exc:
            # not chained: the library's messages may quote what it could not read, which is a secret
            raise InvalidInput(f"no unencrypted Ed25519 private key in PEM ({type(exc).__name__})") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidInput("no unencrypted Ed25519 private key in PEM")
        self._key = key
        self.public_pem = _pem(key.public_key())
        self.fingerprint = fingerprint(self.public_pem)

    def sign(self, data: bytes) -> bytes:
        """The signature of the bytes, 64 bytes; the same for the same bytes."""
        return self._key.sign(data)


def _public(pem: bytes) -> Ed25519PublicKey:
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem) if len(pem) <= _MAX_PEM_BYTES else None
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError) as exc:
        raise InvalidInput("no Ed25519 public key in PEM") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput("no Ed25519 public key in PEM")
    return key


def _pem(key: Ed25519PublicKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(public_pem: bytes) -> str:
    """SHA-256 of the 32 bytes of a public key, 64 hexadecimal digits: what people compare.

    Raises
    ------
    InvalidInput
        It is no Ed25519 public key in PEM.
    """
    return hashlib.sha256(_public(public_pem).public_bytes_raw()).hexdigest()


def pem_of(value: Any, where: str) -> bytes:
    """The public key in PEM that a document gives as text.

    Raises
    ------
    InvalidInput
        It is none, or not spelled as memodb spells it: base64 has spare bits, and PEM takes any text around itself.
    """
    if not isinstance(value, str) or not value.isascii():
        raise InvalidInput(f"{where} is no PEM")
    pem = value.encode("ascii")
    if _pem(_public(pem)) != pem:
        raise InvalidInput(f"{where} is not in the one spelling that keys have")
    return pem


def verify(public_pem: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the signature of these bytes was made with the private key of this public one.

    Raises
    ------
    InvalidInput
        It is no Ed25519 public key in PEM.
    """
    from cryptography.exceptions import InvalidSignature

    try:
        _public(public_pem).verify(signature, data)
    except InvalidSignature:
        return False
    return True
