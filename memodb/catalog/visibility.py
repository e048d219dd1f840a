"""Which documents anybody may see: the one condition that every read path asks for.

A document is *visible* while its state is live and its expiry, if it has one, lies ahead. It expires by the clock, not
by a commit: from that moment no query returns it, whether or not a sweep has removed it yet.
"""

import enum
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from memodb.catalog.models import Document, DocumentState

__all__ = ["Scope", "expired", "now", "scoped"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIVE = Document.state == DocumentState.LIVE.value
_QUARANTINED = Document.state == DocumentState.QUARANTINED.value


class Scope(enum.Enum):
    """Which documents a query is about."""

    VISIBLE = enum.auto()
    """Live and not expired: what read paths return."""
    QUARANTINED = enum.auto()
    STORED = enum.auto()
    """Visible, expired or quarantined: what can be deleted, held, and is a subject's to know of."""
    ANY = enum.auto()
    """Those being erased, too."""


def now() -> datetime:
    """The time, in UTC."""
    return _EPOCH + timedelta(microseconds=time.time_ns() // 1000)


def expired(at: datetime) -> sa.ColumnElement[bool]:
    """SQL: the document's expiry has come."""
    return sa.and_(Document.expires_at.is_not(None), Document.expires_at <= at)


def scoped(scope: Scope, at: datetime | sa.BindParameter[Any] | None = None) -> sa.ColumnElement[bool]:
    """SQL: the document is one of these, now or at a time; or at one that a statement is given when it is run."""
    match scope:
        case Scope.VISIBLE:
            when = now() if at is None else at
            return sa.and_(_LIVE, sa.or_(Document.expires_at.is_(None), Document.expires_at > when))
        case Scope.QUARANTINED:
            return _QUARANTINED
        case Scope.STORED:
            return sa.or_(_LIVE, _QUARANTINED)
        case Scope.ANY:
            return sa.true()
