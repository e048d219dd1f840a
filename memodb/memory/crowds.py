"""Answers that are kept: those to the few contexts that have very many candidates.

Single tokens that stand everywhere, and what is written alike in every document, have thousands of candidates. They are
asked for often, and each costs hundreds of times another context; so each is answered once, until a segment changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memodb.memory.answers import Best

__all__ = ["MOST_KEPT", "Crowds"]

MOST_KEPT = 1 << 18
"""Numbers that are kept, 8 bytes each: when there are more, all are dropped."""


@dataclass(frozen=True)
class Crowds:
    """Answers that are kept while the segments are what they are, of one number of wanted candidates.

    Parameters
    ----------
    symbols : uint64 (m,)
        Of the contexts, in the layer in which each was left; ascending.
    asked : int64 (m,)
        That layer: of a context its span of last tokens count.
    contexts : int64 (m, longest)
    answers : Best
        Of each, from that layer down.
    """

    symbols: np.ndarray
    asked: np.ndarray
    contexts: np.ndarray
    answers: Best

    @classmethod
    def nothing(cls, longest: int, most: int) -> Crowds:
        """That none is kept."""
        none = np.zeros((0, longest), dtype=np.int64)
        return cls(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64), none, Best.nothing(0, most))

    @property
    def size(self) -> int:
        """Numbers that are kept."""
        return self.contexts.size + 2 * self.answers.token.size + 4 * self.symbols.size

    @property
    def compact(self) -> tuple[np.ndarray, ...]:
        """For the kernels."""
        kept = self.answers
        return self.symbols, self.asked, self.contexts, kept.level, kept.total, kept.token, kept.support

    def plus(self, symbols: np.ndarray, asked: int, contexts: np.ndarray, answers: Best) -> Crowds:
        """And the answers to contexts that were left at a layer and of which none is kept."""
        symbols = np.concatenate([self.symbols, symbols])
        layers = np.concatenate([self.asked, np.full(len(contexts), asked)])
        contexts = np.concatenate([self.contexts, contexts])
        order = np.argsort(symbols, kind="stable")
        answers = Best.joined([self.answers, answers])
        return Crowds(symbols[order], layers[order], contexts[order], answers.chosen(order))

    def find(self, symbols: np.ndarray, asked: int, contexts: np.ndarray, span: int) -> np.ndarray:
        """Where the answers to contexts that were left at a layer are: int64 (n,), -1 where none is kept."""
        found = np.full(symbols.size, -1, dtype=np.int64)
        place, end = (np.searchsorted(self.symbols, symbols, side) for side in ("left", "right"))
        while (pending := np.flatnonzero((found < 0) & (place < end))).size:
            at = place[pending]
            same = (self.contexts[at, -span:] == contexts[pending, -span:]).all(axis=1) & (self.asked[at] == asked)
            found[pending[same]] = at[same]
            place[pending] += 1
        return found
