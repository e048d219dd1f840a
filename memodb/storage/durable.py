"""The one way a file of a store is written, and the one way it is destroyed.

Written: temporary file, fsync, rename, fsync of the directory. After a power loss a reader finds the whole old file or
the whole new one. A failed write leaves no temporary file, a crash may: those are swept when the store is next opened
for writing.

Destroyed: zeros over what it holds, fsync, and only then the name goes. An unlinked file lies on the disk until its
blocks are given to another; an overwritten one does not, where the file system writes in place (ext4, XFS without
reflinks). Copy-on-write file systems (Btrfs, ZFS, APFS), snapshots and the remapping of flash keep older blocks
whatever is written here: what must be gone from there as well is encrypted, and its key destroyed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from memodb.errors import CorruptStore, DiskFull, StoreError, SyncFailed

__all__ = [
    "TEMPORARY",
    "destroy_file",
    "extents",
    "make_empty",
    "open_own",
    "saying",
    "sync",
    "sync_directory",
    "write_file",
]

TEMPORARY = ".tmp"
"""Suffix of files being written; whatever carries it belongs to nobody once the writer is gone."""

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_ZEROS = memoryview(bytes(1 << 20))


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


def open_own(path: Path | str, flags: int = os.O_RDONLY, *, directory: int | None = None) -> int:
    """Open a regular file of the store's own; its descriptor, which no child process inherits.

    Not what a link leads to, which is somebody else's; and without waiting for what a named pipe might say one day.

    Parameters
    ----------
    flags : int
        As os.open takes them; a file that they create has mode 0600.
    directory : int, optional
        Descriptor of the directory that the path is relative to.

    Raises
    ------
    OSError
        It cannot be opened.
    CorruptStore
        It is a pipe, a directory or a device.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CorruptStore(f"{path} is no regular file")
    return descriptor


def destroy_file(path: Path) -> int:
    """Overwrite a file with zeros, durably, and remove it; the caller makes the removal of its name durable.

    Links, pipes and sockets go as what they are. So does a file that has another name: it is somebody else's too.
    Holes are passed over, since they hold nothing and a sparse file may claim any length. A crash leaves
    the file, or the file overwritten, or nothing; asked again, this goes on from each.

    Returns
    -------
    int
        Bytes overwritten.

    Raises
    ------
    OSError, SyncFailed
        It may still be there, and hold what it held.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return 0
    nbytes = 0
    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
        descriptor = open_own(path, os.O_WRONLY)
        try:
            for start, end in extents(descriptor, os.fstat(descriptor).st_size):
                nbytes += end - start
                while start < end:
                    start += os.pwrite(descriptor, _ZEROS[: end - start], start)
            sync(descriptor, path)
        finally:
            os.close(descriptor)
    # Not truncated first: a process that has it mapped, as SQLite maps its shared memory, would die of SIGBUS.
    path.unlink(missing_ok=True)
    return nbytes


def extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file holds data; all of it, where the file system cannot tell."""
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as exc:
            if exc.errno == errno.ENXIO:  # only a hole is left
                return
            if exc.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
            start, end = at, size
        yield start, end
        at = end
