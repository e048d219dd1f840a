"""Queries on settings, collections and segments.

Every function works inside the caller's session: nothing is durable before that session's block ends without an error.
"""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, bindparam, delete, func, insert, select, update
from sqlalchemy.orm import Session

from memodb.catalog.columns import aware, canonical_json, identifier
from memodb.catalog.execution import changed, chunks, run, scalar, scalars
from memodb.catalog.models import TABLES, Collection, Document, DoomedKey, Segment, Setting
from memodb.catalog.seals import broken, inserted, resealed
from memodb.catalog.visibility import Scope, scoped
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
    "collection_names",
    "damaged_segments",
    "doom",
    "doomed",
    "empty_segments",
    "find_collection",
    "forget_tiles",
    "get_setting",
    "key_count",
    "list_collections",
    "list_segments",
    "named_keys",
    "named_tiles",
    "put_setting",
    "remove_segment",
    "require_sound",
    "reshape_segment",
    "set_tile",
    "tiles",
    "undoom",
    "unused_ordinal",
    "version_of",
]

KEY_BYTES = 32
_CHUNK = 500

_SETTING, _COLLECTION, _SEGMENT = (TABLES[name] for name in ("setting", "collection", "segment"))

# every commit asks for these: building a statement takes several times as long as running it
_VERSION = select(_COLLECTION.c.version).where(_COLLECTION.c.id == bindparam("collection"))
_CHOSEN = (_SEGMENT.c.collection_id == bindparam("collection"), _SEGMENT.c.id == bindparam("segment"))
_TILE_KEY = select(_SEGMENT.c.tile_key).where(*_CHOSEN)
_SET_TILE = (
    update(_SEGMENT)
    .where(*_CHOSEN)
    .values(
        **resealed(
            _SEGMENT,
            tile=bindparam("named", type_=_SEGMENT.c.tile.type),
            tile_key=bindparam("named_key", type_=_SEGMENT.c.tile_key.type),
        )
    )
)
_DOOM = insert(TABLES["doomed_key"]).prefix_with("OR IGNORE")
_SEGMENTS = (
    select(
        *(_SEGMENT.c[name] for name in ("id", "collection_id", "geometry", "version", "tile", "tile_key")),
        broken(_SEGMENT),
    )
    .where(_SEGMENT.c.collection_id == bindparam("collection"))
    .order_by(_SEGMENT.c.id)
)
_TILES = select(_SEGMENT.c.id, _SEGMENT.c.tile).where(_SEGMENT.c.collection_id == bindparam("collection"))
_BUMP_COLLECTION = (
    update(_COLLECTION).where(_COLLECTION.c.id == bindparam("collection")).values(version=_COLLECTION.c.version + 1)
)
_BUMP_SEGMENT = update(_SEGMENT).where(*_CHOSEN).values(version=_SEGMENT.c.version + 1)


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
    it was written, none has gone. `tile_key` names the key that it is encrypted under.
    """

    id: str
    collection_id: str
    geometry: Any
    version: int
    tile: str | None = None
    tile_key: bytes | None = None


def require_sound(session: Session) -> None:
    """Refuse a catalog whose settings or collections are damaged: every other row is found through them.

    Raises
    ------
    CorruptStore
        A row is not as it was written.
    """
    for table in (_SETTING, _COLLECTION):
        found = run(session, select(table.columns["name"]).where(broken(table))).first()
        if found is not None:
            raise CorruptStore(
                f"the {table.name} {found[0]!r} in the catalog is damaged: restore the store from a backup"
            )


def get_setting(session: Session, name: str, default: Any = None) -> Any:
    """The setting's JSON value, or `default` where it was never put."""
    row = run(session, select(Setting.value).where(Setting.name == name)).first()
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
        run(session, *inserted(_SETTING, name=name, value=value))


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
    if run(session, select(Collection.id).where(Collection.name == name)).first() is not None:
        raise Conflict(f"a collection named {name!r} exists already")
    if key is not None and run(session, select(Collection.id).where(Collection.key == key)).first() is not None:
        raise Conflict("another collection of the store has this seed: collections share nothing, leave seed out")
    # else one whose name was damaged would be taken for missing, and an empty one made beside it
    require_sound(session)
    row = CollectionRow(
        id=secrets.token_hex(16),
        name=name,
        key=secrets.token_bytes(KEY_BYTES) if key is None else key,
        created_at=datetime.now(UTC) if created_at is None else aware(created_at, "created_at"),
        version=0,
    )
    run(session, *inserted(_COLLECTION, **vars(row)))
    return row


_COLLECTION_COLUMNS = (Collection.id, Collection.name, Collection.key, Collection.created_at, Collection.version)


def find_collection(session: Session, name: str) -> CollectionRow:
    """The collection of this name.

    Raises
    ------
    CollectionNotFound
        There is none.
    """
    row = run(session, select(*_COLLECTION_COLUMNS).where(Collection.name == name)).first()
    if row is None:
        raise CollectionNotFound(f"the store has no collection named {name!r}")
    if not isinstance(row.key, bytes) or len(row.key) != KEY_BYTES or not isinstance(row.id, str):
        raise CorruptStore(f"the collection {name!r} in the catalog is damaged: restore the store from a backup")
    return CollectionRow(*row)


def version_of(session: Session, collection_id: str) -> int:
    """A number that differs after every change to the collection.

    Raises
    ------
    CollectionNotFound
        There is no such collection.
    """
    version: int | None = scalar(session, _VERSION, {"collection": collection_id})
    if version is None:
        raise CollectionNotFound(f"the store has no collection with the id {collection_id!r}")
    return version


def collection_names(session: Session) -> list[str]:
    """Names of the collections, in order."""
    return list(scalars(session, select(Collection.name).order_by(Collection.name)))


def list_collections(session: Session) -> list[CollectionSummary]:
    """Every collection with its counts, by name. Reads each document's row once."""
    rows = run(
        session,
        select(*_COLLECTION_COLUMNS, func.count(Document.id), func.coalesce(func.sum(Document.token_count), 0))
        .outerjoin(Document, and_(Document.collection_id == Collection.id, scoped(Scope.VISIBLE)))
        .group_by(Collection.id)
        .order_by(Collection.name),
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
    if not changed(session, _BUMP_COLLECTION, {"collection": collection_id}):
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
    run(session, *inserted(_SEGMENT, **vars(row)))
    return row


def list_segments(session: Session, collection_id: str) -> list[SegmentRow]:
    """The collection's segments by id: there is no order of creation to tell.

    Raises
    ------
    CorruptStore
        A row is not as it was written.
    """
    rows = run(session, _SEGMENTS, {"collection": collection_id}).all()
    for row in rows:
        if row[-1]:
            raise CorruptStore(f"the row of segment {row[0]!r} is damaged: run `memodb check --fix`")
    return [SegmentRow(*row[:-1]) for row in rows]


def unused_ordinal(session: Session, collection_id: str) -> int:
    """A number that no intact segment's geometry has as its ordinal, for one whose own is lost."""
    chosen = (Segment.collection_id == collection_id, ~broken(_SEGMENT))
    taken = [geometry.get("ordinal", 0) for geometry in scalars(session, select(Segment.geometry).where(*chosen))]
    return max(taken, default=-1) + 1


def damaged_segments(session: Session, collection_id: str) -> list[str]:
    """Ids of the collection's segments whose rows are not as they were written."""
    chosen = (Segment.collection_id == collection_id, broken(_SEGMENT))
    return sorted(scalars(session, select(Segment.id).where(*chosen)))


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
    set_tile(session, collection_id, segment_id, None)
    run(
        session,
        update(Segment)
        .where(Segment.collection_id == collection_id, Segment.id == segment_id)
        .values(**resealed(_SEGMENT, geometry=geometry)),
    )


def set_tile(session: Session, collection_id: str, segment_id: str, tile: str | None, key: bytes | None = None) -> None:
    """Name the tile of a segment and the key that it is encrypted under, or none; the old key is doomed.

    Readers need not follow: the memory is the same.

    Raises
    ------
    NotFound
        It is not a segment of this collection.
    """
    chosen = {"collection": collection_id, "segment": segment_id}
    doom(session, scalars(session, _TILE_KEY, chosen))
    if not changed(session, _SET_TILE, {**chosen, "named": tile, "named_key": key}):
        raise NotFound(f"the collection has no segment {segment_id!r}")


def doom(session: Session, keys: Iterable[bytes | None]) -> None:
    """Have keys destroyed, once this session's changes are durable: what they encrypted is gone from the catalog."""
    names = [{"name": key} for key in keys if key]
    if names:
        run(session, _DOOM, names)


def doomed(session: Session) -> list[bytes]:
    """Names of the keys that are still to be destroyed."""
    return list(scalars(session, select(DoomedKey.name)))


def undoom(session: Session, keys: Iterable[bytes]) -> None:
    """Forget the names of keys: they are destroyed."""
    for chunk in chunks(keys, _CHUNK):
        run(session, delete(DoomedKey).where(DoomedKey.name.in_(chunk)))


def key_count(session: Session) -> int:
    """How many keys documents and tiles have, those still to be destroyed counted in."""
    counts = (
        select(func.count()).select_from(Document),
        select(func.count(Segment.tile_key)),
        select(func.count()).select_from(DoomedKey),
    )
    return sum(int(scalar(session, count) or 0) for count in counts)


def named_keys(session: Session) -> Iterator[bytes]:
    """Names of the keys of all documents and tiles, and of those still to be destroyed."""
    for column in (Document.key, Segment.tile_key, DoomedKey.name):
        yield from (key for key in scalars(session, select(column)) if key)


def tiles(session: Session, collection_id: str) -> dict[str, str | None]:
    """The tile that each segment of a collection names, or None."""
    return {row.id: row.tile for row in run(session, _TILES, {"collection": collection_id})}


def named_tiles(session: Session) -> set[str]:
    """Names of the tiles of all segments of the store."""
    return {tile for tile in scalars(session, select(Segment.tile)) if tile is not None}


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
        if not changed(session, _BUMP_SEGMENT, {"collection": collection_id, "segment": segment_id}):
            raise NotFound(f"the collection has no segment {segment_id!r}")
    bump_collection(session, collection_id)


def empty_segments(session: Session, collection_id: str) -> list[str]:
    """Ids of the collection's segments that no document is in, of whatever state."""
    inside = select(Document.id).where(
        Document.collection_id == Segment.collection_id, Document.segment_id == Segment.id
    )
    return sorted(scalars(session, select(Segment.id).where(Segment.collection_id == collection_id, ~inside.exists())))


def remove_segment(session: Session, collection_id: str, segment_id: str) -> None:
    """Remove a segment that no document is in.

    Raises
    ------
    NotFound
        It is not a segment of this collection.
    Conflict
        Documents are in it; move or delete them first.
    """
    inside = run(
        session,
        select(Document.id).where(Document.collection_id == collection_id, Document.segment_id == segment_id).limit(1),
    ).first()
    if inside is not None:
        raise Conflict(f"the segment {segment_id!r} holds documents; move or delete them first")
    chosen = (Segment.collection_id == collection_id, Segment.id == segment_id)
    doom(session, scalars(session, select(Segment.tile_key).where(*chosen)))
    statement = delete(Segment).where(*chosen)
    if not changed(session, statement):
        raise NotFound(f"the collection has no segment {segment_id!r}")
    bump_collection(session, collection_id)
