"""Suppression: what was asked never to come back is refused wherever a text comes in."""

import json
import shutil
import sqlite3
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import memodb
from memodb.collection.suppression import normalised

Stores = Callable[..., memodb.Store]


def refusals(db: memodb.Store) -> list[str | None]:
    return [entry.id for entry in db.audit() if entry.op == "refused"]


PATHS: dict[str, Callable[[memodb.Store, str], Any]] = {
    "append": lambda db, text: db.append(text),
    "append under its old id": lambda db, text: db.append(text, id="secret"),
    "append_many": lambda db, text: db.append_many([{"id": "first", "text": "it comes before"}, text, "and after"]),
    "append_many of exports": lambda db, text: db.append_many([{"id": "secret", "text": text, "state": "live"}]),
    "transaction": lambda db, text: _in_transaction(db, text),
    "another handle": lambda db, text: db.collection("default").append(text),
}


def _in_transaction(db: memodb.Store, text: str) -> None:
    with db.transaction():
        db.append("staged before", id="staged")
        db.append(text)


def test_every_write_path(exact: Stores, filled: Stores, secret: str, tmp_path: Path) -> None:
    with filled(exact(tmp_path / "s")) as db:
        assert db.delete("secret", suppress=True).verified
        (found,) = (entry.id for entry in db.audit() if entry.op == "suppress")
        for number, (name, write) in enumerate(PATHS.items()):
            before = {document.id for document in db.documents()}
            with pytest.raises(memodb.Suppressed, match="must not be stored again") as caught:
                write(db, secret)
            assert secret[:9] not in str(caught.value)
            assert set(refusals(db)) == {found}
            assert len(refusals(db)) > number
            added = {document.id for document in db.documents()} - before
            assert added == ({"first"} if name == "append_many" else set())  # a stream stores what came before
        assert db.check().ok
    with exact(tmp_path / "s") as db:
        for write in PATHS.values():
            with pytest.raises(memodb.Suppressed):
                write(db, secret)


def test_import_from_a_shell(exact: Stores, filled: Stores, secret: str, tmp_path: Path) -> None:
    from memodb.cli import main

    path = tmp_path / "s"
    with filled(exact(path)) as db:
        db.delete("secret", suppress=True)
    (tmp_path / "again.txt").write_text(secret.upper())
    (tmp_path / "lines.jsonl").write_text(json.dumps({"id": "secret", "text": secret}) + "\n")
    for arguments in (
        ["import", str(tmp_path / "again.txt")],
        ["import", str(tmp_path / "lines.jsonl")],
        ["append", "-", "--id", "x"],
    ):
        done = CliRunner().invoke(main, ["-p", str(path), *arguments], input=secret)
        assert done.exit_code not in (0, None), (arguments, done.output)
        assert "must not be stored" in done.output + done.stderr, done.output
    with exact(path) as db:
        assert len(db) == 5
        assert len(refusals(db)) >= 3


def test_a_restored_backup_and_a_set_back_directory_refuse_it_too(
    exact: Stores, filled: Stores, secret: str, tmp_path: Path
) -> None:
    path, ledger = tmp_path / "s", tmp_path / "ledger"
    with filled(exact(path, ledger=ledger)) as db:
        db.suppress("ended since, and allowed")
        db.backup(tmp_path / "b")
        db.delete("secret", suppress=True)
        db.end_suppression("ended since, and allowed")
    shutil.copytree(path, tmp_path / "copy")
    memodb.restore(tmp_path / "b", tmp_path / "restored", ledger=ledger)
    for place, named in ((tmp_path / "restored", None), (tmp_path / "copy", ledger)):
        with exact(place, ledger=named) as db:
            with pytest.raises(memodb.Suppressed):
                db.append(secret)
            db.append("ended since, and allowed")


SPELLINGS: dict[str, Callable[[str], str]] = {
    "case": str.upper,
    "blanks": lambda text: "  \n" + text.replace(" ", "\t \u00a0") + "\u2003",
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "compatible": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
}


def test_copies_up_to_spelling(exact: Stores) -> None:
    text = "Zoë wrote: the café of Ångström's is closed, 100 % of it."
    with exact() as db:
        db.suppress(text)
        for spelt in SPELLINGS.values():
            with pytest.raises(memodb.Suppressed):
                db.append(spelt(text))
        db.append(text.replace("closed", "open"))  # another text


@settings(max_examples=80)
@given(
    st.text(max_size=40),
    st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]),
    st.sampled_from([" ", "\t", "\r\n", "\u3000"]),
)
def test_normal_forms_of_one_text_are_one(text: str, form: Any, blank: str) -> None:
    spelt = unicodedata.normalize(form, text)
    spaced = blank + blank.join(spelt.split()) + blank
    assert normalised(spaced) == normalised(" ".join(text.split()))
    swapped = "".join(c.swapcase() if c.isascii() else c for c in text)
    assert normalised(swapped) == normalised(text)


@settings(max_examples=40)
@given(st.text(max_size=12), st.text(max_size=12))
def test_other_texts_are_others(one: str, other: str) -> None:
    """Only what a reader would take for the same words is taken for the same text."""
    if normalised(one) == normalised(other):
        squeezed = ["".join(unicodedata.normalize("NFKC", t).casefold().split()) for t in (one, other)]
        assert unicodedata.normalize("NFKC", squeezed[0]) == unicodedata.normalize("NFKC", squeezed[1])


def test_for_a_collection_and_for_a_time(exact: Stores, clock: Any, tmp_path: Path) -> None:
    with exact(tmp_path / "s") as db:
        other = db.collection("other")
        found = db.suppress("the text", until=clock.after(60))
        other.append("the text")
        assert other.suppress("the text") != found
        with pytest.raises(memodb.Suppressed):
            db.append("the text")
        clock.advance(60 - 1e-6)
        with pytest.raises(memodb.Suppressed):
            db.append("the text")
        clock.advance(1e-6)
        db.append("the text", id="1")
        db.suppress("the text")
        assert db.suppress("The  Text", until=clock.after(9)) == found  # the last word counts
        assert db.text("1") == "the text"  # what is stored already stays
        with pytest.raises(memodb.Suppressed):
            db.append("the text", id="1")
        assert db.end_suppression("THE TEXT")
        assert not db.end_suppression("the text")
        db.append("the text", id="2")
        for bad in (5, None, "\ud800"):
            with pytest.raises(memodb.InvalidInput):
                db.suppress(bad)  # type: ignore[arg-type]


def test_what_is_kept_tells_nothing_without_the_key(exact: Stores, secret: str, tmp_path: Path) -> None:
    """Two stores of one seed say different things of one text; a backup does not have the key."""
    hashes = []
    for name in ("a", "b"):
        with exact(tmp_path / name) as db:
            hashes.append(db.suppress(secret))
            db.backup(tmp_path / f"backup {name}")
        raw = sqlite3.connect(tmp_path / name / "catalog.db")
        ((kept,),) = raw.execute("SELECT hash FROM suppression").fetchall()
        raw.close()
        assert kept.hex() == hashes[-1]
        key = (tmp_path / name / "ledger" / "suppression.key").read_bytes()
        assert len(key) == 32
        assert not any(key in file.read_bytes() for file in (tmp_path / f"backup {name}").rglob("*") if file.is_file())
    assert hashes[0] != hashes[1]


def test_nothing_is_suppressed_by_a_deletion_that_was_not_made(exact: Stores, filled: Stores, secret: str) -> None:
    with filled(exact()) as db:
        db.delete("secret", suppress=True, dry_run=True)
        with pytest.raises(memodb.DocumentNotFound):
            db.delete("secret", "nobody", suppress=True)
        db.append(secret, id="twice")
        assert [entry.op for entry in db.audit()] == []


def _undone(db: memodb.Store) -> None:
    with db.transaction():
        db.delete("secret", suppress=True)
        raise ZeroDivisionError


def test_a_transaction_that_is_undone_suppresses_nothing(exact: Stores, filled: Stores, secret: str) -> None:
    with filled(exact()) as db:
        with pytest.raises(ZeroDivisionError):
            _undone(db)
        db.append(secret, id="twice")


def test_a_deletion_that_is_finished_later_is_suppressed_all_the_same(
    exact: Stores, filled: Stores, secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memodb.catalog import erasing

    def dies(*_: Any) -> None:
        raise memodb.StoreError("the disk is away")

    with filled(exact(tmp_path / "s")) as db, monkeypatch.context() as patch:
        patch.setattr(erasing, "advance", dies)
        with pytest.raises(memodb.StoreError):
            db.delete("secret", suppress=True)
    with exact(tmp_path / "s") as db:
        assert db.erasures()[0].state == "verified"
        with pytest.raises(memodb.Suppressed):
            db.append(secret)
