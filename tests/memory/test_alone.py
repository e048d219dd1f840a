"""One context by itself, in Python's numbers, is answered as it is among others, in NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memodb.memory import Backend, Batch, WillshawConfiguration, alone, first_geometry, memory_for
from memodb.memory import willshaw_memory as engine
from memodb.memory.answers import Answers
from memodb.memory.codes import context_symbols


def assert_as_among_others(memory: Any, contexts: np.ndarray, deepest: int | None = None) -> int:
    """All of its candidates, and the best few; how many are answered in Python's numbers."""
    apart = 0
    together = memory.lookup(np.concatenate([contexts, contexts[:1]]), deepest)
    for most in (1, 3):
        best = memory.best(np.concatenate([contexts, contexts[:1]]), most, deepest)
        for at in range(len(contexts)):
            assert_same(memory.best(contexts[at : at + 1], most, deepest), best.chosen(np.array([at])))
    for at in range(len(contexts)):
        chosen = together.row == at
        part = slice(at, at + 1)
        expected = Answers(
            np.zeros(chosen.sum(), dtype=np.int64),
            together.token[chosen],
            together.support[chosen],
            together.level[part],
            together.total[part],
        )
        assert_same(memory.lookup(contexts[part], deepest), expected)
        top = memory.configuration.layers if deepest is None else deepest
        apart += memory._alone(contexts[part], top, 0) is not None
    return apart


def assert_same(ours: Any, theirs: Any) -> None:
    for name, array in vars(ours).items():
        assert np.array_equal(array, getattr(theirs, name)), name
        assert array.dtype == getattr(theirs, name).dtype, name


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_context_is_answered_as_among_others(oracle: Any, data: Any) -> None:
    world = data.draw(oracle.worlds(most=6))
    number = data.draw(st.integers(1, 3))  # segments
    memory = world.memory([list(world.documents[at::number]) for at in range(number)])
    tokens = st.integers(0, world.configuration.vocabulary - 1)
    stored = [tokens[:at] for _, tokens in world.documents for at in range(len(tokens) + 1)]
    strangers = data.draw(st.lists(st.lists(tokens, max_size=20), min_size=1, max_size=4))
    contexts = oracle.framed(memory, [*data.draw(st.lists(st.sampled_from(stored or [()]), max_size=8)), *strangers])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_PATIENCE", data.draw(st.sampled_from([1, 2, 4, 64])))
        patch.setattr(alone, "_MANY", data.draw(st.sampled_from([1, 2, 16])))
        for deepest in (None, 0, world.configuration.layers):
            assert_as_among_others(memory, contexts, deepest)


@pytest.mark.parametrize("segments", [1, 3])
def test_counts_of_any_size_and_crowds_are_answered_as_among_others(segments: int) -> None:
    generator = np.random.default_rng(5)
    documents = [(number + 1, np.append(generator.zipf(1.4, 40) % 500, number % 400)) for number in range(900)]
    memory = memory_for(Backend(), WillshawConfiguration(vocabulary=500), bytes(32))
    for number in range(segments):
        segment = memory.new_segment(first_geometry(WillshawConfiguration(vocabulary=500), number, 30_000))
        segment.add(segment.contribution(Batch.of(documents[number::segments])))
        memory.segments[str(number)] = segment
    contexts = memory.framed(np.arange(400), np.ones(400, dtype=np.int64))
    contexts = np.concatenate(
        [contexts, memory.framed(np.concatenate([d[:9] for _, d in documents[:60]]), np.full(60, 9))]
    )
    assert 100 < assert_as_among_others(memory, contexts) < len(contexts) - 5
    assert memory.lookup(contexts).support.max() > 50


@pytest.mark.parametrize("segments", [1, 2])
def test_full_matrices_answer_as_among_others(oracle: Any, monkeypatch: pytest.MonkeyPatch, segments: int) -> None:
    """Each layer answers much that was never stored, and all of it is answered in Python's numbers."""
    monkeypatch.setattr(engine, "_PATIENCE", 1 << 14)
    monkeypatch.setattr(alone, "_MANY", 100)
    configuration = WillshawConfiguration(vocabulary=40, heads=2, layers=2, columns=256, false_recall=0.5)
    generator = np.random.default_rng(3)
    documents = tuple((number + 1, tuple(generator.integers(0, 40, 60).tolist())) for number in range(20))
    parts = [documents[at::segments] for at in range(segments)]
    memory = oracle.World(configuration, documents, (6, 6, 6, 6)).memory(parts)
    contexts = memory.framed(generator.integers(0, 40, 60), np.full(15, 4))
    assert assert_as_among_others(memory, contexts) == len(contexts)
    assert np.bincount(memory.lookup(contexts).row).max() > 8


@given(st.integers(2, 5), st.integers(0, 3), st.data())
@settings(deadline=None)
def test_symbols_are_those_of_a_batch(heads: int, layers: int, data: Any) -> None:
    configuration = WillshawConfiguration(vocabulary=3000, heads=heads, layers=layers)
    memory: Any = memory_for(Backend(), configuration, bytes(range(32)))
    tokens = st.integers(0, configuration.begin)
    context = data.draw(st.lists(tokens, min_size=configuration.longest, max_size=configuration.longest))
    found = alone.symbols(context, memory.codebook.numbers)
    expected = context_symbols(np.array([context, context]), memory.codebook.contexts)
    assert found == [int(each[0]) for each in expected]
