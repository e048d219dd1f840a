"""Nothing that a document holds is ever missed, however full the matrices are."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memodb.memory import WillshawConfiguration
from memodb.memory.codes import context_symbols


@given(st.data())
@settings(deadline=None)
def test_every_continuation_is_a_candidate_with_its_support(oracle: Any, data: Any) -> None:
    world = data.draw(oracle.worlds())
    memory = world.memory(data.draw(oracle.split(world.documents)))
    for level, counts in enumerate(oracle.counted(world.configuration, world.documents)):
        truth = oracle.by_context(counts)
        found = oracle.answered(memory, list(truth), deepest=level)
        for (context, continuations), candidates in zip(truth.items(), found, strict=True):
            for token, count in continuations.items():
                assert candidates.get(token, 0) >= count, (level, context, token)


@given(st.data())
@settings(deadline=None)
def test_every_position_is_answered_by_the_longest_layer(oracle: Any, data: Any) -> None:
    world = data.draw(oracle.worlds(most=4))
    c = world.configuration
    memory = world.memory(data.draw(oracle.split(world.documents)))
    for _, tokens in world.documents:
        prompts = [tokens[:at] for at in range(len(tokens) + 1)]
        answers = memory.lookup(oracle.framed(memory, prompts))
        assert (answers.level == c.layers).all()
        held = set(zip(answers.row.tolist(), answers.token.tolist(), strict=True))
        assert held >= set(enumerate([*tokens, c.vocabulary]))


def test_long_short_empty_equal_and_shared_documents(oracle: Any) -> None:
    """The shapes that documents come in, by name, over several segments and more contexts than one part holds."""
    rng = np.random.default_rng(5)
    boilerplate = tuple(rng.integers(0, 50, 20).tolist())
    documents = [(1, ()), (2, (3,)), (3, (3,)), (4, tuple(rng.integers(0, 50, 5000).tolist()))]
    documents += [(100 + i, (*boilerplate, int(rng.integers(0, 50)))) for i in range(300)]
    documents += [(5, boilerplate), (6, boilerplate), (7, ()), (8, (49,) * 700)]
    world = oracle.World(WillshawConfiguration(vocabulary=50), tuple(documents), (40, 60, 100, 60))
    memory = world.memory([documents[::3], documents[1::3], documents[2::3]])
    counts = oracle.counted(world.configuration, documents)
    assert max(counts[2].values()) >= 300
    for level, counter in enumerate(counts):
        truth = oracle.by_context(counter)
        for (context, continuations), candidates in zip(
            truth.items(), oracle.answered(memory, list(truth), deepest=level), strict=True
        ):
            for token, count in continuations.items():
                assert candidates.get(token, 0) >= count, (level, context, token)


def cell_by_cell(oracle: Any, segment: Any, keys: Any, layer: int, place: int, token: int) -> int:
    """The least count of one pair in one layer."""
    matrix = segment.layers[layer]
    rows, rotation = keys[layer]
    columns = [
        (column + int(rotation[place])) % matrix.columns for column in segment.codebook.tokens.codes[token].tolist()
    ]
    counts = oracle.two_a_byte(matrix)
    return min(int(counts[int(row[place]) * matrix.columns + column]) for row in rows for column in columns)


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_layers_that_agree_lose_nothing(oracle: Any, data: Any) -> None:
    """Agreement keeps a subset of what every layer answers alone, and all of the truth; so also one thin top layer."""
    world = data.draw(oracle.worlds())
    bands = list(world.bands)
    bands[data.draw(st.integers(0, world.configuration.layers))] = 1
    world = oracle.World(world.configuration, world.documents, tuple(bands), world.seed)
    segment = world.segment()
    codebook = segment.codebook
    longest = world.configuration.longest
    top = oracle.by_context(oracle.counted(world.configuration, world.documents)[-1])
    tokens = st.integers(0, world.configuration.vocabulary + 1)
    strangers = data.draw(st.lists(st.lists(tokens, min_size=longest, max_size=longest).map(tuple), max_size=3))
    contexts = [*top, *(context for context in strangers if context not in top)]
    if not contexts:
        return
    reading = segment.read(context_symbols(np.array(contexts, dtype=np.int64), codebook.contexts))
    places = np.arange(len(contexts))
    everything: set[tuple[int, int]] | None = None
    for level, matrix in enumerate(segment.layers):
        row, item = codebook.tokens.decode(matrix.read(*reading.keys[level]))
        alone = set(zip(row.tolist(), item.tolist(), strict=True))
        everything = alone if everything is None else everything & alone
        row, item = reading.candidates(level, places)
        assert set(zip(row.tolist(), item.tolist(), strict=True)) == everything
        # the support is the least count in each of these layers, read cell by cell
        for layer, least in enumerate(reading.supports(slice(level + 1), row, item)):
            assert least.tolist() == [
                cell_by_cell(oracle, segment, reading.keys, layer, place, token)
                for place, token in zip(row.tolist(), item.tolist(), strict=True)
            ]
    assert everything is not None
    assert everything >= {(place, token) for place, context in enumerate(top) for token in top[context]}


@given(st.data())
@settings(deadline=None)
def test_the_longest_layer_that_knows_a_context_answers_it(oracle: Any, data: Any) -> None:
    world = data.draw(oracle.worlds())
    memory = world.memory(data.draw(oracle.split(world.documents)))
    token = st.integers(0, world.configuration.vocabulary - 1)
    prompts = data.draw(st.lists(st.lists(token, max_size=20), max_size=6))
    contexts = oracle.framed(memory, prompts)
    whole = memory.lookup(contexts)
    per_level = [memory.lookup(contexts, deepest=level) for level in range(world.configuration.layers + 1)]
    for place in range(len(prompts)):
        knowing = [level for level, answers in enumerate(per_level) if answers.level[place] == level]
        assert whole.level[place] == max(knowing, default=-1)
        if knowing:
            chosen = per_level[max(knowing)]
            assert whole.token[whole.row == place].tolist() == chosen.token[chosen.row == place].tolist()
            assert whole.support[whole.row == place].tolist() == chosen.support[chosen.row == place].tolist()


@given(st.data())
@settings(deadline=None)
def test_the_best_comes_first(oracle: Any, data: Any) -> None:
    """By support, then by the supports of the shorter contexts, then by token id."""
    world = data.draw(oracle.worlds())
    memory = world.memory()
    levels = range(world.configuration.layers + 1)
    contexts = list(oracle.by_context(oracle.counted(world.configuration, world.documents)[-1]))
    found = [oracle.answered(memory, contexts, deepest=level) for level in levels]
    for place in range(len(contexts)):
        order = list(found[-1][place])
        assert order == sorted(
            order, key=lambda token: (*(-found[level][place][token] for level in reversed(levels)), token)
        )


@pytest.mark.parametrize("seed", [b"a" * 32, b"b" * 32, bytes(32), bytes([255] * 32)])
def test_lightly_filled_memories_answer_exactly_whatever_the_seed(oracle: Any, seed: bytes) -> None:
    rng = np.random.default_rng(11)
    shared = tuple(rng.integers(0, 300, 30).tolist())
    documents = tuple(
        (i, (*shared[: rng.integers(0, 30)], *rng.integers(0, 300, rng.integers(0, 40)).tolist())) for i in range(12)
    )
    configuration = WillshawConfiguration(vocabulary=300, columns=4096, false_recall=1e-6)
    world = oracle.World(configuration, documents, (300, 300, 300, 300))
    memory = world.memory([documents[:7], documents[7:]], seed=seed)
    for level, counts in enumerate(oracle.counted(configuration, documents)):
        truth = oracle.by_context(counts)
        assert oracle.answered(memory, list(truth), deepest=level) == list(truth.values())
    strangers = rng.integers(0, 300, (500, 16))
    known = set(oracle.by_context(oracle.counted(configuration, documents)[1]))
    assert not any(tuple(row[-4:].tolist()) in known for row in strangers)
    assert (memory.lookup(strangers).level <= 0).all()


def test_another_seed_lays_out_other_matrices(oracle: Any) -> None:
    world = oracle.World(WillshawConfiguration(vocabulary=30), ((1, tuple(range(30))),), (20, 20, 20, 20))
    batch = oracle.batch_of(world.documents)
    left, right = world.empty(seed=b"a" * 32), world.empty(seed=b"b" * 32)
    for segment in (left, right):
        segment.add(segment.contribution(batch))
    for ours, theirs in zip(left.matrices, right.matrices, strict=True):
        one, two = (oracle.dense_counts(matrix) > 0 for matrix in (ours, theirs))
        overlap = (one & two).sum() / one.sum()
        assert overlap < 0.2
    assert left.digest() != right.digest()


@given(st.data())
@settings(deadline=None)
def test_every_window_lists_its_documents(oracle: Any, data: Any) -> None:
    world = data.draw(oracle.worlds())
    parts = data.draw(oracle.split(world.documents))
    memory = world.memory(parts)
    holders = [(part, [oracle.windows_of(tokens, world.configuration.window) for _, tokens in part]) for part in parts]
    for _, tokens in world.documents:
        answers = list(memory.documents(np.array(tokens, dtype=np.int64)))
        if len(tokens) < world.configuration.window:
            assert answers == []
            continue
        assert len(answers) == len(parts)
        for (part, windows), (places, symbols) in zip(holders, answers, strict=True):
            found = Counter(zip(places.tolist(), symbols.tolist(), strict=True))
            entries = Counter(symbol for symbol, _ in part)
            for at in range(len(tokens) - world.configuration.window + 1):
                window = tuple(tokens[at : at + world.configuration.window])
                for (symbol, _), held in zip(part, windows, strict=True):
                    if window in held:
                        # two documents that share a symbol are both listed: the catalog tells them apart
                        assert found[at, symbol] == entries[symbol]


def test_a_window_never_spans_two_documents(oracle: Any) -> None:
    world = oracle.World(
        WillshawConfiguration(vocabulary=64, window=4), ((1, (1, 2, 3, 4)), (2, (5, 6, 7, 8))), (64,) * 4
    )
    memory = world.memory()
    (found,) = list(memory.documents(np.arange(1, 9)))
    assert list(zip(found[0].tolist(), found[1].tolist(), strict=True)) == [(0, 1), (4, 2)]


def test_nothing_asked_and_nothing_held(oracle: Any) -> None:
    world = oracle.World(WillshawConfiguration(vocabulary=9), (), (8,) * 4)
    memory = world.memory([])
    assert memory.lookup(oracle.framed(memory, [])).level.tolist() == []
    assert memory.lookup(oracle.framed(memory, [(1,)])).level.tolist() == [-1]
    assert list(memory.documents(np.arange(9))) == []
    memory = world.memory()
    assert memory.lookup(oracle.framed(memory, [])).starts.tolist() == [0]
    assert memory.lookup(oracle.framed(memory, [(1,)])).level.tolist() == [-1]
    assert [places.tolist() for places, _ in memory.documents(np.arange(9))] == [[]]


def test_a_memory_is_the_same_whatever_its_segments_are_called(oracle: Any) -> None:
    world = oracle.World(WillshawConfiguration(vocabulary=9), ((1, (1, 2)), (2, (3,))), (8,) * 4)
    left, right = (
        world.memory(parts) for parts in ([[d] for d in order] for order in (world.documents, world.documents[::-1]))
    )
    assert left.digest() == right.digest()
    assert left.digest() != world.memory().digest()


@given(st.lists(st.lists(st.integers(0, 8), max_size=20), max_size=8))
def test_a_frame_holds_the_last_tokens_after_begin_marks(oracle: Any, rows: list[list[int]]) -> None:
    memory = oracle.World(WillshawConfiguration(vocabulary=9, heads=2, layers=3), (), (8,) * 5).memory([])
    assert oracle.framed(memory, rows).tolist() == [([10] * 8 + row)[-8:] for row in rows]
