"""The catalog of a store: its file, its connections, its transactions."""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sqlalchemy.orm import Session
from sqlalchemy.pool import Pool

from memodb.catalog import media, registry, schema
from memodb.catalog.contents import KEYS
from memodb.catalog.engines import KIND, MEMORY, engine_for
from memodb.catalog.failures import mapped
from memodb.catalog.pragmas import BUSY_TIMEOUT, connect
from memodb.cipher import KeyService
from memodb.errors import (
    Conflict,
    CorruptStore,
    ReadOnlyStore,
    StoreClosed,
    StoreError,
    StoreLocked,
    StoreNotFound,
    SyncFailed,
)

__all__ = ["Catalog"]

_REWRITE: Final = "rewrite due"
"""The setting that tells of an upgrade whose file is still to be rewritten."""

_FINGERPRINT: Final = "schema"
"""The setting that keeps the fingerprint of the schema, as it was when memodb made or upgraded it."""


class Catalog:
    """An open catalog; made by `Catalog.create` or `Catalog.open`.

    Usable from any number of threads, not across a fork. A context manager that closes itself.

    `write` takes SQLite's write lock at once (BEGIN IMMEDIATE): a transaction that read first and asked for the lock
    later could only fail. When its block ends without an error the changes are on disk (synchronous=FULL). `read` sees
    one state of the catalog from its first query to its end. In a rollback journal (see `pragmas.journal_mode`) a
    commit waits for open reads, so keep reads short. ``":memory:"`` is one connection for all threads: sessions take
    turns, and one session inside another of the same thread is an error instead of a deadlock.
    """

    def __init__(self, path: str, keys: KeyService | None, *, read_only: bool, timeout: float) -> None:
        """Not for callers: opens nothing and checks nothing."""
        self.path = path
        self.keys = keys
        self.read_only = read_only
        self._timeout = timeout
        self._pid = os.getpid()
        self._closed = False
        self._poison: SyncFailed | None = None
        self._commits = 0
        self._turn = threading.Lock() if path == MEMORY else None
        self._owner: int | None = None
        self._watcher: sqlite3.Connection | None = None
        self._watching = threading.Lock()
        self._engine = engine_for(path, read_only=read_only, timeout=timeout)
        self._engines = {kind: self._engine.execution_options(**{KIND: kind}) for kind in ("read", "write")}
        # dispose() gives an engine a new pool; sessions that end after close() return their connections to this one.
        self._pool: Pool = self._engine.pool

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], *, keys: KeyService | None = None, timeout: float = BUSY_TIMEOUT
    ) -> Self:
        """A new catalog in the file `path`, mode 0600, or in memory for ``":memory:"``.

        Parameters
        ----------
        keys : KeyService, optional
            Holds the keys of the documents' contents; without one, those can be neither written nor read.

        An empty file is accepted: it is what an interrupted create leaves. Durable on return, its directory entry too.

        Raises
        ------
        Conflict
            The file exists and holds something.
        StoreError
            The file cannot be written, or this SQLite library cannot keep memodb's promises.
        """
        name = os.fspath(path)
        if name != MEMORY:
            media.create_file(name)
        catalog = cls(name, keys, read_only=False, timeout=timeout)
        try:
            with mapped(name):
                catalog._migrate(expected=None)
                if name != MEMORY:
                    media.sync_directory(name)
        except BaseException:
            catalog.close()
            raise
        return catalog

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        keys: KeyService | None = None,
        read_only: bool = False,
        finish: bool = False,
        timeout: float = BUSY_TIMEOUT,
    ) -> Self:
        """The existing catalog in the file `path`; an older schema is upgraded unless `read_only`.

        Parameters
        ----------
        keys : KeyService, optional
            As for `create`.
        finish : bool
            Whether an interrupted `create` is finished: undoing one may leave an empty file.
        timeout : float
            Seconds to wait for another connection's transaction before `StoreLocked`.

        Raises
        ------
        StoreNotFound
            There is no such file, or one whose creation was interrupted.
        SchemaTooNew
            A newer memodb made it.
        CorruptStore
            It is no memodb catalog.
        StoreLocked, ReadOnlyStore, StoreError
            As for any use; `ReadOnlyStore` too if `read_only` and only a writer could upgrade or repair it.
        """
        name = os.fspath(path)
        if name == MEMORY or not Path(name).exists():
            raise StoreNotFound(f"there is no catalog at {name}")
        catalog = cls(name, keys, read_only=read_only, timeout=timeout)
        try:
            with mapped(name):
                catalog._require_schema(finish=finish)
        except BaseException:
            catalog.close()
            raise
        return catalog

    def _require_schema(self, *, finish: bool) -> None:
        raw = self._engine.raw_connection()
        try:
            revision = schema.read_revision(_driver(raw.driver_connection))
            found = schema.fingerprint(_driver(raw.driver_connection))
        finally:
            raw.close()
        if revision is None and finish and not self.read_only:
            self._migrate(expected=None)
            return
        if revision is None:
            raise StoreNotFound(f"the creation of {self.path} was interrupted: open it once for writing to finish it")
        schema.require_known(revision, self.path)
        if revision == schema.HEAD:
            with self.read() as session:
                if registry.get_setting(session, _FINGERPRINT) != found:
                    raise CorruptStore(f"the schema of {self.path} is damaged: restore the store from a backup")
                due = registry.get_setting(session, _REWRITE, False)
            if due and not self.read_only:
                self._finish_upgrade()
            return
        if self.read_only:
            raise ReadOnlyStore(
                f"{self.path} has schema {revision}, not {schema.HEAD}; open it once for writing to upgrade it"
            )
        self._migrate(expected=revision)
        self._finish_upgrade()

    def _finish_upgrade(self) -> None:
        """Rewrite the file, in whose page gaps copies of what was not encrypted may have stayed."""
        self.vacuum()
        with self.write() as session:
            registry.put_setting(session, _REWRITE, False)

    def _migrate(self, *, expected: str | None, scripts: str = schema.SCRIPTS) -> None:
        """From revision `expected` (None: no schema at all) to the newest, or nothing."""
        with self._engine.connect() as connection:
            driver = _driver(connection.connection.driver_connection)
            # Before BEGIN, where alone it takes effect: rebuilding a table would delete its children's rows.
            driver.execute("PRAGMA foreign_keys=OFF").close()
            try:
                with connection.execution_options(**{KIND: "write"}).begin():
                    found = schema.read_revision(driver)
                    if expected is None and found is not None:
                        raise Conflict(f"{self.path} holds a catalog already; open it instead of creating it")
                    if found == expected or found is None:
                        if found is None:
                            schema.create(connection, scripts=scripts)
                        else:
                            schema.upgrade(connection, self.keys, scripts=scripts)
                        with Session(connection, join_transaction_mode="rollback_only") as session:
                            registry.put_setting(session, _FINGERPRINT, schema.fingerprint(driver))
                            registry.put_setting(session, _REWRITE, expected is not None)
            finally:
                driver.execute("PRAGMA foreign_keys=ON").close()

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the catalog and refuses to change it.

        Raises
        ------
        StoreClosed, StoreLocked, CorruptStore, StoreError
            See `memodb.errors`; errors of SQLAlchemy and sqlite3 that leave the block become these.
        ReadOnlyStore
            The block tried to change something.
        """
        with self._session("read") as session:
            session.connection()
            yield session

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose changes are committed, durably, when the block ends, and undone if anything is raised.

        Raises
        ------
        ReadOnlyStore
            The catalog was opened with ``read_only=True``.
        StoreLocked
            Another transaction held the lock for longer than the timeout; nothing was changed.
        Conflict
            A constraint of the schema refused a change.
        StoreClosed, CorruptStore, StoreError
            See `memodb.errors`.
        """
        if self.read_only:
            raise ReadOnlyStore(f"the catalog {self.path} was opened with read_only=True")
        with self._session("write") as session:
            with session.begin():
                session.connection()  # BEGIN IMMEDIATE now: whoever enters the block has the lock
                yield session
                if not _driver(session.connection().connection.driver_connection).in_transaction:
                    raise StoreError(f"SQLite undid the transaction on {self.path} when an error occurred inside it")
            self._commits += 1

    @contextlib.contextmanager
    def _session(self, kind: str) -> Iterator[Session]:
        self.require_usable()
        try:
            with (
                self._poisonable(),
                mapped(self.path),
                self._taking_turns(),
                Session(self._engines[kind], expire_on_commit=False, info={KEYS: self.keys}) as session,
            ):
                yield session
        finally:
            if self._closed:
                self._pool.dispose()

    @contextlib.contextmanager
    def _poisonable(self) -> Iterator[None]:
        try:
            yield
        except SyncFailed as exc:
            self.poison(exc)
            raise

    def poison(self, exc: SyncFailed) -> None:
        """Refuse every call from now on: the disk did not confirm a write, so nobody knows what it holds."""
        self._poison = exc

    @contextlib.contextmanager
    def _taking_turns(self) -> Iterator[None]:
        if self._turn is None:
            yield
            return
        if self._owner == threading.get_ident():
            raise StoreError("this thread has a session of this in-memory catalog open; end it before the next")
        if not self._turn.acquire(timeout=self._timeout):
            raise StoreLocked("another thread holds the in-memory catalog; try again when it is done")
        try:
            self._owner = threading.get_ident()
            self.require_usable()  # it may have been closed while this thread waited
            yield
        finally:
            self._owner = None
            self._turn.release()

    def data_version(self) -> int:
        """A number that differs from the last one exactly if something was committed in between, by whomever.

        Compare for equality only, and only numbers of the same `Catalog`. Costs tens of microseconds. Which collection
        changed is told by its `version`.
        """
        self.require_usable()
        if self.path == MEMORY:
            return self._commits
        with self._watching, mapped(self.path):
            self.require_usable()
            # A connection that never writes: SQLite's number does not count a connection's own commits.
            if self._watcher is None:
                self._watcher = self._own_connection()
            return int(self._watcher.execute("PRAGMA data_version").fetchone()[0])

    def integrity(self) -> list[str]:
        """What SQLite's own checks find wrong with the file: structure, constraints, references. Reads all of it.

        Blind to flipped bits inside values: SQLite keeps no checksums. `check` and the documents' digests see those.
        """
        try:
            with self.read() as session:
                connection = session.connection()
                found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
                dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        except CorruptStore as exc:
            return [str(exc)]
        findings = [line for line in found if line != "ok"]
        return findings + [f"a row of {row[0]} refers to a row of {row[2]} that does not exist" for row in dangling]

    def reindex(self) -> None:
        """Build every index again from its table.

        Raises
        ------
        CorruptStore
            The tables contradict an index that must be unique; nothing was changed.
        """
        with self.write() as session:
            session.connection().exec_driver_sql("REINDEX")

    def shrink(self) -> bool:
        """Take the pages that deletions left empty out of the file; whether there were any.

        Raises
        ------
        StoreLocked, DiskFull, StoreError
            The file is as it was.
        """
        if self.path == MEMORY or not self.pragmas()["freelist_count"]:
            return False
        self.vacuum()
        return True

    def vacuum(self) -> None:
        """Write the file anew, in the journal and by way of memory: nothing stays in it that is in no row.

        secure_delete is not enough: it overwrites a deleted row and empty pages, but not the copies of rows that
        SQLite's balancing left in the gaps of pages. Measured on 500 documents of which 250 were deleted, the ids and
        subjects of up to two were still there; after VACUUM none. Costs a pass over the rows, about 15 ms a megabyte.

        Raises
        ------
        StoreLocked, DiskFull, StoreError
            The file is as it was.
        """
        if self.path == MEMORY:
            return
        self.require_usable()
        with self._poisonable(), mapped(self.path), contextlib.closing(self._own_connection()) as raw:
            raw.execute("VACUUM")

    def settle_journal(self) -> int:
        """Bring everything from the journal into the file and empty it; bytes that it holds afterwards: readers that
        need it are waited for, as long as for a transaction.
        """
        if self.path == MEMORY:
            return 0
        self.require_usable()
        with self._poisonable(), mapped(self.path), contextlib.closing(self._own_connection()) as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        journals = (Path(f"{self.path}-{kind}") for kind in ("journal", "wal"))
        return sum(path.stat().st_size for path in journals if path.exists())

    def pragmas(self) -> dict[str, str | int]:
        """What a deletion's claims rest on, as a connection reads it back: see `media.TELLING`."""
        with self.read() as session:
            connection = session.connection()
            return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in media.TELLING}

    def _own_connection(self) -> sqlite3.Connection:
        """One outside of the pool, for what cannot run inside a transaction."""
        return connect(self.path, read_only=self.read_only, timeout=self._timeout)

    def copy_to(self, path: str | os.PathLike[str]) -> None:
        """A copy of one state of the catalog in the new file `path`, mode 0600, by SQLite's backup API; in use or not.

        Raises
        ------
        Conflict
            The file exists.
        StoreLocked
            Another process's transaction took longer than the timeout.
        DiskFull, StoreError
        """
        self.require_usable()
        media.create_file(os.fspath(path))
        with self._poisonable(), mapped(self.path), contextlib.closing(sqlite3.connect(path)) as target:
            if self._turn is not None:
                with self.read() as session:
                    _driver(session.connection().connection.driver_connection).backup(target)
                return
            with contextlib.closing(self._own_connection()) as source:
                media.copy(source, target)

    def close(self) -> None:
        """Close every connection; a session still open in another thread closes its own when it ends. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if os.getpid() != self._pid:
            return  # after a fork the connections are the parent's; closing them here could damage its file
        with self._watching:
            if self._watcher is not None:
                self._watcher.close()
                self._watcher = None
        if self._turn is None or self._owner == threading.get_ident():
            self._pool.dispose()
            return
        with self._turn:
            self._pool.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def require_usable(self) -> None:
        """Raise StoreClosed after `close`, SyncFailed after a failed sync, StoreError in a forked process."""
        if self._poison is not None and not self._closed:
            raise SyncFailed(
                f"the disk did not confirm a write, so {self.path} serves nothing any more: close it and open it again "
                f"({self._poison})"
            ) from self._poison
        if self._closed:
            raise StoreClosed(f"the catalog {self.path} was closed; open it again")
        if os.getpid() != self._pid:
            raise StoreError(f"the catalog {self.path} was opened before a fork; open it again in this process")


def _driver(connection: object) -> sqlite3.Connection:
    if not isinstance(connection, sqlite3.Connection):
        raise StoreError("the catalog's connection is not SQLite's")
    return connection
