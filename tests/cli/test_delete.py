"""`delete`: nothing goes that was not named, shown and agreed to, and the receipt says what did."""

import json
import os
import pty
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import memodb
from memodb.cli import deleting

Call = Callable[..., Result]
Told = Callable[..., Any]


def ids(store: Path) -> list[str]:
    with memodb.connect(store, read_only=True) as db:
        return sorted(d.id for d in db.documents())


@pytest.fixture
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleting, "_can_ask", lambda: True)


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
    assert memodb.connect(store, read_only=True).stats().documents == 0
    call("delete", "town", "-y", code=4)


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        (["--source", "notebook"], []),
        (["--subject", "alice"], ["town"]),
        (["--writer", "bob"], ["sky"]),
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


@pytest.mark.usefixtures("_terminal")
def test_a_dry_run_asks_nothing_and_locks_nothing(store: Path, call: Call) -> None:
    with memodb.connect(store):
        said = call("delete", "--source", "notebook", "--dry-run")
    assert said.stdout == "sky\ntown\n"
    assert "would delete 2 documents (27 tokens)" in said.stderr
    assert ids(store) == ["sky", "town"]


@pytest.mark.usefixtures("_terminal")
def test_the_question_counts_truly(store: Path, call: Call) -> None:
    said = call("delete", "sky", "sky", "town", stdin="n\n", code=1)
    assert "Delete 2 documents (27 tokens) of collection default?" in said.stderr
    assert "  sky\n  town\n" in said.stderr
    assert said.stdout == ""
    assert "nothing was deleted" in said.stderr
    call("delete", "sky", stdin="", code=130)
    assert ids(store) == ["sky", "town"]
    said = call("delete", "--source", "notebook", "--json", stdin="y\n")
    assert json.loads(said.stdout)["documents"] == ["sky", "town"]
    assert ids(store) == []


@pytest.mark.usefixtures("_terminal")
def test_a_long_list_is_cut_and_its_count_is_not(store: Path, call: Call) -> None:
    with memodb.connect(store) as db:
        db.append_many({"text": "x", "id": f"m{n:03}\x1b", "source": "many"} for n in range(100))
    said = call("delete", "--source", "many", stdin="n\n", code=1).stderr
    assert "... and 80 more" in said
    assert "Delete 100 documents (100 tokens)" in said
    assert "\x1b" not in said


@pytest.mark.usefixtures("_terminal")
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
    assert (receipt["verified"], receipt["rows_left"]) == (False, None)
    assert "rows left   not looked at" in call("delete", "town", "-y", "--no-verify").stdout


def test_a_failed_verification_is_a_bad_result(store: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memodb.Receipt, "verified", False)
    assert "verified    no" in call("delete", "sky", "-y", code=1).stdout


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
