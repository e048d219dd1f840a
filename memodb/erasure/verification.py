"""Looking whether a deletion is true, layer by layer, and signing what was found."""

from __future__ import annotations

import json
import platform
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from memodb.catalog import erasing, history, now, registry
from memodb.catalog.erasing import ErasureRow
from memodb.catalog.history import BackupRow
from memodb.collection import Collection, erasures, rebuilt, refill, settled, with_room
from memodb.erasure.receipt import INEXACT, LIMITS, SegmentProof
from memodb.errors import StoreError
from memodb.memory import ROUNDING, Imprint, Memory, Segment
from memodb.proof import Entry, signed, timestamp

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["conclude", "conclude_all", "prove", "reissue"]


def conclude_all(collection: Collection) -> None:
    """Verify the deletions that are done and were to be verified: what a crash left undone."""
    with collection.catalog.read() as session:
        rows = [
            row
            for row in erasures.recorded(session, collection, unfinished=True)
            if row.state == "key_destroyed"
            and row.facts.get("verify")
            # what rounding leaves is measured once: no second look can find it exact
            and (collection.configuration.exact or erasing.receipt_of(session, row.id) is None)
        ]
    for row in rows:
        conclude(collection, row.id)


def conclude(collection: Collection, erasure_id: str, *, scan: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Look at every layer that a deletion touched, and sign what was found; the receipt, JSON-ready.

    Where all is done and nothing failed, the erasure's state is ``verified`` from then on, and the audit log has its
    entry. Where something is left, the receipt says what, and the erasure stays in its state.
    """
    with collection.write_turn(), collection.changing():
        _settle_again(collection, erasure_id)
        with collection.catalog.read() as session:
            row = erasures.find(session, erasure_id)
            pseudonyms = erasing.pseudonyms_of(session, erasure_id)
        layers = _layers(collection, row, scan)
        done = row.state == "key_destroyed"
        verified = done and all(layer is None or layer["result"] in _PASSED for layer in layers.values())
        completed_at = max(now(), erasures.latest(row))
        statement = _statement(collection, row, pseudonyms, layers, completed_at, verified=verified)
        receipt: dict[str, Any] = {}

        def keep() -> None:
            """In one commit: the state, the log's entry, and the receipt that shows it in the log."""
            nonlocal receipt
            tree = collection.audit.tree()
            with collection.catalog.write() as session:
                if not verified:
                    receipt = signed(statement, collection.audit.signer)
                else:
                    said = {"reason": row.facts["reason"], "time": completed_at}
                    collection.audit.record(session, "erased", collection.id, [row.id], **said)
                    entry = Entry.from_bytes(next(history.lines(session, tree.size)), seq=tree.size)
                    tree.append(entry.leaf())
                    head = collection.audit.signed_head(tree)
                    receipt = signed(statement, collection.audit.signer, entry=entry, proof=tree.path, head=head)
                    erasures.advance(session, [row], {"verified": completed_at})
                erasing.set_receipt(session, row.id, json.dumps(receipt))

        with_room(collection, keep)
        with_room(collection, collection.audit.mirror)
        refill(collection)
        return receipt


_PASSED = ("verified", "none", "pending")
"""Results that do not speak against an erasure: backups that are pending are told of, and are not the live store."""


def _settle_again(collection: Collection, erasure_id: str) -> None:
    """Rewrite the catalog's file now, where there was no space for that, or a reader in the way, at its time."""
    with collection.catalog.read() as session:
        row = erasures.find(session, erasure_id)
    journal = row.facts.get("journal")
    if journal is not None and not (journal["vacuumed"] and journal["nbytes"] == 0):
        facts = {**row.facts, "journal": settled(collection)}
        with collection.catalog.write() as session:
            erasing.advance(session, row.id, row.state, facts)


def _layers(collection: Collection, row: ErasureRow, scan: Mapping[str, Any] | None) -> dict[str, Any]:
    facts = row.facts
    proofs = prove(collection, tuple(facts["segments"]), rebuild=facts["verify"])
    with collection.catalog.read() as session:
        left, held = erasing.left_of(session, row.id)
        named = registry.named_tiles(session)
        readable = len(registry.doomed(session))
        kept = _kept(session, row)
    journal, tiles, keys = (facts.get(name) for name in ("journal", "tiles", "keys"))
    directory = collection.directory
    files_left = 0 if directory is None else len(directory.unnamed(named))
    return {
        "memory": _memory(proofs, exact=collection.configuration.exact),
        "catalog": {
            "method": "rows deleted with secure_delete, the file written anew (VACUUM)",
            "result": "held" if held else _result(left == 0, known=journal is not None and journal["vacuumed"]),
            "rows_left": left,
            "rows_held": held,
            "free_pages": None if journal is None else journal["freelist_count"],
        },
        "journal": {
            "method": "write-ahead log or rollback journal truncated",
            "result": _result(journal is not None and journal["nbytes"] == 0, known=journal is not None),
            "mode": None if journal is None else journal["journal_mode"],
            "nbytes": None if journal is None else journal["nbytes"],
        },
        "tiles": {
            "method": "files overwritten with zeros, synced, unlinked",
            "result": _result(files_left == 0, known=tiles is not None),
            "overwritten": None if tiles is None else tiles["overwritten"],
            "files_left": files_left,
        },
        "keys": {
            "method": "keys of documents and superseded tiles destroyed by the key service, and asked for again",
            "result": _result(readable == 0, known=keys is not None),
            "service": collection.keys.kind,
            "destroyed": None if keys is None else keys["destroyed"],
            "readable": readable,
        },
        "backups": _backups(kept),
        "scan": None if scan is None else dict(scan),
    }


def _kept(session: Session, row: ErasureRow) -> list[BackupRow]:
    """Backups that may hold what a deletion took."""
    return history.backups(session, before=datetime.fromisoformat(row.facts["states"]["hidden"]))


def _backups(kept: list[BackupRow]) -> dict[str, Any]:
    return {
        "method": "backups that this store took before, and was not told are destroyed",
        "result": "pending" if kept else "none",
        "pending": [
            {
                "id": each.id,
                "created_at": timestamp(each.created_at),
                "keep_until": None if each.keep_until is None else timestamp(each.keep_until),
            }
            for each in kept
        ],
        "checked_at": timestamp(now()),
    }


def _memory(proofs: tuple[SegmentProof, ...], *, exact: bool) -> dict[str, Any]:
    found = _result(all(p.verified for p in proofs), known=all(p.compared for p in proofs))
    # without a residue there was nothing to compare: a memory is missing, or there should be none
    rounded = found == "failed" and all(
        p.verified or (p.residue is not None and float(p.residue) <= ROUNDING) for p in proofs
    )
    how = "exact subtraction, compared byte for byte" if exact else "subtraction in floating point, compared"
    return {
        "method": f"{how} with a memory of the remaining documents",
        "result": "inexact" if rounded else found,
        "segments": [proof.to_dict() for proof in proofs],
    }


def _result(holds: bool, *, known: bool = True) -> str:
    return "not verified" if not known else "verified" if holds else "failed"


def _statement(
    collection: Collection,
    row: ErasureRow,
    pseudonyms: list[str],
    layers: dict[str, Any],
    completed_at: datetime,
    *,
    verified: bool,
) -> dict[str, Any]:
    states = dict(row.facts["states"])
    if verified:
        states["verified"] = timestamp(completed_at)
    pragmas = row.facts.get("journal") or collection.catalog.pragmas()
    return {
        "id": row.id,
        "store": collection.audit.store,
        "collection": collection.id,
        "documents": pseudonyms,
        "tokens": row.facts["tokens"],
        "reason": row.facts["reason"],
        "selected_by": row.facts["selected_by"],
        "requested_at": timestamp(row.requested_at),
        "completed_at": timestamp(completed_at),
        "states": states,
        "layers": layers,
        "verified": verified,
        "versions": {
            "memodb": version("memodb"),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "numpy": version("numpy"),
            "cryptography": version("cryptography"),
        },
        "pragmas": {name: value for name, value in pragmas.items() if name not in ("nbytes", "vacuumed")},
        "limits": [*LIMITS, *(() if collection.configuration.exact else (INEXACT,))],
    }


def prove(collection: Collection, segments: tuple[str, ...], *, rebuild: bool) -> tuple[SegmentProof, ...]:
    """Look at every memory that documents were taken from; with ``rebuild``, memorise it anew and compare."""
    rounds = rebuild and not collection.configuration.exact

    def measured(segment: Segment | None) -> tuple[str | None, Imprint | None]:
        return (None, None) if segment is None else (segment.digest(), segment.imprint() if rounds else None)

    def looked_at(memory: Memory, segment_id: str) -> SegmentProof:
        segment = memory.segments.get(segment_id)
        # this thread memorises, which others help it with; so it is the hashing that is given to one of them
        looks = [
            lambda: measured(rebuilt(collection, segment_id) if rebuild else None),
            lambda: measured(segment),
        ]
        found = collection.backend.each(lambda look: look(), looks, size=0 if segment is None else segment.tokens)
        (again, anew), (digest, held) = found
        residue = None if held is None or anew is None else f"{held.residue(anew):.1e}"
        return SegmentProof(segment_id, digest, again, rebuild, residue)

    with collection.reading() as memory:
        return tuple(looked_at(memory, segment_id) for segment_id in segments)


def reissue(collection: Collection, row: ErasureRow) -> dict[str, Any]:
    """Sign an erasure's receipt again, with what is known of backups now; all else stays as it was measured."""
    with collection.write_turn():
        with collection.catalog.read() as session:
            stored = erasing.receipt_of(session, row.id)
            kept = _kept(session, row)
        if stored is None:
            raise StoreError(f"erasure {row.id} has no receipt yet")
        receipt = json.loads(stored)
        statement, audit = receipt["statement"], receipt["audit"]
        statement["layers"]["backups"] = _backups(kept)
        entry = None if audit is None else Entry.from_bytes(audit["entry"].encode())
        proof, head = ([], None) if entry is None else collection.audit.proof(entry.seq)
        receipt = signed(statement, collection.audit.signer, entry=entry, proof=proof, head=head)
        with collection.catalog.write() as session:
            erasing.set_receipt(session, row.id, json.dumps(receipt))
        return dict(receipt)
