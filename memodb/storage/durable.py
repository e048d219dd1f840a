"""The one way a file of a store is written: temporary file, fsync, rename, fsync of the directory.

After a power loss a reader finds the whole old file or the whole new one. A failed write leaves no temporary file, a
crash may: those are swept when the store is next opened for writing.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

__all__ = ["TEMPORARY", "sync_directory", "write_file"]

TEMPORARY = ".tmp"
"""Suffix of files being written; whatever carries it belongs to nobody once the writer is gone."""


def write_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file, mode 0600, durable when this returns; an existing one is replaced.

    Raises
    ------
    OSError
        It cannot be written; nothing was changed.
    """
    temporary = path.with_name(f"{secrets.token_hex(8)}{TEMPORARY}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable. SQLite swallows an error of its own; this one is raised."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
