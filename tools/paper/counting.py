"""The engine ``willshaw`` in a given number of cells, for the tables that compare it with MeMo's d x d matrix.

A counting cell is one presence bit, which is all that a lookup reads to find the candidates, and one 8-bit counter,
which ranks them and makes deletion exact; MeMo's cell is a float32. So two sizes are compared: as many *cells* as
MeMo's output matrix, d^2, and as many *bits*, 32 d^2 presence bits. MeMo's intermediate matrices and its codebook are
not counted, and neither is the provenance layer, which MeMo does not have.

The stack has layers 0..l, as the engine always has. Its keys are the engine's own where there is room. Where there is
not, they are thinned evenly, down to as many ones as leave half of the cells empty when all is stored, but to no
fewer than 5 in all layers together: 20 ones a pair are what singles out one of 50,000 tokens at half fill.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from memodb.memory import Backend, Batch, Geometry, WillshawConfiguration
from memodb.memory.willshaw_memory import WillshawMemory, WillshawSegment
from paper.single import Shape

__all__ = ["Asked", "Counting", "Thinned"]

Ids = npt.NDArray[np.int64]

LEAST_ONES = 5
VALUE_ONES = 4

_CANDIDATES_AT_ONCE = 1 << 20
"""Candidates that are ranked in one step: an over-full memory answers tens of thousands to every context."""

_CROWDED = 4
_FEW = 200, 1000
"""Of a memory with more candidates a context than this, so many contexts are asked, drawn at random: the fewer while
their candidates are more than fit in one step."""


@dataclass(frozen=True)
class Thinned(WillshawConfiguration):
    """The engine's configuration with other numbers of ones in its keys.

    Parameters
    ----------
    key_sizes : tuple of int
        s of layers 0..l.
    """

    key_sizes: tuple[int, ...] = ()

    def key_ones(self, level: int) -> int:
        return self.key_sizes[level]


@dataclass(frozen=True)
class Asked:
    """Answers to contexts that were stored.

    Parameters
    ----------
    accuracy : float
        Share whose first candidate is the true token.
    candidates : float
        Mean number of candidates.
    positions : int
        Contexts that were asked.
    """

    accuracy: float
    candidates: float
    positions: int


def thinned(vocabulary: int, heads: int, layers: int, cells: int, pairs: int) -> tuple[Thinned, int]:
    """The configuration for ``pairs`` pairs a layer in ``cells`` cells, and the rows of a band."""
    own = WillshawConfiguration(vocabulary=vocabulary, heads=heads, layers=layers, ones=VALUE_ONES)
    room = int(math.log(2) * cells / (VALUE_ONES * pairs))
    total = max(LEAST_ONES, min(room, sum(own.layer_ones)), layers + 1)
    # the largest remainders get the ones that rounding down leaves; of equal ones the longest context
    exact = [ones * total / sum(own.layer_ones) for ones in own.layer_ones]
    sizes = [max(1, int(share)) for share in exact]
    order = sorted(range(layers + 1), key=lambda level: (exact[level] - int(exact[level]), level), reverse=True)
    for turn in range(total - sum(sizes)):
        sizes[order[turn % len(order)]] += 1
    while sum(sizes) > total:
        sizes[sizes.index(max(sizes))] -= 1
    held = min(pairs, math.log(2) * cells / (VALUE_ONES * total))

    def shape(columns: int) -> Shape:
        return Shape(cells // (columns * total) * total, columns, total, VALUE_ONES, 0)

    wide = [c for c in (256, 512, 1024, 2048, 4096) if cells // (c * total) >= 8] or [256]
    columns = min(wide, key=lambda c: shape(c).false_candidates(held, vocabulary))
    configuration = Thinned(
        vocabulary=vocabulary,
        heads=heads,
        layers=layers,
        ones=VALUE_ONES,
        columns=columns,
        key_sizes=tuple(sizes),
    )
    return configuration, max(1, cells // (columns * total))


class Counting:
    """One segment of a memory whose answering layers have together no more than ``cells`` cells.

    Parameters
    ----------
    pairs : int
        That will be stored in each layer.
    """

    def __init__(self, vocabulary: int, heads: int, layers: int, cells: int, pairs: int, seed: int) -> None:
        self.configuration, band = thinned(vocabulary, heads, layers, cells, pairs)
        self.memory = WillshawMemory(Backend(), self.configuration, b"counting" + seed.to_bytes(24, "little"))
        rows = tuple(ones * band for ones in self.configuration.key_sizes)
        provenance = self.configuration.provenance_ones * 8
        self.segment: WillshawSegment = self.memory.new_segment(Geometry(rows, provenance, 0))
        self.memory.segments["all"] = self.segment
        self._documents = 0

    def memorise(self, texts: Ids) -> None:
        """Store texts int64 (n, length), each as a document of its own."""
        first = self._documents + 1
        self._documents += len(texts)
        self.segment.add(self.segment.contribution(Batch.of([(first + i, text) for i, text in enumerate(texts)])))

    @property
    def fill(self) -> float:
        """Share of the cells that are not empty."""
        filled = sum(float(matrix.ones.sum()) for matrix in self.segment.layers)
        return filled / sum(matrix.rows * matrix.columns for matrix in self.segment.layers)

    def ask(self, texts: Ids, start: int, stop: int) -> Asked:
        """Ask for tokens start..stop-1 of each text, given all that come before them."""
        c = self.configuration
        framed = np.full((len(texts), c.longest + texts.shape[1]), c.begin)
        framed[:, c.longest :] = texts
        windows = np.lib.stride_tricks.sliding_window_view(framed, c.longest, axis=1)
        contexts = windows[:, start:stop].reshape(-1, c.longest)
        truth = texts[:, start:stop].ravel()
        order = np.random.default_rng(0).permutation(len(truth))
        right = seen = asked = 0
        fewest, few = _FEW
        step = 16
        while asked < len(truth):
            if seen > _CROWDED * asked and asked >= (few if seen <= _CANDIDATES_AT_ONCE else fewest):
                break
            rows = order[asked : asked + step]
            answers = self.memory.lookup(contexts[rows])
            known = np.flatnonzero(np.diff(answers.starts))
            right += int((answers.token[answers.starts[:-1][known]] == truth[rows][known]).sum())
            seen += answers.row.size
            asked += len(rows)
            # not many at once before it is known whether the memory is crowded
            most = few - asked if asked < few else len(truth)
            step = max(16, min(most, int(_CANDIDATES_AT_ONCE * asked / max(1, seen))))
        return Asked(right / asked, seen / asked, asked)
