"""Which documents hold which spans of a text: candidates from the memory, truth from the catalog.

The provenance layer names every document that may hold a window of the text and misses none (guarantee 1); the
documents' own tokens then decide. So a trace is complete *and* exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from memodb.catalog import documents, now
from memodb.collection import Collection
from memodb.errors import CorruptStore, InvalidInput

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
        symbols: set[int] = set()
        for _, found in memory.documents(query):
            symbols.update(np.unique(found).tolist())
        candidates = sorted(documents.ids_at(session, collection.id, symbols, asked_at).values())
        spans: dict[tuple[int, int], dict[str, int]] = {}
        for at in range(0, len(candidates), _DOCUMENTS_AT_ONCE):
            group = candidates[at : at + _DOCUMENTS_AT_ONCE]
            stored = documents.tokens_of(session, collection.id, group, at=asked_at)
            for document_id in sorted(stored):
                for start, end, place in _runs(query, stored[document_id].astype(np.int64), window):
                    if end - start >= min_tokens:
                        spans.setdefault((start, end), {})[document_id] = place
        found_in = {document_id for sources in spans.values() for document_id in sources}
        texts = collection.texts_in(session, found_in, at=asked_at)
    if texts.keys() != found_in:
        raise CorruptStore("the indexes of the catalog contradict its rows: run `memodb check --fix`")
    positions = {i: collection.tokenizer.encode_with_offsets(text)[1][:, 0] for i, text in texts.items()}
    result = []
    for (start, end), sources in sorted(spans.items(), key=lambda item: (item[0][0], -item[0][1])):
        first, last = int(offsets[start, 0]), int(offsets[end - 1, 1])
        named = tuple(Source(i, int(positions[i][place])) for i, place in sources.items())
        result.append(Span(first, last, text[first:last], end - start, named))
    return result


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
