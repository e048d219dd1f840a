"""What a document puts into a memory: its distinct (context, next token) pairs and its distinct windows.

One vote per document: a pair counts once however often the document repeats it, so a cell counts documents, and a
document's contribution depends on the document and the seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memodb.memory.backend import Array, Backend
from memodb.memory.codes import ContextKeys, layer_symbols, window_symbols
from memodb.memory.configuration import Configuration

__all__ = ["Batch", "DocumentPairs", "PairSet", "document_pairs"]

_WORK_OF_A_PAIR = 4
"""What telling a pair from the others takes in plain NumPy, in cells that are touched."""


@dataclass(frozen=True)
class Batch:
    """Documents as arrays.

    Parameters
    ----------
    tokens : integer (sum of lengths,)
        Token ids of all documents, one after another, without marks.
    lengths : int64 (documents,)
        Tokens of each; 0 is allowed.
    symbols : uint64 (documents,)
        Keyed hash of each document's id: its identity in the provenance layer.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    symbols: np.ndarray

    @classmethod
    def of(cls, documents: list[tuple[int, np.ndarray]]) -> Batch:
        """A batch of (symbol, token ids) documents."""
        tokens = [np.asarray(ids, dtype=np.int64) for _, ids in documents]
        return cls(
            np.concatenate(tokens) if tokens else np.zeros(0, dtype=np.int64),
            np.array([ids.size for ids in tokens], dtype=np.int64),
            np.array([symbol for symbol, _ in documents], dtype=np.uint64),
        )


@dataclass(frozen=True)
class PairSet:
    """Distinct pairs of one layer, of n each: an entry is one vote of one document.

    Parameters
    ----------
    symbols : uint64 (n,)
        Of the contexts, or of the windows.
    values : int64 (n,)
        The next token's id, or in the provenance layer the document's place in the batch.
    positions : int64 (n,)
        Which of all positions, or windows, of the batch an entry is.
    """

    symbols: Array
    values: Array
    positions: Array


@dataclass(frozen=True)
class DocumentPairs:
    """All that a batch of documents stores.

    Parameters
    ----------
    stream : int64 (n,)
        Token ids of all documents, each framed by ``longest`` begin marks and one end mark.
    documents, places : int64 (positions,)
        Of each position, in order: the document's place in the batch, and where in the stream its next token stands.
    layers : list of PairSet
        (context, next token) of each layer, over the stream; a document of n tokens has n + 1 positions.
    windows : PairSet
        (window, document), over the documents' tokens without marks; documents shorter than a window have none.
    """

    stream: Array
    documents: Array
    places: Array
    layers: list[PairSet]
    windows: PairSet


def distinct(backend: Backend, symbols: Array, values: Array, documents: Array) -> Array:
    """Places of the first of each distinct (document, symbol, value): exact, whatever collides.

    Sorting one mixed 64-bit word is several times faster than a lexicographic sort of three; where two different
    triples share the mixed word (seen by comparing neighbours), the slow sort decides. Trusting the word alone would
    drop a pair, and a dropped pair is a miss.
    """
    kernels = backend.kernels_for(symbols.size * _WORK_OF_A_PAIR)
    if kernels is not None:
        return kernels.distinct(symbols, values, documents)
    xp = backend.xp
    mixed = (documents.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) ^ (
        values.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    )
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    mixed += symbols

    def first_of_runs(order: Array, keys: tuple[Array, ...]) -> Array:
        fresh = xp.zeros(order.size, dtype=bool)
        fresh[:1] = True
        for key in keys:
            ordered = key[order]
            fresh[1:] |= ordered[1:] != ordered[:-1]
        return fresh

    order = xp.argsort(mixed)
    by_word = first_of_runs(order, (mixed,))
    by_triple = first_of_runs(order, (symbols, values, documents))
    if bool((by_word != by_triple).any()):
        order = xp.lexsort(xp.stack([symbols, values.astype(np.uint64), documents.astype(np.uint64)]))
        by_triple = first_of_runs(order, (symbols, values, documents))
    return order[by_triple]


def document_pairs(backend: Backend, configuration: Configuration, keys: ContextKeys, batch: Batch) -> DocumentPairs:
    """The distinct pairs and windows of each document of a batch."""
    xp = backend.xp
    kernels = backend.kernels_for(batch.tokens.size * _WORK_OF_A_PAIR)
    lengths = backend.to_device(batch.lengths)
    tokens = backend.to_device(batch.tokens)
    longest = configuration.longest
    document, place = backend.ragged(lengths)
    frame = lengths + longest + 1
    starts = xp.cumsum(frame) - frame
    framed = xp.full(int(frame.sum()), configuration.begin, dtype=np.int64)
    framed[starts[document] + longest + place] = tokens
    framed[starts + longest + lengths] = configuration.end

    # position p of a document predicts its p-th token (the last predicts the end mark)
    owner, position = backend.ragged(lengths + 1)
    following = starts[owner] + longest + position
    values = framed[following]
    every = [
        (symbols[following - span], values, owner)
        for span, symbols in zip(configuration.spans, layer_symbols(framed, keys, kernels), strict=True)
    ]
    window = configuration.window
    if tokens.size < window:
        nothing = xp.zeros(0, dtype=np.int64)
        every.append((nothing.astype(np.uint64), nothing, nothing))
    else:
        symbols = window_symbols(tokens, keys, kernels)
        inside = xp.flatnonzero(place[: symbols.size] + window <= lengths[document[: symbols.size]])
        every.append((symbols[inside], document[inside], document[inside]))

    def once(given: tuple[Array, Array, Array]) -> PairSet:
        symbols, values, documents = given
        first = distinct(backend, symbols, values, documents)
        return PairSet(symbols[first], values[first], first)

    *layers, windows = backend.each(once, every, size=int(tokens.size))
    return DocumentPairs(framed, owner, following, layers, windows)
