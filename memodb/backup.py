"""Backups: a copy of a store, taken while it is in use, that was checked before it is called one; and back.

The catalog is copied by SQLite's backup API, which copies one state of it whatever is being committed, never as a file:
a file that is being written can be copied half. The tiles follow from the copy, which names them. Then the copy is
opened like any store: interrupted deletions are finished in it, and every text, row and memory is compared. Only what
checks clean gets its manifest, and only what has one can be restored.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from memodb import erasure
from memodb.catalog import Catalog, Filters, Scope, documents, history, now, registry
from memodb.catalog.columns import aware
from memodb.catalog.engines import MEMORY
from memodb.catalog.history import BackupRow
from memodb.cipher import KeyService, MemoryKeys
from memodb.collection import Collection, check
from memodb.errors import Conflict, CorruptStore, InvalidInput, LedgerMissing, ReadOnlyStore
from memodb.ledger import ledger_at, unbind
from memodb.opening import Engine, Options, open_engine
from memodb.storage import (
    KeyFile,
    Leases,
    StoreDirectory,
    WriterLock,
    beside,
    copy_file,
    digest_of,
    path_text,
    place,
    read_manifest,
    saying,
    sync_file,
    write_manifest,
)

__all__ = ["Backup", "backup", "record_backup", "restore"]


@dataclass(frozen=True)
class CollectionBackup:
    """A collection in a backup: its documents (expired and quarantined ones too), tokens, and a SHA-256 over both."""

    name: str
    documents: int
    tokens: int
    digest: str


@dataclass(frozen=True)
class Backup:
    """A finished backup.

    Parameters
    ----------
    id : str
        Random.
    path : str
        Its directory.
    created_at : datetime
        UTC.
    collections : tuple of CollectionBackup
    nbytes : int
        Bytes of its files.
    """

    id: str
    path: str
    created_at: datetime
    collections: tuple[CollectionBackup, ...]
    nbytes: int

    @property
    def documents(self) -> int:
        """Documents of all collections."""
        return sum(collection.documents for collection in self.collections)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "id": self.id,
            "path": self.path,
            "created_at": self.created_at.isoformat(),
            "documents": self.documents,
            "nbytes": self.nbytes,
            "collections": list(map(asdict, self.collections)),
        }

    @classmethod
    def of(cls, path: Path, stated: dict[str, Any]) -> Backup:
        """The backup that a manifest describes."""
        return cls(
            stated["id"],
            str(path),
            datetime.fromisoformat(stated["created_at"]),
            tuple(
                CollectionBackup(each["name"], each["documents"], each["tokens"], each["digest"])
                for each in stated["collections"]
            ),
            sum(file["bytes"] for file in stated["files"].values()),
        )


def backup(engine: Engine, path: str | os.PathLike[str], *, keep_until: datetime | None = None) -> Backup:
    """Back up an open store: see :meth:`memodb.Store.backup`."""
    target = _directory(path)
    until = None if keep_until is None else aware(keep_until, "keep_until")
    with saying(f"{target} cannot be a backup"):
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise Conflict(f"{target} exists and is not empty: name a new directory for the backup")
    if engine.directory is not None and engine.directory.path.resolve() in target.resolve().parents:
        raise InvalidInput(f"{target} lies inside the store: a backup belongs elsewhere, best on another disk")
    taken = BackupRow(secrets.token_hex(16), now(), until)
    with beside(target) as made, _remembered(engine, taken):
        copy = StoreDirectory(made)
        _copy_state(engine, copy)
        collections, audit = _verified(made, engine.foreign_keys)
        copy.strip()
        sync_file(copy.catalog)
        with saying(f"the backup {made} cannot be read"):
            files = {
                str(file.relative_to(made)): {"bytes": file.stat().st_size, "sha256": digest_of(file)}
                for file in sorted(made.rglob("*"))
                if file.is_file()
            }
        stated = {
            "id": taken.id,
            "created_at": taken.created_at.isoformat(),
            "audit": audit,
            "collections": list(map(asdict, collections)),
            "files": files,
        }
        write_manifest(copy.backup, stated)
        place(made, target)
    return Backup.of(target, stated)


def record_backup(engine: Engine, path: str | os.PathLike[str], keep_until: datetime | None) -> None:
    """Record a backup that is there: see :meth:`memodb.Store.backup_taken`."""
    until = None if keep_until is None else aware(keep_until, "keep_until")
    engine.catalog.require_usable()
    stated = read_manifest(StoreDirectory(_directory(path)).backup)
    with engine.catalog.read() as session:
        known = {row.id for row in history.backups(session)}
    if stated["id"] in known:
        raise Conflict(f"the backup {stated['id']} is recorded already")
    if engine.read_only:
        raise ReadOnlyStore(f"the store {engine.path} was opened with read_only=True")
    _remember(engine, BackupRow(stated["id"], datetime.fromisoformat(stated["created_at"]), until))


def _remember(engine: Engine, taken: BackupRow) -> None:
    """Have receipts of later deletions tell of a backup; a handle that only reads cannot."""
    if engine.read_only:
        return
    with engine.steady():
        with engine.catalog.write() as session:
            history.add_backup(session, taken)
            engine.audit.record(session, "backup", None, [taken.id], until=taken.keep_until, time=taken.created_at)
        engine.audit.mirror()


@contextlib.contextmanager
def _remembered(engine: Engine, taken: BackupRow) -> Iterator[None]:
    """Record a backup before it is copied, since receipts of what is deleted while it is made are to tell of it; and
    that it came to nothing, where the block fails.
    """
    _remember(engine, taken)
    try:
        yield
    except BaseException:
        if not engine.read_only:
            with engine.steady():
                erasure.destroy_backup(engine.audit, engine.collections(), taken.id)
        raise


def _copy_state(engine: Engine, copy: StoreDirectory) -> None:
    """One state of the catalog, the tokenizer, and the tiles that this state names."""
    with engine.steady(), contextlib.ExitStack() as stack:
        if engine.directory is not None:  # from before the copy: the tiles it names stay until they are copied too
            stack.enter_context(Leases(engine.directory.leases).reading())
        engine.catalog.copy_to(copy.catalog)
        copy.write_tokenizer(engine.tokenizer.json)
        if engine.directory is not None and engine.directory.keys.exists():
            copy_file(engine.directory.keys, copy.keys)
        elif isinstance(engine.catalog.keys, MemoryKeys):
            KeyFile.make_of(copy.keys, engine.catalog.keys.kept())
        if engine.directory is not None:
            with Catalog.open(copy.catalog, read_only=True) as catalog, catalog.read() as session:
                named = registry.named_tiles(session)
            copy.take_tiles(engine.directory, named)


def _verified(path: Path, keys: KeyService | None) -> tuple[tuple[CollectionBackup, ...], int]:
    """Open a copy for writing, as after a crash, and compare everything with everything.

    Returns
    -------
    collections : tuple of CollectionBackup
    audit : int
        Lines of the audit log that it knows: a ledger with fewer is too old to restore it by.

    Raises
    ------
    CorruptStore
        The copy is not sound: nor is the store, then.
    """
    with open_engine(path, Options(read_only=False, keys=keys, scratch=True)) as engine:
        _require_sound(engine)
        engine.catalog.shrink()
        with engine.catalog.read() as session:
            audit = history.line_count(session)
        return tuple(map(_described, engine.collections())), audit


def _require_sound(engine: Engine) -> None:
    """Compare everything with everything; a tile that was superseded or damaged is left out, since it is derived.

    Raises
    ------
    CorruptStore
        Names the first thing that is wrong.
    """
    for collection in engine.collections():
        report = check(collection, fix=True)
        if report.remaining:
            raise CorruptStore(
                f"collection {collection.name!r} is damaged: {report.remaining[0]}; run `memodb check --fix` on the "
                "store, or restore an older backup"
            )


def _described(collection: Collection) -> CollectionBackup:
    """What a collection holds, by its rows alone: neither the clock nor a key that was destroyed since changes it."""
    state = hashlib.sha256()
    count = tokens = 0
    with collection.catalog.read() as session:
        for row in documents.select(session, collection.id, Filters(scope=Scope.STORED), order="id"):
            state.update(row.digest + f"{row.state.value} {row.expires_at}\n".encode())
            count, tokens = count + 1, tokens + row.token_count
    return CollectionBackup(collection.name, count, tokens, state.hexdigest())


def restore(
    backup: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    ledger: str | os.PathLike[str] | None = None,
    without_ledger: bool = False,
    replace: bool = False,
    keys: KeyService | None = None,
) -> Backup:
    """Make a store of a backup, without what was erased since.

    Parameters
    ----------
    backup : path
        A directory that :meth:`memodb.Store.backup` made.
    path : path
        Of the store to make.
    ledger : path, optional
        Directory of the ledger of the store that was backed up, or a copy; that in the store to replace otherwise. The
        new store gets a copy of it in its own directory. What it tells of after the backup was made is carried out
        again before the store is put in place: erasures, holds, quarantine, expiry and suppressions.
    without_ledger : bool
        Restore without one: what was erased since the backup was made comes back, suppressed texts are accepted, and
        receipts are signed with a new key.
    replace : bool
        Whether a store that is there is replaced, at once and for good. It must not be open for writing, and readers of
        the old one have to open the new one.
    keys : KeyService, optional
        As for :func:`memodb.connect`, where the store was created with one.

    Returns
    -------
    Backup
        What was restored.

    Raises
    ------
    NotFound
        There is no finished backup.
    CorruptStore
        The backup is not as it was made; nothing was changed.
    Conflict
        There is a store, and ``replace`` is false; or something else.
    StoreLocked
        The store to replace is open for writing.
    LedgerMissing
        There is no ledger, or one that is older than the backup; nothing was changed.
    StoreMismatch
        The ledger is another store's.

    Notes
    -----
    Durable, and checked as a store after it was copied, when this returns.
    """
    source, target = _directory(backup), _directory(path)
    stated = read_manifest(StoreDirectory(source).backup)
    held = StoreDirectory(target)
    try:
        exists = held.holds_store()
    except CorruptStore:  # what a backup is for
        exists = True
    if ledger is not None and without_ledger:
        raise InvalidInput("name a ledger or restore without one, not both")
    if exists and not replace:
        raise Conflict(f"{target} holds a store: restore to another path, or replace it (replace=True, --replace)")
    with contextlib.ExitStack() as stack:
        if exists:
            lock = WriterLock(held.lock)
            stack.callback(lock.release)
        made = stack.enter_context(beside(target))
        for name, file in stated["files"].items():
            if copy_file(source / name, made / name) != file["sha256"]:
                raise CorruptStore(f"{source / name} is not as it was when the backup was made: take another backup")
        with open_engine(made, Options(read_only=False, keys=keys, scratch=True)) as engine:
            if [asdict(_described(collection)) for collection in engine.collections()] != stated["collections"]:
                raise CorruptStore(f"what {source} holds is not what its manifest says: take another backup")
        if without_ledger:
            unbind(StoreDirectory(made), keys)
        else:
            _require_ledger(made, held, ledger, stated["audit"])
        with open_engine(made, Options(read_only=False, keys=keys)) as engine:  # carries out what the ledger tells
            _require_sound(engine)  # only now: the keys of what was erased since may be gone
            _record_restore(engine, stated["id"])
        StoreDirectory(made).strip()
        place(made, target)
    return Backup.of(source, stated)


def _require_ledger(made: Path, held: StoreDirectory, named: Any, least: int) -> None:
    """See that there is a ledger to restore by, and give the new store a copy of it."""
    ledger = ledger_at(held, named)
    if not ledger.exists():
        raise LedgerMissing(
            f"there is no ledger at {ledger.path}: name that of the store that was backed up (ledger=..., --ledger), "
            "or restore without one (without_ledger=True, --without-ledger), and what was erased since comes back"
        )
    if ledger.count() < least:
        raise LedgerMissing(
            f"the ledger at {ledger.path} is older than the backup: it has {ledger.count()} entries, the backup knew "
            f"{least}. Name the newest copy of it"
        )
    ledger.copy_to(StoreDirectory(made).ledger)


def _record_restore(engine: Engine, backup_id: str) -> None:
    with engine.catalog.write() as session:
        engine.audit.record(session, "restore", None, [backup_id])
    engine.audit.mirror()


def _directory(path: object) -> Path:
    name = path_text(path)
    if name == MEMORY:
        raise InvalidInput("a backup, and what is restored from one, is a directory: name a path")
    return Path(name)
