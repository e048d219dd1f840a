"""Expiry: gone from every read path from the moment on, without a commit, in every handle; kept time is the clock's."""

import importlib
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memodb
from memodb.collection.auditing import AuditLog

visibility: Any = importlib.import_module("memodb.catalog.visibility")
Stores = Callable[..., memodb.Store]
Look = Callable[..., dict[str, Any]]


def test_nothing_is_read_from_the_moment_on(
    exact: Stores, filled: Stores, look: Look, never: Any, always: Any, secret: str, clock: Any, tmp_path: Path
) -> None:
    """A writer, a reader that was there, a reader that comes later: the same before and after, to a microsecond."""
    with filled(exact(tmp_path / "s"), expires_at=clock.after(60)) as db:
        db.checkpoint()
        with memodb.connect(tmp_path / "s", read_only=True) as reader:
            clock.advance(60 - 1e-6)
            for handle in (db, reader):
                found = look(handle, secret, "secret")
                assert found.pop("get")
                assert found == always
            clock.advance(1e-6)
            assert look(db, secret, "secret") == look(reader, secret, "secret") == never
            with memodb.connect(tmp_path / "s", read_only=True) as late:  # its tile holds what has expired
                assert look(late, secret, "secret") == never
            assert db.check().ok
            assert reader.check().ok
        assert db.documents(expires_before=clock.after(99)) == []
        with pytest.raises(memodb.DocumentExists, match="expired"):
            db.append("another", id="secret")
    with exact(tmp_path / "s") as db:
        assert look(db, secret, "secret") == never
        receipt = db.sweep("retention-1")
        assert receipt.documents == ("secret",)
        assert receipt.verified
        assert look(db, secret, "secret") == never
        assert db.append("another", id="secret").id == "secret"
        with pytest.raises(memodb.EmptySelection):
            db.sweep()


def test_in_memory_too(
    exact: Stores, filled: Stores, look: Look, never: Any, always: Any, secret: str, clock: Any
) -> None:
    with filled(exact(), expires_at=clock.after(60)) as db:
        found = look(db, secret, "secret")
        assert found.pop("get")
        assert found == always
        clock.advance(60)
        assert look(db, secret, "secret") == never
        assert db.sweep().verified
        assert look(db, secret, "secret") == never


def test_across_processes_by_the_real_clock(
    exact: Stores, filled: Stores, never: Any, reader: Callable[..., Any], tmp_path: Path
) -> None:
    """When the moment comes no commit tells the reader: only time has passed."""
    with filled(exact(tmp_path / "s")) as db, reader(tmp_path / "s") as other:
        assert other.look()["contains"]
        moment = datetime.now(UTC) + timedelta(seconds=1)
        db.set_expiry(moment, "secret")
        time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))
        assert other.look() == never


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda db, text: db.text("secret"), id="text"),
        pytest.param(lambda db, text: list(db.export()), id="export"),
        pytest.param(lambda db, text: db.trace(text), id="trace"),
        pytest.param(lambda db, text: db.complete(text[: text.index(" the third")]).text, id="complete"),
        pytest.param(lambda db, text: db.lookup([db.tokenizer.encode(text)[:16]]).context_length.tolist(), id="lookup"),
        pytest.param(lambda db, text: [len(db), "secret" in db, db.stats().documents], id="counts"),
        pytest.param(lambda db, text: db.digest(), id="digest"),
    ],
)
def test_a_moment_in_the_middle_of_a_read_is_before_it_or_after_it(
    exact: Stores, secret: str, clock: Any, read: Callable[[memodb.Store, str], Any]
) -> None:
    """The document expires at the first, the second, ... look at the clock of one call: it never fails for that."""

    def outcome(db: memodb.Store) -> Any:
        try:
            return read(db, secret)
        except memodb.DocumentNotFound:
            return None

    def comparable(value: Any) -> Any:
        if isinstance(value, list):
            return [comparable(item) for item in value]
        if isinstance(value, dict):
            return {k: v for k, v in value.items() if k not in ("created_at", "batch", "expires_at")}
        return value

    start = clock.at
    seen = []
    for number in range(1, 14):
        clock.at, clock.jump = start, None
        with exact() as db:
            db.append_many([{"id": "secret", "text": secret, "expires_at": clock.after(60)}])
            db.append("another text", id="other")
            read(db, secret)
            clock.looks, clock.jump = 0, (number, clock.after(60))
            seen.append(comparable(outcome(db)))
            looks = clock.looks
            clock.jump = None
            clock.at = start + timedelta(seconds=60)
            after = comparable(outcome(db))
        if number > looks:  # it was over before the moment came
            break
    assert number > looks
    assert seen[-1] != after
    if not isinstance(after, list) or len(after) != 3:  # three calls, each before or after
        assert all(each in (seen[-1], after) for each in seen)


def test_earlier_later_never(
    exact: Stores, filled: Stores, look: Look, never: Any, always: Any, secret: str, clock: Any, tmp_path: Path
) -> None:
    with (
        filled(exact(tmp_path / "s"), expires_at=clock.after(60)) as db,
        memodb.connect(tmp_path / "s", read_only=True) as reader,
    ):
        assert [d.expires_at for d in db.set_expiry(clock.after(120), "secret")] == [clock.after(120)]
        clock.advance(60)
        for handle in (db, reader):
            assert look(handle, secret, "secret")["digest"] == always["digest"]
        db.set_expiry(clock.after(10), "secret")
        clock.advance(10)
        for handle in (db, reader):
            assert look(handle, secret, "secret") == never
        with pytest.raises(memodb.DocumentNotFound):  # what has expired does not come back
            db.set_expiry(None, "secret")
        (near,) = db.set_expiry(clock.after(5), source="letter")
        assert near.id == "near"
        db.set_expiry(None, "near")
        clock.advance(1000)
        for handle in (db, reader):
            assert look(handle, secret, "secret") == never
            assert handle.get("near").expires_at is None
            assert handle.check().ok


@pytest.mark.parametrize("seconds", [0, -1, -1e9])
def test_the_past_is_refused(exact: Stores, filled: Stores, clock: Any, contents: Any, seconds: float) -> None:
    with filled(exact()) as db:
        before = contents(db)
        with pytest.raises(memodb.InvalidInput, match="past"):
            db.append("text", expires_at=clock.after(seconds))
        with pytest.raises(memodb.InvalidInput, match="past"):
            db.append_many([{"text": "text", "expires_at": clock.after(seconds).isoformat()}])
        with pytest.raises(memodb.InvalidInput, match="past"):
            db.set_expiry(clock.after(seconds), "secret")
        with pytest.raises(memodb.InvalidInput, match="zone"):
            db.set_expiry(datetime(2090, 1, 1), "secret")
        with pytest.raises(memodb.EmptySelection):
            db.set_expiry(clock.after(9))
        assert contents(db) == before


def test_what_has_expired_can_be_deleted(
    exact: Stores, filled: Stores, look: Look, never: Any, secret: str, clock: Any, tmp_path: Path
) -> None:
    with filled(exact(tmp_path / "s"), expires_at=clock.after(60)) as db:
        db.checkpoint()
        clock.advance(60)
        receipt = db.delete(subject="keeper")
        assert receipt.documents == ("secret",)
        assert receipt.verified
        assert look(db, secret, "secret") == never
        assert db.check().ok


def test_expiring_while_a_transaction_is_open(
    exact: Stores, filled: Stores, look: Look, never: Any, secret: str, clock: Any, tmp_path: Path
) -> None:
    """What another one deletes, and what this one appends, may both expire before the commit."""
    with filled(exact(tmp_path / "s"), expires_at=clock.after(60)) as db:
        with db.transaction():
            db.delete("secret")
            clock.advance(60)
            assert "secret" not in db
        assert look(db, secret, "secret") == never
        db.append("It expires first, while the other one is staged.", id="first", expires_at=clock.after(5))
        with db.transaction():
            db.append(secret, id="secret", expires_at=clock.after(3))
            clock.advance(6)
            assert db.complete("It expires").text == ""  # the memory now stands at a time after both
        assert look(db, secret, "secret") == never
        assert db.check().ok
        assert db.sweep().verified
        assert look(db, secret, "secret") == never


def test_an_expiry_that_is_moved_as_it_comes(
    exact: Stores, filled: Stores, look: Look, secret: str, clock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment lies between the call that puts it off and its commit, and a reader has looked in between."""
    with (
        filled(exact(tmp_path / "s"), expires_at=clock.after(60)) as db,
        memodb.connect(tmp_path / "s", read_only=True) as reader,
    ):
        assert reader.digest() == db.digest()
        record = AuditLog.record

        def late(*arguments: Any, **named: Any) -> None:
            clock.advance(61)
            reader.digest()
            record(*arguments, **named)

        monkeypatch.setattr(AuditLog, "record", late)
        db.set_expiry(clock.after(1000), "secret")
        assert look(reader, secret, "secret") == look(db, secret, "secret")
        assert db.check().ok
        assert reader.check().ok


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "expiry", "never", "advance", "delete", "sweep", "quarantine", "release", "reload"]),
        st.integers(0, 4),
        st.integers(1, 9),
    ),
    max_size=14,
)


@settings(max_examples=4)
@given(steps=STEPS)
def test_any_history_leaves_the_memory_of_what_is_visible(
    fresh: Stores, prose: Callable[..., str], tmp_path_factory: pytest.TempPathFactory, steps: Any
) -> None:
    _lives(fresh, prose, tmp_path_factory, steps)


@pytest.mark.stress
@settings(max_examples=400)
@given(steps=STEPS)
def test_any_history_at_length(
    fresh: Stores, prose: Callable[..., str], tmp_path_factory: pytest.TempPathFactory, steps: Any
) -> None:
    _lives(fresh, prose, tmp_path_factory, steps)


def _lives(fresh: Stores, prose: Callable[..., str], tmp_path_factory: pytest.TempPathFactory, steps: Any) -> None:
    """Against a dict of texts with their ends, and a memory that was given what is visible and nothing else."""

    class Now:
        at = time.time_ns() // 1000 * 1000

        def time_ns(self) -> int:
            return self.at

    now = Now()
    real, visibility.time = visibility.time, now
    path = tmp_path_factory.mktemp("expiry") / "s"

    def moment(seconds: int) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now.at // 1000, seconds=seconds)

    try:
        db = fresh(path)
        model: dict[str, tuple[str, datetime | None, bool]] = {}  # id to text, end, in quarantine
        visible: dict[str, str] = {}
        for number, (kind, which, seconds) in enumerate(steps):
            name = str(which)
            known = name in model
            shown = known and not model[name][2] and (model[name][1] or moment(1)) > moment(0)
            if kind == "append" and not known:
                text = prose(12, number)
                end = moment(seconds) if which % 2 else None
                db.append(text, id=name, expires_at=end)
                model[name] = (text, end, False)
            elif kind in ("expiry", "never") and shown:
                end = moment(seconds) if kind == "expiry" else None
                db.set_expiry(end, name)
                model[name] = (model[name][0], end, False)
            elif kind == "advance":
                now.at += seconds * 10**9
            elif kind == "delete" and known:
                assert db.delete(name).verified
                del model[name]
            elif kind == "sweep":
                over = [n for n, (_, end, _) in model.items() if end is not None and end <= moment(0)]
                if over:
                    assert sorted(db.sweep().documents) == sorted(over)
                model = {n: found for n, found in model.items() if n not in over}
            elif kind == "quarantine" and shown:
                db.quarantine(name)
                model[name] = (*model[name][:2], True)
            elif kind == "release" and known and model[name][2]:
                db.release(name)
                model[name] = (*model[name][:2], False)
            elif kind == "reload":
                db.checkpoint()
                db.close()
                db = fresh(path)
            visible = {n: t for n, (t, end, aside) in model.items() if not aside and (end or moment(1)) > moment(0)}
            assert {record["id"]: record["text"] for record in db.export()} == visible
            assert db.stats().tokens == sum(len(db.tokenizer.encode(text)) for text in visible.values())
            held = sum(segment.tokens for segment in db.stats().segments)
            assert held == db.stats().tokens
        with fresh() as other:
            other.append_many([{"id": n, "text": t} for n, t in sorted(visible.items())])
            db.compact()
            other.compact()
            assert db.digest() == other.digest()
        assert db.check().ok
        db.close()
    finally:
        visibility.time = real
