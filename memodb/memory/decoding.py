"""From the columns a read leaves set to the tokens (or documents) whose codes they hold."""

from __future__ import annotations

import itertools

import numpy as np

from memodb.memory.backend import Array, Backend

__all__ = ["CodeTable"]

_ITEMS_AT_ONCE = 1 << 21
"""Bound on the candidates tested in one step: keeps the temporaries of saturated contexts under about 100 MB."""


class CodeTable:
    """Codes of a set of items, and the way back: items by the columns of their first two blocks.

    Parameters
    ----------
    backend : Backend
    codes : int64 (items, q)
        One column in each of q equal blocks, q >= 2.
    columns : int
        c.
    """

    def __init__(self, backend: Backend, codes: Array, columns: int) -> None:
        xp = backend.xp
        self.backend = backend
        self.codes = codes
        self.columns = columns
        self.block = columns // codes.shape[1]
        bucket = codes[:, 0] * self.block + codes[:, 1] - self.block
        self._members = xp.argsort(bucket)
        self._starts = xp.searchsorted(bucket[self._members], xp.arange(self.block * self.block + 1))

    def decode(self, words: Array) -> tuple[Array, Array]:
        """Items all of whose columns are set.

        Parameters
        ----------
        words : uint64 (n, c/64)
            From :meth:`WillshawMatrix.read`, or the AND of several.

        Returns
        -------
        row, item : int64 (m,)
            Ascending by row, then by item.
        """
        xp = self.backend.xp
        blocks = self.codes.shape[1]
        by_block = words.reshape(words.shape[0], blocks, self.block // 64)
        possible = xp.flatnonzero((by_block != 0).any(axis=2).all(axis=1))
        found_rows, found_items = [], []
        for part in self._parts(by_block, possible):
            row, item = self._decode_part(words, part)
            found_rows.append(row)
            found_items.append(item)
        if not found_rows:
            return xp.zeros(0, dtype=np.int64), xp.zeros(0, dtype=np.int64)
        row, item = xp.concatenate(found_rows), xp.concatenate(found_items)
        order = xp.argsort(row * self.codes.shape[0] + item)
        return row[order], item[order]

    def _parts(self, by_block: Array, possible: Array) -> list[Array]:
        """Cut the rows so that no part tests more than ``_ITEMS_AT_ONCE`` candidates (one row at least)."""
        if not possible.size:
            return []
        xp = self.backend.xp
        each = xp.ceil(
            self._bits(by_block[possible, 0]).sum(axis=1).astype(np.float64)
            * self._bits(by_block[possible, 1]).sum(axis=1)
            * (self.codes.shape[0] / self.block**2 + 1)
        )
        total = self.backend.to_host(xp.cumsum(each))
        if total[-1] <= _ITEMS_AT_ONCE:
            return [possible]
        part = (total // _ITEMS_AT_ONCE).astype(np.int64)
        cuts = np.flatnonzero(np.diff(part)) + 1
        edges = [0, *cuts.tolist(), possible.size]
        return [possible[a:b] for a, b in itertools.pairwise(edges)]

    def _bits(self, block_words: Array) -> Array:
        """The bits of one block: uint8 (n, c/q)."""
        xp = self.backend.xp
        # flat and reshaped: cupy.unpackbits knows no axis
        flat = xp.ascontiguousarray(block_words).reshape(-1).view(np.uint8)
        bits: Array = xp.unpackbits(flat, bitorder="little").reshape(block_words.shape[0], self.block)
        return bits

    def _decode_part(self, words: Array, rows: Array) -> tuple[Array, Array]:
        xp = self.backend.xp
        ragged = self.backend.ragged
        by_block = words[rows].reshape(rows.size, self.codes.shape[1], -1)
        row0, first = xp.nonzero(self._bits(by_block[:, 0]))
        row1, second = xp.nonzero(self._bits(by_block[:, 1]))
        # every set bit of block 0 meets every set bit of block 1 of the same row
        seconds = xp.bincount(row1, minlength=rows.size)
        offset = xp.cumsum(seconds) - seconds
        meet, place = ragged(seconds[row0])
        row = row0[meet]
        bucket = first[meet] * self.block + second[offset[row] + place]
        start = self._starts[bucket]
        pick, place = ragged(self._starts[bucket + 1] - start)
        row = rows[row[pick]]
        item = self._members[start[pick] + place]
        for j in range(2, self.codes.shape[1]):
            column = self.codes[item, j]
            held = (words[row, column >> 6] >> (column & 63).astype(np.uint64)) & np.uint64(1)
            kept = xp.flatnonzero(held)
            row, item = row[kept], item[kept]
        return row, item
