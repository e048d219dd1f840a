"""Reading a matrix: the columns that a context's rows have in common, and the codes that those hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from memodb.memory.fast.compiling import ONE, compiled, lowest, ones_of, select_rows

__all__ = ["CROWD", "common_words", "decode", "documents", "holds", "look", "pairs_of", "turned_back"]

CROWD = 6000
"""Pairs of columns from which on it is faster to look at every token than at those that the pairs name."""


@compiled
def pairs_of(words: Any, at: Any, blocks: Any) -> Any:
    """Pairs of columns of the first two blocks that are set: what :func:`decode` would look at."""
    each = words.shape[1] // blocks
    first = second = 0
    for w in range(each):
        first += ones_of(words[at, w])
        second += ones_of(words[at, each + w])
    return first * second


@compiled
def decode(words: Any, at: Any, codes: Any, starts: Any, found: Any, count: Any) -> Any:
    """Places in ``codes``, which are in the order of their first two columns, of those all of whose columns are set in
    ``words[at]``: into ``found`` behind the first ``count``. How many there are then."""
    each = words.shape[1] // codes.shape[1]
    for first_word in range(each):
        first_bits = words[at, first_word]
        while first_bits:
            row = (first_word * 64 + lowest(first_bits)) * each * 64
            first_bits &= first_bits - ONE
            for second_word in range(each):
                second_bits = words[at, each + second_word]
                while second_bits:
                    bucket = row + second_word * 64 + lowest(second_bits)
                    second_bits &= second_bits - ONE
                    for place in range(starts[bucket], starts[bucket + 1]):
                        held = ONE
                        for j in range(2, codes.shape[1]):
                            column = codes[place, j]
                            held &= words[at, column >> 6] >> np.uint64(column & 63)
                        found[count] = place
                        count += np.int64(held)
    return count


@compiled
def holds(words: Any, at: Any, codes: Any, place: Any) -> Any:
    """Whether all columns of a code are set in ``words[at]``."""
    held = ONE
    for j in range(codes.shape[1]):
        column = codes[place, j]
        held &= words[at, column >> 6] >> np.uint64(column & 63)
    return held == ONE


@compiled
def look(words: Any, at: Any, codes: Any, flags: Any, found: Any, count: Any) -> Any:
    """As :func:`decode`, by looking at every code in turn, one more of which is written than is held; ``flags`` (c,) is
    scratch."""
    for column in range(flags.size):
        flags[column] = words[at, column >> 6] >> np.uint64(column & 63) & ONE
    for place in range(codes.shape[0]):
        held = np.uint8(1)
        for j in range(codes.shape[1]):
            held &= flags[codes[place, j]]
        found[count] = place
        count += np.int64(held)
    return count


@compiled
def common_words(presence: Any, rows: Any, at: Any, ones: Any, common: Any) -> None:
    """The AND of the rows ``rows[at]``, into ``common``."""
    for w in range(common.size):
        common[w] = presence[rows[at, 0], w]
    for r in range(1, ones):
        row = rows[at, r]
        for w in range(common.size):
            common[w] &= presence[row, w]


@compiled
def turned_back(common: Any, rotation: Any, w: Any) -> Any:
    """Word ``w`` of a reading, turned back to the codes' own places."""
    words = common.size
    shift, skip = np.uint64(rotation & 63), rotation >> 6
    low, high = common[(w + skip) & (words - 1)], common[(w + skip + 1) & (words - 1)]
    # (high << 1) << (63 - shift) is high << (64 - shift) without the undefined shift by 64
    return (low >> shift) | ((high << ONE) << (np.uint64(63) - shift))


@compiled
def _named(words: Any, codes: Any, members: Any, starts: Any, occupied: Any, found: Any) -> Any:
    """Items all of whose columns are set in ``words[0]``, into ``found``, which has room for one more than there are
    items; how many.

    As :func:`decode`, for items that are few beside the pairs of columns: a pair that names none is not looked at.
    """
    blocks, each = codes.shape[1], occupied.shape[1]
    count = np.int64(0)
    for first_word in range(each):
        first_bits = words[0, first_word]
        while first_bits:
            first = first_word * 64 + lowest(first_bits)
            first_bits &= first_bits - ONE
            for second_word in range(each):
                second_bits = words[0, each + second_word] & occupied[first, second_word]
                while second_bits:
                    bucket = (first * each + second_word) * 64 + lowest(second_bits)
                    second_bits &= second_bits - ONE
                    for place in range(starts[bucket], starts[bucket + 1]):
                        held = ONE
                        for j in range(2, blocks):
                            column = codes[place, j]
                            held &= words[0, column >> 6] >> np.uint64(column & 63)
                        found[count] = members[place]
                        count += np.int64(held)
    return count


@compiled
def documents(
    symbols: Any, selector: Any, ones: int, presence: Any, occupied: Any, codes: Any, members: Any, starts: Any
) -> Any:
    """Items that a matrix answers to each symbol (n,): place of the symbol, and item, ascending."""
    words = presence.shape[1]
    rows, selectors = np.empty((1, ones + 1), dtype=np.int64), selector.reshape((1, -1))
    common, agreed = np.empty(words, dtype=np.uint64), np.empty((1, words), dtype=np.uint64)
    found = np.empty(codes.shape[0] + 1, dtype=np.int64)  # one more is written than is held
    places, items = np.empty(64, dtype=np.int64), np.empty(64, dtype=np.int64)
    total = 0
    for i in range(symbols.size):
        select_rows(symbols[i], selectors, 0, presence.shape[0] // ones, ones, words * 64, rows, 0)
        common_words(presence, rows, 0, ones, common)
        for w in range(words):
            agreed[0, w] = turned_back(common, rows[0, ones], w)
        count = _named(agreed, codes, members, starts, occupied, found)
        if count > 1:
            found[:count].sort()
        if total + count > places.size:
            size = 2 * (total + count)
            wide_places, wide_items = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
            wide_places[:total], wide_items[:total] = places[:total], items[:total]
            places, items = wide_places, wide_items
        places[total : total + count] = i
        items[total : total + count] = found[:count]
        total += count
    return places[:total].copy(), items[:total].copy()
