"""Adding pairs to a counting matrix, and taking them out.

A pair's cells are found again by each of these functions instead of being kept in a list: that costs less than writing
the list and reading it. They go band by band, not pair by pair, since a band of rows may stay in a core's cache; where
there are many pairs, row by row, since one row does. ``symbols`` to ``ones`` are the fields of
:class:`memodb.memory.votes.Votes`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memodb.memory.fast.compiling import (
    LARGE,
    ONE,
    appended,
    compiled,
    count_of,
    counted,
    fetch,
    finalise,
)

__all__ = [
    "add",
    "add_many",
    "fresh",
    "merge",
    "ones_with",
    "put_back",
    "subtract",
]


_AHEAD = 8
"""Pairs whose cells are on their way while one is counted: they come from memory."""


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
def _rows(symbols: Any, number: Any, selector: Any, band: Any) -> Any:
    found = np.empty(symbols.size, dtype=np.int64)
    for i in range(symbols.size):
        found[i] = _row(symbols[i], number, selector, band)
    return found


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
def _fetch(cells: Any, presence: Any, columns: Any, row: Any, codes: Any, value: Any, rotation: Any) -> None:
    """A pair's cells in a row, and their bits."""
    for j in range(codes.shape[1]):
        fetch(cells.ctypes.data + (_cell(row, columns, codes[value, j], rotation) >> 1))
    fetch(presence.ctypes.data + (row * columns >> 3))


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
        rows = _rows(symbols, r, selector, band)
        for i in range(symbols.size):
            n = i + _AHEAD
            if n < symbols.size:
                _fetch(cells, presence, columns, rows[n], codes, values[n], np.int64(rotations[n]))
            row = rows[i]
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
def _longer(found: Any, size: Any) -> Any:
    """An array with room for so many numbers that begins like another."""
    wider = np.empty(max(size, 2 * found.size), dtype=np.int64)
    wider[: found.size] = found
    return wider


@compiled
def add_many(
    cells: Any,
    presence: Any,
    filled: Any,
    columns: int,
    large: Any,
    large_counts: Any,
    symbols: Any,
    values: Any,
    codes: Any,
    selector: Any,
    ones: int,
) -> Any:
    """Add 1 to every cell of each pair, whatever it counts; the new table of large counts, in order.

    The pairs of a band are sorted by their rows (one pass counts, one puts them in their places); each row is then
    counted where nothing else is in the way, and written once. Its cost grows with the rows too: it is for pairs that
    hit a good part of them.
    """
    drawn = np.empty(symbols.size, dtype=np.uint64)
    for i in range(symbols.size):
        drawn[i] = np.uint64(values[i]) << np.uint64(32) | (_drawn(symbols[i], ones, selector) & np.uint64(columns - 1))
    band = filled.size // ones
    rows, ordered = np.empty(symbols.size, dtype=np.uint32), np.empty(symbols.size, dtype=np.uint64)
    ends = np.empty(band + 1, dtype=np.int64)
    counts, wide = np.empty(columns, dtype=np.int32), cells.view(np.uint64)
    beyond, beyond_counts = (
        np.empty(large.size + columns, dtype=np.int64),
        np.empty(large.size + columns, dtype=np.int64),
    )
    known = left = 0
    for r in range(ones):
        ends[:] = 0
        for i in range(symbols.size):
            row = _row(symbols[i], r, selector, band) - r * band
            rows[i] = row
            ends[row + 1] += 1
        for row in range(band):
            ends[row + 1] += ends[row]
        for i in range(symbols.size):
            ordered[ends[rows[i]]] = drawn[i]
            ends[rows[i]] += 1  # from where a row's pairs begin to where they end
        first = 0
        for row in range(r * band, (r + 1) * band):
            last, start = ends[row - r * band], row * columns
            held, words = cells[start // 2 : (start + columns) // 2], wide[start // 16 : (start + columns) // 16]
            for k in range(held.size):
                counts[2 * k] = held[k] & 15
                counts[2 * k + 1] = held[k] >> 4
            while known < large.size and large[known] < start + columns:
                counts[large[known] - start] = large_counts[known]
                known += 1
            for i in range(first, last):
                value, rotation = np.int64(ordered[i] >> np.uint64(32)), np.int64(ordered[i] & np.uint64(columns - 1))
                for j in range(codes.shape[1]):
                    counts[(codes[value, j] + rotation) & (columns - 1)] += 1
            over = 0
            for k in range(columns):
                over += counts[k] >= LARGE
            if over:
                if left + columns > beyond.size:
                    beyond, beyond_counts = _longer(beyond, left + columns), _longer(beyond_counts, left + columns)
                for k in range(columns):  # without a branch, what is no large count is written over by the next
                    beyond[left], beyond_counts[left] = start + k, counts[k]
                    left += counts[k] >= LARGE
            if first == last:
                continue
            first, found = last, 0
            for k in range(held.size):
                held[k] = min(counts[2 * k], LARGE) | min(counts[2 * k + 1], LARGE) << 4
            for word in range(columns // 64):
                bits = np.uint64(0)
                for part in range(4):
                    bits |= counted(words[4 * word + part]) << np.uint64(16 * part)
                presence[start // 64 + word] = bits
            for k in range(columns):
                found += counts[k] > 0
            filled[row] = found
    return beyond[:left].copy(), beyond_counts[:left].copy()


@compiled
def merge(large: Any, large_counts: Any, size: int, cells: Any, counts: Any) -> Any:
    """:meth:`memodb.memory.willshaw.WillshawMatrix._store_large`, in place: of a table of ``size`` cells, with room for
    as many more as there may be. How many it has then."""
    fresh = np.zeros(cells.size, dtype=np.bool_)
    left, more = size, 0
    for i in range(cells.size):
        at = np.searchsorted(large[:size], cells[i])
        held = at < size and large[at] == cells[i]
        if held:
            large_counts[at] = counts[i] if counts[i] >= LARGE else 0  # 0 leaves
            left = min(left, at) if counts[i] < LARGE else left
        elif counts[i] >= LARGE:
            fresh[i] = True
            more += 1
    for at in range(left, size):
        large[left], large_counts[left] = large[at], large_counts[at]
        left += large_counts[at] > 0
    # from the end: what stands behind a fresh one moves once, and what stands before all of them not at all
    at, to = left - 1, left + more - 1
    for i in range(cells.size - 1, -1, -1):
        if fresh[i]:
            while at >= 0 and large[at] > cells[i]:
                large[to], large_counts[to] = large[at], large_counts[at]
                at, to = at - 1, to - 1
            large[to], large_counts[to] = cells[i], counts[i]
            to -= 1
    return left + more


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
        rows = _rows(symbols, r, selector, band)
        for i in range(symbols.size):
            n = i + _AHEAD
            if n < symbols.size:
                _fetch(cells, presence, columns, rows[n], codes, values[n], np.int64(rotations[n]))
            row = rows[i]
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
def fresh(
    presence: Any, rows: int, columns: int, symbols: Any, values: Any, codes: Any, selector: Any, ones: int
) -> Any:
    """The cells of the pairs that count 0, as often as they are hit."""
    rotations = _rotations(symbols, selector, ones, columns)
    band = rows // ones
    found, left = np.empty(symbols.size * ones * codes.shape[1] + 1, dtype=np.int64), 0  # one more is written
    for r in range(ones):
        for i in range(symbols.size):
            row = _row(symbols[i], r, selector, band)
            value, rotation = values[i], np.int64(rotations[i])
            for j in range(codes.shape[1]):
                cell = _cell(row, columns, codes[value, j], rotation)
                found[left] = cell
                left += presence[cell >> 6] >> np.uint64(cell & 63) & ONE == np.uint64(0)
    return found[:left].copy()


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
