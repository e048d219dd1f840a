"""Documents on their way in and out: what callers give, what they get back, and how a document is named and sealed."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from memodb.catalog import DocumentRow, documents
from memodb.errors import InvalidInput

__all__ = [
    "Document",
    "Record",
    "StagedDocument",
    "document_digest",
    "document_pseudonym",
    "document_symbol",
    "opaque_id",
]

_IGNORED = frozenset({"collection", "created_at", "state", "token_count"})
"""Keys of an exported document that an import passes over: the store that takes it in states them anew."""


@dataclass(frozen=True)
class Record:
    """A document to append.

    Parameters
    ----------
    text : str
        Memorised exactly as given.
    id : str, optional
        Its name in the collection; random and opaque where none is given.
    source, subject, writer : str, optional
        Where it comes from, whom it is about, who wrote it into the store. Fixed once stored.
    metadata : mapping, optional
        Any JSON object. Fixed once stored.
    expires_at : aware datetime, optional
        From then on no read path returns it.
    batch : str, optional
        Which delivery it came with; the same random one for all of a call or transaction where none is given. Fixed
        once stored.
    """

    text: str
    id: str | None = None
    source: str | None = None
    subject: str | None = None
    writer: str | None = None
    metadata: Mapping[str, Any] | None = None
    expires_at: datetime | None = None
    batch: str | None = None

    @classmethod
    def of(cls, value: object) -> Record:
        """A record from a ``Record``, a text, or a mapping with these names as keys.

        Raises
        ------
        InvalidInput
            Something else, a key that is none of these, or a mapping without a text.
        """
        if isinstance(value, Record):
            return value
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, Mapping):
            raise InvalidInput(f"a record must be a mapping, a text or a memodb.Record, not {type(value).__name__}")
        names = [f.name for f in fields(cls)]
        given = {key: item for key, item in value.items() if key not in _IGNORED}
        unknown = sorted(str(key) for key in given if key not in names)
        if unknown:
            raise InvalidInput(f"a record has the unknown key {unknown[0]!r}; the keys are: {', '.join(names)}")
        if "text" not in given:
            raise InvalidInput("a record has no key 'text'")
        if isinstance(given.get("expires_at"), str):
            try:
                given["expires_at"] = datetime.fromisoformat(given["expires_at"])
            except ValueError as exc:
                raise InvalidInput(f"expires_at is no ISO 8601 time: {given['expires_at']!r}") from exc
        return cls(**given)


@dataclass(frozen=True)
class Document:
    """A stored document, without its text (see ``db.text(id)``)."""

    id: str
    collection: str
    source: str | None
    subject: str | None
    writer: str | None
    batch: str | None
    metadata: dict[str, Any]
    created_at: datetime
    expires_at: datetime | None
    state: str
    token_count: int

    @classmethod
    def of(cls, collection: str, row: DocumentRow) -> Document:
        return cls(
            row.id,
            collection,
            row.source,
            row.subject,
            row.writer,
            row.batch,
            row.metadata,
            row.created_at,
            row.expires_at,
            row.state.value,
            row.token_count,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; times in ISO 8601."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("created_at", "expires_at"):
            if values[name] is not None:
                values[name] = values[name].isoformat()
        return values


@dataclass(frozen=True)
class StagedDocument:
    """A checked and encoded record that waits for its transaction's commit."""

    id: str
    record: Record
    batch: str
    tokens: npt.NDArray[np.int32]
    kept_text: str | None
    """The text itself, where the tokenizer does not reproduce it from the tokens."""
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))


def opaque_id() -> str:
    """A random id that says nothing about the document: 32 hexadecimal digits."""
    return secrets.token_hex(16)


def document_symbol(key: bytes, document_id: str) -> int:
    """The document's identity in a memory and its row's key in the catalog: a keyed hash of its id (BLAKE2b).

    62 bits, so that SQLite's signed integers hold it. Two ids of one store that share it, which among a million
    documents happens in one of nine million stores, cannot both be stored: the second is refused.
    """
    name = document_id.encode("utf-8")
    digest = hashlib.blake2b(name, digest_size=8, key=key, person=b"memodb id").digest()
    return int.from_bytes(digest, "little") >> (64 - documents.PLACE_BITS)


def document_pseudonym(key: bytes, document_id: str) -> bytes:
    """What a document is called in receipts and in the audit log: a keyed hash of its id (BLAKE2b), 16 bytes.

    An id may name a person. Nobody without the collection's seed can tell whether this is the pseudonym of an id that
    they guess; who has the store can, and so can look up what became of a document.
    """
    return hashlib.blake2b(document_id.encode(), digest_size=16, key=key, person=b"memodb pseudonym").digest()


def document_digest(
    key: bytes,
    text: str,
    document_id: str,
    source: str | None,
    subject: str | None,
    writer: str | None,
    batch: str | None,
    metadata: Mapping[str, Any],
    created_at: datetime,
) -> bytes:
    """Keyed digest of a document with all that is fixed about it: 32 bytes of BLAKE2b.

    Keyed, so that nobody without the store can test a guess at a text; over the provenance and the id too, so that no
    row can be altered or exchanged unseen.
    """
    # a document from before there were batches has none, and the digest that it had then
    delivered = [] if batch is None else [batch]
    stated = json.dumps(
        [
            document_id,
            source,
            subject,
            writer,
            *delivered,
            dict(metadata),
            created_at.astimezone(UTC).isoformat(),
            text,
        ],
        ensure_ascii=False,
        sort_keys=True,
        separators=(",", ":"),
    )
    sealed = hashlib.blake2b(stated.encode("utf-8"), digest_size=32, key=key, person=b"memodb document"[:16])
    return sealed.digest()
