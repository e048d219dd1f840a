"""Runs of tokens that a text has in common with documents, found in one pass over these."""

from __future__ import annotations

from typing import Any

import numpy as np

from memodb.memory.fast.compiling import compiled

__all__ = ["diagonals"]

_BASE = np.uint64(0x9E3779B97F4A7C15)
"""Of the polynomial that windows are hashed by: those that share a value are told apart by their tokens."""
_NONE = np.int32(-1)
_NO_ROOM = -1
_REPEATS = -2


@compiled
def _hash(tokens: Any, start: Any, window: Any) -> Any:
    """The polynomial of a window's tokens."""
    total = np.uint64(0)
    for i in range(start, start + window):
        total = total * _BASE + np.uint64(tokens[i])
    return total


@compiled
def _slot(value: Any, shift: Any) -> Any:
    """The list that a hash belongs to; multiplied, because the last token is only in the lower bits."""
    return (value * _BASE) >> shift


@compiled
def _lists(query: Any, window: Any) -> Any:
    """Places of the query by the hash of the window there: the first of each list, the one after each, and the shift
    that makes a list's number of a hash. Seven of eight lists are empty: most windows are done with one look."""
    size = query.size - window + 1
    bits = 4
    while size >> (bits - 3):
        bits += 1
    shift = np.uint64(64 - bits)
    heads, following = np.full(1 << bits, _NONE), np.empty(size, dtype=np.int32)
    for i in range(size - 1, -1, -1):
        slot = _slot(_hash(query, i, window), shift)
        following[i] = heads[slot]
        heads[slot] = i
    return heads, following, shift


@compiled
def _of_one(
    query: Any, heads: Any, following: Any, shift: Any, documents: Any, begin: Any, stop: Any, left: Any, found: Any
) -> Any:
    """Put the runs with one document, from ``begin`` to before ``stop``, into ``found`` (3, room); how many there are,
    or `_NO_ROOM`, or `_REPEATS` where more than ``left`` pairs would have to be compared."""
    window = query.size - following.size + 1
    leaving = np.uint64(1)
    for _ in range(window):
        leaving *= _BASE
    count = 0
    value = _hash(documents, begin, window)
    for place in range(begin, stop - window + 1):
        i = np.int64(heads[_slot(value, shift)])
        while i >= 0:
            left -= 1
            if left < 0:
                return _REPEATS
            # else inside of a run; before a document's first token there is a mark, before the first one's the last
            if i == 0 or query[i - 1] != documents[place - 1]:
                length, most = 0, query.size - i  # and the document's mark is no token of the query
                while length < most and query[i + length] == documents[place + length]:
                    length += 1
                left -= length // window
                if length >= window:
                    if count == found.shape[1]:
                        return _NO_ROOM
                    found[0, count], found[1, count], found[2, count] = i, i + length, place
                    count += 1
            i = np.int64(following[i])
        # the token behind a document's last window is its mark
        value = value * _BASE + np.uint64(documents[place + window]) - leaving * np.uint64(documents[place])
    return count


@compiled
def diagonals(query: Any, documents: Any, edges: Any, window: int, few: int, each: int) -> Any:
    """Runs that cannot be made longer at either end, as :func:`memodb.provenance.runs._diagonals` has them, and which
    documents repeat themselves, bool (documents,): nothing is told of those.

    The hash of a window follows from that of the one before it. A document repeats itself where more than ``few`` pairs
    of windows, and ``each`` for each of its tokens, would have to be compared.
    """
    heads, following, shift = _lists(query, window)
    runs, count = np.empty((3, 64), dtype=np.int64), 0
    repeats = np.zeros(edges.size, dtype=np.bool_)
    number = 0
    while number < edges.size:
        begin = edges[number]
        stop = (edges[number + 1] if number + 1 < edges.size else documents.size) - 1  # where its mark is
        if stop - begin >= window:
            left = few + each * (stop - begin)
            more = _of_one(query, heads, following, shift, documents, begin, stop, left, runs[:, count:])
            if more == _NO_ROOM:
                wider = np.empty((3, 2 * runs.shape[1]), dtype=np.int64)
                wider[:, :count] = runs[:, :count]
                runs = wider
                continue
            if more == _REPEATS:
                repeats[number] = True
            else:
                count += more
        number += 1
    return runs[0, :count].copy(), runs[1, :count].copy(), runs[2, :count].copy(), repeats
