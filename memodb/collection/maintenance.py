"""Checking a collection against its documents, and bringing it to its canonical layout."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from memodb.catalog import Filters, SegmentRow, documents, registry
from memodb.catalog import check as check_catalog
from memodb.collection.checkpoint import due_checkpoint, material, tidy
from memodb.collection.collection import Collection
from memodb.collection.layout import canonical_segment, capacity, memorise
from memodb.errors import CorruptStore, StoreLocked
from memodb.memory import Geometry, Memory, Segment

__all__ = ["CheckReport", "check", "compact", "rebuilt_digest"]

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
    """

    documents: int
    segments: int
    findings: tuple[str, ...]
    fixed: tuple[str, ...] = ()

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
    with contextlib.nullcontext() if collection.read_only else collection.write_turn():
        findings = list(collection.catalog.integrity())
        with collection.catalog.read() as session:
            findings += check_catalog(session, collection.id)
            ids = documents.select_ids(session, collection.id, Filters(state=None))
        for at in range(0, len(ids), _DOCUMENTS_AT_ONCE):
            findings += _check_texts(collection, ids[at : at + _DOCUMENTS_AT_ONCE])
        for _ in range(_ATTEMPTS):
            version = _version(collection)
            compared, differing, fixed = _check_memory(collection, fix=fix)
            if _version(collection) == version:
                return CheckReport(len(ids), compared, (*findings, *differing), tuple(fixed))
    raise StoreLocked(f"{collection.catalog.path} changes too fast to be checked: do it in the process that writes")


def _version(collection: Collection) -> int:
    with collection.catalog.read() as session:
        return registry.find_collection(session, collection.name).version


def _check_memory(collection: Collection, *, fix: bool) -> tuple[int, list[str], list[str]]:
    """Segments, findings about their memories and tiles, and what was mended."""
    with collection.catalog.read() as session:
        rows = registry.list_segments(session, collection.id)
    findings: list[str] = []
    fixed: list[str] = []
    try:
        with collection.reading() as memory:
            held = {segment_id: segment.digest() for segment_id, segment in memory.segments.items()}
        missing = {row.id for row in rows} ^ held.keys()
        findings += [f"segment {name} is in the catalog or in memory, not in both" for name in sorted(missing)]
        for row in rows:
            segment = None if row.id in missing else _rebuild(collection, row.id)
            if segment is None:
                continue
            digest = segment.digest()
            if digest != held[row.id]:
                findings.append(f"the memory of segment {row.id} differs from the one its documents make")
                if fix:
                    collection.publish(_replacing(row.id, segment))
                    fixed.append(f"segment {row.id} was memorised again from its documents")
            damage = _tile_damage(collection, row, digest)
            if damage is not None:
                findings.append(damage)
                if fix:
                    _drop_tile(collection, row)
                    fixed.append(f"the tile of segment {row.id} was removed; the next checkpoint writes it anew")
    except CorruptStore as exc:
        findings.append(f"memories cannot be made from the documents: {exc}")
    return len(rows), findings, fixed


def _tile_damage(collection: Collection, row: SegmentRow, digest: str) -> str | None:
    """What is wrong with a segment's tile, if it has one: with what came since, it must make the segment."""
    if row.tile is None or collection.tiles is None:
        return None
    try:
        with collection.catalog.read() as session:
            found = material(collection, collection.new_memory(), session, row, strict=True)
    except CorruptStore as exc:
        return f"segment {row.id}: {exc}"
    if found.segment().digest() != digest:
        return f"the tile of segment {row.id} differs from what its documents make"
    return None


def _drop_tile(collection: Collection, row: SegmentRow) -> None:
    with collection.catalog.write() as session:
        registry.set_tile(session, collection.id, row.id, None)
    tidy(collection)


def _replacing(segment_id: str, segment: Segment) -> Callable[[dict[str, Segment]], None]:
    return lambda segments: segments.update({segment_id: segment})


def _check_texts(collection: Collection, ids: list[str]) -> list[str]:
    """Findings among these documents; a bad one is then looked for one by one."""
    try:
        collection.texts(ids)
    except CorruptStore as exc:
        if len(ids) == 1:
            return [str(exc)]
        return [finding for document_id in ids for finding in _check_texts(collection, [document_id])]
    return []


def _rebuild(collection: Collection, segment_id: str) -> Segment | None:
    """The segment memorised anew from the catalog by a memory of its own; None where the catalog has none such."""
    with collection.catalog.read() as session:
        rows = {row.id: row for row in registry.list_segments(session, collection.id)}
        if segment_id not in rows:
            return None
        geometry = Geometry.from_dict(rows[segment_id].geometry)
        stored = list(collection.symbolised(documents.stream_segment(session, collection.id, segment_id)))
    # outside the session: memorising takes longer than a writer should wait for a reader
    return memorise(collection.new_memory(), geometry, stored)


def rebuilt_digest(collection: Collection, segment_id: str) -> str | None:
    """Digest of a segment memorised anew from its documents as the catalog has them; None where there is no such
    segment.

    The codebook is derived again from the seed, so a damaged one in memory cannot vouch for itself.
    """
    segment = _rebuild(collection, segment_id)
    return None if segment is None else segment.digest()


def compact(collection: Collection) -> bool:
    """Bring a collection to its canonical layout: a function of its documents, its seed and its configuration alone.

    Documents in the order of their keyed symbols fill the segments, each up to its capacity in tokens, and each segment
    gets the tight geometry of its documents. Durable and visible when it returns; readers keep answering meanwhile.

    Returns
    -------
    bool
        False where the layout was canonical already.
    """
    with collection.write_turn():
        memory = collection.memory_for_writing()
        planned = [_Planned(memory, collection, ordinal, ids) for ordinal, ids in enumerate(_partition(collection))]
        held = {segment.digest() for segment in memory.segments.values()}
        if held == {plan.segment.digest() for plan in planned}:
            return False
        fresh: dict[str, Segment] = {}

        def replace(segments: dict[str, Segment]) -> None:
            segments.clear()
            segments.update(fresh)

        with collection.committing():
            _write(collection, planned, fresh)
            collection.publish(replace)
        tidy(collection)
        due_checkpoint(collection)
        return True


def _write(collection: Collection, planned: list[_Planned], fresh: dict[str, Segment]) -> None:
    """Commit the planned layout; ``fresh`` takes its segments by their new ids."""
    with collection.catalog.write() as session:
        old = [row.id for row in registry.list_segments(session, collection.id)]
        for plan in planned:
            row = registry.add_segment(session, collection.id, plan.segment.geometry.to_dict())
            documents.move(session, collection.id, plan.ids, row.id)
            fresh[row.id] = plan.segment
        for segment_id in old:
            registry.remove_segment(session, collection.id, segment_id)


class _Planned:
    """One segment of the canonical layout, memorised but not yet published."""

    def __init__(self, memory: Memory, collection: Collection, ordinal: int, chosen: list[tuple[str, int]]) -> None:
        self.ids = [document_id for document_id, _ in chosen]

        def stream() -> Iterator[tuple[int, np.ndarray]]:
            for at in range(0, len(self.ids), _DOCUMENTS_AT_ONCE):
                group = self.ids[at : at + _DOCUMENTS_AT_ONCE]
                with collection.catalog.read() as session:
                    tokens = documents.tokens_of(session, collection.id, group)
                yield from ((collection.symbol(document_id), tokens[document_id]) for document_id in group)

        self.segment = canonical_segment(memory, ordinal, sum(count for _, count in chosen), stream)


def _partition(collection: Collection) -> list[list[tuple[str, int]]]:
    """Documents (id, tokens) of each canonical segment, in the order of their symbols."""
    with collection.catalog.read() as session:
        found = [(row.id, row.token_count) for row in documents.select(session, collection.id, Filters(state=None))]
    found.sort(key=lambda item: (collection.symbol(item[0]), item[0]))
    parts: list[list[tuple[str, int]]] = []
    room = 0
    for item in found:
        if not parts or item[1] > room:
            room = capacity(collection.configuration, len(parts))
            parts.append([])
        parts[-1].append(item)
        room -= item[1]
    return parts
