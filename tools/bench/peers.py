"""Who is compared: one small class each, with the same questions and the same answers.

Each answers for the contexts of 4 and of 16 tokens with the ten likeliest next tokens and their counts, in the form
that is natural to it, written as somebody would who cares for speed and has an afternoon. memodb is one of them. It
counts documents where the others count occurrences, also holds contexts of 1 token and the documents of every span, and
falls back to a shorter context where the others answer nothing.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

import memodb
from bench.questions import LENGTHS, TOP, Row, fingerprints
from bench.stream import Document, pairs

__all__ = ["Dict", "Memodb", "NumPy", "Peer", "SQLite"]

Contexts = npt.NDArray[np.int64]


class Peer(ABC):
    """One thing that can be asked what follows a context.

    Parameters
    ----------
    place : Path
        An empty directory for its files.
    """

    name: ClassVar[str]
    durable: ClassVar[bool]
    """Whether what was appended or deleted survives the process, and a power loss."""
    changes: ClassVar[bool] = True
    """Whether it can append and delete; otherwise it has to be built anew."""

    def __init__(self, place: Path) -> None:
        self.place = place

    @classmethod
    def missing(cls) -> str:
        """Why it cannot run on this machine; empty where it can."""
        return ""

    @abstractmethod
    def ingest(self, documents: Sequence[Document]) -> None:
        """Take the first documents."""

    @abstractmethod
    def batch(self, contexts: Contexts) -> Any:
        """The ten likeliest tokens after each of n contexts, int64 (n, length): see :func:`bench.questions.rows`."""

    def one(self, context: list[int]) -> Any:
        """The same of one context: a batch of one."""
        return self.batch(np.array([context]))

    def append(self, documents: Sequence[Document]) -> None:
        """Take further documents."""
        raise NotImplementedError(f"{self.name} cannot append")

    def delete(self, documents: Sequence[Document]) -> None:
        """Be as if documents had never been taken."""
        raise NotImplementedError(f"{self.name} cannot delete")

    def disk_bytes(self) -> int:
        """Bytes of its files."""
        return sum(path.stat().st_size for path in self.place.rglob("*") if path.is_file())

    def close(self) -> None:
        """Give back what it holds: nothing, where all of it is memory."""
        return


class Memodb(Peer):
    """memodb, given text: the tokeniser and the catalog are part of every write."""

    name = "memodb"
    durable = True

    def __init__(self, place: Path, device: str = "cpu") -> None:
        super().__init__(place)
        self.db = memodb.connect(place / "store", device=device)
        self._names: dict[int, str] = {}

    def ingest(self, documents: Sequence[Document]) -> None:
        self.append(documents)
        self.db.checkpoint()

    def batch(self, contexts: Contexts) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        found = self.db.lookup(contexts, TOP)
        return found.token_ids, found.support

    def append(self, documents: Sequence[Document]) -> None:
        first = len(self._names)
        for number, document in enumerate(documents, first):
            self._names[id(document)] = f"{number}"
        self.db.append_many({"id": self._names[id(document)], "text": document.text} for document in documents)

    def delete(self, documents: Sequence[Document]) -> None:
        """Hidden, subtracted, and overwritten in the files; compared with a rebuild only where that is timed."""
        self.db.delete(*(self._names[id(document)] for document in documents), verify=False)

    def close(self) -> None:
        self.db.close()


class Dict(Peer):
    """A dict of dicts of counters, keyed by the context's bytes."""

    name = "dict"
    durable = False

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.tables: dict[int, dict[bytes, dict[int, int]]] = {length: {} for length in LENGTHS}

    def ingest(self, documents: Sequence[Document]) -> None:
        self.append(documents)

    def append(self, documents: Sequence[Document]) -> None:
        for length, table in self.tables.items():
            contexts, following = pairs(documents, length)
            for key, token in zip(_keys(contexts), following.tolist(), strict=True):
                counts = table.get(key)
                if counts is None:
                    table[key] = {token: 1}
                else:
                    counts[token] = counts.get(token, 0) + 1

    def delete(self, documents: Sequence[Document]) -> None:
        for length, table in self.tables.items():
            contexts, following = pairs(documents, length)
            for key, token in zip(_keys(contexts), following.tolist(), strict=True):
                counts = table[key]
                counts[token] -= 1
                if not counts[token]:
                    del counts[token]
                    if not counts:
                        del table[key]

    def batch(self, contexts: Contexts) -> list[Row]:
        table = self.tables[contexts.shape[1]]
        answers: list[Row] = []
        for key in _keys(contexts.astype(np.uint16)):
            counts = table.get(key)
            if counts is None:
                answers.append([])
            elif len(counts) == 1:  # most contexts: nothing to sort
                answers.append(list(counts.items()))
            else:
                answers.append(sorted(counts.items(), key=_best_first)[:TOP])
        return answers

    def one(self, context: list[int]) -> list[Row]:
        counts = self.tables[len(context)].get(np.array(context, np.uint16).tobytes())
        return [sorted(counts.items(), key=_best_first)[:TOP] if counts else []]


def _best_first(item: tuple[int, int]) -> tuple[int, int]:
    return -item[1], item[0]


def _keys(contexts: npt.NDArray[np.uint16]) -> list[bytes]:
    raw, width = contexts.tobytes(), 2 * contexts.shape[1]
    return [raw[at : at + width] for at in range(0, len(raw), width)]


def _tally(documents: Sequence[Document], length: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Distinct (context, next token) pairs, ascending, and how often each occurs.

    A pair is one number: 48 bits of the context's hash above 16 of the token. Two contexts share a hash with a
    probability of n² / 2^49: once in some 500 streams of a million contexts.
    """
    contexts, following = pairs(documents, length)
    pair = (fingerprints(contexts) & ~np.uint64(0xFFFF)) | following
    distinct, counts = np.unique(pair, return_counts=True)
    return distinct, counts


class NumPy(Peer):
    """Sorted hashes and counts: one binary search for a context, one for its end."""

    name = "NumPy"
    durable = False

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        empty = np.zeros(0, np.uint64), np.zeros(0, np.uint32)
        self.tables = dict.fromkeys(LENGTHS, empty)

    def ingest(self, documents: Sequence[Document]) -> None:
        for length in LENGTHS:
            pair, counts = _tally(documents, length)
            self.tables[length] = pair, counts.astype(np.uint32)

    def append(self, documents: Sequence[Document]) -> None:
        for length, (held, counts) in self.tables.items():
            pair, more = _tally(documents, length)
            place = np.searchsorted(held, pair)
            known = place < held.size
            known[known] = held[place[known]] == pair[known]
            counts[place[known]] += more[known].astype(np.uint32)
            fresh = ~known
            self.tables[length] = (
                np.insert(held, place[fresh], pair[fresh]),
                np.insert(counts, place[fresh], more[fresh].astype(np.uint32)),
            )

    def delete(self, documents: Sequence[Document]) -> None:
        for length, (held, counts) in self.tables.items():
            pair, less = _tally(documents, length)
            place = np.searchsorted(held, pair)
            counts[place] -= less.astype(np.uint32)
            gone = place[counts[place] == 0]
            self.tables[length] = np.delete(held, gone), np.delete(counts, gone)

    def batch(self, contexts: Contexts) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        held, counts = self.tables[contexts.shape[1]]
        marks = fingerprints(contexts) & ~np.uint64(0xFFFF)
        low = np.searchsorted(held, marks)
        high = np.searchsorted(held, marks | np.uint64(0xFFFF), side="right")
        widths = high - low
        starts = np.cumsum(widths) - widths
        row = np.repeat(np.arange(marks.size), widths)
        place = np.arange(row.size)
        at = place + (low - starts)[row]
        # row, count and token in one number: one sort orders all, and nothing has to be gathered afterwards
        order = (row.astype(np.uint64) << np.uint64(48)) | (~counts[at]).astype(np.uint64) << np.uint64(16)
        order |= held[at] & np.uint64(0xFFFF)
        order.sort()
        rank = place - starts[row]
        shown = rank < TOP
        tokens = np.full((marks.size, TOP), -1)
        support = np.zeros((marks.size, TOP), dtype=np.int64)
        best = order[shown]
        tokens[row[shown], rank[shown]] = best & np.uint64(0xFFFF)
        support[row[shown], rank[shown]] = ~(best >> np.uint64(16)).astype(np.uint32)
        return tokens, support


class SQLite(Peer):
    """A table an order, clustered by the context's hash; every change is one durable transaction."""

    name = "SQLite"
    durable = True

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.connection = sqlite3.connect(place / "counts.sqlite", isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-65536"):
            self.connection.execute(f"PRAGMA {pragma}").fetchall()
        for length in LENGTHS:
            self.connection.execute(
                f"CREATE TABLE after{length} (context INTEGER, token INTEGER, count INTEGER, "
                "PRIMARY KEY (context, token)) WITHOUT ROWID"
            )

    def ingest(self, documents: Sequence[Document]) -> None:
        self.append(documents)
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def append(self, documents: Sequence[Document]) -> None:
        with self._committed():
            for length in LENGTHS:
                self.connection.executemany(
                    f"INSERT INTO after{length} VALUES (?, ?, ?) "
                    "ON CONFLICT (context, token) DO UPDATE SET count = count + excluded.count",
                    _entries(documents, length),
                )

    def delete(self, documents: Sequence[Document]) -> None:
        with self._committed():
            for length in LENGTHS:
                entries = list(_entries(documents, length))
                self.connection.executemany(
                    f"UPDATE after{length} SET count = count - ?3 WHERE context = ?1 AND token = ?2", entries
                )
                self.connection.executemany(
                    f"DELETE FROM after{length} WHERE context = ?1 AND token = ?2 AND count <= 0",
                    (entry[:2] for entry in entries),
                )

    def _committed(self) -> sqlite3.Connection:
        self.connection.execute("BEGIN IMMEDIATE")
        return self.connection

    def batch(self, contexts: Contexts) -> list[Row]:
        table = f"after{contexts.shape[1]}"
        query = f"SELECT token, count FROM {table} WHERE context = ? ORDER BY count DESC, token LIMIT {TOP}"
        ask = self.connection.execute
        marks = (fingerprints(contexts) >> np.uint64(16)).tolist()
        return [ask(query, (mark,)).fetchall() for mark in marks]

    def close(self) -> None:
        self.connection.close()


def _entries(documents: Sequence[Document], length: int) -> Iterable[tuple[int, int, int]]:
    pair, counts = _tally(documents, length)
    return zip((pair >> np.uint64(16)).tolist(), (pair & np.uint64(0xFFFF)).tolist(), counts.tolist(), strict=True)
