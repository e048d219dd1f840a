"""Damage: what a check sees, what it mends, and that a damaged document is refused and not answered wrongly."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

import memodb
from memodb.catalog.codec import encode_text, encode_tokens
from memodb.catalog.models import Document
from memodb.catalog.seals import SEAL, seal, sealed_columns
from memodb.collection import inspection


def damage(path: Path, statement: str, *values: Any, sealed: bool = True) -> None:
    """Change a row behind the back of the store: no trigger, no version; sealed again, as nothing but malice would."""
    columns = ", ".join(sealed_columns(Document.__table__))  # type: ignore[arg-type]
    with contextlib.closing(sqlite3.connect(path / "catalog.db")) as raw, raw:
        raw.create_function(SEAL, -1, seal)
        triggers = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            raw.execute(f"DROP TRIGGER {name}")
        assert raw.execute(statement, values).rowcount == 1
        if sealed:
            raw.execute(f"UPDATE document SET seal = {SEAL}({columns})")
        for _, sql in triggers:
            raw.execute(sql)


@pytest.fixture
def store(fresh: Callable[..., memodb.Store], tmp_path: Path) -> Path:
    with fresh(tmp_path / "s") as db:
        db.append("one two three", id="a", source="x", metadata={"k": 1})
        db.append("four five six", id="b")
        assert db.check() == memodb.CheckReport(2, 1, ())
    return tmp_path / "s"


@pytest.mark.parametrize("matrix", range(4))
@pytest.mark.parametrize("change", [1, 255])
def test_a_flipped_count_is_found_and_mended(fresh: Callable[..., memodb.Store], matrix: int, change: int) -> None:
    with fresh() as db:
        db.append("one two three four five six seven eight nine ten", id="a")
        digest = db.digest()
        (segment,) = db._collection._memory.segments.values()
        segment.matrices[matrix].cells[5] += np.uint8(change)
        report = db.check()
        assert not report.ok
        assert report.fixed == ()
        assert len(report.findings) == 1
        assert not db.check().ok
        mended = db.check(fix=True)
        assert not mended.ok
        assert len(mended.fixed) == 1
        assert mended.to_dict()["fixed"]
        assert db.check().ok
        assert db.digest() == digest


DAMAGES = [
    ("UPDATE document SET tokens = ? WHERE id = 'a'", encode_tokens(np.array([1, 2, 3]))),
    ("UPDATE document SET tokens = ? WHERE id = 'a'", encode_tokens(np.array([1, 2, 16_000]))),
    ("UPDATE document SET tokens = ? WHERE id = 'a'", encode_tokens(np.array([1, 2, 16_001]))),
    ("UPDATE document SET tokens = ? WHERE id = 'a'", encode_tokens(np.array([1, 2, 60_000]))),
    ("UPDATE document SET tokens = ? WHERE id = 'a'", b""),
    ("UPDATE document SET tokens = ? WHERE id = 'a'", b"\x99garbage"),
    ("UPDATE document SET text = ? WHERE id = 'a'", encode_text("another text")),
    ("UPDATE document SET text = ? WHERE id = 'a'", b"garbage"),
    ("UPDATE document SET digest = ? WHERE id = 'a'", bytes(32)),
    ("UPDATE document SET digest = ? WHERE id = 'a'", b"short"),
    ("UPDATE document SET source = ? WHERE id = 'a'", "y"),
    ("UPDATE document SET subject = ? WHERE id = 'a'", "y"),
    ("UPDATE document SET metadata = ? WHERE id = 'a'", '{"k":2}'),
    ("UPDATE document SET metadata = ? WHERE id = 'a'", "{"),
    ("UPDATE document SET created_at = created_at + ? WHERE id = 'a'", 1),
]


@pytest.mark.parametrize(
    ("statement", "value"), DAMAGES, ids=[f"{s.split()[3]}-{i}" for i, (s, _) in enumerate(DAMAGES)]
)
def test_a_damaged_row_is_found_in_a_report(store: Path, statement: str, value: Any) -> None:
    damage(store, statement, value)
    for read_only in (True, False):
        with memodb.connect(store, read_only=read_only) as db:
            report = db.check(fix=True)
            assert not report.ok
            assert report.documents == 2
            assert any("'a'" in finding for finding in report.findings)
            assert not any("'b'" in finding for finding in report.findings)
            with pytest.raises(memodb.CorruptStore):
                db.text("a")
            with pytest.raises(memodb.CorruptStore):
                list(db.export())
            assert db.text("b") == "four five six"


def test_exchanged_ids_are_found(store: Path) -> None:
    damage(store, "UPDATE document SET id = 'c' WHERE id = 'a'")
    with memodb.connect(store, read_only=True) as db:
        assert any("'c'" in finding for finding in db.check().findings)
        with pytest.raises(memodb.CorruptStore):
            db.text("c")


@pytest.mark.parametrize("token", [16_000, 16_001, 60_000])
def test_impossible_tokens_are_refused_and_not_answered_from(store: Path, token: int) -> None:
    damage(store, "UPDATE document SET tokens = ? WHERE id = 'a'", encode_tokens(np.array([1, 2, token])))
    with memodb.connect(store) as db:
        for ask in (db.next_tokens, db.score, db.complete):
            with pytest.raises(memodb.CorruptStore, match="'a'"):
                ask("four")


def test_a_check_is_not_disturbed_by_writers(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    with fresh(tmp_path / "s") as db, memodb.connect(tmp_path / "s", read_only=True) as reader:
        db.append("text", id="a")
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.wait(0.02):
                number += 1
                db.append(f"text {number}", id=f"{number}")
                db.delete(f"{number}", verify=False)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(6):
                assert db.check(fix=True).ok
                with contextlib.suppress(memodb.StoreLocked):
                    assert reader.check().ok
        finally:
            stop.set()
            thread.join(10)
        assert db.check().ok
        assert reader.check().ok


def test_a_repair_does_not_undo_a_commit(
    fresh: Callable[..., memodb.Store], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is memorised anew during a commit lacks it, and must not be published after it."""
    with fresh(tmp_path / "s") as db:
        db.append("one two three four five", id="a")
        (segment,) = db._collection._memory.segments.values()
        segment.matrices[0].cells[5] += np.uint8(1)
        rebuild = inspection.rebuilt
        other = threading.Thread(target=lambda: db.append("six seven eight nine ten", id="b"))

        def slow(*arguments: Any) -> Any:
            made = rebuild(*arguments)
            if not other.ident:
                other.start()
                other.join(0.3)
            return made

        monkeypatch.setattr(inspection, "rebuilt", slow)
        db.check(fix=True)
        other.join(10)
        assert db.score("six seven eight nine ten").known == 1
        assert db.check().ok


def test_a_reader_that_never_gets_a_quiet_moment_says_so(
    fresh: Callable[..., memodb.Store], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with fresh(tmp_path / "s") as db, memodb.connect(tmp_path / "s", read_only=True) as reader:
        db.append("text", id="a")
        rebuild = inspection.rebuilt

        def disturbed(collection: Any, segment_id: str) -> Any:
            db.append("more")
            return rebuild(collection, segment_id)

        monkeypatch.setattr(inspection, "rebuilt", disturbed)
        with pytest.raises(memodb.StoreLocked, match="process that writes"):
            reader.check()


@pytest.mark.parametrize("damage", ["missing", "cut", "another"])
def test_a_damaged_copy_of_the_tokenizer_is_found_and_written_again(store: Path, damage: str) -> None:
    """Also where the store is bound to the shipped one, and reads that: a later memodb may ship another."""
    copy = store / "tokenizer.json.zst"
    before = copy.read_bytes()
    if damage == "missing":
        copy.unlink()
    else:
        copy.write_bytes(before[: len(before) // 2] if damage == "cut" else zstandard.compress(b"{}"))
    with memodb.connect(store) as db:
        assert "tokenizer" in " ".join(db.check().findings)
        report = db.check(fix=True)
        assert len(report.fixed) == 1
        assert report.remaining == ()
        assert db.check().ok
    assert copy.read_bytes() == before
