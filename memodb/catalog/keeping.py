"""Queries on what must stay, and what must stay away: legal holds, and texts that are not to be stored again.

Every function works inside the caller's session: nothing is durable before that session's block ends without an error.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, delete, func, or_, select
from sqlalchemy.orm import Session

from memodb.catalog.execution import changed, chunks, run, scalar, scalars
from memodb.catalog.filters import AMONG, listed
from memodb.catalog.models import TABLES, Document, Hold, Suppression
from memodb.catalog.seals import inserted
from memodb.catalog.visibility import now

__all__ = [
    "HoldRow",
    "add_hold",
    "add_suppression",
    "held_among",
    "held_ids",
    "holds",
    "remove_hold",
    "remove_suppression",
    "suppressed",
    "suppressions",
]

_CHUNK = 500
_HELD_AMONG = select(Document.id).where(
    Document.collection_id == bindparam("collection"),
    AMONG,
    Document.place.in_(select(Hold.place).where(Hold.collection_id == bindparam("collection"))),
)
_RUNNING = or_(Suppression.expires_at.is_(None), Suppression.expires_at > bindparam("at"))
_SUPPRESSIONS = (
    select(func.count()).select_from(Suppression).where(Suppression.collection_id == bindparam("collection"), _RUNNING)
)


@dataclass(frozen=True)
class HoldRow:
    """A legal hold and the number of documents it keeps."""

    name: str
    created_at: datetime
    documents: int


def add_hold(session: Session, collection_id: str, name: str, places: Iterable[int], created_at: datetime) -> int:
    """Put documents under a hold, new or known; how many were not under it before."""
    known = set(_places(session, collection_id, name))
    fresh = sorted(set(places) - known)
    for place in fresh:
        row = {"collection_id": collection_id, "name": name, "place": place, "created_at": created_at}
        run(session, *inserted(TABLES["hold"], **row))
    return len(fresh)


def remove_hold(session: Session, collection_id: str, name: str) -> list[str]:
    """End a hold; the ids of the documents that it kept, ascending."""
    ids = held_ids(session, collection_id, name)
    changed(session, delete(Hold).where(Hold.collection_id == collection_id, Hold.name == name))
    return ids


def held_ids(session: Session, collection_id: str, name: str) -> list[str]:
    """Ids of the documents under a hold, ascending."""
    chosen = Document.place.in_(_places_of(collection_id, name))
    return sorted(scalars(session, select(Document.id).where(chosen)))


def held_among(session: Session, collection_id: str, ids: Iterable[str]) -> list[str]:
    """Those of some ids whose documents a hold keeps, ascending."""
    found: list[str] = []
    for chunk in chunks(ids, _CHUNK):
        found += scalars(session, _HELD_AMONG, {"collection": collection_id, "ids": listed(chunk)})
    return sorted(found)


def _places(session: Session, collection_id: str, name: str) -> list[int]:
    return list(scalars(session, _places_of(collection_id, name)))


def _places_of(collection_id: str, name: str) -> Select[Any]:
    return select(Hold.place).where(Hold.collection_id == collection_id, Hold.name == name)


def holds(session: Session, collection_id: str) -> list[HoldRow]:
    """The holds of a collection, by name."""
    statement = (
        select(Hold.name, func.min(Hold.created_at, type_=Hold.created_at.type), func.count())
        .where(Hold.collection_id == collection_id)
        .group_by(Hold.name)
        .order_by(Hold.name)
    )
    return [HoldRow(*row) for row in run(session, statement)]


def add_suppression(session: Session, collection_id: str, digest: bytes, expires_at: datetime | None) -> None:
    """Refuse a text from now on, until a time or for good; the last word on a text counts."""
    remove_suppression(session, collection_id, digest)
    row = {"collection_id": collection_id, "hash": digest, "expires_at": expires_at}
    run(session, *inserted(TABLES["suppression"], **row))


def remove_suppression(session: Session, collection_id: str, digest: bytes) -> bool:
    """Allow a text again; False where it was not suppressed."""
    chosen = (Suppression.collection_id == collection_id, Suppression.hash == digest)
    return bool(changed(session, delete(Suppression).where(*chosen)))


def suppressions(session: Session, collection_id: str) -> int:
    """How many texts are suppressed now."""
    return int(scalar(session, _SUPPRESSIONS, {"collection": collection_id, "at": now()}) or 0)


def suppressed(session: Session, collection_id: str, digests: Iterable[bytes]) -> set[bytes]:
    """Those of these keyed hashes that are suppressed now."""
    found: set[bytes] = set()
    for chunk in chunks(digests, _CHUNK):
        chosen = (Suppression.collection_id == collection_id, Suppression.hash.in_(chunk), _RUNNING)
        found.update(scalars(session, select(Suppression.hash).where(*chosen), {"at": now()}))
    return found
