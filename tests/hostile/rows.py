"""Changing rows behind the back of a store, under seals that are right."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from memodb.catalog.models import Base
from memodb.catalog.pragmas import connect
from memodb.catalog.seals import SEAL, sealed_columns


def update(path: Path, statement: str, *values: Any) -> None:
    """Execute a statement that changes rows, and seal all of them again: who can write the file can write a seal."""
    with contextlib.closing(connect(str(path / "catalog.db"), read_only=False)) as raw:
        triggers = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            raw.execute(f"DROP TRIGGER {name}")
        assert raw.execute(statement, values).rowcount >= 1
        for table in Base.metadata.sorted_tables:
            # what is not even text cannot be sealed, and stays as it is
            with contextlib.suppress(sqlite3.OperationalError):
                raw.execute(f"UPDATE {table.name} SET seal = {SEAL}({', '.join(sealed_columns(table))})")
        for _, sql in triggers:
            raw.execute(sql)
