"""`receipt` and `audit`: files in, verdicts and exit codes out, without a store."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from memodb import proof
from memodb.proof.page import page

TIME = datetime(2026, 5, 1, 8, 0, 0, tzinfo=UTC)
STORE, COLLECTION, ERASURE = "aa" * 16, "bb" * 16, "cc" * 16


class Given:
    """What somebody who checks an erasure was given, in a directory without a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signer = proof.Signer(proof.new_key())
        self.entries = [
            proof.Entry(n, TIME + timedelta(seconds=n), "hold" if n != 2 else "erased", COLLECTION, ERASURE)
            for n in range(4)
        ]
        self.statement = {
            "id": ERASURE, "store": STORE, "collection": COLLECTION, "documents": ["01" * 16], "reason": "\x1b[2Jred",
            "completed_at": proof.timestamp(TIME + timedelta(seconds=2)), "verified": True,
        }  # fmt: skip
        leaves = [entry.leaf() for entry in self.entries]
        path = proof.inclusion_proof(leaves, 2)
        self.receipt = proof.signed(
            self.statement, self.signer, entry=self.entries[2], proof=path, head=self.head(self.entries)
        )
        self.key = self.write("public.pem", self.signer.public_pem)
        self.other = self.write("other.pem", proof.Signer(proof.new_key()).public_pem)
        self.file = self.write("receipt.json", json.dumps(self.receipt).encode())
        self.log = self.write("audit.jsonl", self.log_of(self.entries))

    def head(self, entries: list[proof.Entry]) -> dict[str, Any]:
        tree = proof.Tree(entry.leaf() for entry in entries)
        return proof.Head(STORE, tree.size, tree.root, TIME).signed(self.signer)

    def log_of(self, entries: list[proof.Entry]) -> bytes:
        stream = io.BytesIO()
        proof.write_log(stream, self.head(entries), entries)
        return stream.getvalue()

    def write(self, name: str, data: bytes) -> Path:
        (self.folder / name).write_bytes(data)
        return self.folder / name


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path)


def test_a_receipt_and_its_page_are_valid(given: Given, call: Callable[..., Result], told: Callable[..., Any]) -> None:
    made = given.write("page.html", page(given.receipt).encode())
    for file in (given.file, made):
        said = call("receipt", "verify", file, "--key", given.key).stdout
        assert said.endswith("valid, and signed with the key that was named\n")
        assert given.signer.fingerprint in said
        assert "\\x1b[2Jred" in said
        assert "\x1b" not in said
        verdict = told("receipt", "verify", file, "--key", given.key)
        assert (verdict["valid"], verdict["trusted"], verdict["in_log"], verdict["log_size"]) == (True, True, True, 4)
        assert verdict["statement"] == given.statement


def test_without_a_key_it_says_how_little_that_is(
    given: Given, call: Callable[..., Result], told: Callable[..., Any]
) -> None:
    said = call("receipt", "verify", given.file).stdout
    assert "in itself only" in said
    assert given.signer.fingerprint in said
    assert told("receipt", "verify", given.file)["trusted"] is False
    assert "in itself only" in call("audit", "verify", given.log).stdout


def test_what_is_not_valid_ends_with_one(given: Given, call: Callable[..., Result], told: Callable[..., Any]) -> None:
    changed = {**given.receipt, "statement": {**given.statement, "verified": False}}
    bad = {
        "changed.json": json.dumps(changed).encode(),
        "none.json": b"{}",
        "rubbish.json": b"\xff",
        "empty.json": b"",
        "page.html": page(given.receipt).replace("1 document", "2 documents").encode(),
        "rubbish.html": b"<html>",
    }
    for name, data in bad.items():
        said = call("receipt", "verify", given.write(name, data), "--key", given.key, code=1).stdout
        assert said.endswith("NOT VALID\n")
        assert "problem: " in said
        verdict = told("receipt", "verify", given.folder / name, code=1)
        assert (verdict["valid"], verdict["trusted"]) == (False, False)
        assert verdict["problems"]
    assert "another key" in call("receipt", "verify", given.file, "--key", given.other, code=1).stdout


def test_a_page_is_made(given: Given, call: Callable[..., Result], told: Callable[..., Any]) -> None:
    text = page(given.receipt)
    assert call("receipt", "page", given.file).stdout == text
    assert told("receipt", "page", given.file) == {"html": text}
    out = given.folder / "out.html"
    assert call("receipt", "page", given.file, "-o", out).stdout == ""
    assert out.read_text(encoding="utf-8") == text
    again = told("receipt", "page", out, "--output", out)  # of a page, a page
    assert again == {"output": str(out), "nbytes": len(text.encode())}
    assert out.read_text(encoding="utf-8") == text


def test_no_page_of_what_is_not_valid(given: Given, call: Callable[..., Result]) -> None:
    out = given.write("out.html", b"old")
    bad = given.write("bad.json", json.dumps({**given.receipt, "audit": None}).encode())
    result = call("receipt", "page", bad, "-o", out, code=1)
    assert result.stdout == ""
    assert "does not fit" in result.stderr
    assert out.read_bytes() == b"old"


def test_a_log_is_valid(given: Given, call: Callable[..., Result], told: Callable[..., Any]) -> None:
    said = call("audit", "verify", given.log, "--key", given.key).stdout
    assert "--since" in said
    assert said.endswith("valid, and signed with the key that was named\n")
    head = given.write("head.json", json.dumps(given.head(given.entries[:3])).encode())
    for since in (head, given.file, given.write("page.html", page(given.receipt).encode())):
        assert "begins with all" in call("audit", "verify", given.log, "--key", given.key, "--since", since).stdout
        verdict = told("audit", "verify", given.log, "--since", since)
        assert (verdict["valid"], verdict["extends"], verdict["size"]) == (True, True, 4)


def test_a_log_that_lost_or_changed_something(given: Given, call: Callable[..., Result]) -> None:
    lines = given.log.read_bytes().splitlines(keepends=True)
    cut = given.write("cut.jsonl", b"".join(lines[:-1]))
    assert "NOT VALID" in call("audit", "verify", cut, code=1).stdout
    assert "another key" in call("audit", "verify", given.log, "--key", given.other, code=1).stdout
    anew = given.write("anew.jsonl", given.log_of(given.entries[:3]))
    assert (
        call("audit", "verify", anew, "--key", given.key).exit_code == 0
    )  # signed anew: nothing shows without --since
    assert "does not begin" in call("audit", "verify", anew, "--key", given.key, "--since", given.file, code=1).stdout


def test_what_cannot_be_read_is_told(given: Given, error: Callable[..., Any]) -> None:
    key = Path(given.folder / "receipt.json")
    assert "public key" in error("receipt", "verify", given.file, "--key", key, code=3)["message"]
    assert "public key" in error("audit", "verify", given.log, "--key", key, code=3)["message"]
    assert "not JSON" in error("audit", "verify", given.log, "--since", given.key, code=3)["message"]
    without = given.write("without.json", json.dumps([1]).encode())
    assert "no signed head" in error("audit", "verify", given.log, "--since", without, code=3)["message"]
    assert error("receipt", "verify", given.folder / "nowhere", code=2)["type"] == "BadParameter"
    assert error("receipt", "page", given.folder, code=2)["type"] == "BadParameter"


def test_in_a_process_of_its_own_without_a_store(given: Given, done: Callable[..., tuple[int, bytes, bytes]]) -> None:
    code, out, err = done("receipt", "verify", given.file, "--key", given.key)
    assert (code, err) == (0, b"")
    assert out.endswith(b"named\n")
    code, out, err = done("receipt", "verify", given.log, "--json")
    assert (code, err) == (1, b"")
    assert json.loads(out)["valid"] is False
