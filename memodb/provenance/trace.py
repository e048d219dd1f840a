"""Which documents hold which spans of a text: candidates from the memory, truth from the catalog.

The provenance layer names every document that may hold a window of the text and misses none (guarantee 1); the
documents' own tokens then decide. So a trace is complete *and* exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from memodb.catalog import documents
from memodb.collection import Collection
from memodb.errors import InvalidInput

__all__ = ["Source", "Span", "trace"]

_OCCURRENCES = 256
"""Places of one window in one document that are followed up. A text that repeats a window more often (a table of zeros)
is still traced whole, perhaps in more pieces than there might be."""

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


def trace(collection: Collection, text: str, min_tokens: int = 8) -> list[Span]:
    """Trace a text to its documents: see :meth:`memodb.Store.trace`."""
    window = collection.configuration.window
    if not isinstance(min_tokens, int) or isinstance(min_tokens, bool) or min_tokens < window:
        raise InvalidInput(
            f"min_tokens must be a whole number from {window} up (the store's provenance window), not {min_tokens!r}"
        )
    ids, offsets = collection.tokenizer.encode_with_offsets(text)
    query = ids.astype(np.int64)
    with collection.reading() as memory:
        symbols: set[int] = set()
        for _, found in memory.documents(query):
            symbols.update(np.unique(found).tolist())
    candidates = sorted(i for same in collection.ids_by_symbol(symbols).values() for i in same) if symbols else []
    spans: dict[tuple[int, int], dict[str, int]] = {}
    for at in range(0, len(candidates), _DOCUMENTS_AT_ONCE):
        with collection.catalog.read() as session:
            stored = documents.tokens_of(session, collection.id, candidates[at : at + _DOCUMENTS_AT_ONCE])
        for document_id in sorted(stored):
            for start, end, place in _runs(query, stored[document_id].astype(np.int64), window):
                if end - start >= min_tokens:
                    spans.setdefault((start, end), {})[document_id] = place
    positions = _character_offsets(collection, {i for sources in spans.values() for i in sources})
    result = []
    for (start, end), sources in sorted(spans.items(), key=lambda item: (item[0][0], -item[0][1])):
        first, last = int(offsets[start, 0]), int(offsets[end - 1, 1])
        named = tuple(Source(i, int(positions[i][place])) for i, place in sources.items() if i in positions)
        if named:
            result.append(Span(first, last, text[first:last], end - start, named))
    return result


def _runs(query: Tokens, document: Tokens, window: int) -> list[tuple[int, int, int]]:
    """Maximal common runs of two token sequences: (start, end) in the query and the place in the document.

    A run inside a longer one of the same document is left out, and of equal runs the first place is kept.
    """
    if query.size < window or document.size < window:
        return []
    at_query, at_document = _matching_windows(query, document, window)
    # On a diagonal (equal difference of places), windows that follow one another make one run.
    diagonal = at_query - at_document
    order = np.lexsort((at_query, diagonal))
    at_query, at_document, diagonal = at_query[order], at_document[order], diagonal[order]
    fresh = np.ones(order.size, dtype=bool)
    fresh[1:] = (np.diff(diagonal) != 0) | (np.diff(at_query) != 1)
    first = np.flatnonzero(fresh)
    last = np.append(first[1:], order.size) - 1
    runs = sorted(
        zip(at_query[first].tolist(), (at_query[last] + window).tolist(), at_document[first].tolist(), strict=True),
        key=lambda run: (run[0], -run[1], run[2]),
    )
    kept: list[tuple[int, int, int]] = []
    for run in runs:
        if not kept or run[1] > kept[-1][1]:
            kept.append(run)
    return kept


def _matching_windows(query: Tokens, document: Tokens, window: int) -> tuple[Tokens, Tokens]:
    """All (place in query, place in document) where a whole window agrees, compared token by token."""
    view = np.lib.stride_tricks.sliding_window_view
    wanted = view(query, window)
    held = view(document, window)
    # Windows as numbers that are equal exactly where the windows are: ranks of rows in one sorted table.
    both = np.concatenate([held, wanted])
    order = np.lexsort(both.T[::-1])
    fresh = np.zeros(len(both), dtype=np.int64)
    fresh[1:] = (both[order[1:]] != both[order[:-1]]).any(axis=1)
    rank = np.empty(len(both), dtype=np.int64)
    rank[order] = np.cumsum(fresh)
    held_rank, wanted_rank = rank[: len(held)], rank[len(held) :]
    places = np.argsort(held_rank, kind="stable")
    ordered = held_rank[places]
    start = np.searchsorted(ordered, wanted_rank, side="left")
    count = np.minimum(np.searchsorted(ordered, wanted_rank, side="right") - start, _OCCURRENCES)
    at_query = np.repeat(np.arange(len(wanted)), count)
    within = np.arange(at_query.size) - np.repeat(np.cumsum(count) - count, count)
    return at_query, places[start[at_query] + within]


def _character_offsets(collection: Collection, ids: set[str]) -> dict[str, npt.NDArray[np.int64]]:
    """First character of each token of each document; documents deleted meanwhile are missing."""
    texts = collection.texts(ids) if ids else {}
    return {i: collection.tokenizer.encode_with_offsets(text)[1][:, 0] for i, text in texts.items()}
