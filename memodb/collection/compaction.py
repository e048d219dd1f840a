"""Bringing a collection to its canonical layout, and its catalog to its smallest size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from memodb.catalog import Filters, Scope, documents, registry
from memodb.collection.checkpoint import due_checkpoint, tidy
from memodb.collection.collection import Collection
from memodb.collection.layout import canonical_segment
from memodb.collection.purge import finish_deletions
from memodb.memory import Memory, Segment, first_geometry

__all__ = ["compact"]

_DOCUMENTS_AT_ONCE = 512


def compact(collection: Collection) -> bool:
    """Bring a collection to its canonical layout: a function of its documents, its seed and its configuration alone.

    Documents in the order of their keyed symbols fill the segments, each up to its capacity in tokens, and each segment
    gets the tight geometry of its documents; pages that deletions left empty are taken out of the catalog's file.
    Durable and visible when it returns; readers keep answering meanwhile.

    Returns
    -------
    bool
        False where there was nothing to do.
    """
    with collection.write_turn():
        finish_deletions(collection)
        with collection.changing():
            changed = _rearrange(collection)
        return collection.catalog.shrink() or changed


def _rearrange(collection: Collection) -> bool:
    """Commit and publish the canonical layout; False where the memory has it."""
    memory = collection.memory_for_writing()
    planned = [_Planned(memory, collection, ordinal, ids) for ordinal, ids in enumerate(_partition(collection))]
    held = {segment.digest() for segment in memory.segments.values() if segment.symbols.size}
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
        # What is in no memory (in quarantine, held, expired) has a segment all the same: any will do.
        rest = documents.select_ids(session, collection.id, Filters(scope=Scope.ANY))
        rest = sorted(set(rest).difference(*(plan.ids for plan in planned)))
        if rest:
            if not fresh:
                segment = collection.new_memory().new_segment(first_geometry(collection.configuration, 0))
                fresh[registry.add_segment(session, collection.id, segment.geometry.to_dict()).id] = segment
            documents.move(session, collection.id, rest, next(iter(fresh)))
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
        found = [(row.id, row.token_count) for row in documents.select(session, collection.id)]
    found.sort(key=lambda item: (collection.symbol(item[0]), item[0]))
    parts: list[list[tuple[str, int]]] = []
    tokens = 0
    for item in found:
        if not parts or not collection.configuration.fits(tokens + item[1], len(parts[-1]) + 1, len(parts) - 1):
            parts.append([])
            tokens = 0
        parts[-1].append(item)
        tokens += item[1]
    return parts
