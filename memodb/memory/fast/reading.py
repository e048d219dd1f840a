"""Reading a segment: the layers that know a context, the candidates they agree on, their supports, and their order."""

from __future__ import annotations

from typing import Any

import numpy as np

from memodb.memory.fast.compiling import LARGE, ONE, appended, compiled, count_of, finalise, select_rows

__all__ = ["documents", "follows", "lookup"]

_CROWD = 6000
"""Pairs of columns from which on it is faster to look at every token than at those that the pairs name."""
_MANY = 16
"""Candidates from which on the least count of every column is cheaper to find than that of each candidate."""
_FEW = 64
"""Candidates up to which choosing the best is faster than ordering all."""


@compiled
def _symbols(context: Any, token: Any, layers: Any, below: Any, symbols: Any) -> None:
    """:func:`memodb.memory.codes.context_symbols` of one context; ``below`` is scratch of its length."""
    count = context.size
    for i in range(count):
        below[i] = finalise(np.uint64(context[i]) * token[0] + token[1])
    symbols[0] = below[count - 1]
    for level in range(layers.shape[0]):
        heads = layers.shape[1] - 1
        count //= heads
        for i in range(count):
            total = layers[level, heads]
            for j in range(heads):
                total += below[i * heads + j] * layers[level, j]
            below[i] = finalise(total)
        symbols[level + 1] = below[count - 1]


@compiled
def _least(codes: Any, item: Any, rows: Any, layer: Any, ones: Any, rotation: Any, columns: Any, cells: Any) -> Any:
    """Least count of a pair's cells in one layer, 15 where the table has to be asked."""
    least = np.int64(LARGE)
    for j in range(codes.shape[1]):
        place = (np.int64(codes[item, j]) + rotation) & (columns - 1)
        for r in range(ones):
            held = count_of(cells, rows[layer, r] * columns + place)
            if held < least:
                least = held
                if held <= 1:  # a cell that is set counts 1 at least
                    return least
    return least


@compiled
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


@compiled
def _precedes(supports: Any, tokens: Any, level: Any, a: Any, b: Any) -> Any:
    """Whether candidate a ranks before b: by the top layer's support, then by those below, then by token."""
    for layer in range(level, -1, -1):
        if supports[layer, a] != supports[layer, b]:
            return supports[layer, a] > supports[layer, b]
    return tokens[a] < tokens[b]


@compiled
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


@compiled
def _decode(words: Any, codes: Any, members: Any, starts: Any, block: Any, found: Any) -> Any:
    """Items all of whose columns are set: (``found``, which may have been made longer, and how many there are)."""
    count = 0
    blocks = codes.shape[1]
    each = block // 64
    for first_word in range(each):
        first_bits = words[first_word]
        while first_bits:
            first = first_word * 64 + _lowest(first_bits)
            first_bits &= first_bits - ONE
            for second_word in range(each):
                second_bits = words[each + second_word]
                while second_bits:
                    second = second_word * 64 + _lowest(second_bits)
                    second_bits &= second_bits - ONE
                    bucket = first * block + second
                    for place in range(starts[bucket], starts[bucket + 1]):
                        item = np.int64(members[place])
                        held = True
                        for j in range(2, blocks):
                            column = codes[item, j]
                            if not words[column >> 6] >> np.uint64(column & 63) & ONE:
                                held = False
                                break
                        if held:
                            found, count = appended(found, count, item)
    return found, count


@compiled
def _pairs(words: Any, block: Any) -> Any:
    """Pairs of columns of the first two blocks that are set: what :func:`_decode` would look at."""
    each = block // 64
    first = second = 0
    for w in range(each):
        bits = words[w]
        while bits:
            bits &= bits - ONE
            first += 1
        bits = words[each + w]
        while bits:
            bits &= bits - ONE
            second += 1
    return first * second


@compiled
def _look(words: Any, codes: Any, found: Any) -> Any:
    """As :func:`_decode`, by looking at every item in turn."""
    count = 0
    for item in range(codes.shape[0]):
        held = ONE
        for j in range(codes.shape[1]):
            column = codes[item, j]
            held &= words[column >> 6] >> np.uint64(column & 63)
        if held:
            found, count = appended(found, count, item)
    return found, count


@compiled
def _minima(asked: Any, rows: Any, key_ones: Any, rotations: Any, columns: Any, counts: Any, least_columns: Any) -> Any:
    """The least count of each column over a context's rows in each layer, turned back."""
    least = np.empty(columns, dtype=np.uint8)
    for layer in range(asked + 1):
        cells = counts[layer]
        start = rows[layer, 0] * columns
        for c in range(0, columns, 2):
            pair = cells[(start + c) >> 1]
            least[c], least[c + 1] = pair & 15, pair >> 4
        for r in range(1, key_ones[layer]):
            start = rows[layer, r] * columns
            for c in range(0, columns, 2):
                pair = cells[(start + c) >> 1]
                least[c], least[c + 1] = min(least[c], pair & 15), min(least[c + 1], pair >> 4)
        for c in range(columns):
            least_columns[layer, c] = least[(c + rotations[layer]) & (columns - 1)]


@compiled
def _least_of(least_columns: Any, layer: Any, codes: Any, item: Any) -> Any:
    """Least count of an item's columns; 15 where the table has to be asked."""
    least = least_columns[layer, codes[item, 0]]
    for j in range(1, codes.shape[1]):
        least = min(least, least_columns[layer, codes[item, j]])
    return np.int64(least)


@compiled
def _lowest(bits: Any) -> Any:
    """Number of the lowest bit that is set."""
    number = 0
    alone = bits & (~bits + ONE)
    for step in (32, 16, 8, 4, 2, 1):
        if alone >> np.uint64(step):
            alone >>= np.uint64(step)
            number += step
    return number


@compiled
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


@compiled
def _common(presence: Any, rows: Any, ones: Any, common: Any) -> None:
    """The AND of a context's rows, into ``common``."""
    for w in range(common.size):
        common[w] = presence[rows[0], w]
    for r in range(1, ones):
        row = rows[r]
        for w in range(common.size):
            common[w] &= presence[row, w]


@compiled
def _turned(common: Any, rotation: Any, w: Any) -> Any:
    """Word ``w`` of a reading, turned back to the codes' own places."""
    words = common.size
    shift, skip = np.uint64(rotation & 63), rotation >> 6
    low, high = common[(w + skip) & (words - 1)], common[(w + skip + 1) & (words - 1)]
    # (high << 1) << (63 - shift) is high << (64 - shift) without the undefined shift by 64
    return (low >> shift) | ((high << ONE) << (np.uint64(63) - shift))


@compiled
def documents(symbols: Any, selector: Any, ones: int, presence: Any, codes: Any, members: Any, starts: Any) -> Any:
    """Items that a matrix answers to each symbol (n,): place of the symbol, and item, ascending."""
    words = presence.shape[1]
    block = words * 64 // codes.shape[1]
    rows = np.empty(ones, dtype=np.int64)
    common, agreed = np.empty(words, dtype=np.uint64), np.empty(words, dtype=np.uint64)
    found = np.empty(64, dtype=np.int64)
    places, items = np.empty(64, dtype=np.int64), np.empty(64, dtype=np.int64)
    total = 0
    for i in range(symbols.size):
        rotation = select_rows(symbols[i], selector, presence.shape[0] // ones, ones, words * 64, rows)
        _common(presence, rows, ones, common)
        left = np.uint64(0)
        for w in range(words):
            agreed[w] = _turned(common, rotation, w)
            left |= agreed[w]
        if not left:
            continue
        if _pairs(agreed, block) > _CROWD:
            found, count = _look(agreed, codes, found)
        else:
            found, count = _decode(agreed, codes, members, starts, block, found)
            found[:count].sort()
        for c in range(count):
            places, _ = appended(places, total, np.int64(i))
            items, total = appended(items, total, found[c])
    return places[:total].copy(), items[:total].copy()


@compiled
def follows(
    context: Any,
    value: int,
    level: int,
    token: Any,
    layers: Any,
    selectors: Any,
    key_ones: Any,
    presences: Any,
    codes: Any,
) -> Any:
    """Whether layers 0..level of one segment answer a value to a context (h^l,)."""
    columns = presences[0].shape[1] * 64
    below = np.empty(context.size, dtype=np.uint64)
    symbols = np.empty(layers.shape[0] + 1, dtype=np.uint64)
    rows = np.empty(key_ones.max(), dtype=np.int64)
    _symbols(context, token, layers, below, symbols)
    for layer in range(level + 1):
        presence, ones = presences[layer], key_ones[layer]
        rotation = select_rows(symbols[layer], selectors[layer], presence.shape[0] // ones, ones, columns, rows)
        for r in range(ones):
            for j in range(codes.shape[1]):
                column = (np.int64(codes[value, j]) + rotation) & (columns - 1)
                if not presence[rows[r], column >> 6] >> np.uint64(column & 63) & ONE:
                    return False
    return True


@compiled
def lookup(
    contexts: Any,
    floor: Any,
    top: int,
    most: int,
    patience: int,
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
    """Answers of one segment to contexts (n, h^l), from the longest layer that knows each; of layers ``floor`` (n,) up.

    ``presences`` (2-d), ``counts``, ``larges`` and ``large_counts`` have an array a layer, ``selectors`` multipliers a
    layer. Where ``patience`` is not 0, a context for which more than so many pairs of columns would be looked at is
    left at that layer, with -1 candidates. Returns how many candidates of each context follow (no more than ``most``,
    or all where that is 0), their tokens and supports (m, top + 1) in the order of the answers, each context's level,
    and the sum of the supports of all candidates. Of supports, the column of the context's level is what is answered;
    those before it are of the layers below where all candidates are wanted, and those behind it 0.
    """
    n = contexts.shape[0]
    words = presences[0].shape[1]
    columns = words * 64
    block = columns // codes.shape[1]
    level = np.full(n, -1, dtype=np.int64)
    many, sums = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    tokens, supports = np.empty(2 * n + 16, dtype=np.int64), np.zeros((2 * n + 16, top + 1), dtype=np.int64)
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
            rotation = select_rows(
                symbols[layer], selectors[layer], presence.shape[0] // ones, ones, columns, rows[layer]
            )
            rotations[layer] = rotation
            _common(presence, rows[layer], ones, common)
            left = np.uint64(0)
            for w in range(words):
                turned = _turned(common, rotation, w)
                if layer:
                    turned &= agreed[layer - 1, w]
                agreed[layer, w] = turned
                left |= turned
            if not left:
                break
            known = layer
        for asked in range(known, floor[i] - 1, -1):
            pairs = _pairs(agreed[asked], block)
            if 0 < patience < pairs:
                level[i], many[i] = asked, -1
                break
            if pairs > _CROWD:
                found, count = _look(agreed[asked], codes, found)
            else:
                found, count = _decode(agreed[asked], codes, members, starts, block, found)
            if not count:
                continue
            if count > order.size:
                wide = found.size
                least = np.empty((top + 1, wide), dtype=np.int64)
                order, spare = np.empty(wide, dtype=np.int64), np.empty(wide, dtype=np.int64)
            crowded = count > _MANY
            if crowded:
                _minima(asked, rows, key_ones, rotations, columns, counts, least_columns)
            for c in range(count):
                item, smallest = found[c], np.int64(0x7FFFFFFFFFFFFFFF)
                for turn in range(asked + 1):
                    # nothing to rank: the rarest context first
                    layer = asked - turn if count == 1 and most else turn
                    if crowded:
                        smallest = min(smallest, _least_of(least_columns, layer, codes, item))
                    elif smallest > 1:
                        ones, turned = key_ones[layer], rotations[layer]
                        held = _least(codes, item, rows, layer, ones, turned, columns, counts[layer])
                        if held == LARGE:
                            held = _least_large(
                                codes, item, rows, layer, ones, turned, columns, larges[layer], large_counts[layer]
                            )
                        smallest = min(smallest, held)
                    if crowded and smallest == LARGE:  # in every layer so far
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
            if total + kept > tokens.size:
                size = max(2 * tokens.size, total + kept)
                wide_tokens = np.empty(size, dtype=np.int64)
                wide_tokens[:total] = tokens[:total]
                wide_supports = np.zeros((size, top + 1), dtype=np.int64)
                wide_supports[:total] = supports[:total]
                tokens, supports = wide_tokens, wide_supports
            for c in range(kept):
                tokens[total] = found[order[c]]
                for layer in range(asked + 1):
                    supports[total, layer] = least[layer, order[c]]
                total += 1
            break
    return many, tokens[:total].copy(), supports[:total].copy(), level, sums
