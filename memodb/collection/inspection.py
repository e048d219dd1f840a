"""Checking a collection against its documents, and mending what the documents can mend."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from memodb.catalog import SegmentRow, documents, registry
from memodb.catalog import check as check_catalog
from memodb.collection.checkpoint import material, tidy
from memodb.collection.collection import Collection
from memodb.collection.layout import canonical_segment, memorise
from memodb.errors import CorruptStore, StoreError, StoreLocked
from memodb.memory import Geometry, Imprint, Segment

__all__ = ["CheckReport", "check", "rebuilt"]

_DOCUMENTS_AT_ONCE = 512
_ATTEMPTS = 10


@dataclass(frozen=True)
class CheckReport:
    """What a check looked at and found.

    Parameters
    ----------
    documents, segments : int
        Compared: documents with their digests, segments with memories memorised anew.
    findings : tuple of str
        What contradicts something else, in words; empty for a sound store.
    fixed : tuple of str
        What ``fix=True`` mended; the findings keep saying what was found.
    remaining : tuple of str
        What a second look found after ``fix=True`` had mended: no memory can make a damaged document whole.
    """

    documents: int
    segments: int
    findings: tuple[str, ...]
    fixed: tuple[str, ...] = ()
    remaining: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "ok": self.ok,
            "documents": self.documents,
            "segments": self.segments,
            "findings": list(self.findings),
            "fixed": list(self.fixed),
            "remaining": list(self.remaining),
        }


def check(collection: Collection, *, fix: bool = False) -> CheckReport:
    """Compare the catalog with itself, every text with its digest and every memory with its rebuild.

    Raises
    ------
    StoreLocked
        Through a read-only handle: the writer's process never paused long enough for a comparison.
    """
    # Writers of this process wait, else a commit between the two sides of a comparison would look like damage, and a
    # repair could undo one.
    with contextlib.nullcontext() if collection.read_only else collection.write_turn(), collection.changing():
        count, findings = _check_catalog(collection)
        mended = _mend_indexes(collection) if fix and findings else []
        damage = _tokenizer_damage(collection)
        if damage is not None:
            findings.append(damage)
            mended += _mend_tokenizer(collection) if fix else []
        for _ in range(_ATTEMPTS):
            version = _version(collection)
            compared, differing, fixed = _check_memory(collection, fix=fix)
            if _version(collection) == version or fixed:
                remaining = check(collection).findings if fix and (findings or differing) else ()
                return CheckReport(count, compared, (*findings, *differing), (*mended, *fixed), remaining)
    raise StoreLocked(f"{collection.catalog.path} changes too fast to be checked: do it in the process that writes")


def _version(collection: Collection) -> int:
    with collection.catalog.read() as session:
        return registry.find_collection(session, collection.name).version


def _check_catalog(collection: Collection) -> tuple[int, list[str]]:
    """Documents looked at, and findings about the store's files and rows."""
    findings = list(collection.catalog.integrity())
    ids: list[str] = []
    if collection.directory is not None:
        findings += [
            f"{name!r} in {collection.directory.path} is no file of a store: move it away"
            for name in collection.directory.foreign()
        ]
    findings += collection.audit.findings()
    try:
        with collection.catalog.read() as session:
            findings += check_catalog(session, collection.id)
            ids = documents.select_ids(session, collection.id)
    except CorruptStore as exc:
        findings.append(str(exc))
    for at in range(0, len(ids), _DOCUMENTS_AT_ONCE):
        findings += _check_texts(collection, ids[at : at + _DOCUMENTS_AT_ONCE])
    return len(ids), findings


def _tokenizer_damage(collection: Collection) -> str | None:
    """What is wrong with the store's copy of its tokenizer, which a memodb that ships another one will need."""
    if collection.directory is None:
        return None
    try:
        intact = collection.directory.read_tokenizer() == collection.tokenizer.json
    except CorruptStore as exc:
        return str(exc)
    return None if intact else f"{collection.directory.tokenizer} is not the tokenizer that the store is bound to"


def _mend_tokenizer(collection: Collection) -> list[str]:
    """Write the copy again, from the one in use, which was compared with the catalog when the store was opened."""
    if collection.directory is None:
        return []
    with collection.syncing():
        collection.directory.write_tokenizer(collection.tokenizer.json)
    return ["the store's copy of its tokenizer was written again"]


def _mend_indexes(collection: Collection) -> list[str]:
    """Build the catalog's indexes again where SQLite finds fault with the file, and that helps."""
    if not collection.catalog.integrity():
        return []
    try:
        collection.catalog.reindex()
    except StoreError:  # damage that indexes have no part in; what remains is told
        return []
    return [] if collection.catalog.integrity() else ["the indexes of the catalog were built again"]


def _check_texts(collection: Collection, ids: list[str]) -> list[str]:
    """Findings among these documents; a bad one is then looked for one by one."""
    try:
        collection.texts(ids)
    except CorruptStore as exc:
        if len(ids) == 1:
            return [str(exc)]
        return [finding for document_id in ids for finding in _check_texts(collection, [document_id])]
    return []


def _check_memory(collection: Collection, *, fix: bool) -> tuple[int, list[str], list[str]]:
    """Segments, findings about their memories and tiles, and what was mended."""
    findings: list[str] = []
    fixed: list[str] = []
    rows: list[SegmentRow] = []
    try:
        damaged = _damaged_rows(collection)
        if damaged and not fix:
            return 0, [], []
        for segment_id in damaged:
            _mend_row(collection, segment_id)
            fixed.append(f"segment {segment_id} was laid out again for its documents")
        with collection.catalog.read() as session:
            rows = registry.list_segments(session, collection.id)
        with collection.reading() as memory:
            held = {segment_id: segment.imprint() for segment_id, segment in memory.segments.items()}
        missing = {row.id for row in rows} ^ held.keys()
        findings += [f"segment {name} is in the catalog or in memory, not in both" for name in sorted(missing)]
        for row in rows:
            segment = None if row.id in missing else rebuilt(collection, row.id)
            if segment is not None:
                _compare(collection, row, segment, held[row.id], findings, fixed, fix=fix)
    except CorruptStore as exc:
        findings.append(f"memories cannot be made from the documents: {exc}")
    return len(rows), findings, fixed


def _compare(
    collection: Collection,
    row: SegmentRow,
    segment: Segment,
    held: Imprint,
    findings: list[str],
    fixed: list[str],
    *,
    fix: bool,
) -> None:
    """A segment's memory and tile with the one that its documents make."""
    made = segment.imprint()
    if not held.agrees(made):
        findings.append(f"the memory of segment {row.id} differs from the one its documents make")
        if fix:
            collection.publish(_replacing(row.id, segment))
            fixed.append(f"segment {row.id} was memorised again from its documents")
    damage = _tile_damage(collection, row, made)
    if damage is not None:
        findings.append(damage)
        if fix:
            _drop_tile(collection, row)
            fixed.append(f"the tile of segment {row.id} was removed; the next checkpoint writes it anew")


def _damaged_rows(collection: Collection) -> list[str]:
    """Segments that the catalog no longer describes as they were written; the catalog's own check tells of them."""
    with collection.catalog.read() as session:
        return registry.damaged_segments(session, collection.id)


def _mend_row(collection: Collection, segment_id: str) -> None:
    """Give a segment whose geometry is lost a tight one for its documents; its tile is not believed."""
    with collection.catalog.read() as session:
        stored = list(collection.symbolised(_streamed(collection, session, segment_id)))
        ordinal = registry.unused_ordinal(session, collection.id)
    tokens = sum(len(ids) for _, ids in stored)
    segment = canonical_segment(collection.new_memory(), ordinal, tokens, lambda: stored)
    with collection.catalog.write() as session:
        registry.reshape_segment(session, collection.id, segment_id, segment.geometry.to_dict())
    collection.reload()
    tidy(collection)


def _tile_damage(collection: Collection, row: SegmentRow, made: Imprint) -> str | None:
    """What is wrong with a segment's tile, if it has one: with what came since, it must make the segment."""
    if row.tile is None or collection.directory is None:
        return None
    try:
        with collection.leasing(), collection.catalog.read() as session:
            found = material(collection, collection.new_memory(), session, row, collection.as_of, strict=True)
    except CorruptStore as exc:
        return f"segment {row.id}: {exc}"
    if not found.segment().imprint().agrees(made):
        return f"the tile of segment {row.id} differs from what its documents make"
    return None


def _drop_tile(collection: Collection, row: SegmentRow) -> None:
    with collection.catalog.write() as session:
        registry.set_tile(session, collection.id, row.id, None)
    tidy(collection)


def _replacing(segment_id: str, segment: Segment) -> Callable[[dict[str, Segment]], None]:
    return lambda segments: segments.update({segment_id: segment})


def rebuilt(collection: Collection, segment_id: str) -> Segment | None:
    """A segment memorised anew from its documents as the catalog has them; None where there is no such segment.

    The codebook is derived again from the seed, so a damaged one in memory cannot vouch for itself.
    """
    with collection.catalog.read() as session:
        rows = {row.id: row for row in registry.list_segments(session, collection.id)}
        if segment_id not in rows:
            return None
        geometry = Geometry.from_dict(rows[segment_id].geometry, collection.configuration)
        stored = list(collection.symbolised(_streamed(collection, session, segment_id)))
    # outside the session: memorising takes longer than a writer should wait for a reader
    return memorise(collection.new_memory(), geometry, stored)


def _streamed(collection: Collection, session: Session, segment_id: str) -> Iterator[tuple[str, np.ndarray]]:
    """The documents that the memory should hold: what has expired since it last looked is still in it."""
    return documents.stream_segment(session, collection.id, segment_id, at=collection.as_of)
