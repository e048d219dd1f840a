"""The engine that memodb is for: counting matrices that never miss, and answer the unknown at a promised rate.

A layer each for contexts of 1, h, h^2, ... tokens; the layers agree on an answer, and the longest context that any
segment knows decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from memodb.memory import alone
from memodb.memory.answers import Answers, Best
from memodb.memory.backend import CORES, Array, Backend
from memodb.memory.codes import block_codes, context_symbols, select_columns
from memodb.memory.configuration import Geometry, WillshawConfiguration
from memodb.memory.crowds import MOST_KEPT, Crowds
from memodb.memory.decoding import CodeTable
from memodb.memory.memory import Memory
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

_FEWEST = 1024
"""Contexts that one core is given at least."""


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

    @cached_property
    def compact(self) -> tuple[Any, ...]:
        """What the kernels are told: columns, multipliers of tokens, and of heads (layers, h + 1), row selectors
        (layers + 1, ...), of which ``ones // 2 + 2`` numbers count, and ones of the layers."""
        heads = self.contexts.layers
        selectors = self.selectors[:-1]
        padded = np.zeros((len(selectors), max(each.size for each in selectors)), dtype=np.uint64)
        for row, selector in zip(padded, selectors, strict=True):
            row[: selector.size] = selector
        stacked = np.stack(heads) if heads else np.zeros((0, 1), dtype=np.uint64)
        return self.configuration.columns, self.contexts.token, stacked, padded, np.array(self.key_ones[:-1])

    @cached_property
    def numbers(self) -> alone.Numbers:
        """What one context by itself is asked by."""
        return alone.Numbers.of(self.contexts, self.selectors, self.key_ones, self.tokens)


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
    keys: list[tuple[Array, Array]]
    agreed: list[Array]

    def candidates(self, level: int, contexts: Array) -> tuple[Array, Array]:
        """Tokens that layers 0..level answer to some of the contexts: (place in ``contexts``, token), int64 (m,)."""
        return self.segment.codebook.tokens.decode(self.agreed[level][contexts])

    def pairs(self, level: int, contexts: Array) -> Array:
        """Pairs of columns to be looked at for the candidates of some contexts: int64 (m,)."""
        return self.segment.codebook.tokens.pairs(self.agreed[level][contexts])

    def supports(self, layers: slice, contexts: Array, tokens: Array) -> Array:
        """Least counts of (context, token) pairs.

        Parameters
        ----------
        layers : slice
        contexts, tokens : int64 (m,)

        Returns
        -------
        int64 (layers, m)
            Entry i is the least count in the i-th of these layers: at least the number of documents that stored the
            pair there.
        """
        xp = self.segment.codebook.backend.xp
        codes = self.segment.codebook.tokens.codes[tokens]
        crowded = False
        if contexts.size > _CROWD:  # of one context at least
            distinct, place = xp.unique(contexts, return_inverse=True)
            crowded = contexts.size > _CROWD * distinct.size
        supports: list[Array] = []
        for matrix, (rows, rotation) in zip(self.segment.layers[layers], self.keys[layers], strict=False):
            if crowded:
                least = matrix.support_in_crowds(rows[:, distinct], rotation[distinct], place, codes)
            else:
                columns = select_columns(codes, rotation[contexts], matrix.columns)
                least = matrix.support(rows[:, contexts], columns)
            supports.append(least)
        return xp.stack(supports)


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


@dataclass(frozen=True)
class _Views:
    """What the kernels are told of segments, while they have these versions.

    Parameters
    ----------
    numbers : int64 (segments * layers, 7)
        See :meth:`WillshawMatrix.addresses`.
    told : dict
        Of each segment, by its version: the numbers of its layers, and the arrays that lie at the addresses, which are
        held as long as these are used.
    """

    numbers: np.ndarray
    told: dict[int, list[tuple[list[int], tuple[Any, ...]]]]


class WillshawMemory(Memory):
    """Segments whose layers agree on what they answer.

    Where the best few are wanted, contexts with very many candidates are left at first; then, of those that end alike,
    one is asked, if its answer is not kept (:mod:`memodb.memory.crowds`).
    """

    codebook: WillshawCodebook
    segments: dict[str, WillshawSegment]  # type: ignore[assignment]

    def __init__(self, backend: Backend, configuration: WillshawConfiguration, seed: bytes) -> None:
        super().__init__(WillshawCodebook(backend, configuration, seed))
        self._views = _Views(np.zeros((0, 0), dtype=np.int64), {})
        self._crowds: tuple[tuple[int, ...], dict[int, Crowds]] = ((), {})

    def new_segment(self, geometry: Geometry) -> WillshawSegment:
        cells = (sum(geometry.rows) + geometry.provenance_rows) * self.configuration.columns
        nbytes = cells * 5 // 8  # four bits of a count, and one of the presence view
        if nbytes > _SMALL:  # asking takes longer than allocating little
            advice = "nothing was changed; use one with more, or a store with smaller segments or fewer layers"
            self.backend.require_room(nbytes, f"a segment of {cells:,} cells", advice)
        return WillshawSegment(self.codebook, geometry)

    def _lookup_part(self, contexts: np.ndarray, top: int) -> Answers:
        kernels = self._kernels_for(contexts)
        if kernels is None:
            return self._plain(contexts, top)[0]
        views, nothing = self._gathered(kernels), Crowds.nothing(contexts.shape[1], 0).compact
        parts, size = [], 2 * len(contexts) + 16
        while len(contexts):
            room = np.empty((2, size), dtype=np.int64)
            done, needed, *found = kernels.lookup(contexts, top, 0, 0, False, *room, *self._told(views), *nothing)
            many, level, total, *_ = (each[:done] for each in found)
            row = np.repeat(np.arange(done), many)
            parts.append(Answers(row, room[0, : row.size], room[1, : row.size], level, total))
            contexts, size = contexts[done:], max(size, 2 * needed)
        return parts[0] if len(parts) == 1 else Answers.joined(parts)

    def _best_part(self, contexts: np.ndarray, top: int, most: int) -> Best:
        alone = len(contexts) == 1  # no other can end alike
        best, left, symbols = self._ask(contexts, top, most, leaving=not alone)
        if alone and left[0] >= 0:
            self._keep(symbols, int(left[0]), contexts, best)
        if alone or not (left >= 0).any():
            return best
        for asked in np.unique(left[left >= 0]).tolist():
            rows = np.flatnonzero(left == asked)
            best.put(rows, self._crowded(contexts[rows], symbols[rows], asked, most))
        return best

    def _crowded(self, contexts: np.ndarray, symbols: np.ndarray, asked: int, most: int) -> Best:
        """The answers to contexts that were left at a layer; of those that end alike one is asked, and kept."""
        ends = np.ascontiguousarray(contexts[:, -self._span(asked) :])
        names = ends.view(np.dtype((np.void, ends.shape[1] * ends.itemsize))).reshape(-1)
        _, first, place = np.unique(names, return_index=True, return_inverse=True)
        found, *_ = self._ask(contexts[first], asked, most, leaving=False)
        self._keep(symbols[first], asked, contexts[first], found)
        return found.chosen(place)

    def _keep(self, symbols: np.ndarray, asked: int, contexts: np.ndarray, answers: Best) -> None:
        most = answers.token.shape[1]
        self._crowds[1][most] = self._kept(most).plus(symbols, asked, contexts, answers)

    def _ask(self, contexts: np.ndarray, top: int, most: int, *, leaving: bool) -> tuple[Best, np.ndarray, np.ndarray]:
        """The best candidates of contexts, of layers 0..top; and of those that have many, of which no answer is kept,
        the layer that they have them in, int64 (n,), -1 of the others, and their symbol there, uint64 (n,). If
        ``leaving``, such a one has no answer."""
        kernels = self._kernels_for(contexts)
        if kernels is None:
            return self._ask_plain(contexts, top, most, leaving=leaving)
        n, views, kept = len(contexts), self._gathered(kernels), self._kept(most).compact
        token, support = np.empty((2, n, most), dtype=np.int64)

        def ask(part: slice) -> tuple[np.ndarray, ...]:
            room = token[part].reshape(-1), support[part].reshape(-1)
            given = contexts[part], top, most, _PATIENCE, leaving
            found: tuple[np.ndarray, ...] = kernels.lookup(*given, *room, *self._told(views), *kept)
            return found[3:]

        size = max(-(-n // CORES), _FEWEST)
        if n <= size:
            level, total, left, symbols = ask(slice(n))
        else:
            parts = self.backend.each(ask, [slice(at, at + size) for at in range(0, n, size)], size=n)
            level, total, left, symbols = (np.concatenate(each) for each in zip(*parts, strict=True))
        return Best(token, support, level, total), left, symbols

    def _ask_plain(
        self, contexts: np.ndarray, top: int, most: int, *, leaving: bool
    ) -> tuple[Best, np.ndarray, np.ndarray]:
        answers, left = self._plain(contexts, top, _PATIENCE)
        best, kept, symbols = answers.best(most), self._kept(most), np.zeros(len(contexts), dtype=np.uint64)
        for asked in np.unique(left[left >= 0]).tolist():
            rows = np.flatnonzero(left == asked)
            symbols[rows] = self._symbols(contexts[rows])[asked]
            known, its = kept.find(symbols[rows], asked, contexts[rows], self._span(asked))
            best.put(rows[known], its)
            left[rows[known]] = -1
            if not leaving and not known.all():
                best.put(rows[~known], self._plain(contexts[rows[~known]], asked)[0].best(most))
        return best, left, symbols

    def _symbols(self, contexts: np.ndarray) -> list[np.ndarray]:
        """Of the contexts, host arrays, one a layer."""
        if len(contexts) == 1:
            names = alone.symbols(contexts[0].tolist(), self.codebook.numbers)
            return list(np.array(names, dtype=np.uint64)[:, None])
        symbols = context_symbols(self.backend.to_device(contexts), self.codebook.contexts)
        return [self.backend.to_host(each) for each in symbols]

    def _span(self, layer: int) -> int:
        return self.configuration.spans[layer]

    def _kernels_for(self, contexts: np.ndarray) -> ModuleType | None:
        work = _WORK_OF_A_LOOKUP + _WORK_OF_A_CONTEXT * len(contexts)
        return self.backend.kernels_for(work) if self.segments else None

    def _gathered(self, kernels: ModuleType) -> _Views:
        """Made anew of each segment that is another one than it was."""
        views = self._views
        if tuple(views.told) != self._versions():
            ones, told = self.codebook.key_ones, {}
            for segment in self.segments.values():
                matrices = zip(segment.layers, ones, strict=False)
                known = views.told.get(segment.version)
                told[segment.version] = known or [matrix.addresses(each, kernels) for matrix, each in matrices]
            numbers = [numbers for layers in told.values() for numbers, _ in layers]
            views = self._views = _Views(np.array(numbers, dtype=np.int64), told)
        return views

    def _told(self, views: _Views) -> tuple[Any, ...]:
        return *self.codebook.compact, views.numbers, *self.codebook.tokens.compact

    def _kept(self, most: int) -> Crowds:
        """Made anew where a segment is another one than it was, or where they have become many."""
        versions, kept = self._crowds
        if versions != self._versions() or sum(crowds.size for crowds in kept.values()) > MOST_KEPT:
            kept = {}
            self._crowds = (self._versions(), kept)
        return kept.get(most) or Crowds.nothing(self.configuration.longest, most)

    def _versions(self) -> tuple[int, ...]:
        return tuple(segment.version for segment in self.segments.values())

    def _plain(self, contexts: np.ndarray, top: int, patience: int = 0) -> tuple[Answers, np.ndarray]:
        """Answers, and the layer at which each context is left for its many candidates: int64 (n,), -1 where it is
        not."""
        if len(contexts) == 1 and self.backend.xp is np:
            answered = self._alone(contexts, top, patience)
            if answered is not None:
                return answered
        symbols = context_symbols(self.backend.to_device(contexts), self.codebook.contexts)
        readings = [segment.read(symbols[: top + 1]) for segment in self.segments.values()]
        level, left = np.full((2, len(contexts)), -1, dtype=np.int64)
        found = []
        for asked in range(top, -1, -1):
            pending = np.flatnonzero((level < 0) & (left < 0))
            if not pending.size or not readings:
                break
            if patience:
                given = self.backend.to_device(pending)
                pairs = np.stack([self.backend.to_host(reading.pairs(asked, given)) for reading in readings])
                crowded = (pairs > patience).any(axis=0)
                left[pending[crowded]] = asked
                pending = pending[pairs.any(axis=0) & ~crowded]
                if not pending.size:
                    continue
            rows, tokens, supports = _ranked(*self._candidates(asked, pending, readings))
            level[rows] = asked
            found.append((rows, tokens, supports))
        return Answers.ranked(found, level), left

    def _alone(self, contexts: np.ndarray, top: int, patience: int) -> tuple[Answers, np.ndarray] | None:
        """As :meth:`_plain`, of one context; None where NumPy is faster."""
        layers = [segment.layers for segment in self.segments.values()]
        found = alone.ask(contexts[0].tolist(), top, layers, self.codebook.numbers, patience or _PATIENCE)
        if found is None or (found[2] >= 0 and not patience):
            return None
        level, ranked, left = found
        token, support = np.array(ranked, dtype=np.int64).reshape(-1, 2).T
        row, total = np.zeros(token.size, dtype=np.int64), support.sum(keepdims=True)
        return Answers(row, token, support, np.array([level]), total), np.array([left])

    def follows(self, context: np.ndarray, token: int, level: int) -> bool:
        kernels = self._kernels_for(context[None])
        if kernels is not None:
            code, views = self.codebook.tokens.codes[token], self._gathered(kernels)
            return bool(kernels.follows(context, code, level, *self.codebook.compact, views.numbers))
        symbols = context_symbols(self.backend.to_device(context[None]), self.codebook.contexts)[: level + 1]
        place, asked = (self.backend.to_device(np.array([number])) for number in (0, token))
        return any(
            bool((segment.read(symbols).supports(slice(level + 1), place, asked) > 0).all())
            for segment in self.segments.values()
        )

    def _candidates(
        self, level: int, pending: np.ndarray, readings: list[Reading]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Candidates of one layer by row, then token: rows, tokens, supports (level + 1, m) added up over segments."""
        to_host, to_device = self.backend.to_host, self.backend.to_device
        found = [reading.candidates(level, to_device(pending)) for reading in readings]
        parts = [(pending[to_host(place)], to_host(token)) for place, token in found]
        rows, tokens = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        supports = np.zeros((level + 1, rows.size), dtype=np.int64)
        ranked = np.bincount(rows)[rows] > 1  # where there is nothing to rank, the layers below need not be asked
        at = 0
        for reading, (row, token) in zip(readings, parts, strict=True):
            its = slice(at, at := at + row.size)
            supports[level, its] = to_host(reading.supports(slice(level, level + 1), to_device(row), to_device(token)))
            several = np.flatnonzero(ranked[its])
            if level and several.size:
                given = to_device(row[several]), to_device(token[several])
                supports[:level, its][:, several] = to_host(reading.supports(slice(level), *given))
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
