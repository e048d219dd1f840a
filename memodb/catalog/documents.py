"""Queries on documents.

Every function works inside the caller's session: nothing is durable before that session's block ends without an error.
Each change also bumps the version of the segments whose membership it changes and of the collection (`registry`): a
caller that forgot to would leave readers of other processes answering from what is gone.

Ids that are searched for are checked like those that are stored: one that no document could have is an `InvalidInput`.
"""

import contextlib
import json
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from memodb.catalog.columns import aware, canonical_json, identifier
from memodb.catalog.contents import NAMED_TOKENS, TOKENS, damaged, intact, lock, opened, service
from memodb.catalog.execution import changed, chunks, run, scalar, scalars
from memodb.catalog.filters import Filters, among, conditions
from memodb.catalog.models import TABLES, Document, DocumentState
from memodb.catalog.registry import bump_segments, forget_tiles
from memodb.catalog.seals import raw_values
from memodb.catalog.statements import ORDERS, ROW, Order, by_ids, parameters
from memodb.catalog.visibility import Scope, expired, scoped
from memodb.errors import Conflict, CorruptStore, DocumentExists, InvalidInput

__all__ = [
    "DIGEST_BYTES",
    "PLACE_BITS",
    "DocumentRow",
    "NewDocument",
    "Order",
    "StoredTokens",
    "count",
    "existing",
    "find",
    "insert_many",
    "move",
    "places_in",
    "require_valid",
    "select",
    "select_ids",
    "stored_at",
    "stream_segment",
    "texts_of",
    "token_total",
    "tokens_in",
    "tokens_of",
]

DIGEST_BYTES = 32
PLACE_BITS = 62
Tokens: TypeAlias = npt.NDArray[np.int32]
Places: TypeAlias = npt.NDArray[np.int64]

_CHUNK = 5000
_STATE = 8  # of `ROW`
_MOST = 2**63 - 1  # SQLite's largest integer
_ROWS_AT_A_TIME = 500
_BLOBS = {"yield_per": 64}
_DOCUMENT = TABLES["document"]
_RAW_DOCUMENT = sa.table("document", *(sa.column(column.name) for column in _DOCUMENT.columns))
"""Without types: its values are converted once, for the seal and for the row."""
_INSERT = sa.insert(_RAW_DOCUMENT)


@dataclass(frozen=True)
class NewDocument:
    """A document to insert.

    Parameters
    ----------
    id, segment_id : str
        The id is new in the collection, the segment is one of the collection's.
    digest : bytes, 32
        Keyed digest of the document, made and verified by the caller.
    tokens : integer array, shape (n,)
        Token ids from 0 to 2**31 - 1.
    created_at, expires_at : aware datetime
    source, subject, writer, batch : str
    metadata : JSON object
    text : str
        Only where the tokenizer does not reproduce the text from the tokens.
    place : int
        Row key, of `PLACE_BITS` bits, by which `stored_at` finds the document; random, or a keyed hash of the id.
    """

    id: str
    segment_id: str
    digest: bytes
    tokens: npt.NDArray[np.integer]
    created_at: datetime
    source: str | None = None
    subject: str | None = None
    writer: str | None = None
    batch: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    expires_at: datetime | None = None
    text: str | None = None
    place: int = field(default_factory=lambda: secrets.randbits(PLACE_BITS))


class StoredTokens(NamedTuple):
    """A stored document's row key, id and tokens, int32 (n,), and whether its text is kept beside them."""

    place: int
    id: str
    tokens: Tokens
    kept: bool


@dataclass(frozen=True)
class DocumentRow:
    """A stored document without its tokens and text; `metadata` is a fresh dict, times are in UTC."""

    id: str
    source: str | None
    subject: str | None
    writer: str | None
    batch: str | None
    metadata: dict[str, Any]
    created_at: datetime
    expires_at: datetime | None
    state: DocumentState
    token_count: int
    segment_id: str
    digest: bytes
    place: int


def insert_many(session: Session, collection_id: str, rows: Iterable[NewDocument]) -> int:
    """Insert documents, all or none of them, each under a new key; the number inserted.

    Raises
    ------
    DocumentExists
        Ids that the collection has already, or that come twice; the first ones are named.
    Conflict
        The collection does not exist, or a segment is not one of its own.
    InvalidInput
        A value that cannot be stored.
    """
    rows = list(rows)
    values = [_values(collection_id, row) for row in rows]
    if not values:
        return 0
    contents = lock(service(session), [row.place for row in rows], ((row.tokens, row.text) for row in rows))
    values = [raw_values(_DOCUMENT, {**value, **content}) for value, content in zip(values, contents, strict=True)]
    try:
        # A savepoint, so that a caller who catches the error and commits has not stored half of them; of one row there
        # is no half.
        with session.begin_nested() if len(values) > 1 else contextlib.nullcontext():
            session.connection().execute(_INSERT, values)
    except IntegrityError as exc:
        raise _refusal(session, collection_id, [value["id"] for value in values], exc) from exc
    bump_segments(session, collection_id, {value["segment_id"] for value in values})
    return len(values)


def require_valid(
    document_id: object,
    *,
    source: object,
    subject: object,
    writer: object,
    batch: object,
    metadata: object,
    expires_at: object,
) -> None:
    """Refuse what no document could have, before anything is computed from it.

    Raises
    ------
    InvalidInput
        Names the field and the document.
    """
    identifier(document_id, "document id")
    for name, value in (("source", source), ("subject", subject), ("writer", writer), ("batch", batch)):
        if value is not None:
            identifier(value, f"{name} of document {document_id!r}")
    if not isinstance(metadata, Mapping):
        raise InvalidInput(f"metadata of document {document_id!r} must be a mapping, not {type(metadata).__name__}")
    canonical_json(dict(metadata), f"metadata of document {document_id!r}")
    if expires_at is not None:
        aware(expires_at, "expires_at")


def _values(collection_id: str, row: NewDocument) -> dict[str, Any]:
    require_valid(
        row.id,
        source=row.source,
        subject=row.subject,
        writer=row.writer,
        batch=row.batch,
        metadata=row.metadata,
        expires_at=row.expires_at,
    )
    if not isinstance(row.digest, bytes) or len(row.digest) != DIGEST_BYTES:
        raise InvalidInput(f"the digest of document {row.id!r} must be {DIGEST_BYTES} bytes")
    return {
        "place": row.place,
        "collection_id": collection_id,
        "id": row.id,
        "segment_id": row.segment_id,
        "source": row.source,
        "subject": row.subject,
        "writer": row.writer,
        "batch": row.batch,
        "metadata": row.metadata,
        "created_at": aware(row.created_at, "created_at"),
        "expires_at": None if row.expires_at is None else aware(row.expires_at, "expires_at"),
        "state": DocumentState.LIVE.value,
        "token_count": len(row.tokens),
        "digest": row.digest,
    }


def _refusal(session: Session, collection_id: str, ids: Sequence[str], exc: IntegrityError) -> Conflict:
    if "FOREIGN KEY" in str(exc.orig):
        return Conflict("documents name a collection that does not exist or a segment that is not one of its own")
    twice = {name for name, times in Counter(ids).items() if times > 1}
    taken = sorted(twice | existing(session, collection_id, ids))
    if not taken:
        return Conflict(f"the documents cannot be inserted: {exc.orig}")
    named = ", ".join(map(repr, taken[:5])) + (f" and {len(taken) - 5} more" if len(taken) > 5 else "")
    return DocumentExists(f"the collection has documents of these ids already, or they came twice: {named}")


def find(session: Session, collection_id: str, document_id: str) -> DocumentRow | None:
    """The visible document of this id, or None."""
    named = parameters(collection_id, [identifier(document_id, "document id")])
    row = run(session, by_ids("row", Scope.VISIBLE), named).first()
    return None if row is None else _document(row)


def existing(session: Session, collection_id: str, ids: Iterable[str]) -> set[str]:
    """Those of `ids` that the collection has, in whatever state."""
    return set(select_ids(session, collection_id, Filters(ids=tuple(ids), scope=Scope.ANY)))


def tokens_of(
    session: Session,
    collection_id: str,
    ids: Iterable[str],
    scope: Scope = Scope.VISIBLE,
    at: datetime | None = None,
) -> dict[str, Tokens]:
    """Token arrays (int32, shape (n,)) of those of `ids` that are documents of the collection in this scope, now or at
    a time.

    Raises
    ------
    CorruptStore
        A row is not as it was written, its key is gone, or its array does not decode.
    """
    rows = _by_id(session, by_ids("tokens", scope), collection_id, ids, at)
    return {row.id: tokens for row, tokens in intact(session, rows)}


def texts_of(
    session: Session,
    collection_id: str,
    ids: Iterable[str],
    scope: Scope = Scope.VISIBLE,
    at: datetime | None = None,
) -> dict[str, str]:
    """Stored texts of those of `ids` that have one; the others' texts are what the tokenizer makes of their tokens.

    Raises
    ------
    CorruptStore
        A stored text does not decode, or its key is gone.
    """
    found = {}
    every = _by_id(session, by_ids("text", scope), collection_id, ids, at)
    rows = (row for row in every if row.text is not None)
    for row, _, text in opened(session, rows):
        if isinstance(text, CorruptStore):
            raise damaged(row) from text
        if text is not None:
            found[row.id] = text
    return found


def _by_id(
    session: Session, statement: sa.Select[Any], collection_id: str, ids: Iterable[str], at: datetime | None
) -> Iterator[Any]:
    for chunk in chunks((identifier(item, "document id") for item in ids), _CHUNK):
        yield from run(session, statement, parameters(collection_id, chunk, at), execution_options=_BLOBS)


def stored_at(
    session: Session, collection_id: str, places: Iterable[int], at: datetime | None = None
) -> Iterator[StoredTokens]:
    """The documents visible now, or at a time, whose row keys are these, others passed over; a few at a time in memory.

    The caller has to see that each id is the one that its row key stands for: see `NAMED_TOKENS`.

    Raises
    ------
    CorruptStore
        As `tokens_of`, but for a damaged id.
    """
    kept = Document.text.is_not(None).label("kept")
    for chunk in chunks(places, _CHUNK):
        chosen = (Document.collection_id == collection_id, scoped(Scope.VISIBLE, at), _at(chunk))
        rows = run(session, sa.select(*NAMED_TOKENS, kept).where(*chosen), execution_options=_BLOBS)
        for row, tokens in intact(session, rows):
            yield StoredTokens(row.place, row.id, tokens, bool(row.kept))


def _at(places: Iterable[int]) -> sa.ColumnElement[bool]:
    """SQL: the row key is one of these; one parameter whatever their number."""
    listed = sa.func.json_each(sa.literal(json.dumps(list(places)), sa.Text)).table_valued("value")
    return Document.place.in_(sa.select(listed.c.value))


def places_in(session: Session, collection_id: str, segment_id: str, at: datetime) -> tuple[Places, Places]:
    """Row keys of the documents of a segment, ascending int64 (n,): of those visible at a time, and of the others."""
    inside = sa.select(Document.place).where(Document.collection_id == collection_id, Document.segment_id == segment_id)
    # From indexes alone: looking at each row's state would read the whole table.
    every = np.fromiter(scalars(session, inside), dtype=np.int64)
    not_live = np.fromiter(scalars(session, inside.where(sa.text("document.state <> 'live'"))), dtype=np.int64)
    # By its own index, which knows of no segment: those of other segments fall out below.
    over = sa.select(Document.place).where(Document.collection_id == collection_id, expired(at))
    hidden = np.union1d(not_live, np.fromiter(scalars(session, over), dtype=np.int64))
    return np.setdiff1d(every, hidden), np.intersect1d(every, hidden)


def tokens_in(session: Session, collection_id: str, segment_id: str, at: datetime) -> int:
    """Tokens of the documents of a segment that are visible at a time."""
    chosen = (Document.collection_id == collection_id, Document.segment_id == segment_id, scoped(Scope.VISIBLE, at))
    return int(scalar(session, sa.select(sa.func.sum(Document.token_count)).where(*chosen)) or 0)


def stream_segment(
    session: Session,
    collection_id: str,
    segment_id: str,
    *,
    at: datetime | None = None,
    places: Iterable[int] | None = None,
) -> Iterator[tuple[str, Tokens]]:
    """Id and tokens of documents of the segment, by id; a few at a time in memory.

    Parameters
    ----------
    at : datetime, optional
        Those visible then, or now.
    places : int, optional
        Instead of these, the documents with these row keys, visible or not.

    Raises
    ------
    CorruptStore
        A row is not as it was written, its key is gone, or its array does not decode.
    """
    chosen = (
        Document.collection_id == collection_id,
        Document.segment_id == segment_id,
        scoped(Scope.VISIBLE, at) if places is None else _at(places),
    )
    rows = run(session, sa.select(*TOKENS).where(*chosen).order_by(Document.id), execution_options=_BLOBS)
    for row, tokens in intact(session, rows):
        yield row.id, tokens


def select(
    session: Session,
    collection_id: str,
    filters: Filters | None = None,
    *,
    limit: int | None = None,
    order: Order = "newest",
) -> Iterator[DocumentRow]:
    """The documents that match, without tokens and texts; a few at a time in memory.

    Documents of the same time come in the order of their ids, so that every order is total.

    Raises
    ------
    InvalidInput
        A negative limit or an unknown order, when the call is made.
    CorruptStore
        A stored value does not decode, when its row is reached.
    """
    statement, values = _ordered("row", collection_id, filters or Filters(), limit, order)
    rows = run(session, statement, values, execution_options={"yield_per": _ROWS_AT_A_TIME})
    return (_document(row) for row in rows)


def select_ids(
    session: Session,
    collection_id: str,
    filters: Filters | None = None,
    *,
    limit: int | None = None,
    order: Order = "id",
) -> list[str]:
    """Ids of the documents that match. Arguments and errors as `select`."""
    return list(scalars(session, *_ordered("id", collection_id, filters or Filters(), limit, order)))


def _ordered(
    what: Literal["row", "id"], collection_id: str, filters: Filters, limit: int | None, order: Order
) -> tuple[sa.Select[Any], dict[str, Any]]:
    """The statement, and what it is to be run with."""
    if order not in ORDERS:
        raise InvalidInput(f"unknown order {order!r}; the orders are: {', '.join(ORDERS)}")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise InvalidInput(f"limit must be a whole number from 0 up, not {limit!r}")
    if limit is None and filters.ids is not None and filters.names_only:
        return by_ids(what, filters.scope, order), parameters(collection_id, filters.ids, filters.at)
    columns = ROW if what == "row" else (Document.id,)
    statement = sa.select(*columns).where(*conditions(collection_id, filters)).order_by(*ORDERS[order])
    return statement.limit(limit if limit is None else min(limit, _MOST)), {}


def _document(row: sa.Row[Any]) -> DocumentRow:
    try:
        state = DocumentState(row.state)
    except ValueError as exc:
        raise CorruptStore(f"document {row.id!r} is in a state unknown to this memodb: {row.state!r}") from exc
    named = (row.id, row.source, row.subject, row.writer, row.batch)
    sound = all(isinstance(value, str | None) for value in named) and isinstance(row.id, str)
    if not sound or not isinstance(row.metadata, dict) or not isinstance(row.digest, bytes):
        raise CorruptStore(f"the row of document {row.id!r} is damaged: run `memodb check`")
    values: list[Any] = list(row)
    values[_STATE] = state
    return DocumentRow(*values)


def count(session: Session, collection_id: str, filters: Filters | None = None) -> int:
    """The number of documents that match."""
    statement = sa.select(sa.func.count()).select_from(Document)
    return int(scalar(session, statement.where(*conditions(collection_id, filters or Filters()))) or 0)


def token_total(session: Session, collection_id: str, filters: Filters | None = None) -> int:
    """The number of tokens of the documents that match."""
    filters = filters or Filters()
    if filters.ids is not None and filters.names_only:
        named = parameters(collection_id, filters.ids, filters.at)
        return int(scalar(session, by_ids("total", filters.scope), named) or 0)
    statement = sa.select(sa.func.sum(Document.token_count))
    return int(scalar(session, statement.where(*conditions(collection_id, filters))) or 0)


def move(session: Session, collection_id: str, ids: Iterable[str], segment_id: str) -> int:
    """Record documents as members of another segment; the number that were elsewhere before.

    Raises
    ------
    Conflict
        The segment is not one of the collection; raised before anything is changed.
    """
    moved = 0
    touched = {segment_id}
    for chunk in chunks((identifier(item, "document id") for item in ids), _CHUNK):
        chosen = (Document.collection_id == collection_id, Document.segment_id != segment_id, among(chunk))
        touched.update(scalars(session, sa.select(Document.segment_id).where(*chosen).distinct()))
        try:
            moved += changed(session, sa.update(Document).where(*chosen).values(segment_id=segment_id))
        except IntegrityError as exc:
            raise Conflict(f"the segment {segment_id!r} is not one of this collection") from exc
    if moved:
        bump_segments(session, collection_id, touched)
        forget_tiles(session, collection_id, touched - {segment_id})
    return moved
