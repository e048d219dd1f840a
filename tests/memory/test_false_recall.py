"""Unknown contexts are answered no oftener than promised, where segments are as full as they may be.

Fixed seeds: these are measurements. An answer rate is held against the promise by a binomial test that rejects it where
the promise would be broken with near certainty, and against a floor, so that a memory which is merely half empty (and
would forgive a lost band or a limit set too high) does not pass for one that keeps its word.
"""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from memodb.memory import Backend, Segment, WillshawConfiguration, first_geometry, memory_for
from memodb.memory.codes import context_symbols
from memodb.memory.votes import Tally
from memodb.memory.willshaw import WillshawMatrix

SURE = 1e-6


def filled(oracle: Any, configuration: WillshawConfiguration, ordinal: int, documents: list[Any]) -> Segment:
    """A segment with rows where these documents need them, then filled up until one more would break the promise."""
    memory = memory_for(Backend(), configuration, oracle.SEED)
    batch = oracle.batch_of(documents)
    geometry = first_geometry(configuration, ordinal, batch.tokens.size)
    for spare in (1.0, 1.0, 1.0, 1.005, 1.01, 1.02, 1.04):
        segment = memory.new_segment(geometry)
        segment.add(segment.contribution(batch))
        if spare > 1 and segment.holds():
            break
        geometry = segment.fitted(spare)
    rng = np.random.default_rng(99)
    refused = 0
    while refused < 5:
        words = rng.integers(0, configuration.vocabulary, 40).tolist()
        contribution = segment.contribution(oracle.batch_of([(segment.symbols.size, words)]))
        if segment.holds([contribution]):
            segment.add(contribution)
        else:
            refused += 1
    assert segment.holds()
    return segment


def unknown(segment: Segment, level: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(context, token) answers of one layer alone to n symbols it never stored."""
    rng = np.random.default_rng(seed)
    matrix, codebook = segment.layers[level], segment.codebook
    found = []
    for at in range(0, n, 20_000):
        symbols = rng.integers(0, 2**64, 20_000, dtype=np.uint64)
        row, token = codebook.tokens.decode(matrix.read(*codebook.keys_of(level, symbols, matrix.rows)))
        found.append((row + at, token))
    row, token = (np.concatenate(part) for part in zip(*found, strict=True))
    return row, token


def promised(configuration: WillshawConfiguration, ordinal: int) -> float:
    """The share of the promise that one segment may use: 4/5 of what the segments before it left."""
    return configuration.false_recall * [0.8, 0.16, 0.032][ordinal]


def keeps(answered: int, asked: int, promise: float) -> bool:
    return bool(stats.binomtest(answered, asked, promise, alternative="greater").pvalue > SURE)


STORED = [(5000 + i, tuple(np.random.default_rng(i).integers(0, 3000, 2000).tolist())) for i in range(20)]


@pytest.fixture(scope="module", params=[(0.05, 0), (0.01, 0), (0.05, 1)], ids=["5 %", "1 %", "5 %, second"])
def full(request: pytest.FixtureRequest, oracle: Any) -> tuple[Segment, float]:
    """A full segment of random documents over 3,000 words, and of one phrase that every word may follow."""
    promise, ordinal = request.param
    configuration = WillshawConfiguration(vocabulary=3000, false_recall=promise)

    documents = [(word, (7, 8, 9, 10, word)) for word in range(3000)]
    return filled(oracle, configuration, ordinal, [*documents, *STORED]), promised(configuration, ordinal)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_layer_alone_keeps_the_promise(full: tuple[Segment, float], level: int) -> None:
    segment, promise = full
    row, token = unknown(segment, level, 100_000)
    answered = np.unique(row).size
    bound = 3001 * segment.pass_rates()[level]
    assert bound <= promise
    assert keeps(answered, 100_000, promise)
    assert bound > 0.5 * promise, "not full: this would measure nothing"
    assert answered > 0.3 * promise * 100_000
    # the bound is near: what is measured, token by token, is neither above it nor far below
    spread = np.bincount(np.bincount(row, minlength=100_000)).astype(float)
    deviation = np.sqrt((spread * np.arange(spread.size) ** 2).sum())
    assert 0.55 * bound * 100_000 < token.size < bound * 100_000 + 4 * deviation


def test_unknown_contexts_that_end_in_a_known_phrase(full: tuple[Segment, float]) -> None:
    """The phrase below has thousands of continuations, so the layers below refuse nothing: the top layer must."""
    segment, promise = full
    contexts = np.random.default_rng(1).integers(0, 3000, (100_000, 16))
    contexts[:, -4:] = (7, 8, 9, 10)
    reading = segment.read(context_symbols(contexts, segment.codebook.contexts))
    row, _ = reading.candidates(1, np.arange(1))
    assert row.size >= 3000
    row, _ = reading.candidates(2, np.arange(100_000))
    wrong = np.unique(row).size
    assert keeps(wrong, 100_000, promise)
    assert wrong > 0.3 * promise * 100_000, "the layers below refuse too much: this would measure nothing"


def test_unknown_contexts_that_end_in_any_known_phrase(full: tuple[Segment, float], oracle: Any) -> None:
    """Long contexts made of the ends of stored ones: known to the layer below, never seen as a whole."""
    segment, promise = full
    memory = memory_for(Backend(), segment.codebook.configuration, oracle.SEED)
    memory.segments["0"] = segment
    rng = np.random.default_rng(2)
    contexts = rng.integers(0, 3000, (20_000, 16))
    for context in contexts:
        at = int(rng.integers(4, 2000))
        context[-4:] = STORED[int(rng.integers(0, len(STORED)))][1][at - 4 : at]
    answers = memory.lookup(contexts)
    assert (answers.level >= 1).all()
    assert keeps(int((answers.level == 2).sum()), 20_000, promise)


@pytest.mark.parametrize("continuations", [13, 60, 1000])
@pytest.mark.parametrize("promise", [0.05, 0.01])
def test_small_segments_keep_the_promise_too(oracle: Any, promise: float, continuations: int) -> None:
    """Bands of a dozen rows are not independent: one context fills the same columns in a row of every band."""
    configuration = WillshawConfiguration(vocabulary=3000, heads=2, layers=1, false_recall=promise)
    memory = memory_for(Backend(), configuration, oracle.SEED)
    segment = memory.new_segment(first_geometry(configuration, 0))
    size, count = 64, 0
    while size:
        documents = []
        for number in range(count, count + size):
            phrase = np.random.default_rng(number // continuations).integers(0, 3000, 2).tolist()
            documents.append((number, (*phrase, int(np.random.default_rng([1, number]).integers(0, 3000)))))
        contribution = segment.contribution(oracle.batch_of(documents))
        if segment.holds([contribution]):
            segment.add(contribution)
            count += size
        else:
            size //= 2
    assert max(segment.pass_rates()[:-1]) > 0.9 * segment.limits()[0]
    for level in (0, 1):
        row, _ = unknown(segment, level, 60_000)
        assert keeps(np.unique(row).size, 60_000, promised(configuration, 0))


def test_the_pass_rate_of_a_heavily_loaded_matrix_is_the_measured_one(oracle: Any) -> None:
    """Nearly everything at 80 % fill: g against the absent tokens that pass, in one matrix of evenly spread pairs."""
    configuration = WillshawConfiguration(vocabulary=1000, heads=2, layers=1, false_recall=0.01)
    memory = memory_for(Backend(), configuration, oracle.SEED)
    segment = memory.new_segment(first_geometry(configuration, 0, 60_000))
    rng = np.random.default_rng(4)
    while segment.layers[1].ones.mean() < 0.75 * 512:
        segment.add(segment.contribution(oracle.batch_of([(1, tuple(rng.integers(0, 1000, 4000).tolist()))])))
    assert not segment.holds()
    row, _ = unknown(segment, 1, 40_000)
    each = np.bincount(row, minlength=40_000) / 1001
    g = segment.pass_rates()[1]
    error = each.std() / np.sqrt(each.size)
    assert error < 0.02 * g
    assert each.mean() - 4 * error < g < 1.06 * each.mean() + 4 * error


def test_a_context_with_thousands_of_continuations_is_seen_in_the_rate(oracle: Any) -> None:
    """Its full rows raise the mean of the powers, not the power of the mean: an even fill would promise too much."""
    configuration = WillshawConfiguration(vocabulary=3000, heads=2, layers=0)
    memory = memory_for(Backend(), configuration, oracle.SEED)
    segment = memory.new_segment(first_geometry(configuration, 0, 30_000))
    for number in range(12):
        heavy = np.random.default_rng(number).integers(0, 3000, 600)
        tokens = np.stack([np.full(600, number), heavy], axis=1).ravel()
        segment.add(segment.contribution(oracle.batch_of([(number, tuple(tokens.tolist()))])))
    matrix = segment.layers[0]
    ones = configuration.key_ones(0)
    row, _ = unknown(segment, 0, 200_000)
    each = np.bincount(row, minlength=200_000) / 3001
    even = (matrix.ones.mean() / 512) ** (ones * 4)
    assert each.mean() > 3 * even
    assert each.mean() - 4 * each.std() / np.sqrt(each.size) < segment.pass_rates()[0]


def test_the_promise_is_kept_for_documents_that_are_not_yet_in(oracle: Any) -> None:
    """``holds`` with contributions says what it says after they were added, to the bit."""
    configuration = WillshawConfiguration(vocabulary=500)
    memory = memory_for(Backend(), configuration, oracle.SEED)
    segment = memory.new_segment(first_geometry(configuration, 0, 500))
    rng = np.random.default_rng(6)
    turned = False
    for number in range(30):
        parts = [
            segment.contribution(oracle.batch_of([(number * 3 + i, tuple(rng.integers(0, 500, 30).tolist()))]))
            for i in range(3)
        ]
        held, rates = segment.holds(parts), segment.pass_rates(parts)
        for part in parts:
            segment.add(part)
        assert segment.pass_rates() == rates
        assert segment.holds() == held
        assert segment.false_recall() == pytest.approx(501 * max(rates[:-1]))
        turned = turned or not held
    assert turned


def test_ones_of_nothing_new() -> None:
    matrix = WillshawMatrix(Backend(), 4, 64)
    tally = Tally(np.array([3, 70]), np.array([1, 1]))
    matrix.add(tally)
    assert matrix.ones_with([tally]).tolist() == matrix.ones_with([]).tolist() == [1, 1, 0, 0]
    assert matrix.ones_with([tally, Tally(np.array([4]), np.array([1]))]).tolist() == [2, 1, 0, 0]
