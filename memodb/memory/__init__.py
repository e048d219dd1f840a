"""The memories: arrays in, arrays out. Documents, files and catalogs are unknown here.

Read :mod:`capacity` for the formulas, :mod:`codes` for how things become ones, :mod:`willshaw` for one matrix,
:mod:`segment` for a stack of them, :mod:`memory` for a collection's segments read as one.
"""

from memodb.memory.backend import DEVICES, Backend, backend_for
from memodb.memory.capacity import Configuration, Geometry, first_geometry
from memodb.memory.memory import Answers, Memory
from memodb.memory.pairs import Batch
from memodb.memory.segment import Contribution, Segment

__all__ = [
    "DEVICES",
    "Answers",
    "Backend",
    "Batch",
    "Configuration",
    "Contribution",
    "Geometry",
    "Memory",
    "Segment",
    "backend_for",
    "first_geometry",
]
