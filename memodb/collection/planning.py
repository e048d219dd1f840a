"""Deciding where every document of a transaction goes, and computing every sum, before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from memodb.catalog import DocumentRow, documents
from memodb.collection.layout import batches, grown_segment, growth
from memodb.collection.records import StagedDocument
from memodb.errors import CorruptStore, InvalidInput
from memodb.memory import Contribution, Memory, Segment, first_geometry

if TYPE_CHECKING:
    from memodb.collection.collection import Collection

__all__ = ["Change", "holds", "planned", "publish"]

Arriving: TypeAlias = StagedDocument | tuple[str, np.ndarray]
"""A new document, or the id and tokens of one that comes back from quarantine."""


class Change:
    """What becomes of one segment: who comes, who goes, and the sums of both."""

    def __init__(self, segment: Segment, *, is_new: bool = False) -> None:
        self.segment = segment
        self.is_new = is_new
        self.incoming: list[StagedDocument] = []
        self.returning: list[tuple[str, np.ndarray]] = []
        self.outgoing: dict[str, np.ndarray] = {}
        self.tokens = segment.tokens
        """Tokens that the segment will hold."""
        self.documents = int(segment.symbols.size)
        """Documents that the segment will hold."""
        self.subtract: list[Contribution] = []
        self.add: list[Contribution] = []
        self.replacement: Segment | None = None

    def take(self, arriving: StagedDocument | tuple[str, np.ndarray]) -> None:
        if isinstance(arriving, StagedDocument):
            self.incoming.append(arriving)
            self.tokens += len(arriving.tokens)
        else:
            self.returning.append(arriving)
            self.tokens += len(arriving[1])
        self.documents += 1

    def give(self, document_id: str, tokens: np.ndarray) -> None:
        self.outgoing[document_id] = tokens
        self.tokens -= len(tokens)
        self.documents -= 1


def holds(memory: Memory, row: DocumentRow) -> bool:
    """Whether the memory holds a document: it left when it expired, or was set aside."""
    segment = memory.segments.get(row.segment_id)
    return segment is not None and segment.has(row.place)


def planned(
    collection: Collection,
    memory: Memory,
    leaving: Sequence[DocumentRow],
    tokens: Mapping[str, np.ndarray],
    arriving: Sequence[Arriving],
) -> dict[str, Change]:
    """What becomes of each segment, by its id, or by "new n" for one that is to be made.

    Parameters
    ----------
    memory : Memory
        As it stays until the changes are published.
    leaving : sequence of DocumentRow
        Documents that the memory holds and is to subtract.
    tokens : mapping of id to token ids
        Theirs.

    Raises
    ------
    CorruptStore
        The catalog's indexes contradict its rows.
    """
    changes = {segment_id: Change(segment) for segment_id, segment in memory.segments.items()}
    for row in leaving:
        if row.id not in tokens or row.segment_id not in changes:
            raise CorruptStore(
                f"the indexes of {collection.catalog.path} contradict its rows: run `memodb check --fix`"
            )
        changes[row.segment_id].give(row.id, tokens[row.id])
    for document in arriving:
        _place(collection, memory, changes, document)
    changes = {key: each for key, each in changes.items() if each.incoming or each.returning or each.outgoing}
    for segment_id, change in changes.items():
        _sum(collection, memory, segment_id, change)
    return changes


def _place(collection: Collection, memory: Memory, changes: dict[str, Change], arriving: Arriving) -> None:
    """Put a document into the first segment with room for its tokens, or into a new one."""
    configuration = collection.configuration
    tokens = arriving.tokens if isinstance(arriving, StagedDocument) else arriving[1]
    most = configuration.most_tokens
    if most is not None and len(tokens) > most:
        raise InvalidInput(
            f"a document of {len(tokens)} tokens is more than the engine {configuration.engine} can count: split it "
            f"into documents of at most {most}"
        )
    for change in sorted(changes.values(), key=lambda change: change.segment.geometry.ordinal):
        fits = configuration.fits(change.tokens + len(tokens), change.documents + 1, change.segment.geometry.ordinal)
        if fits or not change.documents:
            change.take(arriving)
            return
    taken = {change.segment.geometry.ordinal for change in changes.values()}
    ordinal = next(number for number in range(len(taken) + 1) if number not in taken)
    segment = memory.new_segment(first_geometry(configuration, ordinal))
    change = changes[f"new {ordinal}"] = Change(segment, is_new=True)
    change.take(arriving)


def _sum(collection: Collection, memory: Memory, segment_id: str, change: Change) -> None:
    """Compute what a segment gains and loses, or its replacement where it would break its promise."""
    segment = change.segment
    leaving = collection.symbolised(change.outgoing.items())
    arriving = [(collection.symbol(document.id), document.tokens) for document in change.incoming]
    arriving += collection.symbolised(change.returning)
    change.subtract = segment.contributions(batches(leaving))
    change.add = segment.contributions(batches(arriving))
    if not change.add or segment.holds(change.add):
        return
    room = collection.configuration.room(segment.geometry.ordinal)
    fresh = sum(contribution.tokens for contribution in change.add)

    def staying() -> Iterator[tuple[int, np.ndarray]]:
        if not change.is_new:
            with collection.catalog.read() as session:
                stored = documents.stream_segment(session, collection.id, segment_id, at=collection.as_of)
                yield from collection.symbolised(item for item in stored if item[0] not in change.outgoing)

    change.replacement = grown_segment(memory, segment, staying, change.add, growth(change.tokens, fresh, room))
    change.subtract, change.add = [], []


def publish(segments: dict[str, Segment], changes: dict[str, Change]) -> None:
    """Let planned and committed changes reach the matrices."""
    for segment_id, change in changes.items():
        segment = change.replacement or change.segment
        for contribution in change.subtract:
            segment.subtract(contribution)
        if change.add:
            segment.add(*change.add)
        segments[segment_id] = segment
