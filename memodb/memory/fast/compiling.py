"""What the kernels share: how they are compiled, and the few steps that several of them take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from memodb.memory import codes

__all__ = ["LARGE", "ONE", "appended", "compiled", "count_of", "finalise", "select_rows"]

LARGE = 15
ONE = np.uint64(1)


def compiled(function: Any) -> Any:
    """With machine code that is kept for other processes, and without the interpreter's lock."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # nowhere to keep the machine code: each process makes its own
        return njit(nogil=True)(function)


finalise = compiled(codes.finalise)


@compiled
def count_of(cells: Any, cell: Any) -> Any:
    """The count of a cell, of four bits."""
    return np.int64(cells[cell >> 1]) >> ((cell & 1) << 2) & 15


@compiled
def select_rows(symbol: Any, multipliers: Any, band: Any, ones: Any, columns: Any, rows: Any) -> Any:
    """:func:`memodb.memory.codes.select_rows` of one symbol: fills ``rows``, returns the rotation."""
    rotation = np.int64(0)
    wide = np.uint64(band)
    for word in range(multipliers.size - 1):
        drawn = finalise(symbol * multipliers[word] + multipliers[-1])
        for half in range(2):
            number = drawn >> np.uint64(32) if half == 0 else drawn & np.uint64(0xFFFFFFFF)
            place = 2 * word + half
            if place < ones:
                rows[place] = np.int64((number * wide) >> np.uint64(32)) + place * band
            elif place == ones:
                rotation = np.int64(number & np.uint64(columns - 1))
    return rotation


@compiled
def appended(found: Any, count: Any, item: Any) -> Any:
    """One number more behind the first ``count``: the array, made longer where it is full, and how many there are."""
    if count == found.size:
        wider = np.empty(2 * count, dtype=np.int64)
        wider[:count] = found
        found = wider
    found[count] = item
    return found, count + 1
