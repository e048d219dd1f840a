"""Byte residue: is anything of the deleted documents left in any byte of the store's files, in any encoding?

The store is searched three times: as it was before the deletions, after them while it is still open (write-ahead log
and all), and closed. What is searched for is every telling window of 12 bytes of every deleted document, in every
encoding of :mod:`memodb.erasure.search`, without those windows that the store may hold for another reason: those in a
kept document, and those in a store that never held any of the texts.

Nothing found means something only if it would have been found. A store may keep its documents encrypted, so that its
own bytes say nothing even before the deletion; therefore every single window is also planted, raw and compressed, in
files of its own, and has to be found there by the same search.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

import memodb
from forgetting.measures import Figure
from memodb.erasure.search import Hit, Needles, frames, search_files, search_rows, temporary_places
from memodb.storage import StoreDirectory

__all__ = ["Residue", "figures", "measure", "needles_for", "planted", "snapshot"]

WINDOW = 12
"""Bytes of a window of :mod:`memodb.erasure.search`."""

_AT_ONCE = 300
"""Documents searched for in one pass over the files: they have 2.5 million windows, 600 MB of Python objects."""

_GAP = bytes(WINDOW)


@dataclass
class Residue:
    """What was searched for, and where it was found.

    Parameters
    ----------
    documents, silent : int
        Deleted documents, and those of them that have no window of their own to search for.
    windows, shared : int
        Distinct windows in all encodings, and those left out since the store may hold them for another reason.
    unplanted : int
        Windows that the search did not find where they were planted, raw or compressed.
    asked : tuple of str
        Encodings that the search knows.
    encodings : Counter
        By encoding, windows that were searched for and found where they were planted; many windows are the same bytes
        in several encodings.
    files, nbytes : int
        Files read after the deletions, and bytes searched in them, once a pass.
    hits : dict of str to Counter
        For each state of the store, runs of windows found by encoding.
    """

    documents: int = 0
    silent: int = 0
    windows: int = 0
    shared: int = 0
    unplanted: int = 0
    asked: tuple[str, ...] = ()
    encodings: Counter[str] = field(default_factory=Counter)
    files: int = 0
    nbytes: int = 0
    hits: dict[str, Counter[str]] = field(default_factory=dict)


def snapshot(store: Path, place: Path) -> Path:
    """Copy the files of a store that this process has open.

    By another process: closing a file here would drop the locks that SQLite holds on it
    (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    subprocess.run(["cp", "-R", str(store), str(place)], check=True)
    return place


def needles_for(
    texts: Sequence[str], tokenizer: memodb.Tokenizer, live: Iterable[str], others: Iterable[bytes]
) -> tuple[Needles, int]:
    """Needles of the windows that only these texts have, and the number of windows that were left out.

    Parameters
    ----------
    live : strings
        Kept documents with all their fields: in each encoding, what they share with the texts is left out.
    others : bytes
        Files, and the rows in them, of a store that never held the texts.
    """
    needles = Needles(texts, tokenizer)
    before = len(needles.windows)
    kept = list(live)
    for encode in needles.encodings.values():
        _leave_out(needles, _GAP.join(encode(text) for text in kept))
    for data in others:
        _leave_out(needles, data)
    return needles, before - len(needles.windows)


def _leave_out(needles: Needles, data: bytes) -> None:
    for hit in list(needles.search("", data)):
        for at in range(hit.nbytes - WINDOW + 1):
            needles.windows.pop(hit.found[at : at + WINDOW], None)


def planted(needles: Needles) -> tuple[Counter[str], int]:
    """The positive control: plant the texts in every encoding, raw and compressed, and search.

    Returns
    -------
    found : Counter
        Windows that were found, raw and compressed, by encoding.
    missing : int
        Windows that were not found, raw or compressed, in any encoding.
    """
    counts: Counter[str] = Counter()
    raw, packed = set(needles.windows), set(needles.windows)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "planted"
        for name, encode in needles.encodings.items():
            data = _GAP.join([b"", *(encode(text) for text in needles.texts), b""])
            path.write_bytes(data)
            as_is = _found(search_files(needles, [path])[2]) & needles.windows.keys()
            path.write_bytes(zstandard.ZstdCompressor().compress(data))
            unpacked = _found(search_files(needles, [path])[2]) & needles.windows.keys()
            counts[name] = len(as_is & unpacked)
            raw -= as_is
            packed -= unpacked
    return counts, len(raw | packed)


def _found(hits: Iterable[Hit]) -> set[bytes]:
    return {hit.found[at : at + WINDOW] for hit in hits for at in range(hit.nbytes - WINDOW + 1)}


def _files(store: Path) -> list[Path]:
    return [path for path in sorted(store.rglob("*")) if path.is_file()]


def search(needles: Needles, store: Path) -> tuple[int, int, Counter[str]]:
    """Files and bytes searched, and runs found by encoding: every file, temporary ones too, and every row decoded."""
    files, nbytes, hits = search_files(needles, [*_files(store), *temporary_places(store)])
    hits += search_rows(needles, StoreDirectory(store).catalog)
    return files, nbytes, Counter(hit.encoding for hit in hits)


def _never_held(tokenizer: memodb.Tokenizer) -> Iterator[bytes]:
    """Bytes of a store that went through the same life with one text of no meaning, and the tokenizer's words."""
    yield tokenizer.json
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "other"
        with memodb.connect(path) as db:
            db.append(" ".join(str(number * number) for number in range(400)), id="0", subject="0")
            db.append("1 1 2 3 5 8 13 21 34 55 89 144 233 377", id="1")
            db.checkpoint()
            db.delete(subject="0", verify=False)
            db.delete("1")
        for file in _files(path):
            yield file.read_bytes()
            for _, decoded in frames(file):  # what its receipts say, for one
                yield decoded


def measure(
    deleted: Sequence[str],
    kept: Sequence[str],
    tokenizer: memodb.Tokenizer,
    states: dict[str, Path],
) -> Residue:
    """Search every state of a store for what was deleted from it.

    Parameters
    ----------
    deleted : strings
    kept : strings
        Texts and other fields of the documents that stay.
    states : dict
        A name to a store that no handle of this process has open; the last is the one whose size is reported.
    """
    found = Residue(hits={name: Counter() for name in states})
    others = list(_never_held(tokenizer))
    for at in range(0, len(deleted), _AT_ONCE):
        texts = deleted[at : at + _AT_ONCE]
        needles, shared = needles_for(texts, tokenizer, kept, others)
        found.documents += len(texts)
        found.silent += sum(_is_silent(needles, text) for text in texts)
        found.windows += shared + len(needles.windows)
        found.shared += shared
        counts, missing = planted(needles)
        found.unplanted += missing
        found.encodings += counts
        found.asked = tuple(needles.encodings)
        for name, store in states.items():
            found.files, found.nbytes, hits = search(needles, store)
            found.hits[name] += hits
    return found


def _is_silent(needles: Needles, text: str) -> bool:
    data = text.encode()
    return not any(data[at : at + WINDOW] in needles.windows for at in range(len(data) - WINDOW + 1))


def figures(found: Residue) -> list[Figure]:
    """Rows of the table; the first state is the control in the store itself, every other must be clean."""
    first, *rest = found.hits
    searched = found.windows - found.shared
    before = found.hits[first]
    rows = [
        ("documents deleted", f"{found.documents:,}", "", None),
        (
            f"windows of {WINDOW} bytes searched for, in {len(found.encodings)} encodings",
            f"{searched:,}",
            "",
            None,
        ),
        (
            "... left out: also in a kept document, or in a store that never held one of the texts",
            f"{found.shared:,}",
            "",
            None,
        ),
        ("deleted documents without a window of their own", f"{found.silent:,}", "", None),
        (
            "control: planted windows that the search did not find",
            f"{found.unplanted:,} of {searched:,}",
            "0",
            found.unplanted == 0 and set(found.encodings) == set(found.asked),
        ),
        (
            f"found in the store {first}: runs of windows (encodings)",
            f"{before.total():,} ({len(before)})",
            "",
            None,
        ),
    ]
    for name in rest:
        left = found.hits[name].total()
        rows.append((f"found in the store {name}", f"{left:,}", "0", left == 0))
    rows.append((f"files, bytes searched in the store {name}", f"{found.files}, {found.nbytes:,}", "", None))
    return [Figure("byte residue", label, reached, goal, held) for label, reached, goal, held in rows]
