"""What was erased does not come back: not with a backup, not with a copied directory, not by a crash on the way."""

import importlib
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import memodb
from memodb.collection import Transaction
from memodb.collection.auditing import AuditLog

replaying = importlib.import_module("memodb.erasure.replay")
Stores = Callable[..., memodb.Store]
Look = Callable[..., dict[str, Any]]
Valid = Callable[..., dict[str, Any]]


class Crash(BaseException):
    """The process would be gone."""


def _die(*_: Any, **__: Any) -> Any:
    raise Crash


@pytest.fixture
def path(exact: Stores, filled: Stores, tmp_path: Path) -> Path:
    """A store whose secret was erased after the backup "b"; the ledger knows."""
    with filled(exact(tmp_path / "s")) as db:
        db.checkpoint()
        db.backup(tmp_path / "b")
        db.delete("secret")
    return tmp_path / "s"


def test_a_backup_holds_it_and_its_restoration_does_not(
    exact: Stores, look: Look, never: Any, secret: str, valid: Valid, path: Path, tmp_path: Path
) -> None:
    with memodb.connect(tmp_path / "b", read_only=True) as db:
        assert db.text("secret") == secret
    restored = memodb.restore(tmp_path / "b", path, replace=True)
    for _ in range(2):
        with exact(path) as db:
            assert look(db, secret, "secret") == never
            (erasure,) = db.erasures()
            assert erasure.documents == (db.pseudonym("secret"),)
            assert valid(db, db.receipt(erasure.id))["verified"]
            ops = [(entry.op, entry.id) for entry in db.audit()]
            assert ops[-1] == ("restore", restored.id)
            assert [op for op, found in ops if found == db.pseudonym("secret")] == ["hidden", "hidden"]
            assert db.check().ok


def test_elsewhere_with_the_ledger_of_the_store(
    exact: Stores, look: Look, never: Any, secret: str, path: Path, tmp_path: Path
) -> None:
    ledger = tmp_path / "kept" / "ledger"
    shutil.copytree(path / "ledger", ledger)
    before = (ledger / "log.jsonl").read_bytes()
    memodb.restore(tmp_path / "b", tmp_path / "t", ledger=ledger)
    with exact(tmp_path / "t") as db:  # with a copy of its own
        assert look(db, secret, "secret") == never
        db.append("it goes on", id="more")
        db.delete("more")
    assert (ledger / "log.jsonl").read_bytes() == before
    assert (tmp_path / "t" / "ledger" / "log.jsonl").read_bytes().startswith(before)


def test_a_set_back_directory_with_a_ledger_elsewhere(
    exact: Stores, filled: Stores, look: Look, never: Any, always: Any, secret: str, tmp_path: Path
) -> None:
    """A snapshot of the machine: the ledger was not on it. A reader refuses it until a writer has carried all out."""
    path, ledger = tmp_path / "s", tmp_path / "ledger"
    with filled(exact(path, ledger=ledger)) as db:
        db.checkpoint()
    shutil.copytree(path, tmp_path / "snapshot")
    with exact(path, ledger=ledger) as db:
        db.delete("secret", "0")
        db.quarantine("1")
        db.hold("case-1", "2")
        db.suppress("never again, this text")
    shutil.rmtree(path)
    shutil.copytree(tmp_path / "snapshot", path)
    with pytest.raises(memodb.LedgerMissing, match="older copy"):
        memodb.connect(path, read_only=True, ledger=ledger)
    with pytest.raises(memodb.LedgerMissing):
        exact(path)
    with exact(path, ledger=ledger) as db, memodb.connect(path, read_only=True, ledger=ledger) as reader:
        for handle in (db, reader):
            found = look(handle, secret, "secret")
            assert found["documents"] == ["2", "3", "near"]
            assert found["trace"] == never["trace"]
            assert found["score"] == never["score"]
        assert [document.id for document in db.quarantined()] == ["1"]
        assert [each.documents for each in db.holds()] == [("2",)]
        with pytest.raises(memodb.Suppressed):
            db.append("Never again,  this TEXT")
        assert db.check().ok
    assert always["contains"]


def test_what_came_back_since_stays(exact: Stores, secret: str, path: Path, tmp_path: Path) -> None:
    """Under the same id, appended after the erasure: in the store, in a backup of it, and in one restored from that."""
    with exact(path) as db:
        db.append("a new text", id="secret")
    with exact(path) as db:
        assert db.text("secret") == "a new text"
        db.backup(tmp_path / "later")
        db.delete("0")
    memodb.restore(tmp_path / "later", path, replace=True)
    with exact(path) as db:
        assert db.text("secret") == "a new text"
        assert "0" not in db
    memodb.restore(tmp_path / "b", path, replace=True)
    with exact(path) as db:
        assert "secret" not in db
        db.append(secret, id="secret")
    with exact(path) as db:
        assert db.text("secret") == secret


def test_without_a_ledger_it_says_so_and_it_comes_back(
    exact: Stores, filled: Stores, secret: str, path: Path, tmp_path: Path
) -> None:
    key = json.loads((path / "ledger" / "log.jsonl").read_bytes().splitlines()[0])["id"]
    memodb.restore(tmp_path / "b", tmp_path / "t", without_ledger=True)
    with exact(tmp_path / "t") as db:
        assert db.text("secret") == secret
        entries = list(db.audit())
        assert [entry.op for entry in entries][-2:] == ["key", "restore"]
        assert entries[-2].id != entries[0].id == key
        assert db.delete("secret").verified
    with pytest.raises(memodb.InvalidInput):
        memodb.restore(tmp_path / "b", tmp_path / "u", ledger=path / "ledger", without_ledger=True)


def test_a_missing_older_or_foreign_ledger_fails_closed(
    exact: Stores, filled: Stores, path: Path, tmp_path: Path
) -> None:
    with filled(exact(tmp_path / "foreign")) as db:
        for n in range(4):
            db.delete(str(n))
    with pytest.raises(memodb.LedgerMissing, match="no ledger"):
        memodb.restore(tmp_path / "b", tmp_path / "t")
    with pytest.raises(memodb.LedgerMissing, match="no ledger"):
        memodb.restore(tmp_path / "b", tmp_path / "t", ledger=tmp_path / "nowhere")
    shutil.copytree(path / "ledger", tmp_path / "old")
    (tmp_path / "old" / "log.jsonl").write_bytes(b"")
    with pytest.raises(memodb.LedgerMissing, match="older than the backup"):
        memodb.restore(tmp_path / "b", tmp_path / "t", ledger=tmp_path / "old")
    with pytest.raises(memodb.StoreMismatch):
        memodb.restore(tmp_path / "b", tmp_path / "t", ledger=tmp_path / "foreign" / "ledger")
    assert not (tmp_path / "t").exists()
    with pytest.raises(memodb.StoreMismatch):
        exact(path, ledger=tmp_path / "foreign" / "ledger")
    shutil.move(path / "ledger", tmp_path / "away")
    with pytest.raises(memodb.LedgerMissing):
        exact(path)
    with memodb.connect(path, read_only=True) as reader:  # who only reads erases nothing, and signs nothing
        assert "secret" not in reader
    shutil.move(tmp_path / "away", path / "ledger")
    with exact(path) as db:
        assert db.check().ok


def test_other_histories_are_refused(exact: Stores, path: Path, tmp_path: Path) -> None:
    """Two copies of one store that both went on: neither's ledger fits the other."""
    shutil.copytree(path, tmp_path / "twin")
    for each in (path, tmp_path / "twin"):
        with exact(each) as db:
            db.delete("0" if each == path else "1")
    with pytest.raises(memodb.StoreMismatch, match="histories"):
        exact(path, ledger=tmp_path / "twin" / "ledger")
    lines = (path / "ledger" / "log.jsonl").read_bytes().splitlines(keepends=True)
    (path / "ledger" / "log.jsonl").write_bytes(b"".join(lines[:-1]) + b"not an entry\n")
    with pytest.raises(memodb.StoreMismatch):
        exact(path)


def test_a_ledger_with_a_line_that_nobody_wrote(exact: Stores, filled: Stores, path: Path, tmp_path: Path) -> None:
    log = path / "ledger" / "log.jsonl"
    good = log.read_bytes()
    for bad in (b"{}\n", good.splitlines(keepends=True)[-1], b"x" * 5000 + b"\n"):
        log.write_bytes(good + bad)
        for read_only in (False, True):
            with pytest.raises((memodb.CorruptStore, memodb.LedgerMissing)):
                memodb.connect(path, read_only=read_only)
    log.write_bytes(good + b'{"actor": half a line')  # what a crash leaves is none
    with exact(path) as db:
        db.delete("0")
        assert [entry.op for entry in db.audit()][-1] == "erased"
    assert log.read_bytes().startswith(good)


STEPS = [
    (replaying, "delete"),
    (replaying._Replay, "run"),
    (replaying._Replay, "keep"),
    (replaying._Replay, "suppress"),
    (AuditLog, "settle"),
    (AuditLog, "mirror"),
    (Transaction, "commit"),
    (replaying, "_apply_backup"),
]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        pytest.param(owner, name, id=name, marks=[] if name in ("delete", "settle", "keep") else pytest.mark.stress)
        for owner, name in STEPS
    ],
)
def test_a_crash_at_any_step_of_it(
    exact: Stores,
    filled: Stores,
    look: Look,
    secret: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
) -> None:
    """Nobody may read the store before all is carried out; whoever opens it next for writing begins again."""
    path, ledger = tmp_path / "s", tmp_path / "ledger"
    with filled(exact(path, ledger=ledger)) as db:
        db.checkpoint()
    shutil.copytree(path, tmp_path / "snapshot")
    with exact(path, ledger=ledger) as db:
        db.hold("case-1", "2")
        taken = db.backup(tmp_path / "b")
        db.delete("secret", "2")
        db.quarantine("1")
        db.suppress("never again, this text")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, _die)
        with pytest.raises(Crash):
            exact(tmp_path / "snapshot", ledger=ledger)
    if name != "mirror":
        with pytest.raises(memodb.LedgerMissing):
            memodb.connect(tmp_path / "snapshot", read_only=True, ledger=ledger)
    with exact(tmp_path / "snapshot", ledger=ledger) as db:
        assert [document.id for document in db.documents(order="id")] == ["0", "3", "near"]
        assert db.trace(secret)[0].documents[0].id == "near"
        assert [document.id for document in db.quarantined()] == ["1"]
        assert [each.documents for each in db.holds()] == [("2",)]
        assert [backup.id for backup in db.backups()] == [taken.id]
        with pytest.raises(memodb.Suppressed):
            db.append("never again, this text")
        assert db.release_hold("case-1") == ["2"]
        assert {erasure.state for erasure in db.erasures()} == {"backups_pending"}
        assert db.check().ok


def test_a_clock_that_was_wrong_brings_nothing_back(exact: Stores, filled: Stores, clock: Any, tmp_path: Path) -> None:
    """Deleted at a time before that of its append, by the clock."""
    with filled(exact(tmp_path / "s")) as db:
        db.backup(tmp_path / "b")
        clock.at -= timedelta(hours=2)
        db.delete("secret")
        assert "secret" not in db
    memodb.restore(tmp_path / "b", tmp_path / "s", replace=True)
    with exact(tmp_path / "s") as db:
        assert "secret" not in db


def test_after_a_documents_time_a_backup_can_be_restored(
    exact: Stores, filled: Stores, look: Look, never: Any, secret: str, clock: Any, tmp_path: Path
) -> None:
    with filled(exact(tmp_path / "s"), expires_at=clock.after(60)) as db:
        db.backup(tmp_path / "b")
    clock.advance(61)
    memodb.restore(tmp_path / "b", tmp_path / "s", replace=True)
    with exact(tmp_path / "s") as db:
        assert look(db, secret, "secret") == never


def test_quarantine_and_expiry_meet_in_a_replay(
    exact: Stores, filled: Stores, look: Look, never: Any, secret: str, clock: Any, tmp_path: Path
) -> None:
    """It was set aside after the backup, and has expired since."""
    with filled(exact(tmp_path / "s", ledger=tmp_path / "l"), expires_at=clock.after(60)) as db:
        pass
    shutil.copytree(tmp_path / "s", tmp_path / "copy")
    with exact(tmp_path / "s", ledger=tmp_path / "l") as db:
        db.quarantine("secret")
    clock.advance(61)
    with exact(tmp_path / "copy", ledger=tmp_path / "l") as db:
        assert look(db, secret, "secret") == never


@pytest.mark.parametrize("order", ["released, then given an end", "given more time"])
def test_expiry_is_carried_out_again(
    exact: Stores, filled: Stores, clock: Any, secret: str, tmp_path: Path, order: str
) -> None:
    ends = order == "released, then given an end"
    with filled(exact(tmp_path / "s", ledger=tmp_path / "l"), expires_at=None if ends else clock.after(60)) as db:
        if ends:
            db.quarantine("secret")
    shutil.copytree(tmp_path / "s", tmp_path / "copy")
    with exact(tmp_path / "s", ledger=tmp_path / "l") as db:
        if ends:
            db.release("secret")
            db.set_expiry(clock.after(60), "secret")
        else:
            db.set_expiry(clock.after(1000), "secret")
            clock.advance(61)
    with exact(tmp_path / "copy", ledger=tmp_path / "l") as db:
        assert db.text("secret") == secret
        clock.advance(61)
        assert ("secret" in db) == (not ends)
