"""Looking for what was deleted: every byte of a store's files, every value of its rows, and its memories.

A deletion says what it did; this program believes none of it, and looks.

Not for a process that has the store open: closing a file drops the locks that SQLite holds on it
(https://www.sqlite.org/howtocorrupt.html, section 2.2). `memodb scan` is a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from memodb.catalog import Filters, Scope, documents, registry
from memodb.cipher import KeyService
from memodb.collection import Collection, check, export
from memodb.erasure.search import Hit, Needles, require_control, search_files, search_rows, temporary_places
from memodb.errors import InvalidInput, InvalidText, StoreError
from memodb.opening import Engine, Options, open_engine
from memodb.proof import Tree, leaf_hash, verify
from memodb.provenance import trace
from memodb.recall import lookup
from memodb.storage import KeyFile, StoreDirectory, path_text
from memodb.text import Tokenizer

__all__ = ["ReceiptScan", "ScanReport", "scan", "scan_receipt", "searching"]

_AT_ONCE = 64
_CHARACTERS = 1 << 16
"""Characters of the texts that are searched for at once: their windows take some 100 MB."""


@dataclass(frozen=True)
class ScanReport:
    """What was searched, and found.

    Parameters
    ----------
    files, nbytes : int
        Files read, and bytes searched, decoded ones too.
    encodings : tuple of str
        Searched for; the positive control found each of them.
    control : int
        Plants that the positive control found: each text in each encoding, as it is and compressed.
    hits : tuple of Hit
    stored : tuple of str
        Ids of live documents that hold one of the texts whole, as "collection/id".
    asked, answered : int
        Contexts of the texts that no live document holds, and how many of them a memory answered all the same.
    expected_rate : float
        At most this share of them is answered by chance: the store's promise; 1 where it promises none,
        and its memories are not asked.
    """

    files: int
    nbytes: int
    encodings: tuple[str, ...]
    control: int
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


def scan(
    path: str | os.PathLike[str],
    texts: Iterable[str],
    *,
    ledger: str | os.PathLike[str] | None = None,
    keys: KeyService | None = None,
) -> ScanReport:
    """Search a store for texts that should not be in it.

    Parameters
    ----------
    path : path
        Of a store that this process has not open. It may be in use by others.
    texts : strings
    ledger, keys
        As for :func:`memodb.connect`.

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
    options = Options(ledger=ledger, keys=keys)
    with open_engine(directory.path, options) as engine:
        tokenizer = engine.tokenizer
    needles = Needles(texts, tokenizer)
    control = require_control(needles)
    places = [directory.path, *([] if ledger is None else [Path(path_text(ledger))])]
    paths = [file for place in places for file in sorted(place.rglob("*")) if file.is_file() and not file.is_symlink()]
    files, nbytes, hits = search_files(needles, [*paths, *temporary_places(directory.path)])
    hits += search_rows(needles, directory.catalog)
    # only now: this process closed files that SQLite would have had locks on
    with open_engine(directory.path, options) as engine:
        hits += _search_contents(needles, engine)
        stored, asked, answered = _remembered(engine, needles)
        return ScanReport(
            files,
            nbytes,
            tuple(needles.encodings),
            control,
            _told_apart(hits, needles, _live(engine, tokenizer)),
            stored,
            asked,
            answered,
            engine.configuration.promised_false_recall or 1.0,
        )


def _search_contents(needles: Needles, engine: Engine) -> Iterator[Hit]:
    """Search what documents say that no read path returns, decrypted: in quarantine, expired, held, or half erased."""
    for collection in engine.collections():
        with collection.catalog.read() as session:
            ids = documents.select_ids(session, collection.id, Filters(scope=Scope.ANY))
            hidden = sorted(set(ids).difference(documents.select_ids(session, collection.id)))
            for at in range(0, len(hidden), _AT_ONCE):
                texts = collection.texts_in(session, hidden[at : at + _AT_ONCE], Scope.ANY)
                for text in texts.values():
                    yield from needles.search(f"a hidden document of collection {collection.name!r}", text.encode())


def _live(engine: Engine, tokenizer: Tokenizer) -> Iterator[str]:
    """Everything that the store says it holds: texts, provenance, names, and the words of its tokenizer."""
    yield tokenizer.json.decode()
    for collection in engine.collections():
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
    for collection in engine.collections():
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
            # What answers at no promised rate says nothing by answering.
            if unknown and engine.configuration.promised_false_recall is not None:
                contexts = [ids[end - longest : end].tolist() for end in unknown]
                answered += int((lookup(collection, contexts, 1).context_length >= longest).sum())
                asked += len(unknown)
    return tuple(sorted(stored)), asked, answered


# -- receipts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReceiptScan:
    """What of a receipt was looked for in its store, and what speaks against it.

    Parameters
    ----------
    id : str
        Of the erasure.
    checked : tuple of str
        What was compared, in words.
    findings : tuple of str
        What contradicts the receipt.
    """

    id: str
    checked: tuple[str, ...]
    findings: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "id": self.id,
            "checked": list(self.checked),
            "findings": list(self.findings),
            "clean": self.clean,
        }


def scan_receipt(
    path: str | os.PathLike[str],
    receipt: bytes | str | Mapping[str, Any],
    *,
    ledger: str | os.PathLike[str] | None = None,
    keys: KeyService | None = None,
) -> ReceiptScan:
    """Look whether what a receipt says of a store still holds: the texts are not needed, and nobody has them any more.

    Parameters
    ----------
    path : path
        Of a store that may be in use.
    receipt : JSON or mapping
        A signed receipt.
    ledger, keys
        As for :func:`memodb.connect`.

    Raises
    ------
    StoreNotFound, CorruptStore, StoreError
        The store cannot be looked at.
    InvalidInput
        It is no receipt at all.
    """
    verdict = verify(receipt)
    statement = verdict.statement
    if not statement:
        raise InvalidInput(f"this is no receipt: {verdict.problems[0]}")
    findings = [f"the receipt is not valid: {problem}" for problem in verdict.problems]
    checked = ["its signature, and its entry's place in the log that its head signs"]
    with open_engine(path_text(path), Options(ledger=ledger, keys=keys)) as engine:
        if statement.get("store") != engine.audit.store:
            findings.append("it is of another store")
            return ReceiptScan(str(statement.get("id")), tuple(checked), tuple(findings))
        checked.append(f"the store's log: {engine.audit.tree().size:,} entries")
        findings += _log_findings(engine, receipt)
        found = [each for each in engine.collections() if each.id == statement.get("collection")]
        for collection in found:
            checked += [
                "the catalog: no document of its pseudonyms from before it was completed",
                "the collection: rows, texts, memories and tiles against each other, memories memorised anew",
            ]
            findings += _left_findings(collection, statement)
            findings += check(collection).findings
        if not found:
            checked.append("its collection is no more")
        checked.append("the store: keys that are doomed or that nothing names, tiles that nothing names")
        findings += _orphan_findings(engine)
    return ReceiptScan(str(statement.get("id")), tuple(checked), tuple(findings))


def _log_findings(engine: Engine, receipt: bytes | str | Mapping[str, Any]) -> Iterator[str]:
    document = receipt if isinstance(receipt, Mapping) else json.loads(receipt)
    audit = document["audit"]
    if audit is None:
        yield "it has no entry in the audit log: the erasure was not verified when it was signed"
        return
    lines = [entry.to_bytes() for entry in engine.audit.entries()]
    head = audit["head"]
    if len(lines) < head["size"] or Tree(map(leaf_hash, lines[: head["size"]])).root.hex() != head["root"]:
        yield "the store's audit log does not begin with what the receipt's head signs: it was cut off or changed"


def _left_findings(collection: Collection, statement: Mapping[str, Any]) -> Iterator[str]:
    pseudonyms = set(statement.get("documents", ()))
    completed_at = datetime.fromisoformat(statement["completed_at"])
    with collection.catalog.read() as session:
        rows = documents.select(session, collection.id, Filters(scope=Scope.ANY))
        left = [row for row in rows if collection.pseudonym(row.id).hex() in pseudonyms]
    for row in left:
        if row.created_at <= completed_at:
            yield f"the document {row.id!r} is in the catalog, in the state {row.state.value!r}"


def _orphan_findings(engine: Engine) -> Iterator[str]:
    with engine.catalog.read() as session:
        doomed, keys = registry.doomed(session), registry.key_count(session)
        named = registry.named_tiles(session)
    if doomed:
        yield f"{len(doomed)} keys are doomed and not destroyed yet"
    if isinstance(engine.catalog.keys, KeyFile) and engine.catalog.keys.count != keys:
        yield f"the key file has {engine.catalog.keys.count} keys, and {keys} are named"
    if engine.directory is not None and (left := engine.directory.unnamed(named)):
        yield f"there are {len(left)} tiles that nothing names"


# -- in a process of its own -------------------------------------------------------------------------------------------


def searching(engine: Engine) -> Callable[[list[str]], dict[str, Any]]:
    """A search of an open store for texts, by another process; it returns the layer of a receipt.

    Raises
    ------
    InvalidInput
        The store has no files, or keys that another process cannot ask for.
    """
    if engine.directory is None:
        raise InvalidInput("a store in memory has no files to scan")
    if engine.foreign_keys is not None:
        raise InvalidInput("another process cannot ask this store's key service: call memodb.scanning.scan there")
    # -P: nothing is imported from the working directory, which may be the store
    command = [sys.executable, "-P", "-m", "memodb.scanning", os.path.abspath(engine.path)]  # noqa: PTH100  # links are kept
    command += [] if engine.ledger is None else [os.path.abspath(engine.ledger)]  # noqa: PTH100

    def search(texts: list[str]) -> dict[str, Any]:
        done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=False)
        if done.returncode:
            raise StoreError(f"the store could not be scanned: {done.stderr.strip()[-500:]}")
        return dict(json.loads(done.stdout))

    return search


def _layer(path: str, ledger: str | None, texts: list[str]) -> dict[str, Any]:
    """What a scan for texts found, as a receipt states it; texts that chance could find are counted, not looked for."""
    reports: list[ScanReport] = []
    group: list[str] = []
    vague, longest = 0, _CHARACTERS // 4
    for piece in (text[at : at + longest] for text in texts for at in range(0, len(text), longest)):
        if sum(map(len, group)) + len(piece) > _CHARACTERS:
            reports.append(scan(path, group, ledger=ledger))
            group = []
        try:
            Needles([piece], None)
        except InvalidText:
            vague += 1
        else:
            group.append(piece)
    if group:
        reports.append(scan(path, group, ledger=ledger))
    return {
        "method": "every byte of the store's files, temporary files and rows searched by a process of its own",
        "result": "not verified" if not reports else "verified" if all(r.clean for r in reports) else "failed",
        "files": max((report.files for report in reports), default=0),
        "nbytes": sum(report.nbytes for report in reports),
        "encodings": list(reports[0].encodings) if reports else [],
        "hits": sum(not hit.shared for report in reports for hit in report.hits) + sum(len(r.stored) for r in reports),
        "shared_with_live_documents": sum(hit.shared for report in reports for hit in report.hits),
        "control": sum(report.control for report in reports),
        "too_vague_to_search": vague,
        "asked": sum(report.asked for report in reports),
        "answered": sum(report.answered for report in reports),
        "expected_rate": str(reports[0].expected_rate) if reports else None,
    }


if __name__ == "__main__":
    json.dump(_layer(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None, json.load(sys.stdin)), sys.stdout)
