"""Answers to contexts: all candidates of each as a ragged table, or the best few of each as a square one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Answers", "Best"]


@dataclass(frozen=True)
class Best:
    """The best candidates of n contexts, host arrays.

    Parameters
    ----------
    token, support : int64 (n, most)
        As in :class:`Answers`, best first; -1 and 0 where there are fewer.
    level, total : int64 (n,)
        As in :class:`Answers`.
    """

    token: np.ndarray
    support: np.ndarray
    level: np.ndarray
    total: np.ndarray

    @classmethod
    def nothing(cls, contexts: int, most: int) -> Best:
        """Of contexts that no layer knows."""
        table = (contexts, most)
        unknown, none = np.full(contexts, -1, dtype=np.int64), np.zeros(contexts, dtype=np.int64)
        return cls(np.full(table, -1, dtype=np.int64), np.zeros(table, dtype=np.int64), unknown, none)

    @classmethod
    def joined(cls, parts: Sequence[Best]) -> Best:
        """Of contexts that were asked about in parts, in order."""
        if len(parts) == 1:
            return parts[0]
        names = ("token", "support", "level", "total")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def chosen(self, places: np.ndarray) -> Best:
        """Of some of the contexts: int64 (m,)."""
        return Best(self.token[places], self.support[places], self.level[places], self.total[places])

    def put(self, places: np.ndarray, others: Best) -> None:
        """Write the answers to other contexts in the places of some: int64 (m,)."""
        self.token[places], self.support[places] = others.token, others.support
        self.level[places], self.total[places] = others.level, others.total


@dataclass(frozen=True)
class Answers:
    """Candidates of n contexts as a ragged table, host arrays.

    Parameters
    ----------
    row : int64 (m,)
        The context a candidate belongs to, ascending.
    token : int64 (m,)
        Candidate token id, or the end mark. Within a context the best first: by support, then by the supports of the
        shorter contexts, then by token id.
    support : int64 (m,)
        At least the number of documents in which the token follows the context; summed over segments.
    level : int64 (n,)
        Layer that answered each context, -1 where no layer knows it.
    total : int64 (n,)
        Sum of the supports of all candidates of a context, of those too that were not asked for.
    """

    row: np.ndarray
    token: np.ndarray
    support: np.ndarray
    level: np.ndarray
    total: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Of contexts that were asked about in parts, in order."""
        nothing = np.zeros(0, dtype=np.int64)
        offsets = np.cumsum([0, *(part.level.size for part in parts)])
        rows = [part.row + at for part, at in zip(parts, offsets, strict=False)]
        names = ("token", "support", "level", "total")
        rest = [np.concatenate([nothing, *(getattr(part, name) for part in parts)]) for name in names]
        return cls(np.concatenate([nothing, *rows]), *rest)

    @classmethod
    def ranked(cls, found: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], level: np.ndarray) -> Answers:
        """Of candidates that each layer ranked, of contexts of its own: (rows ascending, tokens, supports)."""
        nothing = np.zeros(0, dtype=np.int64)
        row, token, support = (np.concatenate([nothing, *(part[i] for part in found)]) for i in range(3))
        order = np.argsort(row, kind="stable")
        row, token, support = row[order], token[order], support[order]
        return cls(row, token, support, level, np.bincount(row, weights=support, minlength=level.size).astype(np.int64))

    @property
    def starts(self) -> np.ndarray:
        """Where each context's candidates begin, and the end: int64 (n + 1,)."""
        return np.searchsorted(self.row, np.arange(self.level.size + 1))

    def best(self, most: int) -> Best:
        """The best ``most`` of each context."""
        table = Best.nothing(self.level.size, most)
        place = np.arange(self.row.size) - self.starts[self.row]
        shown = place < most
        row, place = self.row[shown], place[shown]
        table.token[row, place], table.support[row, place] = self.token[shown], self.support[shown]
        return Best(table.token, table.support, self.level, self.total)
