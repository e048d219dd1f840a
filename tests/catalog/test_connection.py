"""The file, its settings, its lifetime, and what its errors become."""

import contextlib
import os
import sqlite3
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from memodb.catalog import Catalog, connection, documents, pragmas, registry
from memodb.errors import (
    Conflict,
    CorruptStore,
    InvalidInput,
    ReadOnlyStore,
    StoreClosed,
    StoreError,
    StoreLocked,
    StoreNotFound,
)

EXPECTED = {
    "foreign_keys": 1,
    "secure_delete": 1,
    "synchronous": 2,
    "temp_store": 2,
    "cell_size_check": 1,
    "trusted_schema": 0,
    "busy_timeout": 300,
}


@pytest.mark.parametrize("kind", ["read", "write"])
def test_every_session_runs_under_the_settings(house: Any, kind: str) -> None:
    # A catalog of its own: the connection that created the file has been through a migration.
    with Catalog.open(house.path, timeout=0.3) as catalog, getattr(catalog, kind)() as session:
        assert session.connection().connection.driver_connection.isolation_level is None
        found = {name: session.execute(text(f"PRAGMA {name}")).scalar() for name in EXPECTED}
        assert found == EXPECTED
        assert session.execute(text("PRAGMA journal_mode")).scalar() == pragmas.journal_mode()
        assert session.execute(text("PRAGMA query_only")).scalar() == (kind == "read")


@pytest.mark.parametrize(
    ("version", "mode"),
    [
        ((3, 40, 1), "truncate"),
        ((3, 44, 5), "truncate"),
        ((3, 44, 6), "wal"),
        ((3, 45, 0), "truncate"),
        ((3, 50, 6), "truncate"),
        ((3, 50, 7), "wal"),
        ((3, 51, 0), "truncate"),
        ((3, 51, 2), "truncate"),
        ((3, 51, 3), "wal"),
        ((4, 0, 0), "wal"),
    ],
)
def test_wal_only_where_its_bug_is_fixed(version: tuple[int, ...], mode: str) -> None:
    assert pragmas.journal_mode(version) == mode


class Deaf(sqlite3.Connection):
    """A library that accepts PRAGMA secure_delete and does nothing."""

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        return super().execute("SELECT 0" if sql == "PRAGMA secure_delete" else sql, *arguments)


def test_a_library_that_ignores_secure_delete_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: original(*a, factory=Deaf, **k))
    with pytest.raises(StoreError, match="secure_delete"):
        Catalog.create(tmp_path / "c.db")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_files_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        catalog = Catalog.create(tmp_path / "c.db")
    finally:
        os.umask(before)
    with catalog, catalog.write() as session:
        registry.put_setting(session, "a", 1)
        session.flush()
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) > 1  # the journal too
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("name", ["a?mode=ro", "a#b", "a%20b", "a b'c\"", "ü", ":memory:x", "file:a"])
def test_a_hostile_file_name_names_that_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with Catalog.create(path) as catalog, catalog.write() as session:
        registry.put_setting(session, "a", 1)
    assert {entry.name for entry in tmp_path.iterdir()} <= {name, name + "-journal"}
    with Catalog.open(path, read_only=True) as catalog, catalog.read() as session:
        assert registry.get_setting(session, "a") == 1


def test_create_refuses_what_exists_and_finishes_what_was_interrupted(house: Any, tmp_path: Path) -> None:
    before = house.path.read_bytes()
    with pytest.raises(Conflict, match="exists already"):
        Catalog.create(house.path)
    assert house.path.read_bytes() == before
    (tmp_path / "link").symlink_to(house.path)
    with pytest.raises(Conflict):
        Catalog.create(tmp_path / "link")
    empty = tmp_path / "empty.db"
    empty.touch(0o644)
    with pytest.raises(StoreNotFound, match="was interrupted"):
        Catalog.open(empty)
    Catalog.create(empty).close()
    assert stat.S_IMODE(empty.stat().st_mode) == 0o600
    Catalog.open(empty).close()
    begun = tmp_path / "begun.db"
    begun.touch(0o600)
    with Catalog.open(begun, finish=True) as catalog:
        assert catalog.integrity() == []


def test_create_in_a_missing_directory_or_open_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be created"):
        Catalog.create(tmp_path / "no" / "c.db")
    for path in (tmp_path / "none", ":memory:"):
        with pytest.raises(StoreNotFound):
            Catalog.open(path)
    with pytest.raises(StoreError, match="permissions"):
        Catalog.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unsynced_directory_fails_the_create(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(connection.os, "fsync", broken)
    with pytest.raises(StoreError, match="cannot be synced") as caught:
        Catalog.create(tmp_path / "c.db")
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be read as one" * 50, b"SQLite format 3\0" * 200]
)
@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_no_database_is_corrupt(tmp_path: Path, content: bytes, read_only: bool) -> None:
    path = tmp_path / "c.db"
    path.write_bytes(content)
    with pytest.raises(CorruptStore, match=r"c\.db") as caught:
        Catalog.open(path, read_only=read_only)
    assert caught.value.__cause__ is not None
    assert path.read_bytes() == content


@pytest.mark.parametrize("table", ["alembic_version (version_num TEXT)", "notes (a)"])
def test_another_programs_database_is_refused(tmp_path: Path, table: str) -> None:
    path = tmp_path / "c.db"
    other = sqlite3.connect(path)
    other.execute(f"CREATE TABLE {table}")
    other.close()
    with pytest.raises(CorruptStore, match="not a memodb catalog"):
        Catalog.open(path)


def test_integrity_finds_damage(house: Any) -> None:
    house.insert(*(house.new(f"d{i}", range(i, i + 2000)) for i in range(50)))
    assert house.catalog.integrity() == []
    outside = sqlite3.connect(house.path)
    outside.execute("DELETE FROM segment")
    outside.commit()
    outside.close()
    assert house.catalog.integrity()[0] == "a row of document refers to a row of segment that does not exist"
    house.catalog.close()
    raw = bytearray(house.path.read_bytes())
    raw[-4096 * 8 :] = bytes(4096 * 8)
    house.path.write_bytes(raw)
    with house.fresh() as catalog:
        assert catalog.integrity()


def test_read_only_catalog_and_read_session_refuse_writes(house: Any) -> None:
    before = house.path.read_bytes()
    with house.fresh() as catalog:
        with pytest.raises(ReadOnlyStore, match="read_only=True"), catalog.write():
            pass
        with pytest.raises(ReadOnlyStore), catalog.read() as session:
            registry.put_setting(session, "a", 1)
    with pytest.raises(ReadOnlyStore, match=r"use write\(\)") as caught, house.catalog.read() as session:
        registry.put_setting(session, "a", 1)
    assert caught.value.__cause__ is not None
    with house.catalog.write() as session:
        assert registry.get_setting(session, "a") is None
    assert house.path.read_bytes() == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_any_exception_undoes_the_block(house: Any, error: type[BaseException]) -> None:
    def attempt() -> None:
        with house.catalog.write() as session:
            registry.put_setting(session, "a", 1)
            session.execute(text("CREATE TABLE extra (a)"))
            with session.begin_nested():
                registry.put_setting(session, "b", 1)
            raise error

    with pytest.raises(error):
        attempt()
    with house.fresh() as catalog, catalog.read() as session:
        assert registry.get_setting(session, "a") is None
        assert registry.get_setting(session, "b") is None
        assert session.execute(text("SELECT count(*) FROM sqlite_master WHERE name = 'extra'")).scalar() == 0


@pytest.mark.parametrize("path", ["file", ":memory:"])
def test_use_after_close(tmp_path: Path, path: str) -> None:
    catalog = Catalog.create(tmp_path / path if path == "file" else path)
    catalog.data_version()
    catalog.close()
    catalog.close()
    for use in (catalog.read().__enter__, catalog.write().__enter__, catalog.data_version, catalog.integrity):
        with pytest.raises(StoreClosed):
            use()


def test_a_session_outlives_close_in_another_thread(house: Any) -> None:
    with house.catalog.read() as session:
        thread = threading.Thread(target=house.catalog.close)
        thread.start()
        thread.join()
        assert registry.get_setting(session, "a") is None
    assert house.catalog._pool.checkedin() == 0


def test_errors_hide_the_documents(house: Any) -> None:
    with pytest.raises(Conflict) as caught, house.catalog.write() as session:
        session.execute(text("INSERT INTO setting VALUES (:n, NULL, x'')"), {"n": "a secret"})
    assert "a secret" not in str(caught.value) + str(caught.value.__cause__)


def test_a_value_too_large_for_the_database(house: Any) -> None:
    def attempt() -> None:
        with house.catalog.write() as session:
            driver = session.connection().connection.driver_connection
            before = driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 5000)
            try:
                registry.put_setting(session, "a", "x" * 6000)
            finally:
                driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)

    with pytest.raises(InvalidInput, match="too large"):
        attempt()


@pytest.mark.parametrize("where", ["file", "memory"])
def test_a_full_disk_is_named_and_changes_nothing(house: Any, where: str) -> None:
    if where == "memory":
        with Catalog.create(":memory:", keys=house.keys) as catalog:
            with catalog.write() as session:
                house.collection = registry.add_collection(session, "default").id
                house.segment = registry.add_segment(session, house.collection, {}).id
            fill(catalog, house)
    else:
        fill(house.catalog, house)


def fill(catalog: Catalog, house: Any) -> None:
    def attempt() -> None:
        with catalog.write() as session:
            session.execute(text("PRAGMA max_page_count = 40"))
            documents.insert_many(
                session, house.collection, [house.new(f"d{i}", range(i, i + 3000)) for i in range(500)]
            )

    with pytest.raises(StoreError, match="free space") as caught:
        attempt()
    assert caught.value.__cause__ is not None
    with catalog.read() as session:
        assert documents.count(session, house.collection) == 0


def test_a_transaction_that_sqlite_undid_in_memory_is_no_success() -> None:
    def attempt(catalog: Catalog) -> None:
        with catalog.write() as session:
            registry.put_setting(session, "before", 1)
            session.execute(text("PRAGMA max_page_count = 40"))
            with contextlib.suppress(SQLAlchemyError):
                registry.put_setting(session, "large", "x" * 900_000)

    with Catalog.create(":memory:") as catalog:
        with pytest.raises(StoreError, match="undid the transaction"):
            attempt(catalog)
        with catalog.read() as session:
            assert registry.get_setting(session, "before") is None


def test_nothing_is_committed_after_sqlite_undid_the_transaction(house: Any) -> None:
    def attempt() -> None:
        with house.catalog.write() as session:
            registry.put_setting(session, "before", 1)
            session.execute(text("PRAGMA max_page_count = 40"))
            with contextlib.suppress(SQLAlchemyError):
                registry.put_setting(session, "large", "x" * 900_000)
            session.execute(text("PRAGMA max_page_count = 1000000"))
            registry.put_setting(session, "after", 1)

    with pytest.raises(StoreError):
        attempt()
    with house.catalog.write() as session:
        registry.put_setting(session, "next", 1)
    with house.fresh() as catalog, catalog.read() as session:
        found = [registry.get_setting(session, name) for name in ("before", "large", "after", "next")]
        assert found == [None, None, None, 1]


HOT = """
import os, sys, sqlite3
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute('PRAGMA journal_mode=TRUNCATE')
c.execute('PRAGMA cache_size=1')
c.execute('BEGIN IMMEDIATE')
c.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 3000) "
          "INSERT INTO setting SELECT 'junk' || i, hex(randomblob(50)), x'' FROM n")
os._exit(0)
"""


def test_a_writer_that_died_is_undone_by_the_next_writer(house: Any, in_process: Any) -> None:
    if pragmas.journal_mode() != "truncate":
        pytest.skip("a write-ahead log needs no repair")
    with house.catalog.write() as session:
        registry.put_setting(session, "kept", 1)
    house.catalog.close()
    in_process(HOT, house.path)
    assert house.path.with_name("catalog.db-journal").stat().st_size > 0
    with pytest.raises(ReadOnlyStore, match="interrupted write"):
        house.fresh()
    with Catalog.open(house.path) as catalog, catalog.read() as session:
        assert registry.get_setting(session, "kept") == 1
        assert registry.get_setting(session, "junk1") is None
    with house.fresh() as catalog:
        assert catalog.integrity() == []


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_may_not_use_the_parents_catalog(house: Any) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with house.catalog.read():
                pass
        except StoreError as exc:
            house.catalog.close()
            status = 0 if "fork" in str(exc) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_data_version_tells_every_commit_and_nothing_else(house: Any) -> None:
    with house.fresh() as reader, Catalog.create(":memory:") as memory:
        for watched, writer in ((house.catalog, house.catalog), (reader, house.catalog), (memory, memory)):
            before = watched.data_version()
            with writer.read() as session:
                registry.get_setting(session, "a")

            def attempt(writer: Catalog = writer) -> None:
                with writer.write() as session:
                    registry.put_setting(session, "a", 1)
                    raise RuntimeError

            with pytest.raises(RuntimeError):
                attempt()
            assert watched.data_version() == before
            for value in range(3):
                with writer.write() as session:
                    registry.put_setting(session, "a", value)
                assert watched.data_version() != before
                before = watched.data_version()


def test_memory_sessions_of_one_thread_do_not_nest(tmp_path: Path) -> None:
    with Catalog.create(":memory:", timeout=0.1) as catalog:
        with catalog.write() as session:
            registry.put_setting(session, "a", 1)
            with pytest.raises(StoreError, match="end it before the next"), catalog.read():
                pass
            outcome: list[object] = []

            def other() -> None:
                try:
                    with catalog.read():
                        outcome.append("read")
                except StoreLocked as exc:
                    outcome.append(exc)

            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            assert isinstance(outcome[0], StoreLocked)
        with catalog.read() as session:
            assert registry.get_setting(session, "a") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_catalog_made_meanwhile_is_not_made_again(house: Any) -> None:
    with house.outside() as raw:
        before = list(raw.iterdump())
    with (
        contextlib.closing(Catalog(str(house.path), None, read_only=False, timeout=1)) as late,
        pytest.raises(Conflict, match="already"),
    ):
        late._migrate(expected=None)
    with house.outside() as raw:
        assert list(raw.iterdump()) == before


def test_open_imports_no_alembic(house: Any, in_process: Any) -> None:
    source = (
        "import sys\nfrom memodb.catalog import Catalog\nwith Catalog.open(sys.argv[1]) as c, c.read(): pass\n"
        "print('alembic' in sys.modules)"
    )
    assert in_process(source, house.path) == "False\n"
