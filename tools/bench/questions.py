"""What is asked, and whether the answers are right: contexts drawn from the stream, and an oracle that scans it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.stream import END, SEED, Document, pairs

__all__ = ["LENGTHS", "TOP", "Followers", "Kind", "Row", "fingerprints", "followers", "kinds", "rows", "top"]

LENGTHS = (4, 16)
TOP = 10

Contexts = npt.NDArray[np.int64]
Row = list[tuple[int, int]]
"""Tokens with their counts, best first: by count, then by token id."""


@dataclass(frozen=True)
class Kind:
    """Contexts of one length and origin, int64 (n, length)."""

    name: str
    contexts: Contexts
    known: bool

    @property
    def length(self) -> int:
        return int(self.contexts.shape[1])


@dataclass(frozen=True)
class Followers:
    """What follows one context in the stream: token to occurrences, and to documents."""

    occurrences: dict[int, int]
    documents: dict[int, int]


def kinds(documents: Sequence[Document], number: int) -> list[Kind]:
    """Known contexts of each length, and unknown ones: real tokens in another order, and random ones.

    Known ones are drawn by position, so a frequent context is asked as often as it occurs. Those of 4 tokens that begin
    a document are left out: memodb tells a beginning from a middle, and then answers from the beginnings alone.
    """
    found = []
    generator = np.random.default_rng(SEED)
    for length in LENGTHS:
        stored, _ = pairs(documents, length)
        marks = fingerprints(stored)
        usable = np.arange(len(stored))
        if length < max(LENGTHS):
            starts = fingerprints(np.array([d.ids[:length] for d in documents if d.ids.size >= length]))
            usable = np.flatnonzero(~np.isin(marks, starts))
        drawn = stored[generator.choice(usable, number)].astype(np.int64)
        shuffled = generator.permuted(drawn, axis=0)  # each column by itself: the tokens' frequencies stay
        chance = generator.integers(0, END, (number, length))
        found.append(Kind(f"known, {length} tokens", drawn, True))
        for name, unknown in (("shuffled", shuffled), ("random", chance)):
            kept = unknown[~np.isin(fingerprints(unknown), marks)]
            if len(kept):
                filled = kept[np.arange(number) % len(kept)]
                found.append(Kind(f"unknown ({name}), {length} tokens", filled, False))
    return found


def fingerprints(contexts: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each row, multiplied and folded column by column."""
    total = np.full(len(contexts), contexts.shape[1], dtype=np.uint64)
    for column in contexts.T:
        total ^= column.astype(np.uint64) + np.uint64(1)
        total *= np.uint64(0x9E3779B97F4A7C15)
        total ^= total >> np.uint64(29)
    return total * np.uint64(0xC2B2AE3D27D4EB4F)


def followers(documents: Sequence[Document], contexts: Contexts) -> list[Followers]:
    """Exact counts by going through every position of every document: shares no code with any peer.

    Each document's windows are compared with the contexts as they are, no hash between them.
    """
    length = contexts.shape[1]
    asked: dict[bytes, Followers] = {}
    keys = [row.tobytes() for row in contexts.astype(np.int32)]
    for key in keys:
        asked[key] = Followers({}, {})
    width = 4 * length
    for document in documents:
        raw = document.ids.astype(np.int32).tobytes()
        framed = [*document.ids.tolist(), END]
        seen = set()
        for place in range(len(framed) - length):
            found = asked.get(raw[4 * place : 4 * place + width])
            if found is None:
                continue
            token = framed[place + length]
            found.occurrences[token] = found.occurrences.get(token, 0) + 1
            if (id(found), token) not in seen:
                seen.add((id(found), token))
                found.documents[token] = found.documents.get(token, 0) + 1
    return [asked[key] for key in keys]


def top(counts: dict[int, int]) -> Row:
    """The ten likeliest of exact counts."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP]


def rows(answer: Any) -> list[Row]:
    """A peer's answer to a batch as rows, whatever form it came in: lists, or two arrays padded with -1 and 0."""
    if isinstance(answer, list):
        return answer
    tokens, counts = answer
    return [
        [(token, count) for token, count in zip(ids, held, strict=True) if token >= 0]
        for ids, held in zip(tokens.tolist(), counts.tolist(), strict=True)
    ]
