"""A collection: documents and the memory that holds them, changed together.

:mod:`records` is what goes in and out, :mod:`transaction` how it is committed, :mod:`purge` how a deletion ends and
:mod:`erasures` its states, :mod:`suppression` what must not come in again, :mod:`auditing` what is told of all that,
:mod:`layout` which segment holds what, :mod:`collection` the live whole, :mod:`checkpoint` its memories as files,
:mod:`inspection` its check, :mod:`compaction` its canonical form.
"""

from memodb.collection import erasures
from memodb.collection.auditing import AuditLog, require_code
from memodb.collection.checkpoint import checkpoint
from memodb.collection.collection import Collection
from memodb.collection.compaction import compact
from memodb.collection.inspection import CheckReport, check, rebuilt
from memodb.collection.keyring import Binding, Keyring
from memodb.collection.purge import finish_deletions, refill, settled, with_room
from memodb.collection.records import Document, Record
from memodb.collection.streams import AppendResult, append_many, export
from memodb.collection.suppression import suppression_hash
from memodb.collection.transaction import Outcome, Request, Transaction

__all__ = [
    "AppendResult",
    "AuditLog",
    "Binding",
    "CheckReport",
    "Collection",
    "Document",
    "Keyring",
    "Outcome",
    "Record",
    "Request",
    "Transaction",
    "append_many",
    "check",
    "checkpoint",
    "compact",
    "erasures",
    "export",
    "finish_deletions",
    "rebuilt",
    "refill",
    "require_code",
    "settled",
    "suppression_hash",
    "with_room",
]
