"""Deleting documents: choose, commit, subtract, purge, then look whether it is true."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from memodb.catalog import Filters, Scope, documents, erasing, keeping, now
from memodb.collection import Collection, Request, Transaction
from memodb.erasure.receipt import Receipt, SegmentProof
from memodb.erasure.verification import conclude
from memodb.errors import EmptySelection, InvalidInput, StoreError

__all__ = ["Scan", "delete", "select"]

Scan = Callable[[list[str]], Mapping[str, Any]]
"""Searches the store for texts, in a process of its own, and reports as a receipt's layer."""


def select(
    collection: Collection, ids: tuple[str, ...], filters: dict[str, Any], scope: Scope = Scope.STORED
) -> list[str]:
    """Ids of the documents that a call means, ascending.

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
            found = set(documents.select_ids(session, collection.id, Filters(ids=ids, scope=scope)))
        for document_id in ids:
            if document_id not in found:
                raise collection.not_found(document_id)
        return sorted(found)
    chosen = Filters.build(scope, **filters)
    if chosen.is_empty:
        raise EmptySelection("name ids or at least one filter; an empty one would mean every document")
    with collection.catalog.read() as session:
        matching = documents.select_ids(session, collection.id, chosen)
    if not matching:
        raise EmptySelection("no document matches: nothing was done")
    return matching


def delete(
    collection: Collection,
    ids: tuple[str, ...],
    filters: dict[str, Any],
    *,
    reason: str | None = None,
    dry_run: bool = False,
    verify: bool = True,
    scan: Scan | None = None,
    suppress: bool = False,
) -> Receipt:
    """Delete documents: see :meth:`memodb.Store.delete`."""
    if reason is not None and not isinstance(reason, str):
        raise InvalidInput(f"reason must be a text, not {type(reason).__name__}")
    request = Request(now(), reason, ("ids",) if ids else tuple(sorted(filters)), verify)
    if dry_run:
        chosen = select(collection, ids, filters)
        return _unfinished(collection, chosen, request, dry_run=True)
    # One turn for both: another thread's commit between the deletion and its proof would look like a failed one.
    with collection.write_turn():
        texts: list[str] = []
        with collection.joined() as (transaction, commits):
            if scan is not None and not commits:
                raise InvalidInput("a deletion in an open transaction cannot be scanned for: delete outside of it")
            chosen = _stage(collection, transaction, ids, filters, request)
            if not commits:  # the open transaction commits later: this says what was staged, and claims no more
                return _unfinished(collection, chosen, request, dry_run=False)
            if scan is not None or suppress:
                with collection.catalog.read() as session:
                    texts = list(collection.texts_in(session, chosen, Scope.STORED).values())
            if suppress:  # in the commit that hides them, so that there is no moment in between
                transaction.suppress(texts)
        outcome = transaction.outcome
        if outcome is None or outcome.erasure is None:
            raise StoreError("the deletion was committed without a record of it: run `memodb check`")
        with collection.catalog.read() as session:
            held = keeping.held_among(session, collection.id, outcome.deleted)
            left, _ = erasing.left_of(session, outcome.erasure)
        signed = conclude(collection, outcome.erasure, scan=None if scan is None else scan(texts))
        statement = signed["statement"]
        return Receipt(
            id=outcome.erasure,
            collection=collection.name,
            documents=outcome.deleted,
            tokens=outcome.tokens_deleted,
            reason=reason,
            requested_at=request.requested_at,
            completed_at=datetime.fromisoformat(statement["completed_at"]),
            dry_run=False,
            committed=True,
            rows_left=left,
            segments=tuple(
                SegmentProof(**{name: value for name, value in each.items() if name != "verified"})
                for each in statement["layers"]["memory"]["segments"]
            ),
            held=tuple(held),
            signed=signed,
        )


def _unfinished(collection: Collection, chosen: list[str], request: Request, *, dry_run: bool) -> Receipt:
    """What a deletion would do, or will do when its transaction ends."""
    meant = Filters(ids=tuple(chosen), scope=Scope.STORED)
    with collection.catalog.read() as session:
        tokens = documents.token_total(session, collection.id, meant)
        held = keeping.held_among(session, collection.id, chosen)
    return Receipt(
        id=secrets.token_hex(16),
        collection=collection.name,
        documents=tuple(chosen),
        tokens=tokens,
        reason=request.reason,
        requested_at=request.requested_at,
        completed_at=now(),
        dry_run=dry_run,
        committed=False,
        rows_left=None,
        segments=(),
        held=tuple(held),
    )


def _stage(
    collection: Collection, transaction: Transaction, ids: tuple[str, ...], filters: dict[str, Any], request: Request
) -> list[str]:
    """Ids are looked up in the transaction, which may have staged them; filters in what is committed."""
    if ids and not filters:
        return transaction.delete(ids, request)
    matching = [found for found in select(collection, ids, filters) if not transaction.deletes(found)]
    if not matching:
        raise EmptySelection("all documents that match are deleted by this transaction already")
    return transaction.delete(matching, request)
