"""A peer that answers wrong is not compared: its answers against exact counts, before it is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import memodb
from bench.peers import Memodb, Peer
from bench.questions import Followers, Kind, followers, rows, top
from bench.stream import END, Document

__all__ = ["Checked", "exactly", "faults", "without_misses"]

FALSE_RECALL = 0.05
"""Share of unknown contexts above which memodb counts as wrong: five times its promise, for a small sample's sake."""


@dataclass(frozen=True)
class Checked:
    """What memodb answered to contexts of one kind.

    Parameters
    ----------
    asked : int
    missed : int
        Tokens that follow in some document and were no candidates, of contexts that were answered at their length.
    low : int
        Supports below the number of documents.
    surplus : float
        Candidates that follow in no document, by those that do.
    false : float
        Share of contexts answered as if a longer one was known than is.
    """

    asked: int
    missed: int
    low: int
    surplus: float
    false: float

    @property
    def fault(self) -> str:
        """What is wrong with it; empty where nothing is."""
        if self.missed or self.low:
            return f"{self.missed} tokens missed, {self.low} supports too low"
        return f"{self.false:.1%} of {self.asked} answered falsely" if self.false > FALSE_RECALL else ""


def faults(peer: Peer, documents: Sequence[Document], kinds: Sequence[Kind], sample: int) -> str:
    """What is wrong with a peer's answers to the first contexts of each kind; empty where nothing is."""
    for kind in kinds:
        contexts = kind.contexts[:sample]
        exact = followers(documents, contexts)
        if isinstance(peer, Memodb):
            fault = without_misses(peer.db, kind, exact).fault
        else:
            fault = exactly(rows(peer.batch(contexts)), exact)
            fault = fault or exactly([rows(peer.one(context))[0] for context in contexts[:20].tolist()], exact[:20])
        if fault:
            return f"{kind.name}: {fault}"
    return ""


def exactly(answers: list[list[tuple[int, int]]], exact: Sequence[Followers]) -> str:
    """How many answers are not the ten likeliest by occurrences; empty where all are."""
    wrong = sum(list(map(tuple, row)) != top(each.occurrences) for row, each in zip(answers, exact, strict=True))
    return f"{wrong} of {len(exact)} answers are wrong" if wrong else ""


def without_misses(db: memodb.Store, kind: Kind, exact: Sequence[Followers]) -> Checked:
    """Look for misses among *all* candidates, and for supports below the number of documents."""
    found = db.lookup(kind.contexts[: len(exact)], k=END + 1)
    missed = low = extra = true = false = 0
    for ids, supports, reach, each in zip(found.token_ids, found.support, found.context_length, exact, strict=True):
        if reach > kind.length or (not kind.known and reach == kind.length):
            false += 1
            continue
        if not kind.known:
            continue
        shown = ids >= 0
        held = dict(zip(ids[shown].tolist(), supports[shown].tolist(), strict=True))
        missed += len(each.documents.keys() - held.keys())
        low += sum(held.get(token, count) < count for token, count in each.documents.items())
        extra += len(held.keys() - each.documents.keys())
        true += len(each.documents)
    return Checked(len(exact), missed, low, extra / max(1, true), false / max(1, len(exact)))
