"""Whole files copied with their digests, and a finished directory put in the place of another."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from memodb.errors import StoreError
from memodb.storage.durable import TEMPORARY, saying, sync, sync_directory, write_file

__all__ = ["beside", "copy_file", "digest_of", "place", "remove_directory", "sync_file"]

_CHUNK = 1 << 20
_EXCHANGE = 2
_HERE = -100


def beside(path: Path) -> Path:
    """A new directory, mode 0700, in which something is made that will be put in the place of ``path``."""
    made = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    with saying(f"{made} cannot be made"):
        path.parent.mkdir(parents=True, exist_ok=True)
        made.mkdir(mode=0o700)
    return made


def copy_file(source: Path, target: Path) -> str:
    """Copy a file, durably; SHA-256 of what was written, in hexadecimal.

    Raises
    ------
    DiskFull, StoreError, SyncFailed
        Nothing is left of the target.
    """
    state = hashlib.sha256()

    def parts() -> Iterator[bytes]:
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK):
                state.update(chunk)
                yield chunk

    write_file(target, parts())
    return state.hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Make a file durable that others wrote."""
    with saying(f"{path} cannot be opened"):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(descriptor, path)
    finally:
        os.close(descriptor)


def place(made: Path, path: Path) -> None:
    """Put a finished directory, made by :func:`beside`, at a path: at once, and durably.

    What is there must be an empty directory, or is exchanged and then removed with all that is in it.
    """
    with saying(f"{path} cannot be put in place"):
        if path.exists() and any(path.iterdir()):
            _exchange(made, path)
            sync_directory(path.absolute().parent)
            remove_directory(made)
        else:
            made.rename(path)
    sync_directory(path.absolute().parent)


def _exchange(one: Path, other: Path) -> None:
    """Swap two directories in one step (renameat2, Linux 3.15): a crash leaves either the old or the new one."""
    library = ctypes.CDLL(None, use_errno=True)
    if hasattr(library, "renameat2"):
        if library.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(code, os.strerror(code), str(other))
    raise StoreError(
        f"{other} cannot be replaced in one step on this system: move it away, and restore to the path it had"
    )


def remove_directory(path: Path) -> None:
    """Remove a directory with all that is in it."""
    with saying(f"{path} cannot be removed"):
        shutil.rmtree(path)
