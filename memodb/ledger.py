"""Opening a store's audit log with its ledger, and seeing that both are of one history.

The ledger is made with the store and stays out of its backups. Whichever of the two knows more, after a crash or a
restore, the other learns it: lines that the ledger lacks are mirrored, lines that the catalog lacks are replayed
(:mod:`memodb.erasure.replay`). Where that cannot be, nothing is opened for writing.
"""

from __future__ import annotations

import secrets
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memodb.catalog import Catalog, history, registry
from memodb.cipher import KeyService
from memodb.collection import AuditLog
from memodb.errors import LedgerMissing, StoreMismatch
from memodb.proof import new_key
from memodb.storage import Ledger, StoreDirectory, path_text

if TYPE_CHECKING:
    from memodb.opening import Options

__all__ = ["ledger_at", "opened_audit", "unbind"]

_SETTING = "audit"
"""The catalog's record of the store's opaque id and of the public key that its receipts are signed with."""


def ledger_at(directory: StoreDirectory, named: Any) -> Ledger:
    """The ledger that a caller named, or the one in the store's directory."""
    return Ledger(directory.ledger if named is None else Path(path_text(named)))


def opened_audit(catalog: Catalog, directory: StoreDirectory, options: Options) -> AuditLog:
    """The audit log of a store that is being opened; its ledger is made with the first opening for writing.

    Raises
    ------
    LedgerMissing
        It is gone, or ahead of the catalog while the store is only read.
    StoreMismatch
        It is another store's.
    """
    with catalog.read() as session:
        stated = registry.get_setting(session, _SETTING)
    if options.scratch:
        return AuditLog(catalog, "scratch" if stated is None else stated["store"], None, None)
    ledger = ledger_at(directory, options.ledger)
    if stated is None and options.read_only:
        return AuditLog(catalog, "unnamed", None, options.actor)
    if stated is None or stated["public_key"] is None:
        return _bound(catalog, secrets.token_hex(16) if stated is None else stated["store"], ledger, options)
    if not ledger.exists():
        if options.read_only:  # nothing is signed or erased by who only reads
            return AuditLog(catalog, stated["store"], None, options.actor, stated["public_key"])
        raise LedgerMissing(
            f"the ledger of {directory.path} is not at {ledger.path}: put it back, or say where it is (ledger=..., or "
            "MEMODB_LEDGER for the command line). Without it a store could not tell what was erased since it was copied"
        )
    audit = AuditLog(catalog, stated["store"], ledger, options.actor, stated["public_key"])
    if not options.read_only:
        _ = audit.signer  # is it the store's?
    _require_one_history(audit, ledger, directory, options)
    return audit


def _bound(catalog: Catalog, store: str, ledger: Ledger, options: Options) -> AuditLog:
    """Bind a store to a ledger, which is made where there is none. The log begins, or goes on, with its public key."""
    if options.read_only:
        return AuditLog(catalog, store, None, options.actor)
    if not ledger.exists():
        ledger.create(new_key(), secrets.token_bytes(32))
    audit = AuditLog(catalog, store, ledger, options.actor)
    with catalog.read() as session:
        known = history.line_count(session)
    if ledger.count() > known:
        raise StoreMismatch(f"the ledger at {ledger.path} is another store's: name an empty place for a new one")
    with catalog.write() as session:
        stated = {"store": store, "public_key": audit.signer.public_pem.decode()}
        registry.put_setting(session, _SETTING, stated)
        audit.record(session, "key", None, [audit.signer.fingerprint])
    return audit


def unbind(directory: StoreDirectory, keys: KeyService | None) -> None:
    """Make a store forget its ledger, so that the next opening for writing makes a new one; its log goes on."""
    with Catalog.open(directory.catalog, keys=keys) as catalog, catalog.write() as session:
        stated = registry.get_setting(session, _SETTING)
        if stated is not None:  # a store in memory had no ledger to be bound to
            registry.put_setting(session, _SETTING, {**stated, "public_key": None})


def _require_one_history(audit: AuditLog, ledger: Ledger, directory: StoreDirectory, options: Options) -> None:
    mirrored = ledger.count()  # before the catalog is looked at, which is never behind for a reader then
    with audit.catalog.read() as session:
        known = history.line_count(session)
        common = min(known, mirrored)
        last = next(history.lines(session, common - 1), None) if common else None
    if common and next(islice(ledger.lines(), common - 1, None), None) != last:
        raise StoreMismatch(
            f"the ledger at {ledger.path} and the audit log of {directory.path} tell of different histories: name the "
            "ledger that belongs to this store"
        )
    if options.read_only and (mirrored > known or audit.is_behind):
        raise LedgerMissing(
            f"{directory.path} is an older copy: its ledger knows of later entries, erasures perhaps among them. "
            "Open it once for writing to carry them out"
        )
