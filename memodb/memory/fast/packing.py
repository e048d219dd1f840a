"""Counts as a tile keeps them, sixteen at a time; and what follows from counts that were read."""

from __future__ import annotations

from typing import Any

import numpy as np

from memodb.memory.fast.compiling import LARGE, ONE, compiled, counted, lowest, ones_of

__all__ = ["pack", "restored", "unpack"]

_LOWEST, _EVEN = np.uint64(0x1111111111111111), np.uint64(0x0F0F0F0F0F0F0F0F)
"""Of a word of sixteen counts: the lowest bit of each, and those of even columns."""
_LARGER = np.array([((byte & 15) >= 3) + 2 * (byte >> 4 >= 3) for byte in range(256)], dtype=np.uint8)
"""Which of the two counts of a byte are 3 or more: 1 the lower, 2 the upper, 3 both."""
_SPREAD = np.array([byte & 3 | (byte >> 2 & 3) << 4 for byte in range(16)], dtype=np.uint8)
"""Two counts of two bits as a byte has them."""


@compiled
def _three(word: Any) -> Any:
    """The lowest bit of each of the sixteen counts of a word that are 3 or more; other bits say nothing."""
    return word >> np.uint64(2) | word >> np.uint64(3) | word & word >> np.uint64(1)


@compiled
def _taken(words: Any, mask: Any, found: Any, count: Any) -> Any:
    """Counts of 3 and more under a mask of their lowest bits, into ``found`` behind the first ``count``, one more than
    there are; how many there are then. Few words have two: the first is taken without a branch."""
    for word in words:
        left = _three(word) & mask
        found[count] = word >> np.uint64(lowest(left) & 63) & np.uint64(15)
        count += np.int64(left != 0)
        left &= left - ONE
        while left:
            found[count] = word >> np.uint64(lowest(left)) & np.uint64(15)
            count += 1
            left &= left - ONE
    return count


@compiled
def pack(cells: Any) -> Any:
    """:func:`memodb.memory.packing._pack`, sixteen counts at a time."""
    words = cells.view(np.uint64)
    low, more = np.empty(words.size, dtype=np.uint32), 0
    for i in range(words.size):
        word = words[i]
        more += ones_of(_three(word) & _LOWEST)
        four = (word >> np.uint64(2) | word >> np.uint64(3)) & _LOWEST  # at least: these become 3
        two = (word | four | four << ONE) & np.uint64(0x3333333333333333)
        two = (two | two >> np.uint64(2)) & np.uint64(0x0F0F0F0F0F0F0F0F)
        two = (two | two >> np.uint64(4)) & np.uint64(0x00FF00FF00FF00FF)
        two = (two | two >> np.uint64(8)) & np.uint64(0x0000FFFF0000FFFF)
        low[i] = (two | two >> np.uint64(16)) & np.uint64(0xFFFFFFFF)
    found = np.empty(more + 1, dtype=np.uint8)
    even = _taken(words, _LOWEST & _EVEN, found, 0)
    _taken(words, _LOWEST & ~_EVEN, found, even)
    return low.view(np.uint8), found[:more]


@compiled
def unpack(low: Any, more: Any, cells: Any) -> Any:
    """:func:`memodb.memory.packing._unpack`, into ``cells``; whether ``more`` fits."""
    for count in more:
        if count < 3 or count > LARGE:
            return False
    even = odd = 0
    for i in range(cells.size):
        cells[i] = _SPREAD[low[i >> 1] >> ((i & 1) << 2) & 15]
        even += _LARGER[cells[i]] & 1
        odd += _LARGER[cells[i]] >> 1
    if even + odd != more.size:
        return False
    even, odd = 0, even
    for i in range(cells.size):
        large = _LARGER[cells[i]]
        if large:
            if large & 1:
                cells[i] += more[even] - 3
                even += 1
            if large & 2:
                cells[i] += (more[odd] - 3) << 4
                odd += 1
    return True


@compiled
def restored(cells: Any, large: Any, presence: Any, filled: Any, columns: int) -> Any:
    """The presence view and the popcounts that follow from counts; whether the table of large ones names all that count
    15, else nothing is changed."""
    words, known = cells.view(np.uint64), 0
    for i in range(words.size):
        word = words[i]
        full = word & word >> np.uint64(1) & word >> np.uint64(2) & word >> np.uint64(3) & _LOWEST
        while full:
            if known == large.size or large[known] != 16 * i + (lowest(full) >> 2):
                return False
            known += 1
            full &= full - ONE
    if known != large.size:
        return False
    filled[:] = 0
    for i in range(presence.size):
        bits = np.uint64(0)
        for part in range(4):
            bits |= counted(words[4 * i + part]) << np.uint64(16 * part)
        presence[i] = bits
        filled[i // (columns // 64)] += ones_of(bits)
    return True
