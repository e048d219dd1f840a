"""Queries on quarantine: documents set aside, and brought back.

Every function works inside the caller's session: nothing is durable before that session's block ends without an error.
"""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from memodb.catalog.columns import identifier
from memodb.catalog.execution import changed, chunks, scalars
from memodb.catalog.filters import among
from memodb.catalog.models import Document, DocumentState
from memodb.catalog.registry import bump_segments
from memodb.catalog.visibility import Scope, scoped

__all__ = ["release", "set_aside"]

_CHUNK = 5000


def set_aside(session: Session, collection_id: str, ids: Iterable[str]) -> int:
    """Put live documents into quarantine, expired or not; the number of them."""
    live = Document.state == DocumentState.LIVE.value
    return _move(session, collection_id, ids, live, DocumentState.QUARANTINED)


def release(session: Session, collection_id: str, ids: Iterable[str]) -> int:
    """Bring documents back from quarantine; the number of them."""
    return _move(session, collection_id, ids, scoped(Scope.QUARANTINED), DocumentState.LIVE)


def _move(
    session: Session, collection_id: str, ids: Iterable[str], before: ColumnElement[bool], state: DocumentState
) -> int:
    moved = 0
    touched: set[str] = set()
    for chunk in chunks((identifier(item, "document id") for item in ids), _CHUNK):
        chosen = (Document.collection_id == collection_id, among(chunk), before)
        touched.update(scalars(session, select(Document.segment_id).where(*chosen).distinct()))
        moved += changed(session, update(Document).where(*chosen).values(state=state.value))
    if moved:
        bump_segments(session, collection_id, touched)
    return moved
