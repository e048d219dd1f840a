"""What candidates are ranked by: their supports, layer by layer, and the order that these give.

Counts are read in three lengths: four bits in the cells, eight for those that are at 15, and 64 for those that are at
255. Which entry of a table is a cell's is the number of cells before it that are at 15, counted in its row: directly
addressable codes (Brisaboa, Ladra and Navarro, "DACs: Bringing direct access to variable-length codes", 2013).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memodb.memory.fast.compiling import (
    LARGE,
    LINE,
    ONE,
    bytes_at,
    compiled,
    count_of,
    fetch,
    full,
    lowest,
    numbers_at,
    ones_of,
    words_at,
)
from memodb.memory.fast.reading import holds

__all__ = ["BAND", "CELLS", "PRESENCE", "best", "large_view", "rank", "untie", "weigh", "weigh_crowd"]

# What is told of a matrix, in this order (see memodb.memory.willshaw.WillshawMatrix.addresses).
PRESENCE, BAND, CELLS, STARTS, _SIZE, _SHORT, _COUNTS = range(7)

_MOST_SHORT = 255
"""What a count of one byte is, where the count is as large or larger."""
_TIED, _LARGE, _RIVALLED = 1, 2, 3
"""Of a candidate: another is as good so far; of one of its counts only 15 is known; its place depends on that one."""


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
def _small_minima(matrices: Any, m: Any, rows: Any, at: Any, ones: Any, even: Any, odd: Any) -> None:
    """The least count of each column over a context's rows in matrix ``m``, up to 15: of the even ones and the odd."""
    half = even.size
    for r in range(ones):
        cells = bytes_at(matrices[m, CELLS] + rows[at, r] * half, half)
        for c in range(half if r else 0):
            even[c], odd[c] = min(even[c], cells[c] & np.uint8(LARGE)), min(odd[c], cells[c] >> np.uint8(4))
        for c in range(0 if r else half):
            even[c], odd[c] = cells[c] & np.uint8(LARGE), cells[c] >> np.uint8(4)


@compiled
def _least_small(even: Any, odd: Any, codes: Any, place: Any, rotation: Any) -> Any:
    """Least count of a pair's cells, up to 15."""
    least = np.int64(LARGE)
    for j in range(codes.shape[1]):
        column = (np.int64(codes[place, j]) + rotation) & (2 * even.size - 1)
        least = min(least, np.int64(odd[column >> 1] if column & 1 else even[column >> 1]))
    return least


@compiled
def _rank(matrices: Any, m: Any, rows: Any, at: Any, ones: Any, columns: Any, ranks: Any) -> None:
    """Place that the first large cell of each word of sixteen cells has in the table of matrix ``m``, of the rows of a
    context: into ``ranks`` (ones, c/16).

    The table's counts are fetched meanwhile.
    """
    words = columns >> 4
    cells = words_at(matrices[m, CELLS], matrices[m, BAND] * ones, words)
    starts = numbers_at(matrices[m, STARTS], matrices[m, BAND] * ones + 1)
    for r in range(ones):
        fetch(matrices[m, STARTS] + rows[at, r] * 8)
    for r in range(ones):
        row = rows[at, r]
        for line in range(starts[row] // LINE, (starts[row + 1] - 1) // LINE + 1):
            fetch(matrices[m, _SHORT] + line * LINE)
    for r in range(ones):
        row = rows[at, r]
        for w in range(words):
            ranks[r, w] = ones_of(full(cells[row, w]))
        place = starts[row]
        for w in range(words):
            here = ranks[r, w]
            ranks[r, w] = place
            place += here


@compiled
def _least_of(
    table: Any, cells: Any, codes: Any, place: Any, rows: Any, at: Any, ones: Any, columns: Any, ranks: Any
) -> Any:
    """Least of the entries in a table of large cells that a pair's cells, all of which are large, have."""
    least = np.int64(0x7FFFFFFFFFFFFFFF)
    for j in range(codes.shape[1]):
        column = (np.int64(codes[place, j]) + rows[at, ones]) & (columns - 1)
        word, before = column >> 4, (ONE << np.uint64((column & 15) << 2)) - ONE
        for r in range(ones):
            least = min(least, np.int64(table[ranks[r, word] + ones_of(full(cells[rows[at, r], word]) & before)]))
    return least


@compiled
def _large_support(
    matrices: Any,
    m: Any,
    codes: Any,
    place: Any,
    rows: Any,
    at: Any,
    ones: Any,
    columns: Any,
    ranks: Any,
    ranked: Any,
) -> Any:
    """Least count of a pair's cells in matrix ``m``, all of which are large; ``ranks`` become those of its rows if they
    are not yet ``ranked``."""
    if not ranked:
        _rank(matrices, m, rows, at, ones, columns, ranks)
    cells, size = words_at(matrices[m, CELLS], matrices[m, BAND] * ones, columns >> 4), matrices[m, _SIZE]
    short = bytes_at(matrices[m, _SHORT], size)
    least = _least_of(short, cells, codes, place, rows, at, ones, columns, ranks)
    if least == _MOST_SHORT:
        counts = numbers_at(matrices[m, _COUNTS], size)
        least = _least_of(counts, cells, codes, place, rows, at, ones, columns, ranks)
    return least


@compiled
def _minima(matrices: Any, m: Any, rows: Any, at: Any, ones: Any, even: Any, odd: Any, least: Any) -> None:
    """The least count of each column over a context's rows in matrix ``m``; of the even ones and the odd ones up to 15
    too, which is scratch."""
    columns = least.size
    words = words_at(matrices[m, CELLS], matrices[m, BAND] * ones, columns >> 4)
    counts = numbers_at(matrices[m, _COUNTS], matrices[m, _SIZE])
    starts = numbers_at(matrices[m, STARTS], matrices[m, BAND] * ones + 1)
    _small_minima(matrices, m, rows, at, ones, even, odd)
    least[:] = 0x7FFFFFFFFFFFFFFF
    for r in range(ones):
        row = rows[at, r]
        place = starts[row]
        for w in range(columns >> 4 if place < starts[row + 1] else 0):
            large = full(words[row, w])
            while large:
                column = (w << 4) + (lowest(large) >> 2)
                large &= large - ONE
                least[column] = min(least[column], counts[place])
                place += 1
    for c in range(columns):
        small = odd[c >> 1] if c & 1 else even[c >> 1]
        if small < LARGE:
            least[c] = small


@compiled
def large_view(large: Any, counts: Any, rows: int, columns: int) -> Any:
    """Of a table of large cells (m,), ascending, and their counts: where in it those of each row begin, and the end,
    int64 (rows + 1,); and their counts up to 255, uint8 (m,)."""
    starts, short = np.empty(rows + 1, dtype=np.int64), np.empty(large.size, dtype=np.uint8)
    place = 0
    for row in range(rows):
        starts[row] = place
        while place < large.size and large[place] < (row + 1) * columns:
            short[place] = min(counts[place], _MOST_SHORT)
            place += 1
    starts[rows] = place
    return starts, short


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
    ranks: Any,
    supports: Any,
) -> None:
    """Supports of candidates in layer ``asked``."""
    for s in range(edges.shape[1] - 1):
        m, ones, ranked = s * key_ones.size + asked, key_ones[asked], False
        for c in range(edges[at, s], edges[at, s + 1]):
            least = _small_support(matrices, m, codes, found[c], rows, first + m, ones, columns)
            if least == LARGE:
                least = _large_support(matrices, m, codes, found[c], rows, first + m, ones, columns, ranks, ranked)
                ranked = True
            supports[asked, seat_of[c - edges[at, 0]]] += least


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
    even: Any,
    odd: Any,
    ranks: Any,
    supports: Any,
) -> None:
    """Of candidates with equal supports those in the layers below too, as far as their order asks for; ``unsure``,
    ``even``, ``odd`` and ``ranks`` are scratch."""
    columns, first = agreed.shape[1] << 6, place * matrices.shape[0]
    for layer in range(asked - 1, -1, -1):
        ones = key_ones[layer]
        several = False
        for c in range(count):
            tied = False
            for b in range(count):
                tied |= b != c and _same(supports, asked, layer, b, c)
            unsure[c] = _TIED if tied else 0
            several |= tied
        for s in range(reach.shape[1] if several else 0):
            answering, m = s * key_ones.size + asked, s * key_ones.size + layer
            if reach[place, s] >= asked:
                _small_minima(matrices, m, rows, first + m, ones, even, odd)
                for c in range(count):
                    if unsure[c] and holds(agreed, first + answering, codes, places[c]):
                        least = _least_small(even, odd, codes, places[c], rows[first + m, ones])
                        supports[layer, c] += least
                        if least == LARGE:
                            unsure[c] = _LARGE
        # a count of 15 or more is looked up where another candidate may have as many
        rivalled = False
        for c in range(count):
            for b in range(count if unsure[c] == _LARGE else 0):
                as_many = unsure[b] >= _LARGE or supports[layer, b] >= supports[layer, c]
                if b != c and as_many and _same(supports, asked, layer, b, c):
                    unsure[c], rivalled = _RIVALLED, True
                    break
        for s in range(reach.shape[1] if rivalled else 0):
            answering, m = s * key_ones.size + asked, s * key_ones.size + layer
            if reach[place, s] >= asked:
                ranked = False
                if reach.shape[1] > 1:  # those of one are still there
                    _small_minima(matrices, m, rows, first + m, ones, even, odd)
                for c in range(count):
                    if unsure[c] < _RIVALLED or not holds(agreed, first + answering, codes, places[c]):
                        continue
                    if _least_small(even, odd, codes, places[c], rows[first + m, ones]) == LARGE:
                        least = _large_support(
                            matrices, m, codes, places[c], rows, first + m, ones, columns, ranks, ranked
                        )
                        supports[layer, c] += least - LARGE
                        ranked = True


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
