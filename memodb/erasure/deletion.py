"""Deleting documents: choose, commit, subtract, then look whether it is true."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from memodb.catalog import Filters, documents
from memodb.collection import Collection, Outcome, Transaction, rebuilt_digest
from memodb.erasure.receipt import Receipt, SegmentProof
from memodb.errors import EmptySelection, InvalidInput

__all__ = ["delete", "select"]


def select(collection: Collection, ids: tuple[str, ...], filters: dict[str, Any]) -> list[str]:
    """Ids of the live documents that a deletion would take, ascending.

    Raises
    ------
    EmptySelection
        Nothing is named, or nothing matches: a deletion of nothing is most often a mistake, one of everything always.
    DocumentNotFound
        An id names no document.
    InvalidInput
        Ids and filters together, an unknown filter, or a value that no document could have.
    """
    if ids and filters:
        raise InvalidInput("name ids or filters, not both: together they could mean either more or less")
    if ids:
        with collection.catalog.read() as session:
            found = set(documents.select_ids(session, collection.id, Filters(ids=ids)))
        for document_id in ids:
            if document_id not in found:
                raise collection.not_found(document_id)
        return sorted(found)
    chosen = Filters.build(**filters)
    if chosen.is_empty:
        raise EmptySelection("a deletion must name ids or at least one filter; an empty one would mean every document")
    with collection.catalog.read() as session:
        matching = documents.select_ids(session, collection.id, chosen)
    if not matching:
        raise EmptySelection("no document matches: nothing was deleted")
    return matching


def delete(
    collection: Collection,
    ids: tuple[str, ...],
    filters: dict[str, Any],
    *,
    reason: str | None = None,
    dry_run: bool = False,
    verify: bool = True,
) -> Receipt:
    """Delete documents: see :meth:`memodb.Store.delete`."""
    if reason is not None and not isinstance(reason, str):
        raise InvalidInput(f"reason must be a text, not {type(reason).__name__}")
    requested_at = datetime.now(UTC)

    def receipt(chosen: list[str], tokens: int, **facts: Any) -> Receipt:
        return Receipt(
            id=secrets.token_hex(16),
            collection=collection.name,
            documents=tuple(chosen),
            tokens=tokens,
            reason=reason,
            requested_at=requested_at,
            completed_at=datetime.now(UTC),
            dry_run=dry_run,
            **facts,
        )

    pending = {"committed": False, "rows_left": None, "segments": ()}
    if dry_run:
        chosen = select(collection, ids, filters)
        return receipt(chosen, _tokens(collection, chosen), **pending)
    # One turn for both: another thread's commit between the deletion and its proof would look like a failed one.
    with collection.write_turn():
        with collection.joined() as (transaction, commits):
            chosen = _stage(collection, transaction, ids, filters)
            tokens = _tokens(collection, chosen)
        if not commits:
            # The open transaction commits later: this receipt says what was staged, and claims no more.
            return receipt(chosen, tokens, **pending)
        outcome = transaction.outcome or Outcome((), (), 0, ())
        return receipt(
            list(outcome.deleted),
            outcome.tokens_deleted,
            committed=True,
            rows_left=_rows(collection, outcome.deleted) if verify else None,
            segments=prove(collection, outcome, rebuild=verify),
        )


def _stage(
    collection: Collection, transaction: Transaction, ids: tuple[str, ...], filters: dict[str, Any]
) -> list[str]:
    """Ids are looked up in the transaction, which may have staged them; filters in what is committed."""
    if ids and not filters:
        return transaction.delete(ids)
    matching = [found for found in select(collection, ids, filters) if not transaction.deletes(found)]
    if not matching:
        raise EmptySelection("all documents that match are deleted by this transaction already")
    return transaction.delete(matching)


def prove(collection: Collection, outcome: Outcome, *, rebuild: bool) -> tuple[SegmentProof, ...]:
    """Look at every memory that documents were taken from; with ``rebuild``, memorise it anew and compare."""
    proofs = []
    for segment_id in outcome.segments:
        with collection.reading() as memory:
            segment = memory.segments.get(segment_id)
            digest = None if segment is None else segment.digest()
        proofs.append(
            SegmentProof(segment_id, digest, rebuilt_digest(collection, segment_id) if rebuild else None, rebuild)
        )
    return tuple(proofs)


def _tokens(collection: Collection, ids: list[str]) -> int:
    with collection.catalog.read() as session:
        return documents.token_total(session, collection.id, Filters(ids=tuple(ids), state=None))


def _rows(collection: Collection, ids: tuple[str, ...]) -> int:
    with collection.catalog.read() as session:
        return documents.count(session, collection.id, Filters(ids=ids, state=None))
