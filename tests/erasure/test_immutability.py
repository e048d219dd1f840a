"""Where a document comes from is written once: no statement changes it, and who forces one is found out."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memodb

Stores = Callable[..., memodb.Store]
FIXED = {
    "id": "other",
    "source": "a better one",
    "subject": "somebody else",
    "writer": "nobody",
    "batch": "another",
    "created_at": 0,
    "metadata": '{"page":2}',
    "digest": b"0" * 32,
    "tokens": b"0" * 40,
    "text": b"0" * 40,
    "key": b"0" * 16,
    "token_count": 1,
}


@pytest.fixture
def path(exact: Stores, filled: Stores, tmp_path: Path) -> Path:
    with filled(exact(tmp_path / "s"), writer="ada", batch="b1", metadata={"page": 1}):
        return tmp_path / "s"


def test_no_statement_changes_it(path: Path) -> None:
    raw = sqlite3.connect(path / "catalog.db")
    for column, value in FIXED.items():
        with pytest.raises(sqlite3.IntegrityError, match="cannot be changed once written"):
            raw.execute(f"UPDATE document SET {column} = ? WHERE id = 'secret'", (value,))
    raw.close()


@pytest.mark.parametrize("column", ["source", "subject", "writer", "batch", "created_at", "metadata"])
def test_who_forces_it_is_found_out(exact: Stores, path: Path, column: str) -> None:
    """Even with a seal that fits: the digest is keyed, and covers it."""
    from memodb.catalog.models import TABLES
    from memodb.catalog.seals import seal, sealed_columns

    raw = sqlite3.connect(path / "catalog.db")
    ((trigger,),) = raw.execute("SELECT sql FROM sqlite_master WHERE name = 'document_immutable'").fetchall()
    raw.execute("DROP TRIGGER document_immutable")
    raw.execute(f"UPDATE document SET {column} = ? WHERE id = 'secret'", (FIXED[column],))
    names = ", ".join(f'"{name}"' for name in sealed_columns(TABLES["document"]))
    values = raw.execute(f"SELECT {names} FROM document WHERE id = 'secret'").fetchone()
    raw.execute("UPDATE document SET seal = ? WHERE id = 'secret'", (seal(*values),))
    raw.execute(trigger)
    raw.commit()
    raw.close()
    with exact(path) as db:
        report = db.check()
        assert any("secret" in finding for finding in report.findings)
        with pytest.raises(memodb.CorruptStore, match="digest"):
            db.text("secret")
        assert db.delete("secret").committed


def test_appending_again_does_not_change_it(exact: Stores, path: Path, secret: str) -> None:
    with exact(path) as db:
        before = db.get("secret")
        for field in ("source", "subject", "writer", "batch", "metadata"):
            other: dict[str, Any] = {field: {"page": 2} if field == "metadata" else "other"}
            with pytest.raises(memodb.DocumentExists, match=field):
                db.append(secret, id="secret", **other)
        assert db.append(secret, id="secret") == before == db.get("secret")


def test_a_schema_without_the_trigger_is_not_opened(exact: Stores, path: Path) -> None:
    raw = sqlite3.connect(path / "catalog.db")
    raw.execute("DROP TRIGGER document_immutable")
    raw.close()
    with pytest.raises(memodb.CorruptStore, match="schema"):
        exact(path)
