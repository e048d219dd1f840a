"""What candidates are ranked by: their supports, layer by layer, and the order that these give."""

from __future__ import annotations

from typing import Any

import numpy as np

from memodb.memory.fast.compiling import LARGE, bytes_at, compiled, count_of, numbers_at
from memodb.memory.fast.reading import holds
from memodb.memory.willshaw import NARROWED

__all__ = ["BAND", "PRESENCE", "best", "rank", "untie", "weigh", "weigh_crowd"]

# What is told of a matrix, in this order (see memodb.memory.willshaw.WillshawMatrix.addresses).
PRESENCE, BAND, _CELLS, _LARGE, _LARGE_SIZE, _LARGE_COUNTS, _LARGE_STARTS = range(7)


@compiled
def _large_support(matrices: Any, m: Any, codes: Any, place: Any, rows: Any, ones: Any, columns: Any) -> Any:
    """Least count of a pair's cells in matrix ``m``, all of which are in its table of large counts."""
    rotation, size = rows[m, ones], matrices[m, _LARGE_SIZE]
    large, counts = numbers_at(matrices[m, _LARGE], size), numbers_at(matrices[m, _LARGE_COUNTS], size)
    starts = numbers_at(matrices[m, _LARGE_STARTS], (matrices[m, BAND] * ones >> NARROWED) + 2)
    least = np.int64(0x7FFFFFFFFFFFFFFF)
    for r in range(ones):
        row = rows[m, r]
        for j in range(codes.shape[1]):
            cell = row * columns + ((np.int64(codes[place, j]) + rotation) & (columns - 1))
            low, high = starts[row >> NARROWED], starts[(row >> NARROWED) + 1]
            while low < high:
                middle = (low + high) >> 1
                if large[middle] < cell:
                    low = middle + 1
                else:
                    high = middle
            least = min(least, counts[low])
    return least


@compiled
def _support(matrices: Any, m: Any, codes: Any, place: Any, rows: Any, ones: Any, columns: Any) -> Any:
    """Least count of a pair's cells in matrix ``m``."""
    rotation = rows[m, ones]
    cells = bytes_at(matrices[m, _CELLS], matrices[m, BAND] * ones * columns >> 1)
    least = np.int64(LARGE)
    for j in range(codes.shape[1]):
        column = (np.int64(codes[place, j]) + rotation) & (columns - 1)
        for r in range(ones):
            held = count_of(cells, rows[m, r] * columns + column)
            if held < least:
                least = held
                if held <= 1:  # a cell that is set counts 1 at least
                    return least
    if least == LARGE:
        least = _large_support(matrices, m, codes, place, rows, ones, columns)
    return least


@compiled
def _minima(matrices: Any, m: Any, rows: Any, ones: Any, columns: Any, spare: Any, least: Any) -> None:
    """The least count of each column over a context's rows in matrix ``m``, turned back, into ``least``."""
    cells, rotation = bytes_at(matrices[m, _CELLS], matrices[m, BAND] * ones * columns >> 1), rows[m, ones]
    start = rows[m, 0] * columns
    for c in range(0, columns, 2):
        pair = cells[(start + c) >> 1]
        spare[c], spare[c + 1] = pair & 15, pair >> 4
    for r in range(1, ones):
        start = rows[m, r] * columns
        for c in range(0, columns, 2):
            pair = cells[(start + c) >> 1]
            spare[c], spare[c + 1] = min(spare[c], pair & 15), min(spare[c + 1], pair >> 4)
    for c in range(columns):
        least[c] = spare[(c + rotation) & (columns - 1)]


@compiled
def weigh(
    asked: Any,
    key_ones: Any,
    codes: Any,
    matrices: Any,
    rows: Any,
    found: Any,
    edges: Any,
    seat_of: Any,
    columns: Any,
    supports: Any,
) -> None:
    """Supports of candidates in layer ``asked``."""
    for s in range(edges.size - 1):
        m, ones = s * key_ones.size + asked, key_ones[asked]
        for c in range(edges[s], edges[s + 1]):
            supports[asked, seat_of[c]] += _support(matrices, m, codes, found[c], rows, ones, columns)


@compiled
def weigh_crowd(
    asked: Any,
    key_ones: Any,
    codes: Any,
    matrices: Any,
    rows: Any,
    found: Any,
    edges: Any,
    seat_of: Any,
    least: Any,
    spare: Any,
    supports: Any,
) -> None:
    """As :func:`weigh`, of many, and in the layers below too: by the least count of every column."""
    columns = spare.size
    for s in range(edges.size - 1):
        for layer in range(asked + 1 if edges[s] < edges[s + 1] else 0):
            m, ones = s * key_ones.size + layer, key_ones[layer]
            _minima(matrices, m, rows, ones, columns, spare, least)
            for c in range(edges[s], edges[s + 1]):
                smallest = np.int64(LARGE)
                for j in range(codes.shape[1]):
                    smallest = min(smallest, np.int64(least[codes[found[c], j]]))
                if smallest == LARGE:
                    smallest = _large_support(matrices, m, codes, found[c], rows, ones, columns)
                supports[layer, seat_of[c]] += smallest


@compiled
def _precedes(supports: Any, tokens: Any, level: Any, a: Any, b: Any) -> Any:
    """Whether candidate a ranks before b: by the top layer's support, then by those below, then by token."""
    for layer in range(level, -1, -1):
        if supports[layer, a] != supports[layer, b]:
            return supports[layer, a] > supports[layer, b]
    return tokens[a] < tokens[b]


@compiled
def _tied(supports: Any, level: Any, layer: Any, count: Any, a: Any) -> Any:
    """Whether another candidate has the same supports in the layers from ``level`` down to ``layer``."""
    for b in range(count):
        if b != a:
            same = True
            for each in range(level, layer - 1, -1):
                if supports[each, a] != supports[each, b]:
                    same = False
                    break
            if same:
                return True
    return False


@compiled
def untie(
    asked: Any,
    count: Any,
    key_ones: Any,
    codes: Any,
    matrices: Any,
    rows: Any,
    agreed: Any,
    reach: Any,
    places: Any,
    supports: Any,
) -> None:
    """Of candidates with equal supports those in the layers below too, until they differ."""
    columns = agreed.shape[1] << 6
    for layer in range(asked - 1, -1, -1):
        for c in range(count):
            if _tied(supports, asked, layer + 1, count, c):
                for s in range(reach.size):
                    m = s * key_ones.size
                    if reach[s] >= asked and holds(agreed, m + asked, codes, places[c]):
                        supports[layer, c] += _support(
                            matrices, m + layer, codes, places[c], rows, key_ones[layer], columns
                        )


@compiled
def rank(supports: Any, tokens: Any, level: Any, count: Any, order: Any, spare: Any) -> None:
    """Merge sort of the candidates' numbers, best first, into ``order``."""
    for i in range(count):
        order[i] = i
    width = 1
    while width < count:
        for low in range(0, count, 2 * width):
            middle, high = min(low + width, count), min(low + 2 * width, count)
            left, right = low, middle
            for at in range(low, high):
                if left < middle and (
                    right >= high or not _precedes(supports, tokens, level, order[right], order[left])
                ):
                    spare[at] = order[left]
                    left += 1
                else:
                    spare[at] = order[right]
                    right += 1
        for i in range(count):
            order[i] = spare[i]
        width *= 2


@compiled
def best(supports: Any, tokens: Any, level: Any, count: Any, most: Any, order: Any) -> None:
    """The numbers of the ``most`` best of more candidates, best first: each is put into its place among those."""
    held = 0
    for candidate in range(count):
        if held == most and not _precedes(supports, tokens, level, candidate, order[held - 1]):
            continue
        place = held if held < most else most - 1
        while place > 0 and _precedes(supports, tokens, level, candidate, order[place - 1]):
            order[place] = order[place - 1]
            place -= 1
        order[place] = candidate
        held = min(held + 1, most)
