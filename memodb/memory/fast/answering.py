"""Answers of all segments of a memory: the longest context that any of them knows, its candidates, supports, order.

Arrays are passed one by one, rows of them by number, and none is given back: what comes out of a tuple, a slice or a
function, or is named anew in a loop, is counted as a reference each time, which takes as long as all the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memodb.memory.fast.compiling import ONE, compiled, finalise, select_rows, words_at
from memodb.memory.fast.ranking import BAND, PRESENCE, best, rank, untie, weigh, weigh_crowd
from memodb.memory.fast.reading import CROWD, common_words, decode, look, pairs_of, turned_back

__all__ = ["follows", "lookup"]

_MANY = 16
"""Candidates from which on the least count of every column is cheaper to find than that of each candidate."""
_FEW = 64
"""Candidates up to which choosing the best is faster than ordering all."""


@compiled
def _symbols(contexts: Any, i: Any, token: Any, layers: Any, below: Any, symbols: Any) -> None:
    """:func:`memodb.memory.codes.context_symbols` of context ``i``; ``below`` is scratch of its length."""
    count = contexts.shape[1]
    for at in range(count):
        below[at] = finalise(np.uint64(contexts[i, at]) * token[0] + token[1])
    symbols[0] = below[count - 1]
    for level in range(layers.shape[0]):
        heads = layers.shape[1] - 1
        count //= heads
        for at in range(count):
            total = layers[level, heads]
            for j in range(heads):
                total += below[at * heads + j] * layers[level, j]
            below[at] = finalise(total)
        symbols[level + 1] = below[count - 1]


@compiled
def _recall(
    symbols: Any,
    asked: Any,
    contexts: Any,
    i: Any,
    heads: Any,
    kept_symbols: Any,
    kept_places: Any,
    kept_asked: Any,
    kept_contexts: Any,
) -> Any:
    """The row of what is kept of a context that is left at layer ``asked``; -1 where nothing is."""
    span = 1
    for _ in range(asked):
        span *= heads
    place = np.searchsorted(kept_symbols, symbols[asked])
    while place < kept_symbols.size and kept_symbols[place] == symbols[asked]:
        row = kept_places[place]
        same = kept_asked[row] == asked
        for at in range(contexts.shape[1] - span, contexts.shape[1]):
            same &= kept_contexts[row, at] == contexts[i, at]
        if same:
            return row
        place += 1
    return np.int64(-1)


@compiled
def follows(
    context: Any,
    code: Any,
    level: int,
    columns: int,
    token: Any,
    layers: Any,
    selectors: Any,
    key_ones: Any,
    matrices: Any,
) -> Any:
    """Whether layers 0..level of any one segment answer the token of this ``code`` (q,) to a context (h^l,)."""
    symbols = np.empty(layers.shape[0] + 1, dtype=np.uint64)
    rows = np.empty((1, key_ones.max() + 1), dtype=np.int64)
    below = np.empty(context.size, dtype=np.uint64)
    _symbols(context.reshape((1, -1)), 0, token, layers, below, symbols)
    for first in range(0, matrices.shape[0], key_ones.size):
        held = ONE
        for layer in range(level + 1):
            m, ones = first + layer, key_ones[layer]
            band = matrices[m, BAND]
            presence = words_at(matrices[m, PRESENCE], band * ones, columns >> 6)
            select_rows(symbols[layer], selectors, layer, band, ones, columns, rows, 0)
            for r in range(ones):
                for j in range(code.size):
                    column = (np.int64(code[j]) + rows[0, ones]) & (columns - 1)
                    held &= presence[rows[0, r], column >> 6] >> np.uint64(column & 63)
        if held:
            return True
    return False


@compiled
def _read(
    contexts: Any,
    i: Any,
    top: Any,
    token: Any,
    layers: Any,
    selectors: Any,
    key_ones: Any,
    matrices: Any,
    symbols: Any,
    rows: Any,
    agreed: Any,
    reach: Any,
    below: Any,
    common: Any,
) -> Any:
    """Ask every layer of every segment: the highest layer in which any has columns left, -1 where none has."""
    words = common.size
    _symbols(contexts, i, token, layers, below, symbols)
    known = -1
    for s in range(reach.size):
        reach[s] = -1
        for layer in range(top + 1):
            m, ones = s * key_ones.size + layer, key_ones[layer]
            band = matrices[m, BAND]
            select_rows(symbols[layer], selectors, layer, band, ones, words << 6, rows, m)
            common_words(words_at(matrices[m, PRESENCE], band * ones, words), rows, m, ones, common)
            left = np.uint64(0)
            for w in range(words):
                turned = turned_back(common, rows[m, ones], w)
                if layer:
                    turned &= agreed[m - 1, w]
                agreed[m, w] = turned
                left |= turned
            if not left:
                break
            reach[s] = layer
        known = max(known, reach[s])
    return known


@compiled
def _find(
    asked: Any,
    patience: Any,
    each: Any,
    agreed: Any,
    reach: Any,
    codes: Any,
    starts: Any,
    found: Any,
    edges: Any,
) -> Any:
    """Places of the candidates of one layer, segment by segment, into ``found``: how many; -1 if they are too many."""
    count = 0
    for s in range(reach.size):
        if reach[s] >= asked:
            m = s * each + asked
            pairs = pairs_of(agreed, m, codes.shape[1])
            if 0 < patience < pairs:
                return -1
            if pairs > CROWD:
                count = look(agreed, m, codes, found, count)
            elif pairs:
                count = decode(agreed, m, codes, starts, found, count)
        edges[s + 1] = count
    return count


@compiled
def _list(
    asked: Any, members: Any, found: Any, count: Any, seats: Any, seat_of: Any, tokens: Any, places: Any, supports: Any
) -> Any:
    """Candidates of all segments, each once, without supports: how many; and which is the one at each found place."""
    listed = 0
    for c in range(count):
        item = np.int64(members[found[c]])
        seat = np.int64(seats[item]) if seats.size else np.int64(-1)
        if seat < 0:
            seat = np.int64(listed)
            listed += 1
            tokens[seat], places[seat] = item, found[c]
            for layer in range(asked + 1):
                supports[layer, seat] = 0
            if seats.size:
                seats[item] = seat
        seat_of[c] = seat
    if seats.size:
        for c in range(listed):
            seats[tokens[c]] = -1
    return listed


@compiled
def lookup(
    contexts: Any,
    top: int,
    most: int,
    patience: int,
    tokens: Any,
    supports: Any,
    columns: int,
    token: Any,
    layers: Any,
    selectors: Any,
    key_ones: Any,
    matrices: Any,
    codes: Any,
    members: Any,
    starts: Any,
    kept_symbols: Any,
    kept_places: Any,
    kept_asked: Any,
    kept_contexts: Any,
    kept_levels: Any,
    kept_totals: Any,
    kept_tokens: Any,
    kept_supports: Any,
) -> Any:
    """Answers to contexts (n, h^l), from the longest of the layers 0..top that any segment knows.

    Parameters
    ----------
    most : int
        Candidates of each context that are wanted; all where it is 0.
    patience : int
        Where it is not 0, a context for which more than so many pairs of columns of one segment would be looked at is
        answered by what is kept, or left.
    tokens, supports : int64 (m,)
        Where the answers go: ``most`` places a context, filled from the first, and -1 and 0 behind; or, where all are
        wanted, as many as each has.
    columns, token, layers, selectors, key_ones
        Of the codebook: see :meth:`memodb.memory.willshaw_memory.WillshawCodebook.compact`.
    matrices : int64 (segments * layers, 7)
        See :meth:`memodb.memory.willshaw.WillshawMatrix.addresses`.
    codes, members, starts
        Of the tokens: see :attr:`memodb.memory.decoding.CodeTable.compact`.
    kept_symbols, ...
        See :attr:`memodb.memory.crowds.Crowds.compact`.

    Returns
    -------
    done, needed, many, level, totals, left
        Contexts that are answered: all, or those before the one for whose ``needed`` candidates there is no room. How
        many answers each has; the layer that answers, -1 where none does; the sum of all candidates' supports; the
        layer at which a context is left, -1 where it is not.
    """
    n, each = contexts.shape[0], key_ones.size
    segments = matrices.shape[0] // each
    level = np.full(n, -1, dtype=np.int64)
    left, many, totals = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    symbols, below = np.empty(layers.shape[0] + 1, dtype=np.uint64), np.empty(contexts.shape[1], dtype=np.uint64)
    rows = np.empty((matrices.shape[0], key_ones.max() + 1), dtype=np.int64)
    agreed, common = np.empty((matrices.shape[0], columns >> 6), np.uint64), np.empty(columns >> 6, dtype=np.uint64)
    reach, edges = np.empty(segments, dtype=np.int64), np.zeros(segments + 1, dtype=np.int64)
    least, spare = np.empty(columns, dtype=np.uint8), np.empty(columns, dtype=np.uint8)
    # where a token is among the candidates, because several segments may answer it
    seats = np.full(codes.shape[0] if segments > 1 else 0, -1, dtype=np.int32)
    room = codes.shape[0]  # taken only where it is used
    found, seat_of = np.empty(segments * room, dtype=np.int64), np.empty(segments * room, dtype=np.int64)
    named, places, held = np.empty(room, np.int64), np.empty(room, np.int64), np.empty((each, room), np.int64)
    order, other = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    end = 0
    for i in range(n):
        known = _read(
            contexts, i, top, token, layers, selectors, key_ones, matrices, symbols, rows, agreed, reach, below, common
        )
        for asked in range(known, -1, -1):
            count = _find(asked, patience, each, agreed, reach, codes, starts, found, edges)
            if count < 0:
                heads = layers.shape[1] - 1
                place = _recall(
                    symbols, asked, contexts, i, heads, kept_symbols, kept_places, kept_asked, kept_contexts
                )
                if place < 0:
                    left[i] = asked
                else:
                    level[i], totals[i] = kept_levels[place], kept_totals[place]
                    while many[i] < most and kept_tokens[place, many[i]] >= 0:
                        tokens[i * most + many[i]] = kept_tokens[place, many[i]]
                        supports[i * most + many[i]] = kept_supports[place, many[i]]
                        many[i] += 1
                break
            if not count:
                continue
            crowded = count > _MANY
            count = _list(asked, members, found, count, seats, seat_of, named, places, held)
            if crowded:
                weigh_crowd(asked, key_ones, codes, matrices, rows, found, edges, seat_of, least, spare, held)
            else:
                weigh(asked, key_ones, codes, matrices, rows, found, edges, seat_of, columns, held)
            if count > 1 and not crowded:
                untie(asked, count, key_ones, codes, matrices, rows, agreed, reach, places, held)
            level[i] = asked
            many[i] = min(count, most) if most else count
            if most < count and 0 < most <= _FEW:
                best(held, named, asked, count, most, order)
            else:
                rank(held, named, asked, count, order, other)
            at = i * most if most else end
            end = at + many[i]
            if end > tokens.size:
                return i, end - at, many, level, totals, left
            for c in range(many[i]):
                tokens[at + c], supports[at + c] = named[order[c]], held[asked, order[c]]
            for c in range(count):
                totals[i] += held[asked, c]
            break
        for at in range(i * most + many[i], (i + 1) * most):
            tokens[at], supports[at] = -1, 0
    return n, 0, many, level, totals, left
