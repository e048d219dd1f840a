"""The SQLAlchemy engine of a catalog: how its connections begin, what they share, and what ends them."""

from __future__ import annotations

import functools
import sqlite3
from typing import Any, Final

from sqlalchemy import Connection, Dialect, Engine, ExceptionContext, create_engine, event
from sqlalchemy.pool import QueuePool, StaticPool
from sqlalchemy.util import LRUCache

from memodb.catalog.pragmas import connect

__all__ = ["KIND", "MEMORY", "engine_for"]

MEMORY: Final = ":memory:"
KIND: Final = "memodb_kind"
"""Execution option: whether a connection is to write."""

_COMPILED: LRUCache[Any, Any] = LRUCache(500)
"""Compiled statements of every engine of this process."""


def engine_for(path: str, *, read_only: bool, timeout: float) -> Engine:
    pool: dict[str, Any] = (
        {"poolclass": StaticPool}
        if path == MEMORY
        # No upper bound: SQLite limits writers itself, and waiting for a pool would only time out unexplained.
        else {"poolclass": QueuePool, "pool_size": 4, "max_overflow": -1}
    )
    engine = create_engine(
        "sqlite+pysqlite://",
        creator=lambda: connect(path, read_only=read_only, timeout=timeout),
        hide_parameters=True,  # an error's text goes to logs; documents must not
        **pool,
    )
    event.listen(engine, "begin", _begin)
    engine.dialect = _dialect(in_memory=path == MEMORY)
    return engine.execution_options(compiled_cache=_COMPILED)


@functools.cache
def _dialect(*, in_memory: bool) -> Dialect:
    """What all engines of this process share. A compiled statement is of one dialect, and compiling those that a store
    needs takes longer than creating it."""
    template = create_engine("sqlite+pysqlite://", poolclass=StaticPool)
    with template.connect():  # the first connection settles what the dialect knows of SQLite
        pass
    template.dispose()
    if not in_memory:
        event.listen(template, "handle_error", _give_up_undone)  # SQLAlchemy keeps this one with the dialect
    return template.dialect


def _begin(connection: Connection) -> None:
    # The driver would begin nothing before a SELECT and would commit before DDL, so its own transactions are off
    # (isolation_level=None) and these are the only ones. query_only makes a write in a reader's session an error;
    # otherwise it would work, and be undone without a word when the session ends. Not by way of exec_driver_sql, which
    # takes ten times as long: a lookup is one session, a commit several.
    writing = connection.get_execution_options().get(KIND) == "write"
    driver = connection.connection
    for statement in (f"PRAGMA query_only={'OFF' if writing else 'ON'}", "BEGIN IMMEDIATE" if writing else "BEGIN"):
        cursor = driver.cursor()
        cursor.execute(statement)
        cursor.close()


def _give_up_undone(context: ExceptionContext) -> None:
    # A full disk or failing device makes SQLite undo the whole transaction by itself. Statements after it would each
    # commit alone, so the session's connection is given up: what is tried next raises until the block is left.
    if context.connection is None or not isinstance(context.original_exception, sqlite3.Error):
        return
    if not (context.statement or "BEGIN").startswith(("BEGIN", "PRAGMA")):
        driver = context.connection.connection.driver_connection
        if isinstance(driver, sqlite3.Connection) and not driver.in_transaction:
            context.is_disconnect = True
            context.invalidate_pool_on_disconnect = False
