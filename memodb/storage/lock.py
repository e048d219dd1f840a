"""One writer process at a time: an flock(2) on the store's LOCK file, which names its holder.

The kernel drops the lock when the holder dies, however it dies, so there is no stale lock to recognise; a pid file
alone would need one. The text in the file only serves the error message. A child that the holder forked would inherit
the lock and outlive it: it gives its copy up at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from pathlib import Path

from memodb.errors import StoreError, StoreLocked
from memodb.storage.durable import open_own

__all__ = ["WriterLock"]


class WriterLock:
    """The lock, held from construction until :meth:`release`.

    Parameters
    ----------
    path : Path
        The LOCK file; made where it is missing.

    Raises
    ------
    StoreLocked
        Somebody holds it; the message names the process.
    StoreError
        The file cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor: int | None = open_own(path, os.O_RDWR | os.O_CREAT)
        except OSError as exc:
            raise StoreError(
                f"the lock file {path} cannot be opened for writing: {exc}; open the store with read_only=True"
            ) from exc
        _held.add(self)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(self._descriptor, 64, 0).decode(errors="replace").strip() or "an unnamed process"
            self.release()
            raise StoreLocked(
                f"{path.parent} is open for writing by {holder}: close it there, or open it here with read_only=True"
            ) from exc
        except OSError as exc:
            self.release()
            raise StoreError(f"{path} cannot be locked (is it on a network file system?): {exc}") from exc
        with contextlib.suppress(OSError):  # a full disk: the lock is held all the same, it is only not told by whom
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"process {os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back; idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()


def _release_all() -> None:
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_release_all)
