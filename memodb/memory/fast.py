"""The same sums and readings as in plain NumPy, compiled: no temporaries, one pass, and without the interpreter's lock.

Every function here has a twin in :mod:`willshaw`, :mod:`segment` or :mod:`willshaw_memory` that says what it must give,
and the property tests hold the two against each other. Nothing is decided here: which cells a pair has, what an answer
is and how it is ranked are defined there. The module is imported when it is first needed, because importing numba takes
longer than opening a store; the machine code is kept beside this file, or in ``NUMBA_CACHE_DIR``, once it has been
made.

What bounds them is memory, not arithmetic: a pair touches s*q cells, a context s rows of c/8 bytes a layer
(docs/benchmarks.md has the calculation).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from memodb.memory.codes import finalise

__all__ = ["add", "lookup", "ones_with", "put_back", "subtract"]

_LARGE = 255
_CROWD = 1024
"""Pairs of columns from which on it is faster to look at every token than at those that the pairs name."""
_FEW = 64
"""Candidates up to which choosing the best is faster than ordering all."""
_ONE = np.uint64(1)


def _compiled(function: Any) -> Any:
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # nowhere to keep the machine code: each process makes its own
        return njit(nogil=True)(function)


_finalise = _compiled(finalise)


@_compiled
def _select(symbol: Any, multipliers: Any, band: Any, ones: Any, columns: Any, rows: Any) -> Any:
    """:func:`memodb.memory.codes.select_rows` of one symbol: fills ``rows``, returns the rotation."""
    rotation = np.int64(0)
    wide = np.uint64(band)
    for word in range(multipliers.size - 1):
        drawn = _finalise(symbol * multipliers[word] + multipliers[-1])
        for half in range(2):
            number = drawn >> np.uint64(32) if half == 0 else drawn & np.uint64(0xFFFFFFFF)
            place = 2 * word + half
            if place < ones:
                rows[place] = np.int64((number * wide) >> np.uint64(32)) + place * band
            elif place == ones:
                rotation = np.int64(number & np.uint64(columns - 1))
    return rotation


@_compiled
def _with(found: Any, count: Any, item: Any) -> Any:
    """One number more behind the first ``count``: the array, made longer where it is full, and how many there are."""
    if count == found.size:
        wider = np.empty(2 * count, dtype=np.int64)
        wider[:count] = found
        found = wider
    found[count] = item
    return found, count + 1


# -- writing -----------------------------------------------------------------------------------------------------------
#
# A pair's cells are found again by each of these functions instead of being kept in a list: that costs less than
# writing the list and reading it. They go band by band, not pair by pair, since a band of rows may stay in a core's
# cache.
# ``symbols`` to ``ones`` are the fields of :class:`memodb.memory.willshaw.Votes`.


@_compiled
def _drawn(symbol: Any, number: Any, selector: Any) -> Any:
    """The ``number``-th of the 32-bit numbers that a symbol stands for: a row for each band, then the rotation."""
    word = _finalise(symbol * selector[number >> 1] + selector[-1])
    return word & np.uint64(0xFFFFFFFF) if number & 1 else word >> np.uint64(32)


@_compiled
def _rotations(symbols: Any, selector: Any, ones: Any, columns: Any) -> Any:
    found = np.empty(symbols.size, dtype=np.int32)
    for i in range(symbols.size):
        found[i] = np.int32(_drawn(symbols[i], ones, selector) & np.uint64(columns - 1))
    return found


@_compiled
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
    """Add 1 to every cell of each pair that stays below 255; the numbers of the others, which are left as they were, as
    often as they are hit."""
    rotations = _rotations(symbols, selector, ones, columns)
    band = filled.size // ones
    beyond, left = np.empty(16, dtype=np.int64), 0
    for r in range(ones):
        for i in range(symbols.size):
            row = np.int64((_drawn(symbols[i], r, selector) * np.uint64(band)) >> np.uint64(32)) + r * band
            value, rotation, fresh = values[i], np.int64(rotations[i]), 0
            for j in range(codes.shape[1]):
                cell = row * columns + ((np.int64(codes[value, j]) + rotation) & (columns - 1))
                old = np.int64(cells[cell])
                if old + 1 >= _LARGE:
                    beyond, left = _with(beyond, left, cell)
                    continue
                cells[cell] = old + 1
                fresh += old == 0  # without a branch: half of them are
                presence[cell >> 6] |= _ONE << np.uint64(cell & 63)
            filled[row] += fresh
    return beyond[:left].copy()


@_compiled
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
    """Undo the first ``hits`` steps of :func:`subtract`, which changed no cell at 255 and left none there."""
    rotations = _rotations(symbols, selector, ones, columns)
    band = filled.size // ones
    left = hits
    for r in range(ones):
        for i in range(symbols.size):
            row = np.int64((_drawn(symbols[i], r, selector) * np.uint64(band)) >> np.uint64(32)) + r * band
            for j in range(codes.shape[1]):
                if left == 0:
                    return
                left -= 1
                cell = row * columns + ((np.int64(codes[values[i], j]) + rotations[i]) & (columns - 1))
                old = np.int64(cells[cell])
                if old < _LARGE:
                    cells[cell] = old + 1
                    filled[row] += old == 0
                    presence[cell >> 6] |= _ONE << np.uint64(cell & 63)


@_compiled
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
    """Subtract 1 from every cell of each pair that counts below 255; the numbers of the others, as often as they are
    hit. None where a count would fall below zero: then nothing is changed."""
    rotations = _rotations(symbols, selector, ones, columns)
    band, width = filled.size // ones, codes.shape[1]
    beyond, left = np.empty(16, dtype=np.int64), 0
    for r in range(ones):
        for i in range(symbols.size):
            row = np.int64((_drawn(symbols[i], r, selector) * np.uint64(band)) >> np.uint64(32)) + r * band
            value, rotation, emptied = values[i], np.int64(rotations[i]), 0
            for j in range(width):
                cell = row * columns + ((np.int64(codes[value, j]) + rotation) & (columns - 1))
                old = np.int64(cells[cell])
                if old == 0:
                    filled[row] -= emptied
                    done = (r * symbols.size + i) * width + j
                    put_back(cells, presence, filled, columns, symbols, values, codes, selector, ones, done)
                    return None
                if old == _LARGE:
                    beyond, left = _with(beyond, left, cell)
                    continue
                cells[cell] = old - 1
                emptied += old == 1
                presence[cell >> 6] &= ~(np.uint64(old == 1) << np.uint64(cell & 63))
            filled[row] -= emptied
    return beyond[:left].copy()


@_compiled
def ones_with(
    presence: Any, filled: Any, columns: int, symbols: Any, values: Any, codes: Any, selector: Any, ones: int
) -> None:
    """Set the bits of the pairs' cells, and count them in ``filled``; both are the caller's copies."""
    rotations = _rotations(symbols, selector, ones, columns)
    band = filled.size // ones
    for r in range(ones):
        for i in range(symbols.size):
            row = np.int64((_drawn(symbols[i], r, selector) * np.uint64(band)) >> np.uint64(32)) + r * band
            value, rotation, fresh = values[i], np.int64(rotations[i]), 0
            for j in range(codes.shape[1]):
                cell = row * columns + ((np.int64(codes[value, j]) + rotation) & (columns - 1))
                word, bit = presence[cell >> 6], _ONE << np.uint64(cell & 63)
                fresh += (word & bit) == 0
                presence[cell >> 6] = word | bit
            filled[row] += fresh


# -- reading -----------------------------------------------------------------------------------------------------------


@_compiled
def _symbols(context: Any, token: Any, layers: Any, below: Any, symbols: Any) -> None:
    """:func:`memodb.memory.codes.context_symbols` of one context; ``below`` is scratch of its length."""
    count = context.size
    for i in range(count):
        below[i] = _finalise(np.uint64(context[i]) * token[0] + token[1])
    symbols[0] = below[count - 1]
    for level in range(layers.shape[0]):
        heads = layers.shape[1] - 1
        count //= heads
        for i in range(count):
            total = layers[level, heads]
            for j in range(heads):
                total += below[i * heads + j] * layers[level, j]
            below[i] = _finalise(total)
        symbols[level + 1] = below[count - 1]


@_compiled
def _least(codes: Any, item: Any, rows: Any, layer: Any, ones: Any, rotation: Any, columns: Any, cells: Any) -> Any:
    """Least count of a pair's cells in one layer, 255 where the table has to be asked."""
    least = np.int64(_LARGE)
    for j in range(codes.shape[1]):
        place = (np.int64(codes[item, j]) + rotation) & (columns - 1)
        for r in range(ones):
            held = np.int64(cells[rows[layer, r] * columns + place])
            if held < least:
                least = held
                if held <= 1:  # a cell that is set counts 1 at least
                    return least
    return least


@_compiled
def _least_large(
    codes: Any, item: Any, rows: Any, layer: Any, ones: Any, rotation: Any, columns: Any, large: Any, counts: Any
) -> Any:
    """Least count of a pair's cells, all of which are in the table of large counts."""
    least = np.int64(0x7FFFFFFFFFFFFFFF)
    for j in range(codes.shape[1]):
        for r in range(ones):
            cell = rows[layer, r] * columns + ((np.int64(codes[item, j]) + rotation) & (columns - 1))
            least = min(least, counts[np.searchsorted(large, cell)])
    return least


@_compiled
def _precedes(supports: Any, tokens: Any, level: Any, a: Any, b: Any) -> Any:
    """Whether candidate a ranks before b: by the top layer's support, then by those below, then by token."""
    for layer in range(level, -1, -1):
        if supports[layer, a] != supports[layer, b]:
            return supports[layer, a] > supports[layer, b]
    return tokens[a] < tokens[b]


@_compiled
def _rank(supports: Any, tokens: Any, level: Any, count: Any, order: Any, spare: Any) -> None:
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
        order[:count] = spare[:count]
        width *= 2


@_compiled
def _decode(words: Any, codes: Any, members: Any, starts: Any, block: Any, found: Any) -> Any:
    """Items all of whose columns are set: (``found``, which may have been made longer, and how many there are)."""
    count = 0
    blocks = codes.shape[1]
    each = block // 64
    for first_word in range(each):
        first_bits = words[first_word]
        while first_bits:
            first = first_word * 64 + _lowest(first_bits)
            first_bits &= first_bits - _ONE
            for second_word in range(each):
                second_bits = words[each + second_word]
                while second_bits:
                    second = second_word * 64 + _lowest(second_bits)
                    second_bits &= second_bits - _ONE
                    bucket = first * block + second
                    for place in range(starts[bucket], starts[bucket + 1]):
                        item = np.int64(members[place])
                        held = True
                        for j in range(2, blocks):
                            column = codes[item, j]
                            if not words[column >> 6] >> np.uint64(column & 63) & _ONE:
                                held = False
                                break
                        if held:
                            found, count = _with(found, count, item)
    return found, count


@_compiled
def _pairs(words: Any, block: Any) -> Any:
    """Pairs of columns of the first two blocks that are set: what :func:`_decode` would look at."""
    each = block // 64
    first = second = 0
    for w in range(each):
        bits = words[w]
        while bits:
            bits &= bits - _ONE
            first += 1
        bits = words[each + w]
        while bits:
            bits &= bits - _ONE
            second += 1
    return first * second


@_compiled
def _crowd(least_columns: Any, asked: Any, codes: Any, found: Any) -> Any:
    """As :func:`_decode`, by looking at every item in turn."""
    count = 0
    for item in range(codes.shape[0]):
        if _least_of(least_columns, asked, codes, item):
            found, count = _with(found, count, item)
    return found, count


@_compiled
def _minima(asked: Any, rows: Any, key_ones: Any, rotations: Any, columns: Any, counts: Any, least_columns: Any) -> Any:
    """The least count of each column over a context's rows in layers 0..L, turned back: a vector for each L."""
    least = np.empty(columns, dtype=np.uint8)
    for layer in range(asked + 1):
        cells = counts[layer]
        start = rows[layer, 0] * columns
        for c in range(columns):
            least[c] = cells[start + c]
        for r in range(1, key_ones[layer]):
            start = rows[layer, r] * columns
            for c in range(columns):
                least[c] = min(least[c], cells[start + c])
        for c in range(columns):
            held = least[(c + rotations[layer]) & (columns - 1)]
            least_columns[layer, c] = held if layer == 0 else min(held, least_columns[layer - 1, c])


@_compiled
def _least_of(least_columns: Any, layer: Any, codes: Any, item: Any) -> Any:
    """Least count of an item's columns; 255 where the table has to be asked."""
    least = least_columns[layer, codes[item, 0]]
    for j in range(1, codes.shape[1]):
        least = min(least, least_columns[layer, codes[item, j]])
    return np.int64(least)


@_compiled
def _lowest(bits: Any) -> Any:
    """Number of the lowest bit that is set."""
    number = 0
    alone = bits & (~bits + _ONE)
    for step in (32, 16, 8, 4, 2, 1):
        if alone >> np.uint64(step):
            alone >>= np.uint64(step)
            number += step
    return number


@_compiled
def _best(supports: Any, tokens: Any, level: Any, count: Any, most: Any, order: Any) -> None:
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


@_compiled
def lookup(
    contexts: Any,
    top: int,
    most: int,
    token: Any,
    layers: Any,
    selectors: Any,
    key_ones: Any,
    presences: Any,
    counts: Any,
    larges: Any,
    large_counts: Any,
    codes: Any,
    members: Any,
    starts: Any,
) -> Any:
    """Answers of one segment to contexts (n, h^l), from the longest layer that knows each.

    ``presences`` (2-d), ``counts``, ``larges`` and ``large_counts`` have an array a layer, ``selectors`` multipliers a
    layer. Returns how many candidates of each context follow (all, or no more than ``most`` where that is not 0), their
    tokens and supports in the order of the answers, each context's level, and the sum of the supports of all
    candidates.
    """
    n = contexts.shape[0]
    words = presences[0].shape[1]
    columns = words * 64
    block = columns // codes.shape[1]
    level = np.full(n, -1, dtype=np.int64)
    many, sums = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    tokens, supports = np.empty(4 * n + 16, dtype=np.int64), np.empty(4 * n + 16, dtype=np.int64)
    below = np.empty(contexts.shape[1], dtype=np.uint64)
    symbols = np.empty(layers.shape[0] + 1, dtype=np.uint64)
    rows = np.empty((top + 1, key_ones.max()), dtype=np.int64)
    rotations = np.empty(top + 1, dtype=np.int64)
    agreed = np.empty((top + 1, words), dtype=np.uint64)
    common = np.empty(words, dtype=np.uint64)
    least_columns = np.empty((top + 1, columns), dtype=np.uint8)
    found = np.empty(64, dtype=np.int64)
    least = np.empty((top + 1, 64), dtype=np.int64)
    order, spare = np.empty(64, dtype=np.int64), np.empty(64, dtype=np.int64)
    total = 0
    for i in range(n):
        _symbols(contexts[i], token, layers, below, symbols)
        known = -1
        for layer in range(top + 1):
            ones = key_ones[layer]
            presence = presences[layer]
            rotation = _select(symbols[layer], selectors[layer], presence.shape[0] // ones, ones, columns, rows[layer])
            rotations[layer] = rotation
            for w in range(words):
                common[w] = presence[rows[layer, 0], w]
            for r in range(1, ones):
                row = rows[layer, r]
                for w in range(words):
                    common[w] &= presence[row, w]
            shift, skip = np.uint64(rotation & 63), rotation >> 6
            left = np.uint64(0)
            for w in range(words):
                low, high = common[(w + skip) & (words - 1)], common[(w + skip + 1) & (words - 1)]
                turned = (low >> shift) | ((high << _ONE) << (np.uint64(63) - shift))
                if layer:
                    turned &= agreed[layer - 1, w]
                agreed[layer, w] = turned
                left |= turned
            if not left:
                break
            known = layer
        for asked in range(known, -1, -1):
            crowded = _pairs(agreed[asked], block) > _CROWD
            if crowded:
                _minima(asked, rows, key_ones, rotations, columns, counts, least_columns)
                found, count = _crowd(least_columns, asked, codes, found)
            else:
                found, count = _decode(agreed[asked], codes, members, starts, block, found)
            if not count:
                continue
            if count > order.size:
                wide = found.size
                least = np.empty((top + 1, wide), dtype=np.int64)
                order, spare = np.empty(wide, dtype=np.int64), np.empty(wide, dtype=np.int64)
            for c in range(count):
                item, smallest = found[c], np.int64(0x7FFFFFFFFFFFFFFF)
                for turn in range(asked + 1):
                    layer = asked - turn if count == 1 else turn  # nothing to rank: the rarest context first
                    if crowded:
                        smallest = min(smallest, _least_of(least_columns, layer, codes, item))
                    elif smallest > 1:
                        ones, turned = key_ones[layer], rotations[layer]
                        held = _least(codes, item, rows, layer, ones, turned, columns, counts[layer])
                        if held == _LARGE:
                            held = _least_large(
                                codes, item, rows, layer, ones, turned, columns, larges[layer], large_counts[layer]
                            )
                        smallest = min(smallest, held)
                    if crowded and smallest == _LARGE:  # in every layer so far
                        smallest = np.int64(0x7FFFFFFFFFFFFFFF)
                        for each in range(layer + 1):
                            ones, turned = key_ones[each], rotations[each]
                            held = _least_large(
                                codes, item, rows, each, ones, turned, columns, larges[each], large_counts[each]
                            )
                            smallest = min(smallest, held)
                    least[turn, c] = smallest
                sums[i] += smallest
            kept = count
            if 0 < most < count:
                kept = most
            if kept < count and most <= _FEW:
                _best(least, found, asked, count, most, order)
            else:
                _rank(least, found, asked, count, order, spare)
            level[i] = asked
            many[i] = kept
            while total + kept > tokens.size:
                wide_tokens = np.empty(2 * tokens.size, dtype=np.int64)
                wide_tokens[:total] = tokens[:total]
                wide_supports = np.empty(2 * tokens.size, dtype=np.int64)
                wide_supports[:total] = supports[:total]
                tokens, supports = wide_tokens, wide_supports
            for c in range(kept):
                tokens[total] = found[order[c]]
                supports[total] = least[asked, order[c]]
                total += 1
            break
    return many, tokens[:total].copy(), supports[:total].copy(), level, sums
