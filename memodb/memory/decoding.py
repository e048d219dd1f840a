"""From the columns a read leaves set to the tokens (or documents) whose codes they hold."""

from __future__ import annotations

import itertools
from functools import cached_property

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
        self.members = xp.argsort(bucket)
        self.starts = xp.searchsorted(bucket[self.members], xp.arange(self.block * self.block + 1))

    @cached_property
    def compact(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For the kernels: the codes in the order of their first two columns, which items they are of, and where each
        pair of columns begins; in few bytes, so that they stay in a core's cache."""
        return self.codes[self.members].astype(np.uint16), self.members.astype(np.int32), self.starts.astype(np.int32)

    @cached_property
    def occupied(self) -> np.ndarray:
        """Of each column of the first block, the columns of the second that an item has with it: bits, uint64
        (block, block / 64). Most are 0 where items are few."""
        held = (self.starts[1:] > self.starts[:-1]).reshape(self.block, self.block)
        return np.packbits(held, axis=1, bitorder="little").view(np.uint64)

    def pairs(self, words: Array) -> Array:
        """Pairs of columns of the first two blocks that are set, which name the items to be tested: int64 (n,)."""
        each = self.block // 64
        bits = self._bits(words[:, : 2 * each]).reshape(words.shape[0], 2, self.block)
        ones: Array = bits.sum(axis=2, dtype=np.int64)
        return ones[:, 0] * ones[:, 1]

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
        if not possible.size:
            return xp.zeros(0, dtype=np.int64), xp.zeros(0, dtype=np.int64)
        pairs = self.pairs(words[possible]).astype(np.float64)
        # A pair of columns names a few items, each tested by itself; where there are many pairs, all items are, at
        # once.
        each = xp.ceil(pairs * (self.codes.shape[0] / self.block**2 + 1))
        few = self.codes.shape[0] // 2
        if float(each.sum()) <= few:  # as a few contexts have them
            parts = [self._decode_part(words, possible)]
        else:
            crowded = each > few
            parts = [self._decode_part(words, rows) for rows in self._parts(possible[~crowded], each[~crowded])]
            parts += [
                self._decode_crowd(words, rows)
                for rows in self._parts(possible[crowded], xp.full(int(crowded.sum()), float(self.codes.shape[0])))
            ]
        row, item = (xp.concatenate([part[i] for part in parts]) for i in (0, 1))
        order = xp.argsort(row * self.codes.shape[0] + item)
        return row[order], item[order]

    def _parts(self, rows: Array, each: Array) -> list[Array]:
        """Cut the rows so that no part tests more than ``_ITEMS_AT_ONCE`` candidates (one row at least)."""
        if not rows.size:
            return []
        total = self.backend.to_host(self.backend.xp.cumsum(each))
        if total[-1] <= _ITEMS_AT_ONCE:
            return [rows]
        part = (total // _ITEMS_AT_ONCE).astype(np.int64)
        cuts = np.flatnonzero(np.diff(part)) + 1
        edges = [0, *cuts.tolist(), rows.size]
        return [rows[a:b] for a, b in itertools.pairwise(edges)]

    def _decode_crowd(self, words: Array, rows: Array) -> tuple[Array, Array]:
        """Every item of each row, looked at in turn."""
        xp = self.backend.xp
        flat = xp.ascontiguousarray(words[rows]).reshape(-1).view(np.uint8)
        bits = xp.unpackbits(flat, bitorder="little").reshape(rows.size, self.columns)
        held = bits[:, self.codes[:, 0]]
        for j in range(1, self.codes.shape[1]):
            held &= bits[:, self.codes[:, j]]
        place, item = xp.nonzero(held)
        return rows[place], item

    def _bits(self, block_words: Array) -> Array:
        """The bits of one block, or of several: uint8 (n, c/q) each."""
        xp = self.backend.xp
        # flat and reshaped: cupy.unpackbits knows no axis
        flat = xp.ascontiguousarray(block_words).reshape(-1).view(np.uint8)
        bits: Array = xp.unpackbits(flat, bitorder="little").reshape(block_words.shape[0], block_words.shape[1] * 64)
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
        start = self.starts[bucket]
        pick, place = ragged(self.starts[bucket + 1] - start)
        row = rows[row[pick]]
        item = self.members[start[pick] + place]
        for j in range(2, self.codes.shape[1]):
            column = self.codes[item, j]
            held = (words[row, column >> 6] >> (column & 63).astype(np.uint64)) & np.uint64(1)
            kept = xp.flatnonzero(held)
            row, item = row[kept], item[kept]
        return row, item
