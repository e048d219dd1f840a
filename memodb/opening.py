"""Opening and creating stores: what is bound for life, what is checked, and what all handles of a store share."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

from memodb.catalog import Catalog, CollectionRow, erasing, registry
from memodb.catalog.columns import identifier
from memodb.catalog.connection import MEMORY
from memodb.catalog.pragmas import journal_mode
from memodb.collection import Collection, finish_deletions
from memodb.errors import (
    CollectionNotFound,
    CorruptStore,
    InvalidConfiguration,
    InvalidInput,
    StoreMismatch,
    StoreNotFound,
)
from memodb.memory import Backend, Configuration, backend_for
from memodb.storage import Ballast, StoreDirectory, WriterLock, require_local
from memodb.text import Tokenizer

__all__ = ["Engine", "open_engine", "path_text", "require_collection"]

_SETTING = "store"
"""The catalog's record of what a store is bound to. It is written last: a store without it was never finished."""


class Engine:
    """What the handles of one open store share: catalog, tokenizer, configuration, lock, and live collections."""

    def __init__(
        self,
        path: str,
        catalog: Catalog,
        tokenizer: Tokenizer,
        configuration: Configuration,
        backend: Backend,
        lock: WriterLock | None,
        *,
        read_only: bool,
        checkpoint_tokens: int | None = None,
    ) -> None:
        self.path = path
        self.directory = None if path == MEMORY else StoreDirectory(Path(path))
        self.catalog = catalog
        self.tokenizer = tokenizer
        self.configuration = configuration
        self.backend = backend
        self.read_only = read_only
        self.checkpoint_tokens = checkpoint_tokens
        self._lock = lock
        self._collections: dict[str, Collection] = {}
        self._guard = threading.Lock()
        self._writing = threading.RLock()

    def collection(self, name: str, *, create: bool, seed: bytes | None) -> Collection:
        """The live collection of this name: one object, however many handles see it.

        Raises
        ------
        CollectionNotFound
            It is missing and must not be created.
        StoreMismatch
            It has another seed than the one given.
        """
        require_collection(name, seed)
        found = self._collections.get(name)
        if found is None:
            # Not under the guard: creating waits for the writers' turn, and a writer may be waiting for the guard.
            row = self._row(name, create=create, seed=seed)
            with self._guard:
                found = self._collections.get(name)
                if found is None:
                    found = self._collections[name] = self._live(row)
        if seed is not None and found.key != seed:
            raise StoreMismatch(f"collection {name!r} was created with another seed: leave seed out")
        return found

    def _row(self, name: str, *, create: bool, seed: bytes | None) -> CollectionRow:
        try:
            with self.catalog.read() as session:
                return registry.find_collection(session, name)
        except CollectionNotFound:
            if not create or self.read_only:
                raise
        with self._writing, self.catalog.write() as session:
            try:
                return registry.find_collection(session, name)  # another thread was faster
            except CollectionNotFound:
                return registry.add_collection(session, name, key=seed)

    def _live(self, row: CollectionRow) -> Collection:
        return Collection(
            self.catalog,
            row,
            self.tokenizer,
            self.configuration,
            self.backend,
            read_only=self.read_only,
            write_lock=self._writing,
            directory=self.directory,
            checkpoint_tokens=self.checkpoint_tokens,
        )

    def resume(self) -> None:
        """Finish what a crash interrupted: deletions whose documents are hidden already.

        Raises
        ------
        StoreError
            It cannot be finished now, for want of space for example.
        """
        with self.catalog.read() as session:
            unfinished = erasing.collections_with_hidden(session)
        for name in unfinished:
            finish_deletions(self.collection(name, create=False, seed=None))

    def steady(self) -> contextlib.AbstractContextManager[object]:
        """Keeps this process from committing for the block."""
        return self._writing

    def close(self) -> None:
        """Close the catalog and give back the lock; idempotent. A transaction of another thread ends first."""
        with self._writing:
            self._collections.clear()
            self.catalog.close()
            if self._lock is not None:
                self._lock.release()

    @property
    def disk_bytes(self) -> int:
        """Bytes of the store's files; 0 for one in memory."""
        return 0 if self.directory is None else self.directory.nbytes()


def require_collection(name: str, seed: bytes | None) -> None:
    """Refuse a name or a seed that no collection could have, before anything is made for it."""
    identifier(name, "collection name")
    if seed is not None and (not isinstance(seed, bytes) or len(seed) != registry.KEY_BYTES):
        raise InvalidConfiguration(f"seed must be {registry.KEY_BYTES} bytes, for example secrets.token_bytes(32)")


def path_text(path: object) -> str:
    """A path as text; InvalidInput where the operating system could not take it."""
    try:
        name = os.fspath(path)  # type: ignore[call-overload]  # any value may be given
        if isinstance(name, str) and name and b"\0" not in os.fsencode(name):
            return name
    except (TypeError, UnicodeEncodeError):
        pass
    raise InvalidInput(f"a path must be a text that can name a directory, not {path!r}")


def open_engine(
    path: str | os.PathLike[str],
    *,
    create: bool,
    read_only: bool,
    tokenizer: str | os.PathLike[str] | None,
    settings: dict[str, Any],
    checkpoint_tokens: int | None = None,
    device: str = "cpu",
) -> Engine:
    """Open the store at a path, or create it: see :func:`memodb.connect`."""
    name = path_text(path)
    if checkpoint_tokens is not None and (type(checkpoint_tokens) is not int or checkpoint_tokens < 1):
        raise InvalidConfiguration(f"checkpoint_tokens must be a whole number from 1 up, not {checkpoint_tokens!r}")
    backend = backend_for(device)
    bound = None if tokenizer is None else Tokenizer.from_file(os.fspath(tokenizer))
    if name == MEMORY:
        if read_only or not create:
            raise StoreNotFound("a store in memory is always a new one: open it with create=True, read_only=False")
        tokenizer_of_store = bound or Tokenizer.shipped()
        configuration = _configuration(tokenizer_of_store, settings)
        catalog = Catalog.create(name)
        with catalog.write() as session:
            registry.put_setting(session, _SETTING, _statement(tokenizer_of_store, configuration))
        return Engine(name, catalog, tokenizer_of_store, configuration, backend, None, read_only=False)
    directory = StoreDirectory(Path(name))
    require_local(directory.path)
    exists = directory.holds_store()
    if not exists and (read_only or not create):
        directory.require()
    if not read_only:
        directory.require_no_backup()
    if not exists:
        # checked before the first file is made: a refused creation leaves nothing behind
        _configuration(bound or Tokenizer.shipped(), settings)
        directory.create()
    lock = None if read_only else WriterLock(directory.lock)
    try:
        return _open_files(
            name, directory, lock, backend, bound, settings, checkpoint_tokens, read_only=read_only, create=create
        )
    except BaseException:
        if lock is not None:
            lock.release()
        raise


def _open_files(
    name: str,
    directory: StoreDirectory,
    lock: WriterLock | None,
    backend: Backend,
    bound: Tokenizer | None,
    settings: dict[str, Any],
    checkpoint_tokens: int | None,
    *,
    read_only: bool,
    create: bool,
) -> Engine:
    directory.require_own_files()  # looked at again, under the lock
    unfinished = not directory.catalog.exists() or directory.catalog.stat().st_size == 0
    if unfinished and (read_only or not create):
        raise _interrupted(name)
    if not read_only:
        directory.prepare_journal(journal_mode())
    if directory.catalog.exists():
        # By what is in it, not by its size: SQLite may still have to undo what was being written when its maker died.
        catalog = Catalog.open(directory.catalog, read_only=read_only, finish=create)
    else:
        catalog = Catalog.create(directory.catalog)
    try:
        with catalog.read() as session:
            registry.require_sound(session)
            stated = registry.get_setting(session, _SETTING)
            begun = not registry.list_collections(session)
        if stated is None:
            if not begun:
                raise CorruptStore(
                    f"{name} does not say which tokenizer its documents are in: restore it from a backup"
                )
            if read_only or not create:
                raise _interrupted(name)
            tokenizer = bound or Tokenizer.shipped()
            configuration = _configuration(tokenizer, settings)
            directory.write_tokenizer(tokenizer.json)
            with catalog.write() as session:
                registry.put_setting(session, _SETTING, _statement(tokenizer, configuration))
        else:
            digest, configuration = _stored(stated, name)
            tokenizer = _bound_tokenizer(directory, digest, bound)
            if configuration.vocabulary != tokenizer.vocabulary_size:  # before tables of it are made
                raise CorruptStore(f"the settings of {name} are not of its tokenizer: restore it from a backup")
            _require_same(configuration, settings, name)
        engine = Engine(
            name,
            catalog,
            tokenizer,
            configuration,
            backend,
            lock,
            read_only=read_only,
            checkpoint_tokens=checkpoint_tokens,
        )
        if not read_only:
            _tidy(engine, directory)
        return engine
    except BaseException:
        catalog.close()
        raise


def _tidy(engine: Engine, directory: StoreDirectory) -> None:
    """What a writer does first: sweep up after a crash, finish what it interrupted, set space aside."""
    directory.prepare()
    with engine.catalog.read() as session:
        named = registry.named_tiles(session)
    directory.sweep(named)
    engine.resume()
    Ballast(directory.ballast, directory.catalog).fill()


def _interrupted(name: str) -> StoreNotFound:
    return StoreNotFound(f"the creation of {name} was interrupted: open it once for writing to finish it")


def _statement(tokenizer: Tokenizer, configuration: Configuration) -> dict[str, Any]:
    return {"tokenizer": tokenizer.digest, "configuration": configuration.to_dict()}


def _stored(stated: Any, name: str) -> tuple[str, Configuration]:
    """Digest of the tokenizer and configuration, as the catalog says them."""
    try:
        return str(stated["tokenizer"]), Configuration(**stated["configuration"])
    except (KeyError, TypeError, InvalidConfiguration) as exc:
        raise CorruptStore(f"the settings of {name} are none that memodb writes: restore it from a backup") from exc


def _configuration(tokenizer: Tokenizer, settings: dict[str, Any]) -> Configuration:
    return Configuration(vocabulary=tokenizer.vocabulary_size, **settings)


def _bound_tokenizer(directory: StoreDirectory, digest: str, given: Tokenizer | None) -> Tokenizer:
    """The store's own tokenizer, from its copy."""
    if given is not None and given.digest != digest:
        raise StoreMismatch(
            f"{directory.path} is bound to the tokenizer {digest[:12]}, not to {given.digest[:12]}: token ids mean "
            "nothing under another one. Leave tokenizer out, or create another store"
        )
    shipped = Tokenizer.shipped()
    if shipped.digest == digest:
        return shipped
    data = directory.read_tokenizer()
    # before it is parsed: damage that still decompresses is damage, not a tokenizer of the caller's that is no good
    if hashlib.sha256(data).hexdigest() != digest:
        raise CorruptStore(
            f"{directory.tokenizer} is not the tokenizer that the store was created with ({digest[:12]}): put that back"
        )
    return Tokenizer.from_bytes(data)


def _require_same(configuration: Configuration, settings: dict[str, Any], name: str) -> None:
    known = {field.name for field in fields(Configuration)}
    for setting, value in settings.items():
        if setting in known and getattr(configuration, setting) != value:
            raise StoreMismatch(
                f"{name} was created with {setting}={getattr(configuration, setting)}, not {value}: leave it out, or "
                "create another store and import into it"
            )
