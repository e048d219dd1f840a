"""A collection: documents and the memory that holds them, changed together.

:mod:`records` is what goes in and out, :mod:`transaction` how it is committed, :mod:`purge` how a deletion ends,
:mod:`layout` which segment holds what, :mod:`collection` the live whole, :mod:`checkpoint` its memories as files,
:mod:`inspection` its check, :mod:`compaction` its canonical form.
"""

from memodb.collection.checkpoint import checkpoint
from memodb.collection.collection import Collection
from memodb.collection.compaction import compact
from memodb.collection.inspection import CheckReport, check, rebuilt_digest
from memodb.collection.purge import finish_deletions
from memodb.collection.records import Document, Record
from memodb.collection.streams import AppendResult, append_many, export
from memodb.collection.transaction import Outcome, Transaction

__all__ = [
    "AppendResult",
    "CheckReport",
    "Collection",
    "Document",
    "Outcome",
    "Record",
    "Transaction",
    "append_many",
    "check",
    "checkpoint",
    "compact",
    "export",
    "finish_deletions",
    "rebuilt_digest",
]
