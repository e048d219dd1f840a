"""The memory of one collection: its segments, read as one.

A document lives whole in one segment, so supports of segments add up, and agreement between layers holds segment by
segment. A query asks every segment; the longest context that any of them knows decides the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from memodb.memory.backend import Backend
from memodb.memory.capacity import Configuration, Geometry
from memodb.memory.codes import context_symbols, window_symbols
from memodb.memory.segment import Codebook, Reading, Segment

__all__ = ["Answers", "Memory"]

_CONTEXTS_AT_ONCE = 4096


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
    """

    row: np.ndarray
    token: np.ndarray
    support: np.ndarray
    level: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """Where each context's candidates begin, and the end: int64 (n + 1,)."""
        return np.searchsorted(self.row, np.arange(self.level.size + 1))


class Memory:
    """Segments of one collection by id.

    Parameters
    ----------
    backend : Backend
    configuration : Configuration
    seed : bytes
        The collection's secret, 32 bytes.
    """

    def __init__(self, backend: Backend, configuration: Configuration, seed: bytes) -> None:
        self.backend = backend
        self.configuration = configuration
        self.codebook = Codebook(backend, configuration, seed)
        self.segments: dict[str, Segment] = {}

    def new_segment(self, geometry: Geometry) -> Segment:
        """An empty segment that belongs to this memory's codebook; not yet part of it."""
        return Segment(self.codebook, geometry)

    def digest(self) -> str:
        """SHA-256 over the configuration and the digests of all segments that hold something, whatever their ids and
        order."""
        state = hashlib.sha256(repr(self.configuration.to_dict()).encode())
        for segment in sorted(segment.digest() for segment in self.segments.values() if segment.symbols.size):
            state.update(segment.encode())
        return state.hexdigest()

    def framed(self, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Contexts as the layers see them: the last ``longest`` tokens of each row, begin marks before shorter ones.

        Parameters
        ----------
        tokens : integer (lengths.sum(),)
            Token ids of all rows, one after another.
        lengths : int64 (n,)

        Returns
        -------
        int64 (n, longest)
        """
        longest = self.configuration.longest
        contexts = np.full((lengths.size, longest), self.configuration.begin, dtype=np.int64)
        row = np.repeat(np.arange(lengths.size), lengths)
        place = np.arange(row.size) - (np.cumsum(lengths) - lengths)[row] + (longest - lengths)[row]
        seen = place >= 0
        contexts[row[seen], place[seen]] = tokens[seen]
        return contexts

    def lookup(self, contexts: np.ndarray, deepest: int | None = None) -> Answers:
        """What follows each context, from the longest layer that knows it.

        Parameters
        ----------
        contexts : int64 (n, longest)
            See :meth:`framed`.
        deepest : int, optional
            Highest layer to ask; all by default.

        Returns
        -------
        Answers
            Every token that some document holds after the context is among the candidates (no misses).
        """
        parts = [
            self._lookup_part(contexts[at : at + _CONTEXTS_AT_ONCE], deepest)
            for at in range(0, len(contexts), _CONTEXTS_AT_ONCE)
        ]
        if not parts:
            empty = np.zeros(0, dtype=np.int64)
            return Answers(empty, empty, empty, empty)
        return Answers(
            np.concatenate([part.row + i * _CONTEXTS_AT_ONCE for i, part in enumerate(parts)]),
            np.concatenate([part.token for part in parts]),
            np.concatenate([part.support for part in parts]),
            np.concatenate([part.level for part in parts]),
        )

    def _lookup_part(self, contexts: np.ndarray, deepest: int | None) -> Answers:
        n = len(contexts)
        symbols = context_symbols(self.backend.to_device(contexts), self.codebook.contexts)
        top = self.configuration.layers if deepest is None else deepest
        readings = [segment.read(symbols[: top + 1]) for segment in self.segments.values()]
        level = np.full(n, -1, dtype=np.int64)
        found = []
        for asked in range(top, -1, -1):
            pending = np.flatnonzero(level < 0)
            if not pending.size or not readings:
                break
            rows, tokens, supports = _ranked(*self._candidates(asked, pending, readings))
            level[rows] = asked
            found.append((rows, tokens, supports))
        if not found:
            empty = np.zeros(0, dtype=np.int64)
            return Answers(empty, empty, empty, level)
        row, token, support = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.argsort(row, kind="stable")
        return Answers(row[order], token[order], support[order], level)

    def _candidates(
        self, level: int, pending: np.ndarray, readings: list[Reading]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Candidates of one layer by row, then token: rows, tokens, supports (level + 1, m) added up over segments."""
        to_host = self.backend.to_host
        places = self.backend.to_device(pending)
        parts = []
        for reading in readings:
            place, token = reading.candidates(level, places)
            row = places[place]
            parts.append((to_host(row), to_host(token), to_host(reading.supports(level, row, token))))
        rows, tokens = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        supports = np.concatenate([part[2] for part in parts], axis=1)
        if len(parts) == 1:
            return rows, tokens, supports
        pair, inverse = np.unique(rows * self.configuration.answers + tokens, return_inverse=True)
        summed = np.zeros((level + 1, pair.size), dtype=np.int64)
        for total, support in zip(summed, supports, strict=True):
            np.add.at(total, inverse, support)
        return pair // self.configuration.answers, pair % self.configuration.answers, summed

    def documents(self, tokens: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Documents that may hold each window of a token sequence, segment by segment: never misses one that does.

        Parameters
        ----------
        tokens : int64 (n,)

        Yields
        ------
        window, symbol : int64 (m,), uint64 (m,)
            First token of the window, and symbol of a document.
        """
        if tokens.size < self.configuration.window:
            return
        windows = window_symbols(self.backend.to_device(tokens), self.codebook.contexts)
        for segment in self.segments.values():
            window, symbol = segment.documents(windows)
            yield self.backend.to_host(window), self.backend.to_host(symbol)


def _ranked(rows: np.ndarray, tokens: np.ndarray, supports: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order candidates that are sorted by row and token: best first within a row, by the top layer, then by those
    below.

    Lexsort is stable, so equal candidates stay in the order of their token ids.
    """
    order = np.lexsort((*(-supports), rows))
    return rows[order], tokens[order], supports[-1][order]
