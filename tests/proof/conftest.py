"""A key, a log of a few entries, and a receipt with everything in it that a receipt may have."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memodb import proof

START = datetime(2026, 5, 1, 8, 0, 0, tzinfo=UTC)
STORE, COLLECTION, ERASURE = "aa" * 16, "bb" * 16, "cc" * 16


@pytest.fixture(scope="session")
def signer() -> proof.Signer:
    return proof.Signer(proof.new_key())


@pytest.fixture(scope="session")
def stranger() -> proof.Signer:
    return proof.Signer(proof.new_key())


def entry(seq: int, **changed: Any) -> proof.Entry:
    given = {"op": "requested", "time": START + timedelta(seconds=seq), "collection": COLLECTION, "id": f"{seq:032x}"}
    return proof.Entry(seq=seq, **{**given, **changed})


STATEMENT: dict[str, Any] = {
    "id": ERASURE,
    "store": STORE,
    "collection": COLLECTION,
    "documents": ["0a" * 16, "0b" * 16],
    "tokens": 1234,
    "reason": "request 17",
    "selected_by": ["source", "subject"],
    "requested_at": proof.timestamp(START),
    "completed_at": proof.timestamp(START + timedelta(seconds=9)),
    "states": {name: proof.timestamp(START + timedelta(seconds=n)) for n, name in enumerate(proof.STATES)},
    "layers": {
        "memory": {
            "method": "subtracted, and compared with a memory of the remaining documents",
            "result": "verified",
            "segments": [
                {"segment": n, "digest": f"{n:064x}", "rebuilt_digest": f"{n:064x}", "compared": True} for n in (1, 2)
            ],
        },
        "catalog": {"method": "secure_delete", "result": "verified", "rows_left": 0, "free_pages": 0},
        "journal": {"method": "truncated", "result": "verified", "mode": "wal", "nbytes": 0},
        "tiles": {"method": "overwritten, unlinked", "result": "verified", "overwritten": 3, "files_left": 0},
        "keys": {"method": "destroyed", "result": "verified", "service": "file", "destroyed": 2, "readable": 0},
        "backups": {
            "result": "not verified",
            "pending": [{"id": "0c" * 16, "created_at": "2026-04-01T00:00:00+00:00", "keep_until": None}],
        },
        "scan": {
            "result": "verified", "files": 12, "nbytes": 345678, "encodings": ["utf-8", "utf-16"], "hits": 0,
            "control": 9, "asked": 100, "answered": 1, "expected_rate": "0.01",
        },
    },
    "verified": True,
    "versions": {"memodb": "0.1.0", "sqlite": "3.46.0"},
    "pragmas": {"secure_delete": 1, "journal_mode": "wal"},
    "limits": ["What a device remapped is not covered.", "Naïve copies: not covered."],
}  # fmt: skip


@pytest.fixture
def statement() -> dict[str, Any]:
    return copy.deepcopy(STATEMENT)


@pytest.fixture(scope="session")
def entries() -> list[proof.Entry]:
    found = [entry(n) for n in range(7)]
    found[4] = entry(4, op="erased", id=ERASURE, time=START + timedelta(seconds=9), reason="ticket-17", actor="dpo")
    return found


@pytest.fixture(scope="session")
def make(signer: proof.Signer, entries: list[proof.Entry]) -> Callable[..., dict[str, Any]]:
    """The receipt of a statement, its entry the fifth of seven unless told otherwise."""

    def receipt(statement: dict[str, Any], **changed: Any) -> dict[str, Any]:
        leaves = [found.leaf() for found in entries]
        head = proof.Head(STORE, len(leaves), proof.Tree(leaves).root, START).signed(signer)
        given = {"entry": entries[4], "proof": proof.inclusion_proof(leaves, 4), "head": head}
        return proof.signed(statement, signer, **{**given, **changed})

    return receipt


@pytest.fixture
def receipt(make: Callable[..., dict[str, Any]], statement: dict[str, Any]) -> dict[str, Any]:
    return make(statement)
