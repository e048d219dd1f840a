"""Opening and creating stores: what is bound for life, what is checked, and what all handles of a store share."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from memodb.catalog import Catalog, CollectionRow, erasing, registry
from memodb.catalog.columns import identifier
from memodb.catalog.engines import MEMORY
from memodb.catalog.pragmas import journal_mode
from memodb.cipher import KeyService, MemoryKeys
from memodb.collection import AuditLog, Collection, finish_deletions, require_code
from memodb.erasure import conclude_all, replay
from memodb.errors import (
    CollectionNotFound,
    CorruptStore,
    InvalidConfiguration,
    InvalidInput,
    StoreMismatch,
    StoreNotFound,
)
from memodb.ledger import opened_audit
from memodb.memory import ENGINES, Backend, Configuration, WillshawConfiguration, backend_for
from memodb.storage import Ballast, KeyFile, Leases, StoreDirectory, WriterLock, path_text, require_local
from memodb.text import Tokenizer

__all__ = ["Engine", "Options", "open_engine", "require_collection"]

_SETTING = "store"
"""The catalog's record of what a store is bound to. It is written last: a store without it was never finished."""

_SAMPLE = 16
"""Keys that are looked for before a store is opened: one may be damaged, all of them are not."""


@dataclass(frozen=True)
class Options:
    """How a store is opened: see :func:`memodb.connect`.

    Parameters
    ----------
    scratch : bool
        A copy that is only checked: it has no ledger, and nothing is signed in its name.
    """

    create: bool = False
    read_only: bool = True
    tokenizer: str | os.PathLike[str] | None = None
    require_provenance: bool | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_tokens: int | None = None
    device: str = "cpu"
    fast: bool | None = None
    keys: KeyService | None = None
    ledger: str | os.PathLike[str] | None = None
    actor: str | None = None
    scratch: bool = False


class Engine:
    """What the handles of one open store share: catalog, tokenizer, configuration, lock, and live collections.

    A context manager that closes itself.
    """

    def __init__(
        self,
        path: str,
        catalog: Catalog,
        tokenizer: Tokenizer,
        configuration: Configuration,
        backend: Backend,
        lock: WriterLock | None,
        audit: AuditLog,
        options: Options,
        *,
        requires_provenance: bool,
    ) -> None:
        self.path = path
        self.directory = None if path == MEMORY else StoreDirectory(Path(path))
        self.catalog = catalog
        self.tokenizer = tokenizer
        self.configuration = configuration
        self.backend = backend
        self.audit = audit
        self.read_only = options.read_only
        self.ledger = options.ledger
        self._checkpoint_tokens = options.checkpoint_tokens
        self._requires_provenance = requires_provenance
        self.foreign_keys = options.keys
        """The key service that the caller gave, and will close."""
        self._lock = lock
        self._collections: dict[str, Collection] = {}
        self._guard = threading.Lock()
        self._writing = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def collection(self, name: str, *, create: bool = False, seed: bytes | None = None) -> Collection:
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

    def collections(self) -> list[Collection]:
        """Every collection of the store, alive, by name."""
        with self.catalog.read() as session:
            names = registry.collection_names(session)
        return [self.collection(name) for name in names]

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
            checkpoint_tokens=self._checkpoint_tokens,
            audit=self.audit,
            requires_provenance=self._requires_provenance,
        )

    def resume(self, *, conclude: bool) -> None:
        """Finish what a crash interrupted: deletions whose documents are hidden already.

        Parameters
        ----------
        conclude : bool
            Verify them as well, and sign their receipts.

        Raises
        ------
        StoreError
            It cannot be finished now, for want of space for example.
        """
        with self.catalog.read() as session:
            unfinished = erasing.collections_with_unfinished(session)
        for name in unfinished:
            collection = self.collection(name)
            finish_deletions(collection)
            if conclude:
                conclude_all(collection)

    def steady(self) -> contextlib.AbstractContextManager[object]:
        """Keeps this process from committing for the block."""
        return self._writing

    def close(self) -> None:
        """Close the catalog and give back the lock; idempotent. A transaction of another thread ends first."""
        with self._writing:
            self._collections.clear()
            self.catalog.close()
            if self.foreign_keys is None and self.catalog.keys is not None:
                self.catalog.keys.close()
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


def open_engine(path: str | os.PathLike[str], options: Options = Options()) -> Engine:
    """Open the store at a path, or create it: see :func:`memodb.connect`."""
    name = path_text(path)
    tokens = options.checkpoint_tokens
    if tokens is not None and (type(tokens) is not int or tokens < 1):
        raise InvalidConfiguration(f"checkpoint_tokens must be a whole number from 1 up, not {tokens!r}")
    require_code("actor", options.actor)
    backend = backend_for(options.device, options.fast)
    bound = None if options.tokenizer is None else Tokenizer.from_file(os.fspath(options.tokenizer))
    if name == MEMORY:
        return _open_memory(backend, bound or Tokenizer.shipped(), options)
    directory = StoreDirectory(Path(name))
    require_local(directory.path)
    exists = directory.holds_store()
    if not exists and (options.read_only or not options.create):
        directory.require()
    if not options.read_only:
        directory.require_no_backup()
    if not exists:
        # checked before the first file is made: a refused creation leaves nothing behind
        configuration = _configuration(bound or Tokenizer.shipped(), options.settings)
        backend.require_room(configuration.least_bytes, f"a memory of the engine {configuration.engine}")
        directory.create()
    lock = None if options.read_only else WriterLock(directory.lock)
    try:
        return _open_files(name, directory, lock, backend, bound, options)
    except BaseException:
        if lock is not None:
            lock.release()
        raise


def _open_memory(backend: Backend, tokenizer: Tokenizer, options: Options) -> Engine:
    if options.read_only or not options.create:
        raise StoreNotFound("a store in memory is always a new one: open it with create=True, read_only=False")
    if options.ledger is not None:
        raise InvalidInput("a store in memory has no ledger: nothing of it outlives the process")
    configuration = _configuration(tokenizer, options.settings)
    catalog = Catalog.create(MEMORY, keys=options.keys or MemoryKeys())
    with catalog.write() as session:
        registry.put_setting(session, _SETTING, _statement(tokenizer, configuration, options))
    audit = AuditLog(catalog, secrets.token_hex(16), None, None, options.actor)
    strict = bool(options.require_provenance)
    return Engine(MEMORY, catalog, tokenizer, configuration, backend, None, audit, options, requires_provenance=strict)


def _open_files(
    name: str,
    directory: StoreDirectory,
    lock: WriterLock | None,
    backend: Backend,
    bound: Tokenizer | None,
    options: Options,
) -> Engine:
    directory.require_own_files()  # looked at again, under the lock
    unfinished = not directory.catalog.exists() or directory.catalog.stat().st_size == 0
    if unfinished and (options.read_only or not options.create):
        raise _interrupted(name)
    if not options.read_only:
        directory.prepare_journal(journal_mode())
    catalog = _opened_catalog(directory, options)
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
            if options.read_only or not options.create:
                raise _interrupted(name)
            tokenizer = bound or Tokenizer.shipped()
            configuration = _configuration(tokenizer, options.settings)
            directory.write_tokenizer(tokenizer.json)
            with catalog.write() as session:
                registry.put_setting(session, _SETTING, _statement(tokenizer, configuration, options))
            strict = bool(options.require_provenance)
        else:
            digest, configuration, strict = _stored(stated, name)
            tokenizer = _bound_tokenizer(directory, digest, bound)
            if configuration.vocabulary != tokenizer.vocabulary_size:  # before tables of it are made
                raise CorruptStore(f"the settings of {name} are not of its tokenizer: restore it from a backup")
            _require_same(configuration, options.settings, name)
            if options.require_provenance not in (None, strict):
                raise StoreMismatch(f"{name} was created with require_provenance={strict}: leave it out")
        audit = opened_audit(catalog, directory, options)
        engine = Engine(
            name, catalog, tokenizer, configuration, backend, lock, audit, options, requires_provenance=strict
        )
        if not options.read_only:
            _tidy(engine, directory, options)
        return engine
    except BaseException:
        catalog.close()
        if options.keys is None and catalog.keys is not None:
            catalog.keys.close()
        raise


def _opened_catalog(directory: StoreDirectory, options: Options) -> Catalog:
    """The catalog with its keys; both are made where there is none."""
    # By what is in it, not by its size: SQLite may still have to undo what was being written when its maker died.
    exists = directory.catalog.exists()
    made = options.keys is None and not options.read_only and not directory.keys.exists()
    if made:
        KeyFile.make(directory.keys)
    keys = options.keys or (
        KeyFile(directory.keys, read_only=options.read_only) if made or directory.keys.exists() else None
    )
    try:
        if not exists:
            return Catalog.create(directory.catalog, keys=keys)
        catalog = Catalog.open(directory.catalog, keys=keys, read_only=options.read_only, finish=options.create)
        try:
            _require_keys(catalog, directory)
        except BaseException:
            catalog.close()
            raise
        return catalog
    except BaseException:
        if options.keys is None and keys is not None:
            keys.close()
            if made and exists:
                directory.keys.unlink(missing_ok=True)  # not to be taken for the one that is missing
        raise


def _require_keys(catalog: Catalog, directory: StoreDirectory) -> None:
    """Refuse a store whose keys are not there: an empty key file would say of every document that it was forgotten."""
    with catalog.read() as session:
        sample = list(islice(registry.named_keys(session), _SAMPLE))
    if sample and not any(_has(catalog.keys, name) for name in sample):
        raise CorruptStore(
            f"none of the keys that {directory.path} names is there: put back its file {directory.keys.name!r}, name "
            "the key service that it was created with (keys=...), or restore it from a backup"
        )


def _has(keys: KeyService | None, name: bytes) -> bool:
    try:
        return keys is not None and keys.read([name])[0] is not None
    except CorruptStore:  # damaged, and there: its document alone cannot be read
        return True


def _tidy(engine: Engine, directory: StoreDirectory, options: Options) -> None:
    """What a writer does first: sweep up after a crash, finish what it interrupted, set space aside."""
    directory.prepare()
    with engine.catalog.read() as session:
        named = registry.named_tiles(session)
    directory.sweep(named)
    _sweep_keys(engine.catalog, directory)
    engine.resume(conclude=not options.scratch)
    if not options.scratch:
        replay(engine.audit, engine.collections)
    Ballast(directory.ballast, directory.catalog).fill()


def _sweep_keys(catalog: Catalog, directory: StoreDirectory) -> None:
    """Destroy the keys that nothing names: of what a crash kept from being committed."""
    keys = catalog.keys
    if not isinstance(keys, KeyFile):
        return
    with catalog.read() as session:
        if keys.count == registry.key_count(session):
            return
        orphans = list(keys.orphans(registry.named_keys(session)))
    with Leases(directory.leases).destroying():
        keys.destroy(orphans)


def _interrupted(name: str) -> StoreNotFound:
    return StoreNotFound(f"the creation of {name} was interrupted: open it once for writing to finish it")


def _statement(tokenizer: Tokenizer, configuration: Configuration, options: Options) -> dict[str, Any]:
    return {
        "tokenizer": tokenizer.digest,
        "engine": configuration.engine,
        "configuration": configuration.to_dict(),
        "require_provenance": bool(options.require_provenance),
    }


def _stored(stated: Any, name: str) -> tuple[str, Configuration, bool]:
    """Digest of the tokenizer, configuration, and whether provenance is required, as the catalog says them."""
    try:
        strict = stated.get("require_provenance", False)  # older stores do not say
        kind = ENGINES[stated.get("engine", WillshawConfiguration.engine)]  # nor which engine they have
        return str(stated["tokenizer"]), kind(**stated["configuration"]), strict is True
    except (KeyError, TypeError, AttributeError, InvalidConfiguration) as exc:
        raise CorruptStore(f"the settings of {name} are none that memodb writes: restore it from a backup") from exc


def _configuration(tokenizer: Tokenizer, settings: Mapping[str, Any]) -> Configuration:
    """What a new store is built to.

    Raises
    ------
    InvalidConfiguration
        There is no such engine, or it has no such setting, or nothing can be built to it.
    """
    engine = settings.get("engine", WillshawConfiguration.engine)
    if engine not in ENGINES:
        raise InvalidConfiguration(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    known = {field.name for field in fields(ENGINES[engine])}
    for setting in settings:
        if setting not in known and setting != "engine":
            raise InvalidConfiguration(f"{setting} is no setting of the engine {engine}: leave it out")
    chosen = {setting: value for setting, value in settings.items() if setting != "engine"}
    return ENGINES[engine](vocabulary=tokenizer.vocabulary_size, **chosen)


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


def _require_same(configuration: Configuration, settings: Mapping[str, Any], name: str) -> None:
    for setting, value in settings.items():
        created_with = getattr(configuration, setting, None)
        if created_with != value:
            raise StoreMismatch(
                f"{name} was created with engine={configuration.engine}, which has no {setting}: leave it out"
                if created_with is None
                else f"{name} was created with {setting}={created_with}, not {value}: leave it out, or create another "
                "store and import into it"
            )
