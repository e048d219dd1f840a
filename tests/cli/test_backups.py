"""`backup`, `backups` and `restore`: what a store remembers of its copies, and what comes back of one."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import memodb

Call = Callable[..., Result]
Told = Callable[..., Any]

LATER = "2031-01-01T00:00:00+00:00"


def ids(store: Path) -> list[str]:
    with memodb.connect(store, read_only=True) as db:
        return sorted(d.id for d in db.documents())


def test_a_backup_is_remembered_until_it_is_destroyed(store: Path, call: Call, told: Told) -> None:
    assert told("backups") == []
    made = told("backup", store.parent / "b", "--keep-until", LATER, "--actor", "ops-1")
    assert (made["documents"], made["remembered"]) == (2, True)
    assert f"backup {told('backup', store.parent / 'c')['id']}" not in call("backups").stdout.splitlines()[0]
    first, second = told("backups")
    assert (first["id"], first["keep_until"], first["destroyed_at"]) == (made["id"], LATER, None)
    erasure = told("delete", "sky", "-y")["id"]
    assert told("erasures")[0]["state"] == "backups_pending"
    for each in (first, second):
        (gone,) = told("backups", "--destroyed", each["id"])
        assert gone["destroyed_at"] is not None
        assert {**gone, "destroyed_at": None} == each
    assert told("erasures")[0]["state"] == "backups_purged"
    assert told("receipt", "get", erasure)["statement"]["layers"]["backups"]["pending"] == []
    assert [row.split()[-1][:2] for row in call("backups").stdout.splitlines()[1:]] == ["20", "20"]
    call("backups", "--destroyed", made["id"], code=4)
    with memodb.connect(store, read_only=True) as db:
        assert sum(entry.op == "backup_destroyed" for entry in db.audit()) == 2
        assert [entry.actor for entry in db.audit() if entry.op == "backup"] == ["ops-1", None]


def test_a_backup_of_a_store_in_use_says_that_it_is_not_remembered(store: Path, call: Call, told: Told) -> None:
    with memodb.connect(store) as db:
        assert "does not remember" in call("backup", store.parent / "b").stderr
        made = told("backup", store.parent / "c")
        assert made["remembered"] is False
        assert db.backups() == []
        call("backups", "--taken", store.parent / "c", code=6)
    (known,) = told("backups", "--taken", store.parent / "c", "--keep-until", LATER)
    assert (known["id"], known["keep_until"], known["destroyed_at"]) == (made["id"], LATER, None)
    assert told("backups") == [known]
    call("backups", "--taken", store.parent / "c", code=5)
    call("backups", "--taken", store.parent / "none", code=4)
    call("backups", "--taken", store.parent / "b", "--destroyed", made["id"], code=2)
    call("backups", "--keep-until", LATER, code=2)
    assert told("backups") == [known]


def test_a_backup_needs_a_place_and_a_store(store: Path, call: Call) -> None:
    call("backup", store / "inside", code=3)
    call("backup", store, code=5)
    call("backup", store.parent / "b", "--keep-until", "2031-01-01", code=2)
    call("backup", store.parent / "b", "-p", store.parent / "none", code=4)
    assert not (store.parent / "none").exists()


def test_what_was_erased_since_stays_erased(store: Path, call: Call, told: Told) -> None:
    told("backup", store.parent / "b")
    call("delete", "sky", "-y")
    call("quarantine", "add", "town")
    said = call("restore", store.parent / "b", code=5).stderr
    assert "--replace" in said
    call("restore", store.parent / "b", "--replace")
    assert ids(store) == []
    assert [d["id"] for d in told("quarantine", "list")] == ["town"]
    other = store.parent / "other"
    assert "--ledger" in call("restore", store.parent / "b", "-p", other, code=6).stderr
    assert not other.exists()
    told("restore", store.parent / "b", "-p", other, "--ledger", store / "ledger")
    with memodb.connect(other, read_only=True, ledger=store / "ledger") as db:
        assert (len(db), len(db.quarantined())) == (0, 1)


def test_without_the_ledger_it_comes_back_and_is_said(store: Path, call: Call, told: Told) -> None:
    told("backup", store.parent / "b")
    call("delete", "sky", "-y")
    shutil.rmtree(store)
    assert "--without-ledger" in call("restore", store.parent / "b", code=6).stderr
    assert "is back" in call("restore", store.parent / "b", "--without-ledger").stderr
    assert ids(store) == ["sky", "town"]
    call("restore", store.parent / "b", "--replace", "--without-ledger", "--ledger", store / "ledger", code=3)


def test_a_ledger_older_than_the_backup_restores_nothing(store: Path, call: Call, told: Told) -> None:
    shutil.copytree(store / "ledger", store.parent / "old")
    call("hold", "place", "case-17", "sky")
    told("backup", store.parent / "b")
    assert "older" in call("restore", store.parent / "b", "--replace", "--ledger", store.parent / "old", code=6).stderr
    assert ids(store) == ["sky", "town"]


@pytest.mark.parametrize("damage", ["catalog.db", "tokenizer.json.zst"])
def test_a_changed_backup_is_refused(damage: str, store: Path, call: Call, told: Told) -> None:
    told("backup", store.parent / "b")
    with (store.parent / "b" / damage).open("r+b") as file:
        file.seek(100)
        file.write(b"\xff\x00\xff")
    call("restore", store.parent / "b", "--replace", code=6)
    assert ids(store) == ["sky", "town"]
