"""The counting Willshaw matrix: one layer of a memory.

A binary associative matrix (Willshaw, Buneman and Longuet-Higgins, "Non-holographic associative memory", 1969) whose
cells count how many documents set them, so that a document can be taken out again: the same step as from a Bloom filter
to a counting Bloom filter (Fan, Cao, Almeida and Broder 2000), read like a Count-Min sketch (Cormode and Muthukrishnan
2005).

Representation, a function of the cells' values alone (nothing in it tells in which order documents came or went):

``cells``        uint8 (R * c/2,) min(count, 15) of two columns: the even one's in the low four bits
``large``        int64 (m,)       flat numbers, ascending, of the cells that count 15 or more
``large_counts`` int64 (m,)       their counts
``presence``     uint64 (R, c/64) bit j of a row is set where column j counts above 0 (word j // 64, bit j % 64)
``ones``         int32 (R,)       bits set in each row

Counts never saturate and never wrap: a cell at 15 is a pointer into the table. In ordinary text one cell in six hundred
is there, so that four bits and the table take half of the bytes that eight bits would (docs/memory.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np

from memodb.errors import CorruptStore
from memodb.memory.backend import Array, Backend
from memodb.memory.codes import select_columns
from memodb.memory.decoding import bits_set
from memodb.memory.votes import Tally, Votes, tally

__all__ = ["LARGE", "WillshawMatrix", "halves"]

LARGE = 15
_FEW = 128
"""Pairs, or contexts, of which all cells or rows are looked at in one step, because steps take longer than these."""
_CELLS_OF_A_HIT = 16
"""Cells that counting row by row goes through in the time in which counting pair by pair finds one."""
_ROOM = 64
"""The part of a table of large counts that is room for more: it is copied when that is full, not with each document."""
_NEVER_ADDED = "a memory holds less than the documents it should forget: run check, and rebuild it"


def halves(backend: Backend, cells: Array) -> Array:
    """Counts of four bits, two a byte (..., n), as bytes (..., 2 n)."""
    pairs = backend.xp.stack([cells & np.uint8(LARGE), cells >> np.uint8(4)], axis=-1)
    return pairs.reshape(*cells.shape[:-1], 2 * cells.shape[-1])


class WillshawMatrix:
    """An R x c matrix of counts with its packed presence view.

    Parameters
    ----------
    backend : Backend
    rows, columns : int
        R and c; c is a multiple of 64.
    """

    def __init__(self, backend: Backend, rows: int, columns: int) -> None:
        xp = backend.xp
        self.backend = backend
        self.rows = rows
        self.columns = columns
        self.cells = backend.zeros((rows * columns // 2,), np.uint8)
        self.large = xp.zeros(0, dtype=np.int64)
        self.large_counts = xp.zeros(0, dtype=np.int64)
        self.presence = backend.zeros((rows, columns // 64), np.uint64)
        self.ones = xp.zeros(rows, dtype=np.int32)

    @property
    def nbytes(self) -> int:
        """Bytes held in memory: counts, table of large counts, presence view and popcounts."""
        table = self._table
        tables = (self.large, self.large_counts) if table is None else (table,)
        return int(sum(array.nbytes for array in (self.cells, *tables, self.presence, self.ones)))

    @property
    def _table(self) -> np.ndarray | None:
        """The large cells and their counts, int64 (2, room), where they stand in one table with room behind them."""
        table = self.large.base
        return table if isinstance(table, np.ndarray) and table.ndim == 2 else None

    def counts_of(self, cells: Array) -> Array:
        """Counts of flat cell numbers, any shape: int64 of the same shape."""
        counts = self._small_counts(cells).astype(np.int64)
        if self.large.size:
            xp = self.backend.xp
            beyond = xp.nonzero(counts == LARGE)
            counts[beyond] = self.large_counts[xp.searchsorted(self.large, cells[beyond])]
        return counts

    def _small_counts(self, cells: Array) -> Array:
        """Counts up to 15 of flat cell numbers, any shape: uint8 of the same shape."""
        found: Array = (self.cells[cells >> 1] >> ((cells & 1) << 2).astype(np.uint8)) & np.uint8(LARGE)
        return found

    def add(self, *parts: Tally | Votes) -> None:
        """Add what documents vote for to the counts."""
        votes = [part for part in parts if isinstance(part, Votes)]
        hits = sum(part.hits for part in votes)
        kernels = self._kernels_for(votes)
        much = hits * _CELLS_OF_A_HIT >= self.rows * self.columns and len(votes) == len(parts)
        # counted in 32 bits: a table from elsewhere may hold what goes beyond
        if kernels is None or not much or int(self.large_counts.max(initial=0)) + hits >= 1 << 31:
            for part in parts:
                self._add(part)
            return
        self.large, self.large_counts = kernels.add_many(
            *self._views, self.large, self.large_counts, *Votes.joined(votes).pairs
        )

    def _add(self, part: Tally | Votes) -> None:
        kernels = self._kernels_for([part])
        counted = self._counted(part, None if kernels is None else kernels.add)
        self._store(counted.cells, *self._changed(counted, 1))

    def subtract(self, part: Tally | Votes) -> None:
        """Take what documents voted for out of the counts.

        Raises
        ------
        CorruptStore
            A count would fall below zero: what is taken out was never added. Nothing is changed.
        """
        kernels = self._kernels_for([part])
        counted = self._counted(part, None if kernels is None else kernels.subtract)
        try:
            changed = self._changed(counted, -1)
        except CorruptStore:
            if kernels is not None and isinstance(part, Votes):
                kernels.put_back(*self._views, *part.pairs, part.hits)
            raise
        self._store(counted.cells, *changed)

    def _changed(self, counted: Tally, sign: int) -> tuple[Array, Array, Array, Array]:
        """Counts up to 15 of a tally's cells, uint8, as they are and as they will be once it is added (1) or taken out
        (-1); places of those that are or will be 15 or more, and what these will be, int64.

        Raises
        ------
        CorruptStore
            A count would fall below zero.
        """
        xp = self.backend.xp
        old = self._small_counts(counted.cells)
        if sign > 0:
            new = old + xp.minimum(counted.counts, LARGE).astype(np.uint8)
        else:
            new = old - xp.minimum(counted.counts, old).astype(np.uint8)
        beyond = xp.flatnonzero(xp.maximum(old, new) >= LARGE)
        whole = self.counts_of(counted.cells[beyond]) + sign * counted.counts[beyond].astype(np.int64)
        if sign < 0 and (bool(((counted.counts > old) & (old < LARGE)).any()) or bool((whole < 0).any())):
            raise CorruptStore(_NEVER_ADDED)
        new[beyond] = xp.minimum(whole, LARGE).astype(np.uint8)
        return old, new, beyond, whole

    def ones_with(self, parts: Sequence[Tally | Votes]) -> Array:
        """``ones`` as it would be with the parts added: integer (R,), not to be written to."""
        xp, kernels = self.backend.xp, self._kernels_for(parts)
        words, ones = self.presence.reshape(-1), self.ones
        votes, fresh = [part for part in parts if isinstance(part, Votes)], []
        hits = sum(part.hits for part in votes)
        if kernels is not None:
            parts = [part for part in parts if isinstance(part, Tally)]
            if hits < words.size:
                fresh = [kernels.fresh(words, self.rows, self.columns, *part.pairs) for part in votes]
            else:  # then a copy of all words is less than a list of cells
                words, ones = words.copy(), ones.copy()
                for part in votes:
                    kernels.ones_with(words, ones, self.columns, *part.pairs)
        elif hits * _CELLS_OF_A_HIT >= self.rows * self.columns:
            held = xp.zeros(self.rows * self.columns, dtype=bool)
            for each in parts:
                held[each.cells if isinstance(each, Tally) else each.cells(self.rows, self.columns)] = True
            words = words | xp.packbits(held, bitorder="little").view(np.uint64)
            return bits_set(words.reshape(self.rows, -1)).sum(axis=1)
        for each in parts:
            cells = self._counted(each).cells
            fresh.append(cells[(words[cells >> 6] >> (cells & 63).astype(np.uint64)) & np.uint64(1) == 0])
        if not fresh:
            return ones
        distinct = tally(self.backend, xp.concatenate(fresh)).cells
        if not distinct.size:  # cupy.bincount refuses an empty array
            return ones
        return ones + xp.bincount(distinct // self.columns, minlength=self.rows)

    def _kernels_for(self, parts: Sequence[Tally | Votes]) -> ModuleType | None:
        """For votes alone: where a tally was made, most of the work is done."""
        hits = sum(part.hits for part in parts if isinstance(part, Votes))
        return self.backend.kernels_for(hits) if hits else None

    def _counted(self, part: Tally | Votes, kernel: Callable[..., Array | None] | None = None) -> Tally:
        """What is left to be counted: of votes that a kernel counts, only what goes beyond four bits."""
        if isinstance(part, Tally):
            return part
        if kernel is None:
            return part.tally(self.rows, self.columns)
        beyond = kernel(*self._views, *part.pairs)
        if beyond is None:
            raise CorruptStore(_NEVER_ADDED)
        return tally(self.backend, beyond)

    def addresses(self, ones: int, kernels: ModuleType) -> tuple[list[int], tuple[Array, ...]]:
        """What the kernels that answer are told of the matrix, and the arrays that must live as long as that is used.

        Parameters
        ----------
        ones : int
            Of a context.

        Returns
        -------
        numbers : list of 7 int
            Address of the presence view; rows of a band; addresses of the counts, and of where in the table of large
            ones each row begins; how many these are; addresses of their counts up to 255, and of all of their counts.
        arrays : tuple of arrays
        """
        starts, short = kernels.large_view(self.large, self.large_counts, self.rows, self.columns)
        arrays = (self.presence, self.cells, starts, short, self.large_counts)
        presence, cells, *table = (array.ctypes.data for array in arrays)
        return [presence, self.rows // ones, cells, table[0], short.size, *table[1:]], arrays

    @property
    def _views(self) -> tuple[Array, Array, Array, int]:
        """What every kernel that writes is given of the matrix."""
        return self.cells, self.presence.reshape(-1), self.ones, self.columns

    def _store(self, cells: Array, old: Array, new: Array, beyond: Array, whole: Array) -> None:
        """Write what :meth:`_changed` gave of distinct, ascending cells, and everything that follows from it."""
        xp = self.backend.xp
        # scatter_add is the one scatter that NumPy and CuPy share, of words of 32 or 64 bits: a count that stays within
        # its four bits can be changed by adding to a word of eight, which wraps around where the change is negative
        change = (new - old).view(np.int8).astype(np.int32).view(np.uint32)
        place = ((cells & 7) << 2).astype(np.uint32)
        self.backend.scatter_add(self.cells.view(np.uint32), cells >> 3, change << place)
        if beyond.size:
            self._store_large(cells[beyond], whole)
        # Every cell appears once, so a bit that changes was clear (or set) before: adding and subtracting powers of two
        # then is OR and AND NOT.
        for before, after, sign in ((old, new, 1), (new, old, -1)):
            where = cells[xp.flatnonzero(before < xp.minimum(after, 1))]
            if where.size:
                bit = np.uint32(1) << (where & 31).astype(np.uint32)
                words = self.presence.reshape(-1).view(np.uint32)  # of each, the lower half lies first
                self.backend.scatter_add(words, where >> 5, bit if sign > 0 else np.uint32(0) - bit)
                self.ones += (sign * xp.bincount(where // self.columns, minlength=self.rows)).astype(np.int32)

    def _store_large(self, cells: Array, counts: Array) -> None:
        """Merge cells into the table: those that stay large with their new counts, the others leave it."""
        xp, size = self.backend.xp, self.large.size
        kernels = self.backend.kernels_for(size)
        if kernels is not None:
            table = self._table
            if table is None or table.shape[1] < size + cells.size:
                table = np.empty((2, size + cells.size + size // _ROOM), dtype=np.int64)
                table[0, :size], table[1, :size] = self.large, self.large_counts
            size = kernels.merge(*table, size, cells, counts)
            self.large, self.large_counts = table[:, :size]
            return
        at = xp.searchsorted(self.large, cells)
        held = xp.zeros(cells.size, dtype=bool)
        inside = xp.flatnonzero(at < self.large.size)
        held[inside] = self.large[at[inside]] == cells[inside]
        stay = counts >= LARGE
        self.large_counts[at[held & stay]] = counts[held & stay]
        gone, fresh = at[held & ~stay], cells[~held & stay]
        large, large_counts = self.large, self.large_counts
        if gone.size:
            kept = xp.ones(large.size, dtype=bool)
            kept[gone] = False
            large, large_counts = large[kept], large_counts[kept]
        if fresh.size:
            # both are in order: the n-th fresh one comes behind those below it and n others
            places = xp.searchsorted(large, fresh) + xp.arange(fresh.size)
            others = xp.ones(large.size + fresh.size, dtype=bool)
            others[places] = False
            merged = xp.empty((2, others.size), dtype=np.int64)
            merged[0, places], merged[0, others] = fresh, large
            merged[1, places], merged[1, others] = counts[~held & stay], large_counts
            large, large_counts = merged
        self.large, self.large_counts = large, large_counts

    def read(self, rows: Array, rotation: Array) -> Array:
        """Columns that all rows of each context have set, rotated back to the codes' own places.

        Parameters
        ----------
        rows : int64 (s, n)
        rotation : int64 (n,)

        Returns
        -------
        uint64 (n, c/64)
        """
        xp = self.backend.xp
        if rotation.size <= _FEW:
            common, *others = self.presence[rows]
        else:
            common, others = self.presence[rows[0]], (self.presence[row] for row in rows[1:])
        for other in others:
            common &= other
        words = self.columns // 64
        shift = (rotation & 63).astype(np.uint64)[:, None]
        every = xp.arange(words)
        low = common[xp.arange(rotation.size)[:, None], (every + (rotation >> 6)[:, None]) & (words - 1)]
        high = low[:, (every + 1) & (words - 1)]
        # (high << 1) << (63 - shift) is high << (64 - shift) without the undefined shift by 64
        return (low >> shift) | ((high << np.uint64(1)) << (np.uint64(63) - shift))

    def support(self, rows: Array, columns: Array) -> Array:
        """Least count over the s*q cells of each pair: never below the number of documents that stored it.

        Parameters
        ----------
        rows : int64 (s, n)
        columns : int64 (n, q)

        Returns
        -------
        int64 (n,)
        """
        xp = self.backend.xp
        if columns.shape[0] <= _FEW:
            low = self._small_counts(rows[:, :, None] * self.columns + columns).min(axis=(0, 2))
        else:
            low = xp.full(columns.shape[0], LARGE, dtype=np.uint8)
            for row in rows:
                start = row * self.columns
                for j in range(columns.shape[1]):
                    low = xp.minimum(low, self._small_counts(start + columns[:, j]))
        least = low.astype(np.int64)
        if self.large.size:
            # only where every cell is large can the least count be
            beyond = xp.flatnonzero(low == LARGE)
            if beyond.size:
                flat = rows[:, beyond, None] * self.columns + columns[beyond]
                least[beyond] = self.counts_of(flat).min(axis=(0, 2))
        return least

    def support_in_crowds(self, rows: Array, rotation: Array, place: Array, codes: Array) -> Array:
        """As :meth:`support`, for many pairs of few contexts: by the least count of each column over a context's rows.

        Parameters
        ----------
        rows : int64 (s, m)
            Of the contexts.
        rotation : int64 (m,)
        place : int64 (n,)
            The context of each pair.
        codes : int64 (n, q)
            Of its value, not rotated.

        Returns
        -------
        int64 (n,)
        """
        xp = self.backend.xp
        by_row = self.cells.reshape(self.rows, self.columns // 2)
        columns = halves(self.backend, by_row[rows[0]])
        for row in rows[1:]:
            xp.minimum(columns, halves(self.backend, by_row[row]), out=columns)
        where = select_columns(codes, rotation[place], self.columns)
        low = columns[place, where[:, 0]]
        for j in range(1, codes.shape[1]):
            low = xp.minimum(low, columns[place, where[:, j]])
        least = low.astype(np.int64)
        beyond = xp.flatnonzero(low == LARGE)
        if beyond.size:
            least[beyond] = self.support(rows[:, place[beyond]], where[beyond])
        return least

    def state(self) -> dict[str, np.ndarray]:
        """The counts as host arrays, all that a digest or a tile needs: good until they are changed."""
        host = self.backend.to_host
        return {name: host(getattr(self, name)) for name in ("cells", "large", "large_counts")}

    def restore(self, cells: np.ndarray, large: np.ndarray, large_counts: np.ndarray) -> None:
        """Take over counts that :meth:`state` gave; the presence view and the popcounts follow from them.

        Raises
        ------
        CorruptStore
            The arrays are not those of a matrix of this shape. Nothing is changed.
        """
        if cells.shape != (self.rows * self.columns // 2,) or large.shape != large_counts.shape:
            raise CorruptStore("a matrix was given counts of another shape")
        if [array.dtype.name for array in (cells, large, large_counts)] != ["uint8", "int64", "int64"]:
            raise CorruptStore("a matrix was given counts of another type")
        if large_counts.size and large_counts.min() < LARGE:
            raise CorruptStore("a matrix was given a table of large counts with a small one in it")
        kernels = self.backend.kernels_for(cells.size)
        if kernels is not None:
            fits = kernels.restored(cells, large, self.presence.reshape(-1), self.ones, self.columns)
        else:
            even, odd = np.flatnonzero(cells & np.uint8(LARGE) == LARGE), np.flatnonzero(cells >= LARGE << 4)
            fits = np.array_equal(np.sort(np.concatenate([2 * even, 2 * odd + 1])), large)
        if not fits:
            raise CorruptStore("a matrix was given a table that names other cells than those that count 15 or more")
        to_device = self.backend.to_device
        self.cells[:] = to_device(cells)
        self.large = to_device(large.copy())
        self.large_counts = to_device(large_counts.copy())
        if kernels is None:
            # two bits of each byte, then those of four bytes in one: in half of the time that unpacked counts take
            four = ((self.cells & np.uint8(LARGE)) != 0).view(np.uint8) | (self.cells > LARGE).view(np.uint8) << 1
            four = four.view(np.uint32)
            self.presence.reshape(-1).view(np.uint8)[:] = (four | four >> 6 | four >> 12 | four >> 18).astype(np.uint8)
            self.ones = bits_set(self.presence).sum(axis=1).astype(np.int32)
