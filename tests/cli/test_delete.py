"""`delete`: nothing goes that was not named, shown and agreed to, and the receipt says what did."""

import json
import os
import pty
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import memodb

SKY = "The sky over the harbour was the colour of slate."
TOWN = "The sky over the town was the colour of milk."

Call = Callable[..., Result]
Told = Callable[..., Any]


def ids(store: Path) -> list[str]:
    with memodb.connect(store, read_only=True) as db:
        return sorted(d.id for d in db.documents())


def test_by_id_with_a_receipt(store: Path, call: Call, told: Told) -> None:
    receipt = told("delete", "sky", "--yes", "--reason", "asked for")
    assert ids(store) == ["town"]
    assert (receipt["documents"], receipt["reason"], receipt["committed"], receipt["verified"]) == (
        ["sky"], "asked for", True, True,
    )  # fmt: skip
    shown = call("delete", "town", "-y").stdout
    assert "deleted     1 document (12 tokens)\n" in shown
    assert "verified    yes\n" in shown
    assert "dropped: no document was left" in shown
    layers = {line.split()[0]: line.split()[1] for line in shown.split("LAYER")[1].splitlines()[1:7]}
    assert layers == dict.fromkeys(("memory", "catalog", "journal", "tiles", "keys"), "verified") | {"backups": "none"}
    assert "memodb receipt verify" in shown
    assert memodb.connect(store, read_only=True).stats().documents == 0
    call("delete", "town", "-y", code=4)


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        (["--source", "notebook"], []),
        (["--subject", "alice"], ["town"]),
        (["--writer", "bob"], ["sky"]),
        (["--batch", "monday"], ["sky"]),
        (["--metadata", "year=1987"], ["town"]),
        (["--created-after", "2001-01-01T00:00Z"], []),
    ],
)
def test_by_filters(filters: list[str], left: list[str], store: Path, told: Told) -> None:
    planned = told("delete", *filters, "--dry-run")
    assert (planned["dry_run"], planned["committed"], ids(store)) == (True, False, ["sky", "town"])
    receipt = told("delete", *filters, "--yes")
    assert receipt["documents"] == planned["documents"]
    assert receipt["tokens"] == planned["tokens"]
    assert ids(store) == left


def test_nothing_goes_by_mistake(store: Path, call: Call) -> None:
    call("delete", code=2)
    call("delete", "-y", code=2)
    call("delete", "sky", "--source", "notebook", "-y", code=3)
    call("delete", "--source", "", "-y", code=3)
    call("delete", "--source", "none", "-y", code=3)
    call("delete", "sky", "none", "-y", code=4)
    call("delete", "sky", "--metadata", "year", "-y", code=2)
    assert ids(store) == ["sky", "town"]


def test_without_a_terminal_it_must_be_told(store: Path, call: Call) -> None:
    said = call("delete", "sky", code=2, stdin="y\n")
    assert "--yes" in said.stderr
    assert ids(store) == ["sky", "town"]


@pytest.mark.usefixtures("terminal")
def test_a_dry_run_asks_nothing_and_locks_nothing(store: Path, call: Call) -> None:
    with memodb.connect(store):
        said = call("delete", "--source", "notebook", "--dry-run")
    assert said.stdout == "sky\ntown\n"
    assert "would delete 2 documents (27 tokens)" in said.stderr
    assert ids(store) == ["sky", "town"]


@pytest.mark.usefixtures("terminal")
def test_the_question_counts_truly(store: Path, call: Call) -> None:
    said = call("delete", "sky", "sky", "town", stdin="n\n", code=1)
    assert "Delete 2 documents (27 tokens) of collection default?" in said.stderr
    assert "  sky\n  town\n" in said.stderr
    assert said.stdout == ""
    assert "nothing was done" in said.stderr
    call("delete", "sky", stdin="", code=130)
    assert ids(store) == ["sky", "town"]
    said = call("delete", "--source", "notebook", "--json", stdin="y\n")
    assert json.loads(said.stdout)["documents"] == ["sky", "town"]
    assert ids(store) == []


@pytest.mark.usefixtures("terminal")
def test_a_long_list_is_cut_and_its_count_is_not(store: Path, call: Call) -> None:
    with memodb.connect(store) as db:
        db.append_many({"text": "x", "id": f"m{n:03}\x1b", "source": "many"} for n in range(100))
    said = call("delete", "--source", "many", stdin="n\n", code=1).stderr
    assert "... and 80 more" in said
    assert "Delete 100 documents (100 tokens)" in said
    assert "\x1b" not in said


@pytest.mark.usefixtures("terminal")
def test_what_matches_later_was_not_agreed_to(store: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def confirm(*_: Any, **__: Any) -> bool:
        with memodb.connect(store) as db:
            db.append("Written while the user thinks.", id="late", source="notebook")
        return True

    monkeypatch.setattr("click.confirm", confirm)
    call("delete", "--source", "notebook")
    assert ids(store) == ["late"]


def test_without_verification_less_is_claimed(store: Path, call: Call, told: Told) -> None:
    receipt = told("delete", "sky", "-y", "--no-verify")
    assert (receipt["verified"], receipt["rows_left"]) == (False, 0)
    assert "verified    no" in (said := call("delete", "town", "-y", "--no-verify").stdout)
    assert ["memory", "not", "verified"] in [line.split()[:3] for line in said.splitlines()]


def test_a_failed_verification_is_a_bad_result(store: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memodb.Receipt, "verified", False)
    assert "verified    no" in call("delete", "sky", "-y", code=1).stdout


def test_the_receipt_is_kept_in_a_file(store: Path, call: Call, told: Told) -> None:
    key = store.parent / "public.pem"
    key.write_text(call("receipt", "key").stdout)
    file = store.parent / "receipt.json"
    given = told("delete", "sky", "-y", "--reason", "ticket-17", "--receipt", file)
    assert json.loads(file.read_text()) == given["signed"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    page = store.parent / "receipt.HTML"
    assert f"written to {page}" in call("delete", "town", "-y", "--receipt", page).stdout
    assert page.read_text().startswith("<!DOCTYPE html>")
    for kept in (file, page):
        assert told("receipt", "verify", kept, "--key", key)["trusted"] is True


def test_a_receipt_that_cannot_be_kept_deletes_nothing(
    store: Path, call: Call, error: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("delete", "sky", "-y", "--receipt", store.parent / "no" / "where.json", code=7)
    call("delete", "sky", "--dry-run", "--receipt", store.parent / "r.json", code=2)
    assert ids(store) == ["sky", "town"]
    (store.parent / "r.json").write_text("old")
    call("delete", "none", "-y", "--receipt", store.parent / "r.json", code=4)
    assert (store.parent / "r.json").read_text() == "old"

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    (note,) = error("delete", "sky", "-y", "--receipt", store.parent / "r.json", code=7)["notes"]
    assert ids(store) == ["town"], "too late to undo, so it must be told how to get the receipt"
    monkeypatch.undo()
    monkeypatch.setenv("MEMODB_PATH", str(store))
    erasure = note.split("receipt get ")[1].split()[0]
    assert json.loads(call("receipt", "get", erasure).stdout)["statement"]["id"] == erasure


def test_what_a_hold_keeps_is_said(store: Path, call: Call, told: Told) -> None:
    with memodb.connect(store) as db:
        db.hold("case-17", "sky")
    assert "held, so hidden at once and erased when the hold ends: sky" in call("delete", "sky", "--dry-run").stderr
    assert told("delete", "--source", "notebook", "--dry-run")["held"] == ["sky"]
    shown = call("delete", "--source", "notebook", "-y", code=1).stdout
    assert "HELD: 1 document gone from every answer" in shown
    assert ["catalog", "held"] in [line.split()[:2] for line in shown.splitlines()]
    assert ids(store) == []


@pytest.mark.usefixtures("terminal")
def test_the_question_says_what_a_hold_keeps(store: Path, call: Call) -> None:
    with memodb.connect(store) as db:
        db.hold("case-17", "sky")
    assert "  sky (held)\n  town\n" in call("delete", "--source", "notebook", stdin="n\n", code=1).stderr


def test_scanned_and_suppressed(store: Path, call: Call, told: Told) -> None:
    layer = told("delete", "sky", "-y", "--scan", "--suppress")["signed"]["statement"]["layers"]["scan"]
    assert (layer["result"], layer["hits"]) == ("verified", 0)
    assert layer["control"] > 0
    call("append", SKY.upper(), code=3)
    assert "refused from now on" in call("delete", "town", "-y", "--suppress").stdout
    call("append", TOWN, code=3)
    call("append", TOWN.replace("milk", "tar"))


@pytest.mark.parametrize(("answer", "left"), [(b"y\n", ["town"]), (b"n\n", ["sky", "town"])])
def test_on_a_real_terminal(answer: bytes, left: list[str], store: Path, spawn: Callable[..., Any]) -> None:
    ours, theirs = pty.openpty()
    try:
        with spawn("delete", "sky", stdin=theirs) as process:
            os.write(ours, answer)
            out, _ = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == (0 if left == ["town"] else 1)
    assert (b"receipt" in out) == (left == ["town"])
    assert ids(store) == left
