"""What surrounds erasure: holds that delay it, quarantine and expiry that precede it, suppression that makes it last,
access that a subject may ask for. Each is recorded in the audit log, in the commit that does it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from memodb.catalog import Filters, Scope, documents, erasing, expiring, history, keeping, now
from memodb.catalog.columns import aware, identifier
from memodb.catalog.erasing import ErasureRow
from memodb.catalog.history import BackupRow
from memodb.catalog.keeping import HoldRow
from memodb.collection import AuditLog, Collection, Document, Transaction, finish_deletions, suppression_hash
from memodb.collection import erasures as records
from memodb.erasure.deletion import delete, select
from memodb.erasure.receipt import Erasure, Receipt
from memodb.erasure.verification import conclude, reissue
from memodb.errors import CorruptStore, EmptySelection, InvalidInput, NotFound, ReadOnlyStore
from memodb.proof import code
from memodb.text import check_text

__all__ = [
    "Hold",
    "destroy_backup",
    "end_suppression",
    "erasures",
    "export_held",
    "export_subject",
    "hold",
    "holds",
    "quarantine",
    "quarantined",
    "receipt",
    "release",
    "release_hold",
    "set_expiry",
    "suppress",
    "sweep",
    "transaction",
]

_AT_ONCE = 256


@dataclass(frozen=True)
class Hold:
    """A legal hold.

    Parameters
    ----------
    name : str
        Its code, for example of a case.
    created_at : datetime
    documents : tuple of str
        Ids of the documents that it keeps, those that are being erased among them.
    """

    name: str
    created_at: datetime
    documents: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {"name": self.name, "created_at": self.created_at.isoformat(), "documents": list(self.documents)}


@contextlib.contextmanager
def transaction(collection: Collection) -> Iterator[Transaction]:
    """A transaction whose deletion, if there is one, is verified when it has ended."""
    with collection.write_turn():
        with collection.transaction() as staged:
            yield staged
        if staged.outcome is not None and staged.outcome.erasure is not None:
            conclude(collection, staged.outcome.erasure)


def erasures(collection: Collection) -> list[Erasure]:
    """The deletions of a collection, the oldest first."""
    found = []
    with collection.catalog.read() as session:
        kept = [row for row in history.backups(session) if row.destroyed_at is None]
        for row in records.recorded(session, collection):
            reached = row.facts["states"]
            states = {name: datetime.fromisoformat(reached[name]) for name in erasing.STATES if name in reached}
            before = tuple(each.id for each in kept if each.created_at < states["hidden"])
            state = row.state
            if state == "verified":
                state = "backups_pending" if before else _purged(row, history.backups(session))
            found.append(
                Erasure(
                    row.id,
                    state,
                    tuple(erasing.pseudonyms_of(session, row.id)),
                    row.facts["tokens"],
                    row.facts["reason"],
                    states,
                    erasing.left_of(session, row.id)[1],
                    before,
                )
            )
    return found


def _purged(row: ErasureRow, backups: list[BackupRow]) -> str:
    """Whether there ever was a backup that held what was erased."""
    return "backups_purged" if any(_covers(each, row.facts["states"]["hidden"]) for each in backups) else "verified"


def receipt(collection: Collection, erasure_id: str) -> dict[str, Any]:
    """The signed receipt of a deletion: see :meth:`memodb.Store.receipt`."""
    with collection.catalog.read() as session:
        row = records.find(session, erasure_id)
        stored = erasing.receipt_of(session, erasure_id)
    if row.collection_id != collection.id:
        raise NotFound(f"collection {collection.name!r} has no erasure {erasure_id!r}: list them with erasures()")
    if row.state == "verified" and stored is not None:
        return _read(row.id, stored)
    if collection.read_only:
        raise ReadOnlyStore(f"erasure {erasure_id} is not verified yet: ask through a handle that writes")
    with collection.write_turn(), collection.catalog.write() as session:
        erasing.advance(session, row.id, row.state, {**row.facts, "verify": True})
    return conclude(collection, erasure_id)


def _read(erasure_id: str, stored: str) -> dict[str, Any]:
    try:
        return dict(json.loads(stored))
    except (ValueError, TypeError, RecursionError) as exc:
        raise CorruptStore(f"the receipt of erasure {erasure_id} is damaged: restore from a backup") from exc


# -- legal holds -------------------------------------------------------------------------------------------------------


def hold(collection: Collection, name: str, ids: tuple[str, ...], filters: dict[str, Any]) -> Hold:
    """Keep documents from being purged: see :meth:`memodb.Store.hold`."""
    code("a hold's name", name)
    with collection.write_turn():
        chosen = select(collection, ids, filters)
        at = now()
        with collection.catalog.write() as session:
            known = set(keeping.held_ids(session, collection.id, name))
            fresh = [document_id for document_id in chosen if document_id not in known]
            keeping.add_hold(session, collection.id, name, map(collection.symbol, fresh), at)
            opaque = [collection.pseudonym(document_id).hex() for document_id in fresh]
            collection.audit.record(session, "hold", collection.id, opaque, reason=name, time=at)
        collection.audit.mirror()
        return next(each for each in holds(collection) if each.name == name)


def holds(collection: Collection) -> list[Hold]:
    """The legal holds of a collection, by name."""
    with collection.catalog.read() as session:
        return [_hold(collection, session, row) for row in keeping.holds(session, collection.id)]


def _hold(collection: Collection, session: Any, row: HoldRow) -> Hold:
    return Hold(row.name, row.created_at, tuple(keeping.held_ids(session, collection.id, row.name)))


def release_hold(collection: Collection, name: str) -> list[str]:
    """End a hold: see :meth:`memodb.Store.release_hold`."""
    with collection.write_turn():
        with collection.catalog.write() as session:
            kept = keeping.remove_hold(session, collection.id, name)
            if not kept:
                raise NotFound(f"collection {collection.name!r} has no hold {name!r}: list them with holds()")
            opaque = [collection.pseudonym(document_id).hex() for document_id in kept]
            collection.audit.record(session, "hold_released", collection.id, opaque, reason=name)
        collection.audit.mirror()
        with collection.catalog.read() as session:
            waiting = [row.id for row in records.recorded(session, collection, unfinished=True)]
        finish_deletions(collection)
        for erasure_id in waiting:
            conclude(collection, erasure_id)
        return kept


def export_held(collection: Collection, name: str) -> Iterator[dict[str, Any]]:
    """The documents under a hold: see :meth:`memodb.Store.export_held`."""
    with collection.write_turn(), collection.catalog.write() as session:
        kept = keeping.held_ids(session, collection.id, name)
        if not kept:
            raise NotFound(f"collection {collection.name!r} has no hold {name!r}: list them with holds()")
        collection.audit.record(session, "hold_export", collection.id, [None], reason=name)
    collection.audit.mirror()
    return _with_texts(collection, kept, Scope.ANY)


# -- quarantine --------------------------------------------------------------------------------------------------------


def quarantine(
    collection: Collection, ids: tuple[str, ...], filters: dict[str, Any], reason: str | None
) -> list[Document]:
    """Set documents aside: see :meth:`memodb.Store.quarantine`."""
    with collection.write_turn():
        chosen = select(collection, ids, filters, Scope.VISIBLE)
        with collection.joined() as (staged, _):
            staged.quarantine(chosen, reason)
        return _listed(collection, chosen)


def release(
    collection: Collection, ids: tuple[str, ...], filters: dict[str, Any], reason: str | None
) -> list[Document]:
    """Bring documents back: see :meth:`memodb.Store.release`."""
    with collection.write_turn():
        chosen = select(collection, ids, filters, Scope.QUARANTINED)
        with collection.joined() as (staged, _):
            staged.release(chosen, reason)
        return _listed(collection, chosen)


def quarantined(collection: Collection) -> list[Document]:
    """The documents in quarantine, by id, without their texts."""
    with collection.catalog.read() as session:
        rows = documents.select(session, collection.id, Filters(scope=Scope.QUARANTINED), order="id")
        return [Document.of(collection.name, row) for row in rows]


def _listed(collection: Collection, ids: list[str]) -> list[Document]:
    with collection.catalog.read() as session:
        rows = documents.select(session, collection.id, Filters(ids=tuple(ids), scope=Scope.STORED), order="id")
        return [Document.of(collection.name, row) for row in rows]


# -- expiry ------------------------------------------------------------------------------------------------------------


def set_expiry(
    collection: Collection, expires_at: datetime | None, ids: tuple[str, ...], filters: dict[str, Any]
) -> list[Document]:
    """Say when documents expire: see :meth:`memodb.Store.set_expiry`."""
    at = None if expires_at is None else aware(expires_at, "expires_at")
    if at is not None and at <= now():
        raise InvalidInput(f"expires_at lies in the past ({at.isoformat()}): delete the documents instead")
    with collection.write_turn(), collection.changing():
        chosen = select(collection, ids, filters, Scope.VISIBLE)
        with collection.catalog.write() as session:
            expiring.set_expiry(session, collection.id, chosen, at)
            opaque = [collection.pseudonym(document_id).hex() for document_id in chosen]
            collection.audit.record(session, "expiry", collection.id, opaque, until=at)
        collection.publish(lambda segments: None)  # nothing changes but the time when something will
        collection.audit.mirror()
        return _listed(collection, chosen)


def sweep(collection: Collection, reason: str | None, *, dry_run: bool = False) -> Receipt:
    """Delete what has expired: see :meth:`memodb.Store.sweep`."""
    with collection.write_turn():
        with collection.catalog.read() as session:
            chosen = expiring.expired_ids(session, collection.id)
        if not chosen:
            raise EmptySelection("no document has expired: nothing was done")
        if dry_run:
            return delete(collection, tuple(chosen), {}, reason=reason, dry_run=True)
        with collection.catalog.write() as session:
            collection.audit.record(session, "sweep", collection.id, [None], reason=reason)
        return delete(collection, tuple(chosen), {}, reason=reason)


# -- suppression -------------------------------------------------------------------------------------------------------


def suppress(collection: Collection, text: str, until: datetime | None) -> str:
    """Refuse a text from now on: see :meth:`memodb.Store.suppress`."""
    check_text(text)
    at = None if until is None else aware(until, "until")
    found = suppression_hash(collection, text)
    with collection.write_turn():
        with collection.catalog.write() as session:
            keeping.add_suppression(session, collection.id, found, at)
            collection.audit.record(session, "suppress", collection.id, [found.hex()], until=at)
        collection.audit.mirror()
    return found.hex()


def end_suppression(collection: Collection, text: str) -> bool:
    """Allow a text again: see :meth:`memodb.Store.end_suppression`."""
    check_text(text)
    found = suppression_hash(collection, text)
    with collection.write_turn():
        with collection.catalog.write() as session:
            if not keeping.remove_suppression(session, collection.id, found):
                return False
            collection.audit.record(session, "suppression_ended", collection.id, [found.hex()])
        collection.audit.mirror()
    return True


# -- access ------------------------------------------------------------------------------------------------------------


def export_subject(collection: Collection, subject: str) -> Iterator[dict[str, Any]]:
    """Everything about a subject: see :meth:`memodb.Store.export_subject`."""
    identifier(subject, "subject")
    meant = Filters(subject=subject, scope=Scope.STORED)
    with collection.write_turn(), collection.catalog.write() as session:
        chosen = documents.select_ids(session, collection.id, meant)
        collection.audit.record(session, "subject_export", collection.id, [collection.pseudonym(subject).hex()])
    collection.audit.mirror()
    return _with_texts(collection, chosen, Scope.STORED)


def _with_texts(collection: Collection, ids: list[str], scope: Scope) -> Iterator[dict[str, Any]]:
    for at in range(0, len(ids), _AT_ONCE):
        group = tuple(ids[at : at + _AT_ONCE])
        with collection.catalog.read() as session:
            rows = list(documents.select(session, collection.id, Filters(ids=group, scope=scope), order="id"))
            texts = collection.texts_in(session, group, scope)
        for row in rows:
            yield {**Document.of(collection.name, row).to_dict(), "text": texts[row.id]}


# -- backups -----------------------------------------------------------------------------------------------------------


def destroy_backup(audit: AuditLog, collections: list[Collection], backup_id: str) -> None:
    """Record that a backup is no more, and say so in the receipts that told of it."""
    with audit.catalog.write() as session:
        known = {row.id: row for row in history.backups(session)}
        history.destroy_backup(session, backup_id, now())
        audit.record(session, "backup_destroyed", None, [backup_id])
    audit.mirror()
    for collection in collections:
        with collection.catalog.read() as session:
            rows = records.recorded(session, collection)
        for row in rows:
            if row.state == "verified" and _covers(known[backup_id], row.facts["states"]["hidden"]):
                reissue(collection, row)


def _covers(backup: BackupRow, hidden: str) -> bool:
    return backup.created_at < datetime.fromisoformat(hidden)
