"""The file of a catalog: made, copied while it is in use, and what SQLite says of it."""

import math
import os
import sqlite3
import stat
from pathlib import Path
from typing import Final

from memodb.errors import Conflict, StoreError

__all__ = ["TELLING", "copy", "create_file", "sync_directory"]

TELLING: Final = ("journal_mode", "secure_delete", "synchronous", "freelist_count", "page_count")
"""The settings and counts of SQLite's that say what became of deleted bytes."""

_MODE: Final = 0o600
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


def create_file(path: str) -> None:
    """Make the file with its mode before SQLite sees it: SQLite's own would be 0644 until someone changed it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    except FileExistsError:
        # Never open and close it here: that drops the POSIX locks of every other connection of this process to it.
        if not stat.S_ISREG((found := Path(path).lstat()).st_mode) or found.st_size:
            raise Conflict(f"{path} exists already; open it instead of creating it") from None
        Path(path).chmod(_MODE)
    except OSError as exc:
        raise StoreError(f"the catalog {path} cannot be created: {exc}") from exc
    else:
        try:
            os.fchmod(descriptor, _MODE)  # exactly this, whatever the umask
        finally:
            os.close(descriptor)


def sync_directory(path: str) -> None:
    """Make the name of a catalog's file durable."""
    # SQLite ignores an error of its own directory sync, so the entry of the new file is synced here.
    try:
        descriptor = os.open(Path(path).absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise StoreError(f"the directory of {path} cannot be synced: {exc}") from exc
