"""memodb: an embeddable knowledge store over associative matrix memories.

Append texts with their provenance, ask what follows a context, complete, score, trace an output to the documents that
hold it, and delete a document so exactly that the memory is, bit for bit, the one that never saw it::

    import memodb

    with memodb.connect("notes.memodb") as db:
        db.append("The sky over the harbour was the colour of slate.", id="harbour", source="notebook")
        print(db.complete("The sky over the").text)
        print(db.delete("harbour", reason="asked for").verified)

Names are loaded when they are first used: importing the package costs nothing that a program does not need.
"""

import importlib
from typing import TYPE_CHECKING, Any

from memodb.errors import *  # noqa: F403
from memodb.errors import __all__ as _errors

if TYPE_CHECKING:
    from memodb.backup import Backup, restore
    from memodb.cipher import KeyService
    from memodb.collection import AppendResult, CheckReport, Document, Record, Transaction
    from memodb.connecting import connect
    from memodb.erasure import Erasure, Hold, Receipt
    from memodb.provenance import Source, Span
    from memodb.recall import Candidate, Completion, Lookup, Score, Step, TokenScore
    from memodb.statistics import CollectionInfo, Statistics
    from memodb.store import Store
    from memodb.text import MAX_TEXT_CHARACTERS, Tokenizer

__version__ = "0.1.0"

_ROOMS = {
    "memodb.backup": ("Backup", "restore"),
    "memodb.collection": ("AppendResult", "CheckReport", "Document", "Record", "Transaction"),
    "memodb.connecting": ("connect",),
    "memodb.cipher": ("KeyService",),
    "memodb.erasure": ("Erasure", "Hold", "Receipt"),
    "memodb.provenance": ("Source", "Span"),
    "memodb.recall": ("Candidate", "Completion", "Lookup", "Score", "Step", "TokenScore"),
    "memodb.statistics": ("CollectionInfo", "Statistics"),
    "memodb.store": ("Store",),
    "memodb.text": ("MAX_TEXT_CHARACTERS", "Tokenizer"),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "MAX_TEXT_CHARACTERS",
    "AppendResult",
    "Backup",
    "Candidate",
    "CheckReport",
    "CollectionInfo",
    "Completion",
    "Document",
    "Erasure",
    "Hold",
    "KeyService",
    "Lookup",
    "Receipt",
    "Record",
    "Score",
    "Source",
    "Span",
    "Statistics",
    "Step",
    "Store",
    "TokenScore",
    "Tokenizer",
    "Transaction",
    "__version__",
    "connect",
    "restore",
]
__all__ += _errors


def __getattr__(name: str) -> Any:
    """Load a public name from its room (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'memodb' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
