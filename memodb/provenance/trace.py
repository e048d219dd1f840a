"""Which documents hold which spans of a text: candidates from the memory, truth from the catalog.

The provenance layer names every document that may hold a window of the text and misses none (guarantee 1); the
documents' own tokens then decide. So a trace is complete *and* exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
from sqlalchemy.orm import Session

from memodb.catalog import documents, now
from memodb.collection import Collection
from memodb.errors import CorruptStore, InvalidInput
from memodb.memory import Backend
from memodb.provenance.characters import characters_before, characters_in
from memodb.provenance.runs import MARK, Places, Tokens, common_runs

__all__ = ["Source", "Span", "trace"]

_TOKENS_AT_ONCE = 1 << 18
"""Of documents that are looked through together, more only where one has them alone."""
_MARK = np.array([MARK], dtype=np.int32)


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
    names: list[str] = []
    found = [np.zeros((4, 0), dtype=np.int64)]
    with collection.reading_both() as (memory, session):
        at = now()
        possible = {symbol for _, symbols in memory.documents(ids) for symbol in np.unique(symbols).tolist()}
        groups = _groups(collection, documents.stored_at(session, collection.id, possible, at))
        for group, joined, edges, runs in _looked_through(memory.backend, ids, groups, window):
            start, end, place = runs()
            long = end - start >= min_tokens
            start, end, place = start[long], end[long], place[long]
            owner = np.searchsorted(edges, place, "right") - 1
            begins = _begins(collection, session, at, group, joined, edges, owner, place)
            found.append(np.stack([start, end, owner + len(names), begins]))
            names += [row.id for row in group]
    return _spans(text, offsets, names, *np.concatenate(found, axis=1))


def _spans(
    text: str, offsets: Places, names: list[str], start: Places, end: Places, owner: Places, begins: Places
) -> list[Span]:
    """Runs of tokens as spans of the text, the first and longest first, each with all its documents by id."""
    rank = np.empty(len(names), dtype=np.int64)
    rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    order = np.lexsort((rank[owner], -end, start))
    start, end = start[order], end[order]
    sources = list(map(Source, map(names.__getitem__, owner[order].tolist()), begins[order].tolist()))
    fresh = np.flatnonzero((np.diff(start, prepend=-1) != 0) | (np.diff(end, prepend=-1) != 0))
    start, end = start[fresh], end[fresh]
    firsts, lasts, tokens = offsets[start, 0].tolist(), offsets[end - 1, 1].tolist(), (end - start).tolist()
    parts = pairwise([*fresh.tolist(), len(sources)])
    return [
        Span(first, last, text[first:last], size, tuple(sources[a:b]))
        for first, last, size, (a, b) in zip(firsts, lasts, tokens, parts, strict=True)
    ]


def _looked_through(
    backend: Backend, ids: Tokens, groups: Iterable[list[documents.StoredTokens]], window: int
) -> Iterator[tuple[list[documents.StoredTokens], Tokens, Places, Callable[[], tuple[Places, Places, Places]]]]:
    """Groups, their tokens as one sequence, where in it each document begins, and what gives the runs: those of one
    group are looked for while the next is read."""
    begun = []
    for group in groups:
        joined = np.concatenate([part for row in group for part in (row.tokens, _MARK)])
        edges = np.cumsum([0, *(row.tokens.size + 1 for row in group[:-1])])
        runs = backend.beside(common_runs, ids, joined, edges, window, backend.kernels_for(joined.size))
        begun.append((group, joined, edges, runs))
        if len(begun) > 1:
            yield begun.pop(0)
    yield from begun


def _groups(collection: Collection, stream: Iterable[documents.StoredTokens]) -> Iterator[list[documents.StoredTokens]]:
    """Documents to be looked through together, each of which bears the name that its row key stands for."""
    group: list[documents.StoredTokens] = []
    size = 0
    for row in stream:
        if collection.symbol(row.id) != row.place:
            raise CorruptStore(f"the row of document {row.id!r} is damaged: run `memodb check`")
        if group and size + row.tokens.size > _TOKENS_AT_ONCE:
            yield group
            group, size = [], 0
        group.append(row)
        size += row.tokens.size
    if group:
        yield group


def _begins(
    collection: Collection,
    session: Session,
    at: datetime,
    group: list[documents.StoredTokens],
    joined: Tokens,
    edges: Places,
    owner: Places,
    place: Places,
) -> Places:
    """The character of its owner's text at which each place of the joined documents begins."""
    tokenizer = collection.tokenizer
    before = characters_before(tokenizer, joined, np.stack([place, edges[owner]]))
    begins = np.zeros(place.size, dtype=np.int64) if before is None else before[0] - before[1]
    said = np.array([row.kept or before is None for row in group])
    asked = np.unique(owner[said[owner]]).tolist()
    texts = collection.texts_in(session, [group[which].id for which in asked], at=at) if asked else {}
    for which in asked:
        row, its = group[which], owner == which
        if row.id not in texts:
            raise CorruptStore("the indexes of the catalog contradict its rows: run `memodb check --fix`")
        begins[its] = characters_in(tokenizer, texts[row.id], place[its] - edges[which])
    return begins
