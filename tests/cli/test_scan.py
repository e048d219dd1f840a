"""`scan`: of a text, and of a receipt; what it is given is never mistaken for the other."""

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

import memodb
from memodb import proof
from memodb.cli.deleting import signed_bytes
from memodb.cli.receipts import parsed
from memodb.cli.scanning import _MARK

Call = Callable[..., Result]
Told = Callable[..., Any]

SKY = "The sky over the harbour was the colour of slate."
NEVER = "A text that nobody ever stored anywhere near this store."


def receipt_of(store: Path, name: str = "receipt.json") -> Path:
    """Delete a document; a file with its receipt."""
    with memodb.connect(store) as db:
        signed = db.delete("sky").signed
    file = store.parent / name
    file.write_text(json.dumps(signed, indent=1))
    return file


def test_of_a_text_however_it_is_given(store: Path, call: Call, told: Told) -> None:
    file = store.parent / "text"
    file.write_text(SKY)
    found = told("scan", store, "--file", file, code=1)
    assert (found["clean"], found["stored"]) == (False, ["default/sky"])
    assert "stored whole in default/sky" in call("scan", "--for", SKY, code=1).stdout
    file.write_text(NEVER)
    for line in (["--for", NEVER], ["--file", file], ["--file", "-"]):
        said = call("scan", *line, stdin=NEVER).stdout
        assert said.endswith("nothing of it is left\n")


def test_the_store_that_is_named_is_searched(store: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call("init", "-p", store.parent / "other")
    call("scan", store.parent / "other", "--for", SKY)
    monkeypatch.delenv("MEMODB_PATH")
    call("scan", store, "--for", SKY, code=1)
    call("scan", "--for", SKY, code=2)
    call("scan", store.parent / "none", "--for", SKY, code=4)


def test_of_a_receipt_however_it_is_given(store: Path, call: Call, told: Told) -> None:
    file = receipt_of(store)
    page = store.parent / "receipt.html"
    call("receipt", "page", file, "-o", page)
    for line in (["--for", file], ["--file", file], ["--for", page], ["--file", "-"]):
        seen = told("scan", store, *line, stdin=file.read_bytes())
        assert (seen["clean"], seen["findings"]) == (True, [])
        assert seen["id"] == json.loads(file.read_text())["statement"]["id"]
    shown = call("scan", "--for", file).stdout
    assert shown.startswith("checked: ")
    assert shown.endswith("what the receipt states is true of the store\n")


def test_a_receipt_that_is_not_true_of_the_store(store: Path, call: Call) -> None:
    before = store.parent / "before"
    with memodb.connect(store) as db:
        db.backup(before)
    file = receipt_of(store)
    call("init", "-p", store.parent / "other")
    assert "another store" in call("scan", store.parent / "other", "--for", file, code=1).stdout
    restored = store.parent / "restored"
    call("restore", before, "-p", restored, "--without-ledger")  # which brings it back
    said = call("scan", restored, "--for", file, code=1).stdout
    assert "found: the document 'sky' is in the catalog" in said
    assert said.endswith("NOT TRUE of the store\n")


def test_a_damaged_receipt_is_never_searched_for_as_a_text(store: Path, call: Call) -> None:
    file = receipt_of(store)
    page = store.parent / "receipt.html"
    call("receipt", "page", file, "-o", page)
    whole, shown = file.read_bytes(), page.read_bytes()
    document = json.loads(whole)
    for damaged in (whole[:-9], whole[: len(whole) // 2], shown[:-30], shown.replace(b"1 document", b"2 documents")):
        file.write_bytes(damaged)
        call("scan", "--for", file, code=3)
    changes: list[dict[str, Any]] = [{"reason": "another"}, {"documents": []}]
    for changed in changes:
        file.write_text(json.dumps({**document, "statement": {**document["statement"], **changed}}))
        assert "signature" in call("scan", "--for", file, code=3).stderr


@pytest.mark.parametrize("part", ["audit", "statement", "signature"])
@pytest.mark.parametrize("value", [None, 5, "x", [], {}, {"head": 1}])
def test_a_hostile_receipt_is_no_defect(part: str, value: Any, store: Path, call: Call) -> None:
    document = json.loads(receipt_of(store).read_text())
    file = store.parent / "hostile.json"
    file.write_text(json.dumps({**document, part: value}))
    assert call("scan", "--for", file, code=None).exit_code in (1, 3)


SIGNER = proof.Signer(proof.new_key())


@given(
    reason=st.none() | st.text(st.characters(codec="utf-8"), max_size=40),
    documents=st.lists(st.text(string.hexdigits.lower(), min_size=32, max_size=32), max_size=3),
    name=st.sampled_from(["r", "r.json", "r.html", "r.HTM", ".html"]),
)
def test_every_receipt_is_known_as_one_in_every_form(reason: str | None, documents: list[str], name: str) -> None:
    statement = {"id": "ab" * 16, "documents": documents, "reason": reason, "verified": False}
    made = proof.signed(statement, SIGNER)
    data = signed_bytes(Path(name), made)
    assert _MARK in data.decode()
    assert parsed(data) == made
    assert _MARK in json.dumps(made)
    assert data.startswith(b"<" if Path(name).suffix.lower() in (".html", ".htm") else b"{")


def test_a_file_is_not_taken_for_a_text(store: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.parent)
    Path("forgotten.txt").write_text(NEVER)
    assert "--file" in call("scan", "--for", "forgotten.txt", code=2).stderr
    call("scan", "--for", f"{NEVER} {'/x' * 3000}")  # no name of a file is so long
    call("scan", "--for", "short", code=3)
    for line in ([], ["--for", NEVER, "--file", "forgotten.txt"]):
        call("scan", *line, code=2)
    call("scan", "--file", "nowhere", code=7)
    Path("bytes").write_bytes(b"ab\xff")
    call("scan", "--file", "bytes", code=3)
