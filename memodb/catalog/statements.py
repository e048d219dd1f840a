"""Statements on documents of given ids, built once: building one takes several times as long as running it."""

import functools
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import sqlalchemy as sa

from memodb.catalog.contents import TOKENS
from memodb.catalog.filters import AMONG, listed
from memodb.catalog.models import Document
from memodb.catalog.visibility import Scope, now, scoped

__all__ = ["ORDERS", "ROW", "Order", "by_ids", "parameters"]

Order: TypeAlias = Literal["newest", "oldest", "id"]

ROW: Final = (
    Document.id,
    Document.source,
    Document.subject,
    Document.writer,
    Document.batch,
    Document.metadata_,
    Document.created_at,
    Document.expires_at,
    Document.state,
    Document.token_count,
    Document.segment_id,
    Document.digest,
    Document.place,
)
"""The columns of a `DocumentRow`, in the order of its fields."""

ORDERS: Final[Mapping[str, tuple[sa.ColumnElement[Any], ...]]] = {
    "newest": (Document.created_at.desc(), Document.id.desc()),
    "oldest": (Document.created_at.asc(), Document.id.asc()),
    "id": (Document.id.asc(),),
}

_COLUMNS: Final[Mapping[str, tuple[Any, ...]]] = {
    "row": ROW,
    "id": (Document.id,),
    "total": (sa.func.sum(Document.token_count),),
    "tokens": TOKENS,
    "text": (
        Document.id,
        Document.place,
        Document.key,
        sa.type_coerce(Document.text, sa.types.NULLTYPE).label("text"),
    ),
}


@functools.cache
def by_ids(
    what: Literal["row", "id", "total", "tokens", "text"], scope: Scope, order: Order | None = None
) -> sa.Select[Any]:
    """Those of some ids that are documents of a collection in a scope: for the values of `parameters`."""
    chosen = (Document.collection_id == sa.bindparam("collection"), AMONG, scoped(scope, sa.bindparam("at")))
    statement = sa.select(*_COLUMNS[what]).where(*chosen)
    return statement if order is None else statement.order_by(*ORDERS[order])


def parameters(collection_id: str, ids: Iterable[str], at: datetime | None = None) -> dict[str, Any]:
    """What a statement of `by_ids` is run with, now or at a time. The ids must be `identifier`\\ s."""
    return {"collection": collection_id, "ids": listed(ids), "at": now() if at is None else at}
