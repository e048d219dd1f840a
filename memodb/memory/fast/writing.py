"""Adding pairs to a counting matrix, and taking them out; packing its counts for a tile.

A pair's cells are found again by each of these functions instead of being kept in a list: that costs less than writing
the list and reading it. They go band by band, not pair by pair, since a band of rows may stay in a core's cache.
``symbols`` to ``ones`` are the fields of :class:`memodb.memory.willshaw.Votes`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memodb.memory.fast.compiling import LARGE, ONE, appended, compiled, count_of, finalise

__all__ = ["add", "ones_with", "pack", "put_back", "subtract", "unpack"]


@compiled
def _drawn(symbol: Any, number: Any, selector: Any) -> Any:
    """The ``number``-th of the 32-bit numbers that a symbol stands for: a row for each band, then the rotation."""
    word = finalise(symbol * selector[number >> 1] + selector[-1])
    return word & np.uint64(0xFFFFFFFF) if number & 1 else word >> np.uint64(32)


@compiled
def _row(symbol: Any, number: Any, selector: Any, band: Any) -> Any:
    """The row that a symbol stands for in the ``number``-th band of so many rows."""
    return np.int64((_drawn(symbol, number, selector) * np.uint64(band)) >> np.uint64(32)) + number * band


@compiled
def _cell(row: Any, columns: Any, code: Any, rotation: Any) -> Any:
    """The cell of one of a value's columns."""
    return row * columns + ((np.int64(code) + rotation) & (columns - 1))


@compiled
def _rotations(symbols: Any, selector: Any, ones: Any, columns: Any) -> Any:
    found = np.empty(symbols.size, dtype=np.int32)
    for i in range(symbols.size):
        found[i] = np.int32(_drawn(symbols[i], ones, selector) & np.uint64(columns - 1))
    return found


@compiled
def add(
    cells: Any,
    presence: Any,
    filled: Any,
    columns: int,
    symbols: Any,
    values: Any,
    codes: Any,
    selector: Any,
    ones: int,
) -> Any:
    """Add 1 to every cell of each pair that stays below 15; the numbers of the others, which are left as they were, as
    often as they are hit."""
    rotations = _rotations(symbols, selector, ones, columns)
    band = filled.size // ones
    beyond, left = np.empty(16, dtype=np.int64), 0
    for r in range(ones):
        for i in range(symbols.size):
            row = _row(symbols[i], r, selector, band)
            value, rotation, fresh = values[i], np.int64(rotations[i]), 0
            for j in range(codes.shape[1]):
                cell = _cell(row, columns, codes[value, j], rotation)
                byte, shift = np.int64(cells[cell >> 1]), (cell & 1) << 2
                old = byte >> shift & 15
                if old + 1 >= LARGE:
                    beyond, left = appended(beyond, left, cell)
                    continue
                cells[cell >> 1] = byte + (1 << shift)
                fresh += old == 0  # without a branch: half of them are
                presence[cell >> 6] |= ONE << np.uint64(cell & 63)
            filled[row] += fresh
    return beyond[:left].copy()


@compiled
def put_back(
    cells: Any,
    presence: Any,
    filled: Any,
    columns: int,
    symbols: Any,
    values: Any,
    codes: Any,
    selector: Any,
    ones: int,
    hits: int,
) -> None:
    """Undo the first ``hits`` steps of :func:`subtract`, which changed no cell at 15 and left none there."""
    rotations = _rotations(symbols, selector, ones, columns)
    band = filled.size // ones
    left = hits
    for r in range(ones):
        for i in range(symbols.size):
            row = _row(symbols[i], r, selector, band)
            for j in range(codes.shape[1]):
                if left == 0:
                    return
                left -= 1
                cell = _cell(row, columns, codes[values[i], j], rotations[i])
                old = count_of(cells, cell)
                if old < LARGE:
                    cells[cell >> 1] += 1 << ((cell & 1) << 2)
                    filled[row] += old == 0
                    presence[cell >> 6] |= ONE << np.uint64(cell & 63)


@compiled
def subtract(
    cells: Any,
    presence: Any,
    filled: Any,
    columns: int,
    symbols: Any,
    values: Any,
    codes: Any,
    selector: Any,
    ones: int,
) -> Any:
    """Subtract 1 from every cell of each pair that counts below 15; the numbers of the others, as often as they are
    hit. None where a count would fall below zero: then nothing is changed."""
    rotations = _rotations(symbols, selector, ones, columns)
    band, width = filled.size // ones, codes.shape[1]
    beyond, left = np.empty(16, dtype=np.int64), 0
    for r in range(ones):
        for i in range(symbols.size):
            row = _row(symbols[i], r, selector, band)
            value, rotation, emptied = values[i], np.int64(rotations[i]), 0
            for j in range(width):
                cell = _cell(row, columns, codes[value, j], rotation)
                byte, shift = np.int64(cells[cell >> 1]), (cell & 1) << 2
                old = byte >> shift & 15
                if old == 0:
                    filled[row] -= emptied
                    done = (r * symbols.size + i) * width + j
                    put_back(cells, presence, filled, columns, symbols, values, codes, selector, ones, done)
                    return None
                if old == LARGE:
                    beyond, left = appended(beyond, left, cell)
                    continue
                cells[cell >> 1] = byte - (1 << shift)
                emptied += old == 1
                presence[cell >> 6] &= ~(np.uint64(old == 1) << np.uint64(cell & 63))
            filled[row] -= emptied
    return beyond[:left].copy()


@compiled
def ones_with(
    presence: Any, filled: Any, columns: int, symbols: Any, values: Any, codes: Any, selector: Any, ones: int
) -> None:
    """Set the bits of the pairs' cells, and count them in ``filled``; both are the caller's copies."""
    rotations = _rotations(symbols, selector, ones, columns)
    band = filled.size // ones
    for r in range(ones):
        for i in range(symbols.size):
            row = _row(symbols[i], r, selector, band)
            value, rotation, fresh = values[i], np.int64(rotations[i]), 0
            for j in range(codes.shape[1]):
                cell = _cell(row, columns, codes[value, j], rotation)
                word, bit = presence[cell >> 6], ONE << np.uint64(cell & 63)
                fresh += (word & bit) == 0
                presence[cell >> 6] = word | bit
            filled[row] += fresh


_LOW = np.array([min(byte & 15, 3) | min(byte >> 4, 3) << 2 for byte in range(256)], dtype=np.uint8)
"""The two counts of a byte, as far as two bits each go."""
_LARGER = np.array([((byte & 15) >= 3) + 2 * (byte >> 4 >= 3) for byte in range(256)], dtype=np.uint8)
"""Which of the two counts of a byte are 3 or more: 1 the lower, 2 the upper, 3 both."""
_SPREAD = np.array([byte & 3 | (byte >> 2 & 3) << 4 for byte in range(16)], dtype=np.uint8)
"""Two counts of two bits as a byte has them."""


@compiled
def pack(cells: Any) -> Any:
    """:func:`memodb.memory.packing._pack`. Most bytes have no count of 3 or more, which a processor learns."""
    even = odd = 0
    for byte in cells:
        even += _LARGER[byte] & 1
        odd += _LARGER[byte] >> 1
    low, more = np.empty(cells.size // 2, dtype=np.uint8), np.empty(even + odd, dtype=np.uint8)
    even, odd = 0, even
    for i in range(low.size):
        low[i] = _LOW[cells[2 * i]] | _LOW[cells[2 * i + 1]] << 4
        for byte in (cells[2 * i], cells[2 * i + 1]):
            large = _LARGER[byte]
            if large:
                if large & 1:
                    more[even] = byte & 15
                    even += 1
                if large & 2:
                    more[odd] = byte >> 4
                    odd += 1
    return low, more


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
