"""Quarantine: out of the memory and of every read path, exactly; back again, exactly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memodb
from memodb.catalog import quarantine as queries

Stores = Callable[..., memodb.Store]
Look = Callable[..., dict[str, Any]]


class Crash(BaseException):
    """The process would be gone."""


def ops(db: memodb.Store) -> list[tuple[str, str | None]]:
    return [(entry.op, entry.reason) for entry in db.audit()]


def test_aside_and_back_to_the_byte(
    exact: Stores, filled: Stores, look: Look, never: Any, always: Any, secret: str, tmp_path: Path
) -> None:
    """A writer, a reader that was there, one that comes later, and the store opened again: all say the same."""
    path = tmp_path / "s"
    with filled(exact(path)) as db, memodb.connect(path, read_only=True) as reader:
        db.checkpoint()
        (aside,) = db.quarantine("secret", reason="case-4")
        assert (aside.id, aside.state, aside.subject) == ("secret", "quarantined", "keeper")
        assert [document.id for document in db.quarantined()] == ["secret"]
        for handle in (db, reader):
            assert look(handle, secret, "secret") == never
            assert handle.check().ok
        with pytest.raises(memodb.DocumentExists, match="quarantine"):
            db.append(secret, id="secret")
        with pytest.raises(memodb.DocumentNotFound):
            db.quarantine("secret")
        with memodb.connect(path, read_only=True) as late:
            assert look(late, secret, "secret") == never
    with exact(path) as db, memodb.connect(path, read_only=True) as reader:
        assert look(db, secret, "secret") == look(reader, secret, "secret") == never
        db.checkpoint()
        (back,) = db.release("secret", reason="not a code: he wrote to us")
        assert (back.id, back.state) == ("secret", "live")
        assert db.quarantined() == []
        for handle in (db, reader):
            found = look(handle, secret, "secret")
            assert found.pop("get")
            assert found == always
            assert handle.check().ok
        with pytest.raises(memodb.DocumentNotFound):
            db.release("secret")
        with pytest.raises(memodb.EmptySelection):
            db.release(source="letter")
        assert ops(db)[-2:] == [("quarantine", "case-4"), ("quarantine_released", None)]


def test_reader_processes_follow(
    exact: Stores, filled: Stores, never: Any, always: Any, reader: Callable[..., Any], tmp_path: Path
) -> None:
    with filled(exact(tmp_path / "s")) as db, reader(tmp_path / "s") as other:
        seen = []
        for change in (lambda: None, lambda: db.quarantine("secret"), lambda: db.release("secret")):
            change()
            seen.append(other.look())
        assert seen[1] == never
        for found in (seen[0], seen[2]):
            found.pop("get")
            assert found == always


def test_deleted_while_aside(
    exact: Stores, filled: Stores, look: Look, never: Any, secret: str, valid: Callable[..., Any], tmp_path: Path
) -> None:
    with filled(exact(tmp_path / "s")) as db:
        db.checkpoint()
        db.quarantine(subject="keeper")
        before = {path.name for path in (tmp_path / "s" / "segments").iterdir()}
        receipt = db.delete("secret")
        assert valid(db, receipt.signed)["verified"]
        # the tile from before held it still
        assert before.isdisjoint(path.name for path in (tmp_path / "s" / "segments").iterdir())
        assert db.quarantined() == []
        assert look(db, secret, "secret") == never
        assert db.check().ok
    with exact(tmp_path / "s") as db:
        assert look(db, secret, "secret") == never


@pytest.mark.parametrize("call", ["quarantine", "release"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_leaves_it_there_or_aside(
    exact: Stores,
    filled: Stores,
    look: Look,
    never: Any,
    always: Any,
    secret: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    when: str,
) -> None:
    """Before the commit: as it was. After it, before the memory has it: as it was to be."""

    def dies(*_: Any) -> Any:
        raise Crash

    with filled(exact(tmp_path / "s")) as db:
        db.checkpoint()
        if call == "release":
            db.quarantine("secret")
        with monkeypatch.context() as patch:
            if when == "before":
                patch.setattr(queries, "_move", dies)
            else:
                patch.setattr(type(db._collection), "publish", dies)
            with pytest.raises(Crash):
                getattr(db, call)("secret")
        away = (call == "quarantine") == (when == "after")
        handles = [db, memodb.connect(tmp_path / "s", read_only=True)]
        for handle in handles:
            found = look(handle, secret, "secret")
            assert bool(found.pop("get")) == (not away)
            assert found == ({k: v for k, v in never.items() if k != "get"} if away else always)
            assert handle.check().ok
        handles[1].close()
    with exact(tmp_path / "s") as db:
        assert db.digest() == (never if away else always)["digest"]


def test_compacted_with_documents_aside(exact: Stores, filled: Stores, look: Look, secret: str, tmp_path: Path) -> None:
    with filled(exact(tmp_path / "s")) as db, filled(exact(), secret=False) as other, filled(exact()) as whole:
        for each in (db, other, whole):
            each.append("one that goes", id="gone")
        db.quarantine("secret")
        for each in (db, other, whole):
            each.delete("gone")
            each.compact()
        assert look(db, secret, "secret") == look(other, secret, "secret")
        db.checkpoint()
        db.close()
        with exact(tmp_path / "s") as again:
            assert look(again, secret, "secret") == look(other, secret, "secret")
            again.release("secret")
            again.compact()
            assert again.digest() == whole.digest()
            assert again.check().ok
            again.quarantine(source="ordinary")
            again.quarantine("secret", "near")
            again.compact()  # nothing is left to lay out, and all of it still has a place
            assert len(again) == 0
            again.release("secret", *"0123", "near")
            again.compact()
            assert again.digest() == whole.digest()
            assert again.check().ok


def test_releasing_what_expired_meanwhile_brings_nothing_back(
    exact: Stores, filled: Stores, look: Look, never: Any, secret: str, clock: Any, tmp_path: Path
) -> None:
    with filled(exact(tmp_path / "s"), expires_at=clock.after(60)) as db:
        db.quarantine("secret")
        clock.advance(61)
    with exact(tmp_path / "s") as db:
        db.release("secret")
        assert look(db, secret, "secret") == never
        assert db.check().ok
        assert db.sweep().verified


def test_in_one_transaction(exact: Stores, filled: Stores, look: Look, never: Any, always: Any, secret: str) -> None:
    """What is released and appended together, what is set aside and deleted together."""
    with filled(exact()) as db:
        db.quarantine("secret")
        with db.transaction():
            db.release("secret")
            with pytest.raises(memodb.DocumentNotFound):
                db.release("secret")
            db.append("some more", id="more")
        assert {"secret", "more"} <= {document.id for document in db.documents()}
        with db.transaction():
            db.quarantine("secret")
            db.delete("more")
        assert look(db, secret, "secret") == never
        with db.transaction():
            db.release("secret")
            db.delete("secret")
        assert look(db, secret, "secret") == never
        assert db.quarantined() == []
        assert db.check().ok


@settings(max_examples=3)
@given(moves=st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 11), max_size=5)), max_size=6))
def test_any_moves_leave_the_memory_of_those_that_stay(fresh: Stores, prose: Callable[..., str], moves: Any) -> None:
    """Over several segments, so that what comes back may find another place."""
    with fresh() as db:
        texts = {str(n): prose(150 + 9 * n, n) for n in range(12)}
        db.append_many([{"id": n, "text": text} for n, text in texts.items()])
        aside: set[str] = set()
        for away, chosen in moves:
            names = {str(n) for n in chosen}
            names = names - aside if away else names & aside
            if not names:
                continue
            (db.quarantine if away else db.release)(*names)
            aside = aside | names if away else aside - names
            assert {document.id for document in db.documents()} == texts.keys() - aside
        assert len(db.stats().segments) > 1
        assert db.check().ok
        with fresh() as other:
            other.append_many([{"id": n, "text": text} for n, text in texts.items() if n not in aside])
            for each in (db, other):
                each.compact()
            assert db.digest() == other.digest()
