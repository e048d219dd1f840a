"""The catalog checked against itself, row by row, trusting no column to hold what it declares."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from memodb.catalog.columns import CanonicalJson, UtcMicroseconds, canonical_json, identifier
from memodb.catalog.contents import opened
from memodb.catalog.documents import DIGEST_BYTES
from memodb.catalog.erasing import STATES
from memodb.catalog.models import TABLES, Document, DocumentState, Erasure, Segment
from memodb.catalog.seals import broken
from memodb.errors import CorruptStore, InvalidInput

__all__ = ["check"]

_AT_A_TIME = 64
_NAMED = {
    "setting": "name",
    "collection": "name",
    "segment": "id",
    "erasure": "id",
    "hold": "name",
    "suppression": "collection_id",
    "audit": "seq",
    "backup": "id",
}
"""Sealed tables besides the documents', and what a row of them is called by."""
_DIALECT = sa.engine.default.DefaultDialect()


def check(session: Session, collection_id: str) -> list[str]:
    """What is wrong with the store's settings and collections, and this collection's segments and documents: a sentence
    each, naming the row; empty if nothing is.

    Checked are every seal, and of documents the ids, that tokens and texts decode and the count of tokens is theirs,
    the metadata's canonical form, times, the digest's length, the state, and that the segment is one of the same
    collection. The digest's truth is the caller's to check. Memory holds a few documents at a time.
    """
    found: list[str] = []
    for name, column in _NAMED.items():
        table = TABLES[name]
        # without its type: a damaged name is told as what is there
        named = sa.type_coerce(table.c[column], sa.types.NULLTYPE)
        try:
            damaged = session.execute(sa.select(named).where(broken(table))).scalars().all()
        except sa.exc.OperationalError:  # text that is not UTF-8 ends the whole query
            found.append(f"{name}: a row of it cannot be read")
        else:
            found += [f"{name} {which!r}: its row is not as it was written" for which in damaged]
    states = session.execute(sa.select(Erasure.id, Erasure.state).where(Erasure.state.not_in(STATES)))
    found += [f"erasure {which!r}: its state {state!r} is unknown to this memodb" for which, state in states]
    return found + _documents(session, collection_id)


def _documents(session: Session, collection_id: str) -> list[str]:
    raw: list[Any] = [
        sa.type_coerce(column, sa.types.NULLTYPE).label(column.name)
        for column in (
            Document.id,
            Document.place,
            Document.key,
            Document.tokens,
            Document.text,
            Document.token_count,
            Document.metadata_,
            Document.created_at,
            Document.expires_at,
            Document.digest,
            Document.state,
            Document.segment_id,
        )
    ] + [Segment.collection_id.label("owner"), broken(TABLES["document"]).label("damaged")]
    statement = (
        sa.select(*raw)
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
    rows = session.execute(statement, execution_options={"yield_per": _AT_A_TIME})
    return [
        f"document {row.id!r}: {problem}"
        for row, tokens, text in opened(session, rows)
        for problem in _problems(collection_id, row, tokens, text)
    ]


def _problems(collection_id: str, row: Any, tokens: Any, text: Any) -> list[str]:
    found: list[str] = []
    try:
        identifier(row.id, "its id")
    except InvalidInput as exc:
        found.append(str(exc))
    found += [str(value) for value in (tokens, text) if isinstance(value, CorruptStore)]
    if not isinstance(tokens, CorruptStore) and len(tokens) != row.token_count:
        found.append(f"token_count is {row.token_count!r}, but {len(tokens)} tokens are stored")
    try:
        times = UtcMicroseconds()
        if times.process_result_value(row.created_at, _DIALECT) is None:
            found.append("created_at is missing")
        times.process_result_value(row.expires_at, _DIALECT)
        value = CanonicalJson().process_result_value(row.metadata, _DIALECT)
        if not isinstance(value, dict) or canonical_json(value) != row.metadata:
            found.append("its metadata is not the canonical text of a JSON object")
    except (CorruptStore, InvalidInput) as exc:
        found.append(str(exc))
    if not isinstance(row.digest, bytes) or len(row.digest) != DIGEST_BYTES:
        found.append(f"its digest is not {DIGEST_BYTES} bytes")
    if row.state not in set(DocumentState):
        found.append(f"its state {row.state!r} is unknown to this memodb")
    if row.owner != collection_id:
        found.append(f"its segment {row.segment_id!r} is not one of its collection")
    if row.damaged and not found:
        found.append("its row is not as it was written")
    return found
