"""The files of a store, and who may write them.

::

    store/                   mode 0700
      LOCK                   held with flock(2) by the one writer process, whose pid it names
      catalog.db             documents, provenance, tokens, segments: the catalog's room writes it through SQLite
      tokenizer.json.zst     the bytes of the tokenizer that the store is bound to

Matrices are not files yet: they are a function of the catalog's documents, the seed and the geometry, and are memorised
again when a store is opened. Their tiles and the manifest will live here.
"""

from memodb.storage.directory import StoreDirectory
from memodb.storage.lock import WriterLock

__all__ = ["StoreDirectory", "WriterLock"]
