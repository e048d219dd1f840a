"""Signed heads: what the log of a store was at a moment, in 32 bytes that can be kept elsewhere.

::

    {"format": "memodb head 1", "store": "<opaque id>", "size": 5, "root": "<hex>", "time": "...",
     "public_key": "<PEM>", "signature": "<base64>"}

The signature is of ``b"memodb head 1\\0"`` and the canonical JSON of store, size, root and time. Whoever keeps a head
can tell later whether a log still begins with all that it was made of. Nobody else can: a log that lost its tail, and
was signed anew, looks like one that never had it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from memodb.errors import InvalidInput
from memodb.proof import signing
from memodb.proof.encoding import base64_bytes, canonical, fields, hex_bytes, moment, timestamp
from memodb.proof.merkle import HASH_BYTES

__all__ = ["FORMAT", "Head", "head_key"]

FORMAT: Final = "memodb head 1"
_SAID: Final = {"store", "size", "root", "time"}


@dataclass(frozen=True)
class Head:
    """What a log was at a moment.

    Attributes
    ----------
    store : str
        Opaque id of the store.
    size : int
        Number of entries.
    root : bytes
        Merkle tree hash of the entries, 32 bytes.
    time : datetime
        When it was signed, with a zone.
    """

    store: str
    size: int
    root: bytes
    time: datetime

    def __post_init__(self) -> None:
        if not isinstance(self.store, str):
            raise InvalidInput("the store of a head must be a text")
        if type(self.size) is not int or self.size < 0:
            raise InvalidInput("the size of a head must be an integer of at least 0")
        if not isinstance(self.root, bytes) or len(self.root) != HASH_BYTES:
            raise InvalidInput(f"the root of a head must be {HASH_BYTES} bytes")
        timestamp(self.time)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values of what is signed."""
        return {"store": self.store, "size": self.size, "root": self.root.hex(), "time": timestamp(self.time)}

    def signed(self, signer: signing.Signer) -> dict[str, Any]:
        """The document of this head, JSON-ready."""
        signature = signer.sign(signing.HEAD + canonical(self.to_dict()))
        return {
            "format": FORMAT,
            **self.to_dict(),
            "public_key": signer.public_pem.decode("ascii"),
            "signature": base64.b64encode(signature).decode("ascii"),
        }

    @classmethod
    def verified(cls, document: Any, public_pem: bytes | None = None) -> Head:
        """The head of a document that its key signed.

        Parameters
        ----------
        document : mapping
            As :meth:`signed` returns it.
        public_pem : bytes, optional
            The key that must have signed it; else the one it names, which shows no more than that nobody without that
            key changed it.

        Raises
        ------
        InvalidInput
            It is no head, is spelled in another way, or its signature is not that of its key.
        """
        said = fields(document, _SAID | {"format", "public_key", "signature"}, "the head")
        if said["format"] != FORMAT:
            raise InvalidInput(f"the head is not of the format {FORMAT!r}")
        key = head_key(document)
        if public_pem is not None and signing.fingerprint(public_pem) != signing.fingerprint(key):
            raise InvalidInput("the head is signed with another key")
        time = moment(said["time"])
        if time is None:
            raise InvalidInput("the time of the head is none")
        head = cls(said["store"], said["size"], hex_bytes(said["root"], HASH_BYTES, "the root of the head"), time)
        if head.to_dict() != {name: said[name] for name in _SAID}:
            raise InvalidInput("the time of the head is not in the one spelling that times have")
        signature = base64_bytes(said["signature"], signing.SIGNATURE_BYTES, "the signature of the head")
        if not signing.verify(key, signature, signing.HEAD + canonical(head.to_dict())):
            raise InvalidInput("the signature of the head does not fit what it says")
        return head


def head_key(document: Any) -> bytes:
    """The public key that the document of a head names; InvalidInput where it names none."""
    return signing.pem_of(
        document.get("public_key") if isinstance(document, dict) else None, "the public key of the head"
    )
