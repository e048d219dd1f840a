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
from memodb.collection import AuditLog, Binding, Keyring
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
        binding = Binding.of(registry.get_setting(session, _SETTING))
    if options.scratch:
        return AuditLog(catalog, "scratch" if binding is None else binding.store, None, None, None)
    ledger = ledger_at(directory, options.ledger)
    if binding is None or binding.public_key is None:
        store = secrets.token_hex(16) if binding is None else binding.store
        if options.read_only:
            return AuditLog(catalog, store, None, None, options.actor)
        return _bound(catalog, store, ledger, options)
    if not ledger.exists():
        if options.read_only:  # nothing is signed or erased by who only reads
            return AuditLog(catalog, binding.store, None, binding, options.actor)
        raise LedgerMissing(
            f"the ledger of {directory.path} is not at {ledger.path}: put it back, or say where it is (ledger=..., or "
            "MEMODB_LEDGER for the command line). Without it a store could not tell what was erased since it was copied"
        )
    audit = AuditLog(catalog, binding.store, ledger, binding, options.actor)
    if not options.read_only:
        _ = audit.keyring.signer, audit.keyring.suppression  # are they the store's?
    _require_one_history(audit, ledger, directory, options)
    return audit


def _bound(catalog: Catalog, store: str, ledger: Ledger, options: Options) -> AuditLog:
    """Bind a store to a ledger, which is made where there is none. The log begins, or goes on, with its public key."""
    if not ledger.exists():
        ledger.create(new_key(), secrets.token_bytes(32))
    with catalog.read() as session:
        known = history.line_count(session)
    if ledger.count() > known:
        raise StoreMismatch(f"the ledger at {ledger.path} is another store's: name an empty place for a new one")
    binding = Keyring(ledger, None).binding(store)
    audit = AuditLog(catalog, store, ledger, binding, options.actor)
    with catalog.write() as session:
        registry.put_setting(session, _SETTING, binding.to_dict())
        audit.record(session, "key", None, [audit.signer.fingerprint])
    return audit


def unbind(directory: StoreDirectory, keys: KeyService | None) -> None:
    """Make a store forget its ledger, so that the next opening for writing makes a new one; its log goes on."""
    with Catalog.open(directory.catalog, keys=keys) as catalog, catalog.write() as session:
        binding = Binding.of(registry.get_setting(session, _SETTING))
        if binding is not None:  # a store in memory had no ledger to be bound to
            registry.put_setting(session, _SETTING, Binding(binding.store).to_dict())


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
