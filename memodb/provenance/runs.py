"""Runs of tokens that a text and documents have in common: arrays in, arrays out.

Equal windows are paired over many documents at once, and pairs that follow one another in both are one run. A document
that repeats what the text repeats (a table of zeros) has the product of both in pairs: there suffixes are sorted
instead.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt

__all__ = ["MARK", "Places", "Tokens", "common_runs"]

Tokens = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint32]

MARK = -3
"""Stands behind each document where they are one sequence, and is no token; -1 and -2 are marks of this module's."""

_FEW_PAIRS = 1024
_PAIRS_PER_WINDOW = 4
"""A document with more pairs of equal windows than the first number and this one for each of its own repeats itself."""
_FACTOR = np.uint32(0x9E3779B1)


def common_runs(
    query: Tokens, documents: Tokens, edges: Places, window: int, kernels: ModuleType | None = None
) -> tuple[Places, Places, Places]:
    """Maximal runs that a query has in common with each of some documents, of at least a window's tokens.

    A run of the query inside a longer one with the same document is left out.

    Parameters
    ----------
    query : int32 (m,)
        A window at least.
    documents : int32 (n,)
        Of all documents, a `MARK` behind each.
    edges : int64 (documents,)
        Where each document begins, ascending.
    window : int
    kernels : module, optional
        :mod:`memodb.memory.fast`.

    Returns
    -------
    start, end, place : int64 (runs,)
        Half-open in the query, and the first place of such a piece in the document, as an element of ``documents``.
    """
    if kernels is None:
        return _longest(query.size, edges, *_diagonals(query, documents, edges, window))
    *found, repeats = kernels.diagonals(query, documents, edges, window, _FEW_PAIRS, _PAIRS_PER_WINDOW)
    if repeats.any():
        sizes = np.diff(edges, append=documents.size)[repeats]
        begins = np.cumsum(sizes) - sizes
        moved = edges[repeats] - begins
        rest = documents[np.repeat(moved, sizes) + np.arange(sizes.sum())]
        start, end, place = _diagonals(query, rest, begins, window)
        place += moved[np.searchsorted(begins, place, "right") - 1]
        found = [np.concatenate(both) for both in zip(found, (start, end, place), strict=True)]
    return _longest(query.size, edges, *found)


def _diagonals(query: Tokens, documents: Tokens, edges: Places, window: int) -> tuple[Places, Places, Places]:
    """Runs that cannot be made longer at either end: all of them, some of which may lie inside of others; of documents
    that repeat themselves only those that do not."""
    asked, held = _hashes(query, window), _hashes(documents, window)
    order = np.argsort(asked, kind="stable")
    ordered = asked[order]
    begins = _possible(asked, held)
    first, last = (np.searchsorted(ordered, held[begins], side) for side in ("left", "right"))
    equal = last > first
    begins, first, last = begins[equal], first[equal], last[equal]
    document = np.searchsorted(edges, begins, "right") - 1
    windows = np.bincount(document, minlength=edges.size)
    pairs = np.bincount(document, last - first, edges.size)
    repeats = pairs > _FEW_PAIRS + _PAIRS_PER_WINDOW * windows
    once = ~repeats[document]
    number, place = _ranges(first[once], last[once])
    found = [_joined(query, order[place], documents, begins[once][number], window)]
    for which in np.flatnonzero(repeats):
        part = slice(*np.searchsorted(document, [which, which + 1]))
        _, distinct = np.unique(first[part], return_index=True)
        ours = np.sort(order[_ranges(first[part][distinct], last[part][distinct])[1]])
        found.append(_repeated_runs(query, ours, documents, begins[part], window))
    start, end, place = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return start, end, place


def _hashes(tokens: Tokens, window: int) -> Hashes:
    """Of each window (n - window + 1,), equal where windows are; they only say where tokens are compared, so that
    two that share one by chance cost time, and nothing is found that is not there."""
    hashes = tokens.view(np.uint32) * _FACTOR
    size = 1
    while size < window:
        step = min(size, window - size)
        wider = hashes[:-step] * (_FACTOR + np.uint32(2 * size))
        wider += hashes[step:]
        hashes = wider
        size += step
    return hashes


def _possible(asked: Hashes, held: Hashes) -> Places:
    """Places of ``held`` at which a hash of ``asked`` may be, by some bits of it: most are not worth a search."""
    bits = min(asked.size.bit_length() + 6, 22)
    seen = np.zeros(1 << bits, dtype=bool)
    seen[asked >> np.uint32(32 - bits)] = True
    return np.flatnonzero(seen[held >> np.uint32(32 - bits)])


def _ranges(first: Places, last: Places) -> tuple[Places, Places]:
    """The numbers from each first up to before its last, one after another: whose each is, and it."""
    sizes = last - first
    whose = np.repeat(np.arange(sizes.size), sizes)
    return whose, np.arange(whose.size) + (first - np.cumsum(sizes) + sizes)[whose]


def _joined(
    query: Tokens, ours: Places, documents: Tokens, theirs: Places, window: int
) -> tuple[Places, Places, Places]:
    """The runs that pairs of windows with equal hashes make up, which are all pairs of their documents."""
    equal = np.ones(ours.size, dtype=bool)
    for step in range(window):
        equal &= query[step:].take(ours) == documents[step:].take(theirs)
    ours, theirs = ours[equal], theirs[equal]
    # at its end, and by wrapping around before its beginning, the query agrees with nothing
    marked = np.append(query, MARK - 1)
    begins = np.flatnonzero(marked[ours - 1] != documents[theirs - 1])
    ends = np.flatnonzero(marked[ours + window] != documents[theirs + window])
    # on a diagonal runs follow one another, so that the n-th beginning belongs to the n-th end
    along = (theirs - ours) * query.size + ours
    begins, ends = begins[np.argsort(along[begins])], ends[np.argsort(along[ends])]
    return ours[begins], ours[ends] + window, theirs[begins]


def _longest(size: int, edges: Places, start: Places, end: Places, place: Places) -> tuple[Places, Places, Places]:
    """Of the runs with one document those that lie in no other, and of equal ones the first."""
    document = np.searchsorted(edges, place, "right") - 1
    other = document * (size + 1)  # nothing of one document reaches into what is the next one's
    order = np.lexsort((place, -end, other + start))
    reach = (other + end)[order]
    longest = order[reach > np.concatenate([[-1], np.maximum.accumulate(reach)[:-1]])]
    return start[longest], end[longest], place[longest]


def _repeated_runs(
    query: Tokens, ours: Places, documents: Tokens, theirs: Places, window: int
) -> tuple[Places, Places, Places]:
    """The runs with one document, from where equal windows may begin in both, ascending.

    Every window of a run is among those, so a run lies inside of a piece that windows which follow one another make up:
    nothing else is sorted.
    """
    pieces, places = _pieces(query, ours, window, MARK - 2)
    their_pieces, their_places = _pieces(documents, theirs, window, MARK - 1)
    start, end, place = _runs(pieces, their_pieces, window)
    return places[start], places[end - 1] + 1, their_places[place]


def _pieces(sequence: Tokens, begins: Places, window: int, mark: int) -> tuple[Tokens, Places]:
    """Pieces of a sequence behind marks that occur once (``mark``, and every second number below it), joined; and the
    place in the sequence of each element."""
    cuts = np.flatnonzero(np.diff(begins) > 1) + 1
    edges = [0, *cuts.tolist(), begins.size]
    firsts, ends = begins[edges[:-1]], begins[np.array(edges[1:]) - 1] + window
    # a mark stands for the place before its piece
    places = np.concatenate([np.arange(first - 1, end) for first, end in zip(firsts, ends, strict=True)])
    joined = sequence[places]
    joined[np.cumsum(ends - firsts + 1) - (ends - firsts + 1)] = mark - 2 * np.arange(firsts.size)
    return joined, places


def _runs(query: Tokens, document: Tokens, window: int) -> tuple[Places, Places, Places]:
    """Maximal common runs of two token sequences: start and end in the query, and the first place in the document.

    Suffixes of both are sorted together: the longest run from a place of the query is shared with one of the two
    suffixes of the document nearest to it.
    """
    # marks that occur once: no run goes past the end of either
    ranks = _prefix_ranks(np.concatenate([document, [-1], query, [-2]]))
    order = np.argsort(ranks[-1])
    number = np.arange(order.size)
    ours = order < document.size
    before = np.maximum.accumulate(np.where(ours, number, -1))
    after = np.minimum.accumulate(np.where(ours, number, order.size)[::-1])[::-1]
    after[after == order.size] = -1
    begin = document.size + 1 + np.arange(query.size)
    place = ranks[-1][begin]
    length = np.maximum(
        *(
            _common(ranks, begin, np.where(nearest >= 0, order[nearest], begin))
            for nearest in (before[place], after[place])
        )
    )
    reach = np.arange(query.size) + length
    fresh = reach > np.concatenate([[0], np.maximum.accumulate(reach)[:-1]])
    starts = np.flatnonzero(fresh & (length >= window))
    return starts, reach[starts], _first_places(ranks, document.size, begin[starts], length[starts])


def _prefix_ranks(sequence: npt.NDArray[np.integer]) -> list[Places]:
    """Entry k ranks the pieces of 2^k elements from every place, equal where they are; in the last all differ.

    Prefix doubling (Manber and Myers, "Suffix arrays", 1993).
    """
    ranks = [np.unique(sequence, return_inverse=True)[1]]
    span = 1
    while ranks[-1].max() + 1 < sequence.size:
        following = np.zeros_like(ranks[-1])
        following[:-span] = ranks[-1][span:] + 1
        ranks.append(np.unique(ranks[-1] * (sequence.size + 1) + following, return_inverse=True)[1])
        span *= 2
    return ranks


def _common(ranks: list[Places], one: Places, other: Places) -> Places:
    """Elements that agree from pairs of places, (n,); 0 where the places are the same."""
    length = np.zeros(one.size, dtype=np.int64)
    for level in range(len(ranks) - 2, -1, -1):
        # a place that agreed so far lies before its end mark, so the next one is inside the sequence
        same = ranks[level][one + length] == ranks[level][other + length]
        length += (same & (one != other)) << level
    return length


def _first_places(ranks: list[Places], size: int, starts: Places, lengths: Places) -> Places:
    """First place among the first ``size`` at which each piece occurs."""
    sorted_places: dict[int, Places] = {}
    found = np.zeros(starts.size, dtype=np.int64)
    for number, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        # equal where the two longest pieces of 2^k that cover it are
        level = length.bit_length() - 1
        rank, rest = ranks[level], length - (1 << level)
        if level not in sorted_places:
            sorted_places[level] = np.argsort(rank[:size], kind="stable")
        places = sorted_places[level]
        low, high = np.searchsorted(rank[:size], [rank[start], rank[start] + 1], sorter=places)
        same = places[low:high]
        found[number] = same[np.argmax(rank[same + rest] == rank[start + rest])]
    return found
