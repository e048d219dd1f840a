"""Answers that are kept: those to the few contexts that have very many candidates.

Single tokens that stand everywhere, and what is written alike in every document, have thousands of candidates. They are
asked for often, and each costs hundreds of times another context; so each is answered once, until a segment changes.
"""

from __future__ import annotations

import threading

import numpy as np

from memodb.memory.answers import Best

__all__ = ["MOST_KEPT", "Crowds"]

MOST_KEPT = 1 << 20
"""Numbers that are kept, 8 bytes each: when there are more, all are dropped."""

_writing = threading.Lock()


class _Rows:
    """Contexts and their answers, in the order in which they came. Rows are written once, and only behind the others,
    so that whoever knows of some may read them meanwhile."""

    def __init__(self, size: int, longest: int, most: int) -> None:
        self.asked = np.zeros(size, dtype=np.int64)
        self.contexts = np.zeros((size, longest), dtype=np.int64)
        self.answers = Best.nothing(size, most)
        self.taken = 0

    def with_room(self, count: int, more: int) -> _Rows:
        """These, where they are just so many and there is room for more; else a copy of the first ones."""
        if self.taken == count and count + more <= self.asked.size:
            return self
        fresh = _Rows(2 * (count + more), self.contexts.shape[1], self.answers.token.shape[1])
        first = np.arange(count)
        fresh.write(self.asked[:count], self.contexts[:count], self.answers.chosen(first))
        return fresh

    def write(self, asked: np.ndarray, contexts: np.ndarray, answers: Best) -> None:
        places = np.arange(self.taken, self.taken + len(contexts))
        self.asked[places], self.contexts[places] = asked, contexts
        self.answers.put(places, answers)
        self.taken += len(contexts)


class Crowds:
    """Answers that are kept while the segments are what they are, of one number of wanted candidates; never changed.

    Attributes
    ----------
    symbols : uint64 (m,)
        Of the contexts, in the layer in which each was left; ascending.
    """

    def __init__(self, symbols: np.ndarray, places: np.ndarray, rows: _Rows) -> None:
        self.symbols = symbols
        self._places = places
        self._rows = rows

    @classmethod
    def nothing(cls, longest: int, most: int) -> Crowds:
        """That none is kept."""
        return cls(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64), _Rows(0, longest, most))

    @property
    def size(self) -> int:
        """Numbers that are kept."""
        longest, most = self._rows.contexts.shape[1], self._rows.answers.token.shape[1]
        return int(self.symbols.size * (5 + longest + 2 * most))

    @property
    def compact(self) -> tuple[np.ndarray, ...]:
        """For the kernels: the symbols and each one's row; and of the rows (m or more,) the layer in which a context
        was left, the context (m, longest), and of its answer the level, the total, tokens and supports (m, most)."""
        rows, kept = self._rows, self._rows.answers
        return self.symbols, self._places, rows.asked, rows.contexts, kept.level, kept.total, kept.token, kept.support

    def plus(self, symbols: np.ndarray, asked: int, contexts: np.ndarray, answers: Best) -> Crowds:
        """And the answers to contexts that were left at a layer and of which none is kept."""
        with _writing:
            rows = self._rows.with_room(self.symbols.size, len(contexts))
            rows.write(np.full(len(contexts), asked), contexts, answers)
        order = np.argsort(symbols, kind="stable")
        at = np.searchsorted(self.symbols, symbols[order], "right")
        places = np.insert(self._places, at, self.symbols.size + order)
        return Crowds(np.insert(self.symbols, at, symbols[order]), places, rows)

    def find(self, symbols: np.ndarray, asked: int, contexts: np.ndarray, span: int) -> tuple[np.ndarray, Best]:
        """Which contexts that were left at a layer have an answer, bool (n,), and these answers.

        Parameters
        ----------
        symbols : uint64 (n,)
        contexts : int64 (n, longest)
        span : int
            Tokens of a context that count in that layer.
        """
        found = np.full(symbols.size, -1, dtype=np.int64)
        at, end = (np.searchsorted(self.symbols, symbols, side) for side in ("left", "right"))
        while (pending := np.flatnonzero((found < 0) & (at < end))).size:
            row = self._places[at[pending]]
            same = (self._rows.contexts[row, -span:] == contexts[pending, -span:]).all(axis=1)
            same &= self._rows.asked[row] == asked
            found[pending[same]] = row[same]
            at[pending] += 1
        return found >= 0, self._rows.answers.chosen(found[found >= 0])
