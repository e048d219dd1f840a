"""Answers that are kept are those that would be found again: with kernels and without, whatever changes between."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from memodb.memory import (
    Backend,
    Batch,
    Memory,
    WillshawConfiguration,
    crowds,
    first_geometry,
    memory_for,
    willshaw_memory,
)
from memodb.memory.backend import FastBackend

needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
BACKENDS = pytest.mark.parametrize(
    "backend", [Backend(), pytest.param(FastBackend(worth=0), marks=needs_numba)], ids=["plain", "fast"]
)
CONFIGURATION = WillshawConfiguration(vocabulary=300, heads=2, layers=2, window=3)


def documents(seed: int, number: int) -> list[tuple[int, np.ndarray]]:
    """Of tokens that stand beside hundreds of others."""
    generator = np.random.default_rng(seed)
    return [(1000 * seed + i + 1, generator.zipf(1.2, 80) % 300) for i in range(number)]


def memory_of(backend: Backend, segments: int) -> Memory:
    memory = memory_for(backend, CONFIGURATION, bytes(32))
    for number in range(segments):
        segment = memory.new_segment(first_geometry(CONFIGURATION, number, 8000))
        segment.add(segment.contribution(Batch.of(documents(number + 1, 60))))
        memory.segments[f"{number}"] = segment
    return memory


def contexts_of(memory: Memory) -> np.ndarray:
    """Every token alone, and windows of what is stored."""
    alone = memory.framed(np.arange(300), np.ones(300, dtype=np.int64))
    text = np.concatenate([tokens for seed in (1, 2, 3) for _, tokens in documents(seed, 6)])
    return np.concatenate([alone, np.lib.stride_tricks.sliding_window_view(text, CONFIGURATION.longest)])


def assert_as_if_found_again(memory: Memory) -> None:
    """The best few, asked twice, are the first of the whole list, which is never kept, and is that of plain NumPy."""
    contexts = contexts_of(memory)
    plain: Any = memory_for(Backend(), CONFIGURATION, bytes(32))
    plain.segments = memory.segments
    for deepest in (None, 1):
        whole, expected = memory.lookup(contexts, deepest), plain.lookup(contexts, deepest)
        for name in ("row", "token", "support", "level", "total"):
            assert np.array_equal(getattr(whole, name), getattr(expected, name)), name
        for most in (1, 10, 1000):
            expected_few = whole.best(most)
            for number in [*range(0, len(contexts), 37)] * 2:  # one by one, as prompts are, before the others and again
                alone = memory.best(contexts[number : number + 1], most, deepest)
                for name, array in vars(alone).items():
                    assert np.array_equal(array[0], getattr(expected_few, name)[number]), (name, most)
            for _ in range(2):
                few = memory.best(contexts, most, deepest)
                for name, array in vars(few).items():
                    assert np.array_equal(array, getattr(expected_few, name)), (name, most)


@BACKENDS
@pytest.mark.parametrize("segments", [1, 2])
def test_they_are_found_anew_after_every_change(backend: Backend, segments: int) -> None:
    memory = memory_of(backend, segments)
    held = memory.segments["0"]
    crowded = np.bincount(memory.lookup(contexts_of(memory)).row)
    assert crowded.max() > 100
    assert_as_if_found_again(memory)
    more = held.contribution(Batch.of(documents(3, 40)))
    held.add(more)
    assert_as_if_found_again(memory)
    held.subtract(held.contribution(Batch.of(documents(1, 20))))
    assert_as_if_found_again(memory)
    state, tokens = {name: array.copy() for name, array in held.packed().items()}, held.tokens
    held.subtract(more)
    assert_as_if_found_again(memory)
    held.restore(state, tokens)
    assert_as_if_found_again(memory)
    # others in its place, which came by as many steps
    for seed, steps in ((4, 4), (5, 3), (6, 2)):
        fresh = memory.segments["0"] = memory.new_segment(held.geometry)
        for number in range(steps):
            fresh.add(held.contribution(Batch.of(documents(seed, 60)[number::steps])))
        assert_as_if_found_again(memory)
    if segments == 2:
        del memory.segments["1"]
        assert_as_if_found_again(memory)


@BACKENDS
def test_they_are_dropped_before_they_take_too_much(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(willshaw_memory, "MOST_KEPT", 500)
    memory: Any = memory_of(backend, 1)
    sizes = set()
    for row in contexts_of(memory):
        memory.best(row[None], 10)
        sizes.add(sum(kept.size for kept in memory._crowds[1].values()))
    assert 400 < max(sizes) <= 500 + 5 + 2 * 10 + CONFIGURATION.longest
    assert_as_if_found_again(memory)


@BACKENDS
def test_contexts_with_one_symbol_are_told_apart(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is found by a hash of a context, and given only where its tokens are the same."""
    memory: Any = memory_of(backend, 1)
    contexts = contexts_of(memory)
    expected = memory.best(contexts, 10)
    kept = memory._crowds[1][10]
    assert kept.symbols.size > 20
    memory._crowds[1][10] = crowds.Crowds(kept.symbols, np.roll(kept._places, 1), kept._rows)
    found = memory.best(contexts, 10)
    for name in ("token", "support", "level", "total"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    # both are there now, with one symbol: the second is found too
    assert memory._crowds[1][10].symbols.size > kept.symbols.size
    assert (memory._ask(contexts, CONFIGURATION.layers, 10, leaving=True)[1] < 0).all()


@BACKENDS
def test_what_is_kept_is_asked_once(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    memory: Any = memory_of(backend, 1)
    contexts = contexts_of(memory)
    asked: list[bytes] = []
    ask = type(memory)._ask

    def seen(memory: Any, rows: np.ndarray, top: int, most: int, *, leaving: bool) -> Any:
        found = ask(memory, rows, top, most, leaving=leaving)
        for row, layer in zip(rows, found[1], strict=True):
            if layer >= 0 and not leaving:
                asked.append(row[-CONFIGURATION.spans[layer] :].tobytes())
        return found

    monkeypatch.setattr(type(memory), "_ask", seen)
    for number in range(0, len(contexts), 5):
        memory.best(contexts[number : number + 1], 10)
    assert asked
    memory.best(np.concatenate([contexts, contexts]), 10)
    crowded, asked[:] = list(asked), []
    memory.best(contexts, 10)
    assert len(crowded) == len(set(crowded))
    assert not asked


def test_what_is_kept_by_one_is_not_changed_by_another() -> None:
    """Threads that read side by side add to what they found: each keeps its own, and none sees another's rows."""

    def one(number: int) -> tuple[np.ndarray, int, np.ndarray, crowds.Best]:
        row = np.full((1, 2), number)
        return np.array([number % 3], dtype=np.uint64), 1, row, crowds.Best(row, row, row[0, :1], row[0, :1])

    def found(kept: crowds.Crowds) -> list[int]:
        every = [one(number) for number in range(40)]
        return [n for n, (symbol, asked, row, _) in enumerate(every) if kept.find(symbol, asked, row, 2)[0][0]]

    start = crowds.Crowds.nothing(2, 2)
    grown = start
    for number in range(10):
        grown = grown.plus(*one(number))
    left, right = grown.plus(*one(20)), grown.plus(*one(30))
    assert found(start) == []
    assert found(grown) == list(range(10))
    assert found(left) == [*range(10), 20]
    assert found(right) == [*range(10), 30]
    assert found(left.plus(*one(31))) == [*range(10), 20, 31]
    for kept in (left, right):
        symbol, asked, row, answers = one(7)
        assert np.array_equal(kept.find(symbol, asked, row, 2)[1].token, answers.token)
