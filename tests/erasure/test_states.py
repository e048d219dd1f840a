"""Every state of a deletion can be the last one that a process reached: it is finished, and proven, by the next."""

import sqlite3
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import memodb
from memodb.catalog import erasing, registry
from memodb.collection import Collection
from memodb.collection.auditing import AuditLog

Stores = Callable[..., memodb.Store]
Look = Callable[..., dict[str, Any]]

RECORDED = ("rows_purged", "wal_truncated", "tiles_destroyed", "key_destroyed", "verified")
"""States with a commit of their own, after the one that hides; ``subtracted`` shares that of ``rows_purged``."""

SEAMS = [*RECORDED, "publish", "undoom", "mirror", "receipt"]


class Crash(BaseException):
    """The process would be gone."""


def breaking(patch: pytest.MonkeyPatch, seam: str, die: Callable[[], None]) -> None:
    """Have a deletion die in the commit that records a state, or at one of the steps between."""
    real = erasing.advance

    def advance(session: Any, erasure_id: str, state: str, facts: dict[str, Any]) -> None:
        if state == seam:
            die()
        real(session, erasure_id, state, facts)

    patch.setattr(erasing, "advance", advance)
    owner, name = {
        "publish": (Collection, "publish"),
        "undoom": (registry, "undoom"),
        "mirror": (AuditLog, "mirror"),
        "receipt": (erasing, "set_receipt"),
        "hidden": (erasing, "hide_many"),
    }.get(seam, (None, ""))
    if owner is not None:
        patch.setattr(owner, name, lambda *_, **__: die())


def _die() -> None:
    raise Crash


@pytest.fixture
def path(exact: Stores, filled: Stores, tmp_path: Path) -> Path:
    with filled(exact(tmp_path / "s")) as db:
        db.checkpoint()
    return tmp_path / "s"


def require_verified(db: memodb.Store, path: Path, valid: Callable[..., Any]) -> dict[str, Any]:
    """The one deletion is done and proven, and nothing of it is anywhere."""
    (erasure,) = db.erasures()
    assert erasure.state == "verified"
    times = [erasure.states[state] for state in erasing.STATES]
    assert len(erasure.states) == len(times)
    assert all(one <= other for one, other in pairwise(times))
    assert erasure.documents == (db.pseudonym("secret"),)
    receipt = db.receipt(erasure.id)
    statement = valid(db, receipt)
    assert statement["verified"]
    assert statement["reason"] == "ticket-7"
    assert [entry.op for entry in db.audit() if entry.id == erasure.id] == ["requested", "erased"]
    assert db.check().ok
    raw = sqlite3.connect(path / "catalog.db")
    assert raw.execute("SELECT count(*) FROM document WHERE id = 'secret' OR state <> 'live'").fetchone() == (0,)
    assert raw.execute("SELECT count(*) FROM doomed_key").fetchone() == (0,)
    named = {name for (name,) in raw.execute("SELECT tile FROM segment WHERE tile IS NOT NULL")}
    raw.close()
    assert {file.name for file in (path / "segments").iterdir()} == named
    return receipt


@pytest.mark.parametrize("seam", SEAMS)
def test_finished_by_the_next_opening(
    exact: Stores,
    look: Look,
    never: Any,
    secret: str,
    valid: Callable[..., Any],
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seam: str,
) -> None:
    with exact(path) as db:
        with monkeypatch.context() as patch:
            breaking(patch, seam, _die)
            with pytest.raises(Crash):
                db.delete("secret", reason="ticket-7")
        assert look(db, secret, "secret") == never
    if seam != "mirror":  # a reader refuses a ledger that is behind only if it tells of more than the store
        with memodb.connect(path, read_only=True) as reader:
            assert look(reader, secret, "secret") == never
            assert [erasure.state for erasure in reader.erasures()] != ["requested"]
    with exact(path) as db:
        receipt = require_verified(db, path, valid)
        assert look(db, secret, "secret") == never
        size = len(list(db.audit()))
    with exact(path) as db:  # and not once more
        assert require_verified(db, path, valid) == receipt
        assert len(list(db.audit())) == size


def test_a_crash_of_the_first_commit_leaves_it_all(
    exact: Stores, look: Look, always: Any, secret: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with exact(path) as db:
        with monkeypatch.context() as patch:
            breaking(patch, "hidden", _die)
            with pytest.raises(Crash):
                db.delete("secret")
        for handle in (db, memodb.connect(path, read_only=True)):
            found = look(handle, secret, "secret")
            assert found.pop("get")
            assert found == always
            assert handle.erasures() == []
            assert [entry.op for entry in handle.audit()] == ["key"]
            if handle is not db:
                handle.close()
        assert db.delete("secret").verified


@pytest.mark.parametrize("seam", ["rows_purged", "undoom"])
def test_finished_by_the_next_write_of_the_same_handle(
    exact: Stores,
    look: Look,
    never: Any,
    secret: str,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    valid: Callable[..., Any],
    seam: str,
) -> None:
    """A failure that the process outlives; the id is free again afterwards."""

    def fails() -> None:
        raise memodb.StoreError("the disk is away")

    with exact(path) as db:
        with monkeypatch.context() as patch:
            breaking(patch, seam, fails)
            with pytest.raises(memodb.StoreError, match="away") as caught:
                db.delete("secret", reason="ticket-7")
        assert "hidden from every answer" in str(caught.value.__notes__)
        assert look(db, secret, "secret") == never
        (erasure,) = db.erasures()
        assert erasure.state != "verified"
        db.append("something else", id="another")
        (erasure,) = db.erasures()
        assert erasure.state == "key_destroyed"  # done; proven when asked for
        db.delete("another", verify=False)
        assert valid(db, db.receipt(erasure.id))["verified"]
        assert look(db, secret, "secret") == never
        db.append("the same id", id="secret")


def test_two_crashes_in_a_row(
    exact: Stores, path: Path, monkeypatch: pytest.MonkeyPatch, valid: Callable[..., Any]
) -> None:
    """Each opening dies one state further."""
    with exact(path) as db, monkeypatch.context() as patch:
        breaking(patch, RECORDED[0], _die)
        with pytest.raises(Crash):
            db.delete("secret", reason="ticket-7")
    for seam in (*RECORDED[1:], "receipt", "mirror"):
        with monkeypatch.context() as patch:
            breaking(patch, seam, _die)
            with pytest.raises(Crash):
                exact(path)
    with exact(path) as db:
        require_verified(db, path, valid)


KILLED = """
import os, runpy, signal, sys
import memodb
sys.path.insert(0, sys.argv[3])
states = runpy.run_path(sys.argv[3] + "/test_states.py")
with memodb.connect(sys.argv[1]) as db, states["pytest"].MonkeyPatch.context() as patch:
    states["breaking"](patch, sys.argv[2], lambda: os.kill(os.getpid(), signal.SIGKILL))
    db.delete("secret", reason="ticket-7")
"""


@pytest.mark.parametrize(
    "seam", ["tiles_destroyed", *(pytest.param(seam, marks=pytest.mark.stress) for seam in ("hidden", *SEAMS))]
)
def test_killed(
    exact: Stores,
    look: Look,
    never: Any,
    secret: str,
    path: Path,
    in_process: Callable[..., str],
    reader: Callable[..., Any],
    valid: Callable[..., Any],
    seam: str,
) -> None:
    """By SIGKILL, with another process that reads all the time."""
    with reader(path) as other:
        other.look()
        in_process(KILLED, path, seam, Path(__file__).parent, code=-9)
        found = other.look()
        assert (found == never) == (seam != "hidden")
        with exact(path) as db:
            if seam == "hidden":
                db.delete("secret", reason="ticket-7")
            require_verified(db, path, valid)
            assert other.look() == look(db, secret, "secret") == never


def test_several_at_once(
    exact: Stores, path: Path, monkeypatch: pytest.MonkeyPatch, valid: Callable[..., Any], prose: Callable[..., str]
) -> None:
    """Deletions of two collections, one with many documents, another that was asked not to prove itself."""
    with exact(path) as db:
        other = db.collection("other", seed=bytes(32))
        for handle in (db, other):
            handle.append_many([{"id": f"d{n}", "text": prose(6, n), "source": "many"} for n in range(30)])
        for handle, seam in ((db, "rows_purged"), (other, "rows_purged"), (db, "verified")):
            chosen: dict[str, Any] = {"ids": ["secret"]} if seam == "verified" else {"source": "many"}
            with monkeypatch.context() as patch:
                breaking(patch, seam, _die)
                with pytest.raises(Crash):
                    handle.delete(verify=handle is db, **chosen)
    with exact(path) as db:
        assert [erasure.state for erasure in db.erasures()] == ["verified", "verified"]
        assert [erasure.tokens > 0 for erasure in db.erasures()] == [True, True]
        other = db.collection("other")
        (unproven,) = other.erasures()
        assert unproven.state == "key_destroyed"
        assert valid(other, other.receipt(unproven.id))["verified"]
        with pytest.raises(memodb.NotFound):
            db.receipt(unproven.id)
        assert [db.check().ok, other.check().ok] == [True, True]


def test_states_of_the_table_and_of_the_receipt_agree() -> None:
    from memodb.proof import STATES

    assert erasing.STATES == STATES
