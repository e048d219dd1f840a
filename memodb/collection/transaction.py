"""Changes that appear together or not at all.

Nothing touches a matrix before the catalog's COMMIT: a transaction stages, plans against the memory as it is, commits
the rows, and only then publishes, with sums that were computed before. A failed transaction therefore leaves nothing to
undo.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from memodb.catalog import (
    DocumentRow,
    Filters,
    NewDocument,
    Scope,
    documents,
    erasing,
    keeping,
    now,
    quarantine,
    registry,
)
from memodb.catalog.columns import canonical_json, identifier
from memodb.collection.checkpoint import due_checkpoint, tidy
from memodb.collection.erasures import begin
from memodb.collection.planning import Change, holds, planned, publish
from memodb.collection.purge import finish_deletions, with_room
from memodb.collection.records import Document, Record, StagedDocument, document_digest, opaque_id
from memodb.collection.suppression import require_unsuppressed, suppressed, suppression_hash
from memodb.errors import Conflict, CorruptStore, DocumentExists, DocumentNotFound, InvalidInput

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from memodb.collection.collection import Collection, Committed

__all__ = ["Outcome", "Request", "Transaction"]


@dataclass(frozen=True)
class Outcome:
    """What a commit did.

    Parameters
    ----------
    appended, deleted : tuple of str
        Ids.
    tokens_deleted : int
    segments : tuple of str
        Ids of the segments that documents were deleted from.
    erasure : str or None
        Id of the deletion, where there was one.
    """

    appended: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    tokens_deleted: int = 0
    segments: tuple[str, ...] = ()
    erasure: str | None = None


@dataclass
class Request:
    """What is known of a deletion before it is committed; the first of a transaction speaks for all of it."""

    requested_at: datetime
    reason: str | None = None
    selected_by: tuple[str, ...] = ("ids",)
    verify: bool = True


class Transaction:
    """Appends and deletions of one collection, staged until :meth:`commit`.

    Reads, in this thread too, see the last committed state until then.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._appends: dict[str, StagedDocument] = {}
        self._deletes: dict[str, None] = {}
        self._quarantined: dict[str, str | None] = {}
        self._released: dict[str, str | None] = {}
        self._suppressed: dict[bytes, None] = {}
        self._returning_expiries: list[datetime | None] = []
        self._batch = opaque_id()
        self.request: Request | None = None
        """Of the deletions in it."""
        self.outcome: Outcome | None = None
        """What was done, after the commit."""

    # -- staging ---------------------------------------------------------------------------------------------------

    def append(self, records: Sequence[Record], batch: str | None = None) -> list[tuple[Document, bool]]:
        """Stage records.

        Parameters
        ----------
        batch : str, optional
            Of the records that name none; otherwise the transaction's own.

        Returns
        -------
        list of (Document, bool)
            The document of each record, and whether it is new: a record whose id, text and provenance are stored (or
            staged) already adds nothing.

        Raises
        ------
        InvalidInput
            A text or a provenance field that cannot be stored.
        DocumentExists
            An id is taken by another text or other provenance. Nothing of the call is staged.
        Suppressed
            A text was erased and must not come back.

        Notes
        -----
        A record without a writer gets the actor of the handle, where it has one.
        """
        collection = self._collection
        for record in records:
            documents.require_valid(
                opaque_id() if record.id is None else record.id,
                source=record.source,
                subject=record.subject,
                writer=record.writer,
                batch=record.batch,
                metadata={} if record.metadata is None else record.metadata,
                expires_at=record.expires_at,
            )
            if record.expires_at is not None and record.expires_at <= now():
                raise InvalidInput(
                    f"expires_at lies in the past ({record.expires_at.isoformat()}): nobody would ever see the document"
                )
            collection.require_provenance(record)
        texts = [record.text for record in records]
        named = [record.id for record in records if record.id is not None]
        with collection.catalog.read() as session:
            unwanted = suppressed(collection, session, texts)
            stored = documents.existing(session, collection.id, named) if named else set()
            taken = self._found(session, stored, Scope.VISIBLE)
        require_unsuppressed(collection, unwanted)
        encoded = collection.tokenizer.encode_many(texts)
        self._require_free(stored.difference(taken, self._deletes))
        ids = [opaque_id() if record.id is None else record.id for record in records]
        results = []
        # apart until the last record is accepted: a caller who tries again must not meet half of its first attempt
        fresh: dict[str, StagedDocument] = {}
        for record, document_id, tokens in zip(records, ids, encoded, strict=True):
            before = self._appends.get(document_id) or fresh.get(document_id) or taken.get(document_id)
            if before is not None:
                results.append((self._same(before, record, document_id), False))
                continue
            reproduced = collection.tokenizer.reproduces(record.text, tokens)
            delivery = record.batch or batch or self._batch
            signed = replace(record, writer=record.writer or collection.audit.actor)
            staged = StagedDocument(document_id, signed, delivery, tokens, None if reproduced else record.text)
            fresh[document_id] = staged
            results.append((self._document(staged), True))
        self._appends.update(fresh)
        return results

    def _found(self, session: Session, ids: Iterable[str], scope: Scope) -> dict[str, Document]:
        """Documents under these ids, but for those that this transaction deletes."""
        chosen = tuple(ids)
        if not chosen:
            return {}
        collection = self._collection
        rows = documents.select(session, collection.id, Filters(ids=chosen, scope=scope))
        return {row.id: Document.of(collection.name, row) for row in rows if row.id not in self._deletes}

    def _require_free(self, hidden: set[str]) -> None:
        """Refuse ids of documents that are stored and not visible: what they say is not for the caller to compare."""
        if hidden:
            raise DocumentExists(
                f"collection {self._collection.name!r} still has a document {min(hidden)!r} that is expired, in "
                "quarantine or under a legal hold: sweep, release or delete it first, or append under another id"
            )

    def _same(self, before: StagedDocument | Document, record: Record, document_id: str) -> Document:
        """The document that is there, where the record says the same; an error where it does not."""
        collection = self._collection
        if isinstance(before, StagedDocument):
            document, text = self._document(before), before.record.text
        else:
            document, text = before, collection.text(document_id)
        given = {
            name: getattr(record, name)
            for name in ("source", "subject", "writer", "batch", "metadata", "expires_at")
            if getattr(record, name) is not None
        }
        differing = [name for name, value in given.items() if _stated(getattr(document, name)) != _stated(value)]
        if text != record.text:
            differing.insert(0, "text")
        if differing:
            raise DocumentExists(
                f"collection {collection.name!r} has a document {document_id!r} with another {differing[0]}: "
                "delete it first, or append under another id"
            )
        return document

    def deletes(self, document_id: str) -> bool:
        """Whether the deletion of a stored document is staged."""
        return document_id in self._deletes

    def delete(self, ids: Iterable[str], request: Request | None = None) -> list[str]:
        """Stage deletions of staged or stored documents, also of those expired or in quarantine; the ids, each once.

        Raises
        ------
        DocumentNotFound
            An id is neither stored nor staged, or staged for deletion already; nothing of the call is staged.
        """
        wanted = _each_once(ids)
        with self._collection.catalog.read() as session:
            stored = self._found(session, wanted, Scope.STORED)
        for document_id in wanted:
            if document_id not in stored and document_id not in self._appends:
                raise self._collection.not_found(document_id)
        self.request = self.request or request or Request(now())
        for document_id in wanted:
            if document_id in self._appends:
                del self._appends[document_id]
            else:
                self._deletes[document_id] = None
        return wanted

    def suppress(self, texts: Iterable[str]) -> None:
        """Stage that texts be refused from the commit on."""
        self._suppressed.update(dict.fromkeys(suppression_hash(self._collection, text) for text in texts))

    def quarantine(self, ids: Iterable[str], reason: str | None = None) -> list[str]:
        """Stage that visible documents be set aside: out of the memory and of every read path, until released.

        Raises
        ------
        DocumentNotFound
            An id names no document that is stored, visible and not staged for anything else.
        """
        wanted = _each_once(ids)
        self._require_free_to_move(wanted, Scope.VISIBLE)
        self._quarantined.update(dict.fromkeys(wanted, reason))
        return wanted

    def release(self, ids: Iterable[str], reason: str | None = None) -> list[str]:
        """Stage that documents in quarantine come back, exactly as they were.

        Raises
        ------
        DocumentNotFound
            An id names no document in quarantine.
        """
        wanted = _each_once(ids)
        self._require_free_to_move(wanted, Scope.QUARANTINED)
        self._released.update(dict.fromkeys(wanted, reason))
        return wanted

    def _require_free_to_move(self, ids: list[str], scope: Scope) -> None:
        with self._collection.catalog.read() as session:
            stored = self._found(session, ids, scope)
        for document_id in ids:
            if document_id not in stored or document_id in self._quarantined or document_id in self._released:
                raise self._collection.not_found(document_id)

    # -- committing ------------------------------------------------------------------------------------------------

    def commit(self) -> Outcome:
        """Make everything staged durable, then visible.

        Durability: when this returns, the catalog's COMMIT has been synced to disk. Where it raises before the COMMIT,
        nothing was changed. The end of the transaction's block calls it; a second call does nothing.
        """
        collection = self._collection
        if self.outcome is not None:
            return self.outcome
        for moved in (
            self._quarantined,
            self._released,
        ):  # what is deleted is deleted, whatever else was to become of it
            for document_id in self._deletes:
                moved.pop(document_id, None)
        if not (self._appends or self._deletes or self._quarantined or self._released):
            self.outcome = Outcome()
            return self.outcome
        self._require_replaceable()
        with collection.changing():
            leaving, changes = self._plan()
            outcome = Outcome(
                tuple(self._appends),
                tuple(self._deletes),
                sum(row.token_count for row in leaving),
                tuple(dict.fromkeys(row.segment_id for row in leaving)),
                opaque_id() if leaving else None,
            )
            with collection.committing():
                if self._appends:
                    committed = self._write(changes, outcome)
                else:
                    committed = with_room(collection, lambda: self._write(changes, outcome))
                collection.publish(lambda segments: publish(segments, changes), committed, self._first_expiry())
            self.outcome = outcome
        if leaving:
            finish_deletions(collection)
        elif any(change.replacement for change in changes.values()):
            tidy(collection)
        collection.audit.mirror()
        due_checkpoint(collection, None if leaving else committed.tiles)
        return self.outcome

    def _require_replaceable(self) -> None:
        """Refuse to put another document in the place of one that a hold keeps; the refusal is recorded."""
        collection, replaced = self._collection, self._deletes.keys() & self._appends.keys()
        if not replaced:
            return
        with collection.catalog.read() as session:
            held = keeping.held_among(session, collection.id, replaced)
        if held:
            with collection.catalog.write() as session:
                opaque = [collection.pseudonym(document_id).hex() for document_id in held]
                collection.audit.record(session, "held_back", collection.id, opaque)
            collection.audit.mirror()
            raise Conflict(
                f"a legal hold keeps the document {held[0]!r}, and with it its id: append the new one under another"
            )

    def _first_expiry(self) -> datetime | None:
        """When the first of the documents that come into the memory expires."""
        arriving = [staged.record.expires_at for staged in self._appends.values()]
        return min(filter(None, (*arriving, *self._returning_expiries)), default=None)

    def _rows(self, session: Session, ids: Iterable[str], scope: Scope) -> list[DocumentRow]:
        """Rows of documents that were staged, as they are now."""
        chosen = tuple(ids)
        if not chosen:
            return []
        rows = list(documents.select(session, self._collection.id, Filters(ids=chosen, scope=scope)))
        if len(rows) != len(chosen):
            raise DocumentNotFound(
                "documents of this transaction were changed by another handle, or expired, meanwhile: nothing was done"
            )
        return rows

    def _plan(self) -> tuple[list[DocumentRow], dict[str, Change]]:
        """The documents that are deleted, and where every document goes, with every sum; changes nothing."""
        collection = self._collection
        leaving: list[DocumentRow] = []
        held: list[DocumentRow] = []
        tokens: dict[str, np.ndarray] = {}
        returning: dict[str, np.ndarray] = {}
        try:
            memory = collection.memory_for_writing()
            if self._deletes or self._quarantined or self._released:
                with collection.catalog.read() as session:
                    leaving = self._rows(session, self._deletes, Scope.STORED)
                    aside = self._rows(session, self._quarantined, Scope.VISIBLE)
                    returned = self._rows(session, self._released, Scope.QUARANTINED)
                    # what has expired, or is in quarantine, left the memory before
                    held = [row for row in (*leaving, *aside) if holds(memory, row)]
                    tokens = documents.tokens_of(session, collection.id, [row.id for row in held], Scope.STORED)
                    back = [row.id for row in returned]
                    returning = documents.tokens_of(session, collection.id, back, Scope.QUARANTINED)
                self._returning_expiries = [row.expires_at for row in returned]
        except CorruptStore as exc:
            if self._appends or self._quarantined or self._released:
                exc.add_note("deletions alone are still possible: delete the damaged documents first")
                raise
            # A damaged document must not be what cannot be deleted: the memory is made again from those that stay.
            collection.reload()
            with collection.catalog.read() as session:
                return self._rows(session, self._deletes, Scope.STORED), {}
        return leaving, planned(collection, memory, held, tokens, [*self._appends.values(), *returning.items()])

    def _write(self, changes: dict[str, Change], outcome: Outcome) -> Committed:
        """Write and commit the rows; afterwards ``changes`` is keyed by the segments' ids in the catalog."""
        collection = self._collection
        collection.unfinished = collection.unfinished or bool(self._deletes)
        with collection.catalog.write() as session:
            if outcome.erasure is not None:
                begin(session, collection, outcome, self.request or Request(now()))
                # An id that comes back at once needs its row's place: what was there goes now, its tile unnamed.
                erasing.delete_many(session, collection.id, self._deletes.keys() & self._appends.keys())
                hidden = self._deletes.keys() - self._appends.keys()
                erasing.hide_many(session, collection.id, hidden, outcome.erasure)
            quarantine.set_aside(session, collection.id, self._quarantined)
            quarantine.release(session, collection.id, self._released)
            self._tell(session, "quarantine", self._quarantined)
            self._tell(session, "quarantine_released", self._released)
            for found in self._suppressed:
                keeping.add_suppression(session, collection.id, found, None)
            collection.audit.record(session, "suppress", collection.id, [found.hex() for found in self._suppressed])
            for key, change in list(changes.items()):
                segment = change.replacement or change.segment
                if change.is_new:
                    row = registry.add_segment(session, collection.id, segment.geometry.to_dict())
                    changes[row.id] = changes.pop(key)
                elif change.replacement is not None:
                    registry.reshape_segment(session, collection.id, key, segment.geometry.to_dict())
            for segment_id, change in changes.items():
                self._insert(session, segment_id, change.incoming)
                documents.move(session, collection.id, [returned for returned, _ in change.returning], segment_id)
            return collection.committed(session)

    def _tell(self, session: Session, op: str, moved: Mapping[str, str | None]) -> None:
        for document_id, reason in moved.items():
            opaque = self._collection.pseudonym(document_id).hex()
            self._collection.audit.record(session, op, self._collection.id, [opaque], reason=reason)

    def _insert(self, session: Session, segment_id: str, staged: list[StagedDocument]) -> None:
        documents.insert_many(
            session, self._collection.id, [self._new_row(document, segment_id) for document in staged]
        )

    def _new_row(self, staged: StagedDocument, segment_id: str) -> NewDocument:
        record = staged.record
        metadata = dict(record.metadata or {})
        return NewDocument(
            id=staged.id,
            segment_id=segment_id,
            digest=document_digest(
                self._collection.key,
                record.text,
                staged.id,
                record.source,
                record.subject,
                record.writer,
                staged.batch,
                metadata,
                staged.created_at,
            ),
            tokens=staged.tokens,
            created_at=staged.created_at,
            source=record.source,
            subject=record.subject,
            writer=record.writer,
            batch=staged.batch,
            metadata=metadata,
            expires_at=record.expires_at,
            text=staged.kept_text,
            place=self._collection.symbol(staged.id),
        )

    def _document(self, staged: StagedDocument) -> Document:
        record = staged.record
        return Document(
            staged.id,
            self._collection.name,
            record.source,
            record.subject,
            record.writer,
            staged.batch,
            dict(record.metadata or {}),
            staged.created_at,
            record.expires_at,
            "live",
            len(staged.tokens),
        )


def _stated(value: Any) -> Any:
    """A provenance value as it is stored: for Python, but not for JSON, True, 1 and 1.0 are equal."""
    return canonical_json(dict(value)) if isinstance(value, Mapping) else value


def _each_once(ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(identifier(each, "document id") for each in ids))
