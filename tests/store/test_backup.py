"""Backups: taken while the store is in use, checked before they are called one, and restored only whole."""

import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import memodb


@pytest.fixture
def store(fresh: Callable[..., memodb.Store], prose: Callable[..., str], tmp_path: Path) -> Path:
    with fresh(tmp_path / "s") as db:
        for n in range(12):
            db.append(prose(60, n), id=str(n), source="even" if n % 2 == 0 else "odd", metadata={"n": n})
        db.checkpoint()
        db.append(prose(40, 99), id="late")
        db.collection("letters").append("Dear reader, this is another collection.", id="0")
    return tmp_path / "s"


def files(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_a_backup_is_the_store_and_restores_to_it(store: Path, contents: Callable[..., Any], tmp_path: Path) -> None:
    with memodb.connect(store) as db:
        before = contents(db)
        made = db.backup(tmp_path / "b")
        assert contents(db) == before
    assert made.documents == 14
    assert {c.name: (c.documents, c.tokens) for c in made.collections}["letters"][0] == 1
    assert made.nbytes == sum(len(data) for name, data in files(tmp_path / "b").items() if name != "BACKUP")
    assert json.loads(json.dumps(made.to_dict()))["documents"] == 14
    restored = memodb.restore(tmp_path / "b", tmp_path / "r", ledger=store / "ledger")
    assert restored == made
    for path, read_only in ((tmp_path / "r", False), (tmp_path / "b", True)):
        with memodb.connect(path, read_only=read_only) as db:
            assert contents(db) == before
            assert db.check().ok
            assert db.collection("letters").text("0").startswith("Dear")
    with memodb.connect(tmp_path / "r") as db:  # a store like any other
        db.append("and on it goes", id="more")
        assert db.delete("0").verified
        assert db.check().ok


def test_a_store_in_memory_can_be_kept(tmp_path: Path) -> None:
    with memodb.connect(":memory:", false_recall=0.02) as db:
        db.append("It was only in memory.", id="a")
        db.backup(tmp_path / "b")
        digest = db.digest()
    with pytest.raises(memodb.LedgerMissing, match="without_ledger"):
        memodb.restore(tmp_path / "b", tmp_path / "r")
    assert not (tmp_path / "r").exists()
    memodb.restore(tmp_path / "b", tmp_path / "r", without_ledger=True)
    with memodb.connect(tmp_path / "r") as db:
        assert db.text("a") == "It was only in memory."
        assert db.digest() == digest
        assert db.stats().promised_false_recall == 0.02


def test_a_backup_is_never_opened_for_writing(store: Path, tmp_path: Path) -> None:
    with memodb.connect(store, read_only=True) as db:
        db.backup(tmp_path / "b")
    before = files(tmp_path / "b")
    with pytest.raises(memodb.Conflict, match="is a backup"):
        memodb.connect(tmp_path / "b")
    with memodb.connect(tmp_path / "b", read_only=True) as db:
        assert db.check().ok
    assert files(tmp_path / "b") == before
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [
        "BACKUP", "catalog.db", "keys", "segments", "tokenizer.json.zst"
    ]  # fmt: skip


def test_what_is_being_erased_is_not_in_a_backup(
    store: Path, prose: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deletion that stopped between its two commits is finished in the copy."""
    from memodb.collection import transaction

    with memodb.connect(store) as db:
        with monkeypatch.context() as patch:
            patch.setattr(transaction, "finish_deletions", lambda _: None)
            db.delete("3", verify=False)
        db.backup(tmp_path / "b")
    raw = sqlite3.connect(tmp_path / "b" / "catalog.db")
    assert raw.execute("SELECT count(*) FROM document WHERE id = '3'").fetchall() == [(0,)]
    raw.close()
    with memodb.connect(tmp_path / "b", read_only=True) as db:
        assert "3" not in db
        assert db.check().ok


@pytest.mark.parametrize("step", ["_copy_state", "_verified", "write_manifest", "place"])
def test_a_backup_that_comes_to_nothing_is_pending_for_nobody(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise memodb.DiskFull("no space left")

    with memodb.connect(store) as db:
        with monkeypatch.context() as patch:
            patch.setattr("memodb.backup." + step, full)
            with pytest.raises(memodb.DiskFull):
                db.backup(tmp_path / "b")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]
        (row,) = db.backups()
        assert row.destroyed_at is not None
        assert db.delete("3").signed["statement"]["layers"]["backups"]["result"] == "none"


def test_nothing_is_overwritten(store: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("kept")
    (tmp_path / "file").write_text("kept")
    with memodb.connect(store) as db:
        for path in ("full", "file"):
            with pytest.raises(memodb.Conflict):
                db.backup(tmp_path / path)
        with pytest.raises(memodb.InvalidInput, match="inside the store"):
            db.backup(store / "b")
        for bad in ("", "a\0b", ":memory:"):
            with pytest.raises(memodb.InvalidInput):
                db.backup(bad)
        db.backup(tmp_path / "b")
        with pytest.raises(memodb.Conflict):
            db.backup(tmp_path / "b")
        with pytest.raises(memodb.Conflict, match="holds a store"):
            memodb.restore(tmp_path / "b", store)
        with pytest.raises(memodb.StoreLocked):
            memodb.restore(tmp_path / "b", store, replace=True)
    with pytest.raises(memodb.Conflict, match="not a store and not empty"):
        memodb.restore(tmp_path / "b", tmp_path / "full", replace=True)
    with pytest.raises(memodb.NotFound, match="no finished backup"):
        memodb.restore(tmp_path / "full", tmp_path / "r")
    with pytest.raises(memodb.NotFound):
        memodb.restore(tmp_path / "nowhere", tmp_path / "r")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "file", "full", "s"]


def test_a_store_is_replaced_at_once_even_a_damaged_one(
    store: Path, contents: Callable[..., Any], tmp_path: Path
) -> None:
    with memodb.connect(store) as db:
        before = contents(db)
        db.backup(tmp_path / "b")
        db.append("written after the backup", id="after")
    memodb.restore(tmp_path / "b", store, replace=True)
    with memodb.connect(store) as db:
        assert contents(db) == before
    (store / "catalog.db").write_bytes(b"")
    with pytest.raises(memodb.CorruptStore, match="restore the store from a backup"):
        memodb.connect(store)
    with pytest.raises(memodb.Conflict):
        memodb.restore(tmp_path / "b", store)
    memodb.restore(tmp_path / "b", store, replace=True)
    with memodb.connect(store) as db:
        assert contents(db) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "s"]


@pytest.fixture
def kept(store: Path, tmp_path: Path) -> Path:
    """A backup."""
    with memodb.connect(store, read_only=True) as db:
        db.backup(tmp_path / "kept")
    return tmp_path / "kept"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_backup_is_refused_whole(
    kept: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("d")
    shutil.copytree(kept, path / "b")
    victim = data.draw(st.sampled_from(sorted(files(path / "b"))))
    content = bytearray((path / "b" / victim).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    damage = data.draw(st.sampled_from(["flip", "cut", "remove", "add", "pipe"]))
    if damage == "flip":
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    elif damage == "cut":
        del content[at:]
    elif damage == "add":
        content += b"\0"
    (path / "b" / victim).write_bytes(content)
    if damage in ("remove", "pipe"):
        (path / "b" / victim).unlink()
    if damage == "pipe":
        os.mkfifo(path / "b" / victim)
    with pytest.raises((memodb.CorruptStore, memodb.NotFound)):
        memodb.restore(path / "b", path / "r", without_ledger=True)
    assert not (path / "r").exists()
    assert not list(path.glob("*.tmp"))
    shutil.rmtree(path)


def test_a_damaged_store_gives_no_backup_and_says_why(store: Path, tmp_path: Path) -> None:
    raw = sqlite3.connect(store / "catalog.db")
    ((trigger,),) = raw.execute("SELECT sql FROM sqlite_master WHERE name = 'document_immutable'").fetchall()
    raw.execute("DROP TRIGGER document_immutable")
    raw.execute("UPDATE document SET source = 'other' WHERE id = '5'")
    raw.execute(trigger)
    raw.commit()
    raw.close()
    with memodb.connect(store) as db:
        with pytest.raises(memodb.CorruptStore, match="document '5'"):
            db.backup(tmp_path / "b")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]
        report = db.check(fix=True)
        assert any("'5'" in finding for finding in report.remaining)
        db.delete("5", verify=False)  # what cannot be mended can still be deleted
        assert db.check().ok
        db.backup(tmp_path / "b")


@pytest.mark.parametrize("column", ["created_at", "destroyed_at", "keep_until"])
def test_a_damaged_note_of_a_backup_is_not_believed(store: Path, tmp_path: Path, column: str) -> None:
    """Nobody is told that no backup holds what was deleted, or until when one does, by a row that is not as it was."""
    with memodb.connect(store) as db:
        db.delete("1")
        taken = db.backup(tmp_path / "b")
    raw = sqlite3.connect(store / "catalog.db")
    raw.execute(f"UPDATE backup SET {column} = 7258118400000000")  # in the year 2200
    raw.commit()
    raw.close()
    with memodb.connect(store) as db:
        report = db.check()
        assert [finding for finding in report.findings if taken.id in finding]
        for read in (db.backups, db.erasures, lambda: db.delete("2"), lambda: db.backup_destroyed(taken.id)):
            with pytest.raises(memodb.CorruptStore, match=taken.id):
                read()
        assert "2" not in db, "hidden all the same"
    raw = sqlite3.connect(store / "catalog.db")
    assert raw.execute(f"SELECT {column} FROM backup").fetchall() == [(7258118400000000,)], "nor sealed anew"
    raw.close()


def test_writers_and_readers_go_on(store: Path, prose: Callable[..., str], tmp_path: Path) -> None:
    """Backups taken through the writer's handle and a reader's, while another thread commits pairs."""
    stop = threading.Event()
    failures: list[BaseException] = []
    with memodb.connect(store) as db, memodb.connect(store, read_only=True) as reader:

        def write() -> None:
            try:
                n = 0
                while not stop.is_set() or n < 3:
                    with db.transaction():
                        db.append(prose(30, 500 + n), id=f"{n} a", source="pair")
                        db.append(prose(30, 900 + n), id=f"{n} b", source="pair")
                    n += 1
            except BaseException as exc:
                failures.append(exc)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for number, handle in enumerate((db, reader, db, reader)):
                handle.backup(tmp_path / f"b{number}")
        finally:
            stop.set()
            thread.join()
    assert failures == []
    for number in range(4):
        with memodb.connect(tmp_path / f"b{number}", read_only=True) as copy:
            ids = {document.id for document in copy.documents(source="pair")}
            assert {i.split()[0] + " b" for i in ids if i.endswith("a")} == {i for i in ids if i.endswith("b")}
            assert copy.check().ok
