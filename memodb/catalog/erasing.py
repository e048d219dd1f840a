"""Queries of a deletion: documents are hidden in one commit, their rows go with another, and every state is recorded.

Every function works inside the caller's session: nothing is durable before that session's block ends without an error.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, delete, func, select, text, update
from sqlalchemy.orm import Session

from memodb.catalog.codec import decode_text, encode_text
from memodb.catalog.columns import identifier
from memodb.catalog.execution import changed, chunks, run, scalar, scalars
from memodb.catalog.filters import AMONG, listed
from memodb.catalog.models import TABLES, Collection, Document, DocumentState, Erasure, Hold
from memodb.catalog.registry import bump_segments, doom, forget_tiles
from memodb.catalog.seals import broken, inserted, resealed
from memodb.catalog.visibility import Scope, scoped
from memodb.errors import CorruptStore, NotFound

__all__ = [
    "STATES",
    "ErasureRow",
    "add_erasure",
    "advance",
    "collections_with_unfinished",
    "delete_many",
    "erasures",
    "find_erasure",
    "hidden",
    "hide_many",
    "left_of",
    "pseudonyms_of",
    "receipt_of",
    "set_receipt",
]

STATES: Final = (
    "requested",
    "hidden",
    "subtracted",
    "rows_purged",
    "wal_truncated",
    "tiles_destroyed",
    "key_destroyed",
    "verified",
)
"""Of an erasure, in their order; the last is reached when its receipt is signed."""

_CHUNK = 5000
_PSEUDONYM_BYTES = 16
_LIVE = Document.state == DocumentState.LIVE.value
_TABLE = TABLES["erasure"]
_UNFINISHED = (text("document.state <> 'live'"), Document.state == DocumentState.ERASING.value)
"""Being erased. The first condition is an index's own, spelt alike so that SQLite sees that it may use that."""
_CHOSEN = (Document.collection_id == bindparam("collection"), scoped(Scope.STORED), AMONG)
_SEGMENTS_OF = select(Document.segment_id).where(*_CHOSEN).distinct()
_HIDE = (
    update(TABLES["document"])
    .where(*_CHOSEN)
    .values(state=DocumentState.ERASING.value, erasure_id=bindparam("erasure"))
)
_HELD = select(Hold.place).where(Hold.place == Document.place).exists()


@dataclass(frozen=True)
class ErasureRow:
    """A deletion, with what is known of its states; without its pseudonyms and its receipt."""

    id: str
    collection_id: str
    state: str
    requested_at: datetime
    facts: dict[str, Any]


_COLUMNS = (_TABLE.c.id, _TABLE.c.collection_id, _TABLE.c.state, _TABLE.c.requested_at, _TABLE.c.facts)
_ERASURES = select(*_COLUMNS, broken(_TABLE).label("damaged"))
_OF_COLLECTION = _ERASURES.where(_TABLE.c.collection_id == bindparam("collection")).order_by(
    _TABLE.c.requested_at, _TABLE.c.id
)
_BEGUN = _OF_COLLECTION.where(text("erasure.state <> 'verified'"))
_BY_ID = _ERASURES.where(_TABLE.c.id == bindparam("erasure"))
_LEFT = select(func.count()).select_from(Document).where(*_UNFINISHED, Document.erasure_id == bindparam("erasure"))
_LEFT_HELD = _LEFT.where(_HELD)
_HIDDEN = select(Document.id, Document.segment_id).where(
    Document.collection_id == bindparam("collection"), *_UNFINISHED, ~_HELD
)
_STEP = update(_TABLE).where(_TABLE.c.id == bindparam("erasure"))
_ADVANCE = _STEP.values(
    **resealed(_TABLE, facts=bindparam("known", type_=_TABLE.c.facts.type)), state=bindparam("reached")
)
_SET_RECEIPT = _STEP.values(**resealed(_TABLE, receipt=bindparam("signed", type_=_TABLE.c.receipt.type)))
_NAMED = (Document.collection_id == bindparam("collection"), AMONG)
_SEGMENTS_OF_LIVE = select(Document.segment_id).where(*_NAMED, _LIVE).distinct()
_KEYS_OF = select(Document.key).where(*_NAMED)
_DELETE = delete(TABLES["document"]).where(*_NAMED)


def add_erasure(session: Session, row: ErasureRow, pseudonyms: Iterable[bytes]) -> None:
    """Record a deletion that is about to hide documents."""
    run(session, *inserted(_TABLE, **vars(row), pseudonyms=b"".join(pseudonyms)))


def hide_many(session: Session, collection_id: str, ids: Iterable[str], erasure_id: str) -> int:
    """The first commit of a deletion: stored documents become `DocumentState.ERASING`; the number of them.

    From this commit on no query returns them that does not ask for that state. The tiles of their segments stay named:
    what they hold too much can be subtracted as long as the rows are there.
    """
    hidden = 0
    touched: set[str] = set()
    for chunk in _chunked(ids):
        chosen = {"collection": collection_id, "ids": listed(chunk)}
        touched.update(scalars(session, _SEGMENTS_OF, chosen))
        hidden += changed(session, _HIDE, {**chosen, "erasure": erasure_id})
    if hidden:
        bump_segments(session, collection_id, touched)
    return hidden


def hidden(session: Session, collection_id: str) -> dict[str, list[str]]:
    """Ids of the documents that are being erased and that no hold keeps, by segment."""
    found: dict[str, list[str]] = {}
    for document_id, segment_id in run(session, _HIDDEN, {"collection": collection_id}):
        found.setdefault(segment_id, []).append(document_id)
    return found


def left_of(session: Session, erasure_id: str) -> tuple[int, int]:
    """Rows that an erasure has still to remove: all of them, and those that a hold keeps."""
    chosen = {"erasure": erasure_id}
    return int(scalar(session, _LEFT, chosen) or 0), int(scalar(session, _LEFT_HELD, chosen) or 0)


def collections_with_unfinished(session: Session) -> list[str]:
    """Names of the collections in which a deletion is not finished."""
    hiding = select(Collection.name).join(Document, Document.collection_id == Collection.id).where(*_UNFINISHED)
    begun = select(Collection.name).join(Erasure).where(text("erasure.state <> 'verified'"))
    return sorted({*scalars(session, hiding.distinct()), *scalars(session, begun.distinct())})


def delete_many(session: Session, collection_id: str, ids: Iterable[str]) -> int:
    """Remove the rows of documents of whatever state; the number that were there. Other ids are passed over.

    Their keys are doomed. A tile that may still hold a live one of them is no longer named. Those that were hidden
    before left the memory with `hide_many`, and the caller has seen to their tiles.

    Raises
    ------
    Conflict
        A hold keeps one of them.
    """
    removed = 0
    touched: set[str] = set()
    for chunk in _chunked(ids):
        chosen = {"collection": collection_id, "ids": listed(chunk)}
        touched.update(scalars(session, _SEGMENTS_OF_LIVE, chosen))
        doom(session, scalars(session, _KEYS_OF, chosen))
        removed += changed(session, _DELETE, chosen)
    if touched:
        bump_segments(session, collection_id, touched)
        forget_tiles(session, collection_id, touched)
    return removed


def erasures(session: Session, collection_id: str, *, unfinished: bool = False) -> list[ErasureRow]:
    """Deletions of a collection, the oldest first.

    Raises
    ------
    CorruptStore
        A row is not as it was written.
    """
    rows = run(session, _BEGUN if unfinished else _OF_COLLECTION, {"collection": collection_id}).all()
    return [_erasure(row) for row in rows]


def _erasure(row: Any) -> ErasureRow:
    """A row, whose seal may be right for what no memodb writes."""
    sound = not row.damaged and isinstance(row.id, str) and row.state in STATES and isinstance(row.facts, dict)
    if not sound:
        raise CorruptStore(f"the row of erasure {row.id!r} is damaged: restore the store from a backup")
    return ErasureRow(row.id, row.collection_id, row.state, row.requested_at, row.facts)


def find_erasure(session: Session, erasure_id: str) -> ErasureRow:
    """The deletion of this id, in whatever collection.

    Raises
    ------
    NotFound
        There is none.
    CorruptStore
        Its row is not as it was written.
    """
    row = run(session, _BY_ID, {"erasure": erasure_id}).first()
    if row is None:
        raise NotFound(f"the store has no erasure {erasure_id!r}: list them with erasures()")
    return _erasure(row)


def pseudonyms_of(session: Session, erasure_id: str) -> list[str]:
    """Pseudonyms of an erasure's documents, hexadecimal, ascending."""
    found = scalar(session, select(Erasure.pseudonyms).where(Erasure.id == erasure_id))
    if found is None:
        return []
    if not isinstance(found, bytes) or len(found) % _PSEUDONYM_BYTES:
        raise CorruptStore(f"the row of erasure {erasure_id!r} is damaged: restore the store from a backup")
    return sorted(found[at : at + _PSEUDONYM_BYTES].hex() for at in range(0, len(found), _PSEUDONYM_BYTES))


def advance(session: Session, erasure_id: str, state: str, facts: dict[str, Any]) -> None:
    """Record that an erasure has come to a state, with what was measured on the way."""
    run(session, _ADVANCE, {"erasure": erasure_id, "known": facts, "reached": state})


def set_receipt(session: Session, erasure_id: str, receipt: str) -> None:
    """Keep an erasure's signed receipt; one that it has already is replaced."""
    run(session, _SET_RECEIPT, {"erasure": erasure_id, "signed": encode_text(receipt)})


def receipt_of(session: Session, erasure_id: str) -> str | None:
    """An erasure's signed receipt; None where it has none yet."""
    packed = scalar(session, select(Erasure.receipt).where(Erasure.id == erasure_id))
    return None if packed is None else decode_text(packed)


def _chunked(ids: Iterable[str]) -> Iterator[list[str]]:
    return chunks((identifier(item, "document id") for item in ids), _CHUNK)
