"""Which documents share a segment, and how large a segment is.

A segment takes documents until it holds its share of tokens (``segment_tokens`` for the first, twice as many for each
next), a function of the documents. Its matrices start small and grow: where a document would break the promise, the
segment is memorised again with rows for a quarter more pairs, where documents come in bulk for a few more. So small
collections stay small, at any moment at most a fifth of the newest rows is spare, and a collection of N tokens has
about log2(N / segment_tokens) segments.

Rejected: a new, larger segment each time one is full. It never memorises twice, but a query of a million tokens then
reads seven segments instead of one, each with a thinner share of the promise. Rejected: growing to twice the pairs.
Appending is 6 % faster, and a store of documentation takes 180 bytes of memory a token instead of 133 until compacted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice

import numpy as np

from memodb.memory import Batch, Contribution, Geometry, Memory, Segment, first_geometry

__all__ = [
    "BATCH_TOKENS",
    "batches",
    "canonical_segment",
    "extend",
    "grown_segment",
    "growth",
    "memorise",
]

BATCH_TOKENS = 1 << 16
"""Tokens whose votes are computed in one step: bounds its temporaries at about 100 MB. Each core has its own step."""

_BATCH_DOCUMENTS = 1 << 13

_BATCHES_AT_ONCE = 8
"""Batches whose votes are added together, at least: twice as many take as long in a segment of a million tokens, and
more memory."""

_BYTES_OF_VOTES = 64 * BATCH_TOKENS
_SHARE = 4
"""What votes that are added together may take of memory: this part of what their segment does. All of its rows are gone
through each time: with a number of batches that is fixed, that would take as long as the square of its size."""

_ROOM, _LEAST_ROOM = 0.25, 0.04
"""Pairs that a grown segment has room for beyond those that it must hold, by these; the less where no more fit into a
segment, and in bulk: where so many come at a time, it is memorised anew nearly each time, whatever room there is."""
_BULK, _BULK_SHARE = 1 << 14, 20
"""Tokens that come in bulk, at least; and the part of their segment from which on they are left the least room. Where
they are fewer, they come more often, and are left more."""

_SPARE = 0.005
"""Pairs, by those it holds, that a tight segment is given more with each attempt."""

Documents = Iterable[tuple[int, np.ndarray]]


def batches(documents: Documents) -> Iterator[Batch]:
    """Group (symbol, tokens) documents into batches of bounded size, in order; a document is never split."""
    group: list[tuple[int, np.ndarray]] = []
    tokens = 0
    for symbol, ids in documents:
        if group and (tokens + len(ids) > BATCH_TOKENS or len(group) >= _BATCH_DOCUMENTS):
            yield Batch.of(group)
            group, tokens = [], 0
        group.append((symbol, ids))
        tokens += len(ids)
    if group:
        yield Batch.of(group)


def memorise(memory: Memory, geometry: Geometry, documents: Documents) -> Segment:
    """A new segment of this geometry that holds exactly these documents."""
    return extend(memory.new_segment(geometry), documents)


def extend(segment: Segment, documents: Documents) -> Segment:
    """The same segment with these documents added, some batches at a time."""
    every, most = batches(documents), max(_BATCHES_AT_ONCE, segment.nbytes // _SHARE // _BYTES_OF_VOTES)
    while group := list(islice(every, most)):
        segment.add(*segment.contributions(group))
    return segment


def growth(tokens: int, fresh: int, room: int) -> float:
    """Pairs that a segment is to have room for, over those that it must hold.

    Parameters
    ----------
    tokens, fresh : int
        That it will hold, and those of them that come.
    room : int
        The most tokens that it ever holds.
    """
    bulk = max(_LEAST_ROOM, _LEAST_ROOM * tokens / (_BULK_SHARE * fresh)) if fresh >= _BULK else _ROOM
    return 1 + min(_ROOM, bulk, max(_LEAST_ROOM, room / max(1, tokens) - 1))


def grown_segment(
    memory: Memory,
    full: Segment,
    documents: Callable[[], Documents],
    arriving: Sequence[Contribution],
    headroom: float,
) -> Segment:
    """A segment for documents that would break the promise in another: rows for ``headroom`` times their pairs.

    Parameters
    ----------
    full : Segment
        The other.
    documents : callable
        Streams the documents that it goes on to hold; called once an attempt.
    arriving : sequence of Contribution
        Of those that come.
    """

    def filled(geometry: Geometry) -> Segment:
        segment = memorise(memory, geometry, documents())
        segment.add(*arriving)
        return segment

    fresh = sum(contribution.tokens for contribution in arriving)
    scale, measured = headroom, full
    if fresh > full.tokens:  # too many for its rows to tell how many pairs they are: laid out by the formula, they do
        ordinal, tokens = full.geometry.ordinal, full.tokens + fresh
        scale *= tokens / fresh
        measured = memory.new_segment(first_geometry(memory.configuration, ordinal, tokens))
    segment = filled(measured.fitted(scale, arriving))
    attempt = 1.0
    while not segment.holds():
        # Measured on the real rows now, so one more attempt is enough but for contexts of thousands of tokens.
        attempt *= 1.05
        segment = filled(segment.fitted(headroom * attempt))
    return segment


def canonical_segment(memory: Memory, ordinal: int, tokens: int, documents: Callable[[], Documents]) -> Segment:
    """The tight segment of a set of documents: a function of them, the seed and the configuration alone.

    Laid out for their number of tokens, fitted to the fill that was measured, and again, now from near, with half a
    percent more pairs each time until the promise is kept.
    """
    segment = memorise(memory, first_geometry(memory.configuration, ordinal, max(1, tokens)), documents())
    for attempt in count():
        segment = memorise(memory, segment.fitted(1 + _SPARE * attempt), documents())
        if attempt and segment.holds():
            break
    return segment
