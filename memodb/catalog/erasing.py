"""Queries of a deletion's two commits: documents are hidden in the first, their rows go with the second.

Every function works inside the caller's session: nothing is durable before that session's block ends without an error.
"""

from collections.abc import Iterable, Iterator

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from memodb.catalog.columns import identifier
from memodb.catalog.documents import UNFINISHED
from memodb.catalog.execution import changed, chunks
from memodb.catalog.filters import among
from memodb.catalog.models import Collection, Document, DocumentState
from memodb.catalog.registry import bump_segments, forget_tiles

__all__ = ["collections_with_hidden", "delete_many", "hidden", "hide_many"]

_CHUNK = 5000
_LIVE = Document.state == DocumentState.LIVE.value


def hide_many(session: Session, collection_id: str, ids: Iterable[str]) -> int:
    """The first commit of a deletion: live documents become `DocumentState.ERASING`; the number of them.

    From this commit on no query returns them that does not ask for that state. The tiles of their segments stay named:
    what they hold too much can be subtracted as long as the rows are there.
    """
    hidden = 0
    touched: set[str] = set()
    for chunk in _chunked(ids):
        chosen = (Document.collection_id == collection_id, _LIVE, among(chunk))
        touched.update(session.scalars(select(Document.segment_id).where(*chosen).distinct()))
        hidden += changed(session, update(Document).where(*chosen).values(state=DocumentState.ERASING.value))
    if hidden:
        bump_segments(session, collection_id, touched)
    return hidden


def hidden(session: Session, collection_id: str) -> dict[str, list[str]]:
    """Ids of the documents whose deletion is not finished, by segment."""
    found: dict[str, list[str]] = {}
    chosen = (Document.collection_id == collection_id, *UNFINISHED)
    for document_id, segment_id in session.execute(select(Document.id, Document.segment_id).where(*chosen)):
        found.setdefault(segment_id, []).append(document_id)
    return found


def collections_with_hidden(session: Session) -> list[str]:
    """Names of the collections in which a deletion is not finished."""
    statement = select(Collection.name).join(Document, Document.collection_id == Collection.id).where(*UNFINISHED)
    return sorted(session.scalars(statement.distinct()))


def delete_many(session: Session, collection_id: str, ids: Iterable[str]) -> int:
    """Remove the rows of documents of whatever state; the number that were there. Other ids are passed over.

    A tile that may still hold a live one of them is no longer named. Those that were hidden before left the memory with
    `hide_many`, and the caller has seen to their tiles.
    """
    removed = 0
    touched: set[str] = set()
    for chunk in _chunked(ids):
        chosen = (Document.collection_id == collection_id, among(chunk))
        touched.update(session.scalars(select(Document.segment_id).where(*chosen, _LIVE).distinct()))
        removed += changed(session, delete(Document).where(*chosen))
    if touched:
        bump_segments(session, collection_id, touched)
        forget_tiles(session, collection_id, touched)
    return removed


def _chunked(ids: Iterable[str]) -> Iterator[list[str]]:
    return chunks((identifier(item, "document id") for item in ids), _CHUNK)
