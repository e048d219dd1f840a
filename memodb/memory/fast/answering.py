"""Answers of all segments of a memory: the longest context that any of them knows, its candidates, supports, order.

Contexts are under way side by side: while one is answered, what others will be answered by comes from memory. All
arrays are made by :func:`lookup` and lent to what does the work, in tuples of those that belong together: whose
references are counted, at every call and every tuple, those take as long as all the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memodb.memory.fast.compiling import LINE, ONE, borrowed, compiled, fetch, finalise, select_rows, words_at
from memodb.memory.fast.ranking import BAND, CELLS, PRESENCE, STARTS, best, rank, untie, weigh, weigh_crowd
from memodb.memory.fast.reading import CROWD, common_words, decode, look, pairs_of, turned_back

__all__ = ["follows", "lookup"]

_MANY = 16
"""Candidates from which on the least count of every column is cheaper to find than that of each candidate."""
_FEW = 64
"""Candidates up to which choosing the best is faster than ordering all; pairs of columns up to which they are found
while other contexts' rows are on their way."""
_PLACES = 32
"""Contexts that are under way at a time: rows of as many fit a core's nearest cache, and come while others are read,
which is long where memory is far away or asked by many. A power of two."""
_READ = 4
"""Of these, contexts that are read already, and whose candidates' cells are on their way."""


@compiled
def _symbols(contexts: Any, i: Any, token: Any, layers: Any, below: Any, symbols: Any, place: Any) -> None:
    """:func:`memodb.memory.codes.context_symbols` of context ``i``, into ``symbols[place]``; ``below`` (h^l,) is
    scratch."""
    count = contexts.shape[1]
    for at in range(count):
        below[at] = finalise(np.uint64(contexts[i, at]) * token[0] + token[1])
    symbols[place, 0] = below[count - 1]
    for level in range(layers.shape[0]):
        heads = layers.shape[1] - 1
        count //= heads
        for at in range(count):
            total = layers[level, heads]
            for j in range(heads):
                total += below[at * heads + j] * layers[level, j]
            below[at] = finalise(total)
        symbols[place, level + 1] = below[count - 1]


@compiled
def _begin(
    contexts: Any,
    i: Any,
    top: Any,
    columns: Any,
    book: Any,
    matrices: Any,
    below: Any,
    symbols: Any,
    rows: Any,
    place: Any,
) -> None:
    """Symbols of context ``i``, and its rows in every matrix, which are fetched: into place ``place``."""
    token, layers, selectors, key_ones = book
    _symbols(contexts, i, token, layers, below, symbols, place)
    for s in range(matrices.shape[0] // key_ones.size):
        for layer in range(top + 1):
            m, ones = s * key_ones.size + layer, key_ones[layer]
            at = place * matrices.shape[0] + m
            select_rows(symbols[place, layer], selectors, layer, matrices[m, BAND], ones, columns, rows, at)
            for r in range(ones):
                fetch(matrices[m, PRESENCE] + rows[at, r] * (columns >> 3))


@compiled
def _read(top: Any, key_ones: Any, matrices: Any, rows: Any, agreed: Any, reach: Any, common: Any, place: Any) -> Any:
    """Ask every layer of every segment: the highest layer in which any has columns left, -1 where none has."""
    words, first = common.size, place * matrices.shape[0]
    known = -1
    for s in range(reach.shape[1]):
        reach[place, s] = -1
        for layer in range(top + 1):
            m, ones = s * key_ones.size + layer, key_ones[layer]
            presence = words_at(matrices[m, PRESENCE], matrices[m, BAND] * ones, words)
            common_words(presence, rows, first + m, ones, common)
            left = np.uint64(0)
            for w in range(words):
                turned = turned_back(common, rows[first + m, ones], w)
                if layer:
                    turned &= agreed[first + m - 1, w]
                agreed[first + m, w] = turned
                left |= turned
            if not left:
                break
            reach[place, s] = layer
        known = max(known, reach[place, s])
    return known


@compiled
def _find(
    asked: Any,
    patience: Any,
    each: Any,
    table: Any,
    agreed: Any,
    reach: Any,
    place: Any,
    found: Any,
    edges: Any,
    at: Any,
    flags: Any,
) -> Any:
    """Where in the table the candidates of one layer are, segment by segment, into ``found`` from ``edges[at, 0]`` on:
    how many; -1 if more pairs of columns than ``patience`` would have to be looked at, where it is not 0."""
    codes, _, starts = table
    count = edges[at, 0]
    for s in range(reach.shape[1]):
        if reach[place, s] >= asked:
            m = (place * reach.shape[1] + s) * each + asked
            pairs = pairs_of(agreed, m, codes.shape[1])
            if 0 < patience < pairs:
                return -1
            if pairs > CROWD:
                count = look(agreed, m, codes, flags, found, count)
            elif pairs:
                count = decode(agreed, m, codes, starts, found, count)
        edges[at, s + 1] = count
    return count - edges[at, 0]


@compiled
def _fetch_cells(
    asked: Any, columns: Any, key_ones: Any, matrices: Any, codes: Any, rows: Any, found: Any, edges: Any, place: Any
) -> None:
    """What the candidates of a context are first ranked by. Each of a candidate's columns is in another line of a row;
    where rows have no more lines than that, whole rows."""
    lines = (columns >> 1) // LINE
    for s in range(edges.shape[1] - 1):
        m = s * key_ones.size + asked
        at, begin, end = place * matrices.shape[0] + m, edges[place, s], edges[place, s + 1]
        for r in range(key_ones[asked] if begin < end else 0):
            row = matrices[m, CELLS] + (rows[at, r] * columns >> 1)
            if (end - begin) * codes.shape[1] >= lines:
                for line in range(lines):
                    fetch(row + line * LINE)
            else:
                for c in range(begin, end):
                    for j in range(codes.shape[1]):
                        fetch(row + ((np.int64(codes[found[c], j]) + rows[at, key_ones[asked]] & (columns - 1)) >> 1))


@compiled
def _fetch_below(asked: Any, columns: Any, key_ones: Any, matrices: Any, rows: Any, edges: Any, place: Any) -> None:
    """What ties among the candidates of a context are broken by: of the layer below, counts up to 15 in whole rows, and
    where those beyond begin."""
    ones = key_ones[asked - 1]
    for s in range(edges.shape[1] - 1):
        m = s * key_ones.size + asked - 1
        at = place * matrices.shape[0] + m
        for r in range(ones if edges[place, s] < edges[place, s + 1] else 0):
            fetch(matrices[m, STARTS] + rows[at, r] * 8)
            row = matrices[m, CELLS] + (rows[at, r] * columns >> 1)
            for line in range((columns >> 1) // LINE):
                fetch(row + line * LINE)


@compiled
def _recall(symbol: Any, asked: Any, contexts: Any, i: Any, heads: Any, kept: Any) -> Any:
    """The row of what is kept of a context that is left at layer ``asked``; -1 where nothing is."""
    kept_symbols, kept_places, kept_asked, kept_contexts = kept
    span = 1
    for _ in range(asked):
        span *= heads
    # hashes are spread evenly: what is looked for is near to where it would be if they were evenly spaced
    place = np.int64((symbol >> np.uint64(32)) * np.uint64(kept_symbols.size) >> np.uint64(32))
    while place > 0 and kept_symbols[place - 1] >= symbol:
        place -= 1
    while place < kept_symbols.size and kept_symbols[place] < symbol:
        place += 1
    while place < kept_symbols.size and kept_symbols[place] == symbol:
        row = kept_places[place]
        same = kept_asked[row] == asked
        for at in range(contexts.shape[1] - span, contexts.shape[1]):
            same &= kept_contexts[row, at] == contexts[i, at]
        if same:
            return row
        place += 1
    return np.int64(-1)


@compiled
def _list(
    asked: Any,
    members: Any,
    found: Any,
    begin: Any,
    count: Any,
    seats: Any,
    seat_of: Any,
    tokens: Any,
    places: Any,
    supports: Any,
) -> Any:
    """Candidates of all segments, each once, without supports: how many; and which is the one at each found place."""
    listed = 0
    for c in range(begin, begin + count):
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
        seat_of[c - begin] = seat
    if seats.size:
        for c in range(listed):
            seats[tokens[c]] = -1
    return listed


@compiled
def _give(i: Any, row: Any, most: Any, kept_answers: Any, answers: Any) -> None:
    """The answer to context ``i`` is a row of what is kept."""
    kept_levels, kept_totals, kept_tokens, kept_supports = kept_answers
    tokens, supports, many, level, totals = answers
    level[i], totals[i] = kept_levels[row], kept_totals[row]
    while many[i] < most and kept_tokens[row, many[i]] >= 0:
        at = i * most + many[i]
        tokens[at], supports[at] = kept_tokens[row, many[i]], kept_supports[row, many[i]]
        many[i] += 1


@compiled
def _write(i: Any, begin: Any, asked: Any, count: Any, named: Any, held: Any, order: Any, answers: Any) -> None:
    """The answer to context ``i``: of ``count`` candidates of a layer the first in their order, from ``begin`` on."""
    tokens, supports, many, level, totals = answers
    level[i] = asked
    for c in range(many[i]):
        tokens[begin + c], supports[begin + c] = named[order[c]], held[asked, order[c]]
    for c in range(count):
        totals[i] += held[asked, c]


@compiled
def _fill(
    top: Any,
    most: Any,
    patience: Any,
    leaving: Any,
    columns: Any,
    asked_of: Any,
    kept: Any,
    kept_answers: Any,
    answers: Any,
    too_many: Any,
    under_way: Any,
    scratch: Any,
) -> Any:
    """:func:`lookup`, into the arrays that it made."""
    contexts, token, layers, selectors, key_ones, matrices, codes, members, starts = borrowed(asked_of)
    book, table = (token, layers, selectors, key_ones), (codes, members, starts)
    kept, kept_answers, answers = borrowed(kept), borrowed(kept_answers), borrowed(answers)
    tokens, supports, many, _, _ = answers
    left, symbol = borrowed(too_many)
    symbols, rows, agreed, reach, answering, counts, edges, found = borrowed(under_way)
    below, common, even, odd, least, flags, ranks, seats, seat_of, named, places, held, order, other = borrowed(scratch)
    n, each, heads, ways = contexts.shape[0], key_ones.size, layers.shape[1] - 1, counts.size
    few = patience if patience else _FEW
    end = begun = read = 0
    for i in range(n):
        while begun < min(i + ways, n):
            _begin(contexts, begun, top, columns, book, matrices, below, symbols, rows, begun & (ways - 1))
            begun += 1
        while read < min(i + _READ, n):
            place, count = read & (ways - 1), 0
            known = _read(top, key_ones, matrices, rows, agreed, reach, common, place)
            while known >= 0 and not count:
                count = _find(known, few, each, table, agreed, reach, place, found, edges, place, flags)
                known -= not count
            if count > 0:
                _fetch_cells(known, columns, key_ones, matrices, codes, rows, found, edges, place)
                if 1 < count <= _MANY and known:
                    _fetch_below(known, columns, key_ones, matrices, rows, edges, place)
            answering[place], counts[place] = known, count
            read += 1
        place = at = i & (ways - 1)
        count, asked, first = counts[place], answering[place], place * matrices.shape[0]
        while count < 0 <= asked:  # too many to be found in passing
            if patience:
                row = _recall(symbols[place, asked], asked, contexts, i, heads, kept)
                if row >= 0:
                    _give(i, row, most, kept_answers, answers)
                    break
                if left[i] < 0:
                    left[i], symbol[i] = asked, symbols[place, asked]
                if leaving:
                    break
            at = ways
            count = _find(asked, 0, each, table, agreed, reach, place, found, edges, at, flags)
            if not count:
                count, asked = -1, asked - 1
        if count > 0:
            crowded = count > _MANY
            count = _list(asked, members, found, edges[at, 0], count, seats, seat_of, named, places, held)
            if crowded:
                weigh_crowd(
                    asked, key_ones, codes, matrices, rows, first, found, edges, at, seat_of, even, odd, least, held
                )
            else:
                weigh(asked, key_ones, codes, matrices, rows, first, found, edges, at, seat_of, columns, ranks, held)
                if count > 1:
                    untie(
                        asked,
                        count,
                        key_ones,
                        codes,
                        matrices,
                        rows,
                        agreed,
                        reach,
                        place,
                        places,
                        order,
                        even,
                        odd,
                        ranks,
                        held,
                    )
            many[i] = min(count, most) if most else count
            if most < count and 0 < most <= _FEW:
                best(held, named, asked, count, most, order)
            else:
                rank(held, named, asked, count, order, other)
            begin = i * most if most else end
            end = begin + many[i]
            if end > tokens.size:
                return i, end - begin
            _write(i, begin, asked, count, named, held, order, answers)
        for c in range(i * most + many[i], (i + 1) * most):
            tokens[c], supports[c] = -1, 0
    return n, 0


@compiled
def lookup(
    contexts: Any,
    top: int,
    most: int,
    patience: int,
    leaving: bool,
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
        answered by what is kept, if that is.
    leaving : bool
        Whether such a one is left if it is not; else it is answered, and only told.
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
    done, needed, many, level, totals, left, symbol
        Contexts that are answered: all, or those before the one for whose ``needed`` candidates there is no room. How
        many answers each has; the layer that answers, -1 where none does; the sum of all candidates' supports; the
        layer at which a context has too many, -1 where it has not, and its symbol there.
    """
    n, each, room = contexts.shape[0], key_ones.size, codes.shape[0]
    segments = matrices.shape[0] // each
    level = np.full(n, -1, dtype=np.int64)
    left, many, totals = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    symbol = np.zeros(n, dtype=np.uint64)
    ways = _PLACES if n > 1 else 1
    # of the contexts that are under way; one place more for the candidates of one that has many
    symbols = np.empty((ways, layers.shape[0] + 1), dtype=np.uint64)
    rows = np.empty((ways * matrices.shape[0], key_ones.max() + 1), dtype=np.int64)
    agreed = np.empty((ways * matrices.shape[0], columns >> 6), np.uint64)
    reach = np.empty((ways, segments), dtype=np.int64)
    answering, counts = np.empty(ways, dtype=np.int64), np.empty(ways, dtype=np.int64)
    found = np.empty((ways + 1) * segments * (room + 1), dtype=np.int64)  # taken only where it is used
    edges = np.zeros((ways + 1, segments + 1), dtype=np.int64)
    edges[:, 0] = np.arange(ways + 1) * segments * (room + 1)
    # of the one that is answered
    below, common = np.empty(contexts.shape[1], np.uint64), np.empty(columns >> 6, dtype=np.uint64)
    even, odd = np.empty((2, columns >> 1), dtype=np.uint8)
    least, flags = np.empty(columns, dtype=np.int64), np.empty(columns, dtype=np.uint8)
    ranks = np.zeros((key_ones.max(), columns >> 4), dtype=np.int64)
    seats = np.full(room if segments > 1 else 0, -1, dtype=np.int32)  # of tokens that several segments may answer
    seat_of, named, places = np.empty(segments * room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    held, order, other = np.empty((each, room), np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    done, needed = _fill(
        top,
        most,
        patience,
        leaving,
        columns,
        (contexts, token, layers, selectors, key_ones, matrices, codes, members, starts),
        (kept_symbols, kept_places, kept_asked, kept_contexts),
        (kept_levels, kept_totals, kept_tokens, kept_supports),
        (tokens, supports, many, level, totals),
        (left, symbol),
        (symbols, rows, agreed, reach, answering, counts, edges, found),
        (below, common, even, odd, least, flags, ranks, seats, seat_of, named, places, held, order, other),
    )
    return done, needed, many, level, totals, left, symbol


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
    symbols = np.empty((1, layers.shape[0] + 1), dtype=np.uint64)
    rows = np.empty((1, key_ones.max() + 1), dtype=np.int64)
    below = np.empty(context.size, dtype=np.uint64)
    _symbols(context.reshape((1, -1)), 0, token, layers, below, symbols, 0)
    for first in range(0, matrices.shape[0], key_ones.size):
        held = ONE
        for layer in range(level + 1):
            m, ones = first + layer, key_ones[layer]
            band = matrices[m, BAND]
            presence = words_at(matrices[m, PRESENCE], band * ones, columns >> 6)
            select_rows(symbols[0, layer], selectors, layer, band, ones, columns, rows, 0)
            for r in range(ones):
                for j in range(code.size):
                    column = (np.int64(code[j]) + rows[0, ones]) & (columns - 1)
                    held &= presence[rows[0, r], column >> 6] >> np.uint64(column & 63)
        if held:
            return True
    return False
