"""The one place where the bench reaches behind memodb's public names."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import memodb
from bench.stream import Document
from memodb.collection.layout import memorise

__all__ = ["Lines", "compiled", "hide_kernels", "memorised", "touched"]

_LINE = 64
"""Bytes that memory hands out at once."""


def compiled() -> bool:
    """Whether memodb's compiled kernels (``memodb[fast]``) are at work, which have goals of their own.

    That numba is installed does not tell: it was loaded by what was measured, or it was not.
    """
    return sys.modules.get("numba") is not None


def hide_kernels() -> None:
    """Let this process find no numba, as where it is not installed; before anything has loaded it.

    Raises
    ------
    SystemExit
        It is loaded already.
    """
    if compiled():
        raise SystemExit("numba is loaded already: ask for the goals of NumPy alone in a process of its own")
    sys.modules["numba"] = None  # type: ignore[assignment]  # what makes an import fail, by the language reference


@dataclass(frozen=True)
class Lines:
    """64-byte lines that one context touches where nothing is in a cache.

    Parameters
    ----------
    presence : int
        Of the presence view: a row of every one of the context's code, in every layer and segment.
    support : int
        Of the counts, for each candidate: a cell for every pair of ones in the layer that answers, each in another
        line.
    """

    presence: int
    support: int


def touched(db: memodb.Store) -> Lines:
    """What the counting layers read of one context that all of them answer."""
    with db._collection.reading() as memory:
        presence = support = 0
        for segment in memory.segments.values():
            for matrix, key_ones in zip(segment.layers, segment.codebook.key_ones, strict=False):
                presence += key_ones * -(-matrix.columns // 8 // _LINE)
            support += segment.codebook.key_ones[len(segment.layers) - 1] * memory.configuration.ones
    return Lines(presence, support)


def memorised(db: memodb.Store, documents: Sequence[Document]) -> int:
    """Memorise token arrays, all layers and provenance, in a segment as large as the store's largest.

    Nothing of a store around it: no text, no catalog, no file. Returns the tokens.
    """
    with db._collection.reading() as memory:
        largest = max(memory.segments.values(), key=lambda segment: segment.tokens)
        chosen: list[Document] = []
        held = 0
        for document in documents:
            if chosen and held + document.ids.size > largest.tokens:
                break
            chosen.append(document)
            held += document.ids.size
        # symbols as the store makes them: odd numbers would do, but these have to differ in their high bits too
        numbered = (((number + 1) * 0x9E3779B97F4A7C15) % 2**64 for number in range(len(chosen)))
        memorise(memory, largest.geometry, zip(numbered, (document.ids for document in chosen), strict=True))
    return held
