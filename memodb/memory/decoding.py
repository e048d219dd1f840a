"""From the columns a read leaves set to the tokens (or documents) whose codes they hold."""

from __future__ import annotations

import itertools
from functools import cached_property

import numpy as np

from memodb.memory.backend import Array, Backend

__all__ = ["CodeTable", "bits_set"]

_ITEMS_AT_ONCE = 1 << 21
"""Bound on the candidates tested in one step: keeps the temporaries of saturated contexts under about 100 MB."""


def bits_set(words: Array) -> Array:
    """Bits that are set in each uint64, of any shape: in pairs, in fours, in bytes, and the bytes by a product."""
    words = words - ((words >> 1) & np.uint64(0x5555555555555555))
    words = (words & np.uint64(0x3333333333333333)) + ((words >> 2) & np.uint64(0x3333333333333333))
    words = (words + (words >> 4)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    counts: Array = (words * np.uint64(0x0101010101010101)) >> 56
    return counts


def _any_set(words: Array) -> Array:
    """Whether any bit is set in the words of the last axis."""
    found = words[..., 0]
    for w in range(1, words.shape[-1]):  # which are few: any() takes several times as long
        found = found | words[..., w]
    return found != 0


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
    def occupied(self) -> Array:
        """Of each column of the first block, the columns of the second that an item has with it: bits, uint64
        (block, block / 64). Most are 0 where items are few."""
        held = self.backend.xp.packbits(self.starts[1:] > self.starts[:-1], bitorder="little")
        return held.view(np.uint64).reshape(self.block, -1)

    def pairs(self, words: Array) -> Array:
        """Pairs of columns of the first two blocks that are set, which name the items to be tested: int64 (n,)."""
        each = self.block // 64
        first, second = (bits_set(words[:, at : at + each]).sum(axis=1, dtype=np.int64) for at in (0, each))
        pairs: Array = first * second
        return pairs

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
        possible = xp.flatnonzero(_any_set(by_block).all(axis=1))
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

    def _set(self, block_words: Array) -> tuple[Array, Array]:
        """The bits of one block that are set in each row: row, column."""
        xp = self.backend.xp
        # flat: cupy.unpackbits knows no axis
        bits = xp.unpackbits(xp.ascontiguousarray(block_words).reshape(-1).view(np.uint8), bitorder="little")
        places = xp.flatnonzero(bits.view(bool))
        return places // self.block, places & (self.block - 1)

    def _decode_part(self, words: Array, rows: Array) -> tuple[Array, Array]:
        xp = self.backend.xp
        by_block = words[rows].reshape(rows.size, self.codes.shape[1], -1)
        place, first = self._set(by_block[:, 0])
        # every set bit of block 0 meets those of block 1 of the same row that an item has with it
        seconds = by_block[place, 1] & self.occupied[first]
        met = xp.flatnonzero(_any_set(seconds))
        which, second = self._set(seconds[met])
        meeting = met[which]
        bucket = first[meeting] * self.block + second
        start = self.starts[bucket]
        pick, number = self.backend.ragged(self.starts[bucket + 1] - start)
        row = rows[place[meeting[pick]]]
        item = self.members[start[pick] + number]
        for j in range(2, self.codes.shape[1]):
            column = self.codes[item, j]
            held = (words[row, column >> 6] >> (column & 63).astype(np.uint64)) & np.uint64(1)
            kept = xp.flatnonzero(held)
            row, item = row[kept], item[kept]
        return row, item
