"""The engine that memodb is for: counting matrices that never miss, and answer the unknown at a promised rate.

A layer each for contexts of 1, h, h^2, ... tokens; the layers agree on an answer, and the longest context that any
segment knows decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memodb.memory.backend import Array, Backend
from memodb.memory.codes import block_codes, context_symbols, select_columns
from memodb.memory.configuration import Geometry, WillshawConfiguration
from memodb.memory.decoding import CodeTable
from memodb.memory.memory import Answers, Memory
from memodb.memory.pairs import DocumentPairs
from memodb.memory.segment import Codebook, Segment
from memodb.memory.willshaw import Tally

__all__ = ["Reading", "WillshawCodebook", "WillshawMemory", "WillshawSegment"]


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
        agreed: list[Array] = []
        for matrix, (rows, rotation) in zip(self.segment.layers[: level + 1], self.keys, strict=False):
            columns = select_columns(codes, rotation[contexts], matrix.columns)
            least = matrix.support([row[contexts] for row in rows], columns)
            agreed.append(xp.minimum(least, agreed[-1]) if agreed else least)
        return xp.stack(agreed)


class WillshawSegment(Segment):
    """A segment that answers from counting matrices, layers 0..l."""

    codebook: WillshawCodebook

    def _layer_tallies(self, pairs: DocumentPairs) -> tuple[Tally, ...]:
        codes = self.codebook.tokens.codes
        return tuple(self._tally(index, layer, codes[layer.values]) for index, layer in enumerate(pairs.layers))

    def false_recall(self) -> float:
        """V * max g, in its weakest layer (see :mod:`memodb.memory.capacity`)."""
        return self.codebook.configuration.answers * max(self.pass_rates()[:-1])

    def miss_rate(self) -> float:
        """0: what is stored is read."""
        return 0.0

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


def _ranked(rows: np.ndarray, tokens: np.ndarray, supports: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order candidates that are sorted by row and token: best first within a row, by the top layer, then by those
    below.

    Lexsort is stable, so equal candidates stay in the order of their token ids.
    """
    order = np.lexsort((*(-supports), rows))
    return rows[order], tokens[order], supports[-1][order]
