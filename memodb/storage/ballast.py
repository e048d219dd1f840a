"""The ballast: space set aside, so that an erasure can finish on a full disk.

SQLite needs room for a journal even to delete, so on a full disk neither DELETE nor a checkpoint nor VACUUM works. This
file is given up when a deletion finds no space, and made again when there is some.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from memodb.errors import DiskFull
from memodb.storage.durable import TEMPORARY, saying, sync, sync_directory

__all__ = ["Ballast"]

_LEAST, _MOST = 1 << 18, 1 << 26


class Ballast:
    """The file, a quarter as large as the catalog, 256 KiB at least and 64 MiB at most.

    A deletion writes the pages that it changes to a journal first: one for each document that it hides, and those of
    the indexes.

    Parameters
    ----------
    path : Path
        Of the ballast.
    catalog : Path
        Whose size decides.
    """

    def __init__(self, path: Path, catalog: Path) -> None:
        self._path = path
        self._catalog = catalog

    def fill(self) -> None:
        """Take the space, where there is some: a disk too full for it is no error of whoever asked for something else.

        Raises
        ------
        StoreError, SyncFailed
            The file cannot be written for another reason.
        """
        with saying(f"{self._catalog} cannot be looked at"):
            wanted = min(max(self._catalog.stat().st_size // 4, _LEAST), _MOST)
        if self._path.exists() and self._path.stat().st_size >= wanted:
            return
        temporary = self._path.with_suffix(TEMPORARY)
        with contextlib.suppress(DiskFull), saying(f"{self._path} cannot be written"):
            try:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                try:
                    _allocate(descriptor, wanted)
                    sync(descriptor, self._path)
                finally:
                    os.close(descriptor)
                temporary.replace(self._path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            sync_directory(self._path.parent)

    def release(self) -> bool:
        """Give the space up; False where there was none to give.

        Raises
        ------
        StoreError, SyncFailed
        """
        with saying(f"{self._path} cannot be removed"):
            try:
                self._path.unlink()
            except FileNotFoundError:
                return False
        sync_directory(self._path.parent)
        return True


def _allocate(descriptor: int, size: int) -> None:
    """Blocks, not a hole: a sparse file holds no space."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    block = bytes(_LEAST)  # macOS
    while size > 0:
        size -= os.write(descriptor, block[:size])
