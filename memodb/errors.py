"""Every exception memodb raises on purpose, as one tree.

Callers catch the branch they can act on; third-party errors are mapped to these in one place per room, with the
original kept as ``__cause__``. Messages name the offending value or file and say what to do about it.

::

    MemodbError
    ├── InvalidInput (ValueError)        the call cannot be carried out as written; nothing was changed
    │   ├── InvalidText                  not str, lone surrogates, or larger than the documented limit
    │   │   └── Suppressed               the text was erased, and must not be stored again
    │   ├── InvalidConfiguration         a geometry, promise or tokenizer that no memory can be built from
    │   └── EmptySelection               a deletion that names or matches no document
    ├── NotFound (LookupError)
    │   ├── DocumentNotFound             no live document has this id in this collection
    │   ├── CollectionNotFound
    │   └── StoreNotFound                no store at this path, and creating one was not asked for
    ├── Conflict                         what is stored disagrees with what was given; nothing was changed
    │   ├── DocumentExists               the id is taken by another text or other provenance
    │   └── StoreMismatch                the store was created with another tokenizer or configuration
    └── StoreError                       the store itself cannot serve the call
        ├── StoreClosed                  the handle was closed
        ├── StoreLocked                  another process holds the store for writing
        ├── ReadOnlyStore                a write through a handle opened with read_only=True
        ├── SchemaTooNew                 the store was made by a newer memodb
        ├── LedgerMissing                what is kept outside of backups is not there, or older than the store
        ├── CorruptStore                 a file or row contradicts its digest or another row
        ├── DiskFull                     no space left to write; nothing was changed
        ├── OutOfMemory                  the machine or device has no room for a memory; nothing was changed
        ├── SyncFailed                   the disk did not confirm a write: the handle serves nothing any more
        └── BackendUnavailable           the device or optional package asked for is not on this machine
"""

__all__ = [
    "BackendUnavailable",
    "CollectionNotFound",
    "Conflict",
    "CorruptStore",
    "DiskFull",
    "DocumentExists",
    "DocumentNotFound",
    "EmptySelection",
    "InvalidConfiguration",
    "InvalidInput",
    "InvalidText",
    "LedgerMissing",
    "MemodbError",
    "NotFound",
    "OutOfMemory",
    "ReadOnlyStore",
    "SchemaTooNew",
    "StoreClosed",
    "StoreError",
    "StoreLocked",
    "StoreMismatch",
    "StoreNotFound",
    "Suppressed",
    "SyncFailed",
]


class MemodbError(Exception):
    """Root of the tree: ``except memodb.MemodbError`` catches all that memodb raises on purpose."""


class InvalidInput(MemodbError, ValueError):
    """The call cannot be carried out as written; nothing was changed."""


class InvalidText(InvalidInput):
    """A text is not ``str``, holds lone surrogates, or is larger than the documented limit."""


class Suppressed(InvalidText):
    """The text was erased, and whoever erased it asked that it never be stored again."""


class InvalidConfiguration(InvalidInput):
    """A geometry, promise or tokenizer that no memory can be built from."""


class EmptySelection(InvalidInput):
    """A deletion names or matches no document."""


class NotFound(MemodbError, LookupError):
    """What the call names is not in the store."""


class DocumentNotFound(NotFound):
    """No live document has this id in this collection."""


class CollectionNotFound(NotFound):
    """The store has no collection of this name."""


class StoreNotFound(NotFound):
    """There is no store at this path, and creating one was not asked for."""


class Conflict(MemodbError):
    """What is stored disagrees with what was given; nothing was changed."""


class DocumentExists(Conflict):
    """The id is taken by a document with another text or other provenance."""


class StoreMismatch(Conflict):
    """The store was created with another tokenizer or configuration than the one asked for."""


class StoreError(MemodbError):
    """The store itself cannot serve the call."""


class StoreClosed(StoreError):
    """The handle was closed."""


class StoreLocked(StoreError):
    """Another process holds the store for writing."""


class ReadOnlyStore(StoreError):
    """A write was asked of a handle that was opened with ``read_only=True``."""


class SchemaTooNew(StoreError):
    """The store was made by a newer memodb than this one."""


class LedgerMissing(StoreError):
    """The ledger, which stays outside of backups, is missing, or knows less than the store: erasures may be unknown."""


class CorruptStore(StoreError):
    """A file or row contradicts its digest or another row."""


class DiskFull(StoreError):
    """There is no space left to write; nothing was changed. Deleting documents works even then."""


class OutOfMemory(StoreError):
    """The machine, or the device, has no room for a memory: nothing was changed, and what is stored is whole."""


class SyncFailed(StoreError):
    """The disk did not confirm a write, so nobody knows what it holds: the handle refuses every call from now on.

    Asking again would not help: after a failed fsync a kernel may report success for pages that it gave up. Open the
    store again; nothing acknowledged before is lost, and what the failed call was to do is then done or not done.
    """


class BackendUnavailable(StoreError):
    """The device or optional package asked for is not on this machine."""
