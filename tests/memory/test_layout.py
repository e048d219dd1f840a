"""Which documents share a segment, and segments that grow until they hold their promise."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memodb.collection import layout
from memodb.memory import Backend, WillshawConfiguration, first_geometry, memory_for


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 60))), st.integers(1, 100), st.integers(1, 9))
def test_batches_lose_and_split_nothing(shape: list[tuple[int, int]], tokens: int, documents: int) -> None:
    given_documents = [(symbol, np.arange(length) + symbol % 97) for symbol, length in shape]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BATCH_TOKENS", tokens)
        patch.setattr(layout, "_BATCH_DOCUMENTS", documents)
        batches = list(layout.batches(iter(given_documents)))
    back = []
    for batch in batches:
        assert 1 <= batch.lengths.size <= documents
        assert batch.tokens.size <= tokens or batch.lengths.size == 1
        ends = np.cumsum(batch.lengths)
        assert ends[-1] == batch.tokens.size
        for symbol, length, end in zip(batch.symbols.tolist(), batch.lengths.tolist(), ends.tolist(), strict=True):
            back.append((symbol, batch.tokens[end - length : end].tolist()))
    assert back == [(symbol, ids.tolist()) for symbol, ids in given_documents]


def test_every_segment_takes_twice_the_tokens_of_the_one_before() -> None:
    configuration = WillshawConfiguration(vocabulary=9, segment_tokens=5000)
    assert [configuration.room(ordinal) for ordinal in range(4)] == [5000, 10_000, 20_000, 40_000]


def documents_of(kind: str) -> list[tuple[int, tuple[int, ...]]]:
    rng = np.random.default_rng(0)
    if kind == "none":
        return []
    if kind == "one empty":
        return [(1, ())]
    if kind == "one token":
        return [(1, (5,))]
    if kind == "random":
        return [(i, tuple(rng.integers(0, 800, rng.integers(0, 400)).tolist())) for i in range(60)]
    if kind == "as words are":  # Zipf's law
        return [(i, tuple(np.minimum(rng.zipf(1.2, 400), 799).tolist())) for i in range(300)]
    if kind == "one phrase that anything follows":
        return [(i, (1, 2, 3, 4, i % 800)) for i in range(3000)]
    return [(i, tuple(range(40))) for i in range(500)]


KINDS = ["none", "one empty", "one token", "random", "one phrase that anything follows", "boilerplate"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ordinal", [0, 2])
def test_a_canonical_segment_keeps_the_promise_in_any_order(oracle: Any, kind: str, ordinal: int) -> None:
    documents = documents_of(kind)
    memory = memory_for(Backend(), WillshawConfiguration(vocabulary=800), oracle.SEED)
    tokens = sum(len(ids) for _, ids in documents)

    def segment(order: list[Any]) -> Any:
        return layout.canonical_segment(
            memory, ordinal, tokens, lambda: ((symbol, np.array(ids, dtype=np.int64)) for symbol, ids in order)
        )

    found = segment(documents)
    assert found.holds()
    assert found.tokens == tokens
    assert found.geometry.ordinal == ordinal
    shuffled = [documents[i] for i in np.random.default_rng(1).permutation(len(documents))]
    for other in (segment(shuffled), segment(documents[::-1])):
        oracle.assert_same(found, other)
    # it holds what a plain segment of this shape holds
    plain = memory.new_segment(found.geometry)
    plain.add(plain.contribution(oracle.batch_of(documents)))
    oracle.assert_same(found, plain)


@pytest.mark.parametrize("kind", ["random", "as words are"])
def test_a_canonical_segment_is_tight(oracle: Any, kind: str) -> None:
    """Also of text with far fewer distinct words than a first geometry is laid out for."""
    documents = documents_of(kind)
    memory = memory_for(Backend(), WillshawConfiguration(vocabulary=800), oracle.SEED)
    segment = layout.canonical_segment(
        memory,
        0,
        sum(len(ids) for _, ids in documents),
        lambda: ((symbol, np.array(ids, dtype=np.int64)) for symbol, ids in documents),
    )
    for rate, limit in zip(segment.pass_rates(), segment.limits(), strict=True):
        assert 0.6 * limit < rate <= limit


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("headroom", [1.0, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_grown_segment_keeps_the_promise(oracle: Any, kind: str, headroom: float, share: float) -> None:
    """Of documents a share of which was there before: all of them were, or they come into an empty segment."""
    documents = documents_of(kind)
    held = round(share * len(documents))
    memory = memory_for(Backend(), WillshawConfiguration(vocabulary=800), oracle.SEED)
    streamed = 0

    def stream() -> Any:
        nonlocal streamed
        streamed += 1
        return ((symbol, np.array(ids, dtype=np.int64)) for symbol, ids in documents[:held])

    full = memory.new_segment(first_geometry(memory.configuration, 0, 200))
    arriving = [full.contribution(oracle.batch_of(documents[held:]))]
    segment = layout.grown_segment(memory, full, stream, arriving, headroom)
    assert segment.holds()
    assert streamed < 12
    assert sorted(symbol for symbol, _ in documents) == segment.symbols.tolist()
    plain = memory.new_segment(segment.geometry)
    plain.add(plain.contribution(oracle.batch_of(documents)))
    oracle.assert_same(segment, plain)


@given(st.data())
@settings(deadline=None, max_examples=30)
def test_any_documents_find_a_segment_that_holds(oracle: Any, data: Any) -> None:
    world = data.draw(oracle.worlds())
    memory = memory_for(Backend(), world.configuration, world.seed)

    def stream() -> Any:
        return ((symbol, np.array(ids, dtype=np.int64)) for symbol, ids in world.documents)

    tokens = sum(len(ids) for _, ids in world.documents)
    segment = layout.canonical_segment(memory, 0, tokens, stream)
    assert segment.holds()
    assert segment.nbytes < 64 << 20
    full = memory.new_segment(first_geometry(world.configuration, 0, 1))
    assert layout.grown_segment(memory, full, stream, [], 2.0).holds()
    arriving = [full.contribution(oracle.batch_of(world.documents))]
    assert layout.grown_segment(memory, full, lambda: iter(()), arriving, 2.0).holds()


def test_a_segment_grows_by_a_quarter_but_in_bulk_by_little() -> None:
    """Singly and in bulk, in large segments and small ones, and where little more fits."""
    everything = 1 << 24
    assert layout.growth(1_000_000, 1000, everything) == 1.25
    assert layout.growth(2000, 1000, everything) == 1.25
    assert layout.growth(1_000_000, 300_000, everything) == 1.04
    assert layout.growth(10_000_000, 500_000, everything) == 1.04
    assert layout.growth(10_000_000, 250_000, everything) == 1.08
    assert layout.growth(10_000_000, 20_000, everything) == 1.25
    assert layout.growth(1_000_000, 1000, 1_100_000) == pytest.approx(1.1)
    assert layout.growth(1_000_000, 1000, 1_000_000) == 1.04
