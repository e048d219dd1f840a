"""The engine that memodb is for: counting matrices that never miss, and answer the unknown at a promised rate.

A layer each for contexts of 1, h, h^2, ... tokens; the layers agree on an answer, and the longest context that any
segment knows decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from memodb.memory.backend import Array, Backend
from memodb.memory.codes import block_codes, context_symbols, select_columns
from memodb.memory.configuration import MOST_LAYERS, Geometry, WillshawConfiguration
from memodb.memory.crowds import Crowd, Crowds
from memodb.memory.decoding import CodeTable
from memodb.memory.memory import Answers, Memory, ranked_answers
from memodb.memory.pairs import DocumentPairs, PairSet
from memodb.memory.segment import Codebook, Segment

__all__ = ["Reading", "WillshawCodebook", "WillshawMemory", "WillshawSegment"]


_WORK_OF_A_LOOKUP, _WORK_OF_A_CONTEXT = 6000, 100
"""What asking costs in plain NumPy, in cells that are touched."""


_CROWD = 16
"""Candidates a context from which on the least count of every column is cheaper to find than that of each candidate."""

_SMALL = 1 << 26
"""Bytes of a segment up to which nobody is asked for room."""

_PATIENCE = 64
"""Pairs of columns from which on a context's candidates are found once for all contexts that end alike, and kept."""


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

    def pairs(self, level: int, contexts: Array) -> Array:
        """Pairs of columns to be looked at for the candidates of some contexts: int64 (m,)."""
        return self.segment.codebook.tokens.pairs(self.agreed[level][contexts])

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

    def __init__(self, codebook: WillshawCodebook, geometry: Geometry) -> None:
        super().__init__(codebook, geometry)
        self._gathered: tuple[int, tuple[Any, ...]] = (-1, ())

    def _layer_votes(self, pairs: DocumentPairs) -> list[tuple[PairSet, Array]]:
        return [(layer, self.codebook.tokens.codes) for layer in pairs.layers]

    def false_recall(self) -> float:
        """V * max g, in its weakest layer (see :mod:`memodb.memory.capacity`)."""
        return self.codebook.configuration.answers * max(self.pass_rates()[:-1])

    def miss_rate(self) -> float:
        """0: what is stored is read."""
        return 0.0

    def lookup(
        self, kernels: ModuleType, contexts: np.ndarray, floor: np.ndarray, top: int, most: int | None, patience: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What this segment answers, compiled: see :func:`memodb.memory.fast.lookup`.

        Parameters
        ----------
        kernels : module
            From :meth:`Backend.kernels_for`.
        contexts : int64 (n, longest)
        floor : int64 (n,)
            Lowest layer to ask about each: where another segment knows more, nothing is wanted.
        top : int
            Highest layer to ask.
        most : int or None
            Candidates of each context that are wanted.
        patience : int
            Pairs of columns above which a context is left; 0 where none is.

        Returns
        -------
        many, token, supports, level, total : int64 (n,), (m,), (m, top + 1), (n,), (n,)
        """
        cut = len(contexts) // 2
        parts = [slice(cut), slice(cut, None)] if len(contexts) >= 2048 else [slice(None)]
        found = self.codebook.backend.each(
            lambda part: kernels.lookup(contexts[part], floor[part], top, most or 0, patience, *self._compact),
            parts,
            size=len(contexts),
        )
        if len(found) == 1:
            answers: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray] = found[0]
            return answers
        many, tokens, supports, level, total = (np.concatenate(each) for each in zip(*found, strict=True))
        return many, tokens, supports, level, total

    def follows(self, kernels: ModuleType, context: np.ndarray, token: int, level: int) -> bool:
        """What :meth:`WillshawMemory.follows` says, of this segment, compiled."""
        *given, _, _, _, codes, _, _ = self._compact
        found: bool = kernels.follows(context, token, level, *given, codes)
        return found

    @property
    def _compact(self) -> tuple[Any, ...]:
        """What the kernel is given of the segment and its codebook; gathered once a version."""
        version, given = self._gathered
        if version != self.version:
            book, layers = self.codebook, self.layers
            heads = book.contexts.layers
            spare = MOST_LAYERS - len(layers) + 1  # one signature for any number of layers: compiling takes seconds
            padded = [*layers, *layers[-1:] * spare]
            given = (
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
            self._gathered = (self.version, given)
        return given

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
    """Segments whose layers agree on what they answer.

    Contexts with very many candidates are left at first; then, of those that end alike, one is asked, if its answer is
    not kept (:mod:`memodb.memory.crowds`).
    """

    codebook: WillshawCodebook
    segments: dict[str, WillshawSegment]  # type: ignore[assignment]

    def __init__(self, backend: Backend, configuration: WillshawConfiguration, seed: bytes) -> None:
        super().__init__(WillshawCodebook(backend, configuration, seed))
        self._crowds = Crowds(())

    def new_segment(self, geometry: Geometry) -> WillshawSegment:
        cells = (sum(geometry.rows) + geometry.provenance_rows) * self.configuration.columns
        nbytes = cells * 5 // 8  # four bits of a count, and one of the presence view
        if nbytes > _SMALL:  # asking takes longer than allocating little
            advice = "nothing was changed; use one with more, or a store with fewer layers"
            self.backend.require_room(nbytes, f"a segment of {cells:,} cells", advice)
        return WillshawSegment(self.codebook, geometry)

    def _lookup_part(self, contexts: np.ndarray, deepest: int | None, most: int | None) -> Answers:
        top = self.configuration.layers if deepest is None else deepest
        answers, left = self._ask(contexts, top, most, 0 if most is None else _PATIENCE)
        if most is None or not (left >= 0).any():
            return answers
        return self._with_crowds(contexts, answers, left, most)

    def _ask(self, contexts: np.ndarray, top: int, most: int | None, patience: int) -> tuple[Answers, np.ndarray]:
        """Answers, and the layer at which each context is left for its many candidates: int64 (n,), -1 where it is
        not."""
        work = _WORK_OF_A_LOOKUP + _WORK_OF_A_CONTEXT * len(contexts)
        kernels = self.backend.kernels_for(work) if self.segments else None
        if kernels is None:
            return self._ask_plain(contexts, top, most, patience)
        if len(self.segments) == 1:
            (segment,) = self.segments.values()
            floor = np.zeros(len(contexts), dtype=np.int64)
            many, token, supports, level, total = segment.lookup(kernels, contexts, floor, top, most, patience)
            left = np.where(many < 0, level, -1)
            level[many < 0] = -1
            row = np.repeat(np.arange(len(contexts)), np.maximum(many, 0))
            return Answers(row, token, supports[np.arange(row.size), level[row]], level, total), left
        return self._ask_each(kernels, contexts, top, most, patience)

    def _ask_each(
        self, kernels: ModuleType, contexts: np.ndarray, top: int, most: int | None, patience: int
    ) -> tuple[Answers, np.ndarray]:
        """As :meth:`_ask`, of several segments: the longest context that any of them knows, supports added up."""
        parts, level = [], np.zeros(len(contexts), dtype=np.int64)
        # the largest first: it knows most, and the others are asked for no less
        for segment in sorted(self.segments.values(), key=lambda each: -each.tokens):
            parts.append(segment.lookup(kernels, contexts, level, top, None, patience))
            level = np.maximum(level, parts[-1][3])
        own = np.stack([part[3] for part in parts])
        level = own.max(axis=0)
        left = np.where(((own == level) & np.stack([part[0] < 0 for part in parts])).any(axis=0), level, -1)
        level = np.where(left < 0, level, -1)
        alone = ((own == level) & (level >= 0)).sum(axis=0) == 1
        found, several = [], []
        for (many, token, support, _, _), its in zip(parts, own, strict=True):
            row = np.repeat(np.arange(len(contexts)), np.maximum(many, 0))
            decides = its[row] == level[row]
            one, more = np.flatnonzero(decides & alone[row]), np.flatnonzero(decides & ~alone[row])
            found.append((row[one], token[one], support[one, level[row[one]]]))
            several.append((row[more], token[more], support[more]))
        rows, tokens, supports = (np.concatenate(each) for each in zip(*several, strict=True))
        if rows.size:
            row, token, summed = self._summed(rows, tokens, supports.T)
            # layers above a row's own have no support there, and decide nothing
            order = np.lexsort((*(-summed), row))
            found.append((row[order], token[order], summed[level[row[order]], order]))
        return ranked_answers(found, level, most), left

    def _ask_plain(self, contexts: np.ndarray, top: int, most: int | None, patience: int) -> tuple[Answers, np.ndarray]:
        symbols = context_symbols(self.backend.to_device(contexts), self.codebook.contexts)
        readings = [segment.read(symbols[: top + 1]) for segment in self.segments.values()]
        level, left = np.full((2, len(contexts)), -1, dtype=np.int64)
        found = []
        for asked in range(top, -1, -1):
            pending = np.flatnonzero((level < 0) & (left < 0))
            if not pending.size or not readings:
                break
            if patience:
                crowded = np.zeros(pending.size, dtype=bool)
                for reading in readings:
                    crowded |= self.backend.to_host(reading.pairs(asked, self.backend.to_device(pending)) > patience)
                left[pending[crowded]] = asked
                pending = pending[~crowded]
            rows, tokens, supports = _ranked(*self._candidates(asked, pending, readings))
            level[rows] = asked
            found.append((rows, tokens, supports))
        return ranked_answers(found, level, most), left

    def _with_crowds(self, contexts: np.ndarray, answers: Answers, left: np.ndarray, most: int) -> Answers:
        """The answers, and those to the contexts that were left; of contexts that end alike one is asked, if none was
        before."""
        kept = self._kept_crowds()
        if len(contexts) == 1:  # one prompt: what follows for many takes as long as the lookup
            crowd = kept.answers.get((most, contexts[0, -self.configuration.spans[left[0]] :].tobytes()))
            if crowd is not None:
                row = np.zeros(crowd.tokens.size, dtype=np.int64)
                return Answers(row, crowd.tokens, crowd.supports, np.array([crowd.level]), np.array([crowd.total]))
        parts = [(answers.row, answers.token, answers.support)]
        level, total = answers.level.copy(), answers.total.copy()
        for asked in np.unique(left[left >= 0]).tolist():
            rows = np.flatnonzero(left == asked)
            ends = np.ascontiguousarray(contexts[rows, -self.configuration.spans[asked] :])
            names, first, place = np.unique(
                ends.view(np.dtype((np.void, ends.shape[1] * ends.itemsize))).reshape(-1),
                return_index=True,
                return_inverse=True,
            )
            keys = [(most, name.tobytes()) for name in names]
            fresh = [i for i, key in enumerate(keys) if key not in kept.answers]
            if fresh:
                found, _ = self._ask(contexts[rows[first[fresh]]], asked, most, 0)
                edges = np.searchsorted(found.row, np.arange(len(fresh) + 1)).tolist()
                for i, at in enumerate(fresh):
                    own = slice(edges[i], edges[i + 1])
                    numbers = found.token[own].copy(), found.support[own].copy()
                    kept.keep(keys[at], Crowd(*numbers, int(found.level[i]), int(found.total[i])))
            crowds = [kept.answers[key] for key in keys]
            level[rows] = np.array([crowd.level for crowd in crowds])[place]
            total[rows] = np.array([crowd.total for crowd in crowds])[place]
            many = np.array([crowd.tokens.size for crowd in crowds])
            owner, number = self.backend.ragged(many[place])
            where = (np.cumsum(many) - many)[place][owner] + number
            tokens, supports = (np.concatenate([getattr(c, n) for c in crowds]) for n in ("tokens", "supports"))
            parts.append((rows[owner], tokens[where], supports[where]))
        row, token, support = (np.concatenate([part[i] for part in parts]) for i in range(3))
        order = np.argsort(row, kind="stable")
        return Answers(row[order], token[order], support[order], level, total)

    def _kept_crowds(self) -> Crowds:
        """Made anew where a segment is another one than it was, or where they have become many."""
        versions = tuple(segment.version for segment in self.segments.values())
        if self._crowds.versions != versions or self._crowds.full:
            self._crowds = Crowds(versions)
        return self._crowds

    def follows(self, context: np.ndarray, token: int, level: int) -> bool:
        kernels = self.backend.kernels_for(_WORK_OF_A_LOOKUP)
        if kernels is not None:
            return any(segment.follows(kernels, context, token, level) for segment in self.segments.values())
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
        return (rows, tokens, supports) if len(parts) == 1 else self._summed(rows, tokens, supports)

    def _summed(
        self, rows: np.ndarray, tokens: np.ndarray, supports: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Each pair once, by row, then token, with its supports (layers, m) in all segments added up."""
        pair, inverse = np.unique(rows * self.configuration.answers + tokens, return_inverse=True)
        summed = np.zeros((len(supports), pair.size), dtype=np.int64)
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
