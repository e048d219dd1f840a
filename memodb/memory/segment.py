"""A segment: all that a set of documents leaves in a memory, whichever engine answers from it.

Every segment has a provenance layer, a counting matrix whose values are documents. What answers is the engine's:
counting matrices too (:mod:`willshaw_memory`), or dense correlation matrices (:mod:`kohonen_memory`).
"""

from __future__ import annotations

import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from memodb.errors import CorruptStore
from memodb.memory.backend import CORES, Array, Backend
from memodb.memory.capacity import limits, measured_pass_rate, rows_refitted
from memodb.memory.codes import ContextKeys, Keys, block_codes, select_rows
from memodb.memory.configuration import EXACT_FLOAT32, Configuration, Geometry
from memodb.memory.decoding import CodeTable
from memodb.memory.packing import packed, unpacked
from memodb.memory.pairs import Batch, DocumentPairs, PairSet, document_pairs
from memodb.memory.votes import Votes
from memodb.memory.willshaw import WillshawMatrix

__all__ = ["ROUNDING", "Codebook", "Contribution", "Imprint", "Segment"]

_VERSIONS = itertools.count()
_WORK_OF_A_ROW = 8
"""What reading a row costs in plain NumPy, in cells that are touched."""

ROUNDING = 1e-3
"""Relative difference between two sums of the same real numbers in different orders that rounding may explain: float32
has 24 bits, and a segment's matrix at most 2^24 terms, most of which may have been taken out again."""


class Codebook:
    """All that a seed and a configuration fix, for every engine: hash keys, row selectors, codes of documents.

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
        self.keys = Keys(seed)
        c = configuration
        self.contexts = ContextKeys.derive(self.keys, c.heads, c.layers, c.window)
        self.key_ones = (*c.layer_ones, c.provenance_ones)
        self.selectors = tuple(
            backend.to_device(self.keys.multipliers(f"rows {index}", ones // 2 + 1))
            for index, ones in enumerate(self.key_ones)
        )
        self._documents = self.keys.multipliers("documents", c.ones // 2 + 1)

    def document_codes(self, symbols: Array) -> Array:
        """Codes of documents by symbol: int64 (n, q)."""
        c = self.configuration
        return block_codes(symbols, self._documents, c.columns, c.ones)

    def keys_of(self, index: int, symbols: Array, rows: int) -> tuple[Array, Array]:
        """Rows and rotation of context symbols in counting matrix ``index`` (a layer, or the last: provenance)."""
        return select_rows(symbols, self.selectors[index], rows, self.key_ones[index], self.configuration.columns)


@dataclass(frozen=True)
class Contribution:
    """What a batch of documents adds to a segment, whatever its geometry.

    Parameters
    ----------
    votes : tuple of Votes
        One a counting matrix, the provenance layer's last.
    correlations : tuple of float32 (d, d)
        One a correlation matrix; none where another contribution of the same change has the sum.
    symbols : uint64 (documents,)
    tokens : int
    """

    votes: tuple[Votes, ...]
    correlations: tuple[Array, ...]
    symbols: Array
    tokens: int


@dataclass(frozen=True)
class Imprint:
    """What a memory is compared by with one that was memorised anew.

    Parameters
    ----------
    digest : str
        SHA-256 of all that is exact in it.
    rounded : tuple of float32 arrays
        Sums of real numbers, which depend on their order; copies on the host.
    """

    digest: str
    rounded: tuple[np.ndarray, ...] = ()

    def residue(self, other: Imprint) -> float:
        """Largest relative difference of a sum, |A - B| / |B| in the Frobenius norm; infinite where what is exact
        differs."""
        if self.digest != other.digest:
            return float("inf")
        return max((_relative(a, b) for a, b in zip(self.rounded, other.rounded, strict=True)), default=0.0)

    def agrees(self, other: Imprint) -> bool:
        """Whether both are of the same documents: equal, but for rounding where there is any."""
        return self.residue(other) <= ROUNDING


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    difference = float(np.linalg.norm(found.astype(np.float64) - expected))
    size = float(np.linalg.norm(expected.astype(np.float64)))
    return difference / size if size else (float("inf") if difference else 0.0)


def _sha256(array: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(array).data).digest()


class Segment(ABC):
    """The matrices of one set of documents, each of them a sum over the documents.

    Adding and subtracting contributions, in any order, gives exactly the matrices of the documents that are left,
    wherever ``configuration.exact`` says so.

    Attributes
    ----------
    matrices : tuple of WillshawMatrix
        Counting matrices: the layers that are such, then the provenance layer.
    correlations : list of float32 (d, d)
        Correlation matrices.
    symbols : uint64 (documents,)
        Symbols of its documents, ascending.
    tokens : int
        Tokens of its documents.
    version : int
        Another one after each change, which no segment of the process had before.
    """

    def __init__(self, codebook: Codebook, geometry: Geometry) -> None:
        self.codebook = codebook
        self.geometry = geometry
        backend, columns = codebook.backend, codebook.configuration.columns
        self.matrices = tuple(
            WillshawMatrix(backend, rows, columns) for rows in (*geometry.rows, geometry.provenance_rows)
        )
        self.correlations: list[Array] = []
        self.symbols = backend.xp.zeros(0, dtype=np.uint64)
        self.tokens = 0
        self.version = next(_VERSIONS)
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
        return sum(matrix.nbytes for matrix in (*self.matrices, *self.correlations))

    @property
    def packed_limit(self) -> int:
        """Most bytes that :meth:`packed` can take, without the symbols: two bits of each cell, a byte of one that
        counts 3, and 16 of one that counts 15."""
        cells = sum(matrix.rows * matrix.columns for matrix in self.matrices)
        return 18 * cells + sum(int(matrix.nbytes) for matrix in self.correlations)

    # -- writing ---------------------------------------------------------------------------------------------------

    def contribution(self, batch: Batch) -> Contribution:
        """What a batch adds to any segment of the codebook: a function of its documents and the seed alone."""
        backend = self.codebook.backend
        pairs = document_pairs(backend, self.codebook.configuration, self.codebook.contexts, batch)
        symbols = backend.to_device(batch.symbols)
        each = [*self._layer_votes(pairs), (pairs.windows, self.codebook.document_codes(symbols))]
        votes = tuple(
            Votes(backend, part.symbols, part.values, codes, selector, ones)
            for (part, codes), selector, ones in zip(each, self.codebook.selectors, self.codebook.key_ones, strict=True)
        )
        return Contribution(votes, self._layer_correlations(pairs), symbols, int(batch.lengths.sum()))

    def contributions(self, batches: Iterable[Batch]) -> list[Contribution]:
        """What each of several batches adds; dense sums are held once, by the first."""
        if not self.correlations:
            every = list(batches)
            tokens = sum(int(batch.tokens.size) for batch in every)
            return self.codebook.backend.each(self.contribution, every, size=tokens)
        found: list[Contribution] = []
        for batch in batches:
            fresh = self.contribution(batch)
            if found and fresh.correlations:
                for total, part in zip(found[0].correlations, fresh.correlations, strict=True):
                    total += part
                fresh = replace(fresh, correlations=())
            found.append(fresh)
        return found

    def _layer_votes(self, pairs: DocumentPairs) -> list[tuple[PairSet, Array]]:
        """Pairs of each counting matrix that answers, and the codes of their values."""
        return []

    def _layer_correlations(self, pairs: DocumentPairs) -> tuple[Array, ...]:
        """What the pairs add to the correlation matrices."""
        return ()

    def has(self, symbol: int) -> bool:
        """Whether it holds the document of this symbol."""
        symbols = self.symbols
        at = int(self.codebook.backend.xp.searchsorted(symbols, np.uint64(symbol)))
        return at < symbols.size and int(symbols[at]) == symbol

    def add(self, *contributions: Contribution) -> None:
        """Memorise: add contributions. Together they take less time than one after another."""
        xp = self.codebook.backend.xp
        tokens = sum(contribution.tokens for contribution in contributions)
        parts = [
            (matrix, [contribution.votes[number] for contribution in contributions])
            for number, matrix in enumerate(self.matrices)
        ]
        self.codebook.backend.each(lambda part: part[0].add(*part[1]), parts, size=tokens)
        for contribution in contributions:
            if contribution.correlations:
                for correlation, update in zip(self.correlations, contribution.correlations, strict=True):
                    correlation += update
        self.symbols = xp.sort(xp.concatenate([self.symbols, *(each.symbols for each in contributions)]))
        self.tokens += tokens
        self._changed()

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
        parts = list(zip(self.matrices, contribution.votes, strict=True))
        refused = self.codebook.backend.each(_subtract, parts, size=contribution.tokens)
        if any(refused):
            # adding back gives the very bytes again; checking every matrix beforehand would read each cell twice
            for (matrix, part), error in zip(parts, refused, strict=True):
                if error is None:
                    matrix.add(part)
            self._changed()
            raise next(error for error in refused if error)
        if contribution.correlations:
            for correlation, update in zip(self.correlations, contribution.correlations, strict=True):
                correlation -= update
        left = xp.ones(self.symbols.size, dtype=bool)
        left[entries] = False
        self.symbols = self.symbols[left]
        self.tokens -= contribution.tokens
        self._changed()

    def _changed(self) -> None:
        """Nothing may be answered from what was found in it before."""
        self.version = next(_VERSIONS)
        self._documents = None

    # -- fullness --------------------------------------------------------------------------------------------------

    def _ones_with(self, contributions: Sequence[Contribution]) -> list[Array]:
        """Popcounts of every matrix's rows, as they would be with contributions added."""
        return self.codebook.backend.each(
            lambda index: self.matrices[index].ones_with([each.votes[index] for each in contributions]),
            range(len(self.matrices)),
            size=sum(each.tokens for each in contributions),
        )

    def pass_rates(self, contributions: Sequence[Contribution] = ()) -> tuple[float, ...]:
        """Measured pass rate of every matrix, as it stands or as it would be with contributions added."""
        c = self.codebook.configuration
        return tuple(
            measured_pass_rate(filled, ones, c.columns, c.ones)
            for filled, ones in zip(self._ones_with(contributions), self.codebook.key_ones, strict=True)
        )

    def limits(self) -> tuple[float, ...]:
        """The pass rate that each counting matrix may reach (see :mod:`memodb.memory.capacity`)."""
        return limits(self.codebook.configuration, self.geometry.ordinal)

    def holds(self, contributions: Sequence[Contribution] = ()) -> bool:
        """Whether the promise is kept, as the segment stands or with contributions added."""
        if len(contributions) > 1 and not self.holds(contributions[:1]):  # less work, where it is seen at once
            return False
        return all(rate <= limit for rate, limit in zip(self.pass_rates(contributions), self.limits(), strict=True))

    @abstractmethod
    def false_recall(self) -> float:
        """Bound on the probability that this segment answers an unknown context, as it is filled now."""

    @abstractmethod
    def miss_rate(self) -> float:
        """Probability that a pair stored once is not answered, as it is filled now."""

    def fitted(self, headroom: float, contributions: Sequence[Contribution] = ()) -> Geometry:
        """A geometry for these documents (and contributions), from the measured fill of each matrix.

        Parameters
        ----------
        headroom : float
            1 for a tight fit, 2 to leave room for as many pairs again.
        """
        c = self.codebook.configuration
        rows = [
            rows_refitted(filled, headroom, limit, c.columns, ones, c.ones)
            for ones, filled, limit in zip(
                self.codebook.key_ones, self._ones_with(contributions), self.limits(), strict=True
            )
        ]
        return Geometry(tuple(rows[:-1]), rows[-1], self.geometry.ordinal)

    # -- reading ---------------------------------------------------------------------------------------------------

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
        table, ones = self._documents, self.codebook.key_ones[-1]
        kernels = backend.kernels_for(int(windows.size) * ones * _WORK_OF_A_ROW)

        def ask(part: slice) -> tuple[Array, Array]:
            if kernels is not None:
                given = self.codebook.selectors[-1], ones, self.provenance.presence, table.occupied, *table.compact
                window, document = kernels.documents(windows[part], *given)
            else:
                keys = self.codebook.keys_of(len(self.layers), windows[part], self.provenance.rows)
                window, document = table.decode(self.provenance.read(*keys))
            return part.start + window, document

        count = int(windows.size)
        size = max(-(-count // (CORES if backend.xp is np else 1)), 1)
        found = backend.each(ask, [slice(at, at + size) for at in range(0, count, size)], size=count)
        window, document = (backend.xp.concatenate(each) for each in zip(*found, strict=True))
        return window, self.symbols[document]

    # -- identity --------------------------------------------------------------------------------------------------

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the geometry and the SHA-256 of each array of :meth:`state`: of the documents'
        symbols and every number in a matrix."""
        return self._digest(self.state())

    def imprint(self) -> Imprint:
        """What this memory is to be compared by."""
        if self.codebook.configuration.exact:
            return Imprint(self.digest())
        state = self.state()
        names = [_correlation(level) for level in range(1, len(self.correlations) + 1)]
        rounded = tuple(state.pop(name).copy() for name in names)
        return Imprint(self._digest(state), rounded)

    def _digest(self, state: Mapping[str, np.ndarray]) -> str:
        arrays = list(state.values())
        digest = hashlib.sha256(repr(self.geometry.to_dict()).encode())
        # of digests, because those of several arrays can be made side by side
        for array, part in zip(arrays, self.codebook.backend.each(_sha256, arrays, size=self.tokens), strict=True):
            digest.update(len(array).to_bytes(8, "little"))
            digest.update(part)
        return digest.hexdigest()

    def state(self) -> dict[str, np.ndarray]:
        """Symbols, counts and correlations as flat host arrays, in a fixed order: good until the segment is changed."""
        to_host = self.codebook.backend.to_host
        arrays = {"symbols": to_host(self.symbols)}
        for number, matrix in enumerate(self.matrices):
            arrays.update((f"{name} {number}", array) for name, array in matrix.state().items())
        for level, correlation in enumerate(self.correlations, 1):
            arrays[_correlation(level)] = to_host(correlation).reshape(-1)
        return arrays

    def packed(self) -> dict[str, np.ndarray]:
        """What :meth:`state` gives, in fewer bytes; good as long."""
        return packed(self.codebook.backend, self.state())

    def restore(self, arrays: Mapping[str, np.ndarray], tokens: int) -> None:
        """Take over what :meth:`packed` of a segment of the same geometry gave.

        Raises
        ------
        CorruptStore
            The arrays are not those of such a segment; this one must not be used then.
        """
        arrays = unpacked(self.codebook.backend, arrays, [int(matrix.cells.size) for matrix in self.matrices])
        if list(arrays) != list(self.state()):
            raise CorruptStore("a segment was given other arrays than it has")
        symbols = arrays["symbols"]
        if symbols.dtype != np.uint64 or symbols.ndim != 1 or not bool((symbols[1:] >= symbols[:-1]).all()):
            raise CorruptStore("a segment was given symbols that are none of documents, in order")
        if type(tokens) is not int or tokens < 0:
            raise CorruptStore(f"a segment was given {tokens!r} tokens")
        parts = [
            (matrix, [arrays[f"{name} {number}"] for name in ("cells", "large", "large_counts")])
            for number, matrix in enumerate(self.matrices)
        ]
        self.codebook.backend.each(lambda part: part[0].restore(*part[1]), parts, size=tokens)
        for level, correlation in enumerate(self.correlations, 1):
            self._restore_correlation(correlation, arrays[_correlation(level)])
        self.symbols = self.codebook.backend.to_device(symbols.copy())
        self.tokens = tokens
        self._changed()

    def _restore_correlation(self, correlation: Array, numbers: np.ndarray) -> None:
        if numbers.shape != (correlation.size,) or numbers.dtype != np.float32:
            raise CorruptStore("a correlation matrix was given numbers of another shape or type")
        if not bool(np.isfinite(numbers).all()):
            raise CorruptStore("a correlation matrix was given what is no number")
        whole = bool((numbers == np.rint(numbers)).all()) and bool((np.abs(numbers) <= EXACT_FLOAT32).all())
        if self.codebook.configuration.exact and not whole:
            raise CorruptStore("a correlation matrix of whole numbers was given others")
        correlation[...] = self.codebook.backend.to_device(numbers.copy()).reshape(correlation.shape)


def _subtract(part: tuple[WillshawMatrix, Votes]) -> CorruptStore | None:
    """Why a matrix refuses to forget its part, if it does."""
    try:
        part[0].subtract(part[1])
    except CorruptStore as error:
        return error
    return None


def _correlation(level: int) -> str:
    """Name of a correlation matrix among a segment's arrays."""
    return f"correlation {level}"
