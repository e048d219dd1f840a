"""The key file and the ledger, damaged, exchanged, set back, or written by somebody who knows their formats."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import memodb
from memodb.proof import Entry
from memodb.storage import Ledger

SLOT = 64
LATER = datetime(2051, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another store, with more in its key file and in its log than the specimen has."""
    path = tmp_path_factory.mktemp("foreign") / "s"
    with memodb.connect(path, segment_tokens=4096, layers=1) as db:
        db.append_many([{"id": str(number), "text": f"foreign {number}"} for number in range(40)])
        db.checkpoint()
        for number in range(9):
            db.delete(str(number), verify=False)
    return path


def key_name(path: Path, document_id: str) -> bytes:
    with contextlib.closing(sqlite3.connect(f"file:{path}/catalog.db?mode=ro", uri=True)) as raw:
        query = "SELECT d.key FROM document d JOIN collection c ON c.id = collection_id WHERE c.name = ? AND d.id = ?"
        return bytes(raw.execute(query, ("default", document_id)).fetchone()[0])


def slot_of(name: bytes) -> int:
    return int.from_bytes(name[:8], "big")


# -- keys --------------------------------------------------------------------------------------------------------------

FLIPPED, EMPTIED, ANOTHER = "a bit of it flipped", "overwritten with zeros", "another document's in its place"


@pytest.mark.parametrize("how", [FLIPPED, EMPTIED, ANOTHER])
@pytest.mark.parametrize("document_id", ["document 0", "late"])
def test_a_damaged_key_costs_one_document(
    specimen: Any, beside: Callable[[str], ModuleType], tmp_path: Path, how: str, document_id: str
) -> None:
    """The others are read, a check names it, and it can be deleted; then nothing is left to be told of."""
    path = specimen.copy(tmp_path / "s")
    at = slot_of(key_name(path, document_id)) * SLOT
    data = (path / "keys").read_bytes()
    other = slot_of(key_name(path, "document 4")) * SLOT
    piece = {
        FLIPPED: data[at : at + 20] + bytes([data[at + 20] ^ 4]),
        EMPTIED: bytes(SLOT),
        ANOTHER: data[other : other + SLOT],
    }[how]
    beside("specimen").overwrite(path / "keys", at, piece)
    texts = dict(specimen.truth["default"]["texts"])
    texts.pop(document_id)
    for writing in (False, True):
        with memodb.connect(path, read_only=not writing) as db:
            assert {name: db.text(name) for name in texts} == texts
            with pytest.raises(memodb.CorruptStore):
                db.text(document_id)
            assert any(document_id in finding for finding in db.check().findings)
    with memodb.connect(path) as db:
        assert db.delete(document_id).verified
        assert db.check().ok
        assert {document.id: db.text(document.id) for document in db.documents()} == texts
    assert (path / "keys").read_bytes()[at : at + SLOT] == bytes(SLOT)


def test_whichever_key_is_damaged_the_store_is_opened(
    specimen: Any, beside: Callable[[str], ModuleType], tmp_path: Path, covered: Callable[..., None]
) -> None:
    path = specimen.copy(tmp_path / "s")
    data = (path / "keys").read_bytes()
    places = [at for at in range(SLOT, len(data), SLOT) if any(data[at : at + SLOT])]
    for at in places:
        beside("specimen").overwrite(path / "keys", at + 30, bytes([data[at + 30] ^ 16]))
        with memodb.connect(path, read_only=True) as db:
            assert len(db) == specimen.truth["default"]["length"]
        beside("specimen").overwrite(path / "keys", at + 30, data[at + 30 : at + 31])
    covered(keys=len(places))


def sparse(data: bytes) -> int:
    return len(data) + (1 << 34)


KEY_FILES: dict[str, Callable[[bytes, bytes], bytes | int]] = {
    "empty": lambda data, other: b"",
    "half of a header": lambda data, other: data[:20],
    "no keys": lambda data, other: data[:SLOT],
    "another version": lambda data, other: data.replace(b"keys 1", b"keys 2", 1),
    "something in its header": lambda data, other: data[: SLOT - 1] + b"x" + data[SLOT:],
    "another store's": lambda data, other: other,
    "another store's keys behind its own header": lambda data, other: data[:SLOT] + other[SLOT:],
    "all keys destroyed": lambda data, other: data[:SLOT] + bytes(len(data) - SLOT),
    "one slot further": lambda data, other: data[:SLOT] + bytes(SLOT) + data[SLOT:],
    "backwards": lambda data, other: (
        data[:SLOT] + b"".join(data[at : at + SLOT] for at in range(len(data) - SLOT, 0, -SLOT))
    ),
}
HARMLESS: dict[str, Callable[[bytes, bytes], bytes | int]] = {
    "half of a slot more": lambda data, other: data + bytes(range(30)),
    "no key in a slot more": lambda data, other: data + bytes(range(64)),
    "another store's keys more": lambda data, other: data + other[SLOT:],
    "all keys twice": lambda data, other: data + data[SLOT:],
    "a hole of 16 GiB": lambda data, other: sparse(data),
}


def put(file: Path, made: bytes | int) -> None:
    if isinstance(made, int):
        os.truncate(file, made)
    else:
        file.write_bytes(made)


@pytest.mark.parametrize("how", KEY_FILES)
def test_a_key_file_that_does_not_belong_is_refused_and_left_as_it_is(
    specimen: Any, foreign: Path, tmp_path: Path, how: str
) -> None:
    """An opening destroys the keys that nothing names: in a wrong file, those of somebody else."""
    path = specimen.copy(tmp_path / "s")
    made = KEY_FILES[how]((path / "keys").read_bytes(), (foreign / "keys").read_bytes())
    put(path / "keys", made)
    for writing in (False, True):
        verdict = specimen.judge(path, read_only=not writing, create=writing, checking=False)
        assert verdict.findings
        assert not verdict.untyped
        assert not verdict.lies
        assert not verdict.wrong
        assert (path / "keys").read_bytes() == made
    shutil.copy(specimen.path / "keys", path / "keys")
    with memodb.connect(path) as db:
        assert db.check().ok


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("how", HARMLESS)
def test_what_is_no_key_of_the_store_s_is_nobody_s(specimen: Any, foreign: Path, tmp_path: Path, how: str) -> None:
    path = specimen.copy(tmp_path / "s")
    put(path / "keys", HARMLESS[how]((path / "keys").read_bytes(), (foreign / "keys").read_bytes()))
    begun = time.monotonic()
    for writing in (False, True):
        verdict = specimen.judge(path, read_only=not writing)
        assert verdict == type(verdict)()
    with memodb.connect(path) as db:
        db.append("w1 w2 w3", id="new")
        assert db.text("new") == "w1 w2 w3"
        assert db.delete("new").verified
        assert db.check().ok
    assert time.monotonic() - begun < 20


def test_an_older_key_file_brings_no_key_back(specimen: Any, tmp_path: Path) -> None:
    """From a snapshot, say: the next opening for writing destroys again what had been destroyed since."""
    path = specimen.copy(tmp_path / "s")
    older = (path / "keys").read_bytes()
    name = key_name(path, "document 5")
    with memodb.connect(path) as db:
        assert db.delete("document 5").verified
        db.append("w7 w8", id="newer")
    (path / "keys").write_bytes(older)
    with memodb.connect(path) as db:
        findings = db.check().findings
        assert findings
        assert all("newer" in finding or "segment" in finding or "keys" in finding for finding in findings)
        with pytest.raises(memodb.CorruptStore):
            db.text("newer")
        db.delete("newer")
    with memodb.connect(path) as db:
        assert db.check().ok
    assert older[slot_of(name) * SLOT :][:40] not in (path / "keys").read_bytes()


EXCHANGES = {
    "the texts of two documents": "SET text = (SELECT text FROM document WHERE id = 'document 6')",
    "the tokens of two documents": "SET tokens = (SELECT tokens FROM document WHERE id = 'document 6')",
    "the key of another document": "SET key = (SELECT key FROM document WHERE id = 'document 6')",
    "all of another document": "SET (key, tokens, text) = (SELECT key, tokens, text FROM document "
    "WHERE id = 'document 6')",
    "tokens as text": "SET text = tokens",
    "text as tokens": "SET tokens = text",
    "the key of a tile": "SET key = (SELECT min(tile_key) FROM segment)",
    "a text cut short": "SET text = substr(text, 1, 20)",
    "a text of a tag's length": "SET text = substr(text, 1, 16)",
    "no text": "SET text = x''",
    "no tokens": "SET tokens = x''",
}


@pytest.mark.parametrize("what", EXCHANGES)
def test_no_document_s_content_passes_for_another_s(
    specimen: Any, update: Callable[..., None], tmp_path: Path, what: str
) -> None:
    """Rows under right seals, of encrypted bytes that the store itself wrote."""
    path = specimen.copy(tmp_path / "s")
    update(path, f"UPDATE document {EXCHANGES[what]} WHERE id = 'document 3' AND text IS NOT NULL")
    verdict = specimen.judge(path)
    assert verdict.findings
    assert not verdict.untyped
    assert not verdict.lies


# -- ledger ------------------------------------------------------------------------------------------------------------


def entry(seq: int, op: str = "sweep", **fields: Any) -> bytes:
    return Entry(seq, datetime.now(UTC), op, **fields).to_bytes()


def exchanged(line: bytes, old: bytes, new: bytes) -> bytes:
    assert old in line
    return line.replace(old, new, 1)


LINES: dict[str, Callable[[int, list[bytes]], bytes]] = {
    "no entry": lambda n, log: b"junk",
    "nothing": lambda n, log: b"",
    "of 4,095 bytes": lambda n, log: b"x" * 4095,
    "of 5,000 bytes": lambda n, log: b"x" * 5000,
    "of 4 MiB": lambda n, log: b"x" * (4 << 20),
    "deep": lambda n, log: b"[" * 1000,
    "a number without end": lambda n, log: exchanged(entry(n), b'"seq":%d' % n, b'"seq":' + b"9" * 700),
    "of later": lambda n, log: entry(n + 1),
    "of before": lambda n, log: entry(0),
    "the last again": lambda n, log: log[-1],
    "spelt with blanks": lambda n, log: exchanged(entry(n), b'"op":', b'"op": '),
    "a field more": lambda n, log: exchanged(entry(n), b'{"actor"', b'{"a":1,"actor"'),
    "a field less": lambda n, log: exchanged(entry(n), b'"actor":null,', b""),
    "a field twice": lambda n, log: exchanged(entry(n), b'{"actor":null', b'{"actor":null,"actor":null'),
    "unknown": lambda n, log: exchanged(entry(n), b'"sweep"', b'"erase everything"'),
    "numbered in text": lambda n, log: exchanged(entry(n), b'"seq":%d' % n, b'"seq":"%d"' % n),
    "of no time": lambda n, log: exchanged(entry(n), b'"time":"2', b'"time":"x'),
    "with a name": lambda n, log: exchanged(entry(n), b'"id":null', b'"id":"Ada Lovelace"'),
    "with a reason": lambda n, log: exchanged(entry(n), b'"reason":null', b'"reason":"because she asked"'),
    "no UTF-8": lambda n, log: exchanged(entry(n), b'"reason":null', b'"reason":"\xff"'),
    "NUL": lambda n, log: entry(n) + b"\0",
    "of another system": lambda n, log: entry(n) + b"\r",
    "a list": lambda n, log: b"[]",
}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("what", LINES)
def test_a_line_that_nobody_wrote_is_refused_and_stays(specimen: Any, tmp_path: Path, what: str) -> None:
    """For a reader any line more says that the store is older; for a writer it is damage, and nothing is done."""
    path = specimen.copy(tmp_path / "s")
    log = (path / "ledger" / "log.jsonl").read_bytes()
    lines = log.splitlines()
    made = log + LINES[what](len(lines), lines) + b"\n"
    (path / "ledger" / "log.jsonl").write_bytes(made)
    catalog = (path / "catalog.db").read_bytes()
    for writing in (False, True):
        verdict = specimen.judge(path, read_only=not writing, checking=False)
        assert verdict.findings
        assert (verdict.wrong, verdict.lies, verdict.untyped) == ([], [], [])
    assert (path / "ledger" / "log.jsonl").read_bytes() == made
    assert (path / "catalog.db").read_bytes() == catalog


def test_a_line_changed_in_the_middle_is_told(specimen: Any, tmp_path: Path, covered: Callable[..., None]) -> None:
    """Each line in turn, by one digit of its time: the file is right in all that its length and its end can show."""
    log = (specimen.path / "ledger" / "log.jsonl").read_bytes()
    path, at, lines = specimen.copy(tmp_path / "s"), 0, log.splitlines(keepends=True)
    for line in lines:
        place = at + line.index(b'"time":"20') + 8
        changed = log[:place] + b"30" + log[place + 2 :]
        (path / "ledger" / "log.jsonl").write_bytes(changed)
        at += len(line)
        verdict = specimen.judge(path)
        assert verdict.findings, line
        assert not verdict.untyped
    (path / "ledger" / "log.jsonl").write_bytes(log)
    assert specimen.judge(path) == type(verdict)()
    covered(lines=len(lines))


@pytest.mark.parametrize("keep", [0, -1])
def test_a_ledger_that_lost_its_end_learns_it_again(specimen: Any, tmp_path: Path, keep: int) -> None:
    """The catalog has each line: the next writer mirrors what a crash, or a cut, took."""
    path = specimen.copy(tmp_path / "s")
    log = (path / "ledger" / "log.jsonl").read_bytes()
    (path / "ledger" / "log.jsonl").write_bytes(log[:keep])
    for writing in (False, True):
        assert not specimen.judge(path, read_only=not writing).findings
    assert (path / "ledger" / "log.jsonl").read_bytes() == log


def test_a_log_that_is_a_hole_costs_neither_time_nor_memory(specimen: Any, tmp_path: Path) -> None:
    path = specimen.copy(tmp_path / "s")
    log = path / "ledger" / "log.jsonl"
    os.truncate(log, log.stat().st_size + (1 << 33))
    begun = time.monotonic()
    verdict = specimen.judge(path, read_only=False)
    assert verdict.detected
    assert not verdict.untyped
    assert time.monotonic() - begun < 10


def test_a_log_of_line_ends_is_refused_at_the_first(specimen: Any, tmp_path: Path) -> None:
    path = specimen.copy(tmp_path / "s")
    with (path / "ledger" / "log.jsonl").open("ab") as log:
        log.write(b"\n" * (4 << 20))
    tracemalloc.start()
    try:
        verdict = specimen.judge(path, read_only=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert verdict.detected
    assert not verdict.untyped
    assert peak < 20 << 20


def test_a_forged_erasure_erases_that_document_and_no_more(specimen: Any, tmp_path: Path) -> None:
    """The ledger is what a store trusts about erasures: who may write it may have documents erased, as by a call."""
    path = specimen.copy(tmp_path / "s")
    with memodb.connect(path, read_only=True) as db:
        pseudonym = db.pseudonym("document 2")
        collection = next(entry.collection for entry in db.audit() if entry.op == "hold")
    ledger = Ledger(path / "ledger")
    at = datetime.now(UTC) + timedelta(hours=1)
    ledger.append([Entry(ledger.count(), at, "hidden", collection, pseudonym).to_bytes()])
    with memodb.connect(path) as db:
        assert "document 2" not in db
        left = {name: text for name, text in specimen.truth["default"]["texts"].items() if name != "document 2"}
        assert {document.id: db.text(document.id) for document in db.documents()} == left
        assert db.check().ok
        assert db.erasures()[-1].state == "backups_pending"


@pytest.mark.parametrize("file", ["signing.pem", "suppression.key"])
@pytest.mark.parametrize("how", ["another store's", "a bit flipped", "empty", "cut", "longer"])
def test_a_secret_of_the_ledger_s_that_is_another_is_told(
    specimen: Any, foreign: Path, tmp_path: Path, file: str, how: str
) -> None:
    """A writer would sign what nobody can verify, or let a suppressed text come back: it is told before."""
    path = specimen.copy(tmp_path / "s")
    data = (path / "ledger" / file).read_bytes()
    made = {
        "another store's": (foreign / "ledger" / file).read_bytes(),
        "a bit flipped": data[:20] + bytes([data[20] ^ 1]) + data[21:],
        "empty": b"",
        "cut": data[: len(data) // 2],
        "longer": data + bytes(20_000),
    }[how]
    (path / "ledger" / file).write_bytes(made)
    verdict = specimen.judge(path, read_only=False)
    assert verdict.findings
    assert all("InvalidInput" not in finding for finding in verdict.findings), "the caller gave nothing bad"
    assert not verdict.untyped
    assert not verdict.wrong
    assert specimen.judge(path).findings, "a check by a reader"


def test_a_ledger_is_where_its_path_says(
    specimen: Any, beside: Callable[[str], ModuleType], tmp_path: Path, covered: Callable[..., None]
) -> None:
    """Strange names for its directory, absolute and from where the process works; and nothing of it anywhere else."""
    words, paths = specimen.path.parent / "words.json", [path for path in beside("evil").PATHS[::12] if len(path) < 100]
    for number, name in enumerate(paths):
        place = tmp_path / str(number)
        place.mkdir()
        where = os.path.join(place, name)  # noqa: PTH118  # as a user writes it
        with memodb.connect(
            tmp_path / f"s{number}", tokenizer=words, segment_tokens=4096, layers=1, ledger=where
        ) as db:
            db.append("w1 w2 w3", id="a")
            db.delete("a", verify=False)
        assert {os.fspath(found.relative_to(place)) for found in place.iterdir()} == {name}
        assert {found.name for found in (place / name).iterdir()} == {"log.jsonl", "signing.pem", "suppression.key"}
        assert not (tmp_path / f"s{number}" / "ledger").exists()
        with memodb.connect(tmp_path / f"s{number}", ledger=where) as db:
            assert [entry.op for entry in db.audit()][:2] == ["key", "requested"]
    covered(paths=len(paths))


@pytest.mark.parametrize(
    "where", ["", "\0", "a\0b", "x" * 256, "\ud800", b"bytes", 7, "file", "file/below", "link", "pipe"]
)
def test_an_impossible_ledger_is_a_typed_error(specimen: Any, tmp_path: Path, where: Any) -> None:
    path, outside = tmp_path / "s", tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(outside)
    os.mkfifo(tmp_path / "pipe")
    given = str(tmp_path / where) if isinstance(where, str) and where and "\0" not in where else where
    for how in ({}, {"read_only": True}):
        with pytest.raises(memodb.MemodbError):
            memodb.connect(path, ledger=given, **how)
    specimen.copy(tmp_path / "t")
    with pytest.raises(memodb.MemodbError):
        memodb.connect(tmp_path / "t", ledger=given)
    assert list(outside.iterdir()) == []
    assert (tmp_path / "file").read_text() == "mine"
