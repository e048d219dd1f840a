"""Queries on settings, collections and segments.

Every function works inside the caller's session: nothing is durable before that session's block ends without an error.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Insert, Table, and_, column, delete, func, insert, select, update
from sqlalchemy import table as lightweight
from sqlalchemy.orm import Session

from memodb.catalog.columns import aware, canonical_json, identifier
from memodb.catalog.execution import changed
from memodb.catalog.models import Collection, Document, DocumentState, Segment, Setting
from memodb.catalog.seals import broken, raw_values, resealed
from memodb.errors import CollectionNotFound, Conflict, CorruptStore, InvalidInput, NotFound

__all__ = [
    "KEY_BYTES",
    "CollectionRow",
    "CollectionSummary",
    "SegmentRow",
    "add_collection",
    "add_segment",
    "bump_collection",
    "bump_segments",
    "damaged_segments",
    "empty_segments",
    "find_collection",
    "forget_tiles",
    "get_setting",
    "list_collections",
    "list_segments",
    "named_tiles",
    "put_setting",
    "remove_segment",
    "require_sound",
    "reshape_segment",
    "set_tile",
    "unused_ordinal",
    "version_of",
]

KEY_BYTES = 32

_SETTING: Table = Setting.__table__  # type: ignore[assignment]
_COLLECTION: Table = Collection.__table__  # type: ignore[assignment]
_SEGMENT: Table = Segment.__table__  # type: ignore[assignment]


@dataclass(frozen=True)
class CollectionRow:
    """A collection: `id` is random, `key` its secret seed (32 bytes), `version` differs after every change to it."""

    id: str
    name: str
    key: bytes = field(repr=False)
    created_at: datetime
    version: int


@dataclass(frozen=True)
class CollectionSummary:
    """A collection with the number of its live documents and of their tokens."""

    collection: CollectionRow
    documents: int
    tokens: int


@dataclass(frozen=True)
class SegmentRow:
    """A segment: `geometry` is a fresh JSON value, `version` differs after every change to its membership.

    `tile` names a file that holds the memory of some of its documents, and of no other: documents may have come since
    it was written, none has gone.
    """

    id: str
    collection_id: str
    geometry: Any
    version: int
    tile: str | None = None


def _inserted(table: Table, **values: Any) -> Insert:
    raw = raw_values(table, values)
    return insert(lightweight(table.name, *map(column, raw))).values(**raw)


def require_sound(session: Session) -> None:
    """Refuse a catalog whose settings or collections are damaged: every other row is found through them.

    Raises
    ------
    CorruptStore
        A row is not as it was written.
    """
    for table in (_SETTING, _COLLECTION):
        found = session.execute(select(table.columns["name"]).where(broken(table))).first()
        if found is not None:
            raise CorruptStore(
                f"the {table.name} {found[0]!r} in the catalog is damaged: restore the store from a backup"
            )


def get_setting(session: Session, name: str, default: Any = None) -> Any:
    """The setting's JSON value, or `default` where it was never put."""
    row = session.execute(select(Setting.value).where(Setting.name == name)).first()
    return default if row is None else row[0]


def put_setting(session: Session, name: str, value: Any) -> None:
    """Set or replace a setting by any JSON value.

    Raises
    ------
    InvalidInput
        The value is not JSON.
    """
    identifier(name, "setting name")
    canonical_json(value, f"setting {name!r}")
    sealed = resealed(_SETTING, value=value)
    if not changed(session, update(Setting).where(Setting.name == name).values(**sealed)):
        session.execute(_inserted(_SETTING, name=name, value=value))


def add_collection(
    session: Session, name: str, *, key: bytes | None = None, created_at: datetime | None = None
) -> CollectionRow:
    """A new, empty collection with a random id, and a random key unless one is given.

    Raises
    ------
    Conflict
        The name is taken, or the key: documents are named in a memory, and in the catalog, by a hash under that key.
    InvalidInput
        The name is no identifier, the key is not 32 bytes, or the time has no timezone.
    """
    identifier(name, "collection name")
    if key is not None and (not isinstance(key, bytes) or len(key) != KEY_BYTES):
        raise InvalidInput(f"a collection's key must be {KEY_BYTES} bytes")
    if session.execute(select(Collection.id).where(Collection.name == name)).first() is not None:
        raise Conflict(f"a collection named {name!r} exists already")
    if key is not None and session.execute(select(Collection.id).where(Collection.key == key)).first() is not None:
        raise Conflict("another collection of the store has this seed: collections share nothing, leave seed out")
    require_sound(
        session
    )  # else one whose name was damaged would be taken for missing, and an empty one made beside it
    row = CollectionRow(
        id=secrets.token_hex(16),
        name=name,
        key=secrets.token_bytes(KEY_BYTES) if key is None else key,
        created_at=datetime.now(UTC) if created_at is None else aware(created_at, "created_at"),
        version=0,
    )
    session.execute(_inserted(_COLLECTION, **vars(row)))
    return row


_COLLECTION_COLUMNS = (Collection.id, Collection.name, Collection.key, Collection.created_at, Collection.version)


def find_collection(session: Session, name: str) -> CollectionRow:
    """The collection of this name.

    Raises
    ------
    CollectionNotFound
        There is none.
    """
    row = session.execute(select(*_COLLECTION_COLUMNS).where(Collection.name == name)).first()
    if row is None:
        raise CollectionNotFound(f"the store has no collection named {name!r}")
    return CollectionRow(*row)


def version_of(session: Session, collection_id: str) -> int:
    """A number that differs after every change to the collection.

    Raises
    ------
    CollectionNotFound
        There is no such collection.
    """
    version = session.scalar(select(Collection.version).where(Collection.id == collection_id))
    if version is None:
        raise CollectionNotFound(f"the store has no collection with the id {collection_id!r}")
    return version


def list_collections(session: Session) -> list[CollectionSummary]:
    """Every collection with its counts, by name. Reads each document's row once."""
    rows = session.execute(
        select(*_COLLECTION_COLUMNS, func.count(Document.id), func.coalesce(func.sum(Document.token_count), 0))
        .outerjoin(Document, and_(Document.collection_id == Collection.id, Document.state == DocumentState.LIVE.value))
        .group_by(Collection.id)
        .order_by(Collection.name)
    )
    return [CollectionSummary(CollectionRow(*row[:5]), documents=row[5], tokens=row[6]) for row in rows]


def bump_collection(session: Session, collection_id: str) -> None:
    """Change the collection's version, so that readers of other processes see that they must follow.

    The functions that change documents and segments call this themselves; it is for changes that they do not see.

    Raises
    ------
    CollectionNotFound
        There is no such collection.
    """
    statement = update(Collection).where(Collection.id == collection_id).values(version=Collection.version + 1)
    if not changed(session, statement):
        raise CollectionNotFound(f"the store has no collection with the id {collection_id!r}")


def add_segment(session: Session, collection_id: str, geometry: Any) -> SegmentRow:
    """A new segment without documents, with a random id.

    Raises
    ------
    CollectionNotFound
        There is no such collection.
    InvalidInput
        The geometry is not JSON.
    """
    canonical_json(geometry, "geometry")
    bump_collection(session, collection_id)
    row = SegmentRow(id=secrets.token_hex(16), collection_id=collection_id, geometry=geometry, version=0)
    session.execute(_inserted(_SEGMENT, **vars(row)))
    return row


def list_segments(session: Session, collection_id: str) -> list[SegmentRow]:
    """The collection's segments by id: there is no order of creation to tell.

    Raises
    ------
    CorruptStore
        A row is not as it was written.
    """
    rows = session.execute(
        select(Segment.id, Segment.collection_id, Segment.geometry, Segment.version, Segment.tile, broken(_SEGMENT))
        .where(Segment.collection_id == collection_id)
        .order_by(Segment.id)
    ).all()
    for row in rows:
        if row[5]:
            raise CorruptStore(f"the row of segment {row[0]!r} is damaged: run `memodb check --fix`")
    return [SegmentRow(*row[:5]) for row in rows]


def unused_ordinal(session: Session, collection_id: str) -> int:
    """A number that no intact segment's geometry has as its ordinal, for one whose own is lost."""
    chosen = (Segment.collection_id == collection_id, ~broken(_SEGMENT))
    taken = [geometry.get("ordinal", 0) for geometry in session.scalars(select(Segment.geometry).where(*chosen))]
    return max(taken, default=-1) + 1


def damaged_segments(session: Session, collection_id: str) -> list[str]:
    """Ids of the collection's segments whose rows are not as they were written."""
    chosen = (Segment.collection_id == collection_id, broken(_SEGMENT))
    return sorted(session.scalars(select(Segment.id).where(*chosen)))


def reshape_segment(session: Session, collection_id: str, segment_id: str, geometry: Any) -> None:
    """Give a segment another geometry: its memory was made anew, and a tile of the old one is no longer named.

    Raises
    ------
    NotFound
        It is not a segment of this collection.
    InvalidInput
        The geometry is not JSON.
    """
    bump_segments(session, collection_id, [segment_id])
    session.execute(
        update(Segment)
        .where(Segment.collection_id == collection_id, Segment.id == segment_id)
        .values(**resealed(_SEGMENT, geometry=geometry, tile=None))
    )


def set_tile(session: Session, collection_id: str, segment_id: str, tile: str | None) -> None:
    """Name the tile of a segment, or none. Readers need not follow: the memory is the same.

    Raises
    ------
    NotFound
        It is not a segment of this collection.
    """
    statement = update(Segment).where(Segment.collection_id == collection_id, Segment.id == segment_id)
    if not changed(session, statement.values(**resealed(_SEGMENT, tile=tile))):
        raise NotFound(f"the collection has no segment {segment_id!r}")


def named_tiles(session: Session) -> set[str]:
    """Names of the tiles of all segments of the store."""
    return {tile for tile in session.scalars(select(Segment.tile)) if tile is not None}


def forget_tiles(session: Session, collection_id: str, segment_ids: Iterable[str]) -> None:
    """No longer name the tiles of these segments: documents left them, whose contributions the tiles hold."""
    for segment_id in segment_ids:
        set_tile(session, collection_id, segment_id, None)


def bump_segments(session: Session, collection_id: str, segment_ids: Iterable[str]) -> None:
    """Change the version of these segments and of their collection.

    The functions that change documents call this themselves; it is for changes that they do not see.

    Raises
    ------
    NotFound
        A segment is not one of this collection.
    """
    for segment_id in sorted(set(segment_ids)):
        statement = (
            update(Segment)
            .where(Segment.collection_id == collection_id, Segment.id == segment_id)
            .values(version=Segment.version + 1)
        )
        if not changed(session, statement):
            raise NotFound(f"the collection has no segment {segment_id!r}")
    bump_collection(session, collection_id)


def empty_segments(session: Session, collection_id: str) -> list[str]:
    """Ids of the collection's segments that no document is in, of whatever state."""
    inside = select(Document.id).where(
        Document.collection_id == Segment.collection_id, Document.segment_id == Segment.id
    )
    return sorted(session.scalars(select(Segment.id).where(Segment.collection_id == collection_id, ~inside.exists())))


def remove_segment(session: Session, collection_id: str, segment_id: str) -> None:
    """Remove a segment that no document is in.

    Raises
    ------
    NotFound
        It is not a segment of this collection.
    Conflict
        Documents are in it; move or delete them first.
    """
    inside = session.execute(
        select(Document.id).where(Document.collection_id == collection_id, Document.segment_id == segment_id).limit(1)
    ).first()
    if inside is not None:
        raise Conflict(f"the segment {segment_id!r} holds documents; move or delete them first")
    statement = delete(Segment).where(Segment.collection_id == collection_id, Segment.id == segment_id)
    if not changed(session, statement):
        raise NotFound(f"the collection has no segment {segment_id!r}")
    bump_collection(session, collection_id)
