"""Answers that are kept: those to the few contexts that have very many candidates.

Single tokens that stand everywhere, and what is written alike in every document, have thousands of candidates. They are
asked for often, and each costs hundreds of times another context; so each is answered once, until a segment changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Crowd", "Crowds"]

_KEPT = 1 << 20
"""Numbers that are kept of such contexts, 8 bytes each: when there are more, all are dropped."""


@dataclass(frozen=True)
class Crowd:
    """The answer to a context that has many candidates: as many of them as were asked for."""

    tokens: np.ndarray
    supports: np.ndarray
    level: int
    total: int


class Crowds:
    """Answers that are kept while the segments are what they are.

    Attributes
    ----------
    versions : tuple of int
        The segments'.
    answers : dict
        By how many candidates were asked for, and the context's tokens as bytes: a layer's have a length of their own.
    """

    def __init__(self, versions: tuple[int, ...]) -> None:
        self.versions = versions
        self.answers: dict[tuple[int, bytes], Crowd] = {}
        self._numbers = 0

    @property
    def full(self) -> bool:
        return self._numbers > _KEPT

    def keep(self, key: tuple[int, bytes], crowd: Crowd) -> None:
        self.answers[key] = crowd
        self._numbers += 2 * crowd.tokens.size + 64
