"""What the memories must say, counted the slow way: n-grams in dictionaries, bits one by one.

Nothing here calls the code under test to find an expected value; only :class:`World` builds the real thing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from memodb.memory import Backend, Batch, Geometry, Memory, Segment, WillshawConfiguration, memory_for
from memodb.memory.willshaw_memory import WillshawCodebook, WillshawSegment

Document = tuple[int, tuple[int, ...]]
Pair = tuple[tuple[int, ...], int]

SEED = bytes(range(32))


# -- the model -------------------------------------------------------------------------------------------------------


def pairs_of(configuration: WillshawConfiguration, tokens: Sequence[int]) -> list[set[Pair]]:
    """Distinct (context, next) of one document, a set a layer; begin marks before it, one end mark behind."""
    begin, end = configuration.vocabulary + 1, configuration.vocabulary
    lengths = [configuration.heads**level for level in range(configuration.layers + 1)]
    framed = [begin] * lengths[-1] + list(tokens) + [end]
    return [
        {(tuple(framed[at - length : at]), framed[at]) for at in range(lengths[-1], len(framed))} for length in lengths
    ]


def windows_of(tokens: Sequence[int], window: int) -> set[tuple[int, ...]]:
    return {tuple(tokens[at : at + window]) for at in range(len(tokens) - window + 1)}


def counted(configuration: WillshawConfiguration, documents: Iterable[Document]) -> list[Counter[Pair]]:
    """Number of documents that hold each (context, next), a counter a layer."""
    totals: list[Counter[Pair]] = [Counter() for _ in range(configuration.layers + 1)]
    for _, tokens in documents:
        for total, pairs in zip(totals, pairs_of(configuration, tokens), strict=True):
            total.update(pairs)
    return totals


def by_context(counter: Counter[Pair]) -> dict[tuple[int, ...], dict[int, int]]:
    table: dict[tuple[int, ...], dict[int, int]] = {}
    for (context, token), count in counter.items():
        table.setdefault(context, {})[token] = count
    return table


# -- the real thing --------------------------------------------------------------------------------------------------


def batch_of(documents: Sequence[Document]) -> Batch:
    return Batch.of([(symbol, np.array(tokens, dtype=np.int64)) for symbol, tokens in documents])


@dataclass(frozen=True)
class World:
    """A configuration, a seed, documents, and the rows per band of every matrix (the provenance layer's last)."""

    configuration: WillshawConfiguration
    documents: tuple[Document, ...]
    bands: tuple[int, ...]
    seed: bytes = SEED

    @property
    def geometry(self) -> Geometry:
        c = self.configuration
        rows = [band * c.key_ones(level) for level, band in enumerate(self.bands[:-1])]
        return Geometry(tuple(rows), self.bands[-1] * c.provenance_ones, 0)

    def empty(self, backend: Backend | None = None, seed: bytes | None = None) -> Segment:
        return WillshawSegment(
            WillshawCodebook(backend or Backend(), self.configuration, seed or self.seed), self.geometry
        )

    def segment(self, documents: Sequence[Document] | None = None, backend: Backend | None = None) -> Segment:
        """A segment that memorised the documents in one batch."""
        segment = self.empty(backend)
        segment.add(segment.contribution(batch_of(self.documents if documents is None else documents)))
        return segment

    def memory(
        self,
        parts: Sequence[Sequence[Document]] | None = None,
        backend: Backend | None = None,
        seed: bytes | None = None,
    ) -> Memory:
        """A memory with a segment for each part of the documents."""
        memory = memory_for(backend or Backend(), self.configuration, seed or self.seed)
        for number, part in enumerate([self.documents] if parts is None else parts):
            segment = memory.new_segment(self.geometry)
            segment.add(segment.contribution(batch_of(part)))
            memory.segments[str(number)] = segment
        return memory


def framed(memory: Memory, contexts: Sequence[Sequence[int]]) -> np.ndarray:
    """The contexts in the memory's frame."""
    lengths = np.array([len(context) for context in contexts], dtype=np.int64)
    return memory.framed(np.array([token for context in contexts for token in context], dtype=np.int64), lengths)


def answered(memory: Memory, contexts: Sequence[Sequence[int]], deepest: int | None = None) -> list[dict[int, int]]:
    """Supports by token of each context, in the order of the answer; every invariant of the table is looked at."""
    answers = memory.lookup(framed(memory, contexts), deepest)
    assert answers.level.shape == (len(contexts),)
    assert answers.row.shape == answers.token.shape == answers.support.shape
    assert np.all(np.diff(answers.row) >= 0)
    table: list[dict[int, int]] = [{} for _ in contexts]
    for row, token, support in zip(answers.row.tolist(), answers.token.tolist(), answers.support.tolist(), strict=True):
        assert token not in table[row]
        assert support >= 1
        assert 0 <= token <= memory.configuration.vocabulary
        table[row][token] = support
    assert [level >= 0 for level in answers.level.tolist()] == [bool(row) for row in table]
    starts = answers.starts
    assert [starts[i + 1] - starts[i] for i in range(len(contexts))] == [len(row) for row in table]
    return table


def array_state(segment: Segment) -> list[np.ndarray]:
    """Every array a segment holds, on the host."""
    host = segment.codebook.backend.to_host
    arrays = [host(segment.symbols)]
    for m in segment.matrices:
        arrays += [host(a) for a in (m.cells, m.large, m.large_counts, m.presence, m.ones)]
    return arrays


def assert_same(left: Segment, right: Segment) -> None:
    """Two segments hold the same bytes."""
    for ours, theirs in zip(array_state(left), array_state(right), strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)
    assert left.tokens == right.tokens
    assert left.digest() == right.digest()


def two_a_byte(matrix: Any) -> np.ndarray:
    """The counts up to 15 of every cell, int64 (R * c,): each byte has two, that of the even column in its low half."""
    packed = matrix.backend.to_host(matrix.cells).astype(np.int64)
    counts = np.empty(2 * packed.size, dtype=np.int64)
    counts[0::2], counts[1::2] = packed % 16, packed // 16
    return counts


def dense_counts(matrix: Any) -> np.ndarray:
    """Counts of every cell (R, c), from the bytes and the table of large ones."""
    host = matrix.backend.to_host
    counts = two_a_byte(matrix)
    counts[host(matrix.large)] = host(matrix.large_counts)
    return counts.reshape(matrix.rows, matrix.columns)


def assert_views(matrix: Any) -> None:
    """The packed view and the popcounts say what the counts say; the table holds what does not fit four bits."""
    host = matrix.backend.to_host
    counts = dense_counts(matrix)
    flat = counts.ravel()
    large = host(matrix.large)
    assert flat.min() >= 0
    assert np.array_equal(large, np.flatnonzero(flat >= 15))
    assert np.array_equal(two_a_byte(matrix), np.where(flat >= 15, 15, flat))
    words = host(matrix.presence)
    for column in range(matrix.columns):
        bit = words[:, column // 64] >> np.uint64(column % 64) & np.uint64(1)
        assert np.array_equal(bit, counts[:, column] > 0)
    assert np.array_equal(host(matrix.ones), (counts > 0).sum(axis=1))


# -- strategies ------------------------------------------------------------------------------------------------------


def symbols() -> st.SearchStrategy[int]:
    return st.integers(0, 2**64 - 1)


@st.composite
def configurations(draw: st.DrawFn, columns: tuple[int, ...] = (256, 512)) -> WillshawConfiguration:
    heads = draw(st.integers(2, 4))
    return WillshawConfiguration(
        vocabulary=draw(st.sampled_from([1, 2, 5, 40, 3000])),
        heads=heads,
        layers=draw(st.integers(0, {2: 4, 3: 3, 4: 2}[heads])),
        false_recall=draw(st.sampled_from([0.5, 0.01, 1e-6])),
        window=draw(st.integers(2, 9)),
        columns=draw(st.sampled_from(columns)),
        ones=draw(st.sampled_from([2, 4])),
    )


@st.composite
def texts(
    draw: st.DrawFn, configuration: WillshawConfiguration, longest: int = 40
) -> st.SearchStrategy[tuple[int, ...]]:
    """A strategy of documents that share passages, as real ones do."""
    alphabet = st.integers(0, min(configuration.vocabulary, draw(st.sampled_from([1, 3, 3000]))) - 1)
    fresh = st.lists(alphabet, max_size=longest)
    shared = st.sampled_from(draw(st.lists(fresh, min_size=1, max_size=3)))
    return st.lists(fresh | shared, max_size=3).map(lambda parts: tuple(token for part in parts for token in part))


@st.composite
def worlds(draw: st.DrawFn, most: int = 8, band: int = 24) -> World:
    """Documents (empty ones, one text under two ids, two ids of one symbol) and matrices from overfull to airy."""
    configuration = draw(configurations())
    document = st.tuples(st.sampled_from([0, 7, 2**64 - 1]) | symbols(), draw(texts(configuration)))
    bands = st.integers(1, band)
    return World(
        configuration,
        tuple(draw(st.lists(document, max_size=most))),
        tuple(draw(st.lists(bands, min_size=configuration.layers + 2, max_size=configuration.layers + 2))),
        draw(st.binary(min_size=32, max_size=32)),
    )


@st.composite
def split(draw: st.DrawFn, documents: Sequence[Document], most: int = 3) -> list[list[Document]]:
    """The documents dealt out to 1..most piles, some perhaps empty."""
    piles: list[list[Document]] = [[] for _ in range(draw(st.integers(1, most)))]
    for document in documents:
        piles[draw(st.integers(0, len(piles) - 1))].append(document)
    return piles
