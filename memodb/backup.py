"""Backups: a copy of a store, taken while it is in use, that was checked before it is called one; and back.

The catalog is copied by SQLite's backup API, which copies one state of it whatever is being committed, never as a file:
a file that is being written can be copied half. The tiles follow from the copy, which names them. Then the copy is
opened like any store: interrupted deletions are finished in it, and every text, row and memory is compared. Only what
checks clean gets its manifest, and only what has one can be restored.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memodb.catalog import Catalog, registry
from memodb.catalog.connection import MEMORY
from memodb.collection import check
from memodb.errors import Conflict, CorruptStore, InvalidInput
from memodb.opening import Engine, open_engine, path_text
from memodb.storage import (
    Leases,
    StoreDirectory,
    WriterLock,
    beside,
    copy_file,
    digest_of,
    place,
    read_manifest,
    saying,
    sync_file,
    write_manifest,
)

__all__ = ["Backup", "backup", "restore"]


@dataclass(frozen=True)
class CollectionBackup:
    """A collection in a backup: its documents, tokens, and the SHA-256 over every count of its memory."""

    name: str
    documents: int
    tokens: int
    digest: str


@dataclass(frozen=True)
class Backup:
    """A finished backup.

    Parameters
    ----------
    path : str
        Its directory.
    created_at : datetime
        UTC.
    collections : tuple of CollectionBackup
    nbytes : int
        Bytes of its files.
    """

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
            str(path),
            datetime.fromisoformat(stated["created_at"]),
            tuple(
                CollectionBackup(each["name"], each["documents"], each["tokens"], each["digest"])
                for each in stated["collections"]
            ),
            sum(file["bytes"] for file in stated["files"].values()),
        )


def backup(engine: Engine, path: str | os.PathLike[str]) -> Backup:
    """Back up an open store: see :meth:`memodb.Store.backup`."""
    target = _directory(path)
    with saying(f"{target} cannot be a backup"):
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise Conflict(f"{target} exists and is not empty: name a new directory for the backup")
    if engine.directory is not None and engine.directory.path.resolve() in target.resolve().parents:
        raise InvalidInput(f"{target} lies inside the store: a backup belongs elsewhere, best on another disk")
    with beside(target) as made:
        copy = StoreDirectory(made)
        _copy_state(engine, copy)
        collections = _verified(made)
        copy.strip()
        sync_file(copy.catalog)
        with saying(f"the backup {made} cannot be read"):
            files = {
                str(file.relative_to(made)): {"bytes": file.stat().st_size, "sha256": digest_of(file)}
                for file in sorted(made.rglob("*"))
                if file.is_file()
            }
        stated = {
            "created_at": datetime.now(UTC).isoformat(),
            "collections": list(map(asdict, collections)),
            "files": files,
        }
        write_manifest(copy.backup, stated)
        place(made, target)
    return Backup.of(target, stated)


def _copy_state(engine: Engine, copy: StoreDirectory) -> None:
    """One state of the catalog, the tokenizer, and the tiles that this state names."""
    with engine.steady(), contextlib.ExitStack() as stack:
        if engine.directory is not None:  # from before the copy: the tiles it names stay until they are copied too
            stack.enter_context(Leases(engine.directory.leases).reading())
        engine.catalog.copy_to(copy.catalog)
        copy.write_tokenizer(engine.tokenizer.json)
        if engine.directory is not None:
            with Catalog.open(copy.catalog, read_only=True) as catalog, catalog.read() as session:
                named = registry.named_tiles(session)
            copy.take_tiles(engine.directory, named)


def _verified(path: Path) -> tuple[CollectionBackup, ...]:
    """Open a copy for writing, as after a crash, and compare everything with everything.

    Raises
    ------
    CorruptStore
        The copy is not sound: nor is the store, then.
    """
    engine = open_engine(path, create=False, read_only=False, tokenizer=None, settings={}, device="cpu")
    try:
        with engine.catalog.read() as session:
            names = [summary.collection.name for summary in registry.list_collections(session)]
        found = []
        for name in names:
            collection = engine.collection(name, create=False, seed=None)
            report = check(collection, fix=True)  # a tile that was superseded or damaged is left out: it is derived
            if report.remaining:
                raise CorruptStore(
                    f"collection {name!r} is damaged: {report.remaining[0]}; run `memodb check --fix` on the store, or "
                    "restore an older backup"
                )
            with collection.reading() as memory:
                digest = memory.digest()
            tokens = sum(segment.tokens for segment in memory.segments.values())
            found.append(CollectionBackup(name, report.documents, tokens, digest))
        engine.catalog.shrink()
        return tuple(found)
    finally:
        engine.close()


def restore(backup: str | os.PathLike[str], path: str | os.PathLike[str], *, replace: bool = False) -> Backup:
    """Make a store of a backup.

    Parameters
    ----------
    backup : path
        A directory that :meth:`memodb.Store.backup` made.
    path : path
        Of the store to make.
    replace : bool
        Whether a store that is there is replaced, at once and for good. It must not be open for writing, and readers of
        the old one have to open the new one.

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

    Notes
    -----
    Durable, and checked as a store after it was copied, when this returns. What was deleted after the backup was made
    is in it and comes back: delete it again.
    """
    source, target = _directory(backup), _directory(path)
    stated = read_manifest(StoreDirectory(source).backup)
    held = StoreDirectory(target)
    try:
        exists = held.holds_store()
    except CorruptStore:  # what a backup is for
        exists = True
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
        restored = _verified(made)
        if [asdict(collection) for collection in restored] != stated["collections"]:
            raise CorruptStore(f"what {source} holds is not what its manifest says: take another backup")
        place(made, target)
    return Backup.of(source, stated)


def _directory(path: object) -> Path:
    name = path_text(path)
    if name == MEMORY:
        raise InvalidInput("a backup, and what is restored from one, is a directory: name a path")
    return Path(name)
