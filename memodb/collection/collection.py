"""One collection, alive: its rows in the catalog and its memory, which change together or not at all.

The catalog decides. A memory is memorised from the live documents when it is first asked, follows every commit of this
process in place, and (in a read-only handle) every commit of the writer's process by memorising again what changed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from memodb.catalog import Catalog, CollectionRow, Filters, Scope, SegmentRow, documents, expiring, now, registry
from memodb.cipher import KeyService
from memodb.collection.auditing import AuditLog
from memodb.collection.checkpoint import Tile, material
from memodb.collection.layout import batches
from memodb.collection.locks import SharedLock
from memodb.collection.purge import finish_deletions
from memodb.collection.records import Record, document_digest, document_pseudonym, document_symbol
from memodb.collection.transaction import Transaction
from memodb.errors import (
    CorruptStore,
    DocumentNotFound,
    InvalidInput,
    ReadOnlyStore,
    StoreError,
    StoreLocked,
    SyncFailed,
)
from memodb.memory import Backend, Configuration, Memory, Segment, memory_for
from memodb.storage import Leases, StoreDirectory
from memodb.text import Tokenizer

__all__ = ["Collection", "Committed"]

_ATTEMPTS, _PAUSE = 12, 0.0005
"""How often memory and catalog are read again until they agree, and after how many seconds first: 2 s in all."""


@dataclass(frozen=True)
class Committed:
    """What a commit left of a collection.

    Parameters
    ----------
    version : int
        The collection's.
    next_expiry : datetime or None
        When the next document expires.
    tiles : dict of str to str or None
        The tile that each segment names.
    """

    version: int
    next_expiry: datetime | None
    tiles: dict[str, str | None]


class Collection:
    """A collection's catalog rows and memory behind two locks: one writer, and readers against the instant of a commit.

    Parameters
    ----------
    catalog : Catalog
        Shared by all collections of the store.
    row : CollectionRow
        Its id, name and secret key.
    tokenizer : Tokenizer
    configuration : Configuration
    backend : Backend
    read_only : bool
        Refuse writes, and follow those of the writer's process.
    write_lock : RLock
        The store's: writers of all its collections take turns.
    directory : StoreDirectory or None
        Where the store's files are; None for a store in memory.
    checkpoint_tokens : int or None
        When checkpoints fall due, in tokens that the next open would memorise again.
    audit : AuditLog
        The store's.
    requires_provenance : bool
        Whether documents without a source or a writer are refused.
    """

    def __init__(
        self,
        catalog: Catalog,
        row: CollectionRow,
        tokenizer: Tokenizer,
        configuration: Configuration,
        backend: Backend,
        *,
        read_only: bool,
        write_lock: threading.RLock,
        directory: StoreDirectory | None,
        checkpoint_tokens: int | None,
        audit: AuditLog,
        requires_provenance: bool = False,
    ) -> None:
        self.catalog = catalog
        self.id = row.id
        self.name = row.name
        self.key = row.key
        self.tokenizer = tokenizer
        self.configuration = configuration
        self.read_only = read_only
        self.backend = backend
        self.directory = directory
        self.checkpoint_tokens = checkpoint_tokens
        self.audit = audit
        self._requires_provenance = requires_provenance
        self.tiled: dict[str, Tile] = {}
        """The tile of each segment that this handle knows."""
        self.unfinished = False
        """A deletion of this handle's was committed, and not yet brought to its end."""
        self._memory = self.new_memory()
        self._loaded: dict[str, int] = {}
        self._complete = False
        self._seen: object = None
        self._version = -1
        self._as_of = now()
        self._next_expiry: datetime | None = None
        self._changing = threading.RLock()
        self._loading = threading.Lock()
        self._shared = SharedLock()
        self._writing = write_lock
        self._current: Transaction | None = None

    # -- reading ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self) -> Iterator[Memory]:
        """The memory, complete and as of the last commit, held still for the block."""
        while True:
            self._follow()
            with self._shared.shared():
                # else a publication failed, or a document expired, while this thread waited
                if self._complete and not self._expiring():
                    yield self._memory
                    return

    @contextlib.contextmanager
    def reading_both(self) -> Iterator[tuple[Memory, Session]]:
        """The memory and a session of the catalog, both as of one commit, held still for the block.

        Raises
        ------
        StoreLocked
            Another process commits faster than this one can follow.
        """
        for attempt in range(_ATTEMPTS):
            with self.reading() as memory, self.catalog.read() as session:
                if registry.version_of(session, self.id) == self._version:
                    yield memory, session
                    return
            time.sleep(_PAUSE * 2**attempt)  # a commit of this process is about to reach the memory
        raise StoreLocked(f"{self.catalog.path} changes too fast to be followed: try again")

    def _follow(self) -> None:
        """Memorise what is not yet, or no longer, as the catalog has it."""
        self.catalog.require_usable()
        if not self._complete or self.read_only:
            with self._loading:
                seen = self.catalog.data_version() if self.read_only else None
                if not self._complete or seen != self._seen:
                    self._load()
                    self._seen = seen
        if self._expiring():
            with self._changing, self._loading:
                self._expire()

    def _load(self) -> None:
        """Memorise the segments that the catalog has otherwise, as of the time up to which expiry was applied."""
        at = self._as_of
        with self.leasing(), self.catalog.read() as session:
            version = registry.version_of(session, self.id)
            rows = registry.list_segments(session, self.id)
            upcoming = expiring.next_expiry(session, self.id, at)
            changed = {
                row.id: material(self, self._memory, session, row, at)
                for row in rows
                if self._loaded.get(row.id) != row.version
            }
        # outside the session: memorising takes longer than a writer should wait for a reader
        fresh = {segment_id: found.segment() for segment_id, found in changed.items()}
        self.tiled.update(
            (row.id, Tile(row.tile, changed[row.id].held, row.tile_key))
            for row in rows
            if row.tile is not None and row.id in changed and changed[row.id].tile
        )
        with self._shared.exclusive():
            self._adopt(rows, fresh)
            self._version = version
            self._next_expiry = upcoming

    def _expiring(self) -> bool:
        """Whether documents have expired that the memory still holds."""
        return self._next_expiry is not None and now() >= self._next_expiry

    def _expire(self) -> None:
        """Subtract the documents that have expired since the memory was made. Nothing is committed: the clock decides
        for every handle alike, and a sweep removes the rows.
        """
        if not self._complete:
            return
        at = max(now(), self._as_of)
        with self.catalog.read() as session:
            gone: dict[str, list[int]] = {}
            for place, segment_id in expiring.expired_places(session, self.id, at):
                if segment_id in self._memory.segments and self._memory.segments[segment_id].has(place):
                    gone.setdefault(segment_id, []).append(place)
            upcoming = expiring.next_expiry(session, self.id, at)
            sums = [
                (segment, segment.contribution(batch))
                for segment_id, places in gone.items()
                for segment in [self._memory.segments[segment_id]]
                for batch in batches(
                    self.symbolised(documents.stream_segment(session, self.id, segment_id, places=places))
                )
            ]
        with self._shared.exclusive():
            try:
                for segment, contribution in sums:
                    segment.subtract(contribution)
                self._as_of, self._next_expiry = at, upcoming
            except BaseException:
                self.reload()
                raise

    @property
    def as_of(self) -> datetime:
        """The time up to which expiry was applied to the memory: it holds what was visible then."""
        return self._as_of

    @property
    def keys(self) -> KeyService:
        """The keys of documents and tiles.

        Raises
        ------
        StoreError
            The catalog was opened without them.
        """
        if self.catalog.keys is None:
            raise StoreError("the store was opened without its keys")
        return self.catalog.keys

    def leasing(self) -> contextlib.AbstractContextManager[None]:
        """Keeps the tiles that the catalog names in place for the block; their writer has no need of it."""
        if self.directory is None or not self.read_only:
            return contextlib.nullcontext()
        return Leases(self.directory.leases).reading()

    def _adopt(self, rows: list[SegmentRow], fresh: dict[str, Segment]) -> None:
        segments = {row.id: fresh[row.id] if row.id in fresh else self._memory.segments[row.id] for row in rows}
        self._memory.segments = segments
        self._loaded = {row.id: row.version for row in rows}
        self._complete = True

    def symbol(self, document_id: str) -> int:
        """A document's identity in this collection's memory, and its row's key in the catalog."""
        return document_symbol(self.key, document_id)

    def pseudonym(self, document_id: str) -> bytes:
        """What a document is called in receipts and in the audit log, 16 bytes."""
        return document_pseudonym(self.key, document_id)

    def symbolised(self, stream: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """(id, tokens) as the memory takes them: (symbol, tokens).

        Raises
        ------
        CorruptStore
            A token that the vocabulary does not have.
        """
        for document_id, tokens in stream:
            if tokens.size and tokens.max() >= self.configuration.vocabulary:
                raise self._damaged(document_id)
            yield self.symbol(document_id), tokens

    def texts(self, ids: Iterable[str]) -> dict[str, str]:
        """Texts of live documents, exactly as given.

        Raises
        ------
        CorruptStore
            What is stored does not match the document's digest.
        """
        with self.catalog.read() as session:
            return self.texts_in(session, ids)

    def texts_in(
        self, session: Session, ids: Iterable[str], scope: Scope = Scope.VISIBLE, at: datetime | None = None
    ) -> dict[str, str]:
        """As :meth:`texts`, in a session of the caller's, of documents in this scope, now or at a time."""
        at = at or now()  # one for all queries: what expires in between is there for each of them, or for none
        chosen = Filters(ids=tuple(ids), scope=scope, at=at)
        rows = {row.id: row for row in documents.select(session, self.id, chosen)}
        tokens = documents.tokens_of(session, self.id, rows, scope, at)
        kept = documents.texts_of(session, self.id, rows, scope, at)
        result = {}
        for document_id, row in rows.items():
            text = kept.get(document_id)
            if document_id not in tokens:  # one index has it, another has not
                raise self._damaged(document_id)
            if text is None:
                try:
                    text = self.tokenizer.decode(tokens[document_id])
                except InvalidInput as exc:  # a token that the vocabulary does not have
                    raise self._damaged(document_id) from exc
            sealed = document_digest(
                self.key, text, row.id, row.source, row.subject, row.writer, row.batch, row.metadata, row.created_at
            )
            if sealed != row.digest:
                raise self._damaged(document_id)
            result[document_id] = text
        return result

    def tokens(self, document_id: str) -> npt.NDArray[np.int32]:
        """Token ids of one document, int32 (n,); DocumentNotFound where there is none."""
        with self.catalog.read() as session:
            found = documents.tokens_of(session, self.id, [document_id])
        if document_id not in found:
            raise self.not_found(document_id)
        return found[document_id]

    def text(self, document_id: str) -> str:
        """The text of one document; DocumentNotFound where there is none."""
        found = self.texts([document_id])
        if document_id not in found:
            raise self.not_found(document_id)
        return found[document_id]

    def _damaged(self, document_id: str) -> CorruptStore:
        return CorruptStore(
            f"document {document_id!r} in {self.catalog.path} does not match its digest: run `memodb check`"
        )

    def not_found(self, document_id: str) -> DocumentNotFound:
        return DocumentNotFound(f"collection {self.name!r} has no document {document_id!r}")

    def require_provenance(self, record: Record) -> None:
        """Refuse a record that does not say where it comes from, where the store was created so.

        Raises
        ------
        InvalidInput
            It has no source, or no writer and the handle no actor.
        """
        if self._requires_provenance:
            for name, value in (("source", record.source), ("writer", record.writer or self.audit.actor)):
                if value is None:
                    raise InvalidInput(
                        f"document {record.id!r} has no {name}, and the store was created with require_provenance=True"
                    )

    # -- writing ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A new transaction, committed where the block ends without an error.

        Raises
        ------
        InvalidInput
            This thread has one open: transactions do not nest.
        """
        with self.write_turn():
            if self._current is not None:
                raise InvalidInput("a transaction is open already: transactions do not nest")
            if self.unfinished:
                finish_deletions(self)
            self._current = Transaction(self)
            try:
                yield self._current
                self._current.commit()
            finally:
                self._current = None

    @contextlib.contextmanager
    def joined(self) -> Iterator[tuple[Transaction, bool]]:
        """The open transaction of this thread, or a new one for the block; and whether the block's end commits it."""
        with self.write_turn():
            if self._current is not None:
                yield self._current, False
            else:
                with self.transaction() as transaction:
                    yield transaction, True

    @contextlib.contextmanager
    def write_turn(self) -> Iterator[None]:
        """This thread's turn to write to the store; the same thread may take it again.

        Raises
        ------
        ReadOnlyStore
            The store was opened with ``read_only=True``.
        """
        self.catalog.require_usable()
        if self.read_only:
            raise ReadOnlyStore(f"the store {self.catalog.path} was opened with read_only=True")
        with self._writing:
            yield

    def new_memory(self) -> Memory:
        """An empty memory of this collection's seed and configuration, derived anew."""
        return memory_for(self.backend, self.configuration, self.key)

    def memory_for_writing(self) -> Memory:
        """The complete memory, for a planner that holds the write turn."""
        self._follow()
        return self._memory

    @contextlib.contextmanager
    def syncing(self) -> Iterator[None]:
        """A block that writes files: where the disk does not confirm one, the handle serves nothing any more."""
        try:
            yield
        except SyncFailed as exc:
            self.catalog.poison(exc)
            raise

    def reload(self) -> None:
        """Have the memory made again from the catalog at the next read."""
        self._loaded = {}
        self._complete = False

    def changing(self) -> contextlib.AbstractContextManager[object]:
        """Keeps the memory as it is, but for this thread's changes, from planning one to publishing it: what expires
        meanwhile is subtracted afterwards. The same thread may enter it again.
        """
        return self._changing

    @contextlib.contextmanager
    def committing(self) -> Iterator[None]:
        """A block that commits and publishes: should it be left between the two, the next read memorises anew.

        An interruption may come after the COMMIT, so any exception makes the memory doubtful. Rejected: to look whether
        the commit happened, which may fail for the same reason.
        """
        try:
            yield
        except BaseException:
            self.reload()
            raise

    def committed(self, session: Session) -> Committed:
        """What is to be published of the changes of a session: to be asked for at its end."""
        return Committed(
            registry.version_of(session, self.id),
            expiring.next_expiry(session, self.id, self._as_of),
            registry.tiles(session, self.id),
        )

    def publish(
        self,
        change: Callable[[dict[str, Segment]], None],
        committed: Committed | None = None,
        expiring_at: datetime | None = None,
    ) -> None:
        """Let a committed change reach the matrices, between reads.

        ``committed`` says what the catalog was left at, where the session that did it was asked.

        ``expiring_at`` is when the first of the documents that come in expires. It may have passed while they were
        staged, or in quarantine: they are subtracted before the next read, then.

        Should it fail half way, the whole memory is dropped and memorised again from the catalog at the next read: the
        commit stands, and no read ever sees the half.
        """
        if committed is None:
            with self.catalog.read() as session:
                committed = self.committed(session)
        with self._shared.exclusive():
            try:
                change(self._memory.segments)
                self._version = committed.version
                self._next_expiry = min(filter(None, (committed.next_expiry, expiring_at)), default=None)
            except BaseException:
                self._memory.segments = {}
                self.reload()
                raise
