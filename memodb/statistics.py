"""Figures about an open collection: what it holds, how full its memories are, what it costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from memodb.catalog import Catalog, documents, registry
from memodb.collection import Collection
from memodb.memory import Segment
from memodb.opening import Engine

__all__ = ["CollectionInfo", "SegmentStatistics", "Statistics", "collections", "statistics"]


@dataclass(frozen=True)
class CollectionInfo:
    """A collection of a store: its name, documents, tokens, and when it was created."""

    name: str
    documents: int
    tokens: int
    created_at: datetime

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "created_at": self.created_at.isoformat()}


@dataclass(frozen=True)
class SegmentStatistics:
    """One segment.

    Parameters
    ----------
    documents, tokens : int
    fill : tuple of float
        Share of cells above zero of the counting matrices: each layer that is one, then provenance.
    false_recall : float
        Bound on the probability that this segment answers an unknown context, in its weakest layer, as it is filled
        now. With the engine ``kohonen`` of contexts that are unrelated to what is stored, which text is not.
    miss_rate : float
        Probability that what one document holds is not answered: 0, but with the engine ``kohonen``, and there of
        unrelated contexts again.
    layer_cells, provenance_cells : int
    memory_bytes : int
    read_bytes : int
        Of these, the packed presence view of the answering layers, or their correlation matrices: what queries touch.
    """

    documents: int
    tokens: int
    fill: tuple[float, ...]
    false_recall: float
    miss_rate: float
    layer_cells: int
    provenance_cells: int
    memory_bytes: int
    read_bytes: int

    @classmethod
    def of(cls, segment: Segment) -> SegmentStatistics:
        return cls(
            int(segment.symbols.size),
            segment.tokens,
            tuple(float(matrix.ones.mean()) / matrix.columns for matrix in segment.matrices),
            segment.false_recall(),
            segment.miss_rate(),
            sum(matrix.rows * matrix.columns for matrix in segment.layers)
            + sum(int(correlation.size) for correlation in segment.correlations),
            segment.provenance.rows * segment.provenance.columns,
            segment.nbytes,
            sum(matrix.presence.nbytes for matrix in segment.layers)
            + sum(int(correlation.nbytes) for correlation in segment.correlations),
        )


@dataclass(frozen=True)
class Statistics:
    """A collection, with the bytes of the whole store on disk.

    Parameters
    ----------
    collection : str
    engine : str
    documents, tokens : int
    false_recall : float
        Bound over all segments as they are filled now; the promise is ``promised_false_recall``.
    promised_false_recall : float or None
        None where the engine promises nothing.
    memory_bytes : int
        Matrices of the collection.
    disk_bytes : int
        Files of the whole store; 0 in memory.
    segments : tuple of SegmentStatistics
    """

    collection: str
    engine: str
    documents: int
    tokens: int
    false_recall: float
    promised_false_recall: float | None
    memory_bytes: int
    disk_bytes: int
    segments: tuple[SegmentStatistics, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def collections(catalog: Catalog) -> list[CollectionInfo]:
    """Every collection of a store, by name."""
    with catalog.read() as session:
        return [
            CollectionInfo(found.collection.name, found.documents, found.tokens, found.collection.created_at)
            for found in registry.list_collections(session)
        ]


def statistics(engine: Engine, collection: Collection) -> Statistics:
    """Figures of one collection: see :meth:`memodb.Store.stats`."""
    with collection.reading() as memory:
        segments = tuple(
            SegmentStatistics.of(segment)
            for segment in sorted(memory.segments.values(), key=lambda segment: segment.geometry.ordinal)
        )
    with engine.catalog.read() as session:
        count = documents.count(session, collection.id)
        tokens = documents.token_total(session, collection.id)
    return Statistics(
        collection.name,
        engine.configuration.engine,
        count,
        tokens,
        min(1.0, sum(segment.false_recall for segment in segments)),
        engine.configuration.promised_false_recall,
        sum(segment.memory_bytes for segment in segments),
        engine.disk_bytes,
        segments,
    )
