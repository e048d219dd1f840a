"""Receipts: a statement of what was erased, signed, with its entry in the audit log; and their verification, offline.

::

    {"format": "memodb receipt 1",
     "statement": {...},
     "signature": {"algorithm": "Ed25519", "public_key": "<PEM>", "value": "<base64>"},
     "audit": {"entry": "<the entry's line>", "index": 4, "path": ["<hex>", ...], "head": {...}}}

``audit`` is null where nothing was logged. The signature is of ``b"memodb receipt 1\\0"`` and the canonical JSON of
``{"audit": ..., "statement": ...}``: of both, since a receipt whose place in the log could be taken off unseen would
prove less than it seems to. Order of keys and spaces between values mean nothing, as in all JSON.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from memodb.errors import CorruptStore, InvalidInput
from memodb.proof import signing
from memodb.proof.encoding import (
    MAX_DOCUMENT_BYTES,
    base64_bytes,
    canonical,
    fields,
    hex_bytes,
    moment,
    parse,
)
from memodb.proof.entries import Entry
from memodb.proof.heads import Head
from memodb.proof.merkle import HASH_BYTES, verify_inclusion
from memodb.proof.statements import contradictions

__all__ = ["FORMAT", "Verdict", "signed", "verify"]

FORMAT: Final = "memodb receipt 1"
_ALGORITHM: Final = "Ed25519"
_MAX_PATH: Final = 64


@dataclass(frozen=True)
class Verdict:
    """What the verification of a receipt found.

    Attributes
    ----------
    statement : mapping
        What was signed; empty where the document could not be read that far.
    fingerprint : str or None
        SHA-256 of the public key that signed it, as hexadecimal.
    trusted : bool
        Whether that is the key that the caller named. Where it is not, all that is known is that nobody changed the
        receipt who does not have the key in it, which anybody can have made.
    in_log : bool
        Whether its entry is shown to stand in the log of the head that it carries.
    size : int or None
        Entries of that log.
    problems : tuple of str
        Why it is not valid, in words.
    """

    statement: Mapping[str, Any]
    fingerprint: str | None
    trusted: bool
    in_log: bool
    size: int | None
    problems: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong with it. That its statement was made by somebody you trust is :attr:`trusted`."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "valid": self.valid,
            "trusted": self.trusted,
            "fingerprint": self.fingerprint,
            "in_log": self.in_log,
            "log_size": self.size,
            "problems": list(self.problems),
            "statement": dict(self.statement),
        }


def signed(
    statement: Mapping[str, Any],
    signer: signing.Signer,
    *,
    entry: Entry | None = None,
    proof: Sequence[bytes] = (),
    head: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The receipt of a statement, JSON-ready.

    Parameters
    ----------
    statement : mapping
        JSON values without fractions.
    signer : Signer
        The store's key.
    entry, proof, head : Entry, sequence of bytes, mapping
        Its entry in the audit log, the inclusion proof of that, and the document of the signed head that the proof is
        for: all of them, or no entry and no head.

    Raises
    ------
    InvalidInput
        The statement has no canonical spelling, entry and head do not come together, or they do not fit the statement
        or each other. A statement that contradicts itself is signed nevertheless: what went wrong needs a record too.
    """
    if (entry is None) != (head is None):
        raise InvalidInput("an audit entry needs a signed head, and a head an entry")
    audit = None
    if entry is not None and head is not None:
        audit = {
            "entry": entry.to_bytes().decode("ascii"),
            "index": entry.seq,
            "path": [node.hex() for node in proof],
            "head": dict(head),
        }
    value = signer.sign(_signed_bytes(statement, audit))
    statement = json.loads(json.dumps(dict(statement)))  # what a reader will have: lists for tuples, in the order given
    document = {
        "format": FORMAT,
        "statement": statement,
        "signature": {
            "algorithm": _ALGORITHM,
            "public_key": signer.public_pem.decode("ascii"),
            "value": base64.b64encode(value).decode("ascii"),
        },
        "audit": audit,
    }
    own = set(contradictions(statement))
    problems = [said for said in verify(document, public_key=signer.public_pem).problems if said not in own]
    if problems:
        raise InvalidInput(f"this would be no valid receipt: {'; '.join(problems)}")
    return document


def _signed_bytes(statement: Mapping[str, Any], audit: Mapping[str, Any] | None) -> bytes:
    return signing.RECEIPT + canonical({"statement": dict(statement), "audit": audit})


def verify(document: bytes | str | Mapping[str, Any], *, public_key: bytes | None = None) -> Verdict:
    """Check a receipt with nothing but itself and, where the caller has it, the public key of who gave it.

    Parameters
    ----------
    document : bytes, str or mapping
        The receipt, as JSON of at most 64 MiB or read already.
    public_key : bytes, optional
        The key in PEM that must have signed it. Without it a receipt is only checked against itself.

    Returns
    -------
    Verdict
        Whatever is wrong with the document is told there, not raised.

    Raises
    ------
    InvalidInput
        The public key is none.
    """
    wanted = None if public_key is None else signing.fingerprint(public_key)
    check = _Check(wanted)
    try:
        check.envelope(document)
    except (InvalidInput, CorruptStore) as exc:
        check.problems.append(str(exc))
    return check.verdict()


class _Check:
    """How far a verification came."""

    def __init__(self, wanted: str | None) -> None:
        self.wanted = wanted
        self.statement: Mapping[str, Any] = {}
        self.public_pem = b""
        self.fingerprint: str | None = None
        self.trusted = False
        self.head: Head | None = None
        self.problems: list[str] = []

    def verdict(self) -> Verdict:
        size = None if self.head is None else self.head.size
        return Verdict(
            self.statement, self.fingerprint, self.trusted, self.head is not None, size, tuple(self.problems)
        )

    def envelope(self, document: bytes | str | Mapping[str, Any]) -> None:
        if isinstance(document, str):
            if not document.isascii() and any("\ud800" <= character <= "\udfff" for character in document):
                raise InvalidInput("the receipt has a lone surrogate")
            document = document.encode()
        read = parse(document) if isinstance(document, bytes) else document
        read = dict(read) if isinstance(read, Mapping) else read
        whole = fields(read, {"format", "statement", "signature", "audit"}, "the receipt")
        if whole["format"] != FORMAT:
            raise InvalidInput(f"the receipt is not of the format {FORMAT!r}")
        if not isinstance(whole["statement"], dict):
            raise InvalidInput("the statement is no object")
        self.signature(whole)
        self.problems.extend(contradictions(whole["statement"]))
        if whole["audit"] is not None:
            self.audit(whole["audit"])

    def signature(self, whole: Mapping[str, Any]) -> None:
        said = fields(whole["signature"], {"algorithm", "public_key", "value"}, "the signature")
        if said["algorithm"] != _ALGORITHM:
            raise InvalidInput(f"the signature's algorithm is not {_ALGORITHM}")
        self.public_pem = signing.pem_of(said["public_key"], "the public key of the signature")
        self.fingerprint = signing.fingerprint(self.public_pem)
        value = base64_bytes(said["value"], signing.SIGNATURE_BYTES, "the value of the signature")
        data = _signed_bytes(whole["statement"], whole["audit"])
        if len(data) > MAX_DOCUMENT_BYTES:
            raise InvalidInput(f"the receipt has more than {MAX_DOCUMENT_BYTES:,} bytes")
        if not signing.verify(self.public_pem, value, data):
            raise InvalidInput("the signature does not fit what the receipt says")
        self.statement = whole["statement"]
        self.trusted = self.fingerprint == self.wanted
        if self.wanted is not None and not self.trusted:
            self.problems.append("the receipt is signed with another key than the one named")

    def audit(self, value: Any) -> None:
        said = fields(value, {"entry", "index", "path", "head"}, "the audit proof")
        index, path, line = said["index"], said["path"], said["entry"]
        if type(index) is not int or index < 0:
            raise InvalidInput("the index of the audit proof is none")
        if not isinstance(line, str) or not line.isascii():
            raise InvalidInput("the entry of the audit proof is none")
        if not isinstance(path, list) or len(path) > _MAX_PATH:
            raise InvalidInput("the path of the audit proof is none")
        entry = Entry.from_bytes(line.encode("ascii"), seq=index)
        nodes = [hex_bytes(node, HASH_BYTES, "a node of the audit proof") for node in path]
        head = Head.verified(said["head"], self.public_pem)
        if not verify_inclusion(entry.leaf(), index, head.size, nodes, head.root):
            raise InvalidInput("the audit proof does not lead to the root of its head")
        self.head = head
        self.problems.extend(_mismatches(self.statement, entry, head))


def _mismatches(statement: Mapping[str, Any], entry: Entry, head: Head) -> list[str]:
    """Why an entry is not that of this statement: the proof of another deletion proves nothing here."""
    found = []
    if entry.op != "erased":
        found.append(f"the audit entry tells of {entry.op!r}, not of an erasure")
    if entry.id is None or entry.id != statement.get("id"):
        found.append("the audit entry has another id than the statement")
    if entry.collection != statement.get("collection"):
        found.append("the audit entry names another collection than the statement")
    if entry.time != moment(statement.get("completed_at")):
        found.append("the audit entry has another time than the statement's completed_at")
    if head.store != statement.get("store"):
        found.append("the head is of another store than the statement")
    return found
