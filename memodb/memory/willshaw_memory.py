"""The engine that memodb is for: counting matrices that never miss, and answer the unknown at a promised rate.

A layer each for contexts of 1, h, h^2, ... tokens; the layers agree on an answer, and the longest context that any
segment knows decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from memodb.memory.backend import Array, Backend
from memodb.memory.codes import block_codes, context_symbols, select_columns
from memodb.memory.configuration import MOST_LAYERS, Geometry, WillshawConfiguration
from memodb.memory.decoding import CodeTable
from memodb.memory.memory import Answers, Memory, ranked_answers
from memodb.memory.pairs import DocumentPairs, PairSet
from memodb.memory.segment import Codebook, Segment

__all__ = ["Reading", "WillshawCodebook", "WillshawMemory", "WillshawSegment"]


_WORK_OF_A_LOOKUP, _WORK_OF_A_CONTEXT = 6000, 100
"""What asking costs in plain NumPy, in cells that are touched."""


_CROWD = 16
"""Candidates a context from which on the least count of every column is cheaper to find than that of each candidate."""


class WillshawCodebook(Codebook):
    """With the codes of tokens, and the way back from columns to them."""

    def __init__(self, backend: Backend, configuration: WillshawConfiguration, seed: bytes) -> None:
        super().__init__(backend, configuration, seed)
        c = configuration
        codes = block_codes(
            backend.xp.arange(c.answers, dtype=np.uint64),
            self.keys.multipliers("tokens", c.ones // 2 + 1),
            c.columns,
            c.ones,
        )
        self.tokens = CodeTable(backend, codes, c.columns)


@dataclass(frozen=True)
class Reading:
    """What one segment says about n contexts.

    Parameters
    ----------
    segment : WillshawSegment
    keys : list of (rows, rotation)
        Of the contexts, a pair a layer.
    agreed : list of uint64 (n, c/64)
        Entry L holds the columns that survive layers 0..L: the layers agree.
    """

    segment: WillshawSegment
    keys: list[tuple[list[Array], Array]]
    agreed: list[Array]

    def candidates(self, level: int, contexts: Array) -> tuple[Array, Array]:
        """Tokens that layers 0..level answer to some of the contexts: (place in ``contexts``, token), int64 (m,)."""
        return self.segment.codebook.tokens.decode(self.agreed[level][contexts])

    def supports(self, level: int, contexts: Array, tokens: Array) -> Array:
        """Least counts of (context, token) pairs.

        Parameters
        ----------
        contexts, tokens : int64 (m,)

        Returns
        -------
        int64 (level + 1, m)
            Entry i is the least count over layers 0..i: at least the number of documents that stored the pair of layer
            i.
        """
        xp = self.segment.codebook.backend.xp
        codes = self.segment.codebook.tokens.codes[tokens]
        distinct, place = xp.unique(contexts, return_inverse=True)
        crowded = contexts.size > _CROWD * distinct.size
        agreed: list[Array] = []
        for matrix, (rows, rotation) in zip(self.segment.layers[: level + 1], self.keys, strict=False):
            if crowded:
                context_rows, turns = [row[distinct] for row in rows], rotation[distinct]
                least = matrix.support_in_crowds(context_rows, turns, place, codes)
            else:
                columns = select_columns(codes, rotation[contexts], matrix.columns)
                least = matrix.support([row[contexts] for row in rows], columns)
            agreed.append(xp.minimum(least, agreed[-1]) if agreed else least)
        return xp.stack(agreed)


class WillshawSegment(Segment):
    """A segment that answers from counting matrices, layers 0..l."""

    codebook: WillshawCodebook

    def _layer_votes(self, pairs: DocumentPairs) -> list[tuple[PairSet, Array]]:
        return [(layer, self.codebook.tokens.codes) for layer in pairs.layers]

    def false_recall(self) -> float:
        """V * max g, in its weakest layer (see :mod:`memodb.memory.capacity`)."""
        return self.codebook.configuration.answers * max(self.pass_rates()[:-1])

    def miss_rate(self) -> float:
        """0: what is stored is read."""
        return 0.0

    def lookup(self, kernels: ModuleType, contexts: np.ndarray, top: int, most: int | None) -> Answers:
        """What :meth:`WillshawMemory.lookup` gives where this is the only segment, compiled.

        Parameters
        ----------
        kernels : module
            From :meth:`Backend.kernels_for`.
        contexts : int64 (n, longest)
        top : int
            Highest layer to ask.
        most : int or None
            Candidates of each context that are wanted.
        """
        book, layers = self.codebook, self.layers
        heads = book.contexts.layers
        spare = MOST_LAYERS - len(layers) + 1  # one signature for any number of layers: compiling takes seconds
        padded = [*layers, *layers[-1:] * spare]
        given = (
            top,
            most or 0,
            book.contexts.token,
            np.stack(heads) if heads else np.zeros((0, 1), dtype=np.uint64),
            (*book.selectors[:-1], *book.selectors[-1:] * spare),
            np.array(book.key_ones[:-1]),
            tuple(matrix.presence for matrix in padded),
            tuple(matrix.cells for matrix in padded),
            tuple(matrix.large for matrix in padded),
            tuple(matrix.large_counts for matrix in padded),
            *book.tokens.compact,
        )
        parts = np.array_split(contexts, 2) if len(contexts) >= 2048 else [contexts]
        found = book.backend.each(lambda part: kernels.lookup(part, *given), parts, size=len(contexts))
        one = len(found) == 1
        many, tokens, supports, level, total = (
            found[0] if one else (np.concatenate(each) for each in zip(*found, strict=True))
        )
        return Answers(np.repeat(np.arange(len(contexts)), many), tokens, supports, level, total)

    def read(self, symbols: list[Array]) -> Reading:
        """Ask every given layer about contexts: see :class:`Reading`.

        Parameters
        ----------
        symbols : list of uint64 (n,)
            Context symbols of layers 0..L.
        """
        keys = [
            self.codebook.keys_of(index, layer_symbols, self.matrices[index].rows)
            for index, layer_symbols in enumerate(symbols)
        ]
        agreed: list[Array] = []
        for matrix, key in zip(self.layers, keys, strict=False):
            words = matrix.read(*key)
            agreed.append(words & agreed[-1] if agreed else words)
        return Reading(self, keys, agreed)


class WillshawMemory(Memory):
    """Segments whose layers agree on what they answer."""

    codebook: WillshawCodebook
    segments: dict[str, WillshawSegment]  # type: ignore[assignment]

    def __init__(self, backend: Backend, configuration: WillshawConfiguration, seed: bytes) -> None:
        super().__init__(WillshawCodebook(backend, configuration, seed))

    def new_segment(self, geometry: Geometry) -> WillshawSegment:
        return WillshawSegment(self.codebook, geometry)

    def _lookup_part(self, contexts: np.ndarray, deepest: int | None, most: int | None) -> Answers:
        n = len(contexts)
        if len(self.segments) == 1:
            kernels = self.backend.kernels_for(_WORK_OF_A_LOOKUP + _WORK_OF_A_CONTEXT * n)
            if kernels is not None:
                (segment,) = self.segments.values()
                top = self.configuration.layers if deepest is None else deepest
                return segment.lookup(kernels, contexts, top, most)
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
        return ranked_answers(found, level, most)

    def follows(self, context: np.ndarray, token: int, level: int) -> bool:
        symbols = context_symbols(self.backend.to_device(context[None]), self.codebook.contexts)[: level + 1]
        place, asked = (self.backend.to_device(np.array([number])) for number in (0, token))
        return any(
            bool(segment.read(symbols).supports(level, place, asked)[level] > 0) for segment in self.segments.values()
        )

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


def _ranked(rows: np.ndarray, tokens: np.ndarray, supports: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order candidates that are sorted by row and token: best first within a row, by the top layer, then by those
    below.

    Lexsort is stable, so equal candidates stay in the order of their token ids.
    """
    order = np.lexsort((*(-supports), rows))
    return rows[order], tokens[order], supports[-1][order]
