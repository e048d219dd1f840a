"""The directory of a store: its file names, and the only writes to it besides SQLite's."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import zstandard

from memodb.errors import Conflict, CorruptStore, InvalidInput, StoreError, StoreNotFound
from memodb.storage.copying import copy_file
from memodb.storage.durable import TEMPORARY, make_empty, saying, sync_directory, write_file
from memodb.storage.lease import Leases
from memodb.storage.tiles import destroy_orphans

__all__ = ["StoreDirectory", "path_text"]

_TOKENIZER_LIMIT = 256 * 2**20
"""Decoded size of a tokenizer file: above every published vocabulary, below what a hostile file could ask for."""

_LEVEL = 3
"""Of zstd for the tokenizer: level 19 saves 32 KB of 184, and made creating a store take three times as long."""

_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")
"""Ends a journal of a transaction over several files (https://www.sqlite.org/fileformat.html#rollbackjournal)."""


class StoreDirectory:
    """Names and durable writes.

    Parameters
    ----------
    path : Path
        The store's directory; nothing is read or made before a method says so.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = path / "LOCK"
        self.leases = path / "LEASES"
        self.ballast = path / "ballast"
        self.catalog = path / "catalog.db"
        self.journals = tuple(path / f"catalog.db-{kind}" for kind in ("journal", "wal", "shm"))
        self.keys = path / "keys"
        self.ledger = path / "ledger"
        self.tokenizer = path / "tokenizer.json.zst"
        self.segments = path / "segments"
        self.backup = path / "BACKUP"

    def holds_store(self) -> bool:
        """Whether a store was created here, completely enough to be opened.

        Raises
        ------
        Conflict
            The path is a file, or a directory of something else: nothing of the user's is ever overwritten.
        """
        with saying(f"{self.path} cannot be a store"):
            if not self.path.exists():
                return False
        if not self.path.is_dir():
            raise Conflict(f"{self.path} is a file; a store is a directory: name another path")
        self.require_own_files()
        if self.catalog.exists() and self.catalog.stat().st_size:
            return True
        # What creating a store makes before its catalog holds something; all else comes later.
        begun = {path.name for path in (self.lock, self.keys, self.catalog, *self.journals)}
        others = sorted(p.name for p in self.path.iterdir() if p.name not in begun and not p.name.endswith(TEMPORARY))
        if self.tokenizer.name in others or self.segments.name in others:
            raise CorruptStore(f"{self.catalog} is missing or empty: restore the store from a backup")
        if others:
            raise Conflict(
                f"{self.path} is not a store and not empty (it holds {others[0]!r}): name an empty or a new directory"
            )
        return self.catalog.exists()

    def require_own_files(self) -> None:
        """Refuse a store whose files are links, pipes or directories: following one would write to somebody else's.

        Raises
        ------
        CorruptStore
            Names the file. What is missing is no matter of this.
        """
        single = (
            self.lock,
            self.leases,
            self.ballast,
            self.keys,
            self.catalog,
            *self.journals,
            self.tokenizer,
            self.backup,
        )
        whole = (self.segments, self.ledger)
        for path, is_own in (*((file, stat.S_ISREG) for file in single), *((path, stat.S_ISDIR) for path in whole)):
            with saying(f"{path} cannot be looked at"), contextlib.suppress(FileNotFoundError):
                if not is_own(path.lstat().st_mode):
                    raise CorruptStore(
                        f"{path} is no {'directory' if path in whole else 'regular file'} of the store's own: "
                        "put back what memodb made, or restore the store from a backup"
                    )

    def require_no_backup(self) -> None:
        """Refuse a backup: a change to it would not be what its manifest says."""
        if self.backup.exists():
            raise Conflict(
                f"{self.path} is a backup: `memodb restore` it to another path, or open it with read_only=True"
            )

    def require(self) -> None:
        """Raise StoreNotFound where no store is."""
        if not self.holds_store():
            raise StoreNotFound(f"there is no store at {self.path}: create it with connect(path) or `memodb init`")

    def create(self) -> None:
        """Make the directory, mode 0700, and those above it that are missing, each durable in its parent."""
        with saying(f"the store directory {self.path} cannot be made"):
            path = self.path.absolute()
            made = [parent for parent in path.parents if not parent.exists()]
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for child in (path, *made):
                sync_directory(child.parent)

    def prepare_journal(self, kind: str) -> None:
        """Make the catalog's journal before SQLite does, so that its name is durable before the first change.

        SQLite ignores an error of syncing that name. Were it lost with the power in the middle of a commit, the catalog
        would be half changed and nothing there to undo it.

        Parameters
        ----------
        kind : {"truncate", "wal"}
            The catalog's journal mode.

        Raises
        ------
        CorruptStore
            A journal is there that no store of memodb's has: undoing it would have SQLite delete another file.
        DiskFull, StoreError, SyncFailed
        """
        path = self.journals[kind == "wal"]
        make_empty(path)
        with saying(f"{path} cannot be read"), path.open("rb") as file:
            if kind != "wal" and file.seek(0, 2) > len(_SUPER_JOURNAL):
                file.seek(-len(_SUPER_JOURNAL), 2)
                if file.read() == _SUPER_JOURNAL:
                    raise CorruptStore(
                        f"{path} was not written by memodb: move it away, or restore the store from a backup"
                    )

    def prepare(self) -> None:
        """Make what a writer needs beside the catalog."""
        with saying(f"{self.segments} cannot be made"):
            self.segments.mkdir(mode=0o700, exist_ok=True)
        make_empty(self.leases)  # syncs the name of the other, too

    def write_tokenizer(self, data: bytes) -> None:
        """Write the tokenizer's bytes, durably and whole."""
        write_file(self.tokenizer, [zstandard.ZstdCompressor(level=_LEVEL).compress(data)])

    def read_tokenizer(self) -> bytes:
        """The tokenizer's bytes; whether they are the right ones is for the caller to check by digest.

        Raises
        ------
        CorruptStore
            The file is missing, truncated or not zstd.
        """
        remedy = "put back the tokenizer that the store was created with"
        try:
            packed = self.tokenizer.read_bytes()
        except FileNotFoundError as exc:
            raise CorruptStore(f"{self.tokenizer} is missing: {remedy}") from exc
        except OSError as exc:
            raise StoreError(f"{self.tokenizer} cannot be read: {exc}") from exc
        try:
            size = zstandard.frame_content_size(packed)
            if not 0 <= size <= _TOKENIZER_LIMIT:
                raise CorruptStore(f"{self.tokenizer} does not say a plausible size: {remedy}")
            return zstandard.ZstdDecompressor().decompress(packed)
        except zstandard.ZstdError as exc:
            raise CorruptStore(f"{self.tokenizer} is damaged: {remedy}") from exc

    def take_tiles(self, other: StoreDirectory, names: set[str]) -> None:
        """Copy tiles of another store; one that is missing there is left out, since a memory can be made without."""
        for name in sorted(names):
            if (other.segments / name).is_file():
                copy_file(other.segments / name, self.segments / name)

    def strip(self) -> None:
        """Remove what only an open store needs, and what stays out of backups; leave what makes it a store."""
        needless = {path.name for path in (self.lock, self.leases, self.ballast, *self.journals)}
        destroy_orphans(self.path, {path.name for path in self.path.iterdir()} - needless)

    def sweep(self, tiles: set[str]) -> None:
        """Remove what a crash left: temporary files, and tiles that are none of these.

        Raises
        ------
        StoreError
            Something cannot be removed; it may hold what was deleted.
        """
        with Leases(self.leases).destroying():
            destroy_orphans(self.segments, tiles)
        root = self.path.resolve()  # a store may be reached through a link; its segments may not
        destroy_orphans(root, {p.name for p in root.iterdir() if not p.name.endswith(TEMPORARY)})

    def unnamed(self, tiles: set[str]) -> list[str]:
        """Names of the files among the tiles that are none of these."""
        with saying(f"{self.segments} cannot be listed"):
            there = self.segments.iterdir() if self.segments.exists() else ()
            return sorted(path.name for path in there if path.name not in tiles)

    def foreign(self) -> list[str]:
        """Names in the directory that no store has."""
        own = (
            self.lock,
            self.leases,
            self.ballast,
            self.keys,
            self.ledger,
            self.catalog,
            self.tokenizer,
            self.segments,
            self.backup,
        )
        ours = {path.name for path in (*own, *self.journals)}
        with saying(f"{self.path} cannot be listed"):
            return sorted(p.name for p in self.path.iterdir() if p.name not in ours and not p.name.endswith(TEMPORARY))

    def nbytes(self) -> int:
        """Bytes of all files of the store; links count as themselves."""
        total = 0
        for path in self.path.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # superseded meanwhile
                total += path.lstat().st_size if not path.is_dir() else 0
        return total


def path_text(path: object) -> str:
    """A path as text; InvalidInput where the operating system could not take it."""
    try:
        name = os.fspath(path)  # type: ignore[call-overload]  # any value may be given
        if isinstance(name, str) and name and b"\0" not in os.fsencode(name):
            return name
    except (TypeError, UnicodeEncodeError):
        pass
    raise InvalidInput(f"a path must be a text that can name a directory, not {path!r}")
