"""What a deletion did, and what of it was verified afterwards: nothing is claimed that was not measured."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["LIMITS", "Receipt", "SegmentProof"]

LIMITS = (
    "This receipt covers the live store: the rows of its catalog and its memories. It says nothing of free pages of "
    "the catalog file, file-system snapshots, backups, swap, or copies made by others."
)


@dataclass(frozen=True)
class SegmentProof:
    """One memory that held deleted documents, compared with one that never saw them.

    Parameters
    ----------
    segment : str
        Id of the segment.
    digest : str or None
        SHA-256 of every count after the deletion; None where no document was left and the segment was dropped.
    rebuilt_digest : str or None
        SHA-256 of the segment memorised anew from the remaining documents' tokens; None where none is left, or where
        nothing was ``compared``.
    compared : bool
        Whether the rebuild was made.
    """

    segment: str
    digest: str | None
    rebuilt_digest: str | None
    compared: bool

    @property
    def verified(self) -> bool:
        """Whether the memory equals, byte for byte, the one that never held the deleted documents."""
        return self.compared and self.digest == self.rebuilt_digest


@dataclass(frozen=True)
class Receipt:
    """A deletion, done or (``dry_run``) only listed.

    Parameters
    ----------
    id : str
        Random.
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
        Rows that a fresh look at the catalog still found under these ids: 0. None where not looked.
    segments : tuple of SegmentProof
        Every memory that held one of the documents.
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
    limits: str = LIMITS

    @property
    def verified(self) -> bool:
        """Whether rows and memories were looked at after the commit and nothing of the documents was found."""
        return self.committed and self.rows_left == 0 and all(proof.verified for proof in self.segments)

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
            "segments": [
                {
                    "segment": proof.segment,
                    "digest": proof.digest,
                    "rebuilt_digest": proof.rebuilt_digest,
                    "compared": proof.compared,
                    "verified": proof.verified,
                }
                for proof in self.segments
            ],
            "verified": self.verified,
            "limits": self.limits,
        }
