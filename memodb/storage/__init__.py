"""The files of a store, and who may write them.

::

    store/                   mode 0700
      LOCK                   held with flock(2) by the one writer process, whose pid it names
      catalog.db             documents, provenance, tokens, segments: the catalog's room writes it through SQLite
      tokenizer.json.zst     the bytes of the tokenizer that the store is bound to
      segments/<sha256>      tiles: memories of segments, named by rows of the catalog

Tiles are derived: a function of the catalog's documents, the seed and the geometry, written so that a store opens fast.
"""

from memodb.storage.directory import StoreDirectory
from memodb.storage.lock import WriterLock
from memodb.storage.tiles import read_tile, remove_orphans, write_tile

__all__ = ["StoreDirectory", "WriterLock", "read_tile", "remove_orphans", "write_tile"]
