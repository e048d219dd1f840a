"""What a receipt claims is what somebody finds who looks for himself; where a layer lies, the receipt says so."""

import importlib
import json
import sqlite3
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import memodb
from memodb import proof
from memodb.catalog import Catalog, erasing, pragmas
from memodb.storage import KeyFile

deletion = importlib.import_module("memodb.erasure.deletion")
opening = importlib.import_module("memodb.opening")

Stores = Callable[..., memodb.Store]
Valid = Callable[..., dict[str, Any]]
SLOT = 64


@pytest.fixture
def before_the_look(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], object]], None]:
    """Do something behind the store's back when the deletion is done, and before anybody looks whether it is."""
    conclude = deletion.conclude

    def arrange(action: Callable[[str], object]) -> None:
        def first(collection: Any, erasure_id: str, **named: Any) -> Any:
            monkeypatch.setattr(deletion, "conclude", conclude)
            action(erasure_id)
            return conclude(collection, erasure_id, **named)

        monkeypatch.setattr(deletion, "conclude", first)

    return arrange


def raw(path: Path) -> sqlite3.Connection:
    found = sqlite3.connect(path / "catalog.db")
    found.create_function("memodb_seal", -1, lambda *_: b"")
    return found


def results(statement: dict[str, Any]) -> dict[str, str]:
    return {name: layer["result"] for name, layer in statement["layers"].items() if layer is not None}


def failing(statement: dict[str, Any]) -> set[str]:
    assert not statement["verified"]
    assert "verified" not in statement["states"]
    return {name for name, result in results(statement).items() if result in ("failed", "not verified", "held")}


def test_every_claim_is_true(exact: Stores, filled: Stores, valid: Valid, secret: str, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with filled(exact(path), metadata={"about": secret[:30]}) as db:
        db.checkpoint()
        catalog = raw(path)
        keys = [key for (key,) in catalog.execute("SELECT key FROM document WHERE id IN ('secret', 'near')")]
        keys += [key for (key,) in catalog.execute("SELECT tile_key FROM segment")]
        catalog.close()
        tiles = {file.name for file in (path / "segments").iterdir()}
        before = [db.digest(), *(segment.digest() for segment in db._collection._memory.segments.values())]
        tokens = db.get("secret").token_count + db.get("near").token_count
        receipt = db.delete(source="letter", reason="He asked us, orally.", scan=True)
        assert receipt.verified
        statement = valid(db, receipt.signed)
        assert statement == valid(db, db.receipt(receipt.id))
        (erasure,) = db.erasures()
        entry = list(db.audit())[-1]
        digests = [segment.digest() for segment in db._collection._memory.segments.values()]
        never = exact()
        for n in range(4):
            never.append(db.text(str(n)), id=str(n))
        assert [each.digest() for each in never._collection._memory.segments.values()] == digests
        never.close()
        expected = sorted([db.pseudonym("secret"), db.pseudonym("near")])
    # from here on by other means than the store's
    assert statement["id"] == receipt.id == erasure.id
    assert statement["documents"] == expected == list(erasure.documents)
    assert statement["tokens"] == receipt.tokens == tokens
    assert (statement["reason"], statement["selected_by"]) == ("He asked us, orally.", ["source"])
    times = [statement["states"][state] for state in proof.STATES]
    assert all(one <= other for one, other in pairwise(times))
    assert (statement["requested_at"], statement["completed_at"]) == (times[0], times[-1])
    assert results(statement) == {**dict.fromkeys(statement["layers"], "verified"), "backups": "none"}
    layers = statement["layers"]
    assert [(each["digest"], each["rebuilt_digest"], each["compared"]) for each in layers["memory"]["segments"]] == [
        (digests[0], digests[0], True)
    ]
    catalog = raw(path)
    rows = catalog.execute("SELECT count(*) FROM document WHERE source = 'letter' OR state <> 'live'").fetchone()[0]
    assert layers["catalog"]["rows_left"] == rows == 0
    assert layers["catalog"]["free_pages"] == catalog.execute("PRAGMA freelist_count").fetchone()[0] == 0
    named = {name for (name,) in catalog.execute("SELECT tile FROM segment")}
    catalog.close()
    there = {file.name for file in (path / "segments").iterdir()}
    assert there == named
    assert layers["tiles"]["overwritten"] == len(tiles - there) == 1
    assert layers["tiles"]["files_left"] == len(there - named) == 0
    assert layers["journal"]["mode"] == pragmas.journal_mode()
    journals = [path / "catalog.db-journal", path / "catalog.db-wal"]
    assert layers["journal"]["nbytes"] == sum(file.stat().st_size for file in journals if file.exists()) == 0
    slots = (path / "keys").read_bytes()
    for key in keys:
        slot = int.from_bytes(key[:8], "big")
        assert slots[slot * SLOT : (slot + 1) * SLOT] == bytes(SLOT)
        assert key[8:] not in slots
    assert (layers["keys"]["destroyed"], layers["keys"]["readable"]) == (len(keys), 0)
    assert layers["keys"]["service"] == "key file"
    assert (layers["scan"]["hits"], layers["scan"]["answered"]) == (0, 0)
    assert layers["scan"]["files"] >= 7
    assert layers["scan"]["control"] >= 2 * len(layers["scan"]["encodings"]) >= 20
    assert statement["pragmas"]["secure_delete"] == 1
    assert statement["versions"]["sqlite"] == sqlite3.sqlite_version
    line = (path / "ledger" / "log.jsonl").read_bytes().splitlines()[entry.seq]
    assert receipt.signed is not None
    assert receipt.signed["audit"]["entry"].encode() == line == entry.to_bytes()
    told = json.dumps(receipt.signed)
    # with what the memory was before, anybody could test a guess at the text
    assert not any(piece in told for piece in (*before, *tiles, secret[:12], "near", "keeper", "letter"))


def test_no_key_and_no_row_of_what_stays_is_touched(exact: Stores, filled: Stores, tmp_path: Path) -> None:
    with filled(exact(tmp_path / "s")) as db:
        texts = {document.id: db.text(document.id) for document in db.documents() if document.id != "secret"}
        db.delete("secret")
        assert {document.id: db.text(document.id) for document in db.documents()} == texts


def test_without_verification_it_claims_less_and_more_later(
    exact: Stores, filled: Stores, valid: Valid, tmp_path: Path
) -> None:
    with filled(exact(tmp_path / "s")) as db:
        receipt = db.delete("secret", verify=False)
        assert receipt.committed
        assert not receipt.verified
        statement = valid(db, receipt.signed)
        assert failing(statement) == {"memory"}
        assert receipt.signed is not None
        assert receipt.signed["audit"] is None
        assert [entry.op for entry in db.audit()] == ["key", "requested", "hidden"]
        (erasure,) = db.erasures()
        assert erasure.state == "key_destroyed"
        db.append("what came since", id="since")
        with memodb.connect(tmp_path / "s", read_only=True) as reader, pytest.raises(memodb.ReadOnlyStore):
            reader.receipt(receipt.id)
        assert valid(db, db.receipt(receipt.id))["verified"]
        assert db.erasures()[0].state == "verified"
        with memodb.connect(tmp_path / "s", read_only=True) as reader:
            assert reader.receipt(receipt.id) == db.receipt(receipt.id)
        with pytest.raises(memodb.NotFound):
            db.receipt("0" * 32)


def test_in_memory(exact: Stores, filled: Stores, valid: Valid) -> None:
    with filled(exact()) as db:
        statement = valid(db, db.delete("secret").signed)
        assert statement["verified"]
        assert statement["layers"]["keys"]["service"] == "memory"
        assert statement["layers"]["journal"]["mode"] == "memory"
        with pytest.raises(memodb.InvalidInput, match="no files"):
            db.delete("near", scan=True)
        assert "near" in db


def _undone(db: memodb.Store) -> None:
    with db.transaction():
        db.delete("near")
        raise ZeroDivisionError


def test_in_a_transaction(exact: Stores, filled: Stores, valid: Valid, tmp_path: Path) -> None:
    with filled(exact(tmp_path / "s")) as db:
        with db.transaction():
            db.append("instead", id="instead")
            db.delete("secret", reason="ticket-9")
            staged = db.delete(source="ordinary")
            assert (staged.committed, staged.verified, staged.signed) == (False, False, None)
            assert db.erasures() == []
            with pytest.raises(memodb.InvalidInput, match="scanned"):
                db.delete("near", scan=True)
        (erasure,) = db.erasures()
        statement = valid(db, db.receipt(erasure.id))
        assert statement["verified"]
        assert sorted(statement["documents"]) == sorted(db.pseudonym(name) for name in ("secret", *"0123"))
        with pytest.raises(ZeroDivisionError):
            _undone(db)
        assert len(db.erasures()) == 1
        assert "near" in db


def test_the_first_request_of_a_transaction_speaks_for_it(exact: Stores, filled: Stores) -> None:
    with filled(exact()) as db:
        with db.transaction():
            db.delete(subject="keeper", reason="ticket-9", verify=False)
            db.delete("near", reason="ticket-10")
        (erasure,) = db.erasures()
        assert erasure.reason == "ticket-9"
        assert [entry.reason for entry in db.audit() if entry.op == "requested"] == ["ticket-9"]
        statement = db.receipt(erasure.id)["statement"]
        assert statement["selected_by"] == ["subject"]


@pytest.mark.parametrize("damage", ["tokens", "seal", "slot"])
def test_what_is_damaged_is_deleted_like_anything(
    exact: Stores, filled: Stores, valid: Valid, tmp_path: Path, damage: str, never: Any
) -> None:
    """Nobody can read it any more; gone it must be all the same, and the memory exactly without it."""
    path = tmp_path / "s"
    with filled(exact(path)) as db:
        db.checkpoint()
    catalog = raw(path)
    ((key, tokens),) = catalog.execute("SELECT key, tokens FROM document WHERE id = 'secret'").fetchall()
    if damage == "seal":
        catalog.execute("UPDATE document SET seal = x'00' WHERE id = 'secret'")
        catalog.commit()
    catalog.close()
    place = int.from_bytes(key[:8], "big") * SLOT + 20
    for file, at in ((path / "keys", place), (path / "catalog.db", (path / "catalog.db").read_bytes().find(tokens))):
        if (file.name == "keys") == (damage == "slot") and damage != "seal":
            data = bytearray(file.read_bytes())
            data[at] ^= 1
            file.write_bytes(data)
    with exact(path) as db:
        with pytest.raises(memodb.CorruptStore):
            db.text("secret")
        assert valid(db, db.delete("secret").signed)["verified"]
        assert db.digest() == never["digest"]
        assert db.check().ok
        assert (path / "keys").read_bytes()[place - 20 : place - 20 + SLOT] == bytes(SLOT)


# -- each layer, lying ---------------------------------------------------------------------------------------------


def test_a_row_that_is_back(exact: Stores, filled: Stores, valid: Valid, before_the_look: Any, tmp_path: Path) -> None:
    """As it was while it was being erased: found, told, and removed by the next opening."""
    path = tmp_path / "s"
    with filled(exact(path)) as db:
        catalog = raw(path)
        row = catalog.execute("SELECT * FROM document WHERE id = 'secret'").fetchone()
        names = [each[1] for each in catalog.execute("PRAGMA table_info(document)")]
        catalog.close()

        def put_back(erasure_id: str) -> None:
            values = {**dict(zip(names, row, strict=True)), "state": "erasing", "erasure_id": erasure_id}
            with raw(path) as catalog:
                catalog.execute(f"INSERT INTO document VALUES ({','.join('?' * len(names))})", list(values.values()))
            catalog.close()

        before_the_look(put_back)
        receipt = db.delete("secret")
        assert not receipt.verified
        statement = valid(db, receipt.signed)
        assert failing(statement) == {"catalog"}
        assert statement["layers"]["catalog"]["rows_left"] == 1
        assert [entry.op for entry in db.audit()][-1] == "hidden"
    with exact(path) as db:
        assert valid(db, db.receipt(receipt.id))["verified"]


def test_a_live_row_that_is_back(exact: Stores, filled: Stores, before_the_look: Any, tmp_path: Path) -> None:
    """Its key is gone, so nobody can say that the memory is one of the documents that are left."""
    path = tmp_path / "s"
    with filled(exact(path)) as db:
        catalog = raw(path)
        row = catalog.execute("SELECT * FROM document WHERE id = 'secret'").fetchone()
        catalog.close()

        def put_back(_: str) -> None:
            with raw(path) as catalog:
                catalog.execute(f"INSERT INTO document VALUES ({','.join('?' * len(row))})", row)
            catalog.close()

        before_the_look(put_back)
        with pytest.raises(memodb.CorruptStore):
            db.delete("secret")
        (erasure,) = db.erasures()
        assert erasure.state == "key_destroyed"
        assert db.delete("secret").committed  # what cannot be read can be deleted
        assert db.receipt(erasure.id)["statement"]["verified"]


def test_a_memory_that_is_another(exact: Stores, filled: Stores, valid: Valid, before_the_look: Any) -> None:
    """One count of it, and nothing else: the one that answers is looked at, not another of the same documents."""
    with filled(exact()) as db:
        with db._collection.reading() as memory:
            (segment,) = memory.segments.values()

        def flip(_: str) -> None:
            segment.matrices[1].cells[7] ^= 1

        before_the_look(flip)
        receipt = db.delete("secret")
        assert not receipt.verified
        statement = valid(db, receipt.signed)
        assert failing(statement) == {"memory"}
        (proof,) = receipt.segments
        assert proof.compared
        assert proof.digest != proof.rebuilt_digest
        flip("")
        assert valid(db, db.receipt(receipt.id))["verified"]


def test_a_tile_that_is_back(exact: Stores, filled: Stores, valid: Valid, before_the_look: Any, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with filled(exact(path)) as db:
        db.checkpoint()
        (tile,) = (path / "segments").iterdir()
        old = tile.read_bytes()
        before_the_look(lambda _: tile.write_bytes(old))
        statement = valid(db, db.delete("secret").signed)
        assert failing(statement) == {"tiles"}
        assert statement["layers"]["tiles"]["files_left"] == 1
    with exact(path) as db:  # which sweeps such a file
        assert not tile.exists()
        (erasure,) = db.erasures()
        assert valid(db, db.receipt(erasure.id))["verified"]


def test_keys_that_were_not_destroyed(
    exact: Stores, filled: Stores, valid: Valid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    with filled(exact(path)) as db:
        with monkeypatch.context() as patch:
            patch.setattr(KeyFile, "destroy", lambda self, names: len(list(names)))
            with pytest.raises(memodb.StoreError, match="still has keys"):
                db.delete("secret")
        (erasure,) = db.erasures()
        assert erasure.state == "tiles_destroyed"
        statement = valid(db, db.receipt(erasure.id))
        assert failing(statement) == {"keys"}
        assert statement["layers"]["keys"]["readable"] == 1
    with exact(path) as db:
        assert valid(db, db.receipt(erasure.id))["verified"]


def test_a_journal_that_readers_kept(
    exact: Stores, filled: Stores, valid: Valid, secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In WAL mode pages from before the deletion stay in the log while somebody reads an older state."""
    monkeypatch.setattr(pragmas, "journal_mode", lambda *_: "wal")
    monkeypatch.setattr(opening, "journal_mode", lambda *_: "wal")
    path = tmp_path / "s"
    with filled(exact(path)) as db:
        monkeypatch.setattr(db._engine.catalog, "_timeout", 0.05)
        slow = raw(path)
        slow.execute("BEGIN")
        slow.execute("SELECT count(*) FROM document").fetchall()
        statement = valid(db, db.delete("secret").signed)
        slow.close()
        assert failing(statement) == {"journal"}
        assert statement["layers"]["journal"]["nbytes"] > 0
        assert statement["layers"]["journal"]["mode"] == "wal"


def test_a_journal_that_readers_gave_free(
    exact: Stores, filled: Stores, valid: Valid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled(exact(tmp_path / "s")) as db:
        with monkeypatch.context() as patch:
            patch.setattr(Catalog, "settle_journal", lambda self: 4152)
            receipt = db.delete("secret")
        assert failing(valid(db, receipt.signed)) == {"journal"}
        assert valid(db, db.receipt(receipt.id))["verified"]


def test_a_text_that_lies_around(exact: Stores, filled: Stores, valid: Valid, secret: str, tmp_path: Path) -> None:
    """Only the scan can know of it."""
    path = tmp_path / "s"
    with filled(exact(path)) as db:
        (path / "notes.tmp").write_text(f"copied by hand: {secret}")
        statement = valid(db, db.delete("secret", scan=True).signed)
        assert failing(statement) == {"scan"}
        assert statement["layers"]["scan"]["hits"] > 0
        (path / "notes.tmp").unlink()
        assert valid(db, db.receipt(statement["id"]))["verified"]


def test_backups_are_pending_until_they_are_destroyed(
    exact: Stores, filled: Stores, valid: Valid, clock: Any, tmp_path: Path
) -> None:
    with filled(exact(tmp_path / "s")) as db:
        until = clock.after(3600)
        taken = [db.backup(tmp_path / "1", keep_until=until)]
        clock.advance(1)
        taken.append(db.backup(tmp_path / "2"))
        clock.advance(1)
        receipt = db.delete("secret")
        clock.advance(1)
        db.backup(tmp_path / "3")  # was made without it
        pending = valid(db, receipt.signed)["layers"]["backups"]
        assert pending["result"] == "pending"
        assert [(each["id"], each["keep_until"]) for each in pending["pending"]] == [
            (taken[0].id, proof.timestamp(until)),
            (taken[1].id, None),
        ]
        (erasure,) = db.erasures()
        assert (erasure.state, erasure.backups_pending) == ("backups_pending", tuple(each.id for each in taken))
        db.backup_destroyed(taken[0].id)
        assert db.erasures()[0].backups_pending == (taken[1].id,)
        db.backup_destroyed(taken[1].id)
        statement = valid(db, db.receipt(receipt.id))
        assert statement["layers"]["backups"]["result"] == "none"
        assert statement["states"] == valid(db, receipt.signed)["states"]
        assert db.erasures()[0].state == "backups_purged"
        for unknown in (taken[0].id, "0" * 32):
            with pytest.raises(memodb.NotFound):
                db.backup_destroyed(unknown)
        ops = [entry.op for entry in db.audit()]
        assert [op for op in ops if op.startswith("backup")] == ["backup"] * 3 + ["backup_destroyed"] * 2


def test_a_backup_that_is_being_taken_is_told_of(
    exact: Stores, filled: Stores, valid: Valid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was copied before the deletion, and is still being checked when that is proven."""
    backup = importlib.import_module("memodb.backup")
    verified = backup._verified
    erased: list[str] = []
    with filled(exact(tmp_path / "s")) as db:

        def meanwhile(*arguments: Any) -> Any:
            if not erased:
                erased.append(db.delete("secret").id)
            return verified(*arguments)

        monkeypatch.setattr(backup, "_verified", meanwhile)
        taken = db.backup(tmp_path / "b")
        assert taken.documents == len(db) + 1
        (told,) = valid(db, db.receipt(erased[0]))["layers"]["backups"]["pending"]
        assert told["id"] == taken.id


def test_a_clock_that_goes_back_leaves_times_in_order(
    exact: Stores, filled: Stores, valid: Valid, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set back by an hour between each two states."""
    advance = erasing.advance

    def later(*arguments: Any) -> None:
        advance(*arguments)
        clock.advance(-3600)

    monkeypatch.setattr(erasing, "advance", later)
    with filled(exact()) as db:
        statement = valid(db, db.delete("secret").signed)
        times = [statement["states"][state] for state in proof.STATES]
        assert times == sorted(times)
        assert statement["verified"]


def test_a_dry_run_promises_nothing(exact: Stores, filled: Stores) -> None:
    with filled(exact()) as db:
        db.hold("case-1", "secret")
        listed = db.delete(source="letter", dry_run=True)
        assert (listed.documents, listed.held, listed.signed) == (("near", "secret"), ("secret",), None)
        assert db.erasures() == []
        assert [entry.op for entry in db.audit()] == ["hold"]


def test_every_edit_of_a_stored_receipt_is_seen(exact: Stores, filled: Stores) -> None:
    """The forms of tampering are those of tests/proof; here, with a receipt that a store made."""

    def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if isinstance(value, dict):
            return [p for key, item in value.items() for p in paths(item, (*at, key))] or [at]
        if isinstance(value, list):
            return [p for number, item in enumerate(value) for p in paths(item, (*at, number))] or [at]
        return [at]

    with filled(exact()) as db:
        receipt = db.delete("secret").signed
        assert receipt is not None
        key = db.public_key.encode()
    tried = 0
    for path in paths(receipt):
        edited = json.loads(json.dumps(receipt))
        place = edited
        for step in path[:-1]:
            place = place[step]
        value = place[path[-1]]
        place[path[-1]] = (
            not value
            if isinstance(value, bool)
            else value + 1
            if isinstance(value, int)
            else value[:-2] + ("A" if value[-2:-1] != "A" else "B") + value[-1:]
            if isinstance(value, str) and len(value) > 1
            else "x"
        )
        assert not proof.verify(edited, public_key=key).valid, path
        tried += 1
    assert tried > 60
