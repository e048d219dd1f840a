"""Queries on what was done: the audit log's lines, and the backups that were taken.

Every function works inside the caller's session: nothing is durable before that session's block ends without an error.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from memodb.catalog.execution import changed, run, scalar, scalars
from memodb.catalog.models import TABLES, Backup
from memodb.catalog.seals import broken, inserted, resealed
from memodb.errors import CorruptStore, NotFound

__all__ = ["BackupRow", "add_backup", "append_lines", "backups", "destroy_backup", "line_count", "lines"]

_AT_A_TIME = 500
_AUDIT = TABLES["audit"]
_BACKUP = TABLES["backup"]
_BACKUPS = select(
    _BACKUP.c.id, _BACKUP.c.created_at, _BACKUP.c.keep_until, _BACKUP.c.destroyed_at, broken(_BACKUP).label("damaged")
).order_by(_BACKUP.c.created_at, _BACKUP.c.id)
_LINE_COUNT = select(func.coalesce(func.max(_AUDIT.c.seq) + 1, 0))
_LINES = select(_AUDIT.c.entry).where(_AUDIT.c.seq >= bindparam("start")).order_by(_AUDIT.c.seq)


@dataclass(frozen=True)
class BackupRow:
    """A backup that was taken.

    Parameters
    ----------
    keep_until : datetime or None
        When its keeper said it would be destroyed.
    destroyed_at : datetime or None
        When its keeper said that it was.
    """

    id: str
    created_at: datetime
    keep_until: datetime | None
    destroyed_at: datetime | None = None


def line_count(session: Session) -> int:
    """Lines of the audit log: the number of the next one.

    Raises
    ------
    CorruptStore
        The last one has a number that none has.
    """
    count = scalar(session, _LINE_COUNT)
    if type(count) is not int or count < 0:
        raise CorruptStore("the audit log is damaged: restore the store from a backup")
    return count


def append_lines(session: Session, lines: Iterable[bytes], start: int | None = None) -> None:
    """Append lines to the audit log; behind so many, where the caller has asked for their number already."""
    for seq, line in enumerate(lines, line_count(session) if start is None else start):
        run(session, *inserted(_AUDIT, seq=seq, entry=line))


def lines(session: Session, start: int = 0) -> Iterator[bytes]:
    """The audit log's lines from a number on; a few at a time in memory."""
    for line in scalars(session, _LINES, {"start": start}, execution_options={"yield_per": _AT_A_TIME}):
        if not isinstance(line, bytes):
            raise CorruptStore("a line of the audit log is damaged: restore the store from a backup")
        yield line


def add_backup(session: Session, row: BackupRow) -> None:
    """Remember that a backup was taken."""
    run(session, *inserted(_BACKUP, **vars(row)))


def destroy_backup(session: Session, backup_id: str, at: datetime) -> None:
    """Record that a backup is no more.

    Raises
    ------
    NotFound
        No such backup was taken, or it is gone already.
    """
    chosen = (Backup.id == backup_id, Backup.destroyed_at.is_(None))
    statement = update(Backup).where(*chosen).values(**resealed(_BACKUP, destroyed_at=at))
    if not changed(session, statement):
        raise NotFound(f"the store knows of no backup {backup_id!r} that is not destroyed: list them with backups()")


def backups(session: Session, *, before: datetime | None = None) -> list[BackupRow]:
    """Backups that were taken, the oldest first; before a time, and still kept, where one is given.

    Raises
    ------
    CorruptStore
        A row is not as it was written: whether that backup holds what was deleted is not known.
    """
    found = []
    for *values, damaged in run(session, _BACKUPS):
        row = BackupRow(*values)
        if damaged or not isinstance(row.created_at, datetime):
            raise CorruptStore(f"the row of backup {row.id!r} is damaged: restore the store from a backup")
        if before is None or (row.created_at < before and row.destroyed_at is None):
            found.append(row)
    return found
