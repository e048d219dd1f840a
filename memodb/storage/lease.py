"""Leases: a tile is destroyed only when no reader is reading one.

Readers in other processes hold a shared flock(2) while they look up which tiles the catalog names and read them; who
destroys tiles takes it exclusively first. The kernel gives a dead reader's lease back, so none is ever stale.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from memodb.errors import StoreLocked
from memodb.storage.durable import open_own, saying

__all__ = ["PATIENCE", "Leases"]

PATIENCE = 10.0
"""Seconds to wait for readers; each reads for as long as the store takes to open."""

_PAUSE = 0.01


class Leases:
    """The leases of one store.

    Parameters
    ----------
    path : Path
        The file that is locked; made by the writer, and missing in a store that none has opened since it was made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Hold off the destruction of tiles for the block. Waits for one that is under way."""
        with self._open(os.O_RDONLY) as descriptor:
            if descriptor is not None:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield

    @contextlib.contextmanager
    def destroying(self) -> Iterator[None]:
        """Keep readers out for the block.

        Raises
        ------
        StoreLocked
            Readers kept reading for longer than `PATIENCE`.
        """
        with self._open(os.O_RDONLY | os.O_CREAT) as descriptor:
            give_up_at = time.monotonic() + PATIENCE
            while descriptor is not None:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > give_up_at:
                        raise StoreLocked(
                            f"readers keep reading the tiles of {self._path.parent}: superseded ones, which may hold "
                            "what was deleted, go with the next write, or when the store is next opened for writing"
                        ) from None
                time.sleep(_PAUSE)
            yield

    @contextlib.contextmanager
    def _open(self, flags: int) -> Iterator[int | None]:
        descriptor: int | None = None
        with saying(f"{self._path} cannot be opened"), contextlib.suppress(FileNotFoundError):
            descriptor = open_own(self._path, flags)
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)
