"""The same sums and readings as in plain NumPy, compiled: no temporaries, one pass, and without the interpreter's lock.

Every function here has a twin in :mod:`willshaw`, :mod:`segment`, :mod:`willshaw_memory` or
:mod:`memodb.provenance.runs` that says what it must give, and the property tests hold the two against each other.
Nothing is decided here: which cells a pair has, what an answer is and how it is ranked are defined there. The module is
imported when it is first needed, because importing numba takes longer than opening a store; the machine code is kept
beside this file, or in ``NUMBA_CACHE_DIR``, once it has been made.

What bounds writing is memory: a pair touches s*q cells. A lookup touches s rows of c/8 bytes a layer, which come while
others are answered (docs/benchmarks.md has the calculation).
"""

from memodb.memory.fast.answering import follows, lookup
from memodb.memory.fast.packing import pack, restored, unpack
from memodb.memory.fast.pairs import composed, distinct
from memodb.memory.fast.ranking import large_view
from memodb.memory.fast.reading import documents
from memodb.memory.fast.runs import diagonals
from memodb.memory.fast.writing import add, add_many, fresh, merge, ones_with, put_back, subtract

__all__ = [
    "add",
    "add_many",
    "composed",
    "diagonals",
    "distinct",
    "documents",
    "follows",
    "fresh",
    "large_view",
    "lookup",
    "merge",
    "ones_with",
    "pack",
    "put_back",
    "restored",
    "subtract",
    "unpack",
]
