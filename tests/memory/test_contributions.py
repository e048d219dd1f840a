"""What a document adds depends on the document, the seed and the geometry: not on its neighbours in the batch."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memodb.memory import Backend
from memodb.memory.codes import context_symbols
from memodb.memory.pairs import distinct

M64 = 2**64 - 1


def total(matrix: Any, contributions: list[Any], index: int) -> Counter[int]:
    counter: Counter[int] = Counter()
    for contribution in contributions:
        tally = contribution.votes[index].tally(matrix.rows, matrix.columns)
        counter.update(dict(zip(tally.cells.tolist(), tally.counts.tolist(), strict=True)))
    return counter


@given(st.data())
@settings(deadline=None)
def test_a_batch_is_the_sum_of_its_documents_in_any_order(oracle: Any, data: Any) -> None:
    world = data.draw(oracle.worlds())
    segment = world.empty()
    whole = segment.contribution(oracle.batch_of(world.documents))
    turned = segment.contribution(oracle.batch_of(data.draw(st.permutations(world.documents))))
    singles = [segment.contribution(oracle.batch_of([document])) for document in world.documents]
    assert sorted(whole.symbols.tolist()) == sorted(symbol for symbol, _ in world.documents)
    assert whole.tokens == sum(len(tokens) for _, tokens in world.documents)
    for index, matrix in enumerate(segment.matrices):
        tally = whole.votes[index].tally(matrix.rows, matrix.columns)
        assert np.all(np.diff(tally.cells) > 0)
        assert total(matrix, [whole], index) == total(matrix, [turned], index) == total(matrix, singles, index)


@given(st.data())
@settings(deadline=None)
def test_every_distinct_pair_counts_once_a_document(oracle: Any, data: Any) -> None:
    """Each matrix is k v^T summed over the dictionary's pairs: as many counts as pairs, in the cells of their codes."""
    world = data.draw(oracle.worlds())
    c = world.configuration
    segment = world.segment()
    codebook = segment.codebook
    for level, counts in enumerate(oracle.counted(c, world.documents)):
        matrix = segment.layers[level]
        expected = np.zeros((matrix.rows, c.columns), dtype=np.int64)
        for (context, token), documents in counts.items():
            padded = np.array([(c.vocabulary + 1,) * (c.longest - len(context)) + context], dtype=np.int64)
            symbol = context_symbols(padded, codebook.contexts)[level]
            rows, rotation = codebook.keys_of(level, symbol, matrix.rows)
            for row in rows:
                for column in codebook.tokens.codes[token].tolist():
                    expected[int(row[0]), (column + int(rotation[0])) % c.columns] += documents
        assert expected.sum() == sum(counts.values()) * c.key_ones(level) * c.ones
        assert np.array_equal(oracle.dense_counts(matrix), expected)
    windows = sum(len(oracle.windows_of(tokens, c.window)) for _, tokens in world.documents)
    assert oracle.dense_counts(segment.provenance).sum() == windows * c.provenance_ones * c.ones


class Spy:
    """NumPy that remembers whether the slow sort was asked."""

    def __init__(self) -> None:
        self.slow = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def lexsort(self, keys: Any) -> Any:
        self.slow += 1
        return np.lexsort(keys)


def mixed(document: int, value: int) -> int:
    """The part of the sorted word that the symbol is added to: what an attacker with the source would compute."""
    word = (document * 0x9E3779B97F4A7C15 & M64) ^ (value * 0xC2B2AE3D27D4EB4F & M64)
    word ^= word >> 29
    return word * 0xD6E8FEB86659FD93 & M64


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)), min_size=2, max_size=40),
    st.lists(st.integers(0, M64), min_size=3, max_size=3, unique=True),
)
@settings(deadline=None)
def test_pairs_that_share_the_sorted_word_are_all_kept(picks: list[tuple[int, int, int]], words: list[int]) -> None:
    """Symbols made so that different triples collide in the word the fast sort goes by: none may be dropped."""
    triples = [((words[word] - mixed(document, value)) & M64, value, document) for document, value, word in picks]
    spy = Spy()
    symbols = np.array([symbol for symbol, _, _ in triples], dtype=np.uint64)
    values, documents = (np.array([triple[i] for triple in triples], dtype=np.int64) for i in (1, 2))
    kept = distinct(Backend(spy), symbols, values, documents)  # type: ignore[arg-type]
    assert sorted(triples[place] for place in kept.tolist()) == sorted(set(triples))
    collides = len(set(triples)) > len({word for _, _, word in picks})
    assert not spy.slow or collides
    if collides:
        # equal words interleaved by the sort may hide nothing; any neighbours that differ must have asked it
        assert spy.slow == 1


@pytest.mark.parametrize("n", [0, 1, 5000])
def test_ordinary_pairs_never_need_the_slow_sort(n: int) -> None:
    rng = np.random.default_rng(n)
    spy = Spy()
    columns = [rng.integers(0, 30, n) for _ in range(3)]
    kept = distinct(Backend(spy), columns[0].astype(np.uint64), columns[1], columns[2])  # type: ignore[arg-type]
    triples = list(zip(*(column.tolist() for column in columns), strict=True))
    assert sorted(triples[place] for place in kept.tolist()) == sorted(set(triples))
    assert spy.slow == 0
