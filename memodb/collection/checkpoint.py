"""Checkpoints: memories as files, so that opening a store reads what it would otherwise memorise again.

A tile holds a segment as it was with some of its documents. What came since is found by comparing the tile's symbols
with the rows' keys, which are the same keyed hashes, and memorised on top; where a document went, the row no longer
names the tile. So there is no log to replay and no number that tells an order.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memodb.catalog import SegmentRow, documents, registry
from memodb.collection.layout import batches, extend
from memodb.errors import CorruptStore, StoreError, SyncFailed
from memodb.memory import Geometry, Memory, Segment
from memodb.storage import Destroyed, Leases, destroy_orphans, read_tile, write_tile

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from memodb.collection.collection import Collection

__all__ = [
    "CHECKPOINT_TOKENS",
    "Material",
    "Tile",
    "checkpoint",
    "destroy_keys",
    "destroy_tiles",
    "due_checkpoint",
    "material",
    "tidy",
    "written_tile",
]

Documents = list[tuple[int, np.ndarray]]

CHECKPOINT_TOKENS = 1 << 16
"""Tokens that may be memorised again at open before a checkpoint is due, or an eighth of a larger segment."""


@dataclass(frozen=True)
class Tile:
    """A tile that was written: its name, the tokens in it, and the name of its key."""

    name: str
    tokens: int
    key: bytes | None


class Material:
    """What a segment is made of: a tile's memory, or an empty one, and the documents that it has too few or too many.

    Parameters
    ----------
    base : Segment
    tile : str or None
        Name of the tile that ``base`` came from.
    missing : list of (symbol, token ids)
        Live documents that came after the tile.
    surplus : list of (symbol, token ids)
        Documents in the tile that are visible no more: being erased, in quarantine, or expired.
    """

    def __init__(self, base: Segment, tile: str | None, missing: Documents, surplus: Documents) -> None:
        self.base = base
        self.tile = tile
        self.held = base.tokens
        self.missing = missing
        self.surplus = surplus

    def segment(self) -> Segment:
        """The whole segment; takes the base over."""
        for batch in batches(self.surplus):
            self.base.subtract(self.base.contribution(batch))
        return extend(self.base, self.missing)


def material(
    collection: Collection, memory: Memory, session: Session, row: SegmentRow, at: datetime, *, strict: bool = False
) -> Material:
    """Read what makes a segment.

    Parameters
    ----------
    at : datetime
        It holds the documents that are visible then.
    strict : bool
        Raise where the tile cannot be used, instead of memorising every document.

    Raises
    ------
    CorruptStore
        ``strict``, and the tile is missing, damaged or of other documents; or a stored document is damaged.
    """
    if row.tile is not None and collection.directory is not None:
        try:
            return _on_tile(collection, memory, session, row, collection.directory.segments, at)
        except CorruptStore:
            if strict:
                raise
            # A tile is derived, and a reader may find that the writer has just superseded it: the documents decide.
    stored = documents.stream_segment(session, collection.id, row.id, at=at)
    return Material(_empty(memory, row), None, list(collection.symbolised(stored)), [])


def _on_tile(
    collection: Collection, memory: Memory, session: Session, row: SegmentRow, tiles: Path, at: datetime
) -> Material:
    found = documents.places_in(session, collection.id, row.id, at)
    places, hidden = (keys.astype(np.uint64) for keys in found)
    key = None if row.tile_key is None else collection.keys.read([row.tile_key])[0]
    base = _restored(tiles, memory, row, key, np.concatenate([places, hidden]))
    known = memory.backend.to_host(base.symbols)

    def read(wanted: np.ndarray) -> Documents:
        if not wanted.size:
            return []
        chosen = documents.stream_segment(session, collection.id, row.id, places=wanted.tolist())
        return list(collection.symbolised(chosen))

    missing = read(places[~np.isin(places, known)])
    surplus = read(hidden[np.isin(hidden, known)])
    expected = documents.tokens_in(session, collection.id, row.id, at)
    if base.tokens + _tokens(missing) - _tokens(surplus) != expected:
        raise CorruptStore(f"the tile {row.tile} of segment {row.id} does not have as many tokens as it says")
    return Material(base, row.tile, missing, surplus)


def _tokens(chosen: Documents) -> int:
    return sum(len(ids) for _, ids in chosen)


def _empty(memory: Memory, row: SegmentRow) -> Segment:
    geometry = Geometry.from_dict(row.geometry, memory.configuration)
    try:
        return memory.new_segment(geometry)
    except MemoryError as exc:
        raise StoreError(f"segment {row.id} does not fit into memory: it has {geometry.rows} rows") from exc


def _restored(tiles: Path, memory: Memory, row: SegmentRow, key: bytes | None, places: np.ndarray) -> Segment:
    """The memory that a tile holds; CorruptStore where it is damaged or holds more than the segment's documents."""
    tile = f"the tile {row.tile} of segment {row.id}"
    segment = _empty(memory, row)
    facts, arrays = read_tile(tiles, str(row.tile), key, limit=segment.packed_limit + 8 * places.size)
    if facts.keys() != {"geometry", "tokens"} or facts["geometry"] != row.geometry:
        raise CorruptStore(f"{tile} is of another geometry than its segment")
    segment.restore(arrays, facts["tokens"])
    symbols = arrays["symbols"]  # in order; a catalog has each once
    if not bool(np.isin(symbols, places).all()) or not bool((symbols[1:] != symbols[:-1]).all()):
        raise CorruptStore(f"{tile} holds documents that the segment does not have")
    return segment


def written_tile(collection: Collection, segment: Segment) -> Tile:
    """Write a segment to a tile, under a new key. Durable, and not yet named by the catalog.

    Raises
    ------
    DiskFull, StoreError, SyncFailed
        It cannot be written; or the store is in memory.
    """
    if collection.directory is None:
        raise StoreError("a store in memory has no tiles")
    facts = {"geometry": segment.geometry.to_dict(), "tokens": segment.tokens}
    with collection.syncing():
        (name,) = collection.keys.create(1)
        (key,) = collection.keys.read([name])
        if key is None:
            raise StoreError("the key service does not have a key that it just made: no tile was written")
        return Tile(write_tile(collection.directory.segments, facts, segment.packed(), key), segment.tokens, name)


def checkpoint(collection: Collection, *, everything: bool, named: Mapping[str, str | None] | None = None) -> int:
    """Write the tiles of segments that changed, then name them in one commit, then remove those they supersede.

    Parameters
    ----------
    everything : bool
        Not only the segments for which a checkpoint is due.
    named : mapping of str to str or None, optional
        The tile that each segment names, where the caller has asked the catalog already.

    Returns
    -------
    int
        Tiles written; 0 for a store in memory.

    Raises
    ------
    StoreError
        A tile cannot be written or removed. The documents are safe: they are in the catalog.
    """
    with collection.write_turn():
        if collection.directory is None:
            return 0
        memory = collection.memory_for_writing()
        if named is None:
            with collection.catalog.read() as session:
                named = registry.tiles(session, collection.id)
        fresh: dict[str, Tile] = {}
        for segment_id, segment in memory.segments.items():
            tile = collection.tiled.get(segment_id)
            if tile is not None and named[segment_id] != tile.name:
                tile = None
            behind = segment.tokens - (0 if tile is None else tile.tokens)
            due = collection.checkpoint_tokens or max(CHECKPOINT_TOKENS, segment.tokens // 8)
            if behind >= due or (everything and (behind or tile is None)):
                fresh[segment_id] = written_tile(collection, segment)
        if fresh:
            with collection.catalog.write() as session:
                for segment_id, tile in fresh.items():
                    registry.set_tile(session, collection.id, segment_id, tile.name, tile.key)
            collection.tiled.update(fresh)
            tidy(collection)
        return len(fresh)


def due_checkpoint(collection: Collection, named: Mapping[str, str | None] | None = None) -> None:
    """Checkpoint what is due after a commit. A full disk must not turn a durable commit into an error: it warns."""
    try:
        checkpoint(collection, everything=False, named=named)
    except SyncFailed as exc:
        warnings.warn(f"the commit is durable, but the store must be opened again: {exc}", RuntimeWarning, stacklevel=2)
    except StoreError as exc:
        warnings.warn(f"the store works on, but will take longer to open: {exc}", RuntimeWarning, stacklevel=2)


def tidy(collection: Collection) -> None:
    """Destroy the tiles that no row of the store names, and the keys of what is gone.

    Raises
    ------
    StoreError
        One cannot be destroyed; it may hold, or open, what was deleted.
    """
    destroy_tiles(collection)
    destroy_keys(collection)


def destroy_tiles(collection: Collection) -> Destroyed:
    """Overwrite and unlink the tiles that no row names: superseded ones, those of deleted documents, a crash's."""
    directory = collection.directory
    if directory is not None:
        with collection.catalog.read() as session:
            named = registry.named_tiles(session)
        if directory.unnamed(named):
            with collection.syncing(), Leases(directory.leases).destroying():
                return destroy_orphans(directory.segments, named)
    return Destroyed((), 0)


def destroy_keys(collection: Collection) -> int:
    """Destroy the keys of documents and tiles that are gone, and see that they are; how many there were."""
    with collection.catalog.read() as session:
        doomed = registry.doomed(session)
    if not doomed:
        return 0
    lease = (
        contextlib.nullcontext() if collection.directory is None else Leases(collection.directory.leases).destroying()
    )
    with collection.syncing(), lease:
        collection.keys.destroy(doomed)
    if any(key is not None for key in collection.keys.read(doomed)):
        raise StoreError("the key service still has keys that it was told to destroy: try again")
    with collection.catalog.write() as session:
        registry.undoom(session, doomed)
    return len(doomed)
