"""The memories: arrays in, arrays out. Documents, files and catalogs are unknown here.

Read :mod:`configuration` for what a memory is built to, :mod:`capacity` for the formulas, :mod:`codes` for how things
become ones, :mod:`segment` for what both engines share, :mod:`memory` for a collection's segments read as one. The
engine ``willshaw`` is :mod:`willshaw` (one matrix) and :mod:`willshaw_memory`; ``kohonen``, MeMo as published, is
:mod:`kohonen` (codes) and :mod:`kohonen_memory`.
"""

from memodb.memory.answers import Answers, Best
from memodb.memory.backend import DEVICES, Backend, backend_for
from memodb.memory.capacity import first_geometry
from memodb.memory.configuration import (
    CODES,
    ENCODINGS,
    ENGINES,
    Configuration,
    Geometry,
    KohonenConfiguration,
    WillshawConfiguration,
)
from memodb.memory.engines import memory_for
from memodb.memory.memory import Memory
from memodb.memory.pairs import Batch
from memodb.memory.segment import ROUNDING, Contribution, Imprint, Segment

__all__ = [
    "CODES",
    "DEVICES",
    "ENCODINGS",
    "ENGINES",
    "ROUNDING",
    "Answers",
    "Backend",
    "Batch",
    "Best",
    "Configuration",
    "Contribution",
    "Geometry",
    "Imprint",
    "KohonenConfiguration",
    "Memory",
    "Segment",
    "WillshawConfiguration",
    "backend_for",
    "first_geometry",
    "memory_for",
]
