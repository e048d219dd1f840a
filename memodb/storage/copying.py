"""Whole files copied with their digests, and a finished directory put in the place of another."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from memodb.errors import CorruptStore, StoreError
from memodb.storage.durable import TEMPORARY, destroy_file, open_own, saying, sync, sync_directory, write_file

__all__ = ["beside", "copy_file", "digest_of", "place", "sync_file"]

_CHUNK = 1 << 20
_EXCHANGE = 2
_HERE = -100


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A new directory, mode 0700, for the block, in which something is made that :func:`place` puts at ``path``.

    Removed where the block fails. A crash leaves it, with a copy of everything: the next one for the same path removes
    what nobody is making any more.
    """
    made = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    left = re.compile(re.escape(path.name) + r"\.[0-9a-f]{8}" + re.escape(TEMPORARY))
    with saying(f"{made} cannot be made"):
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in path.parent.iterdir():
            if left.fullmatch(other.name) and other.is_dir() and not other.is_symlink():
                with contextlib.suppress(BlockingIOError), _locked(other):
                    _destroy_directory(other)
        made.mkdir(mode=0o700)
    with _locked(made):
        try:
            yield made
        except BaseException:
            if made.exists():
                _destroy_directory(made)
            raise


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Held while somebody works in it; BlockingIOError where another does."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def copy_file(source: Path, target: Path) -> str:
    """Copy a file, durably, into a directory that is made where it is missing; SHA-256 of what was written,
    hexadecimal.

    Raises
    ------
    CorruptStore
        There is no such file, or it is a link, a pipe or a directory.
    DiskFull, StoreError, SyncFailed
        Nothing is left of the target.
    """
    state = hashlib.sha256()
    try:
        descriptor = open_own(source)
    except OSError as exc:
        raise CorruptStore(f"{source} cannot be read: {exc}") from exc

    def parts() -> Iterator[bytes]:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
            yield chunk

    with os.fdopen(descriptor, "rb") as file:
        with saying(f"{target.parent} cannot be made"):
            target.parent.mkdir(mode=0o700, exist_ok=True)
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

    What is there must be an empty directory, or is exchanged and then overwritten and removed with all that is in it.
    """
    with saying(f"{path} cannot be put in place"):
        if path.exists() and any(path.iterdir()):
            _exchange(made, path)
            sync_directory(path.absolute().parent)
            _destroy_directory(made)
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


def _destroy_directory(path: Path) -> None:
    """Overwrite and remove all that is in a directory, and it: what was replaced holds texts, and half a copy does."""

    def refuse(exc: OSError) -> None:
        raise exc

    with saying(f"{path} cannot be removed"):
        for folder, _, names in os.walk(path, onerror=refuse):
            for name in names:
                destroy_file(Path(folder, name))
        shutil.rmtree(path)
