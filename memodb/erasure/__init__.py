"""Erasure, with proof: deletion by id or filter, its verification and signed receipt; holds, quarantine, expiry,
suppression and access around it; and the replay of what an older copy of a store has missed.
"""

from memodb.erasure.deletion import delete, select
from memodb.erasure.operations import (
    Hold,
    destroy_backup,
    end_suppression,
    erasures,
    export_held,
    export_subject,
    hold,
    holds,
    quarantine,
    quarantined,
    receipt,
    release,
    release_hold,
    set_expiry,
    suppress,
    sweep,
    transaction,
)
from memodb.erasure.receipt import Erasure, Receipt, SegmentProof
from memodb.erasure.replay import replay
from memodb.erasure.verification import conclude_all

__all__ = [
    "Erasure",
    "Hold",
    "Receipt",
    "SegmentProof",
    "conclude_all",
    "delete",
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
    "replay",
    "select",
    "set_expiry",
    "suppress",
    "sweep",
    "transaction",
]
