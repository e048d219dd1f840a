"""Schema revisions: which one a file has, and how it becomes the current one.

Alembic takes 100 ms to import, so only creating or upgrading loads it; a normal open reads one row.
"""

import functools
import hashlib
import sqlite3
from importlib.resources import files
from typing import Final

from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from memodb.catalog.pragmas import connect
from memodb.cipher import KeyService
from memodb.errors import CorruptStore, SchemaTooNew

__all__ = ["HEAD", "REVISIONS", "SCRIPTS", "create", "fingerprint", "read_revision", "require_known", "upgrade"]

REVISIONS: Final = ("0001", "0002", "0003")
"""Every revision this memodb knows, oldest first; a test compares them with the migration scripts."""
HEAD: Final = REVISIONS[-1]
SCRIPTS: Final = str(files("memodb.catalog") / "migrations")


def read_revision(connection: sqlite3.Connection) -> str | None:
    """The revision of an open database file; None if it holds no table at all.

    Raises
    ------
    CorruptStore
        It holds tables, but not one memodb catalog.
    """
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    found = (
        connection.execute("SELECT version_num FROM alembic_version").fetchall() if "alembic_version" in tables else []
    )
    if len(found) != 1 or not {"setting", "collection", "segment", "document"} <= tables:
        raise CorruptStore("the file is a SQLite database, but not a memodb catalog")
    return str(found[0][0])


def fingerprint(connection: sqlite3.Connection) -> str:
    """SHA-256 over the names and definitions of all tables, indexes and triggers, in hexadecimal.

    SQLite believes what its schema table says: a bit flipped there could disarm a trigger, or hide the rows of an
    index. Kept in the catalog rather than in the code, because another version of SQLAlchemy may spell a definition
    otherwise.
    """
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%' ORDER BY type, name"
    return hashlib.sha256(repr(connection.execute(query).fetchall()).encode("utf-8", "surrogatepass")).hexdigest()


def require_known(revision: str, path: str) -> None:
    """Raise `SchemaTooNew` if this memodb has never heard of `revision`."""
    if revision not in REVISIONS:
        raise SchemaTooNew(
            f"the catalog {path} has schema {revision}, this memodb knows up to {HEAD}; upgrade memodb to open it"
        )


@functools.cache
def _definitions(scripts: str) -> tuple[str, ...]:
    """The statements that make the newest schema, as SQLite keeps them once all revisions have run in memory."""
    engine = create_engine(
        "sqlite+pysqlite://", creator=lambda: connect(":memory:", read_only=False), poolclass=StaticPool
    )
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            upgrade(connection, None, scripts=scripts)
            rows = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
            revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
            return *rows.scalars(), f"INSERT INTO alembic_version VALUES ('{revision}')"
    finally:
        engine.dispose()


def create(connection: Connection, *, scripts: str = SCRIPTS) -> None:
    """Make the newest schema in an empty database, inside the caller's transaction.

    The revisions run once a process, in memory, and what they made is made again: a twentieth of the time.
    """
    for statement in _definitions(scripts):
        connection.exec_driver_sql(statement)


def upgrade(connection: Connection, keys: KeyService | None, *, scripts: str = SCRIPTS, target: str = "head") -> None:
    """Bring the schema to `target` inside the caller's transaction, which must be an explicit one.

    Documents that lie there unencrypted are encrypted, with `keys`.

    All or nothing: SQLite's DDL is transactional once the driver's own transactions are off, so a revision that fails
    leaves the old schema when the caller rolls back. Foreign keys must be off while tables are rebuilt; what they would
    have caught is checked at the end.

    Raises
    ------
    CorruptStore
        Rows would refer to rows that do not exist.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(scripts)
    # No alembic.ini and no env.py: both exist to be edited by a project's operators, and env.py to configure logging.
    with EnvironmentContext(
        Config(attributes={"keys": keys}),
        script,
        fn=lambda revision, _: script._upgrade_revs(target, revision),
        destination_rev=target,
    ) as environment:
        environment.configure(connection=connection)
        environment.run_migrations()
    dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if dangling:
        raise CorruptStore(f"the schema upgrade would leave {len(dangling)} rows without the row they refer to")
