"""The catalog's tables.

Nothing here counts insertions. An ordinary SQLite row key is the largest one plus one, so the gaps tell how many rows
were deleted and when: small tables are therefore WITHOUT ROWID, and a document's row key (`Document.place`) is random
or a keyed hash.

WITHOUT ROWID was measured for documents and rejected: with 1,500-byte token blobs the file is 1.8 times as large,
listing 4 times and a lookup 2 times as slow, because blobs then live in the tree that lookups walk. The random key
costs about 5 % of size and leaves 12,000 to 29,000 inserted rows a second.
"""

import enum
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from memodb.catalog.columns import CanonicalJson, UtcMicroseconds

__all__ = [
    "TABLES",
    "AuditEntry",
    "Backup",
    "Base",
    "Collection",
    "Document",
    "DocumentState",
    "DoomedKey",
    "Erasure",
    "Hold",
    "Segment",
    "Setting",
    "Suppression",
]

_UNSEALED = text("x''")
"""No row has it but in the middle of a migration."""


class DocumentState(enum.StrEnum):
    """What may be done with a document. Stored as text, without a CHECK, so that a later memodb can add states."""

    LIVE = "live"
    ERASING = "erasing"
    """Its deletion is committed: no read path returns it any more; its row goes with the deletion's second commit, or
    when the last legal hold on it ends."""
    QUARANTINED = "quarantined"
    """Set aside: the memory has subtracted it, and no read path returns it until it is released or deleted."""


class Base(DeclarativeBase):
    """Declarative base; every constraint is named so that a migration can drop it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Setting(Base):
    """A fact about the whole store, such as its tokenizer's digest."""

    __tablename__ = "setting"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012  # SQLAlchemy reads it

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[Any] = mapped_column(CanonicalJson)
    seal: Mapped[bytes] = mapped_column(LargeBinary, server_default=_UNSEALED)


class Collection(Base):
    """One tenant's documents, with the secret seed of its memories."""

    __tablename__ = "collection"
    __table_args__ = (UniqueConstraint("name"), {"sqlite_with_rowid": False})

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    key: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcMicroseconds)
    version: Mapped[int]
    seal: Mapped[bytes] = mapped_column(LargeBinary, server_default=_UNSEALED)


class Segment(Base):
    """One memory of a collection; its geometry is the store's business and opaque here."""

    __tablename__ = "segment"
    # The pair is unique so that a document can refer to it: then a segment of another collection cannot be named.
    __table_args__ = (UniqueConstraint("collection_id", "id"), {"sqlite_with_rowid": False})

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    collection_id: Mapped[str] = mapped_column(Text, ForeignKey("collection.id"))
    geometry: Mapped[Any] = mapped_column(CanonicalJson)
    version: Mapped[int]
    tile: Mapped[str | None] = mapped_column(Text)
    tile_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    seal: Mapped[bytes] = mapped_column(LargeBinary, server_default=_UNSEALED)


class Document(Base):
    """A document: where it came from, what it says, which memory holds it.

    Only `segment_id`, `state`, `erasure_id` and `expires_at` (with `seal`) may change after the insert; a trigger of
    the schema refuses the rest. Tokens and text are encrypted under a key of the document's own (`contents`).
    """

    __tablename__ = "document"
    __table_args__ = (
        UniqueConstraint("collection_id", "id"),
        ForeignKeyConstraint(["collection_id", "segment_id"], ["segment.collection_id", "segment.id"]),
        # Each ends in the id: listings come out ordered, and ids are read from the index alone. The nullable ones are
        # partial: a store that names no subjects pays nothing for the index.
        Index(None, "collection_id", "source", "id", sqlite_where=text("source IS NOT NULL")),
        Index(None, "collection_id", "subject", "id", sqlite_where=text("subject IS NOT NULL")),
        Index(None, "collection_id", "writer", "id", sqlite_where=text("writer IS NOT NULL")),
        Index(None, "collection_id", "batch", "id", sqlite_where=text("batch IS NOT NULL")),
        Index(None, "collection_id", "created_at", "id"),
        Index(None, "collection_id", "expires_at", "id", sqlite_where=text("expires_at IS NOT NULL")),
        Index(None, "collection_id", "segment_id", "id"),
        # Nearly empty: finding a deletion that was interrupted, or what is in quarantine, costs nothing.
        Index("ix_document_unfinished", "collection_id", "segment_id", "id", sqlite_where=text("state <> 'live'")),
    )

    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, default=lambda: secrets.randbits(62))
    collection_id: Mapped[str] = mapped_column(Text)
    id: Mapped[str] = mapped_column(Text)
    segment_id: Mapped[str] = mapped_column(Text)
    source: Mapped[str | None] = mapped_column(Text)
    subject: Mapped[str | None] = mapped_column(Text)
    writer: Mapped[str | None] = mapped_column(Text)
    batch: Mapped[str | None] = mapped_column(Text)
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", CanonicalJson, server_default="{}")
    created_at: Mapped[datetime] = mapped_column(UtcMicroseconds)
    expires_at: Mapped[datetime | None] = mapped_column(UtcMicroseconds)
    state: Mapped[str] = mapped_column(Text)
    erasure_id: Mapped[str | None] = mapped_column(Text, ForeignKey("erasure.id"))
    token_count: Mapped[int]
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    # Last, so that a listing reads a row's first page and never follows it into the blobs.
    key: Mapped[bytes] = mapped_column(LargeBinary, server_default=_UNSEALED)
    tokens: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    text: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    seal: Mapped[bytes] = mapped_column(LargeBinary, deferred=True, server_default=_UNSEALED)

    __mapper_args__ = {"primary_key": [collection_id, id]}  # noqa: A003, RUF012  # SQLAlchemy reads it


class Erasure(Base):
    """A deletion: which documents, when it was asked for, and how far it has come."""

    __tablename__ = "erasure"
    __table_args__ = (
        Index("ix_erasure_unfinished", "collection_id", sqlite_where=text("state <> 'verified'")),
        {"sqlite_with_rowid": False},
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    collection_id: Mapped[str] = mapped_column(Text, ForeignKey("collection.id"))
    state: Mapped[str] = mapped_column(Text)
    requested_at: Mapped[datetime] = mapped_column(UtcMicroseconds)
    facts: Mapped[Any] = mapped_column(CanonicalJson)
    """Of the request, of each state its time, and what was measured on the way."""
    pseudonyms: Mapped[bytes] = mapped_column(LargeBinary)
    """Of the documents, 16 bytes each."""
    receipt: Mapped[bytes | None] = mapped_column(LargeBinary)
    seal: Mapped[bytes] = mapped_column(LargeBinary, server_default=_UNSEALED)


class Hold(Base):
    """A legal hold on one document."""

    __tablename__ = "hold"
    __table_args__ = (Index(None, "place"), {"sqlite_with_rowid": False})

    collection_id: Mapped[str] = mapped_column(Text, ForeignKey("collection.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    place: Mapped[int] = mapped_column(ForeignKey("document.place"), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcMicroseconds)
    seal: Mapped[bytes] = mapped_column(LargeBinary, server_default=_UNSEALED)


class Suppression(Base):
    """A text that must not be stored again, as a keyed hash of it."""

    __tablename__ = "suppression"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012  # SQLAlchemy reads it

    collection_id: Mapped[str] = mapped_column(Text, ForeignKey("collection.id"), primary_key=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    expires_at: Mapped[datetime | None] = mapped_column(UtcMicroseconds)
    seal: Mapped[bytes] = mapped_column(LargeBinary, server_default=_UNSEALED)


class AuditEntry(Base):
    """One line of the audit log; opaque here."""

    __tablename__ = "audit"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    entry: Mapped[bytes] = mapped_column(LargeBinary)
    seal: Mapped[bytes] = mapped_column(LargeBinary, server_default=_UNSEALED)


class DoomedKey(Base):
    """A key whose document or tile is gone, until it is destroyed."""

    __tablename__ = "doomed_key"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012  # SQLAlchemy reads it

    name: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)


class Backup(Base):
    """A backup that was taken, and may hold what was deleted since."""

    __tablename__ = "backup"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012  # SQLAlchemy reads it

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcMicroseconds)
    keep_until: Mapped[datetime | None] = mapped_column(UtcMicroseconds)
    destroyed_at: Mapped[datetime | None] = mapped_column(UtcMicroseconds)
    seal: Mapped[bytes] = mapped_column(LargeBinary, server_default=_UNSEALED)


TABLES: Mapping[str, Table] = Base.metadata.tables
"""Every table by its name: for statements about columns rather than objects."""
