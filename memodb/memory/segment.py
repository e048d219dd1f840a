"""A segment: the matrices of one set of documents, and the codebook that all segments of a collection share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memodb.errors import CorruptStore
from memodb.memory.backend import Array, Backend
from memodb.memory.capacity import (
    PROVENANCE_PASS_RATE,
    Configuration,
    Geometry,
    even_pass_rate,
    measured_pass_rate,
    pass_rate_limit,
    rows_for,
    stored_pairs,
)
from memodb.memory.codes import ContextKeys, Keys, block_codes, select_columns, select_rows
from memodb.memory.decoding import CodeTable
from memodb.memory.pairs import Batch, PairSet, document_pairs
from memodb.memory.willshaw import Tally, WillshawMatrix, flat_cells, tally

__all__ = ["Codebook", "Contribution", "Reading", "Segment"]


class Codebook:
    """All that a seed and a configuration fix: hash keys, row selectors, token codes.

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
        keys = Keys(seed)
        c = configuration
        self.contexts = ContextKeys.derive(keys, c.heads, c.layers, c.window)
        self.key_ones = (*(c.key_ones(level) for level in range(c.layers + 1)), c.provenance_ones)
        self.selectors = tuple(
            keys.multipliers(f"rows {index}", ones // 2 + 1) for index, ones in enumerate(self.key_ones)
        )
        token_codes = block_codes(
            backend.xp.arange(c.answers, dtype=np.uint64),
            keys.multipliers("tokens", c.ones // 2 + 1),
            c.columns,
            c.ones,
        )
        self.tokens = CodeTable(backend, token_codes, c.columns)
        self._documents = keys.multipliers("documents", c.ones // 2 + 1)

    def document_codes(self, symbols: Array) -> Array:
        """Codes of documents by symbol: int64 (n, q)."""
        c = self.configuration
        return block_codes(symbols, self._documents, c.columns, c.ones)

    def keys_of(self, index: int, symbols: Array, rows: int) -> tuple[list[Array], Array]:
        """Rows and rotation of context symbols in matrix ``index`` (a layer, or the last: provenance)."""
        return select_rows(symbols, self.selectors[index], rows, self.key_ones[index], self.configuration.columns)


@dataclass(frozen=True)
class Reading:
    """What one segment says about n contexts.

    Parameters
    ----------
    segment : Segment
    keys : list of (rows, rotation)
        Of the contexts, a pair a layer.
    agreed : list of uint64 (n, c/64)
        Entry L holds the columns that survive layers 0..L: the layers agree.
    """

    segment: Segment
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


@dataclass(frozen=True)
class Contribution:
    """What a batch of documents adds to a segment of one geometry: a tally a matrix (layers, then provenance)."""

    tallies: tuple[Tally, ...]
    symbols: Array
    tokens: int


class Segment:
    """The matrices of one set of documents: a layer each for contexts of 1, h, h^2, ... tokens, and one for provenance.

    A segment is an integer sum over its documents. Adding and subtracting contributions, in any order, gives exactly
    the matrices of the documents that are left.

    Attributes
    ----------
    matrices : tuple of WillshawMatrix
        Layers 0..l, then the provenance layer.
    symbols : uint64 (documents,)
        Symbols of its documents, ascending.
    tokens : int
        Tokens of its documents.
    """

    def __init__(self, codebook: Codebook, geometry: Geometry) -> None:
        self.codebook = codebook
        self.geometry = geometry
        backend, columns = codebook.backend, codebook.configuration.columns
        self.matrices = tuple(
            WillshawMatrix(backend, rows, columns) for rows in (*geometry.rows, geometry.provenance_rows)
        )
        self.symbols = backend.xp.zeros(0, dtype=np.uint64)
        self.tokens = 0
        self._documents: CodeTable | None = None

    @property
    def layers(self) -> tuple[WillshawMatrix, ...]:
        return self.matrices[:-1]

    @property
    def provenance(self) -> WillshawMatrix:
        return self.matrices[-1]

    @property
    def nbytes(self) -> int:
        """Bytes held in memory by all matrices."""
        return sum(matrix.nbytes for matrix in self.matrices)

    # -- writing ---------------------------------------------------------------------------------------------------

    def contribution(self, batch: Batch) -> Contribution:
        """What a batch adds to this segment: a function of its documents, the seed and the geometry alone."""
        backend = self.codebook.backend
        layers, windows = document_pairs(backend, self.codebook.configuration, self.codebook.contexts, batch)
        symbols = backend.to_device(batch.symbols)
        document_codes = self.codebook.document_codes(symbols)
        tallies = [
            self._tally(index, pairs, self.codebook.tokens.codes[pairs.values]) for index, pairs in enumerate(layers)
        ]
        tallies.append(self._tally(len(layers), windows, document_codes[windows.values]))
        return Contribution(tuple(tallies), symbols, int(batch.lengths.sum()))

    def _tally(self, index: int, pairs: PairSet, codes: Array) -> Tally:
        matrix = self.matrices[index]
        rows, rotation = self.codebook.keys_of(index, pairs.symbols, matrix.rows)
        columns = select_columns(codes, rotation, matrix.columns)
        return tally(matrix.backend, flat_cells(matrix.backend, rows, columns, matrix.columns))

    def has(self, symbol: int) -> bool:
        """Whether it holds the document of this symbol."""
        symbols = self.symbols
        at = int(self.codebook.backend.xp.searchsorted(symbols, np.uint64(symbol)))
        return at < symbols.size and int(symbols[at]) == symbol

    def add(self, contribution: Contribution) -> None:
        """Memorise: add a contribution, computed for this segment's geometry."""
        xp = self.codebook.backend.xp
        for matrix, part in zip(self.matrices, contribution.tallies, strict=True):
            matrix.add(part)
        self.symbols = xp.sort(xp.concatenate([self.symbols, contribution.symbols]))
        self.tokens += contribution.tokens
        self._documents = None

    def subtract(self, contribution: Contribution) -> None:
        """Forget: take a contribution out, exactly.

        Raises
        ------
        CorruptStore
            The segment does not hold what it should forget. Nothing is changed; the segment must be rebuilt.
        """
        xp = self.codebook.backend.xp
        gone = xp.sort(contribution.symbols)
        # one entry each, also where two ids share a symbol
        entries = xp.searchsorted(self.symbols, gone) + xp.arange(gone.size) - xp.searchsorted(gone, gone)
        # without this a document shorter than a window, which the provenance layer does not know, could go twice
        if gone.size and (int(entries.max()) >= self.symbols.size or bool((self.symbols[entries] != gone).any())):
            raise CorruptStore("a segment does not hold the documents it should forget: run check, and rebuild it")
        done: list[tuple[WillshawMatrix, Tally]] = []
        try:
            for matrix, part in zip(self.matrices, contribution.tallies, strict=True):
                matrix.subtract(part)
                done.append((matrix, part))
        except CorruptStore:
            # adding back gives the very bytes again; checking every matrix beforehand would read each cell twice
            for matrix, part in done:
                matrix.add(part)
            raise
        left = xp.ones(self.symbols.size, dtype=bool)
        left[entries] = False
        self.symbols = self.symbols[left]
        self.tokens -= contribution.tokens
        self._documents = None

    # -- fullness --------------------------------------------------------------------------------------------------

    def _ones_with(self, contributions: Sequence[Contribution]) -> list[Array]:
        """Popcounts of every matrix's rows, as they would be with contributions added."""
        return [
            matrix.ones_with([contribution.tallies[index] for contribution in contributions])
            for index, matrix in enumerate(self.matrices)
        ]

    def pass_rates(self, contributions: Sequence[Contribution] = ()) -> tuple[float, ...]:
        """Measured pass rate of every matrix, as it stands or as it would be with contributions added."""
        c = self.codebook.configuration
        return tuple(
            measured_pass_rate(filled, ones, c.columns, c.ones)
            for filled, ones in zip(self._ones_with(contributions), self.codebook.key_ones, strict=True)
        )

    def limits(self) -> tuple[float, ...]:
        """The pass rate that each matrix may reach (see :mod:`memodb.memory.capacity`)."""
        layer = pass_rate_limit(self.codebook.configuration, self.geometry.ordinal)
        return (*(layer for _ in self.layers), PROVENANCE_PASS_RATE)

    def holds(self, contributions: Sequence[Contribution] = ()) -> bool:
        """Whether the promise is kept, as the segment stands or with contributions added."""
        return all(rate <= limit for rate, limit in zip(self.pass_rates(contributions), self.limits(), strict=True))

    def false_recall(self) -> float:
        """Bound on the probability that this segment answers an unknown context, in its weakest layer: V * max g."""
        return self.codebook.configuration.answers * max(self.pass_rates()[:-1])

    def fitted(self, headroom: float, contributions: Sequence[Contribution] = ()) -> Geometry:
        """A geometry for these documents (and contributions), from the measured fill of each matrix.

        Parameters
        ----------
        headroom : float
            1 for a tight fit, 2 to leave room for as many pairs again.
        """
        c = self.codebook.configuration
        rows = []
        for matrix, ones, filled, limit in zip(
            self.matrices, self.codebook.key_ones, self._ones_with(contributions), self.limits(), strict=True
        ):
            fill = min(float(filled.mean()) / c.columns, 0.999)
            pairs = stored_pairs(fill, matrix.rows, c.columns, ones, c.ones)
            # Rows fill unevenly: what the measured rate has over the even one, the new geometry must win back.
            even = even_pass_rate(fill, matrix.rows, ones, c.ones)
            uneven = measured_pass_rate(filled, ones, c.columns, c.ones) / even if even > 0 else 1.0
            rows.append(rows_for(pairs * headroom, limit / max(1.0, uneven), c.columns, ones, c.ones))
        return Geometry(tuple(rows[:-1]), rows[-1], self.geometry.ordinal)

    # -- reading ---------------------------------------------------------------------------------------------------

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

    def documents(self, windows: Array) -> tuple[Array, Array]:
        """Documents that may hold each window: never misses one that does.

        Parameters
        ----------
        windows : uint64 (n,)
            Window symbols.

        Returns
        -------
        window, symbol : int64 (m,), uint64 (m,)
            Place of the window, and symbol of the document.
        """
        backend = self.codebook.backend
        if self._documents is None:
            codes = self.codebook.document_codes(self.symbols)
            self._documents = CodeTable(backend, codes, self.codebook.configuration.columns)
        words = self.provenance.read(*self.codebook.keys_of(len(self.layers), windows, self.provenance.rows))
        window, document = self._documents.decode(words)
        return window, self.symbols[document]

    # -- identity --------------------------------------------------------------------------------------------------

    def digest(self) -> str:
        """SHA-256 of the geometry, the documents' symbols and every count, in hexadecimal."""
        state = hashlib.sha256(repr(self.geometry.to_dict()).encode())
        for array in self.state().values():
            state.update(len(array).to_bytes(8, "little"))
            state.update(np.ascontiguousarray(array).data)
        return state.hexdigest()

    def state(self) -> dict[str, np.ndarray]:
        """Symbols and counts as host arrays, in a fixed order."""
        arrays = {"symbols": self.codebook.backend.to_host(self.symbols)}
        for number, matrix in enumerate(self.matrices):
            arrays.update((f"{name} {number}", array) for name, array in matrix.state().items())
        return arrays

    def restore(self, arrays: Mapping[str, np.ndarray], tokens: int) -> None:
        """Take over what :meth:`state` of a segment of the same geometry gave.

        Raises
        ------
        CorruptStore
            The arrays are not those of such a segment; this one must not be used then.
        """
        if list(arrays) != list(self.state()):
            raise CorruptStore("a segment was given other arrays than it has")
        symbols = arrays["symbols"]
        if symbols.dtype != np.uint64 or symbols.ndim != 1 or not bool((symbols[1:] >= symbols[:-1]).all()):
            raise CorruptStore("a segment was given symbols that are none of documents, in order")
        if type(tokens) is not int or tokens < 0:
            raise CorruptStore(f"a segment was given {tokens!r} tokens")
        for number, matrix in enumerate(self.matrices):
            matrix.restore(*(arrays[f"{name} {number}"] for name in ("cells", "large", "large_counts")))
        self.symbols = self.codebook.backend.to_device(symbols.copy())
        self.tokens = tokens
        self._documents = None
