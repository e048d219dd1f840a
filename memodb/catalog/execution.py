"""Two small things that every query room needs."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar, cast

from sqlalchemy import CursorResult
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import UpdateBase

__all__ = ["changed", "chunks"]

T = TypeVar("T")


def changed(session: Session, statement: UpdateBase, parameters: Mapping[str, Any] | None = None) -> int:
    """Execute an update or delete; the number of rows it touched.

    Without the ORM's synchronisation of loaded objects: the queries hand out rows, not objects, and it would select
    every row a second time.
    """
    result = session.execute(statement, parameters, execution_options={"synchronize_session": False})
    return int(cast("CursorResult[tuple[()]]", result).rowcount)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """`items` in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
