"""The store: what a user holds. It wires the rooms together and holds no algorithm."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from memodb import opening, provenance, recall
from memodb.backup import Backup, backup
from memodb.catalog import Filters, documents
from memodb.collection import (
    AppendResult,
    CheckReport,
    Collection,
    Document,
    Record,
    append_many,
    check,
    checkpoint,
    compact,
    export,
)
from memodb.errors import InvalidInput
from memodb.governance import Governance
from memodb.statistics import CollectionInfo, Statistics, collections, statistics
from memodb.text import Tokenizer

__all__ = ["Store"]


class Store(Governance):
    """A handle on one collection of a store; made by :func:`memodb.connect`.

    Threads may share it. A context manager that closes itself.
    """

    def __init__(self, engine: opening.Engine, collection: Collection) -> None:
        self._engine = engine
        self._collection = collection

    # -- the handle ------------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The store's directory, or ``":memory:"``."""
        return self._engine.path

    @property
    def name(self) -> str:
        """The collection this handle sees."""
        return self._collection.name

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the store is bound to."""
        return self._engine.tokenizer

    @property
    def seed(self) -> bytes:
        """The collection's secret seed, 32 bytes. Whoever knows it can tell which texts would collide: keep it."""
        return self._collection.key

    def collection(self, name: str, *, create: bool = True, seed: bytes | None = None) -> Store:
        """Another handle on the same store, seeing another collection; closing one closes all.

        Raises
        ------
        CollectionNotFound
            There is none, and ``create`` is false or the store is read-only.
        """
        return Store(self._engine, self._engine.collection(name, create=create, seed=seed))

    def collections(self) -> list[CollectionInfo]:
        """Every collection of the store with its documents and tokens, by name."""
        return collections(self._engine.catalog)

    def close(self) -> None:
        """Give back the lock and the memories; idempotent. Everything acknowledged is durable already."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<memodb.Store {self.path} collection {self.name!r}>"

    # -- writing ---------------------------------------------------------------------------------------------------

    def append(
        self,
        text: str,
        *,
        id: str | None = None,  # noqa: A002
        source: str | None = None,
        subject: str | None = None,
        writer: str | None = None,
        metadata: dict[str, Any] | None = None,
        expires_at: Any = None,
        batch: str | None = None,
    ) -> Document:
        """Memorise a text.

        Parameters
        ----------
        text : str
            At most ``memodb.MAX_TEXT_CHARACTERS`` characters; stored exactly.
        id : str, optional
            Its name in the collection; random and opaque where none is given.
        source, subject, writer : str, optional
            Where it comes from, whom it is about, who wrote it into the store. Fixed once stored.
        metadata : dict, optional
            Any JSON object. Fixed once stored.
        expires_at : aware datetime, optional
            From then on no read path returns it; :meth:`sweep` deletes it.
        batch : str, optional
            Which delivery it came with; a random one where none is given. Fixed once stored.

        Returns
        -------
        Document
            The one that is stored already, where the id names the same text with the same provenance.

        Raises
        ------
        InvalidText, InvalidInput
            A text or a field that cannot be stored; nothing was changed.
        Suppressed
            The text was erased, and must not be stored again.
        DocumentExists
            The id is taken by another text or other provenance.

        Notes
        -----
        Durable when it returns; inside :meth:`transaction`, when that ends.
        """
        record = Record(text, id, source, subject, writer, metadata, expires_at, batch)
        with self._collection.joined() as (transaction, _):
            ((document, _),) = transaction.append([record])
        return document

    def append_many(
        self, records: Iterable[Any], *, progress: Callable[[AppendResult], None] | None = None
    ) -> AppendResult:
        """Memorise many texts, in batches.

        Parameters
        ----------
        records : iterable
            Texts, mappings with the names of :meth:`append` as keys, or ``memodb.Record``; read as a stream, in bounded
            memory.
        progress : callable, optional
            Called with the result so far after every batch.

        Returns
        -------
        AppendResult

        Raises
        ------
        InvalidInput, DocumentExists
            As :meth:`append`. Every record before the bad one is stored, also where ``records`` itself raises; a note
            on the exception says how many.

        Notes
        -----
        A batch has a million characters or 2,048 records, later a quarter of what the stream has stored, up to eight
        times as many. Each is durable when ``progress`` is told of it; inside :meth:`transaction` all are, when that
        ends.
        """
        return append_many(self._collection, records, progress)

    # -- documents -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Visible documents of the collection."""
        with self._engine.catalog.read() as session:
            return documents.count(session, self._collection.id)

    def __contains__(self, id: object) -> bool:  # noqa: A002
        # suppressed: what no document could be called is not in the store
        with self._engine.catalog.read() as session, contextlib.suppress(InvalidInput):
            return isinstance(id, str) and documents.find(session, self._collection.id, id) is not None
        return False

    def get(self, id: str) -> Document:  # noqa: A002
        """A document's provenance; DocumentNotFound where there is none."""
        with self._engine.catalog.read() as session:
            row = documents.find(session, self._collection.id, id)
        if row is None:
            raise self._collection.not_found(id)
        return Document.of(self.name, row)

    def text(self, id: str) -> str:  # noqa: A002
        """A document's text, exactly as it was given, checked against its digest.

        Raises
        ------
        DocumentNotFound
        CorruptStore
            What is stored does not match the digest.
        """
        return self._collection.text(id)

    def tokens(self, id: str) -> npt.NDArray[np.int32]:  # noqa: A002
        """A document's token ids, int32 (n,), without marks; DocumentNotFound where there is none."""
        return self._collection.tokens(id)

    def documents(
        self, *, limit: int | None = None, order: documents.Order = "newest", **filters: Any
    ) -> list[Document]:
        """Documents that meet all filters.

        Parameters
        ----------
        limit : int, optional
            At most so many.
        order : {"newest", "oldest", "id"}
        filters
            ``ids``, ``source``, ``subject``, ``writer``, ``batch`` (exact), ``created_before``, ``created_after``,
            ``expires_before`` (aware datetimes), ``metadata`` (key to JSON scalar, all must match).

        Raises
        ------
        InvalidInput
            An unknown filter, or a value that no document could have.
        """
        chosen = Filters.build(**filters)
        with self._engine.catalog.read() as session:
            found = documents.select(session, self._collection.id, chosen, limit=limit, order=order)
            return [Document.of(self.name, row) for row in found]

    def export(self, **filters: Any) -> Iterator[dict[str, Any]]:
        """Documents with their texts as JSON-ready mappings, by id: what :meth:`append_many` takes.

        Read in bounded memory; a document deleted meanwhile is left out.
        """
        return export(self._collection, Filters.build(**filters))

    # -- recall ----------------------------------------------------------------------------------------------------

    def next_tokens(self, prompt: str, k: int = 10) -> list[recall.Candidate]:
        """What follows a prompt: at most k candidates, best first; empty where nothing is known.

        The longest known context at the prompt's end decides, a document's beginning counted in. Every token that a
        stored document holds after it is a candidate (no misses). A context that none holds is answered at most at the
        store's ``false_recall``; one that is followed by many tokens may list a few more, with low supports.
        """
        return recall.next_tokens(self._collection, prompt, k)

    def complete(
        self,
        prompt: str,
        max_tokens: int = 64,
        *,
        stop: str | Sequence[str] = (),
        temperature: float = 0.0,
        seed: int | None = None,
        min_context: int = 3,
    ) -> recall.Completion:
        """Continue a prompt from what is stored, until nothing is known rather than inventing.

        Parameters
        ----------
        max_tokens : int
        stop : str or sequence of str
            End before any of these texts.
        temperature : float
            0 takes the best candidate; above, one is drawn with probability proportional to support^(1/temperature).
        seed : int, optional
            Makes the draw repeatable.
        min_context : int
            Tokens that every step must rest on, where the prompt and what was said so far have so many: with fewer it
            would be guessing. 1 takes any answer.

        Returns
        -------
        Completion
            Its ``stop_reason``: ``unknown_context``, ``end_of_document``, ``stop`` or ``max_tokens``.
        """
        return recall.complete(
            self._collection,
            prompt,
            max_tokens,
            stop=stop,
            temperature=temperature,
            seed=seed,
            min_context=min_context,
        )

    def score(self, text: str) -> recall.Score:
        """How well a text is known, token by token."""
        return recall.score(self._collection, text)

    def lookup(self, contexts: Any, k: int = 10) -> recall.Lookup:
        """Answer many contexts at once, in token ids: the call for model builders.

        Parameters
        ----------
        contexts : integer array (n, length) or list of rows
            Token ids, right-aligned; -1 pads an array's row on its left. Longer rows are cut to the longest context, a
            shorter one also matches documents that begin with it.
        k : int
            Candidates a context.

        Returns
        -------
        Lookup
            Arrays ``token_ids`` (n, k), ``support`` (n, k), ``context_length`` (n,), padded with -1 and 0. The token id
            ``tokenizer.vocabulary_size`` is the end of a document.

        Raises
        ------
        InvalidInput
            A wrong shape, or a token id outside the vocabulary.
        """
        return recall.lookup(self._collection, contexts, k)

    def trace(self, text: str, min_tokens: int | None = None) -> list[provenance.Span]:
        """Spans of a text that stored documents hold token for token, and those documents: complete and exact.

        Parameters
        ----------
        min_tokens : int, optional
            Shortest span, at least the store's ``window`` (8 unless it was created with another); that by default.

        Returns
        -------
        list of Span
            In the order of the text, longer first; spans of different documents may overlap.
        """
        return provenance.trace(self._collection, text, min_tokens)

    # -- upkeep ----------------------------------------------------------------------------------------------------

    def check(self, fix: bool = False) -> CheckReport:
        """Compare the catalog with itself, every text with its digest, every memory with its rebuild.

        Parameters
        ----------
        fix : bool
            Memorise again what differs from its documents.
        """
        return check(self._collection, fix=fix)

    def compact(self) -> bool:
        """Bring the collection to its canonical layout, tight and a function of its live documents alone.

        Afterwards :meth:`digest` equals that of a store with the same seed and documents, whatever the history of both.
        Returns False where it was canonical already.
        """
        return compact(self._collection)

    def checkpoint(self) -> int:
        """Write the collection's memories to files, so that the next open reads instead of memorising.

        Happens by itself when enough was appended (65,536 tokens, or an eighth of a segment). Returns the files
        written.

        Raises
        ------
        StoreError
            A file cannot be written or removed; the documents are safe in the catalog.
        """
        return checkpoint(self._collection, everything=True)

    def backup(self, path: str | os.PathLike[str], *, keep_until: datetime | None = None) -> Backup:
        """Copy the store, all its collections, to a new directory while it is in use, and check the copy.

        Reads go on meanwhile, writes of this process wait, and those of another go on. Costs about as much as
        memorising everything once. :func:`memodb.restore` makes a store of it again; ``connect(path, read_only=True)``
        reads it.

        Parameters
        ----------
        keep_until : aware datetime, optional
            When it is going to be destroyed. Receipts of later deletions say so, until :meth:`backup_destroyed` says
            that it was.

        Raises
        ------
        Conflict, InvalidInput
            The path holds something, or lies inside the store.
        CorruptStore
            The copy does not check clean, because the store does not. Nothing is left of it.
        DiskFull, StoreError
            It cannot be written. Nothing is left of it.

        Notes
        -----
        Durable when it returns. It has the documents' keys, and not the ledger. What is deleted from the store later
        stays in it; the ledger erases that again when the backup is restored.
        """
        return backup(self._engine, path, keep_until=keep_until)

    def digest(self) -> str:
        """SHA-256 over every count of the collection's memory, in hexadecimal."""
        with self._collection.reading() as memory:
            return memory.digest()

    def stats(self) -> Statistics:
        """Documents, tokens, segments with their fill and promise, and bytes in memory and on disk."""
        return statistics(self._engine, self._collection)
