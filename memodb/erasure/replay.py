"""Telling an older copy of a store what was done since: by its ledger, whose log goes on after the copy's ends.

A backup that is restored, a snapshot that a machine is set back to, a directory that was copied: each has again what
was erased after it was made. The ledger was not set back with it. So its later lines are carried out again before
anything is served: documents are erased, held, set aside, and texts suppressed, as they were.

First the lines are taken over, in one commit with a note of where they begin; until all of them are carried out, the
note stays, nobody may read the store, and the next opening for writing begins again. Each step may be done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from memodb.catalog import DocumentState, Filters, Scope, documents, expiring, history, keeping, quarantine
from memodb.catalog.history import BackupRow
from memodb.collection import AuditLog, Collection, finish_deletions
from memodb.erasure.deletion import delete
from memodb.erasure.verification import conclude_all
from memodb.proof import Entry

__all__ = ["replay"]


def replay(audit: AuditLog, collections: Callable[[], Iterable[Collection]]) -> int:
    """Carry out what the ledger knows and the catalog does not; how many lines there were.

    Raises
    ------
    CorruptStore
        A line is not one that was written.
    StoreError
        Something cannot be done now; the next opening for writing begins anew.
    """
    audit.adopt()
    entries = audit.pending()
    for entry in entries:
        if entry.id is not None:
            _apply_backup(audit, entry)
    if entries:
        for collection in collections():
            _Replay(collection).run([entry for entry in entries if entry.collection == collection.id])
        audit.settle()
    audit.mirror()
    return len(entries)


def _apply_backup(audit: AuditLog, entry: Entry) -> None:
    with audit.catalog.write() as session:
        known = {row.id: row for row in history.backups(session)}
        row = known.get(entry.id or "")
        if entry.op == "backup" and row is None:
            history.add_backup(session, BackupRow(entry.id or "", entry.time, entry.until))
        elif entry.op == "backup_destroyed" and row is not None and row.destroyed_at is None:
            history.destroy_backup(session, row.id, entry.time)


class _Replay:
    """Lines of one collection, applied to the documents that it has."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        with collection.catalog.read() as session:
            stored = documents.select(session, collection.id, Filters(scope=Scope.STORED))
            self.rows = {collection.pseudonym(row.id).hex(): row for row in stored}
        self.erased: list[str] = []
        self.aside = {row.id: row.state is DocumentState.QUARANTINED for row in self.rows.values()}

    def run(self, entries: list[Entry]) -> None:
        collection = self.collection
        for entry in entries:
            self.apply(entry)
        current = {row.id: row.state is DocumentState.QUARANTINED for row in self.rows.values()}
        moved = [document_id for document_id, aside in current.items() if self.aside[document_id] != aside]
        with collection.catalog.write() as session:
            quarantine.set_aside(session, collection.id, [found for found in moved if self.aside[found]])
        collection.reload()
        if released := [found for found in moved if not self.aside[found]]:
            with collection.joined() as (staged, _):
                staged.release(released)
        if self.erased:
            delete(collection, tuple(self.erased), {}, reason="replayed")
        finish_deletions(collection)  # of what no hold keeps any more
        conclude_all(collection)
        collection.reload()

    def apply(self, entry: Entry) -> None:
        if entry.op in ("suppress", "suppression_ended") and entry.id is not None:
            self.suppress(entry, bytes.fromhex(entry.id))
            return
        if entry.op == "hold_released":  # also of what is being erased already
            with self.collection.catalog.write() as session:
                keeping.remove_hold(session, self.collection.id, entry.reason or "")
            return
        # Every document of the copy was there before the lines that it has not: no clock has to be asked.
        row = self.rows.get(entry.id or "")
        if row is None:
            return
        match entry.op:
            case "hidden":
                self.erased.append(self.rows.pop(entry.id or "").id)
            case "quarantine" | "quarantine_released":
                self.aside[row.id] = entry.op == "quarantine"
            case "hold" | "expiry":
                self.keep(entry, row.id)

    def keep(self, entry: Entry, document_id: str) -> None:
        collection, name = self.collection, entry.reason or ""
        with collection.catalog.write() as session:
            if entry.op == "hold":
                keeping.add_hold(session, collection.id, name, [collection.symbol(document_id)], entry.time)
            else:
                expiring.set_expiry(session, collection.id, [document_id], entry.until, Scope.STORED)

    def suppress(self, entry: Entry, found: bytes) -> None:
        with self.collection.catalog.write() as session:
            if entry.op == "suppress":
                keeping.add_suppression(session, self.collection.id, found, entry.until)
            else:
                keeping.remove_suppression(session, self.collection.id, found)
