"""Transactions: together or not at all, whatever fails and wherever."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

import memodb
from memodb.collection import Collection
from memodb.collection import transaction as transactions


class Stop(Exception):
    """What a test throws into a transaction."""


def test_changes_appear_together(fresh: Callable[..., memodb.Store], tmp_path: Path) -> None:
    with fresh(tmp_path / "s") as db, memodb.connect(tmp_path / "s", read_only=True) as reader:
        db.append("old text of old", id="old")
        before = db.digest()
        with db.transaction() as transaction:
            assert isinstance(transaction, memodb.Transaction)
            db.append("new text of new", id="new")
            db.append_many(["one", "two"])
            receipt = db.delete("old")
            assert not receipt.committed
            assert not receipt.verified
            for handle in (db, reader):
                assert [d.id for d in handle.documents()] == ["old"]
                assert handle.digest() == before
                assert handle.score("old text of old").known == 1
        for handle in (db, reader):
            assert len(handle) == 3
            assert "old" not in handle
            assert handle.text("new") == "new text of new"
            assert handle.digest() == db.digest() != before
        assert db.check().ok


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["append", "delete"]), st.sampled_from("abc"), st.sampled_from(["x y", "z", ""])),
    max_size=8,
)


@given(OPERATIONS, OPERATIONS, st.booleans())
@settings(max_examples=14, deadline=None)
def test_a_transaction_against_a_dict(
    fresh: Callable[..., memodb.Store], contents: Callable[..., Any], first: Any, then: Any, commits: bool
) -> None:
    def play(db: memodb.Store, held: dict[str, str], operations: Any) -> None:
        for verb, name, text in operations:
            if verb == "append" and held.get(name, text) == text:
                db.append(text, id=name)
                held[name] = text
            elif verb == "append":
                with pytest.raises(memodb.DocumentExists):
                    db.append(text, id=name)
            elif name in held:
                db.delete(name)
                del held[name]
            else:
                with pytest.raises(memodb.DocumentNotFound):
                    db.delete(name)

    with fresh() as db, fresh() as plain:
        held: dict[str, str] = {}
        play(db, held, first)
        before = contents(db)
        staged = dict(held)
        with contextlib.suppress(Stop), db.transaction():
            play(db, staged, then)
            if not commits:
                raise Stop
        wanted = staged if commits else held
        assert {d.id: db.text(d.id) for d in db.documents()} == wanted
        if not commits:
            assert contents(db) == before
        assert db.check().ok
        plain.append_many({"id": name, "text": text} for name, text in wanted.items())
        db.compact()
        plain.compact()
        assert db.digest() == plain.digest()


def test_an_exception_leaves_no_trace(
    fresh: Callable[..., memodb.Store], contents: Callable[..., Any], prose: Callable[..., str], tmp_path: Path
) -> None:
    with fresh(tmp_path / "s") as db:
        db.append(prose(50, 1), id="a")
        db.append(prose(50, 2), id="b")
        before = contents(db)
        with contextlib.suppress(Stop), db.transaction():
            db.append(prose(2000, 3))
            db.delete("a")
            db.append("other", id="a")
            raise Stop
        assert contents(db) == before
        db.append("and on", id="c")
        assert db.check().ok
        db.delete("c")
        assert contents(db) == before
    with memodb.connect(tmp_path / "s", read_only=True) as reopened:
        assert contents(reopened)[0] == before[0]
        assert reopened.digest() == before[1]


def test_an_id_in_one_transaction_may_come_and_go(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        empty = db.digest()
        with db.transaction():
            db.append("x", id="a")
            db.delete("a")
            with pytest.raises(memodb.DocumentNotFound):
                db.delete("a")
        assert len(db) == 0
        assert db.digest() == empty
        db.append("x", id="a")
        with db.transaction():
            db.delete("a")
            with pytest.raises(memodb.DocumentNotFound):
                db.delete("a")
            db.append("y", id="a")
        assert db.text("a") == "y"
        assert db.next_tokens("x") == []


def test_filters_in_a_transaction_pass_over_what_it_deletes_already(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        for name in "abc":
            db.append(name, id=name, source="s")
        with db.transaction():
            db.delete("a")
            assert db.delete(source="s").documents == ("b", "c")
            with pytest.raises(memodb.EmptySelection):
                db.delete(source="s")
        assert len(db) == 0


def test_transactions_do_not_nest(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        with db.transaction():
            db.append("outer", id="outer")
            with pytest.raises(memodb.InvalidInput, match="nest"), db.transaction():
                raise AssertionError("never entered")
        assert [d.id for d in db.documents()] == ["outer"]
        with db.transaction():
            pass
        assert len(db) == 1


def test_other_threads_wait_for_their_turn(fresh: Callable[..., memodb.Store]) -> None:
    order: list[str] = []
    with fresh() as db:

        def other() -> None:
            db.append("second", id="second")
            order.append("second")

        thread = threading.Thread(target=other)
        with db.transaction():
            db.append("first", id="first")
            thread.start()
            time.sleep(0.1)
            assert thread.is_alive()
            order.append("first")
        thread.join(10)
        assert order == ["first", "second"]
        assert len(db) == 2


def test_a_transaction_in_another_thread_does_not_take_in_what_this_one_appends(
    fresh: Callable[..., memodb.Store],
) -> None:
    entered, leave = threading.Event(), threading.Event()
    with fresh() as db:

        def rolled_back() -> None:
            with contextlib.suppress(Stop), db.transaction():
                db.append("gone", id="gone")
                entered.set()
                leave.wait(10)
                raise Stop

        thread = threading.Thread(target=rolled_back)
        thread.start()
        entered.wait(10)
        threading.Timer(0.05, leave.set).start()
        db.append("mine", id="mine")
        thread.join(10)
        assert [d.id for d in db.documents()] == ["mine"]


# -- failures ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def failing_commit(db: memodb.Store) -> Iterator[None]:
    """The catalog's COMMIT fails, as on a full disk."""
    engine = db._engine.catalog._engine

    def fail(_: Any) -> None:
        raise OSError(28, "No space left on device")

    event.listen(engine, "commit", fail)
    try:
        yield
    finally:
        event.remove(engine, "commit", fail)


def changes(db: memodb.Store, prose: Callable[..., str]) -> list[Callable[[], object]]:
    def several() -> None:
        with db.transaction():
            db.append(prose(40, 9), id="n")
            db.delete("a")
            db.append("again", id="a")

    return [
        lambda: db.append("new text", id="n"),
        lambda: db.append(prose(3000, 9), id="n"),
        lambda: db.append_many([{"text": "x", "id": "n"}, "y"]),
        lambda: db.delete("a"),
        lambda: db.delete("a", "b"),
        several,
        db.compact,
    ]


@pytest.mark.parametrize("number", range(7))
def test_a_failed_commit_changes_nothing(
    fresh: Callable[..., memodb.Store],
    contents: Callable[..., Any],
    prose: Callable[..., str],
    tmp_path: Path,
    number: int,
) -> None:
    with fresh(tmp_path / "s") as db:
        db.append(prose(60, 1), id="a")
        db.append(prose(60, 2), id="b")
        before = contents(db)
        change = changes(db, prose)[number]
        with failing_commit(db), pytest.raises(OSError, match="No space"):
            change()
        assert contents(db) == before
        assert db.check().ok
        change()
        assert contents(db) != before
        assert db.check().ok
        after = contents(db)
    with memodb.connect(tmp_path / "s", read_only=True) as reopened:
        assert contents(reopened)[:2] == after[:2]


def _half(segments: dict[str, Any], changes: dict[str, Any]) -> None:
    """Publish a part of it, then fail."""
    for change in changes.values():
        for contribution in (*change.subtract, *change.add):
            for matrix, tally in zip(change.segment.matrices[:2], contribution.votes[:2], strict=True):
                matrix.add(tally)
    raise Stop


def _at_once(segments: dict[str, Any], changes: dict[str, Any]) -> None:
    raise Stop


@pytest.mark.parametrize("fault", [_half, _at_once])
@pytest.mark.parametrize("number", range(6))
def test_a_failure_after_the_commit_heals(
    fresh: Callable[..., memodb.Store],
    contents: Callable[..., Any],
    prose: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Any,
    number: int,
) -> None:
    with fresh(tmp_path / "s") as db, fresh(tmp_path / "wanted") as wanted:
        for handle in (db, wanted):
            handle.append(prose(60, 1), id="a")
            handle.append(prose(60, 2), id="b")
        db.digest()
        change = changes(db, prose)[number]
        with monkeypatch.context() as patch:
            patch.setattr(transactions, "publish", fault)
            with pytest.raises(Stop):
                change()
        changes(wanted, prose)[number]()
        texts = [sorted(h.text(d.id) for d in h.documents()) for h in (db, wanted)]
        if number != 2:  # random ids: their codes differ
            assert db.digest() == wanted.digest()
        assert texts[0] == texts[1]
        assert db.check().ok
        db.append("and on")
        assert db.check().ok


@pytest.mark.parametrize("number", range(7))
def test_an_interruption_between_commit_and_publication_heals(
    fresh: Callable[..., memodb.Store],
    prose: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    """Ctrl-C while the publisher waits for readers: what is committed must be what is answered."""

    def interrupted(self: Collection, change: object, committed: object = None, expiring_at: object = None) -> None:
        raise KeyboardInterrupt

    with fresh(tmp_path / "s") as db:
        db.append(prose(60, 1), id="a")
        db.append(prose(60, 2), id="b")
        change = changes(db, prose)[number]
        with monkeypatch.context() as patch:
            patch.setattr(Collection, "publish", interrupted)
            with pytest.raises(KeyboardInterrupt):
                change()
        with memodb.connect(tmp_path / "s", read_only=True) as reader:
            assert reader.digest() == db.digest()
            assert {d.id for d in db.documents()} == {d.id for d in reader.documents()}
        assert db.check().ok
        db.append("and on")
        assert db.check().ok


def test_a_change_that_fails_half_way_is_never_read(fresh: Callable[..., memodb.Store]) -> None:
    def half(segments: dict[str, Any]) -> None:
        (segment,) = segments.values()
        segment.matrices[0].cells[:] = 0
        raise Stop

    with fresh() as db:
        db.append("one two three four five", id="a")
        digest = db.digest()
        with pytest.raises(Stop):
            db._collection.publish(half)
        assert db.digest() == digest


def test_no_reader_sees_the_memory_of_a_failed_publication(
    fresh: Callable[..., memodb.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that waits for the publisher finds the memory dropped, and must not answer from nothing."""
    answers: list[Any] = []
    reading, release = threading.Event(), threading.Event()
    with fresh() as db:
        db.append("one two three four five", id="a")
        collection = db._collection

        def hold() -> None:
            with collection.reading():
                reading.set()
                release.wait(10)

        def write() -> None:
            with contextlib.suppress(Stop):
                db.append("another", id="b")

        def wait_for(condition: Callable[[], bool]) -> None:
            for _ in range(1000):
                if condition():
                    return
                time.sleep(0.01)
            raise AssertionError("never happened")

        asked = threading.Event()
        follow = collection._follow

        def noted() -> None:
            follow()
            if threading.current_thread().name == "reader":
                asked.set()

        monkeypatch.setattr(transactions, "publish", _half)
        monkeypatch.setattr(collection, "_follow", noted)
        threads = [threading.Thread(target=hold), threading.Thread(target=write)]
        threads.append(threading.Thread(target=lambda: answers.append(db.next_tokens("one two")), name="reader"))
        threads[0].start()
        reading.wait(10)
        threads[1].start()
        wait_for(lambda: collection._shared._waiting == 1)
        threads[2].start()
        asked.wait(10)
        time.sleep(0.05)
        release.set()
        for thread in threads:
            thread.join(10)
        assert [candidate.text for candidate in answers[0]] == [" three"]
        assert "b" in db
        assert db.check().ok


def test_a_commit_inside_the_block_is_the_only_one(fresh: Callable[..., memodb.Store]) -> None:
    with fresh() as db:
        with db.transaction() as transaction:
            db.append("once", id="a")
            first = transaction.commit()
        assert transaction.outcome is first
        assert len(db) == 1
        assert db.check().ok
