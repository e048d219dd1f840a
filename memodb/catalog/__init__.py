"""The catalog: documents with their provenance, the segments they are in, and the facts of the whole store, in SQLite.

::

    with Catalog.create(path, keys=keys) as catalog:
        with catalog.write() as session:
            collection = registry.add_collection(session, "default")
            segment = registry.add_segment(session, collection.id, {"rows": 4096})
            documents.insert_many(session, collection.id, [NewDocument(...)])
        with catalog.read() as session:
            for row in documents.select(session, collection.id, Filters(source="handbook")):
                ...

A write session's COMMIT is the only commit point of a store. This room knows nothing of memories or tokenizers:
geometry is opaque JSON, a document's content an array of integers, the audit log lines of bytes.
"""

from memodb.catalog import documents, erasing, expiring, history, keeping, quarantine, registry
from memodb.catalog.checking import check
from memodb.catalog.codec import MAX_TOKENS
from memodb.catalog.connection import Catalog
from memodb.catalog.documents import DocumentRow, NewDocument
from memodb.catalog.filters import Filters
from memodb.catalog.models import DocumentState
from memodb.catalog.registry import CollectionRow, CollectionSummary, SegmentRow
from memodb.catalog.visibility import Scope, now

__all__ = [
    "MAX_TOKENS",
    "Catalog",
    "CollectionRow",
    "CollectionSummary",
    "DocumentRow",
    "DocumentState",
    "Filters",
    "NewDocument",
    "Scope",
    "SegmentRow",
    "check",
    "documents",
    "erasing",
    "expiring",
    "history",
    "keeping",
    "now",
    "quarantine",
    "registry",
]
