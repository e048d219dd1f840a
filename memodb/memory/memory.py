"""The memory of one collection: its segments, read as one.

A document lives whole in one segment, so supports of segments add up, and agreement between layers holds segment by
segment. A query asks every segment; the longest context that any of them knows decides the answer.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

from memodb.memory.answers import Answers, Best
from memodb.memory.codes import window_symbols
from memodb.memory.configuration import Geometry
from memodb.memory.segment import Codebook, Segment

__all__ = ["Memory"]

_CONTEXTS_AT_ONCE = 4096


class Memory(ABC):
    """Segments of one collection by id. An engine says what they are made of, and how they answer.

    Parameters
    ----------
    codebook : Codebook
        The engine's.
    """

    def __init__(self, codebook: Codebook) -> None:
        self.backend = codebook.backend
        self.configuration = codebook.configuration
        self.codebook = codebook
        self.segments: dict[str, Segment] = {}
        self._spans = np.array([*self.configuration.spans, 0])

    @abstractmethod
    def new_segment(self, geometry: Geometry) -> Segment:
        """An empty segment that belongs to this memory's codebook; not yet part of it.

        Raises
        ------
        OutOfMemory
            There is no room for it; nothing was allocated.
        """

    def digest(self) -> str:
        """SHA-256 over the configuration and the digests of all segments that hold something, whatever their ids and
        order."""
        state = hashlib.sha256(repr(self.configuration.to_dict()).encode())
        for segment in sorted(segment.digest() for segment in self.segments.values() if segment.symbols.size):
            state.update(segment.encode())
        return state.hexdigest()

    def framed(self, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Contexts as the layers see them: the last ``longest`` tokens of each row, and the engine's mark before
        shorter ones.

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
        if lengths.size == 1 or (lengths.size and bool((lengths == lengths[0]).all())):  # a prompt, or a table
            seen = tokens.reshape(lengths.size, -1)[:, -longest:]
            mark = self.configuration.before if seen.shape[1] else self.configuration.begin
            contexts = np.full((lengths.size, longest), mark, dtype=np.int64)
            contexts[:, longest - seen.shape[1] :] = seen
            return contexts
        contexts = np.full((lengths.size, longest), self.configuration.before, dtype=np.int64)
        contexts[lengths == 0] = self.configuration.begin
        row = np.repeat(np.arange(lengths.size), lengths)
        place = np.arange(row.size) - (np.cumsum(lengths) - lengths)[row] + (longest - lengths)[row]
        inside = place >= 0
        contexts[row[inside], place[inside]] = tokens[inside]
        return contexts

    def context_lengths(self, level: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Tokens that answers rest on, int64 (n,): the layer's span, or the whole of a row that is shorter, and a begin
        mark before it where the engine answers it as a beginning; 0 where no layer answered.

        Parameters
        ----------
        level, lengths : int64 (n,)
            Of :class:`Answers`, and of the rows as they were given to :meth:`framed`.
        """
        marks = np.where((lengths == 0) | (self.configuration.before == self.configuration.begin), 1, 0)
        rests: np.ndarray = np.minimum(self._spans[level], lengths + marks)
        return rests

    def lookup(self, contexts: np.ndarray, deepest: int | None = None) -> Answers:
        """What follows each context, from the longest layer that knows it: every candidate.

        Parameters
        ----------
        contexts : int64 (n, longest)
            See :meth:`framed`.
        deepest : int, optional
            Highest layer to ask; all by default.

        Returns
        -------
        Answers
            Best first. With the engine ``willshaw`` every token that some document holds after the context is among
            the candidates (no misses).
        """
        top = self.configuration.layers if deepest is None else deepest
        parts = [self._lookup_part(part, top) for part in _parts(contexts)]
        return parts[0] if len(parts) == 1 else Answers.joined(parts)

    def best(self, contexts: np.ndarray, most: int, deepest: int | None = None) -> Best:
        """The first ``most`` of what :meth:`lookup` gives of each context, and in less time."""
        top = self.configuration.layers if deepest is None else deepest
        parts = [self._best_part(part, top, most) for part in _parts(contexts)]
        return Best.joined(parts) if parts else Best.nothing(0, most)

    @abstractmethod
    def _lookup_part(self, contexts: np.ndarray, top: int) -> Answers:
        """Answers to at most ``_CONTEXTS_AT_ONCE`` contexts, of layers 0..top."""

    def _best_part(self, contexts: np.ndarray, top: int, most: int) -> Best:
        return self._lookup_part(contexts, top).best(most)

    @abstractmethod
    def follows(self, context: np.ndarray, token: int, level: int) -> bool:
        """Whether layers 0..level answer a token to a context, int64 (longest,), however many others they answer."""

    def documents(self, tokens: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Documents that may hold each window of a token sequence, segment by segment: never misses one that does.

        Parameters
        ----------
        tokens : integer (n,)

        Yields
        ------
        window, symbol : int64 (m,), uint64 (m,)
            First token of the window, and symbol of a document.
        """
        if tokens.size < self.configuration.window:
            return
        kernels = self.backend.kernels_for(tokens.size * self.configuration.window)
        windows = window_symbols(self.backend.to_device(tokens), self.codebook.contexts, kernels)
        for segment in self.segments.values():
            window, symbol = segment.documents(windows)
            yield self.backend.to_host(window), self.backend.to_host(symbol)


def _parts(contexts: np.ndarray) -> list[np.ndarray]:
    return [contexts[at : at + _CONTEXTS_AT_ONCE] for at in range(0, len(contexts), _CONTEXTS_AT_ONCE)]
