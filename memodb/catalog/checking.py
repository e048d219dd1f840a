"""The catalog checked against itself, row by row, trusting no column to hold what it declares."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from memodb.catalog.codec import decode_text, decode_tokens
from memodb.catalog.columns import CanonicalJson, UtcMicroseconds, canonical_json, identifier
from memodb.catalog.documents import DIGEST_BYTES
from memodb.catalog.models import Collection, Document, DocumentState, Segment, Setting
from memodb.catalog.seals import broken
from memodb.errors import CorruptStore, InvalidInput

__all__ = ["check"]

_AT_A_TIME = 64
_DIALECT = sa.engine.default.DefaultDialect()


def check(session: Session, collection_id: str) -> list[str]:
    """What is wrong with the store's settings and collections, and this collection's segments and documents: a sentence
    each, naming the row; empty if nothing is.

    Checked are every seal, and of documents the ids, that tokens and texts decode and the count of tokens is theirs,
    the metadata's canonical form, times, the digest's length, the state, and that the segment is one of the same
    collection. The digest's truth is the caller's to check. Memory holds a few documents at a time.
    """
    found: list[str] = []
    for table, name in ((Setting.__table__, "name"), (Collection.__table__, "name"), (Segment.__table__, "id")):
        damaged = session.execute(sa.select(table.c[name]).where(broken(table))).scalars()  # type: ignore[arg-type]
        found += [f"{table.description} {which!r}: its row is not as it was written" for which in damaged]
    return found + _documents(session, collection_id)


def _documents(session: Session, collection_id: str) -> list[str]:
    raw = [
        sa.type_coerce(column, sa.types.NULLTYPE)
        for column in (
            Document.id,
            Document.tokens,
            Document.token_count,
            Document.text,
            Document.metadata_,
            Document.created_at,
            Document.expires_at,
            Document.digest,
            Document.state,
            Document.segment_id,
            Segment.collection_id,
        )
    ]
    statement = (
        sa.select(*raw, broken(Document.__table__))  # type: ignore[arg-type]
        .outerjoin(Segment, Segment.id == Document.segment_id)
        .where(Document.collection_id == collection_id)
        .order_by(Document.id)
    )
    try:
        return _read(session, collection_id, statement)
    except sa.exc.OperationalError:  # text that is not UTF-8 ends the whole query: look at the rows one by one
        found = []
        for place in session.scalars(sa.select(Document.place)).all():
            try:
                found += _read(session, collection_id, statement.where(Document.place == place))
            except sa.exc.OperationalError:
                found.append(f"the document in row {place} cannot be read")
        return found


def _read(session: Session, collection_id: str, statement: Any) -> list[str]:
    return [
        f"document {row[0]!r}: {problem}"
        for row in session.execute(statement, execution_options={"yield_per": _AT_A_TIME})
        for problem in _problems(collection_id, *row)
    ]


def _problems(
    collection_id: str,
    document_id: Any,
    tokens: Any,
    token_count: Any,
    text: Any,
    metadata: Any,
    created_at: Any,
    expires_at: Any,
    digest: Any,
    state: Any,
    segment_id: Any,
    owner: Any,
    damaged: bool,
) -> list[str]:
    found: list[str] = []
    try:
        identifier(document_id, "its id")
    except InvalidInput as exc:
        found.append(str(exc))
    try:
        length = len(decode_tokens(tokens))
        if length != token_count:
            found.append(f"token_count is {token_count!r}, but {length} tokens are stored")
    except CorruptStore as exc:
        found.append(str(exc))
    try:
        if text is not None:
            decode_text(text)
        times = UtcMicroseconds()
        if times.process_result_value(created_at, _DIALECT) is None:
            found.append("created_at is missing")
        times.process_result_value(expires_at, _DIALECT)
        value = CanonicalJson().process_result_value(metadata, _DIALECT)
        if not isinstance(value, dict) or canonical_json(value) != metadata:
            found.append("its metadata is not the canonical text of a JSON object")
    except (CorruptStore, InvalidInput) as exc:
        found.append(str(exc))
    if not isinstance(digest, bytes) or len(digest) != DIGEST_BYTES:
        found.append(f"its digest is not {DIGEST_BYTES} bytes")
    if state not in set(DocumentState):
        found.append(f"its state {state!r} is unknown to this memodb")
    if owner != collection_id:
        found.append(f"its segment {segment_id!r} is not one of its collection")
    if damaged and not found:
        found.append("its row is not as it was written")
    return found
