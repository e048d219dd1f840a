"""Which documents hold which spans of a text: candidates from the memory, truth from the catalog.

The provenance layer names every document that may hold a window of the text and misses none (guarantee 1); the
documents' own tokens then decide. So a trace is complete *and* exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from memodb.catalog import documents, now
from memodb.collection import Collection
from memodb.errors import CorruptStore, InvalidInput
from memodb.memory import Memory

__all__ = ["Source", "Span", "trace"]

_DOCUMENTS_AT_ONCE = 256

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """Where a span stands in a document.

    Parameters
    ----------
    id : str
        The document.
    offset : int
        Character of the document's text at which the span begins.
    """

    id: str
    offset: int


@dataclass(frozen=True)
class Span:
    """A piece of the traced text and the documents that hold it, token for token.

    Parameters
    ----------
    start, end : int
        Characters of the traced text, half-open.
    text : str
    tokens : int
        Tokens that agree.
    documents : tuple of Source
        By id; the first occurrence in each document.
    """

    start: int
    end: int
    text: str
    tokens: int
    documents: tuple[Source, ...]


def trace(collection: Collection, text: str, min_tokens: int | None = None) -> list[Span]:
    """Trace a text to its documents: see :meth:`memodb.Store.trace`."""
    window = collection.configuration.window
    if min_tokens is None:
        min_tokens = window
    if not isinstance(min_tokens, int) or isinstance(min_tokens, bool) or min_tokens < window:
        raise InvalidInput(
            f"min_tokens must be a whole number from {window} up (the store's provenance window), not {min_tokens!r}"
        )
    ids, offsets = collection.tokenizer.encode_with_offsets(text)
    query = ids.astype(np.int64)
    with collection.reading_both() as (memory, session):
        asked_at = now()
        windows = memory.window_symbols(query)
        possible = _possible_windows(memory, query)
        names = documents.ids_at(session, collection.id, set(possible), asked_at)
        candidates = {document_id: possible[symbol] for symbol, document_id in names.items()}
        spans: dict[tuple[int, int], dict[str, int]] = {}
        held: dict[str, Tokens] = {}
        wanted = sorted(candidates)
        for at in range(0, len(wanted), _DOCUMENTS_AT_ONCE):
            group = wanted[at : at + _DOCUMENTS_AT_ONCE]
            stored = documents.tokens_of(session, collection.id, group, at=asked_at)
            for document_id in sorted(stored):
                tokens, asked = stored[document_id].astype(np.int64), candidates[document_id]
                theirs = memory.window_symbols(tokens)
                places = np.flatnonzero(np.isin(theirs, windows[asked]))
                asked = asked[np.isin(windows[asked], theirs[places])]
                for start, end, place in _common_runs(query, asked, tokens, places, window):
                    if end - start >= min_tokens:
                        spans.setdefault((start, end), {})[document_id] = place
                        held[document_id] = tokens
        texts = collection.texts_in(session, held, at=asked_at)
    if texts.keys() != held.keys():
        raise CorruptStore("the indexes of the catalog contradict its rows: run `memodb check --fix`")
    places_in: dict[str, set[int]] = {}
    for sources in spans.values():
        for document_id, place in sources.items():
            places_in.setdefault(document_id, set()).add(place)
    characters = {i: _characters(collection, texts[i], held[i], sorted(places_in[i])) for i in sorted(held)}
    result = []
    for (start, end), sources in sorted(spans.items(), key=lambda item: (item[0][0], -item[0][1])):
        first, last = int(offsets[start, 0]), int(offsets[end - 1, 1])
        named = tuple(Source(i, characters[i][place]) for i, place in sources.items())
        result.append(Span(first, last, text[first:last], end - start, named))
    return result


def _possible_windows(memory: Memory, query: Tokens) -> dict[int, Tokens]:
    """First tokens of the windows that each document may hold, ascending, by its symbol."""
    found: dict[int, list[Tokens]] = {}
    for window, symbol in memory.documents(query):
        if not symbol.size:
            continue
        order = np.argsort(symbol, kind="stable")
        distinct, starts = np.unique(symbol[order], return_index=True)
        for one, start, end in zip(distinct.tolist(), starts, [*starts[1:], symbol.size], strict=True):
            found.setdefault(one, []).append(window[order[start:end]])
    return {one: np.unique(np.concatenate(parts)) for one, parts in found.items()}


def _characters(collection: Collection, text: str, tokens: Tokens, places: list[int]) -> dict[int, int]:
    """The character of a document's text at which each of some tokens begins."""
    edges = [0, *places]
    pieces = [collection.tokenizer.decode(tokens[a:b]) for a, b in pairwise(edges)]
    if text.startswith("".join(pieces)):
        return dict(zip(places, accumulate(map(len, pieces)), strict=True))
    # a token that begins inside a character, or a tokenizer that loses something: it knows itself
    begins = collection.tokenizer.encode_with_offsets(text)[1][:, 0]
    return {place: int(begins[place]) for place in places}


def _common_runs(
    query: Tokens, asked: Tokens, document: Tokens, places: Tokens, window: int
) -> list[tuple[int, int, int]]:
    """Maximal common runs of at least ``window`` tokens, from where equal windows may begin in both.

    Every window of a run is among those, so a run lies inside of a piece that windows which follow one another make up.
    Most documents have a small piece of the query, and sorting that takes a hundredth of the time of sorting all.
    """
    if not asked.size or not places.size:
        return []
    theirs, place_in_theirs = _pieces(document, places, window, -3)
    ours, place_in_ours = _pieces(query, asked, window, -4)
    return [
        (int(place_in_ours[start]), int(place_in_ours[end - 1]) + 1, int(place_in_theirs[place]))
        for start, end, place in _runs(ours, theirs, window)
    ]


def _pieces(sequence: Tokens, begins: Tokens, window: int, mark: int) -> tuple[Tokens, Tokens]:
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


def _runs(query: Tokens, document: Tokens, window: int) -> list[tuple[int, int, int]]:
    """Maximal common runs of two token sequences: (start, end) in the query and the first place in the document.

    Runs of at least ``window`` tokens; one inside a longer one is left out. Suffixes of both are sorted together: the
    longest run from a place of the query is shared with one of the two suffixes of the document nearest to it.
    Rejected: joining equal windows along diagonals, which in repeated content (a table of zeros) takes the product of
    the two lengths.
    """
    if query.size < window or document.size < window:
        return []
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
    firsts = _first_places(ranks, document.size, begin[starts], length[starts])
    return list(zip(starts.tolist(), reach[starts].tolist(), firsts, strict=True))


def _prefix_ranks(sequence: Tokens) -> list[Tokens]:
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


def _common(ranks: list[Tokens], one: Tokens, other: Tokens) -> Tokens:
    """Elements that agree from pairs of places, (n,); 0 where the places are the same."""
    length = np.zeros(one.size, dtype=np.int64)
    for level in range(len(ranks) - 2, -1, -1):
        # a place that agreed so far lies before its end mark, so the next one is inside the sequence
        same = ranks[level][one + length] == ranks[level][other + length]
        length += (same & (one != other)) << level
    return length


def _first_places(ranks: list[Tokens], size: int, starts: Tokens, lengths: Tokens) -> list[int]:
    """First place among the first ``size`` at which each piece occurs."""
    sorted_places: dict[int, Tokens] = {}
    found = []
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        # equal where the two longest pieces of 2^k that cover it are
        level = length.bit_length() - 1
        rank, rest = ranks[level], length - (1 << level)
        if level not in sorted_places:
            sorted_places[level] = np.argsort(rank[:size], kind="stable")
        places = sorted_places[level]
        low, high = np.searchsorted(rank[:size], [rank[start], rank[start] + 1], sorter=places)
        same = places[low:high]
        found.append(int(same[np.argmax(rank[same + rest] == rank[start + rest])]))
    return found
