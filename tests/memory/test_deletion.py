"""Forgetting is exact: after any history a segment holds the bytes of one that memorised only the survivors."""

import importlib.util
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memodb.errors import CorruptStore
from memodb.memory import Backend, WillshawConfiguration
from memodb.memory.backend import FastBackend
from memodb.memory.votes import Tally
from memodb.memory.willshaw import WillshawMatrix
from memodb.memory.willshaw_memory import WillshawSegment

BACKENDS = [Backend(), *([FastBackend(worth=0)] if importlib.util.find_spec("numba") else [])]


@given(st.data())
@settings(deadline=None)
def test_any_history_leaves_the_survivors_and_nothing_else(oracle: Any, data: Any) -> None:
    world = data.draw(oracle.worlds())
    segment = world.empty()
    outside, inside = list(world.documents), []
    for _ in range(data.draw(st.integers(0, 8))):
        source, target = data.draw(st.sampled_from([(outside, inside), (inside, outside)]))
        moved = [source.pop(data.draw(st.integers(0, len(source) - 1))) for _ in range(min(2, len(source)))]
        contribution = segment.contribution(oracle.batch_of(moved))
        (segment.subtract if target is outside else segment.add)(contribution)
        target += moved
        for matrix in segment.matrices:
            oracle.assert_views(matrix)
    oracle.assert_same(segment, world.segment(data.draw(st.permutations(inside))))


@given(st.data())
@settings(deadline=None)
def test_a_matrix_counts_without_bound(oracle: Any, data: Any) -> None:
    """Counts go up and down across 15 and 65,535 and come back to the byte; a dictionary keeps the books."""
    matrix = WillshawMatrix(Backend(), 4, 64)
    rows = st.dictionaries(
        st.integers(0, 255) | st.sampled_from([0, 63, 64, 255]),
        st.sampled_from([1, 2, 14, 15, 16, 255, 65535, 65536, 10**10]) | st.integers(1, 30),
        max_size=12,
    )
    truth = np.zeros(256, dtype=np.int64)
    held: list[dict[int, int]] = []
    for _ in range(data.draw(st.integers(1, 10))):
        if held and data.draw(st.booleans()):
            change, sign = held.pop(data.draw(st.integers(0, len(held) - 1))), -1
        else:
            change, sign = data.draw(rows), 1
            held.append(change)
        cells = np.array(sorted(change), dtype=np.int64)
        amounts = np.array([change[cell] for cell in sorted(change)], dtype=np.int64)
        tally = Tally(cells, amounts)
        if sign > 0:
            predicted = matrix.ones_with([tally, tally])
            matrix.add(tally)
            assert np.array_equal(predicted, matrix.ones)
        else:
            matrix.subtract(tally)
        for cell, amount in change.items():
            truth[cell] += sign * amount
        assert np.array_equal(matrix.counts_of(np.arange(256)), truth)
        assert np.array_equal(oracle.dense_counts(matrix).ravel(), truth)
        oracle.assert_views(matrix)
    fresh = WillshawMatrix(Backend(), 4, 64)
    places = np.flatnonzero(truth)
    fresh.add(Tally(places, truth[places]))
    for ours, theirs in zip(matrix.state().values(), fresh.state().values(), strict=True):
        assert np.array_equal(ours, theirs)


@given(st.data())
@settings(deadline=None)
def test_support_is_the_least_count_however_large(data: Any) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    matrix = WillshawMatrix(Backend(), 6, 64)
    truth = rng.choice([0, 1, 14, 15, 16, 70000, 10**10], (6, 64), p=rng.dirichlet(np.ones(7)))
    cells = np.flatnonzero(truth)
    matrix.add(Tally(cells, truth.ravel()[cells]))
    rows = [rng.integers(0, 3, 40), rng.integers(3, 6, 40)]
    columns = rng.integers(0, 64, (40, 3))
    expected = [min(int(truth[row[i], j]) for row in rows for j in columns[i]) for i in range(40)]
    assert matrix.support(np.stack(rows), columns).tolist() == expected


SMALL = WillshawConfiguration(vocabulary=4, heads=2, layers=1, false_recall=0.5, window=2, columns=256, ones=2)


def test_boilerplate_of_a_hundred_thousand_documents(oracle: Any) -> None:
    """One text under 100,000 ids, taken out again down to one: supports exact, bytes of the survivors at every stop."""
    world = oracle.World(SMALL, (), (16, 16, 16))
    text = (1, 2, 3)
    memory = world.memory()
    segment = memory.segments["0"]
    parts = {}
    edges = [0, 1, 14, 15, 16, 300, 25_000, 65_534, 65_535, 65_536, 100_000]
    for low, high in itertools.pairwise(edges):
        parts[low] = segment.contribution(oracle.batch_of([(i * 2**40, text) for i in range(low, high)]))
    states = {}
    for low, high in itertools.pairwise(edges):
        states[low] = (segment.digest(), segment.pass_rates())
        segment.add(parts[low])
        supports = oracle.answered(memory, [(), (1,), (1, 2), (1, 2, 3)])
        assert [row[token] for row, token in zip(supports, (1, 2, 3, 4), strict=True)] == [high] * 4
    for matrix in segment.layers:
        assert matrix.large_counts.min() >= 100_000
    for low in reversed(edges[:-1]):
        segment.subtract(parts[low])
        assert (segment.digest(), segment.pass_rates()) == states[low]
        for matrix in segment.matrices:
            oracle.assert_views(matrix)
    oracle.assert_same(segment, world.segment())
    # and in the order of arrival: the first go first
    for low in edges[:-1]:
        segment.add(parts[low])
    for low in edges[:-2]:
        segment.subtract(parts[low])
    fresh = world.empty()
    fresh.add(parts[edges[-2]])
    oracle.assert_same(segment, fresh)


LONG = tuple(range(12))
NEVER_ADDED = {
    "another text": [(9, tuple(range(20, 32)))],
    "the same text under an unknown id": [(9, LONG)],
    "an unknown id above all others": [(2**64 - 1, LONG)],
    "a text too short for provenance under an unknown id": [(9, (5,))],
    "an empty text under an unknown id": [(9, ())],
    "one document twice": [(1, LONG), (1, LONG)],
    "a known one and an unknown one": [(1, LONG), (9, (5,))],
    "a known id with another text": [(1, LONG[::-1])],
    "a known id with the text of another": [(5, LONG)],
}


@pytest.mark.parametrize("strangers", NEVER_ADDED.values(), ids=NEVER_ADDED)
def test_what_was_never_added_cannot_be_taken_out(oracle: Any, strangers: list[Any]) -> None:
    """Refused as a whole: also where some matrices hold the cells by chance, no matrix has changed."""
    documents = ((1, LONG), (2, LONG), (3, (5,)), (4, ()), (5, (40, 41)))
    world = oracle.World(WillshawConfiguration(vocabulary=64), documents, (30, 30, 30, 30))
    segment = world.segment()
    with pytest.raises(CorruptStore):
        segment.subtract(segment.contribution(oracle.batch_of(strangers)))
    oracle.assert_same(segment, world.segment())
    segment.subtract(segment.contribution(oracle.batch_of(documents)))
    oracle.assert_same(segment, world.empty())
    with pytest.raises(CorruptStore):
        segment.subtract(segment.contribution(oracle.batch_of(documents[3:4])))
    oracle.assert_same(segment, world.empty())


def test_two_ids_of_one_symbol_go_one_at_a_time(oracle: Any) -> None:
    documents = ((7, LONG), (7, LONG), (7, (1, 2)), (8, LONG))
    world = oracle.World(WillshawConfiguration(vocabulary=64), documents, (30, 30, 30, 30))
    segment = world.segment()
    segment.subtract(segment.contribution(oracle.batch_of(documents[:1])))
    oracle.assert_same(segment, world.segment(documents[1:]))
    segment.subtract(segment.contribution(oracle.batch_of([documents[3], documents[1]])))
    oracle.assert_same(segment, world.segment(documents[2:3]))


def test_a_fresh_window_list_after_every_change(oracle: Any) -> None:
    """Documents of a window are looked up in the documents that are there now."""
    world = oracle.World(WillshawConfiguration(vocabulary=64), ((1, LONG),), (30, 30, 30, 30))
    memory = world.memory()
    segment = memory.segments["0"]
    second = segment.contribution(oracle.batch_of([(2, LONG)]))
    query = np.array(LONG)

    def symbols() -> set[int]:
        return set(next(memory.documents(query))[1].tolist())

    assert symbols() == {1}
    segment.add(second)
    assert symbols() == {1, 2}
    segment.subtract(segment.contribution(oracle.batch_of([(1, LONG)])))
    assert symbols() == {2}


@given(st.data())
def test_a_segment_comes_back_from_its_state(oracle: Any, data: Any) -> None:
    world = data.draw(oracle.worlds())
    segment = world.segment()
    again = WillshawSegment(segment.codebook, segment.geometry)
    again.restore(segment.packed(), segment.tokens)
    assert again.digest() == segment.digest()
    assert again.tokens == segment.tokens
    for ours, theirs in zip(again.matrices, segment.matrices, strict=True):
        oracle.assert_views(ours)
        assert np.array_equal(ours.ones, theirs.ones)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_matrix_refuses_counts_that_contradict_themselves(oracle: Any, backend: Backend) -> None:
    matrix = WillshawMatrix(backend, 4, 64)
    none = np.zeros(0, dtype=np.int64)
    held = np.zeros(128, dtype=np.uint8)
    held[100] = 14 << 4 | 3
    matrix.restore(held, none, none)  # others replace it, and do not come to it
    before = {name: array.copy() for name, array in [*matrix.state().items(), ("presence", matrix.presence)]}
    cells = np.zeros(128, dtype=np.uint8)
    cells[3], cells[5], cells[7], cells[64] = 15 << 4, 15, 14 << 4 | 13, 1
    for arrays in (
        (cells[:-1], none, none),
        (cells, none, none),
        (cells, np.array([7]), none),
        (cells, np.array([7]), np.array([300])),
        (cells, np.array([8, 10]), np.array([300, 300])),
        (cells, np.array([7, 10, 11]), np.array([300, 300, 300])),
        (cells, np.array([7, 10]), np.array([300, 14])),
    ):
        with pytest.raises(CorruptStore):
            matrix.restore(*arrays)
    for name, array in before.items():
        assert np.array_equal(getattr(matrix, name), array)
    matrix.restore(cells, np.array([7, 10]), np.array([300, 15]))
    assert matrix.counts_of(np.array([6, 7, 8, 10, 11, 14, 15, 128])).tolist() == [0, 300, 0, 15, 0, 13, 14, 1]
    assert matrix.ones.tolist() == [4, 0, 1, 0]
    oracle.assert_views(matrix)
