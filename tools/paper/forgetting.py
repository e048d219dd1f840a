"""Table 4: memorise A, memorise B, forget A; what is left, against a memory that saw only B?

A and B are a text of random tokens each (vocabulary 50,254), d = 1024, h = 4, l = 3. B's first quarter is A's first
quarter, so they share a quarter of their tokens, and nearly as many of their windows. The residue of a matrix is
|after - only B| / |only B| in the Frobenius norm.

The authors' code multiplies what it stores in an intermediate matrix by a weight that is to make up for what the
matrix holds already (``penalize``). For a batch of keys k and encodings e with s the sum of the encodings,

    weight = 1 / (max(0, 1 - round(k C . s)) round(e . s)),        0 where that is infinite

With one window in an empty matrix k C . s is about 0 and e . s about 1: the weight is 1. With the window held already
k C . s is about 1, and the weight 0. But what is forgotten *is* held, so its weight is 0 and nothing is subtracted,
unless crosstalk rounds otherwise. That is the residue. The output matrix is written without the weight.

A weight must not depend on what else is stored if it is to be taken back. In memodb a window counts once a document,
which only the document decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from memodb.memory import (
    Backend,
    Batch,
    Configuration,
    KohonenConfiguration,
    Segment,
    WillshawConfiguration,
    first_geometry,
    memory_for,
)
from memodb.memory.codes import Keys
from memodb.memory.kohonen import Codes, correlated

__all__ = ["KINDS", "Residue", "authors_weight", "residue", "texts"]

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

VOCABULARY, HEADS, LAYERS = 50_254, 4, 3
KINDS = ("authors' weight", "gaussian", "rademacher", "willshaw")


@dataclass(frozen=True)
class Residue:
    """What forgetting left.

    Parameters
    ----------
    intermediate, output : float
        Relative residue of the matrices of encodings (the largest), and of the one that answers; of a counting memory
        that of every layer's counts, and 0 for the matrices it does not have.
    unequal, cells : int
        Cells that differ, of all.
    """

    intermediate: float
    output: float
    unequal: int
    cells: int


def texts(seed: int, length: int) -> tuple[Ids, Ids]:
    """A and B, int64 (length,): the first quarter is the same."""
    first, second = np.random.default_rng(seed).integers(0, VOCABULARY, (2, length))
    second[: length // 4] = first[: length // 4]
    return first, second


def residue(kind: str, seed: int, length: int = 1024, dim: int = 1024) -> Residue:
    """Forget A.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    """
    first, second = texts(seed, length)
    secret = b"forgetting" + seed.to_bytes(22, "little")
    matrices: Callable[[list[tuple[int, Ids]]], list[npt.NDArray[np.float64]]]
    if kind == "authors' weight":
        weighted = _Weighted(dim, secret)
        matrices = weighted.after
    else:
        engine = _Engine(kind, dim, secret, 2 * length)
        matrices = engine.after
    after = matrices([(1, first), (1, second), (-1, first)])
    only = matrices([(1, second)])
    apart = [_relative(a, b) for a, b in zip(after, only, strict=True)]
    unequal = sum(int((a != b).sum()) for a, b in zip(after, only, strict=True))
    *lower, output = apart
    return Residue(
        max(lower, default=0.0) if kind != "willshaw" else 0.0,
        output if kind != "willshaw" else max(apart),
        unequal,
        sum(matrix.size for matrix in only),
    )


def _relative(found: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


class _Engine:
    """memodb's own segments, either engine."""

    def __init__(self, kind: str, dim: int, secret: bytes, tokens: int) -> None:
        configuration: Configuration
        if kind == "willshaw":
            configuration = WillshawConfiguration(vocabulary=VOCABULARY, heads=HEADS, layers=LAYERS)
        else:
            configuration = KohonenConfiguration(vocabulary=VOCABULARY, heads=HEADS, layers=LAYERS, codes=kind, dim=dim)
        self._memory = memory_for(Backend(), configuration, secret)
        self._geometry = first_geometry(configuration, 0, tokens)

    def after(self, steps: list[tuple[int, Ids]]) -> list[npt.NDArray[np.float64]]:
        """Every answering matrix after texts were added (1) and taken out (-1)."""
        segment: Segment = self._memory.new_segment(self._geometry)
        for sign, text in steps:
            # a document is known by its symbol: the same text, the same document
            contribution = segment.contribution(Batch.of([(int(text.sum()), text)]))
            if sign > 0:
                segment.add(contribution)
            else:
                segment.subtract(contribution)
        counts = [matrix.counts_of(np.arange(matrix.rows * matrix.columns)) for matrix in segment.layers]
        return [np.asarray(matrix, dtype=np.float64) for matrix in (*counts, *segment.correlations)]


class _Weighted:
    """MeMo's matrices with a weight that depends on what they hold."""

    def __init__(self, dim: int, secret: bytes) -> None:
        configuration = KohonenConfiguration(
            vocabulary=VOCABULARY, heads=HEADS, layers=LAYERS, codes="gaussian", dim=dim
        )
        self._codes = Codes(Backend(), configuration, Keys(secret))
        self._dim = dim

    def after(self, steps: list[tuple[int, Ids]]) -> list[npt.NDArray[np.float64]]:
        """The matrices of the layers, the last of them the output."""
        matrices = [np.zeros((self._dim, self._dim), dtype=np.float32) for _ in range(LAYERS)]
        for sign, text in steps:
            for level, start, keys, encodings in self._codes.stream(text[:-1]):
                following = self._codes.vectors[text[start : start + len(keys)]]
                matrices[-1] += sign * correlated(keys, following)
                if encodings is not None:
                    weight = authors_weight(keys, encodings, matrices[level - 1])
                    matrices[level - 1] += sign * correlated(keys * weight[:, None], encodings)
        return [matrix.astype(np.float64) for matrix in matrices]


def authors_weight(keys: Floats, encodings: Floats, matrix: Floats) -> Floats:
    """The weight of each key of a batch: float32 (n,)."""
    total = encodings.sum(axis=0)
    held = np.maximum(0, 1 - np.rint(keys @ matrix @ total))
    with np.errstate(divide="ignore"):
        weight = 1 / (held * np.rint(encodings @ total))
    found: Floats = np.where(np.isfinite(weight), weight, 0).astype(np.float32)
    return found
