"""Where errors of SQLite and SQLAlchemy become memodb's, so that no caller ever handles theirs."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from memodb.errors import (
    Conflict,
    CorruptStore,
    DiskFull,
    InvalidInput,
    MemodbError,
    ReadOnlyStore,
    StoreClosed,
    StoreError,
    StoreLocked,
    SyncFailed,
)

__all__ = ["mapped", "translate"]

# A reader met the journal of an interrupted write; only a writer may repair it.
_RECOVERY_NEEDED = {
    sqlite3.SQLITE_READONLY_RECOVERY,
    sqlite3.SQLITE_READONLY_ROLLBACK,
    sqlite3.SQLITE_READONLY_CANTINIT,
}
# A journal that cannot be truncated or removed either: whether the transaction it belongs to stands is not known.
_NOT_CONFIRMED = {
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_DIR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_DELETE,
}


@contextmanager
def mapped(path: str) -> Iterator[None]:
    """Raise memodb's error for each of SQLAlchemy's or sqlite3's that leaves the block, the original as its cause."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as exc:
        raise translate(_first(exc), path) from exc
    except UnicodeDecodeError as exc:  # of a text, or of the name that SQLite's own message is about
        raise CorruptStore(f"the catalog {path} is damaged: {exc.reason}; run `memodb check`") from exc


def _first(exc: Exception) -> Exception:
    """What went wrong before the clean-up failed: a full disk makes SQLite undo savepoints too."""
    first: BaseException | None = exc
    while first is not None and "no such savepoint" in str(first):
        first = first.__context__
    return first if isinstance(first, SQLAlchemyError | sqlite3.Error) else exc


def translate(exc: Exception, path: str) -> MemodbError:
    """The memodb error that says what `exc` means for the catalog at `path`, and what to do about it."""
    if isinstance(exc, StatementError) and not isinstance(exc, DBAPIError) and exc.orig is not None:
        # A column type refused a parameter; SQLAlchemy wrapped what it raised.
        if isinstance(exc.orig, MemodbError):
            return type(exc.orig)(*exc.orig.args)
        if isinstance(exc.orig, UnicodeEncodeError | OverflowError):
            return InvalidInput(f"a value cannot be stored: {exc.orig}")
    cause = exc.orig if isinstance(exc, DBAPIError) else exc
    if isinstance(cause, sqlite3.Error):
        return _from_sqlite(cause, path)
    return StoreError(f"the catalog {path} cannot serve this call: {cause}")


def _from_sqlite(cause: sqlite3.Error, path: str) -> MemodbError:
    code: int = getattr(cause, "sqlite_errorcode", 0)
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreLocked(f"the catalog {path} is in use by another connection; try again when it is done ({cause})")
    if code in _RECOVERY_NEEDED:
        return ReadOnlyStore(f"an interrupted write is pending in {path}; open it once for writing to repair it")
    if primary == sqlite3.SQLITE_READONLY:
        return ReadOnlyStore(f"{path} is open for reading only; use write() of a catalog opened for writing ({cause})")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptStore(f"the catalog {path} is damaged: {cause}; restore it from a backup")
    if primary == sqlite3.SQLITE_FULL:
        return DiskFull(f"no space left to write the catalog {path}; nothing was changed; free space and try again")
    if code in _NOT_CONFIRMED:
        return SyncFailed(f"the disk did not confirm a write of the catalog {path}: {cause}; open the store again")
    if primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StoreError(f"the file {path} cannot be read or written: {cause}; check the disk, path and permissions")
    if primary == sqlite3.SQLITE_CONSTRAINT:
        return Conflict(f"the catalog {path} refuses the change: {cause}")
    if primary == sqlite3.SQLITE_TOOBIG or isinstance(cause, sqlite3.DataError):
        return InvalidInput(f"a value is too large to be stored: {cause}")
    if isinstance(cause, sqlite3.ProgrammingError) and "closed" in str(cause):
        return StoreClosed(f"the catalog {path} was closed while in use")
    if "user-defined function" in str(cause) or "Could not decode to UTF-8" in str(cause):
        return CorruptStore(f"a row of {path} is damaged: run `memodb check`")
    return StoreError(f"the catalog {path} cannot serve this call: {cause}")
