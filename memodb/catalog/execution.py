"""Small things that every query room needs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import CursorResult, Executable, ScalarResult
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import UpdateBase

__all__ = ["changed", "chunks", "run", "scalar", "scalars"]

T = TypeVar("T")


def run(
    session: Session,
    statement: Executable,
    parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    execution_options: Mapping[str, Any] | None = None,
) -> CursorResult[*tuple[Any, ...]]:
    """Execute a statement, past the ORM: the queries hand out rows, not objects, and its way to these takes as long as
    SQLite does, or selects every row that changes a second time.
    """
    return session.connection().execute(statement, parameters, execution_options=execution_options)


def scalar(session: Session, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Any:
    """The first value of the first row, or None."""
    return run(session, statement, parameters).scalar()


def scalars(
    session: Session,
    statement: Executable,
    parameters: Mapping[str, Any] | None = None,
    execution_options: Mapping[str, Any] | None = None,
) -> ScalarResult[Any]:
    """The first value of every row."""
    return run(session, statement, parameters, execution_options).scalars()


def changed(session: Session, statement: UpdateBase, parameters: Mapping[str, Any] | None = None) -> int:
    """Execute an update or delete; the number of rows it touched."""
    return int(run(session, statement, parameters).rowcount)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """`items` in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
