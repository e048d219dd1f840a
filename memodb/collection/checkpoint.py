"""Checkpoints: memories as files, so that opening a store reads what it would otherwise memorise again.

A tile holds a segment as it was with some of its documents. What came since is found by comparing the tile's symbols
with the rows' keys, which are the same keyed hashes, and memorised on top; where a document went, the row no longer
names the tile. So there is no log to replay and no number that tells an order.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memodb.catalog import SegmentRow, documents, registry
from memodb.collection.layout import extend
from memodb.errors import CorruptStore, StoreError
from memodb.memory import Geometry, Memory, Segment
from memodb.storage import read_tile, remove_orphans, write_tile

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from memodb.collection.collection import Collection

__all__ = ["CHECKPOINT_TOKENS", "Material", "checkpoint", "due_checkpoint", "material", "tidy"]

CHECKPOINT_TOKENS = 1 << 16
"""Tokens that may be memorised again at open before a checkpoint is due, or an eighth of a larger segment."""


class Material:
    """What a segment is made of: a tile's memory, or an empty one, and the documents to memorise on top.

    Parameters
    ----------
    base : Segment
    tile : str or None
        Name of the tile that ``base`` came from.
    missing : list of (symbol, token ids)
    """

    def __init__(self, base: Segment, tile: str | None, missing: list[tuple[int, np.ndarray]]) -> None:
        self.base = base
        self.tile = tile
        self.held = base.tokens
        self.missing = missing

    def segment(self) -> Segment:
        """The whole segment; takes the base over."""
        extend(self.base, self.missing)
        return self.base


def material(
    collection: Collection, memory: Memory, session: Session, row: SegmentRow, *, strict: bool = False
) -> Material:
    """Read what makes a segment.

    Parameters
    ----------
    strict : bool
        Raise where the tile cannot be used, instead of memorising every document.

    Raises
    ------
    CorruptStore
        ``strict``, and the tile is missing, damaged or of other documents; or a stored document is damaged.
    """
    base, tile = memory.new_segment(Geometry.from_dict(row.geometry)), None
    places = documents.places_in(session, collection.id, row.id).astype(np.uint64)
    if row.tile is not None and collection.tiles is not None:
        try:
            base, tile = _restored(collection.tiles, memory, row, places), row.tile
        except CorruptStore:
            if strict:
                raise
            # A tile is derived, and a reader may find that the writer has just superseded it: the documents decide.
            base = memory.new_segment(Geometry.from_dict(row.geometry))
    known = memory.backend.to_host(base.symbols)
    absent = None if tile is None else places[~np.isin(places, known)].tolist()
    stored = documents.stream_segment(session, collection.id, row.id, places=absent) if absent != [] else iter(())
    return Material(base, tile, list(collection.symbolised(stored)))


def _restored(tiles: Path, memory: Memory, row: SegmentRow, places: np.ndarray) -> Segment:
    """The memory that a tile holds; CorruptStore where it is damaged or holds more than the segment's documents."""
    facts, arrays = read_tile(tiles, str(row.tile))
    if facts.get("geometry") != row.geometry:
        raise CorruptStore(f"the tile {tiles / str(row.tile)} is of another geometry than its segment")
    segment = memory.new_segment(Geometry.from_dict(row.geometry))
    segment.restore(arrays, facts["tokens"])
    if not bool(np.isin(arrays["symbols"], places).all()):
        raise CorruptStore(f"the tile {tiles / str(row.tile)} holds documents that the segment does not have")
    return segment


def checkpoint(collection: Collection, *, everything: bool) -> int:
    """Write the tiles of segments that changed, then name them in one commit, then remove those they supersede.

    Parameters
    ----------
    everything : bool
        Not only the segments for which a checkpoint is due.

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
        if collection.tiles is None:
            return 0
        memory = collection.memory_for_writing()
        with collection.catalog.read() as session:
            rows = {row.id: row for row in registry.list_segments(session, collection.id)}
        fresh: dict[str, tuple[str, int]] = {}
        for segment_id, segment in memory.segments.items():
            tile, held = collection.tiled.get(segment_id, (None, 0))
            if rows[segment_id].tile != tile or tile is None:
                tile, held = None, 0
            behind = segment.tokens - held
            if behind >= max(CHECKPOINT_TOKENS, segment.tokens // 8) or (everything and (behind or tile is None)):
                facts = {"geometry": segment.geometry.to_dict(), "tokens": segment.tokens}
                fresh[segment_id] = write_tile(collection.tiles, facts, segment.state()), segment.tokens
        if fresh:
            with collection.catalog.write() as session:
                for segment_id, (tile, _) in fresh.items():
                    registry.set_tile(session, collection.id, segment_id, tile)
            collection.tiled.update(fresh)
            tidy(collection)
        return len(fresh)


def due_checkpoint(collection: Collection) -> None:
    """Checkpoint what is due after a commit. A full disk must not turn a durable commit into an error: it warns."""
    try:
        checkpoint(collection, everything=False)
    except StoreError as exc:
        warnings.warn(f"the store works on, but will take longer to open: {exc}", RuntimeWarning, stacklevel=2)


def tidy(collection: Collection) -> None:
    """Remove the tiles that no row of the store names: superseded ones, those of deleted documents, a crash's.

    Raises
    ------
    StoreError
        One cannot be removed; it may hold what was deleted.
    """
    if collection.tiles is None:
        return
    with collection.catalog.read() as session:
        named = registry.named_tiles(session)
    remove_orphans(collection.tiles, named)
