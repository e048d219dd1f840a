"""What candidates are ranked by: their supports, layer by layer, and the order that these give."""

from __future__ import annotations

from typing import Any

import numpy as np

from memodb.memory.fast.compiling import LARGE, bytes_at, compiled, count_of, fetch, numbers_at
from memodb.memory.fast.reading import holds

__all__ = ["BAND", "CELLS", "PRESENCE", "best", "rank", "row_starts", "untie", "weigh", "weigh_crowd"]

# What is told of a matrix, in this order (see memodb.memory.willshaw.WillshawMatrix.addresses).
PRESENCE, BAND, CELLS, _LARGE, _LARGE_SIZE, _LARGE_COUNTS, _LARGE_STARTS = range(7)


@compiled
def _small_support(matrices: Any, m: Any, codes: Any, place: Any, rows: Any, at: Any, ones: Any, columns: Any) -> Any:
    """Least count of a pair's cells in matrix ``m``, up to 15."""
    rotation = rows[at, ones]
    cells = bytes_at(matrices[m, CELLS], matrices[m, BAND] * ones * columns >> 1)
    least, j = np.int64(LARGE), 0
    while least > 1 and j < codes.shape[1]:  # a cell that is set counts 1 at least
        column = (np.int64(codes[place, j]) + rotation) & (columns - 1)
        for r in range(ones):
            least = min(least, count_of(cells, rows[at, r] * columns + column))
        j += 1
    return least


@compiled
def _large_support(matrices: Any, m: Any, codes: Any, place: Any, rows: Any, at: Any, ones: Any, columns: Any) -> Any:
    """Least count of a pair's cells in matrix ``m``, all of which are in its table of large counts.

    Columns are drawn at random, so a cell is near to where its column would be if a row's were evenly spread. All of
    them are fetched before the first is read: a search that goes wrong waits for memory otherwise, one after another.
    """
    rotation, size = rows[at, ones], matrices[m, _LARGE_SIZE]
    large, counts = numbers_at(matrices[m, _LARGE], size), numbers_at(matrices[m, _LARGE_COUNTS], size)
    starts = numbers_at(matrices[m, _LARGE_STARTS], matrices[m, BAND] * ones + 1)
    for r in range(ones):
        fetch(matrices[m, _LARGE_STARTS] + rows[at, r] * 8)
    for r in range(ones):
        row = rows[at, r]
        begin, held = starts[row], starts[row + 1] - starts[row]
        for j in range(codes.shape[1]):
            column = (np.int64(codes[place, j]) + rotation) & (columns - 1)
            guess = begin + held * column // columns
            fetch(matrices[m, _LARGE] + guess * 8)
            fetch(matrices[m, _LARGE_COUNTS] + guess * 8)
    least = np.int64(0x7FFFFFFFFFFFFFFF)
    for r in range(ones):
        row = rows[at, r]
        begin, held = starts[row], starts[row + 1] - starts[row]
        for j in range(codes.shape[1]):
            column = (np.int64(codes[place, j]) + rotation) & (columns - 1)
            cell, guess = row * columns + column, begin + held * column // columns
            while large[guess] < cell:
                guess += 1
            while large[guess] > cell:
                guess -= 1
            least = min(least, counts[guess])
    return least


@compiled
def _support(matrices: Any, m: Any, codes: Any, place: Any, rows: Any, at: Any, ones: Any, columns: Any) -> Any:
    """Least count of a pair's cells in matrix ``m``."""
    least = _small_support(matrices, m, codes, place, rows, at, ones, columns)
    if least == LARGE:
        least = _large_support(matrices, m, codes, place, rows, at, ones, columns)
    return least


@compiled
def _minima(matrices: Any, m: Any, rows: Any, at: Any, ones: Any, even: Any, odd: Any, least: Any) -> None:
    """The least count of each column over a context's rows in matrix ``m``; of the even ones and the odd ones up to 15
    too, which is scratch."""
    columns, size = least.size, matrices[m, _LARGE_SIZE]
    cells = bytes_at(matrices[m, CELLS], matrices[m, BAND] * ones * columns >> 1)
    large, counts = numbers_at(matrices[m, _LARGE], size), numbers_at(matrices[m, _LARGE_COUNTS], size)
    starts = numbers_at(matrices[m, _LARGE_STARTS], matrices[m, BAND] * ones + 1)
    even[:], odd[:], least[:] = LARGE, LARGE, 0x7FFFFFFFFFFFFFFF
    for r in range(ones):
        row = rows[at, r]
        start = row * columns >> 1
        for c in range(columns >> 1):
            even[c], odd[c] = min(even[c], cells[start + c] & 15), min(odd[c], cells[start + c] >> 4)
        for place in range(starts[row], starts[row + 1]):
            column = large[place] - row * columns
            least[column] = min(least[column], counts[place])
    for c in range(columns):
        small = odd[c >> 1] if c & 1 else even[c >> 1]
        if small < LARGE:
            least[c] = small


@compiled
def row_starts(large: Any, rows: int, columns: int) -> Any:
    """Where in a table of large cells (m,), ascending, those of each row begin, and the end: int64 (rows + 1,)."""
    starts = np.empty(rows + 1, dtype=np.int64)
    place = 0
    for row in range(rows):
        starts[row] = place
        while place < large.size and large[place] < (row + 1) * columns:
            place += 1
    starts[rows] = place
    return starts


@compiled
def weigh(
    asked: Any,
    key_ones: Any,
    codes: Any,
    matrices: Any,
    rows: Any,
    first: Any,
    found: Any,
    edges: Any,
    at: Any,
    seat_of: Any,
    columns: Any,
    supports: Any,
) -> None:
    """Supports of candidates in layer ``asked``."""
    for s in range(edges.shape[1] - 1):
        m, ones = s * key_ones.size + asked, key_ones[asked]
        for c in range(edges[at, s], edges[at, s + 1]):
            supports[asked, seat_of[c - edges[at, 0]]] += _support(
                matrices, m, codes, found[c], rows, first + m, ones, columns
            )


@compiled
def weigh_crowd(
    asked: Any,
    key_ones: Any,
    codes: Any,
    matrices: Any,
    rows: Any,
    first: Any,
    found: Any,
    edges: Any,
    at: Any,
    seat_of: Any,
    even: Any,
    odd: Any,
    least: Any,
    supports: Any,
) -> None:
    """As :func:`weigh`, of many, and in the layers below too: by the least count of every column."""
    columns = least.size
    for s in range(edges.shape[1] - 1):
        for layer in range(asked + 1 if edges[at, s] < edges[at, s + 1] else 0):
            m, ones = s * key_ones.size + layer, key_ones[layer]
            _minima(matrices, m, rows, first + m, ones, even, odd, least)
            rotation = rows[first + m, ones]
            for c in range(edges[at, s], edges[at, s + 1]):
                smallest = np.int64(0x7FFFFFFFFFFFFFFF)
                for j in range(codes.shape[1]):
                    smallest = min(smallest, least[(np.int64(codes[found[c], j]) + rotation) & (columns - 1)])
                supports[layer, seat_of[c - edges[at, 0]]] += smallest


@compiled
def _precedes(supports: Any, tokens: Any, level: Any, a: Any, b: Any) -> Any:
    """Whether candidate a ranks before b: by the top layer's support, then by those below, then by token."""
    for layer in range(level, -1, -1):
        if supports[layer, a] != supports[layer, b]:
            return supports[layer, a] > supports[layer, b]
    return tokens[a] < tokens[b]


@compiled
def _same(supports: Any, asked: Any, layer: Any, a: Any, b: Any) -> Any:
    """Whether two candidates have the same supports in the layers from ``asked`` down to above ``layer``."""
    same = True
    for each in range(layer + 1, asked + 1):
        same &= supports[each, a] == supports[each, b]
    return same


@compiled
def _below(
    asked: Any,
    layer: Any,
    key_ones: Any,
    codes: Any,
    matrices: Any,
    rows: Any,
    agreed: Any,
    reach: Any,
    place: Any,
    code: Any,
    whole: Any,
) -> Any:
    """Support of a candidate of layer ``asked`` in a layer below, of the segments that answer it, and whether one has
    15 or more there; if it is not wanted ``whole``, that counts 15."""
    columns, first = agreed.shape[1] << 6, place * matrices.shape[0]
    total, more = np.int64(0), False
    for s in range(reach.shape[1]):
        m = s * key_ones.size
        if reach[place, s] >= asked and holds(agreed, first + m + asked, codes, code):
            m += layer
            least = _small_support(matrices, m, codes, code, rows, first + m, key_ones[layer], columns)
            if least == LARGE:
                more = True
                if whole:
                    least = _large_support(matrices, m, codes, code, rows, first + m, key_ones[layer], columns)
            total += least
    return total, more


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
    place: Any,
    places: Any,
    unsure: Any,
    supports: Any,
) -> None:
    """Of candidates with equal supports those in the layers below too, as far as their order asks for; ``unsure`` is
    scratch."""
    for layer in range(asked - 1, -1, -1):
        for c in range(count):
            unsure[c], tied = 0, False
            for b in range(count):
                tied |= b != c and _same(supports, asked, layer, b, c)
            if tied:
                supports[layer, c], unsure[c] = _below(
                    asked, layer, key_ones, codes, matrices, rows, agreed, reach, place, places[c], False
                )
        # a count of 15 or more is looked up where another candidate may have as many
        for c in range(count):
            rivalled = False
            for b in range(count if unsure[c] else 0):
                as_many = unsure[b] or supports[layer, b] >= supports[layer, c]
                rivalled |= b != c and as_many and _same(supports, asked, layer, b, c)
            if rivalled:
                supports[layer, c], _ = _below(
                    asked, layer, key_ones, codes, matrices, rows, agreed, reach, place, places[c], True
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
