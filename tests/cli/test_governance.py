"""Holds, quarantine, expiry, suppression, access, log and receipts: done by a command, read back by a new handle."""

import json
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import memodb
from memodb.proof import verify

Call = Callable[..., Result]
Told = Callable[..., Any]

SKY = "The sky over the harbour was the colour of slate."
LATER = "2031-01-01T00:00:00+00:00"


def reader(store: Path) -> memodb.Store:
    return memodb.connect(store, read_only=True)


def ids(store: Path) -> list[str]:
    with reader(store) as db:
        return sorted(d.id for d in db.documents())


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def expired(store: Path) -> None:
    """Store a document and wait until it has expired."""
    with memodb.connect(store) as db:
        db.append("Soon forgotten.", id="old", expires_at=datetime.now(UTC) + timedelta(seconds=0.2))
    time.sleep(0.25)


@pytest.mark.parametrize(
    "line", [["hold", "place", "c"], ["quarantine", "add"], ["quarantine", "release"], ["expire", "never"]]
)
def test_a_choice_is_needed(line: list[str], store: Path, call: Call) -> None:
    assert "choose them with filters" in call(*line, code=2).stderr
    call(*line, "sky", "--source", "notebook", code=3)
    call(*line, "--source", "elsewhere", code=3)
    call(*line, "none", code=4)
    call(*line, "--created-after", "2026-01-01", code=2)
    with reader(store) as db:
        assert (db.holds(), db.quarantined(), len(db)) == ([], [], 2)


# -- holds -------------------------------------------------------------------------------------------------------------


def test_a_hold_from_its_place_to_its_end(store: Path, call: Call, told: Told) -> None:
    assert told("hold", "list") == []
    assert call("hold", "list").output == ""
    assert "keeps 1 document" in call("hold", "place", "case-17", "--subject", "alice", "--actor", "dpo-2").stdout
    placed = told("hold", "place", "case-17", "town")
    assert (placed["name"], placed["documents"]) == ("case-17", ["sky", "town"])
    assert told("hold", "list") == [placed]
    assert call("hold", "list").stdout.splitlines()[1].split()[2:] == ["2", "sky", "town"]
    receipt = told("delete", "sky", "-y", code=1)
    assert (receipt["held"], receipt["verified"]) == (["sky"], False)
    (waiting,) = told("erasures", "--unfinished")
    assert (waiting["id"], waiting["held"]) == (receipt["id"], 1)

    target = store.parent / "held.jsonl"
    assert told("hold", "export", "case-17", "-o", target) == {"exported": 2, "output": str(target)}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [line["id"] for line in lines(target.read_text())] == ["sky", "town"]
    assert SKY in target.read_text()
    assert call("hold", "export", "case-17").stdout == target.read_text()

    assert told("hold", "export", "case-17", "-o", target)["exported"] == 2
    ended = told("hold", "release", "case-17", "--yes")
    assert (ended["name"], ended["documents"]) == ("case-17", ["sky", "town"])
    assert [(each["id"], each["state"]) for each in ended["erasures"]] == [(receipt["id"], "verified")]
    assert told("erasures", "--unfinished") == told("hold", "list") == []
    with reader(store) as db:
        assert db.receipt(receipt["id"])["statement"]["verified"] is True
        done = [(entry.op, entry.actor, entry.reason) for entry in db.audit()]
    assert ("hold", "dpo-2", "case-17") in done
    assert {"held_back", "hold_export", "hold_released", "erased"} <= {op for op, _, _ in done}


@pytest.mark.usefixtures("terminal")
def test_the_end_of_a_hold_is_agreed_to(store: Path, call: Call) -> None:
    call("hold", "place", "case-17", "sky", "-q")
    said = call("hold", "release", "case-17", stdin="n\n", code=1).stderr
    assert "  sky\n" in said
    assert "End hold case-17" in said
    with reader(store) as db:
        assert [hold.name for hold in db.holds()] == ["case-17"]
    assert "it kept 1 document" in call("hold", "release", "case-17", stdin="y\n").stdout
    call("hold", "release", "case-17", stdin="y\n", code=4)


def test_what_holds_refuse(store: Path, call: Call) -> None:
    call("hold", "place", "Mr Smith", "sky", code=3)
    call("hold", "place", "case-17", "sky", "--actor", "Ms Jones", code=3)
    call("hold", "export", "none", code=4)
    call("hold", "release", "none", "-y", code=4)
    call("hold", "place", "case-17", "sky")
    assert "--yes" in call("hold", "release", "case-17", code=2, stdin="y\n").stderr
    with reader(store) as db:
        assert len(db.holds()) == 1


# -- quarantine --------------------------------------------------------------------------------------------------------


def test_quarantine_is_exact_both_ways(store: Path, call: Call, told: Told) -> None:
    before = call("digest").stdout
    assert call("quarantine", "add", "--batch", "monday", "--reason", "ticket-17").stdout == "town\n"
    assert ids(store) == ["sky"]
    assert [(d["id"], d["state"]) for d in told("quarantine", "list")] == [("town", "quarantined")]
    assert call("quarantine", "list").stdout.splitlines()[1].split()[0] == "town"
    assert call("digest").stdout != before
    (back,) = told("quarantine", "release", "--writer", "bob")
    assert (back["id"], back["state"]) == ("town", "live")
    assert call("digest").stdout == before
    assert call("quarantine", "add", "sky", "-q").stdout == ""
    assert call("quarantine", "release", "sky").stdout == "sky\n"
    with reader(store) as db:
        assert [e.reason for e in db.audit() if e.op == "quarantine"] == ["ticket-17", None]


# -- expiry ------------------------------------------------------------------------------------------------------------


def test_expire_sets_and_clears(store: Path, call: Call, told: Told) -> None:
    assert call("expire", "2031-01-01T00:00Z", "--source", "notebook").stdout == "sky\ntown\n"
    with reader(store) as db:
        assert {d.expires_at for d in db.documents()} == {datetime(2031, 1, 1, tzinfo=UTC)}
    assert [d["expires_at"] for d in told("expire", "never", "sky", "town")] == [None, None]
    call("expire", "2001-01-01T00:00Z", "sky", code=3)
    for wrong in ("soon", "2031-01-01", "Never"):
        call("expire", wrong, "sky", code=2)
    with reader(store) as db:
        assert {d.expires_at for d in db.documents()} == {None}


def test_sweep_deletes_what_has_expired(store: Path, call: Call, told: Told) -> None:
    assert told("sweep", "--yes") is None
    assert "nothing has expired" in call("sweep", "--dry-run").stderr
    expired(store)
    assert call("sweep", "--dry-run").stdout == "old\n"
    assert "--yes" in call("sweep", code=2, stdin="y\n").stderr
    swept = told("sweep", "--yes", "--reason", "retention")
    assert (swept["documents"], swept["verified"], swept["reason"]) == (["old"], True, "retention")
    assert ids(store) == ["sky", "town"]
    assert told("sweep", "--dry-run") is None


@pytest.mark.usefixtures("terminal")
def test_a_sweep_is_agreed_to(store: Path, call: Call, told: Told) -> None:
    expired(store)
    assert "Delete 1 document" in call("sweep", stdin="n\n", code=1).stderr
    assert told("sweep", "--dry-run")["documents"] == ["old"]
    assert "verified    yes" in call("sweep", stdin="y\n").stdout


def test_a_sweep_that_a_hold_keeps_from_its_end(store: Path, call: Call) -> None:
    expired(store)
    call("hold", "place", "case-17", "old")
    assert "erased when the hold ends: old" in call("sweep", "--dry-run").stderr
    assert "HELD" in call("sweep", "-y", code=1).stdout


# -- suppression -------------------------------------------------------------------------------------------------------


def test_suppressed_until_allowed_again(store: Path, call: Call, told: Told, error: Told) -> None:
    text = "A text that nobody may store."
    file = store.parent / "text"
    file.write_text(f"{text}\n")
    found = call("suppress", "--file", file).stdout.strip()
    assert told("suppress", text.upper(), "--until", LATER) == {"suppressed": found, "until": LATER}
    assert error("append", text, code=3)["type"] == "Suppressed"
    with reader(store) as db:
        until = [entry.until for entry in db.audit() if entry.op == "suppress"]
    assert until == [None, datetime(2031, 1, 1, tzinfo=UTC)]
    assert call("suppress", "-", "--end", stdin=text).stdout == "allowed again\n"
    assert told("suppress", text, "--end", code=1) == {"ended": False}
    assert call("suppress", text, "--end", code=1).stdout == "was not suppressed\n"
    call("append", text, "--id", "a")
    call("suppress", text, "--end", "--until", LATER, code=2)
    call("suppress", code=2)


# -- access ------------------------------------------------------------------------------------------------------------


def test_a_subject_is_told_all(store: Path, call: Call, told: Told) -> None:
    call("quarantine", "add", "sky")
    target = store.parent / "alice.jsonl"
    said = call("subject", "export", "alice", "--output", target, "--actor", "dpo-2").stderr
    assert said == f"memodb: exported 1 document to {target}\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    (found,) = lines(target.read_text())
    assert (found["id"], found["text"], found["state"]) == ("sky", SKY, "quarantined")
    assert call("subject", "export", "alice").stdout == target.read_text()
    assert "nothing is stored" in call("subject", "export", "nobody").stderr
    with reader(store) as db:
        told_of = [(e.actor, e.id) for e in db.audit() if e.op == "subject_export"]
        assert told_of[0] == ("dpo-2", db.pseudonym("alice"))
    assert len(told_of) == 3


# -- proof -------------------------------------------------------------------------------------------------------------


def test_erasures_and_their_receipts(store: Path, call: Call, told: Told) -> None:
    assert told("erasures") == []
    first = told("delete", "sky", "-y", "--reason", "ticket-17")
    second = told("delete", "town", "-y", "--no-verify")
    listed = told("erasures")
    with reader(store) as db:
        assert listed == [each.to_dict() for each in db.erasures()]
        key = db.public_key
    assert [(e["id"], e["state"]) for e in listed] == [(first["id"], "verified"), (second["id"], "key_destroyed")]
    assert [e["id"] for e in told("erasures", "--unfinished")] == [second["id"]]
    shown = call("erasures").stdout
    assert "ticket-17" in shown
    assert "sky" not in shown

    assert told("receipt", "get", first["id"]) == first["signed"]
    assert json.loads(call("receipt", "get", first["id"]).stdout) == first["signed"]
    now = told("receipt", "get", second["id"])  # verified now
    assert now["statement"]["verified"] is True
    assert told("erasures", "--unfinished") == []
    page = store.parent / "receipt.html"
    assert call("receipt", "get", second["id"], "-o", page).stderr == f"memodb: wrote {page}\n"
    given = told("receipt", "get", second["id"], "-o", store.parent / "r.json")
    assert given == {"output": str(store.parent / "r.json"), "nbytes": (store.parent / "r.json").stat().st_size}

    assert call("receipt", "key").stdout == key
    said = told("receipt", "key")
    assert said["public_key"] == key
    (store.parent / "public.pem").write_text(key)
    for file in (page, store.parent / "r.json"):
        verdict = told("receipt", "verify", file, "--key", store.parent / "public.pem")
        assert (verdict["valid"], verdict["trusted"], verdict["in_log"]) == (True, True, True)
        assert verdict["fingerprint"] == said["fingerprint"]
    assert verify(first["signed"], public_key=key.encode()).valid
    call("receipt", "get", "none", code=4)


def test_the_log_is_shown_and_exported(store: Path, call: Call, told: Told) -> None:
    call("delete", "sky", "-y", "--actor", "dpo-2", "--reason", "ticket-17")
    with reader(store) as db:
        entries = list(db.audit())
    shown = told("audit", "show")
    assert shown == [json.loads(entry.to_bytes()) for entry in entries]
    assert told("audit", "show", "--since", 2) == shown[2:]
    assert call("audit", "show", "--since", len(entries)).output == ""
    assert "dpo-2" in call("audit", "show").stdout
    assert "sky" not in call("audit", "show").stdout
    call("audit", "show", "--since", "-1", code=2)

    head = store.parent / "head.json"
    assert told("audit", "head", "-o", head) == {"size": len(entries), "output": str(head)}
    assert json.loads(call("audit", "head").stdout)["size"] == told("audit", "head")["size"] == len(entries)
    call("hold", "place", "case-17", "town")
    log = store.parent / "log.jsonl"
    assert call("audit", "export", log).stdout == f"exported {len(entries) + 1} lines to {log}\n"
    assert told("audit", "export", log)["exported"] == len(entries) + 1
    verdict = told("audit", "verify", log, "--since", head)
    assert (verdict["valid"], verdict["extends"]) == (True, True)
    call("audit", "export", store.parent / "no" / "log", code=7)


# -- the ledger, wherever it is ----------------------------------------------------------------------------------------


def test_a_ledger_elsewhere(tmp_path: Path, call: Call, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    where, ledger = ("-p", tmp_path / "s"), tmp_path / "ledger"
    call("init", *where, "--ledger", ledger)
    assert not (tmp_path / "s" / "ledger").exists()
    call("append", SKY, "--id", "a", *where, code=6)
    call("append", SKY, "--id", "a", *where, "--ledger", ledger)
    call("delete", "a", "-y", *where, code=6)
    key = call("receipt", "key", *where).stdout  # public, so the store has it too
    for line in (["audit", "head"], ["audit", "export", tmp_path / "log.jsonl"]):  # nothing is signed in its name
        call(*line, *where, code=6)
    assert not (tmp_path / "log.jsonl").exists()
    monkeypatch.setenv("MEMODB_LEDGER", str(ledger))
    assert told("delete", "a", "-y", *where)["verified"] is True
    assert told("receipt", "key", *where)["public_key"] == call("receipt", "key", *where).stdout == key
    told("audit", "export", tmp_path / "log.jsonl", *where)
    assert told("audit", "verify", tmp_path / "log.jsonl")["valid"]


# -- in processes of their own -----------------------------------------------------------------------------------------


def test_a_request_from_hold_to_proof(
    store: Path, call: Call, done: Callable[..., tuple[int, bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the officer's shell would hear; what only leads from one to the next is called in this process."""
    monkeypatch.setenv("MEMODB_ACTOR", "dpo-2")
    call("hold", "place", "case-17", "sky")
    code, out, err = done("delete", "sky", "--yes", "--suppress", "--json")
    assert (code, err) == (1, b"")
    erasure = json.loads(out)["id"]
    call("hold", "release", "case-17", "--yes")
    receipt, key = store.parent / "receipt.json", store.parent / "public.pem"
    key.write_bytes(call("receipt", "key").stdout_bytes)
    call("receipt", "get", erasure, "-o", receipt)
    code, out, _ = done("receipt", "verify", receipt, "--key", key)
    assert (code, b"erasure verified  yes" in out) == (0, True)
    code, out, err = done("append", SKY)
    assert (code, b"must not be stored again" in err) == (3, True)
    with reader(store) as db:
        assert {entry.actor for entry in db.audit() if entry.op in ("hold", "hidden", "refused")} == {"dpo-2"}
