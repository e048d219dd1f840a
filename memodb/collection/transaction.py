"""Changes that appear together or not at all.

Nothing touches a matrix before the catalog's COMMIT: a transaction stages, plans against the memory as it is, commits
the rows, and only then publishes, with sums that were computed before. A failed transaction therefore leaves nothing to
undo.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memodb.catalog import DocumentRow, Filters, NewDocument, documents, erasing, registry
from memodb.catalog.columns import canonical_json
from memodb.collection.checkpoint import due_checkpoint, tidy
from memodb.collection.layout import GROWTH, batches, capacity, grown_segment
from memodb.collection.purge import finish_deletions, with_room
from memodb.collection.records import Document, Record, StagedDocument, document_digest, opaque_id
from memodb.errors import CorruptStore, DocumentExists, DocumentNotFound
from memodb.memory import Contribution, Segment, first_geometry

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from memodb.collection.collection import Collection

__all__ = ["Outcome", "Transaction"]


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
    """

    appended: tuple[str, ...]
    deleted: tuple[str, ...]
    tokens_deleted: int
    segments: tuple[str, ...]


class _Change:
    """What becomes of one segment: who comes, who goes, and the sums of both."""

    def __init__(self, segment: Segment, *, is_new: bool = False) -> None:
        self.segment = segment
        self.is_new = is_new
        self.incoming: list[StagedDocument] = []
        self.outgoing: dict[str, np.ndarray] = {}
        self.tokens = segment.tokens
        """Tokens that the segment will hold."""
        self.documents = int(segment.symbols.size)
        """Documents that the segment will hold."""
        self.subtract: list[Contribution] = []
        self.add: list[Contribution] = []
        self.replacement: Segment | None = None

    def take(self, staged: StagedDocument) -> None:
        self.incoming.append(staged)
        self.tokens += len(staged.tokens)
        self.documents += 1

    def give(self, document_id: str, tokens: np.ndarray) -> None:
        self.outgoing[document_id] = tokens
        self.tokens -= len(tokens)
        self.documents -= 1


class Transaction:
    """Appends and deletions of one collection, staged until :meth:`commit`.

    Reads, in this thread too, see the last committed state until then.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._appends: dict[str, StagedDocument] = {}
        self._deletes: dict[str, None] = {}
        self.outcome: Outcome | None = None
        """What was done, after the commit."""

    # -- staging ---------------------------------------------------------------------------------------------------

    def append(self, records: Sequence[Record]) -> list[tuple[Document, bool]]:
        """Stage records.

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
        """
        collection = self._collection
        for record in records:
            documents.require_valid(
                opaque_id() if record.id is None else record.id,
                source=record.source,
                subject=record.subject,
                writer=record.writer,
                metadata={} if record.metadata is None else record.metadata,
                expires_at=record.expires_at,
            )
        encoded = collection.tokenizer.encode_many([record.text for record in records])
        ids = [opaque_id() if record.id is None else record.id for record in records]
        taken = self._taken([record.id for record in records if record.id is not None])
        results = []
        # apart until the last record is accepted: a caller who tries again must not meet half of its first attempt
        fresh: dict[str, StagedDocument] = {}
        for record, document_id, tokens in zip(records, ids, encoded, strict=True):
            before = self._appends.get(document_id) or fresh.get(document_id) or taken.get(document_id)
            if before is not None:
                results.append((self._same(before, record, document_id), False))
                continue
            reproduced = collection.tokenizer.reproduces(record.text, tokens)
            staged = StagedDocument(document_id, record, tokens, None if reproduced else record.text)
            fresh[document_id] = staged
            results.append((self._document(staged), True))
        self._appends.update(fresh)
        return results

    def _taken(self, ids: list[str]) -> dict[str, Document]:
        """Live documents under these ids, but for those that this transaction deletes."""
        if not ids:
            return {}
        collection = self._collection
        with collection.catalog.read() as session:
            rows = list(documents.select(session, collection.id, Filters(ids=tuple(ids))))
        return {row.id: Document.of(collection.name, row) for row in rows if row.id not in self._deletes}

    def _same(self, before: StagedDocument | Document, record: Record, document_id: str) -> Document:
        """The document that is there, where the record says the same; an error where it does not."""
        collection = self._collection
        if isinstance(before, StagedDocument):
            document, text = self._document(before), before.record.text
        else:
            document, text = before, collection.text(document_id)
        given = {
            name: getattr(record, name)
            for name in ("source", "subject", "writer", "metadata", "expires_at")
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

    def delete(self, ids: Iterable[str]) -> list[str]:
        """Stage deletions of stored or staged documents; the ids, each once.

        Raises
        ------
        DocumentNotFound
            An id is neither stored nor staged, or staged for deletion already; nothing of the call is staged.
        """
        wanted = list(dict.fromkeys(ids))
        stored = self._taken(wanted)
        for document_id in wanted:
            if document_id not in stored and document_id not in self._appends:
                raise self._collection.not_found(document_id)
        for document_id in wanted:
            if document_id in self._appends:
                del self._appends[document_id]
            else:
                self._deletes[document_id] = None
        return wanted

    # -- committing ------------------------------------------------------------------------------------------------

    def commit(self) -> Outcome:
        """Make everything staged durable, then visible.

        Durability: when this returns, the catalog's COMMIT has been synced to disk. Where it raises before the COMMIT,
        nothing was changed. The end of the transaction's block calls it; a second call does nothing.
        """
        collection = self._collection
        if self.outcome is not None:
            return self.outcome
        if not self._appends and not self._deletes:
            self.outcome = Outcome((), (), 0, ())
            return self.outcome
        leaving = self._leaving()
        changes = self._plan(leaving)
        with collection.committing():
            if self._appends:
                self._write(changes)
            else:
                with_room(collection, lambda: self._write(changes))
            collection.publish(lambda segments: _publish(segments, changes))
        self.outcome = Outcome(
            tuple(self._appends),
            tuple(self._deletes),
            sum(row.token_count for row in leaving),
            tuple(dict.fromkeys(row.segment_id for row in leaving)),
        )
        if leaving:
            finish_deletions(collection)
        elif any(change.replacement for change in changes.values()):
            tidy(collection)
        due_checkpoint(collection)
        return self.outcome

    def _leaving(self) -> list[DocumentRow]:
        """Rows of the documents to delete."""
        if not self._deletes:
            return []
        collection = self._collection
        with collection.catalog.read() as session:
            rows = list(documents.select(session, collection.id, Filters(ids=tuple(self._deletes))))
        if len(rows) != len(self._deletes):
            raise DocumentNotFound("documents of this transaction were deleted by another handle meanwhile")
        return rows

    def _plan(self, leaving: list[DocumentRow]) -> dict[str, _Change]:
        """Decide where every document goes and compute every sum; changes nothing."""
        collection = self._collection
        try:
            memory = collection.memory_for_writing()
            with collection.catalog.read() as session:
                tokens = documents.tokens_of(session, collection.id, self._deletes)
        except CorruptStore as exc:
            if self._appends:
                exc.add_note("deletions alone are still possible: delete the damaged documents first")
                raise
            # A damaged document must not be what cannot be deleted: the memory is made again from those that stay.
            collection.reload()
            return {}
        changes = {segment_id: _Change(segment) for segment_id, segment in memory.segments.items()}
        for row in leaving:
            if row.id not in tokens or row.segment_id not in changes:
                raise CorruptStore(
                    f"the indexes of {collection.catalog.path} contradict its rows: run `memodb check --fix`"
                )
            changes[row.segment_id].give(row.id, tokens[row.id])
        for staged in self._appends.values():
            self._place(changes, staged)
        changes = {key: change for key, change in changes.items() if change.incoming or change.outgoing}
        for segment_id, change in changes.items():
            self._sum(segment_id, change)
        return changes

    def _place(self, changes: dict[str, _Change], staged: StagedDocument) -> None:
        """Put a document into the first segment with room for its tokens, or into a new one."""
        configuration = self._collection.configuration
        for change in sorted(changes.values(), key=lambda change: change.segment.geometry.ordinal):
            room = capacity(configuration, change.segment.geometry.ordinal)
            if not change.documents or change.tokens + len(staged.tokens) <= room:
                change.take(staged)
                return
        taken = {change.segment.geometry.ordinal for change in changes.values()}
        ordinal = next(number for number in range(len(taken) + 1) if number not in taken)
        memory = self._collection.memory_for_writing()
        segment = memory.new_segment(first_geometry(configuration, ordinal))
        change = changes[f"new {ordinal}"] = _Change(segment, is_new=True)
        change.take(staged)

    def _sum(self, segment_id: str, change: _Change) -> None:
        """Compute what a segment gains and loses, or its replacement where it would break its promise."""
        collection = self._collection
        segment = change.segment
        leaving = collection.symbolised(change.outgoing.items())
        arriving = [(collection.symbol(document.id), document.tokens) for document in change.incoming]
        change.subtract = [segment.contribution(batch) for batch in batches(leaving)]
        change.add = [segment.contribution(batch) for batch in batches(arriving)]
        if not change.add or segment.holds(change.add):
            return
        room = capacity(collection.configuration, segment.geometry.ordinal)
        headroom = min(GROWTH, max(1.1, room / max(1, change.tokens)))

        def everything() -> Iterator[tuple[int, np.ndarray]]:
            if not change.is_new:
                with collection.catalog.read() as session:
                    stored = documents.stream_segment(session, collection.id, segment_id)
                    yield from collection.symbolised(item for item in stored if item[0] not in change.outgoing)
            yield from arriving

        memory = collection.memory_for_writing()
        change.replacement = grown_segment(memory, segment.fitted(headroom, change.add), everything, headroom)
        change.subtract, change.add = [], []

    def _write(self, changes: dict[str, _Change]) -> None:
        """Write and commit the rows; afterwards ``changes`` is keyed by the segments' ids in the catalog."""
        collection = self._collection
        collection.unfinished = collection.unfinished or bool(self._deletes)
        with collection.catalog.write() as session:
            # An id that comes back at once needs its row's place: what was there goes in this commit, its tile unnamed.
            erasing.delete_many(session, collection.id, self._deletes.keys() & self._appends.keys())
            erasing.hide_many(session, collection.id, self._deletes.keys() - self._appends.keys())
            for key, change in list(changes.items()):
                segment = change.replacement or change.segment
                if change.is_new:
                    row = registry.add_segment(session, collection.id, segment.geometry.to_dict())
                    changes[row.id] = changes.pop(key)
                elif change.replacement is not None:
                    registry.reshape_segment(session, collection.id, key, segment.geometry.to_dict())
            for segment_id, change in changes.items():
                self._insert(session, segment_id, change.incoming)

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
                metadata,
                staged.created_at,
            ),
            tokens=staged.tokens,
            created_at=staged.created_at,
            source=record.source,
            subject=record.subject,
            writer=record.writer,
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
            dict(record.metadata or {}),
            staged.created_at,
            record.expires_at,
            "live",
            len(staged.tokens),
        )


def _stated(value: Any) -> Any:
    """A provenance value as it is stored: for Python, but not for JSON, True, 1 and 1.0 are equal."""
    return canonical_json(dict(value)) if isinstance(value, Mapping) else value


def _publish(segments: dict[str, Segment], changes: dict[str, _Change]) -> None:
    for segment_id, change in changes.items():
        segment = change.replacement or change.segment
        for contribution in change.subtract:
            segment.subtract(contribution)
        for contribution in change.add:
            segment.add(contribution)
        segments[segment_id] = segment
