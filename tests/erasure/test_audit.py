"""The audit log: what was done stands in it, in order, and nobody's name; the ledger, its mirror, is never behind."""

import base64
import hashlib
import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memodb
from memodb import proof
from memodb.collection.auditing import AuditLog
from memodb.storage import Ledger

Stores = Callable[..., memodb.Store]


def ops(db: memodb.Store) -> list[str]:
    return [entry.op for entry in db.audit()]


def test_every_operation_leaves_its_entries(exact: Stores, filled: Stores, clock: Any, tmp_path: Path) -> None:
    end = clock.after(60)
    with filled(exact(tmp_path / "s", actor="dpo-2")) as db:
        secret, zero, near = (db.pseudonym(name) for name in ("secret", "0", "near"))
        start = len(ops(db))

        def fresh() -> list[tuple[str, str | None, str | None, Any]]:
            nonlocal start
            entries = list(db.audit(start))
            assert [entry.seq for entry in entries] == list(range(start, start + len(entries)))
            assert {entry.actor for entry in entries} <= {"dpo-2"}
            assert all(entry.collection in (None, db._collection.id) for entry in entries)
            start += len(entries)
            return [(entry.op, entry.id, entry.reason, entry.until) for entry in entries]

        assert ops(db) == ["key"]
        db.hold("case-1", "secret")
        assert fresh() == [("hold", secret, "case-1", None)]
        list(db.export_held("case-1"))
        assert fresh() == [("hold_export", None, "case-1", None)]
        receipt = db.delete("secret", reason="ticket-1")
        assert fresh() == [
            ("requested", receipt.id, "ticket-1", None),
            ("hidden", secret, None, None),
            ("held_back", secret, None, None),
        ]
        db.release_hold("case-1")
        assert fresh() == [("hold_released", secret, "case-1", None), ("erased", receipt.id, "ticket-1", None)]
        db.quarantine("0", reason="case-2")
        db.release("0", reason="case-3")
        assert fresh() == [("quarantine", zero, "case-2", None), ("quarantine_released", zero, "case-3", None)]
        db.set_expiry(end, "near")
        clock.advance(61)
        swept = db.sweep("retention-1")
        assert fresh() == [
            ("expiry", near, None, end),
            ("sweep", None, "retention-1", None),
            ("requested", swept.id, "retention-1", None),
            ("hidden", near, None, None),
            ("erased", swept.id, "retention-1", None),
        ]
        found = db.suppress("a text", until=clock.after(9))
        with pytest.raises(memodb.Suppressed):
            db.append("A text")
        assert db.end_suppression("a  text")
        assert fresh() == [
            ("suppress", found, None, clock.after(9)),
            ("refused", found, None, None),
            ("suppression_ended", found, None, None),
        ]
        list(db.export_subject("keeper"))
        assert fresh() == [("subject_export", db.pseudonym("keeper"), None, None)]
        taken = db.backup(tmp_path / "b", keep_until=end)
        db.backup_destroyed(taken.id)
        assert fresh() == [("backup", taken.id, None, end), ("backup_destroyed", taken.id, None, None)]
        db.delete("0", dry_run=True)
        list(db.export())
        assert fresh() == []
        times = [entry.time for entry in db.audit(1)]
        assert sorted(times) == times


def _undone(db: memodb.Store) -> None:
    with db.transaction():
        db.delete("secret")
        db.quarantine("near")
        raise ZeroDivisionError


def test_a_rolled_back_operation_leaves_none(exact: Stores, filled: Stores) -> None:
    with filled(exact()) as db:
        with pytest.raises(ZeroDivisionError):
            _undone(db)
        for call in (db.delete, db.quarantine, db.release, db.release_hold):
            with pytest.raises(memodb.NotFound):
                call("nobody")
        assert not db.end_suppression("never suppressed")
        assert ops(db) == []


def test_a_reason_in_words_stands_in_the_receipt_alone(exact: Stores, prose: Callable[..., str]) -> None:
    with exact() as db:
        for reason in ("Mrs Miller asked", "", "UPPER", "x" * 65, "ünder"):
            db.append_many([{"id": name, "text": prose(9, len(name))} for name in ("one", "other")])
            receipt = db.delete("one", reason=reason)
            assert receipt.verified
            assert db.receipt(receipt.id)["statement"]["reason"] == reason
            db.quarantine("other", reason=reason)
            db.release("other", reason=reason)
        assert {entry.reason for entry in db.audit()} == {None}


@pytest.mark.parametrize("actor", ["Mrs Miller", "", 5, "A"])
def test_an_actor_is_a_code(exact: Stores, tmp_path: Path, actor: Any) -> None:
    with pytest.raises(memodb.InvalidInput):
        exact(tmp_path / "s", actor=actor)
    assert not (tmp_path / "s").exists()


# -- no personal data ----------------------------------------------------------------------------------------------

MARK = 8


def traces(mark: str) -> Iterator[bytes]:
    """What of a personal string must not stand anywhere: its windows, in encodings that fit, and its plain hashes."""
    data = mark.encode()
    for form in (mark, mark.upper(), mark.lower()):
        for at in range(len(form) - MARK + 1):
            window = form[at : at + MARK]
            yield window.encode()
            yield json.dumps(window)[1:-1].encode()
    yield data.hex().encode()
    for cut in range(3):
        yield base64.b64encode(data[cut : cut + 3 * ((len(data) - cut) // 3)])
    for name in ("md5", "sha1", "sha256", "blake2b", "blake2s", "sha3_256", "sha512"):
        digest = hashlib.new(name, data).digest()
        yield digest[:8]
        yield digest.hex()[:16].encode()
    for size in (8, 16, 32):
        yield hashlib.blake2b(data, digest_size=size).digest()[:8]
        yield hashlib.blake2b(data, digest_size=size).hexdigest()[:16].encode()


# No vowels of English, and no code: what a receipt says in its own words must not look like somebody's name.
MARKS = st.lists(
    st.text(st.sampled_from("bcdfghjklmnpqrstvwxzäöüßéø @.BKQZ"), min_size=10, max_size=24)
    .filter(lambda text: text.strip() == text and len(set(text)) > 5)
    .map(lambda text: f"Ä{text}"),
    min_size=8,
    max_size=8,
    unique=True,
)
CALLS = st.lists(
    st.sampled_from(
        ["delete", "hold", "release_hold", "quarantine", "release", "suppress", "subject", "refuse", "trans"]
    ),
    min_size=3,
    max_size=10,
)


def _says_nothing(path: Path, fresh: Stores, marks: list[str], calls: list[str], seed: int) -> None:
    text, other, name, source, subject, writer, key, reason = marks
    with fresh(path) as db:
        receipts = []
        for number, call in enumerate(calls):
            document_id = f"{name} {number}"
            db.append(
                f"{text} {number} {other}",
                id=document_id,
                source=source,
                subject=subject,
                writer=writer,
                metadata={key: other},
            )
            if call == "delete":
                receipts.append(db.delete(document_id, reason=reason))
            elif call == "trans":
                with db.transaction():
                    db.delete(document_id)
            elif call == "hold":
                db.hold("case-1", document_id)
            elif call == "release_hold" and db.holds():
                db.release_hold("case-1")
            elif call == "quarantine":
                db.quarantine(document_id, reason=reason)
            elif call == "release" and db.quarantined():
                db.release(db.quarantined()[0].id, reason=reason)
            elif call == "subject":
                list(db.export_subject(subject))
            elif call in ("suppress", "refuse"):
                db.suppress(f"{text} {seed + number}")
                if call == "refuse":
                    with pytest.raises(memodb.Suppressed):
                        db.append(f" {text.upper()} {seed + number}")
        stream = io.BytesIO()
        db.export_audit(stream)
        told = [entry.to_bytes() for entry in db.audit()]
        told += [stream.getvalue(), json.dumps(db.audit_head()).encode()]
        assert len(told[0]) > 50
        kept = []
        for erasure in db.erasures():
            signed = db.receipt(erasure.id)
            if signed["statement"]["reason"] is not None:
                assert signed["statement"].pop("reason") == reason  # as it was given, and nowhere else
            assert erasure.reason in (reason, None)
            kept += [json.dumps(signed).encode(), json.dumps(signed, ensure_ascii=False).encode()]
    kept += [file.read_bytes() for file in (path / "ledger").iterdir()]
    raw = sqlite3.connect(path / "catalog.db")
    for table in ("audit", "hold", "suppression", "backup", "doomed_key"):
        for row in raw.execute(f"SELECT * FROM {table}"):
            kept += [value if isinstance(value, bytes) else str(value).encode() for value in row]
    kept += [
        value if isinstance(value, bytes) else str(value).encode()
        for row in raw.execute("SELECT id, collection_id, state, pseudonyms FROM erasure")
        for value in row
    ]
    raw.close()
    haystack = b"\n".join(told + kept)
    pieces = [*marks, *(f"{name} {n}" for n in range(len(calls))), *(f"{text} {n} {other}" for n in range(len(calls)))]
    for mark in pieces:
        for trace in traces(mark):
            assert trace not in haystack, (mark, trace)


@settings(max_examples=3)
@given(marks=MARKS, calls=CALLS, seed=st.integers(100, 999))
def test_nothing_personal_is_ever_told(
    fresh: Stores, tmp_path_factory: pytest.TempPathFactory, marks: list[str], calls: list[str], seed: int
) -> None:
    _says_nothing(tmp_path_factory.mktemp("audit") / "s", fresh, marks, calls, seed)


@pytest.mark.stress
@settings(max_examples=150)
@given(marks=MARKS, calls=CALLS, seed=st.integers(100, 999))
def test_nothing_personal_is_ever_told_at_length(
    fresh: Stores, tmp_path_factory: pytest.TempPathFactory, marks: list[str], calls: list[str], seed: int
) -> None:
    _says_nothing(tmp_path_factory.mktemp("audit") / "s", fresh, marks, calls, seed)


# -- the mirror ----------------------------------------------------------------------------------------------------


def lines(path: Path) -> list[bytes]:
    return (path / "ledger" / "log.jsonl").read_bytes().splitlines()


def test_the_ledger_is_never_behind_an_answer(exact: Stores, filled: Stores, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with filled(exact(path)) as db:
        for call in (
            lambda: db.hold("case-1", "0"),
            lambda: db.release_hold("case-1"),
            lambda: db.quarantine("0"),
            lambda: db.release("0"),
            lambda: db.suppress("a text"),
            lambda: db.end_suppression("a text"),
            lambda: list(db.export_subject("keeper")),
            lambda: db.delete("secret", verify=False),
            lambda: db.delete("0"),
            lambda: db.backup(tmp_path / "b"),
        ):
            before = len(lines(path))
            call()
            assert lines(path) == [entry.to_bytes() for entry in db.audit()]
            assert len(lines(path)) > before


def test_a_crash_before_mirroring_is_caught_up(
    exact: Stores, filled: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    def dies(*_: Any) -> None:
        raise Crash

    def full(*_: Any) -> None:
        raise memodb.DiskFull("no space")

    path = tmp_path / "s"
    with filled(exact(path)) as db:
        for call in (lambda: db.hold("case-1", "0"), lambda: db.quarantine("1")):
            with monkeypatch.context() as patch:
                patch.setattr(Ledger, "append", dies)
                with pytest.raises(Crash):
                    call()
        assert len(lines(path)) < len(ops(db))
    with memodb.connect(path, read_only=True) as reader:
        assert "1" not in reader
    with exact(path) as db:
        assert lines(path) == [entry.to_bytes() for entry in db.audit()]
        assert {"hold", "quarantine"} <= set(ops(db))
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "append", full)
            with pytest.raises(memodb.DiskFull):
                db.hold("case-2", "2")
        db.append("the next operation mirrors it", id="next")
        db.hold("case-3", "2")
        assert lines(path) == [entry.to_bytes() for entry in db.audit()]


def test_a_ledger_that_does_not_confirm_a_line_poisons_the_handle(
    exact: Stores, filled: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled(exact(tmp_path / "s")) as db:
        with monkeypatch.context() as patch:

            def unsure(*_: Any) -> None:
                raise memodb.SyncFailed("not confirmed")

            patch.setattr(Ledger, "append", unsure)
            with pytest.raises(memodb.SyncFailed):
                db.hold("case-1", "0")
        with pytest.raises(memodb.SyncFailed):
            len(db)
    with exact(tmp_path / "s") as db:
        assert [each.name for each in db.holds()] == ["case-1"]


# -- offline -------------------------------------------------------------------------------------------------------


def exported(db: memodb.Store) -> bytes:
    stream = io.BytesIO()
    assert db.export_audit(stream) == len(ops(db))
    return stream.getvalue()


def test_an_export_verifies_and_heads_extend_each_other(exact: Stores, filled: Stores, tmp_path: Path) -> None:
    with filled(exact(tmp_path / "s")) as db:
        key = db.public_key.encode()
        heads = [db.audit_head()]
        for name in ("secret", "near", "0"):
            db.delete(name)
            heads.append(db.audit_head())
        log = exported(db)
        assert db.export_audit(tmp_path / "log.jsonl") == len(ops(db))
        assert [head["size"] for head in heads] == sorted(head["size"] for head in heads)
    assert (tmp_path / "log.jsonl").read_bytes().splitlines()[1:] == log.splitlines()[1:] == lines(tmp_path / "s")
    for head in heads:
        verdict = proof.verify_log(io.BytesIO(log), public_key=key, earlier=head)
        assert (verdict.valid, verdict.trusted, verdict.extends) == (True, True, True)
    with exact(tmp_path / "s") as db:
        db.delete("1")
        longer = exported(db)
        assert db.public_key.encode() == key
    assert proof.verify_log(io.BytesIO(longer), public_key=key, earlier=heads[-1]).extends
    assert not proof.verify_log(
        io.BytesIO(log), public_key=key, earlier=json.loads(longer.split(b"\n")[0])["head"]
    ).valid


def test_every_edit_drop_and_swap_of_a_line_is_seen(exact: Stores, filled: Stores) -> None:
    with filled(exact()) as db:
        for name in ("secret", "near"):
            db.delete(name, reason="ticket-1")
        log, key = exported(db), db.public_key.encode()
    assert proof.verify_log(io.BytesIO(log), public_key=key).valid
    pieces = log.splitlines(keepends=True)
    forged = [pieces[:at] + pieces[at + 1 :] for at in range(len(pieces))]
    forged += [[*pieces[:at], pieces[at + 1], pieces[at], *pieces[at + 2 :]] for at in range(1, len(pieces) - 1)]
    forged += [[*pieces, pieces[-1]], pieces[:-1]]
    for at in range(1, len(pieces)):
        for field, value in json.loads(pieces[at]).items():
            edited = {**json.loads(pieces[at]), field: "erased" if field == "op" and value != "erased" else "key"}
            if field == "seq":
                edited["seq"] = value + 1
            line = json.dumps(edited, sort_keys=True, separators=(",", ":")).encode() + b"\n"
            forged.append([*pieces[:at], line, *pieces[at + 1 :]])
    assert len(forged) > 50
    for lines_ in forged:
        assert not proof.verify_log(io.BytesIO(b"".join(lines_)), public_key=key).valid


def test_a_line_that_was_changed_in_the_catalog_is_not_served(exact: Stores, filled: Stores, tmp_path: Path) -> None:
    with filled(exact(tmp_path / "s")) as db:
        db.delete("secret")
        db.delete("near")
        head, key = db.audit_head(), db.public_key.encode()
    raw = sqlite3.connect(tmp_path / "s" / "catalog.db")
    (line,) = raw.execute("SELECT entry FROM audit WHERE seq = 2").fetchone()
    raw.execute("UPDATE audit SET entry = ? WHERE seq = 2", (line.replace(b'"hidden"', b'"sweep"'),))
    raw.commit()
    raw.close()
    with exact(tmp_path / "s") as db:
        assert not db.check().ok
        log = exported(db)  # signed anew: who kept an earlier head knows
    assert not proof.verify_log(io.BytesIO(log), public_key=key, earlier=head).valid


def test_in_memory_there_is_a_log_and_no_ledger(exact: Stores, filled: Stores) -> None:
    with filled(exact()) as db:
        assert db.delete("secret").verified
        assert proof.verify_log(io.BytesIO(exported(db)), public_key=db.public_key.encode()).valid
        assert isinstance(db._engine.audit, AuditLog)
        with pytest.raises(memodb.InvalidInput, match="ledger"):
            exact(ledger="somewhere")
