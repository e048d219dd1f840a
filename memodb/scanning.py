"""Looking for what was deleted: every byte of a store's files, every value of its rows, and its memories.

A deletion says what it did; this program believes none of it, and looks.

Not for a process that has the store open: closing a file drops the locks that SQLite holds on it
(https://www.sqlite.org/howtocorrupt.html, section 2.2). `memodb scan` is a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from memodb.catalog import Filters, registry
from memodb.collection import Collection, export
from memodb.erasure.search import Hit, Needles, require_control, search_files, search_rows, temporary_places
from memodb.opening import Engine, open_engine, path_text
from memodb.provenance import trace
from memodb.recall import lookup
from memodb.storage import StoreDirectory
from memodb.text import Tokenizer

__all__ = ["ScanReport", "scan"]


@dataclass(frozen=True)
class ScanReport:
    """What was searched, and found.

    Parameters
    ----------
    files, nbytes : int
        Files read, and bytes searched, decoded ones too.
    encodings : tuple of str
        Searched for; the positive control found each of them.
    hits : tuple of Hit
    stored : tuple of str
        Ids of live documents that hold one of the texts whole, as "collection/id".
    asked, answered : int
        Contexts of the texts that no live document holds, and how many of them a memory answered all the same.
    expected_rate : float
        At most this share of them is answered by chance: the store's promise.
    """

    files: int
    nbytes: int
    encodings: tuple[str, ...]
    hits: tuple[Hit, ...]
    stored: tuple[str, ...]
    asked: int
    answered: int
    expected_rate: float

    @property
    def remembered(self) -> bool:
        """Whether the memories answer more than chance would, but for once in ten thousand scans."""
        from scipy.stats import binom

        return self.asked > 0 and bool(binom.sf(self.answered - 1, self.asked, self.expected_rate) < 1e-4)

    @property
    def clean(self) -> bool:
        """Whether nothing of the texts was found that is not also in a live document."""
        return not self.stored and not self.remembered and all(hit.shared for hit in self.hits)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            **asdict(self),
            "hits": [hit.to_dict() for hit in self.hits],
            "remembered": self.remembered,
            "clean": self.clean,
        }


def scan(path: str | os.PathLike[str], texts: Iterable[str]) -> ScanReport:
    """Search a store for texts that should not be in it.

    Parameters
    ----------
    path : path
        Of a store that this process has not open. It may be in use by others.
    texts : strings

    Returns
    -------
    ScanReport

    Raises
    ------
    StoreNotFound, CorruptStore, StoreError
        It cannot be searched whole.
    InvalidText
        A text is too short to be told from chance.
    """
    directory = StoreDirectory(Path(path_text(path)))
    directory.require()
    with _opened(directory) as engine:
        tokenizer = engine.tokenizer
    needles = Needles(texts, tokenizer)
    require_control(needles)
    paths = [file for file in sorted(directory.path.rglob("*")) if file.is_file() and not file.is_symlink()]
    files, nbytes, hits = search_files(needles, [*paths, *temporary_places(directory.path)])
    hits += search_rows(needles, directory.catalog)
    with _opened(directory) as engine:  # only now: this process closed files that SQLite would have had locks on
        stored, asked, answered = _remembered(engine, needles)
        return ScanReport(
            files,
            nbytes,
            tuple(needles.encodings),
            _told_apart(hits, needles, _live(engine, tokenizer)),
            stored,
            asked,
            answered,
            engine.configuration.false_recall,
        )


@contextlib.contextmanager
def _opened(directory: StoreDirectory) -> Iterator[Engine]:
    engine = open_engine(directory.path, create=False, read_only=True, tokenizer=None, settings={})
    try:
        yield engine
    finally:
        engine.close()


def _collections(engine: Engine) -> list[Collection]:
    with engine.catalog.read() as session:
        names = [summary.collection.name for summary in registry.list_collections(session)]
    return [engine.collection(name, create=False, seed=None) for name in names]


def _live(engine: Engine, tokenizer: Tokenizer) -> Iterator[str]:
    """Everything that the store says it holds: texts, provenance, names, and the words of its tokenizer."""
    yield tokenizer.json.decode()
    for collection in _collections(engine):
        yield collection.name
        for document in export(collection, Filters()):
            yield document.pop("text")
            yield json.dumps(document, ensure_ascii=False)


def _told_apart(hits: list[Hit], needles: Needles, live: Iterator[str]) -> tuple[Hit, ...]:
    """The hits, marked where what was found also lies, in that encoding, in something live."""
    open_hits = dict(enumerate(hits))
    for text in live:
        if not open_hits:
            break
        encoded = {name: encode(text) for name, encode in needles.encodings.items()}
        for number, hit in list(open_hits.items()):
            if hit.found in encoded[hit.encoding]:
                hits[number] = replace(hit, shared=True)
                del open_hits[number]
    return tuple(hits)


def _remembered(engine: Engine, needles: Needles) -> tuple[tuple[str, ...], int, int]:
    """Documents that hold a text whole; contexts of the texts that none holds, and how many a memory answers."""
    stored: set[str] = set()
    asked = answered = 0
    longest = engine.configuration.heads**engine.configuration.layers
    for collection in _collections(engine):
        for text in needles.texts:
            ids, offsets = engine.tokenizer.encode_with_offsets(text)
            held = np.zeros(len(ids), dtype=np.int64)
            for span in trace(collection, text):
                inside = (offsets[:, 0] >= span.start) & (offsets[:, 1] <= span.end)
                held |= inside
                if bool(inside.all()):
                    stored.update(f"{collection.name}/{source.id}" for source in span.documents)
            ends = np.arange(longest, len(ids) + 1)
            unknown = [int(end) for end in ends if not held[end - longest : end].all()]
            if unknown:
                contexts = [ids[end - longest : end].tolist() for end in unknown]
                answered += int((lookup(collection, contexts, 1).context_length >= longest).sum())
                asked += len(unknown)
    return tuple(sorted(stored)), asked, answered
