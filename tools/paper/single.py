"""Table 1: how many pairs one matrix holds.

The authors' protocol. A key is h token vectors of d_in / h numbers side by side, a value a vector of d_out numbers;
both are drawn for each of 100,000 tokens, independently. Batches of 1,000 pairs of evenly random tokens are stored,
until the mean of the accuracies on the first batch and on the current one (in the first step the current one alone)
is no longer above 0.9; all pairs that were stored count, the last batch too. There are no projections in this table.

Reading is what takes the time, and where the accuracy is far above 0.9 the answer is known: scores of absent values
are normal with variance N / (d_in d_out), so with the true one at 1

    P(correct) = E_z[ Phi(1 / sigma + z)^(V - 1) ]

The accuracy is measured only where this is below 0.95. Of 2,000 answers that are each right with probability 0.95 no
more than nine tenths are right by chance at 10 standard errors. The formula was seen to be too high by up to 0.02
with Gaussian codes, whose norms vary, which leaves 5: the stop is that of the whole protocol. The accuracy at the
first step that was measured is recorded, to see that it was far enough from 0.9.

The counting matrix stores the same pairs: the context's symbol selects s rows, the token q columns. Its shape is the
one that capacity.py says holds the most pairs in the cells given. One that is read wrongly in a tenth of all cases
has 0.2 false candidates a context on average, since of two with equal counts the lower id wins.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from memodb.memory.backend import Backend
from memodb.memory.capacity import even_pass_rate, expected_fill, measured_pass_rate
from memodb.memory.codes import ContextKeys, Keys, block_codes, context_symbols, select_columns, select_rows
from memodb.memory.decoding import CodeTable
from memodb.memory.kohonen import correlated, dense
from memodb.memory.votes import Votes
from memodb.memory.willshaw import WillshawMatrix
from paper.decoding import hits

__all__ = ["Counting", "Filled", "Setting", "Shape", "best_shape", "fill_up", "linear", "predicted_accuracy"]

Ids = npt.NDArray[np.int64]

LIMIT = 0.9
MEASURED_BELOW = 0.95

FALSE_CANDIDATES = 0.2
"""Mean number of false candidates at which a tenth of the answers is wrong."""

UNKNOWN = 10_000
"""Contexts never stored that are asked for."""


@dataclass(frozen=True)
class Setting:
    """A line of the authors' file."""

    heads: int
    d_in: int
    d_out: int
    vocabulary: int = 100_000
    batch: int = 1000

    @property
    def cells(self) -> int:
        return self.d_in * self.d_out


@dataclass(frozen=True)
class Filled:
    """Where a memory stopped, and the mean accuracy at the first step that was measured and at the last."""

    pairs: int
    opened_at: int
    opening: float
    closing: float
    seconds: float


Answer = Callable[[Ids, Ids], float]


def fill_up(
    setting: Setting, seed: int, store: Callable[[Ids, Ids], None], accuracy: Answer, predicted: Callable[[int], float]
) -> Filled:
    """The stop rule: store batches until the mean accuracy is no longer above 0.9.

    Parameters
    ----------
    store, accuracy : callables of contexts int64 (n, h) and next tokens int64 (n,)
    predicted : callable
        Accuracy expected with so many pairs stored: as long as it is high, nothing is asked.
    """
    draw = np.random.default_rng(seed)
    began = time.perf_counter()
    pairs, first, opened = 0, None, None
    while True:
        contexts = draw.integers(0, setting.vocabulary, (setting.batch, setting.heads))
        following = draw.integers(0, setting.vocabulary, setting.batch)
        store(contexts, following)
        pairs += setting.batch
        if first is None:
            first = contexts, following
        if predicted(pairs) >= MEASURED_BELOW:
            continue
        mean = accuracy(contexts, following)
        if pairs > setting.batch:
            mean = (mean + accuracy(*first)) / 2
        if opened is None:
            opened = pairs, mean
        if mean <= LIMIT:
            return Filled(pairs, *opened, mean, time.perf_counter() - began)


def predicted_accuracy(setting: Setting, pairs: int) -> float:
    """E_z[Phi(1 / sigma + z)^(V - 1)], by Gauss and Hermite's quadrature.

    The true value's own score varies by its norms too: 2 / d_in + 2 / d_out are added to its variance.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    sigma = np.sqrt(pairs / setting.cells)
    spread = np.sqrt(1 + (2 / setting.d_in + 2 / setting.d_out) / sigma**2)
    passed = np.exp((setting.vocabulary - 1) * log_ndtr(1 / sigma + spread * nodes))
    return float(weights @ passed / weights.sum())


def linear(setting: Setting, codes: str, seed: int) -> Filled:
    """The paper's matrix, filled until it fails."""
    backend, keys = Backend(), Keys(b"single" + seed.to_bytes(26, "little"))
    parts = dense(backend, keys, "keys", setting.vocabulary, setting.d_in // setting.heads, codes)
    values = dense(backend, keys, "values", setting.vocabulary, setting.d_out, codes)
    matrix = np.zeros((setting.d_in, setting.d_out), dtype=np.float32)

    def store(contexts: Ids, following: Ids) -> None:
        nonlocal matrix
        matrix += correlated(parts[contexts].reshape(len(contexts), -1), values[following])

    def accuracy(contexts: Ids, following: Ids) -> float:
        return hits(parts[contexts].reshape(len(contexts), -1) @ matrix, following, values)

    return fill_up(setting, seed, store, accuracy, lambda pairs: predicted_accuracy(setting, pairs))


@dataclass(frozen=True)
class Shape:
    """Of a counting matrix, and the pairs it is expected to hold."""

    rows: int
    columns: int
    key_ones: int
    value_ones: int
    pairs: int

    def false_candidates(self, pairs: float, vocabulary: int) -> float:
        """Expected number of tokens, of all but the true one, that are read too at a context that was stored.

        The true token's columns are set in all of the context's rows, so a token that shares j of the q columns has
        only q - j left to fail in. At an unknown context there is no true token, and only j = 0 counts.
        """
        fill = expected_fill(pairs, self.rows, self.columns, self.key_ones, self.value_ones)
        shared = self.value_ones / self.columns  # chance that a column of a block is the true token's
        expected = 0.0
        for left in range(self.value_ones + 1):
            j = self.value_ones - left
            tokens = (vocabulary - 1) * math.comb(self.value_ones, j) * shared**j * (1 - shared) ** left
            expected += tokens * (even_pass_rate(fill, self.rows, self.key_ones, left) if left else 1.0)
        return expected


def best_shape(cells: int, vocabulary: int) -> Shape:
    """The shape within these cells that holds the most pairs before a tenth of them is read wrongly."""
    shapes = []
    for columns in (256, 512, 1024, 2048, 4096):
        for value_ones in (2, 4):
            for key_ones in range(2, 24 // value_ones + 1):
                rows = cells // columns // key_ones * key_ones
                if rows >= 8 * key_ones:
                    shapes.append(_filled(Shape(rows, columns, key_ones, value_ones, 0), vocabulary))
    return max(shapes, key=lambda shape: shape.pairs)


def _filled(shape: Shape, vocabulary: int) -> Shape:
    few, many = 0, shape.rows * shape.columns
    while many - few > 1:
        middle = (few + many) // 2
        if shape.false_candidates(middle, vocabulary) <= FALSE_CANDIDATES:
            few = middle
        else:
            many = middle
    return Shape(shape.rows, shape.columns, shape.key_ones, shape.value_ones, few)


class Counting:
    """A counting matrix of contexts of h tokens, made of the engine's own parts."""

    def __init__(self, setting: Setting, shape: Shape, seed: int) -> None:
        self.backend = Backend()
        self.setting, self.shape = setting, shape
        keys = Keys(b"single" + seed.to_bytes(26, "little"))
        self._contexts = ContextKeys.derive(keys, setting.heads, 1, 2)
        self._selectors = keys.multipliers("rows", shape.key_ones // 2 + 1)
        tokens = keys.multipliers("tokens", shape.value_ones // 2 + 1)
        codes = block_codes(np.arange(setting.vocabulary, dtype=np.uint64), tokens, shape.columns, shape.value_ones)
        self._tokens = CodeTable(self.backend, codes, shape.columns)
        self.matrix = WillshawMatrix(self.backend, shape.rows, shape.columns)

    def _keys(self, contexts: Ids) -> tuple[Ids, Ids]:
        symbols = context_symbols(contexts, self._contexts)[1]
        return select_rows(symbols, self._selectors, self.shape.rows, self.shape.key_ones, self.shape.columns)

    def store(self, contexts: Ids, following: Ids) -> None:
        symbols = context_symbols(contexts, self._contexts)[1]
        ones = self.shape.key_ones
        self.matrix.add(Votes(self.backend, symbols, following, self._tokens.codes, self._selectors, ones))

    def best(self, contexts: Ids) -> Ids:
        """The candidate with the highest count, of equals the lowest id; -1 where there is none: int64 (n,)."""
        rows, rotation = self._keys(contexts)
        place, token = self._tokens.decode(self.matrix.read(rows, rotation))
        columns = select_columns(self._tokens.codes[token], rotation[place], self.shape.columns)
        support = self.matrix.support(rows[:, place], columns)
        order = np.lexsort((token, -support, place))
        answered, first = np.unique(place[order], return_index=True)
        found = np.full(len(contexts), -1)
        found[answered] = token[order][first]
        return found

    def accuracy(self, contexts: Ids, following: Ids) -> float:
        return float((self.best(contexts) == following).mean())

    def false_recall(self, seed: int, asked: int = UNKNOWN) -> tuple[float, float]:
        """Bound and measurement: unknown contexts to which anything is answered."""
        draw = np.random.default_rng(seed + 1_000_003)
        answered = sum(
            int((self.best(draw.integers(0, self.setting.vocabulary, (1000, self.setting.heads))) >= 0).sum())
            for _ in range(asked // 1000)
        )
        shape = self.shape
        rate = measured_pass_rate(self.matrix.ones, shape.key_ones, shape.columns, shape.value_ones)
        return float(-np.expm1(-self.setting.vocabulary * rate)), answered / (asked // 1000 * 1000)

    @property
    def fill(self) -> float:
        return float(self.matrix.ones.sum()) / (self.shape.rows * self.shape.columns)
