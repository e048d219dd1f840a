"""Legal holds: they stop the purge, not the hiding; what they refuse is recorded; at the end it is erased."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memodb

Stores = Callable[..., memodb.Store]
Look = Callable[..., dict[str, Any]]
Valid = Callable[..., dict[str, Any]]


def told(db: memodb.Store, op: str) -> list[tuple[str | None, str | None]]:
    return [(entry.id, entry.reason) for entry in db.audit() if entry.op == op]


def kept(path: Path) -> set[str]:
    """Ids of the rows that are there, whatever any query of the store's says."""
    raw = sqlite3.connect(path / "catalog.db")
    found = {name for (name,) in raw.execute("SELECT id FROM document")}
    raw.close()
    return found


def test_hidden_at_once_and_purged_at_the_end(
    exact: Stores, filled: Stores, look: Look, never: Any, secret: str, valid: Valid, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    with filled(exact(path)) as db, memodb.connect(path, read_only=True) as reader:
        db.checkpoint()
        pseudonym = db.pseudonym("secret")
        held = db.hold("case-1", source="letter")
        assert held.documents == ("near", "secret")
        db.hold("case-2", "secret", "0")
        assert [(each.name, each.documents) for each in db.holds()] == [
            ("case-1", ("near", "secret")),
            ("case-2", ("0", "secret")),
        ]
        receipt = db.delete("secret", reason="ticket-3")
        assert (receipt.held, receipt.rows_left, receipt.verified) == (("secret",), 1, False)
        statement = valid(db, receipt.signed)
        assert statement["layers"]["catalog"]["result"] == "held"
        assert (statement["layers"]["catalog"]["rows_left"], statement["layers"]["catalog"]["rows_held"]) == (1, 1)
        assert told(db, "held_back") == [(pseudonym, None)]
        assert told(db, "erased") == []
        for handle in (db, reader):
            assert look(handle, secret, "secret") == never
        assert "secret" in kept(path)
        with pytest.raises(memodb.DocumentNotFound):
            db.delete("secret")
        with pytest.raises(memodb.DocumentExists):
            db.append("the same id", id="secret")
        assert {each["id"]: each["text"] for each in db.export_held("case-2")}["secret"] == secret
        assert told(db, "hold_export") == [(None, "case-2")]
        assert db.release_hold("case-1") == ["near", "secret"]
        assert db.erasures()[0].held == 1
        assert "secret" in kept(path)
    with exact(path) as db:  # nor does opening it again
        assert "secret" in kept(path)
        assert look(db, secret, "secret") == never
        assert db.release_hold("case-2") == ["0", "secret"]
        assert "secret" not in kept(path)
        statement = valid(db, db.receipt(receipt.id))
        assert statement["verified"]
        assert statement["reason"] == "ticket-3"
        assert db.holds() == []
        assert len(told(db, "hold")) == len(told(db, "hold_released")) == 4
        assert told(db, "erased") == [(receipt.id, "ticket-3")]
        assert look(db, secret, "secret") == never
        for call in (db.release_hold, db.export_held):
            with pytest.raises(memodb.NotFound):
                call("case-2")
        db.append("the same id", id="secret")


def test_what_no_hold_keeps_goes_at_once(exact: Stores, filled: Stores, valid: Valid, tmp_path: Path) -> None:
    with filled(exact(tmp_path / "s")) as db:
        db.hold("case-1", "near")
        receipt = db.delete(source="letter")
        assert receipt.held == ("near",)
        assert kept(tmp_path / "s") == {"near", *"0123"}
        assert db.delete("0").verified
        assert db.release_hold("case-1") == ["near"]
        assert kept(tmp_path / "s") == {*"123"}
        assert valid(db, db.receipt(receipt.id))["verified"]
        assert db.check().ok


def test_a_hold_grows_and_names_are_codes(exact: Stores, filled: Stores) -> None:
    with filled(exact()) as db:
        db.hold("case-1", "0")
        assert db.hold("case-1", "0", "1").documents == ("0", "1")
        assert told(db, "hold") == [(db.pseudonym("0"), "case-1"), (db.pseudonym("1"), "case-1")]
        for name in ("", "Mrs Miller", "ä", "x" * 65, 5):
            with pytest.raises(memodb.InvalidInput):
                db.hold(name, "0")  # type: ignore[arg-type]
        with pytest.raises(memodb.EmptySelection):
            db.hold("case-2")
        with pytest.raises(memodb.DocumentNotFound):
            db.hold("case-2", "nobody")
        assert [each.name for each in db.holds()] == ["case-1"]


def test_a_hold_needs_a_name(exact: Stores, filled: Stores) -> None:
    with filled(exact()) as db, pytest.raises(memodb.InvalidInput):
        db.hold(None, "0")  # type: ignore[arg-type]


@pytest.mark.parametrize("first", ["quarantine", "expire"])
def test_on_what_is_aside_or_expired(
    exact: Stores, filled: Stores, look: Look, never: Any, secret: str, clock: Any, tmp_path: Path, first: str
) -> None:
    path = tmp_path / "s"
    with filled(exact(path), expires_at=clock.after(60) if first == "expire" else None) as db:
        if first == "expire":
            clock.advance(60)
        else:
            db.quarantine("secret")
        db.hold("case-1", subject="keeper")
        receipt = db.sweep() if first == "expire" else db.delete("secret")
        assert receipt.held == ("secret",)
        assert kept(path) >= {"secret"}
        assert db.quarantined() == []
        assert [each["text"] for each in db.export_held("case-1")] == [secret]
        assert look(db, secret, "secret") == never
        db.release_hold("case-1")
        assert db.receipt(receipt.id)["statement"]["verified"]
        assert "secret" not in kept(path)


def _replace(db: memodb.Store) -> None:
    with db.transaction():
        db.delete("secret")
        db.append("instead", id="secret")


def test_a_held_document_cannot_be_replaced_in_one_transaction(
    exact: Stores, filled: Stores, contents: Callable[..., Any]
) -> None:
    """Its row would have to go for the new one."""
    with filled(exact()) as db:
        db.hold("case-1", "secret")
        before = contents(db)
        with pytest.raises(memodb.Conflict):
            _replace(db)
        assert contents(db) == before
        assert db.erasures() == []
        assert db.check().ok


def test_a_refused_replacement_is_recorded(exact: Stores, filled: Stores) -> None:
    with filled(exact()) as db:
        db.hold("case-1", "secret")
        with pytest.raises(memodb.Conflict, match="hold"):
            _replace(db)
        assert told(db, "held_back") == [(db.pseudonym("secret"), None)]


def test_rows_under_a_hold_cannot_be_removed_behind_its_back(exact: Stores, filled: Stores, tmp_path: Path) -> None:
    with filled(exact(tmp_path / "s")) as db:
        db.hold("case-1", "secret")
        raw = sqlite3.connect(tmp_path / "s" / "catalog.db")
        raw.execute("PRAGMA foreign_keys=ON")
        with pytest.raises(sqlite3.IntegrityError):
            raw.execute("DELETE FROM document WHERE id = 'secret'")
        raw.close()


def test_holds_travel_in_backups(
    exact: Stores, filled: Stores, look: Look, never: Any, secret: str, tmp_path: Path
) -> None:
    """A backup with a hold on a document, and one with a document that is hidden under a hold."""
    path = tmp_path / "s"
    with filled(exact(path)) as db:
        db.hold("case-1", "secret")
        db.backup(tmp_path / "live")
        receipt = db.delete("secret")
        db.backup(tmp_path / "hidden")
    for name in ("live", "hidden"):
        memodb.restore(tmp_path / name, tmp_path / f"from {name}", ledger=path / "ledger")
        with exact(tmp_path / f"from {name}", ledger=path / "ledger") as db:
            assert look(db, secret, "secret") == never
            assert kept(tmp_path / f"from {name}") >= {"secret"}
            assert [each.documents for each in db.holds()] == [("secret",)]
            assert [each["text"] for each in db.export_held("case-1")] == [secret]
            assert db.check().ok
    assert receipt.held == ("secret",)
    memodb.restore(tmp_path / "hidden", tmp_path / "alone", without_ledger=True)
    with exact(tmp_path / "alone") as db:
        assert look(db, secret, "secret") == never
        assert db.release_hold("case-1") == ["secret"]
        assert kept(tmp_path / "alone") == {"near", *"0123"}


@pytest.mark.parametrize("taken", ["before", "after"])
def test_a_release_is_carried_out_again(exact: Stores, filled: Stores, tmp_path: Path, taken: str) -> None:
    """A backup from under the hold: before the deletion, or after it."""
    path = tmp_path / "s"
    with filled(exact(path)) as db:
        db.hold("case-1", "secret")
        if taken == "before":
            db.backup(tmp_path / "b")
        db.delete("secret")
        if taken == "after":
            db.backup(tmp_path / "b")
        db.release_hold("case-1")
    memodb.restore(tmp_path / "b", path, replace=True)
    with exact(path) as db:
        assert db.holds() == []
        assert "secret" not in kept(path)
        assert {erasure.state for erasure in db.erasures()} <= {"verified", "backups_pending"}


@settings(max_examples=5)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["hold", "release", "delete"]), st.sampled_from("xyz"), st.sets(st.integers(0, 5))),
        max_size=8,
    )
)
def test_any_holds_keep_what_they_name(
    fresh: Stores, prose: Callable[..., str], tmp_path_factory: pytest.TempPathFactory, steps: Any
) -> None:
    """Against sets: what is visible, what has a row."""
    path = tmp_path_factory.mktemp("holds") / "s"
    with fresh(path) as db:
        db.append_many([{"id": str(n), "text": prose(5, n)} for n in range(6)])
        visible = {str(n) for n in range(6)}
        there = set(visible)
        holds: dict[str, set[str]] = {}
        refused = 0
        for kind, name, numbers in steps:
            chosen = {str(n) for n in numbers} & visible
            if kind == "hold" and chosen:
                db.hold(name, *chosen)
                holds.setdefault(name, set()).update(chosen)
            elif kind == "release" and name in holds:
                assert set(db.release_hold(name)) == holds.pop(name)
            elif kind == "delete" and chosen:
                keeping = set().union(*holds.values()) & chosen
                refused += len(keeping)
                receipt = db.delete(*chosen)
                assert set(receipt.held) == keeping
                assert receipt.verified == (not keeping)
                visible -= chosen
            there = visible | (there & set().union(*holds.values()))
            assert kept(path) == there
            assert {document.id for document in db.documents()} == visible
            assert {each.name: set(each.documents) for each in db.holds()} == holds
        assert len(told(db, "held_back")) == refused
        states = {erasure.state for erasure in db.erasures() if not erasure.held}
        assert states <= {"verified"}
        assert db.check().ok
