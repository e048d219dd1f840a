"""Counts as a tile keeps them: two bits a cell, and a byte for each cell that counts 3 or more.

A compressor codes no symbol in less than one bit, and a cell at its best fill is worth 1.6: half of them count nothing.
Four cells in a byte share their bits, and the file is a quarter smaller than with a cell in each (measured: 15.8 bytes
per token instead of 20.9, where the entropy of the counts is 15.4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from memodb.errors import CorruptStore
from memodb.memory.backend import Backend
from memodb.memory.willshaw import LARGE

__all__ = ["packed", "unpacked"]

_MORE = 3
_CHEAP = 8
"""A cell of these is so many times less work than one that a pair is added to."""

Arrays = Mapping[str, np.ndarray]


def packed(backend: Backend, state: Arrays) -> dict[str, np.ndarray]:
    """The arrays of :meth:`memodb.memory.Segment.state`, with two in the place of each array of cells."""
    arrays: dict[str, np.ndarray] = {}
    cells = {name: array for name, array in state.items() if name.startswith("cells ")}
    size = sum(array.size for array in cells.values()) // _CHEAP
    parts = dict(zip(cells, backend.each(partial(_pack, backend), list(cells.values()), size=size), strict=True))
    for name, array in state.items():
        if name in parts:
            number = name.partition(" ")[2]
            arrays[f"low {number}"], arrays[f"more {number}"] = parts[name]
        else:
            arrays[name] = array
    return arrays


def unpacked(backend: Backend, arrays: Arrays, sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """What :func:`packed` was given.

    Parameters
    ----------
    sizes : sequence of int
        Bytes of each matrix's cells, by number.

    Raises
    ------
    CorruptStore
        The arrays are none that it gives for matrices of these sizes.
    """
    cells = {f"{number}": size for number, size in enumerate(sizes)}
    parts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, array in arrays.items():
        kind, _, number = name.partition(" ")
        if kind == "low":
            more = arrays.get(f"more {number}")
            if more is None or array.dtype != np.uint8 or more.dtype != np.uint8 or 2 * array.size != cells.get(number):
                raise CorruptStore(f"matrix {number} was given counts of another type or shape")
            parts[number] = array, more
        elif kind == "cells":
            raise CorruptStore(f"matrix {number} was given counts that are not packed")
    size = sum(sizes) // _CHEAP
    counts = dict(zip(parts, backend.each(partial(_unpack, backend), list(parts.values()), size=size), strict=True))
    state: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        kind, _, number = name.partition(" ")
        if kind == "low":
            state[f"cells {number}"] = counts[number]
        elif kind != "more" or number not in parts:
            state[name] = array
    return state


def _pack(backend: Backend, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n,), two counts each, as uint8 (n / 2,), four each, and uint8 (m,): of even columns, then odd. A row has a
    multiple of 8 bytes."""
    kernels = backend.kernels_for(2 * cells.size // _CHEAP)
    if kernels is not None:
        low, more = kernels.pack(cells)
        return low, more
    even, odd = cells & np.uint8(LARGE), cells >> np.uint8(4)
    two = (np.minimum(even, _MORE) | np.minimum(odd, _MORE) << np.uint8(2)).view("<u2")
    return (two | two >> 4).astype(np.uint8), np.concatenate([even[even >= _MORE], odd[odd >= _MORE]])


def _unpack(backend: Backend, part: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    low, more = part
    kernels = backend.kernels_for(4 * low.size // _CHEAP)
    if kernels is not None:
        cells: np.ndarray = np.empty(2 * low.size, dtype=np.uint8)
        fits = kernels.unpack(low, more, cells)
    else:
        # two bits of each four in turn, as a number's bits are spread for a Morton code; a table takes twice as long
        spread = low.astype("<u2")
        for shift, mask in ((4, 0x0F0F), (2, 0x3333)):
            spread |= spread << shift
            spread &= mask
        cells = spread.view(np.uint8)
        threes = ((15, _MORE), (15 << 4, _MORE << 4))
        even, odd = (np.flatnonzero(cells & np.uint8(half) == three) for half, three in threes)
        fits = even.size + odd.size == more.size and not bool(((more < _MORE) | (more > LARGE)).any())
        if fits:  # what stands there is 3 in either half: what is above it is added
            cells[even] += more[: even.size] - np.uint8(_MORE)
            cells[odd] += (more[even.size :] - np.uint8(_MORE)) << np.uint8(4)
    if not fits:
        raise CorruptStore("a matrix was given other counts of 3 and more than its packed cells have")
    return cells
