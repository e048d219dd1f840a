"""The one way a file of a store is written: temporary file, fsync, rename, fsync of the directory.

After a power loss a reader finds the whole old file or the whole new one. A failed write leaves no temporary file, a
crash may: those are swept when the store is next opened for writing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from memodb.errors import DiskFull, StoreError, SyncFailed

__all__ = ["TEMPORARY", "make_empty", "saying", "sync", "sync_directory", "write_file"]

TEMPORARY = ".tmp"
"""Suffix of files being written; whatever carries it belongs to nobody once the writer is gone."""

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@contextlib.contextmanager
def saying(what: str) -> Iterator[None]:
    """Raise the operating system's errors as memodb's: DiskFull where there is no space, StoreError else."""
    try:
        yield
    except OSError as exc:
        kind = DiskFull if exc.errno in _NO_SPACE else StoreError
        raise kind(f"{what}: {exc}") from exc


def write_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file, mode 0600, durable when this returns; an existing one is replaced.

    Raises
    ------
    DiskFull, StoreError
        It cannot be written; nothing was changed.
    SyncFailed
        The disk did not confirm it: the old file or the new one is there.
    """
    temporary = path.with_name(f"{secrets.token_hex(8)}{TEMPORARY}")
    with saying(f"{path} cannot be written"):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(parts)
                file.flush()
                sync(file.fileno(), path)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


def make_empty(path: Path) -> None:
    """Make sure that a file exists, mode 0600, its name durable; what it holds is left alone.

    Raises
    ------
    DiskFull, StoreError, SyncFailed
        As :func:`write_file`.
    """
    with saying(f"{path} cannot be made"):
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        sync_directory(path.parent)


def sync(descriptor: int, path: Path) -> None:
    """Make a file's content durable.

    Raises
    ------
    SyncFailed
        The disk did not confirm it. Never tried again: the kernel may have given the pages up, and would say yes.
    """
    try:
        if sys.platform == "darwin":  # where fsync does not reach beyond the drive's cache
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fsync(descriptor)
    except OSError as exc:
        raise SyncFailed(f"the disk did not confirm the write of {path}: {exc}; open the store again") from exc


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable. SQLite swallows an error of its own; this one is raised.

    Raises
    ------
    SyncFailed, StoreError
    """
    with saying(f"the directory {directory} cannot be opened"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor, directory)
    finally:
        os.close(descriptor)
