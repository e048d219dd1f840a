"""Which memory a configuration asks for."""

from __future__ import annotations

from memodb.errors import InvalidConfiguration
from memodb.memory.backend import Backend
from memodb.memory.configuration import Configuration, KohonenConfiguration, WillshawConfiguration
from memodb.memory.kohonen_memory import KohonenMemory
from memodb.memory.memory import Memory
from memodb.memory.willshaw_memory import WillshawMemory

__all__ = ["memory_for"]


def memory_for(backend: Backend, configuration: Configuration, seed: bytes) -> Memory:
    """An empty memory.

    Parameters
    ----------
    backend : Backend
    configuration : Configuration
        Its kind names the engine.
    seed : bytes
        The collection's secret, 32 bytes.

    Raises
    ------
    OutOfMemory
        There is no room for what the seed stands for; nothing was allocated.
    """
    if isinstance(configuration, WillshawConfiguration):
        return WillshawMemory(backend, configuration, seed)
    if isinstance(configuration, KohonenConfiguration):
        return KohonenMemory(backend, configuration, seed)
    raise InvalidConfiguration(f"no engine is built to {configuration!r}")
