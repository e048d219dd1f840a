"""One SQLite connection as memodb needs it: opened, configured, and each setting read back.

A misspelt or unsupported PRAGMA is silently ignored by SQLite, so nothing here is trusted to have taken.
"""

import os
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from memodb.catalog.filters import FUNCTION_NAME, metadata_has
from memodb.catalog.seals import SEAL, seal
from memodb.errors import StoreError, StoreLocked

__all__ = ["BUSY_TIMEOUT", "connect", "journal_mode"]

BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for another process's transaction before `StoreLocked`."""

_PRAGMAS: Final = (
    # (name, value to set, value to read back)
    ("foreign_keys", "ON", 1),
    ("secure_delete", "ON", 1),  # Debian's builds default to it, upstream's do not
    ("synchronous", "FULL", 2),
    ("fullfsync", "ON", 1),  # macOS, where a plain fsync does not reach beyond the drive's cache
    ("temp_store", "MEMORY", 2),  # sorting and VACUUM must not write texts to the temporary directory
    ("cell_size_check", "ON", 1),
    ("trusted_schema", "OFF", 0),
)


def journal_mode(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> str:
    """``"wal"`` where the SQLite library `version` has the fix of the WAL-reset bug, else ``"truncate"``.

    The bug: a write at the wrong moment of a checkpoint loses pages; fixed in 3.51.3, 3.50.7 and 3.44.6. TRUNCATE
    rather than DELETE: a commit is then a truncation of a file that stays, which synchronous=FULL syncs; DELETE
    commits by unlinking and does not sync the directory, so a power cut can bring the journal back and undo the
    commit. Not PERSIST: it leaves the old pages, deleted texts among them, in the journal.
    """
    fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return "wal" if fixed else "truncate"


def connect(path: str, *, read_only: bool, timeout: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    """A connection to the existing file `path` (or ``":memory:"``) in autocommit mode, usable from any thread.

    Raises
    ------
    StoreError
        A setting did not take: this SQLite library cannot keep memodb's promises.
    StoreLocked
        The file is in another journal mode and in use, so that the mode cannot be set now.
    sqlite3.Error
        As SQLite raises it; `failures.mapped` is the caller's.
    """
    # mode=rw, never rwc: a file that vanished must be an error, not an empty catalog.
    uri = (
        path
        if path == ":memory:"
        else f"file:{quote(os.fsencode(Path(path).absolute()))}?mode={'ro' if read_only else 'rw'}"
    )
    connection = sqlite3.connect(
        uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        _configure(connection, path, read_only=read_only)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, path: str, *, read_only: bool) -> None:
    for name, value, expected in _PRAGMAS:
        connection.execute(f"PRAGMA {name}={value}").close()
        found = connection.execute(f"PRAGMA {name}").fetchone()
        if found is None or found[0] != expected:
            raise StoreError(
                f"this SQLite library ({sqlite3.sqlite_version}) does not accept PRAGMA {name}={value} for {path}; "
                "use another build of it"
            )
    # A reader cannot change the mode, and reads every mode; a database in memory has its own.
    if not read_only and path != ":memory:":
        wanted = journal_mode()
        found = connection.execute(f"PRAGMA journal_mode={wanted}").fetchone()
        if found is None or found[0] != wanted:
            raise StoreLocked(f"the journal mode of {path} cannot be set to {wanted} while others have it open")
    connection.create_function(FUNCTION_NAME, 2, metadata_has, deterministic=True)
    connection.create_function(SEAL, -1, seal, deterministic=True)
