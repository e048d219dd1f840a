"""What a deletion did, and what of it was verified afterwards: nothing is claimed that was not measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["INEXACT", "LIMITS", "Erasure", "Receipt", "SegmentProof"]

LIMITS = (
    "This receipt covers the files of the live store and its memories, as the file system shows them.",
    "A device may keep older blocks (flash remapping), and so may file-system snapshots and swap. What was encrypted "
    "under a destroyed key is unreadable there too. Names and sizes of files, and what a process had in its memory, "
    "are not covered.",
    "A key is destroyed where the key service keeps it. Copies of the key file in backups and snapshots are not.",
    "Backups are covered only as far as this store was told of them; copies made by others are not covered at all.",
    "Model weights trained on the texts, and outputs already given, are not covered.",
)

INEXACT = (
    "The memory of this store adds up Gaussian codes in floating point, and rounding depends on the order of what was "
    "added: subtracting a document leaves it equal to a memory that never held it up to the stated residue, and not to "
    "the bit. Forgetting is exact with Rademacher codes, and with the engine willshaw."
)
"""A limit more, of receipts of stores whose memory is not exact."""


@dataclass(frozen=True)
class SegmentProof:
    """One memory that held deleted documents, compared with one that never saw them.

    Parameters
    ----------
    segment : str
        Id of the segment.
    digest : str or None
        Digest of every count after the deletion (:meth:`memodb.memory.Segment.digest`); None where no document was left
        and the segment was dropped.
    rebuilt_digest : str or None
        The same of the segment memorised anew from the remaining documents' tokens; None where none is left, or where
        nothing was ``compared``.
    compared : bool
        Whether the rebuild was made.
    residue : str or None
        Where sums depend on their order (engine ``kohonen`` with Gaussian codes): the largest relative difference of a
        matrix to the rebuilt one, |A - B| / |B|, as a decimal number; None where equality is to the bit.
    """

    segment: str
    digest: str | None
    rebuilt_digest: str | None
    compared: bool
    residue: str | None = None

    @property
    def verified(self) -> bool:
        """Whether the memory equals, byte for byte, the one that never held the deleted documents."""
        return self.compared and self.digest == self.rebuilt_digest

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        said = {name: value for name, value in vars(self).items() if name != "residue" or value is not None}
        return {**said, "verified": self.verified}


@dataclass(frozen=True)
class Receipt:
    """A deletion, done or (``dry_run``) only listed.

    Parameters
    ----------
    id : str
        Random; that of the erasure.
    collection : str
    documents : tuple of str
        Ids of the documents, each once: the true count is their number.
    tokens : int
        Tokens of those documents.
    reason : str or None
        As given; keep personal data out of it.
    requested_at, completed_at : datetime
        UTC.
    dry_run : bool
        Nothing was deleted.
    committed : bool
        The catalog's COMMIT of the deletion is durable. False in a dry run, and inside a transaction that is still
        open.
    rows_left : int or None
        Rows of the deletion that a fresh look at the catalog still found: 0, or those that a hold keeps. None where not
        looked.
    segments : tuple of SegmentProof
        Every memory that held one of the documents.
    held : tuple of str
        Ids of the documents that a legal hold keeps: hidden from every read path, and to be erased when it ends.
    signed : mapping or None
        The document for the file: JSON that anybody can check offline (`memodb receipt verify`), in which documents
        stand under pseudonyms. None where nothing was committed.
    """

    id: str
    collection: str
    documents: tuple[str, ...]
    tokens: int
    reason: str | None
    requested_at: datetime
    completed_at: datetime
    dry_run: bool
    committed: bool
    rows_left: int | None
    segments: tuple[SegmentProof, ...]
    held: tuple[str, ...] = ()
    signed: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def verified(self) -> bool:
        """Whether everything was looked at after the commit, in every layer, and nothing of the documents was found."""
        return self.signed is not None and bool(self.signed["statement"]["verified"])

    @property
    def limits(self) -> str:
        """What a receipt does not cover."""
        return " ".join(LIMITS)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "id": self.id,
            "collection": self.collection,
            "documents": list(self.documents),
            "tokens": self.tokens,
            "reason": self.reason,
            "requested_at": self.requested_at.isoformat(),
            "completed_at": self.completed_at.isoformat(),
            "dry_run": self.dry_run,
            "committed": self.committed,
            "rows_left": self.rows_left,
            "segments": [proof.to_dict() for proof in self.segments],
            "held": list(self.held),
            "verified": self.verified,
            "limits": self.limits,
            "signed": None if self.signed is None else dict(self.signed),
        }


@dataclass(frozen=True)
class Erasure:
    """A deletion as the store knows it afterwards: by pseudonyms, since ids may name people.

    Parameters
    ----------
    id : str
    state : str
        The last that was reached: hidden, subtracted, rows_purged, wal_truncated, tiles_destroyed, key_destroyed,
        verified; backups_pending while a backup is kept that was taken before, backups_purged when the last of them is
        destroyed.
    documents : tuple of str
        Pseudonyms; :meth:`memodb.Store.pseudonym` tells that of an id.
    tokens : int
    reason : str or None
    states : mapping of str to datetime
        When each state was reached.
    held : int
        Documents that a legal hold keeps from being purged.
    backups_pending : tuple of str
        Ids of backups that were taken before, and are kept.
    """

    id: str
    state: str
    documents: tuple[str, ...]
    tokens: int
    reason: str | None
    states: Mapping[str, datetime]
    held: int
    backups_pending: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            **vars(self),
            "documents": list(self.documents),
            "states": {name: at.isoformat() for name, at in self.states.items()},
            "backups_pending": list(self.backups_pending),
        }
