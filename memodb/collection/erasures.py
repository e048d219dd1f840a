"""The states of a deletion, recorded: what was asked for, how far it has come, and what was measured on the way.

::

    requested, hidden     one commit: no read path of any process returns the documents
    subtracted            the memory is without them, and so are the new tiles
    rows_purged           one commit, or a few: the rows are overwritten, their keys doomed
    wal_truncated         the catalog's file is written anew, the journal is empty
    tiles_destroyed       the superseded tiles are overwritten and gone
    key_destroyed         so are the keys of the documents and of those tiles
    verified              all this was looked at again, and a receipt of it signed (:mod:`memodb.erasure`)

``requested`` shares the commit of ``hidden``: a request that was not committed was not acknowledged, and one that is
durable is being carried out. ``subtracted`` is durable with the rows that follow from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from memodb.catalog import erasing, keeping, now
from memodb.catalog.erasing import ErasureRow
from memodb.errors import CorruptStore

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from memodb.collection.collection import Collection
    from memodb.collection.transaction import Outcome, Request

__all__ = ["advance", "begin", "find", "latest", "purging", "recorded"]

_FACTS = {"tokens": int, "reason": str | None, "selected_by": list, "segments": list, "verify": bool, "states": dict}
"""What is always known of a deletion, and of which type."""


def begin(session: Session, collection: Collection, outcome: Outcome, request: Request) -> None:
    """Record a deletion, in the commit that hides its documents."""
    if outcome.erasure is None:
        return
    hidden_at = max(now(), request.requested_at)
    facts = {
        "tokens": outcome.tokens_deleted,
        "reason": request.reason,
        "selected_by": list(request.selected_by),
        "segments": list(outcome.segments),
        "verify": request.verify,
        "states": _times({"requested": request.requested_at, "hidden": hidden_at}),
    }
    row = ErasureRow(outcome.erasure, collection.id, "hidden", request.requested_at, facts)
    pseudonyms = [collection.pseudonym(document_id) for document_id in outcome.deleted]
    erasing.add_erasure(session, row, pseudonyms)
    held = [collection.pseudonym(i).hex() for i in keeping.held_among(session, collection.id, outcome.deleted)]
    tell = collection.audit.record
    tell(session, "requested", collection.id, [row.id], reason=request.reason, time=request.requested_at)
    tell(session, "hidden", collection.id, [each.hex() for each in pseudonyms], time=hidden_at)
    if held:
        tell(session, "held_back", collection.id, held, time=hidden_at)


def purging(session: Session, collection: Collection, state: str) -> list[ErasureRow]:
    """Deletions that have come no further than before a state, and that no hold keeps from it."""
    reached = erasing.STATES.index(state)
    return [
        row
        for row in recorded(session, collection, unfinished=True)
        if erasing.STATES.index(row.state) < reached and erasing.left_of(session, row.id)[0] == 0
    ]


def recorded(session: Session, collection: Collection, *, unfinished: bool = False) -> list[ErasureRow]:
    """The deletions of a collection, the oldest first.

    Raises
    ------
    CorruptStore
        One is none that memodb writes.
    """
    return [_sound(row) for row in erasing.erasures(session, collection.id, unfinished=unfinished)]


def find(session: Session, erasure_id: str) -> ErasureRow:
    """One deletion, of whatever collection; NotFound where there is none, and as :func:`recorded`."""
    return _sound(erasing.find_erasure(session, erasure_id))


def _sound(row: ErasureRow) -> ErasureRow:
    facts = row.facts
    sound = facts.keys() >= _FACTS.keys() and all(isinstance(facts[name], kind) for name, kind in _FACTS.items())
    sound = sound and all(isinstance(facts.get(name), dict | None) for name in ("journal", "tiles", "keys"))
    if not sound or not facts["states"].keys() >= {"requested", "hidden"} or not _are_times(facts["states"]):
        raise CorruptStore(f"the record of erasure {row.id!r} is damaged: restore the store from a backup")
    return row


def _are_times(states: dict[str, Any]) -> bool:
    try:
        return all(datetime.fromisoformat(at).utcoffset() is not None for at in states.values())
    except (TypeError, ValueError):
        return False


def advance(session: Session, rows: Iterable[ErasureRow], states: dict[str, datetime], **measured: Any) -> None:
    """Record that deletions have come to the last of these states, with what was measured."""
    for row in rows:
        # a clock that was set back must not tell of effects before their causes
        last = latest(row)
        times = _times({name: max(at, last) for name, at in states.items()})
        facts = {**row.facts, **measured, "states": {**row.facts["states"], **times}}
        erasing.advance(session, row.id, list(states)[-1], facts)


def latest(row: ErasureRow) -> datetime:
    """When a deletion came to its last state."""
    return max(datetime.fromisoformat(at) for at in row.facts["states"].values())


def _times(states: dict[str, datetime]) -> dict[str, str]:
    return {name: at.isoformat(timespec="microseconds") for name, at in states.items()}
