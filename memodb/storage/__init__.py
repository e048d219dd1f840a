"""The files of a store, and who may write them.

::

    store/                   mode 0700
      LOCK                   held with flock(2) by the one writer process, whose pid it names
      LEASES                 held shared by readers while they read tiles, exclusively by who destroys some
      ballast                space that a deletion gives up on a full disk
      catalog.db             documents, provenance, tokens, segments: the catalog's room writes it through SQLite
      catalog.db-journal     its rollback journal, empty between commits
      tokenizer.json.zst     the bytes of the tokenizer that the store is bound to
      segments/<sha256>      tiles: memories of segments, encrypted, named by rows of the catalog
      keys                   the keys of documents and tiles, unless a key service has them
      BACKUP                 in a backup only: what it holds, with digests
      ledger/                mode 0700; in no backup; may lie elsewhere, to outlive the store
        log.jsonl            the entries of the audit log, mirrored: what was erased, even from an older copy
        signing.pem          signs receipts and tree heads
        suppression.key      of the hashes of what must not come back

Tiles are derived: a function of the catalog's documents, the seed and the geometry, written so that a store opens fast.
"""

from memodb.storage.ballast import Ballast
from memodb.storage.copying import beside, copy_file, digest_of, place, sync_file
from memodb.storage.directory import StoreDirectory, path_text
from memodb.storage.durable import saying
from memodb.storage.keyfile import KeyFile
from memodb.storage.lease import Leases
from memodb.storage.ledger import Ledger
from memodb.storage.lock import WriterLock
from memodb.storage.manifest import read_manifest, write_manifest
from memodb.storage.mounts import require_local
from memodb.storage.tiles import Destroyed, destroy_orphans, read_tile, write_tile

__all__ = [
    "Ballast",
    "Destroyed",
    "KeyFile",
    "Leases",
    "Ledger",
    "StoreDirectory",
    "WriterLock",
    "beside",
    "copy_file",
    "destroy_orphans",
    "digest_of",
    "path_text",
    "place",
    "read_manifest",
    "read_tile",
    "require_local",
    "saying",
    "sync_file",
    "write_manifest",
    "write_tile",
]
