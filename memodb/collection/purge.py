"""The second half of a deletion: what makes hidden documents gone from the store's files.

A deletion is two commits, and what follows from them::

    commit A     documents are marked as erasing: no read path returns them, and the memory has subtracted them
    tiles        the segments that held them are written without them, and synced
    commit B     the rows go, their keys are doomed, and the segments name the new tiles
    file         the catalog's file is written anew (VACUUM), and its journal is emptied
    purge        the tiles that still hold them are overwritten and unlinked, the doomed keys overwritten

A document under a legal hold stops at commit A: hidden, subtracted, and its row stays until the last hold ends.

After commit A nothing can bring the documents back, and a crash anywhere after it is resumed from the rows that are
still marked: when the store is next opened for writing, or with the collection's next write. Were the rows removed in
the first commit, a store that crashed before the new tile could no longer subtract them from the old one, and would
have to memorise the whole segment.

On a full disk the tile is not written (opening will memorise instead), the ballast makes room for the journal, and the
old tiles, which have to go anyway, make room for the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from memodb.catalog import erasing, now, registry
from memodb.catalog.erasing import ErasureRow
from memodb.catalog.execution import chunks
from memodb.collection.checkpoint import Tile, destroy_keys, destroy_tiles, tidy, written_tile
from memodb.collection.erasures import advance, purging
from memodb.errors import CorruptStore, DiskFull, StoreError, StoreLocked
from memodb.storage import Ballast

if TYPE_CHECKING:
    from memodb.collection.collection import Collection
    from memodb.memory import Segment

__all__ = ["finish_deletions", "refill", "settled", "with_room"]

Done = TypeVar("Done")

_ROWS_AT_ONCE = 256
"""Documents whose rows go in one commit: its journal holds the pages that they were on."""


def finish_deletions(collection: Collection) -> None:
    """Bring every deletion of the collection to its end; nothing to do where commit A of none happened.

    Raises
    ------
    StoreError
        It cannot be finished now; the documents stay hidden, and the next write or open tries again.
    """
    with collection.write_turn(), collection.changing():
        with collection.catalog.read() as session:
            hidden = erasing.hidden(session, collection.id)
        try:
            if hidden:
                _remove(collection, hidden)
            _drop_empty_segments(collection)
            _settle_file(collection)
            _destroy(collection)
            with_room(collection, collection.audit.mirror)
        except StoreError as exc:
            collection.unfinished = True
            exc.add_note(
                "the documents are hidden from every answer; what is left of them in the store's files is removed with "
                "the next write, or when the store is next opened for writing"
            )
            raise
        collection.unfinished = False
        refill(collection)


def refill(collection: Collection) -> None:
    """Take the space again that a deletion may have given up."""
    if collection.directory is not None:
        with collection.syncing():
            Ballast(collection.directory.ballast, collection.directory.catalog).fill()


def _remove(collection: Collection, hidden: dict[str, list[str]]) -> None:
    """Tiles without the hidden documents, then commit B; in parts where many rows go, the tiles named in the first."""
    with collection.catalog.read() as session:
        named = {row.id for row in registry.list_segments(session, collection.id) if row.tile is not None}
    named &= hidden.keys()
    tiles = _subtracted_tiles(collection, named)
    subtracted_at = now()
    for chunk in chunks((document_id for ids in hidden.values() for document_id in ids), _ROWS_AT_ONCE):

        def remove(ids: list[str] = chunk, unnamed: frozenset[str] = frozenset(named)) -> None:
            with collection.catalog.write() as session:
                for segment_id in unnamed:
                    tile = tiles.get(segment_id)
                    named = (None, None) if tile is None else (tile.name, tile.key)
                    registry.set_tile(session, collection.id, segment_id, *named)
                erasing.delete_many(session, collection.id, ids)
                done = purging(session, collection, "rows_purged")
                advance(session, done, {"subtracted": subtracted_at, "rows_purged": now()})

        with_room(collection, remove, given_up=tiles.clear)
        for segment_id in named:
            collection.tiled.pop(segment_id, None)
        collection.tiled.update(tiles)
        named = set()


def _subtracted_tiles(collection: Collection, segment_ids: set[str]) -> dict[str, Tile]:
    """New tiles of these segments; none where they cannot be made."""
    if not segment_ids:
        return {}
    with contextlib.suppress(CorruptStore, DiskFull):  # a tile only saves time: the documents decide
        segments = collection.memory_for_writing().segments
        return {key: written_tile(collection, segments[key]) for key in segment_ids if segments[key].tokens}
    return {}


def _settle_file(collection: Collection) -> None:
    """Take what deletions left out of the catalog's file and its journal, and tell what is there then."""
    with collection.catalog.read() as session:
        rows = purging(session, collection, "wal_truncated")
    if not rows:
        return
    journal = settled(collection)
    _advance(collection, rows, "wal_truncated", journal=journal)


def settled(collection: Collection) -> dict[str, Any]:
    """Rewrite the catalog's file, empty its journal, and tell what is there then.

    A disk too full for it, or a reader that stays for too long, is told and no error: rows are overwritten already.
    """
    vacuumed = True
    try:
        collection.catalog.vacuum()
    except (DiskFull, StoreLocked):
        vacuumed = False
    return {"vacuumed": vacuumed, "nbytes": collection.catalog.settle_journal(), **collection.catalog.pragmas()}


def _destroy(collection: Collection) -> None:
    """Destroy superseded tiles and doomed keys."""
    with collection.catalog.read() as session:
        rows = purging(session, collection, "tiles_destroyed")
    files = destroy_tiles(collection)
    if rows:
        _advance(collection, rows, "tiles_destroyed", tiles={"overwritten": len(files.names), "nbytes": files.nbytes})
    with collection.catalog.read() as session:
        rows = purging(session, collection, "key_destroyed")
    destroyed = with_room(collection, lambda: destroy_keys(collection))
    if rows:
        keys = {"destroyed": destroyed, "service": collection.keys.kind}
        _advance(collection, rows, "key_destroyed", keys=keys)


def _advance(collection: Collection, rows: list[ErasureRow], state: str, **measured: Any) -> None:
    def commit() -> None:
        with collection.catalog.write() as session:
            fresh = [row for row in purging(session, collection, state) if row.id in {each.id for each in rows}]
            advance(session, fresh, {state: now()}, **measured)

    with_room(collection, commit)


def _drop_empty_segments(collection: Collection) -> None:
    with collection.catalog.read() as session:
        empty = registry.empty_segments(session, collection.id)
    if not empty:
        return

    def drop() -> None:
        with collection.catalog.write() as session:
            for segment_id in empty:
                registry.remove_segment(session, collection.id, segment_id)

    def forget(segments: dict[str, Segment]) -> None:
        for segment_id in empty:
            segments.pop(segment_id, None)

    with collection.committing():
        with_room(collection, drop)
        collection.publish(forget)


def with_room(
    collection: Collection, commit: Callable[[], Done], *, given_up: Callable[[], None] = lambda: None
) -> Done:
    """Commit a deletion, or a part of it; where the disk is full, after making room.

    Parameters
    ----------
    given_up : callable
        Told that all tiles of the collection are gone, those too that the commit was about to name.

    Raises
    ------
    DiskFull
        Even then there is no space: fewer documents at once need less.
    """
    directory = collection.directory

    def release() -> None:
        if directory is not None:
            with collection.syncing():
                Ballast(directory.ballast, directory.catalog).release()

    def give_up_tiles() -> None:
        given_up()
        _give_up_tiles(collection)

    for make_room in (release, give_up_tiles) if directory is not None else ():
        try:
            return commit()
        except DiskFull:
            make_room()
    return commit()


def _give_up_tiles(collection: Collection) -> None:
    """Destroy the tiles of the whole collection, ten times as large as its rows: opening memorises instead."""
    with collection.catalog.write() as session:
        rows = registry.list_segments(session, collection.id)
        registry.forget_tiles(session, collection.id, [row.id for row in rows])
    collection.tiled.clear()
    tidy(collection)
