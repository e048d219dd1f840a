"""The compiled kernels against plain NumPy: the same bytes, the same answers in the same order."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import memodb
from memodb.errors import BackendUnavailable, CorruptStore, InvalidConfiguration
from memodb.memory import Answers, Backend, Batch, Best, WillshawConfiguration, backend_for, first_geometry, memory_for
from memodb.memory.backend import FastBackend
from memodb.memory.codes import Keys, _along, context_symbols
from memodb.memory.pairs import distinct
from memodb.memory.votes import Votes
from memodb.memory.willshaw import WillshawMatrix

fast: Any = pytest.importorskip("memodb.memory.fast", reason="numba is not installed", exc_type=ImportError)

SEED = bytes(range(32))
quick = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
ONES = 3
SELECTOR = Keys(SEED).multipliers("rows", ONES // 2 + 1)
CODES = np.array([[value % 3, 128 + 17 * value % 128] for value in range(9)])
"""Of nine values: every third shares its first column."""
OTHERS = CODES + np.array([64, 1])
PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), st.sampled_from([1, 2, 8, 14, 15, 300])), max_size=8)


def alike(ours: WillshawMatrix, theirs: WillshawMatrix) -> None:
    for name in ("cells", "large", "large_counts", "presence", "ones"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


def votes_of(drawn: list[tuple[int, int, int]], codes: np.ndarray = CODES) -> Votes:
    """Pairs (context, value), each so many times."""
    symbols, values = (
        np.repeat([each[i] for each in drawn], [each[2] for each in drawn]).astype(np.int64) for i in (0, 1)
    )
    return Votes(Backend(), symbols.astype(np.uint64), values, codes, SELECTOR, ONES)


@given(st.lists(st.tuples(PAIRS, st.sampled_from(["add", "add", "undo", "subtract"])), max_size=8))
@quick
def test_sums_are_the_same_across_four_bits(steps: list[tuple[list[tuple[int, int, int]], str]]) -> None:
    """Counts that cross 15 in both directions, come back to 0, and subtractions of what is not there."""
    # so many rows that no sum is counted row by row
    ours, theirs = WillshawMatrix(FastBackend(worth=0), 1500, 256), WillshawMatrix(Backend(), 1500, 256)
    added: list[list[tuple[int, int, int]]] = []
    for drawn, verb in steps:
        undone = verb == "undo" and bool(added)
        votes = votes_of(added.pop() if undone else drawn)
        counted = votes.tally(1500, 256)
        assert np.array_equal(ours.ones_with([votes, counted, votes]), theirs.ones_with([counted]))
        alike(ours, theirs)
        if verb == "add":
            ours.add(votes)
            theirs.add(votes)
            added.append(drawn)
        else:
            refused = []
            for matrix in (ours, theirs):
                try:
                    matrix.subtract(votes)
                except CorruptStore:
                    refused.append(matrix)
            assert len(refused) in (0, 2)
            assert not (undone and refused)
            if verb == "subtract" and not refused:
                added = [[]]  # what is left of them is no longer known
        alike(ours, theirs)


@given(st.lists(st.lists(PAIRS, min_size=1, max_size=3), min_size=1, max_size=4), st.data())
@quick
def test_sums_are_the_same_row_by_row(steps: list[list[list[tuple[int, int, int]]]], data: Any) -> None:
    """Several parts at once, with codes that they share or have alone, on counts that are there and beyond 15."""
    ours, theirs = WillshawMatrix(FastBackend(worth=0), 6, 256), WillshawMatrix(Backend(), 6, 256)
    for drawn in steps:
        parts = [votes_of(pairs, data.draw(st.sampled_from([CODES, OTHERS]))) for pairs in drawn]
        ours.add(*parts)
        for part in parts:
            theirs.add(part.tally(6, 256))
        alike(ours, theirs)


def test_many_are_counted_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they hit a sixteenth of the cells, and no count can go beyond 32 bits."""
    calls: list[str] = []

    def watched(name: str, kernel: Any) -> Any:
        def called(*given: Any) -> Any:
            calls.append(name)
            return kernel(*given)

        return called

    for name in ("add", "add_many"):
        monkeypatch.setattr(fast, name, watched(name, getattr(fast, name)))
    few, many = votes_of([(1, 1, 15)]), votes_of([(1, 1, 16)])
    assert few.hits * 16 < 6 * 256 <= many.hits * 16
    matrix = WillshawMatrix(FastBackend(worth=0), 6, 256)
    matrix.add(few)
    matrix.add(many)
    matrix.add(few, many)
    assert calls == ["add", "add_many", "add_many"]
    plain = WillshawMatrix(Backend(), 6, 256)
    plain.add(votes_of([(1, 1, 62)]))
    alike(matrix, plain)
    matrix.large_counts[0] = (1 << 31) - 40
    matrix.add(many)
    assert calls[3:] == ["add"]
    assert matrix.large_counts[0] == (1 << 31) - 24
    matrix.add(votes_of([(1, 1, 40)]).tally(6, 256))
    assert matrix.large_counts[0] == (1 << 31) + 16


def test_a_table_that_was_made_anew_is_not_the_one_before() -> None:
    """Large counts that came by ones, then all at once by others, then by ones again."""
    ours, theirs = WillshawMatrix(FastBackend(worth=0), 1500, 256), WillshawMatrix(Backend(), 1500, 256)
    for matrix in (ours, theirs):
        matrix.add(votes_of([(1, 1, 300)]))
        held = [array.copy() for array in matrix.state().values()]
        matrix.add(votes_of([(2, 2, 300), (3, 3, 300)]))
        matrix.restore(*held)
        matrix.add(votes_of([(2, 4, 300)]))
    assert ours.large.size == 12
    alike(ours, theirs)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)), max_size=60), st.booleans())
@quick
def test_pairs_are_told_apart_the_same(drawn: list[tuple[int, int, int]], in_order: bool) -> None:
    """Symbols that differ in their highest bits alone, and in their lowest; documents in one piece, or in several."""
    if in_order:
        drawn = sorted(drawn, key=lambda each: each[2])
    symbols = np.array([(each[0] >> 1) << 63 | each[0] & 1 for each in drawn], dtype=np.uint64)
    values, documents = (np.array([each[i] for each in drawn], dtype=np.int64) for i in (1, 2))
    ours = distinct(FastBackend(worth=0), symbols, values, documents)
    theirs = distinct(Backend(), symbols, values, documents)
    assert ours.tolist() == [at for at, each in enumerate(drawn) if each not in drawn[:at]]
    assert {drawn[at] for at in ours} == {drawn[at] for at in theirs}
    assert ours.size == theirs.size


@given(st.integers(1, 5000), st.integers(1, 5), st.integers(1, 40), st.randoms(use_true_random=False))
@quick
def test_the_same_symbols_are_composed(size: int, parts: int, width: int, random: Any) -> None:
    """Streams longer and shorter than what is made together, and too short for any symbol."""
    below = np.random.default_rng(random.getrandbits(32)).integers(0, 2**64, size, dtype=np.uint64)
    multipliers = Keys(SEED).multipliers("parts", parts)
    ours, theirs = (_along(below, width, multipliers, kernels) for kernels in (fast, None))
    assert ours.dtype == theirs.dtype
    assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("differing", [0, 1, 2])
def test_pairs_that_differ_in_one_thing_are_apart(differing: int) -> None:
    """So many that their hashes meet."""
    every = [np.zeros(2048, dtype=np.uint64), np.zeros(2048, dtype=np.int64), np.zeros(2048, dtype=np.int64)]
    every[differing] = np.tile(np.arange(1024), 2).astype(every[differing].dtype)
    assert distinct(FastBackend(worth=0), *every).tolist() == list(range(1024))


@pytest.mark.parametrize("held", [1, 14, 15, 16, 300])
def test_a_refused_subtraction_leaves_every_byte(held: int) -> None:
    """The first pairs are there, a later one is not, or not so often: below 15 and in the table beyond it."""
    matrix = WillshawMatrix(FastBackend(worth=0), 6, 256)
    matrix.add(votes_of([(1, 1, held), (2, 2, 14), (3, 3, 1)]))
    before = {name: array.copy() for name, array in matrix.state().items()}
    presence, ones = matrix.presence.copy(), matrix.ones.copy()
    for wrong in ([(3, 3, 1), (2, 2, 14), (1, 1, held + 1)], [(2, 2, 1), (1, 1, held), (4, 4, 1)], [(3, 0, 1)]):
        with pytest.raises(CorruptStore, match="should forget"):
            matrix.subtract(votes_of(wrong))
        for name, array in matrix.state().items():
            assert np.array_equal(array, before[name])
        assert np.array_equal(matrix.presence, presence)
        assert np.array_equal(matrix.ones, ones)


def test_a_memory_that_refuses_in_one_matrix_keeps_all(oracle: Any) -> None:
    configuration = WillshawConfiguration(vocabulary=9, heads=2, layers=2, window=2)
    memory = memory_for(FastBackend(worth=0), configuration, SEED)
    segment = memory.new_segment(first_geometry(configuration, 0, 500))
    contribution = segment.contribution(Batch.of([(7, np.arange(3000) % 9)]))
    segment.add(contribution)
    digest = segment.digest()
    for index in range(len(segment.matrices)):
        symbols, values, *rest = contribution.votes[index].pairs
        more = Votes(memory.backend, np.append(symbols, np.uint64(5)), np.append(values, 0), *rest)
        votes = (*contribution.votes[:index], more, *contribution.votes[index + 1 :])
        with pytest.raises(CorruptStore, match="should forget"):
            segment.subtract(replace(contribution, votes=votes))
        assert segment.digest() == digest
        for matrix in segment.matrices:
            oracle.assert_views(matrix)
    segment.subtract(contribution)
    assert not any(matrix.cells.any() for matrix in segment.matrices)


@given(st.data())
@quick
def test_answers_are_the_same_in_the_same_order(oracle: Any, data: Any) -> None:
    world = data.draw(oracle.worlds(most=6))
    number = data.draw(st.integers(1, 3))  # segments
    parts = [list(world.documents[at::number]) for at in range(number)]
    ours, theirs = world.memory(parts, FastBackend(worth=0)), world.memory(parts)
    assert ours.digest() == theirs.digest()
    longest = world.configuration.longest
    stored = np.concatenate([np.array(tokens, dtype=np.int64) for _, tokens in world.documents] or [np.zeros(0, int)])
    contexts = ours.framed(np.tile(stored, 2), np.array([stored.size, stored.size]))
    every = [stored[max(0, at - longest) : at] for at in range(stored.size)]
    lengths = np.array([len(row) for row in every], dtype=np.int64)
    contexts = np.concatenate([contexts, ours.framed(np.concatenate([*every, stored[:0]]), lengths)])
    for deepest in (None, 0, world.configuration.layers):
        same(ours.lookup(contexts, deepest), theirs.lookup(contexts, deepest))
        for most in (1, 3):
            same(ours.best(contexts, most, deepest), theirs.best(contexts, most, deepest))
    for _ in range(20):
        asked = contexts[data.draw(st.integers(0, len(contexts) - 1))]
        token = data.draw(st.integers(0, world.configuration.end))
        level = data.draw(st.integers(0, world.configuration.layers))
        assert ours.follows(asked, token, level) == theirs.follows(asked, token, level)
    for mine, other in zip(ours.documents(stored), theirs.documents(stored), strict=True):
        assert all(np.array_equal(one, two) for one, two in zip(mine, other, strict=True))


def test_documents_of_crowded_windows_are_the_same() -> None:
    """Thousands of documents that share a window, and a few that do not."""
    configuration = WillshawConfiguration(vocabulary=50, window=3)
    shared = np.array([1, 2, 3, 4])
    documents = [(number * 7 + 1, np.append(shared, number % 40)) for number in range(2500)]
    found = []
    for backend in (FastBackend(worth=0), Backend()):
        memory = memory_for(backend, configuration, SEED)
        segment = memory.new_segment(first_geometry(configuration, 0, 13_000))
        segment.add(segment.contribution(Batch.of(documents)))
        memory.segments["a"] = segment
        found.append(next(memory.documents(np.concatenate([shared, np.arange(20, 40), shared]))))
    (ours, symbols), (theirs, others) = found
    assert np.array_equal(ours, theirs)
    assert np.array_equal(symbols, others)
    assert np.bincount(ours)[0] >= 2500


def first(whole: Answers, most: int) -> Best:
    """The first of each context's candidates, one by one."""
    best = Best.nothing(whole.level.size, most)
    for place in range(whole.level.size):
        its = np.flatnonzero(whole.row == place)[:most]
        best.token[place, : its.size], best.support[place, : its.size] = whole.token[its], whole.support[its]
    return Best(best.token, best.support, whole.level, whole.total)


def same(ours: Any, theirs: Any) -> None:
    for name, array in vars(ours).items():
        assert np.array_equal(array, getattr(theirs, name)), name


@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize(
    "settings", [{}, {"heads": 2, "layers": 0}, {"heads": 3, "layers": 3}, {"ones": 2, "columns": 256}]
)
def test_a_crowd_of_candidates_is_ranked_the_same(settings: dict[str, int], segments: int) -> None:
    """Thousands of candidates of one context, supports above four bits, and batches that go to several threads."""
    configuration = WillshawConfiguration(vocabulary=3000, **settings)
    generator = np.random.default_rng(1)
    common = [(number + 1, np.array([7, 8, 9, 7, number % 40])) for number in range(700)]
    crowd = [(1000 + number, np.array([7, number])) for number in range(3000)]
    # many continuations of each length of context, some of them common
    crowd += [(20_000 + number, np.array([5] * 27 + [6, 7, 8, number % 2500])) for number in range(3000)]
    prose = [(9000 + number, generator.zipf(1.3, 600) % 3000) for number in range(6)]
    memories = []
    for backend in (FastBackend(worth=0), Backend()):
        memory = memory_for(backend, configuration, SEED)
        for number in range(segments):
            segment = memory.new_segment(first_geometry(configuration, number))
            for documents in (common, crowd, prose):
                segment.add(segment.contribution(Batch.of(documents[number::segments])))
            segment.subtract(segment.contribution(Batch.of(common[number:100:segments])))
            memory.segments[f"{number}"] = segment
        memories.append(memory)
    ours, theirs = memories
    assert ours.digest() == theirs.digest()
    longest = configuration.longest
    text = np.concatenate([np.full(longest, configuration.begin), *(tokens for _, tokens in prose)])
    contexts = np.lib.stride_tricks.sliding_window_view(text, longest)[:-1]
    after = np.array([5] * 27 + [6, 7, 8])
    contexts = np.concatenate([contexts, ours.framed(after, np.array([30])), ours.framed(after[-4:], np.array([4]))])
    contexts = np.concatenate([contexts, ours.framed(np.array([7, 9, 7]), np.array([1, 2]))])
    assert len(contexts) > 2048
    same(ours.lookup(contexts), theirs.lookup(contexts))
    same(ours.best(contexts, 70), theirs.best(contexts, 70))
    assert ours.lookup(contexts[-2:-1]).row.size > 2000
    same(ours.lookup(contexts[:0]), theirs.lookup(contexts[:0]))


def test_the_best_few_are_those_of_the_whole_list() -> None:
    """However few are asked for, the best come in their order, and the total is of all."""
    generator = np.random.default_rng(5)
    documents = [(number + 1, np.append(generator.zipf(1.4, 40) % 500, number % 400)) for number in range(900)]
    configuration = WillshawConfiguration(vocabulary=500)
    for backend in (FastBackend(worth=0), Backend()):
        memory = memory_for(backend, configuration, SEED)
        segment = memory.new_segment(first_geometry(configuration, 0, 30_000))
        segment.add(segment.contribution(Batch.of(documents)))
        memory.segments["a"] = segment
        contexts = memory.framed(np.arange(500), np.ones(500, dtype=np.int64))
        whole = memory.lookup(contexts, 0)
        assert np.array_equal(whole.total, np.bincount(whole.row, weights=whole.support, minlength=500))
        assert np.diff(whole.starts).max() > 150
        assert ((np.diff(whole.starts) > 3) & (np.diff(whole.starts) < 20)).sum() > 50
        for most in (1, 3, 64, 65, 100):
            same(memory.best(contexts, most, 0), first(whole, most))


@pytest.mark.parametrize("backend", [FastBackend(worth=0), Backend()], ids=["fast", "plain"])
def test_ties_are_broken_where_the_candidate_is(backend: Backend) -> None:
    """By the shorter context in the segments that answer the token to the longer one, and in no others."""
    configuration = WillshawConfiguration(vocabulary=20, heads=2, layers=1, columns=4096)
    memory = memory_for(backend, configuration, SEED)
    x, y, z, a, b, c = 1, 2, 3, 4, 5, 6
    parts = [[(x, y, a), (x, y, b)], [(x, y, c), (z, y, b), (z, y, b)]]
    for number, texts in enumerate(parts):
        segment = memory.new_segment(first_geometry(configuration, number, 1000))
        documents = [(10 * number + place + 1, np.array(text)) for place, text in enumerate(texts)]
        segment.add(segment.contribution(Batch.of(documents)))
        memory.segments[str(number)] = segment
    asked = memory.framed(np.array([x, y]), np.array([2]))
    assert memory.best(asked, 3).token.tolist() == [[a, b, c]]
    assert memory.lookup(asked).token.tolist() == [a, b, c]


FOLLOWERS = st.lists(
    st.sampled_from([-1, 0, 1, 6, 7, 8, 13, 14, 15, 30, 60, 253, 254, 255, 300]), min_size=4, max_size=4
)
"""Of four tokens, how many texts have each behind another context that ends alike; -1: it is not behind this one."""


@pytest.mark.parametrize("backend", [FastBackend(worth=0), Backend()], ids=["fast", "plain"])
@given(st.lists(FOLLOWERS, min_size=1, max_size=3))
@example([[30, 8, -1, -1], [0, 8, -1, -1]])  # more than 15 and 1, and 9 and 9
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_ties_are_broken_by_counts_of_any_size(backend: Backend, drawn: list[list[int]]) -> None:
    """Of four bits and beyond, in one segment and in several."""
    configuration = WillshawConfiguration(vocabulary=20, heads=2, layers=1, columns=4096)
    memory = memory_for(backend, configuration, SEED)
    x, y, z, tokens = 1, 2, 3, (7, 6, 5, 4)
    above, below = dict.fromkeys(tokens, 0), dict.fromkeys(tokens, 0)
    for number, followers in enumerate(drawn):
        texts = []
        for token, times in zip(tokens, followers, strict=True):
            if times >= 0:
                texts += [(x, y, token)] + [(z, y, token)] * times
                above[token] += 1
                below[token] += times + 1
        if texts:
            segment = memory.new_segment(first_geometry(configuration, number, 1000))
            documents = [(1000 * number + place + 1, np.array(text)) for place, text in enumerate(texts)]
            segment.add(segment.contribution(Batch.of(documents)))
            memory.segments[str(number)] = segment
    expected = sorted((token for token in tokens if above[token]), key=lambda t: (-above[t], -below[t], t))
    asked = memory.framed(np.array([x, y]), np.array([2]))
    assert memory.best(asked, 4).token[0].tolist() == expected + [-1] * (4 - len(expected))
    assert memory.lookup(asked).token.tolist() == expected


@pytest.mark.parametrize("backend", [FastBackend(worth=0), Backend()], ids=["fast", "plain"])
def test_a_token_follows_where_all_layers_of_one_segment_say_so(backend: Backend, oracle: Any) -> None:
    """In matrices so full that each layer answers much that was never stored."""
    configuration = WillshawConfiguration(vocabulary=40, heads=2, layers=2, columns=256, false_recall=0.5)
    generator = np.random.default_rng(3)
    documents = tuple((number + 1, tuple(generator.integers(0, 40, 60).tolist())) for number in range(20))
    memory = oracle.World(configuration, documents, (6, 6, 6, 6)).memory([documents[:9], documents[9:]], backend)
    contexts = memory.framed(generator.integers(0, 40, 24), np.full(6, 4))
    symbols = context_symbols(contexts, memory.codebook.contexts)
    alone = 0
    for level in range(3):
        expected, top = (
            np.zeros((6, configuration.answers), dtype=bool),
            np.zeros((6, configuration.answers), dtype=bool),
        )
        for segment in memory.segments.values():
            reading = segment.read(symbols)
            expected[reading.candidates(level, np.arange(6))] = True
            top[memory.codebook.tokens.decode(segment.layers[level].read(*reading.keys[level]))] = True
        alone += int((top & ~expected).sum())
        found = [[memory.follows(row, token, level) for token in range(configuration.answers)] for row in contexts]
        assert np.array_equal(found, expected)
    assert alone > 20


def test_a_memory_of_nothing_answers_nothing() -> None:
    """Also where kernels are at hand: they are told of matrices, and there are none."""
    for backend in (FastBackend(worth=0), Backend()):
        memory = memory_for(backend, WillshawConfiguration(vocabulary=9, heads=2, layers=1), SEED)
        contexts = memory.framed(np.array([1, 2]), np.array([2]))
        assert not memory.lookup(contexts).token.size
        assert memory.best(contexts, 2).token.tolist() == [[-1, -1]]
        assert not memory.follows(contexts[0], 3, 0)


def test_they_are_imported_when_that_is_worth_it(in_process: Any) -> None:
    source = (
        "from memodb.memory.backend import Backend, FastBackend\n"
        "one, other = FastBackend(worth=100), FastBackend(worth=100)\n"
        "found = [one.kernels_for(work) is None for work in (60, 40, 1, 0)]\n"
        "print(found, other.kernels_for(0) is None, Backend().kernels_for(10**9) is None)"
    )
    assert in_process(source).strip() == "[True, True, False, False] False True"


def test_a_process_that_does_little_imports_no_numba(in_process: Any) -> None:
    source = (
        "import sys, memodb\n"
        "with memodb.connect(':memory:') as db:\n"
        "    db.append('The sky over the harbour was the colour of slate.')\n"
        "    assert db.complete('The sky over the').steps\n"
        "print('numba' in sys.modules)"
    )
    assert in_process(source).strip() == "False"


def test_a_store_answers_the_same_with_and_without(tmp_path: Path, prose: Any) -> None:
    texts = [prose(300, seed) for seed in range(12)]
    with memodb.connect(tmp_path / "s", seed=SEED, fast=True) as db:
        db.append_many({"id": f"{number}", "text": text} for number, text in enumerate(texts))
        db.delete("3")
        compiled, digest = answered(db, texts), db.digest()
    with memodb.connect(tmp_path / "s", fast=False) as db:
        assert db.check().ok
        assert db.digest() == digest
        assert compiled == answered(db, texts)


def answered(db: memodb.Store, texts: list[str]) -> Any:
    return [db.next_tokens(text[:80]) for text in texts], db.complete(texts[5][:40]), db.score(texts[6])


def test_machine_code_that_cannot_be_kept_is_made_again(in_process: Any) -> None:
    source = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "import numpy as np\n"
        "from memodb.memory import fast\n"
        "words, ones = np.zeros(8, dtype=np.uint64), np.zeros(2, dtype=np.int32)\n"
        "pair = np.array([1], dtype=np.uint64), np.array([0]), np.array([[3, 200]], dtype=np.int16)\n"
        "fast.ones_with(words, ones, 256, *pair, np.array([1, 3, 5], dtype=np.uint64), 1)\n"
        "print(int(ones.sum()))"
    )
    assert in_process(source).strip() == "2"


def test_machine_code_is_made_again_where_any_source_is_another(tmp_path: Path) -> None:
    """Kernels are made of several files; numba looks at one."""
    shutil.copytree(Path(memodb.__file__).parent, tmp_path / "memodb", ignore=shutil.ignore_patterns("__pycache__"))
    source = (
        "import numpy as np\n"
        "from memodb.memory import fast\n"
        "words, ones = np.zeros(8, dtype=np.uint64), np.zeros(2, dtype=np.int32)\n"
        "pair = np.array([1], dtype=np.uint64), np.array([0]), np.array([[3, 200]], dtype=np.int16)\n"
        "fast.ones_with(words, ones, 256, *pair, np.array([1, 3, 5], dtype=np.uint64), 1)\n"
        "print(sum(fast.ones_with.stats.cache_hits.values()), fast.__file__)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment["PYTHONPATH"] = str(tmp_path)
    found = []
    for changed in (None, None, "fast/compiling.py", None, "codes.py"):
        if changed:
            with (tmp_path / "memodb" / "memory" / changed).open("a") as file:
                file.write("# changed\n")
        command = [sys.executable, "-c", source]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120)
        assert str(tmp_path) in done.stdout, done.stderr
        found.append(done.stdout.split()[0])
    assert found == ["0", "1", "0", "1", "0"]


def test_fast_is_taken_where_it_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(backend_for("cpu"), FastBackend)
    assert isinstance(backend_for("cpu", fast=True), FastBackend)
    assert type(backend_for("cpu", fast=False)) is Backend
    with pytest.raises(InvalidConfiguration, match="fast"):
        backend_for("cpu", fast="yes")  # type: ignore[arg-type]
    monkeypatch.setattr("memodb.memory.backend.importlib.util.find_spec", lambda name: None)
    assert type(backend_for("cpu")) is Backend
    with pytest.raises(BackendUnavailable, match=r"memodb\[fast\]"):
        backend_for("cpu", fast=True)
