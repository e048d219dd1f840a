"""Queries on when documents expire.

Every function works inside the caller's session: nothing is durable before that session's block ends without an error.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from memodb.catalog.columns import aware, identifier
from memodb.catalog.execution import changed, chunks, run, scalar, scalars
from memodb.catalog.filters import among
from memodb.catalog.models import TABLES, Document, DocumentState
from memodb.catalog.registry import bump_segments
from memodb.catalog.seals import resealed
from memodb.catalog.visibility import Scope, expired, now, scoped

__all__ = ["expired_ids", "expired_places", "next_expiry", "set_expiry"]

_CHUNK = 5000
_LIVE = Document.state == DocumentState.LIVE.value
_EXPIRES = TABLES["document"].c.expires_at
_NEXT_EXPIRY = select(func.min(_EXPIRES, type_=_EXPIRES.type)).where(
    TABLES["document"].c.collection_id == bindparam("collection"), bindparam("after", type_=_EXPIRES.type) < _EXPIRES
)


def set_expiry(
    session: Session,
    collection_id: str,
    ids: Iterable[str],
    expires_at: datetime | None,
    scope: Scope = Scope.VISIBLE,
) -> int:
    """Set or clear when documents expire, visible ones unless said otherwise; the number of them.

    Raises
    ------
    InvalidInput
        The time has no timezone.
    """
    value = None if expires_at is None else aware(expires_at, "expires_at")
    found = 0
    touched: set[str] = set()
    for chunk in chunks((identifier(item, "document id") for item in ids), _CHUNK):
        chosen = (Document.collection_id == collection_id, among(chunk), scoped(scope))
        touched.update(scalars(session, select(Document.segment_id).where(*chosen).distinct()))
        statement = update(Document).where(*chosen).values(**resealed(TABLES["document"], expires_at=value))
        found += changed(session, statement)
    if found:
        bump_segments(session, collection_id, touched)  # a reader may have subtracted what now stays
    return found


def next_expiry(session: Session, collection_id: str, after: datetime) -> datetime | None:
    """When the next document of the collection expires, later than a time; None where none will."""
    found: datetime | None = scalar(session, _NEXT_EXPIRY, {"collection": collection_id, "after": after})
    return found


def expired_places(session: Session, collection_id: str, at: datetime) -> list[tuple[int, str]]:
    """Row key and segment of the live documents that have expired by a time."""
    chosen = (Document.collection_id == collection_id, expired(at), _LIVE)
    return [(row[0], row[1]) for row in run(session, select(Document.place, Document.segment_id).where(*chosen))]


def expired_ids(session: Session, collection_id: str) -> list[str]:
    """Ids of the documents that have expired, live or in quarantine, ascending."""
    chosen = (Document.collection_id == collection_id, expired(now()), scoped(Scope.STORED))
    return sorted(scalars(session, select(Document.id).where(*chosen)))
