"""The part of a store's handle that governs what is kept: deletion and its proof, and what surrounds it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from memodb import erasure, opening
from memodb.backup import record_backup
from memodb.catalog import history
from memodb.catalog.columns import identifier
from memodb.catalog.history import BackupRow
from memodb.collection import Collection, Document, Transaction
from memodb.erasure import Erasure, Hold, Receipt
from memodb.proof import Entry, write_log

__all__ = ["Governance"]


class Governance:
    """What :class:`memodb.Store` offers beside storing and recall. Not made by itself.

    Wherever documents are chosen, ``ids`` name them or ``filters`` do (see :meth:`memodb.Store.documents`), never both;
    an empty choice is an error. Every method that changes something is durable, and recorded in the audit log and its
    ledger, when it returns. Names and reasons that are to stand in the log are codes such as ``ticket-17``.
    """

    _engine: opening.Engine
    _collection: Collection

    # -- deletion --------------------------------------------------------------------------------------------------

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Appends and deletions in the block appear together when it ends, or not at all if it raises.

        Reads, in the block too, see the last committed state. Transactions do not nest; other threads' writes wait. A
        deletion in it is verified when it has ended; its receipt is among :meth:`erasures`.
        """
        return erasure.transaction(self._collection)

    def delete(
        self,
        *ids: str,
        reason: str | None = None,
        dry_run: bool = False,
        verify: bool = True,
        scan: bool = False,
        suppress: bool = False,
        **filters: Any,
    ) -> Receipt:
        """Forget documents, exactly, also those that are expired or in quarantine.

        Parameters
        ----------
        ids : str
            Documents; without any, ``filters`` choose.
        reason : str, optional
            Kept in the receipt, and where it is a code in the audit log; no personal data.
        dry_run : bool
            List what would go, and delete nothing.
        verify : bool
            Afterwards memorise every touched segment anew from what is left and compare it byte for byte. Costs one
            pass over the segment's documents; without it the receipt claims less, and :meth:`receipt` verifies later.
        scan : bool
            Afterwards search every byte of the store for the texts, in a process of its own: see
            :func:`memodb.scanning.scan`. Costs one pass over the store's files.
        suppress : bool
            Refuse the texts from now on: see :meth:`suppress`.

        Returns
        -------
        Receipt
            Its ``signed`` is for the file.

        Raises
        ------
        EmptySelection
            Nothing is named or nothing matches.
        DocumentNotFound
            An id names no document; nothing was deleted.
        InvalidInput
            Ids and filters together, or an unknown filter.

        Notes
        -----
        Durable and gone from every answer, in every process, when it returns; rows, tiles and keys are overwritten.
        Documents under a legal hold are gone from every answer too; their rows go when it ends. Inside
        :meth:`transaction` the deletion is staged, and the receipt says so. A crash in between is finished by the
        next opening for writing.
        """
        searcher = None
        if scan and not dry_run:
            from memodb.scanning import searching

            searcher = searching(self._engine)
        return erasure.delete(
            self._collection,
            ids,
            filters,
            reason=reason,
            dry_run=dry_run,
            verify=verify,
            scan=searcher,
            suppress=suppress,
        )

    def erasures(self) -> list[Erasure]:
        """The deletions of the collection, the oldest first, with the states that each has come through."""
        return erasure.erasures(self._collection)

    def receipt(self, erasure_id: str) -> dict[str, Any]:
        """The signed receipt of a deletion, JSON-ready; one that was not verified yet is verified now.

        Raises
        ------
        NotFound
            The collection has no such erasure.
        ReadOnlyStore
            It is to be verified, and this handle only reads.
        """
        return erasure.receipt(self._collection, identifier(erasure_id, "erasure id"))

    def pseudonym(self, id: str) -> str:  # noqa: A002
        """What a document (or subject) is called in receipts and in the audit log: hexadecimal, a keyed hash."""
        return self._collection.pseudonym(identifier(id, "id")).hex()

    # -- legal holds -----------------------------------------------------------------------------------------------

    def hold(self, name: str, *ids: str, **filters: Any) -> Hold:
        """Keep documents from being purged: a deletion hides them, and their rows stay, encrypted, until the hold ends.

        Parameters
        ----------
        name : str
            A code, for example of the case. Naming a hold again adds to it; a document may be under several.
        """
        return erasure.hold(self._collection, name, ids, filters)

    def holds(self) -> list[Hold]:
        """The legal holds of the collection, by name."""
        return erasure.holds(self._collection)

    def release_hold(self, name: str) -> list[str]:
        """End a hold: deletions that waited for it are carried out and verified. Ids of what it kept; NotFound."""
        return erasure.release_hold(self._collection, identifier(name, "a hold's name"))

    def export_held(self, name: str) -> Iterator[dict[str, Any]]:
        """The documents under a hold with their texts, deleted ones too: what the hold is for. Recorded; NotFound."""
        return erasure.export_held(self._collection, identifier(name, "a hold's name"))

    # -- quarantine ------------------------------------------------------------------------------------------------

    def quarantine(self, *ids: str, reason: str | None = None, **filters: Any) -> list[Document]:
        """Set documents aside: no read path returns them, and the memory is exactly the one that never held them."""
        return erasure.quarantine(self._collection, ids, filters, reason)

    def quarantined(self) -> list[Document]:
        """The documents in quarantine, by id."""
        return erasure.quarantined(self._collection)

    def release(self, *ids: str, reason: str | None = None, **filters: Any) -> list[Document]:
        """Bring documents back from quarantine: the memory is exactly the one that held them."""
        return erasure.release(self._collection, ids, filters, reason)

    # -- expiry ----------------------------------------------------------------------------------------------------

    def set_expiry(self, expires_at: datetime | None, *ids: str, **filters: Any) -> list[Document]:
        """Say when documents expire, or with None that they do not: from then on no read path returns them."""
        return erasure.set_expiry(self._collection, expires_at, ids, filters)

    def sweep(self, reason: str | None = None, *, dry_run: bool = False) -> Receipt:
        """Delete what has expired; EmptySelection where nothing has."""
        return erasure.sweep(self._collection, reason, dry_run=dry_run)

    # -- suppression -----------------------------------------------------------------------------------------------

    def suppress(self, text: str, until: datetime | None = None) -> str:
        """Refuse a text from now on, on every write path of the collection, until a time or for good.

        Copies are refused up to case, compatible forms of characters and white space; a text with one word changed is
        another text. What is kept is a keyed hash, which is returned.
        """
        return erasure.suppress(self._collection, text, until)

    def end_suppression(self, text: str) -> bool:
        """Allow a text again; False where it was not suppressed."""
        return erasure.end_suppression(self._collection, text)

    # -- access and proof ------------------------------------------------------------------------------------------

    def export_subject(self, subject: str) -> Iterator[dict[str, Any]]:
        """All documents of a subject with texts and provenance, also those expired or in quarantine. Recorded."""
        return erasure.export_subject(self._collection, subject)

    def audit(self, start: int = 0) -> Iterator[Entry]:
        """The entries of the store's audit log, all its collections', from a number on."""
        return self._engine.audit.entries(start)

    def audit_head(self) -> dict[str, Any]:
        """The signed head of the audit log, JSON-ready: kept elsewhere, it shows later that nothing was cut off."""
        return self._engine.audit.head()

    def export_audit(self, target: str | os.PathLike[str] | BinaryIO) -> int:
        """Write the audit log for somebody to check offline (`memodb audit verify`); the number of entries."""
        head = self.audit_head()
        entries = list(self._engine.audit.entries())[: head["size"]]
        if isinstance(target, str | os.PathLike):
            with Path(target).open("wb") as stream:
                return write_log(stream, head, entries)
        return write_log(target, head, entries)

    @property
    def public_key(self) -> str:
        """The key that receipts and heads are signed with, PEM: give it to whoever is to check them."""
        return self._engine.audit.keyring.public_key

    def backups(self) -> list[BackupRow]:
        """The backups that were taken of the store, the oldest first."""
        with self._engine.catalog.read() as session:
            return history.backups(session)

    def backup_taken(self, path: str | os.PathLike[str], keep_until: datetime | None = None) -> None:
        """Record a backup that was taken through a handle that only reads, so that receipts of later deletions tell.

        Raises
        ------
        NotFound, CorruptStore
            The path is no finished backup.
        Conflict
            It is recorded already.
        """
        record_backup(self._engine, path, keep_until)

    def backup_destroyed(self, backup_id: str) -> None:
        """Record that a backup is no more, and sign the receipts that told of it again.

        Raises
        ------
        NotFound
            The store knows of no such backup that is not destroyed.
        """
        identifier(backup_id, "backup id")
        with self._engine.steady():
            erasure.destroy_backup(self._engine.audit, self._engine.collections(), backup_id)
