"""Whole copies of a catalog while it is in use, and what SQLite says of the file."""

import math
import sqlite3
from typing import Final

__all__ = ["TELLING", "copy"]

TELLING: Final = ("journal_mode", "secure_delete", "synchronous", "freelist_count", "page_count")
"""The settings and counts of SQLite's that say what became of deleted bytes."""

_PAGES_A_STEP: Final = 4096


class _StartedOver(Exception):
    """Somebody committed while the copy paused, more than once."""


def copy(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy in steps, between which others may commit; a commit starts it over. In one step where that never ends."""
    least, patience = math.inf, 3

    def watch(status: int, remaining: int, total: int) -> None:
        nonlocal least, patience
        patience -= remaining > least
        least = min(least, remaining)
        if not patience:
            raise _StartedOver

    try:
        source.backup(target, pages=_PAGES_A_STEP, progress=watch, sleep=0.001)
    except _StartedOver:
        source.backup(target)
