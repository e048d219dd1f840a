"""The directory of a store: its file names, and the only writes to it besides SQLite's."""

from __future__ import annotations

from pathlib import Path

import zstandard

from memodb.errors import Conflict, CorruptStore, StoreError, StoreNotFound
from memodb.storage.durable import TEMPORARY, sync_directory, write_file
from memodb.storage.tiles import remove_orphans

__all__ = ["StoreDirectory"]

_TOKENIZER_LIMIT = 256 * 2**20
"""Decoded size of a tokenizer file: above every published vocabulary, below what a hostile file could ask for."""


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
        self.catalog = path / "catalog.db"
        self.tokenizer = path / "tokenizer.json.zst"
        self.segments = path / "segments"

    def holds_store(self) -> bool:
        """Whether a store was created here, completely enough to be opened.

        Raises
        ------
        Conflict
            The path is a file, or a directory of something else: nothing of the user's is ever overwritten.
        """
        if not self.path.exists():
            return False
        if not self.path.is_dir():
            raise Conflict(f"{self.path} is a file; a store is a directory: name another path")
        if self.catalog.exists():
            return True
        ours = {self.lock.name, self.tokenizer.name}
        strange = sorted(p.name for p in self.path.iterdir() if p.name not in ours and not p.name.endswith(TEMPORARY))
        if strange:
            raise Conflict(
                f"{self.path} is not a store and not empty (it holds {strange[0]!r}): name an empty or a new directory"
            )
        return False

    def require(self) -> None:
        """Raise StoreNotFound where no store is."""
        if not self.holds_store():
            raise StoreNotFound(f"there is no store at {self.path}: create it with connect(path) or `memodb init`")

    def create(self) -> None:
        """Make the directory, mode 0700, durable in its parent."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(self.path.absolute().parent)
        except OSError as exc:
            raise StoreError(f"the store directory {self.path} cannot be made: {exc}") from exc

    def write_tokenizer(self, data: bytes) -> None:
        """Write the tokenizer's bytes, durably and whole."""
        try:
            write_file(self.tokenizer, [zstandard.ZstdCompressor(level=19).compress(data)])
        except OSError as exc:
            raise StoreError(f"the tokenizer of the store cannot be written to {self.tokenizer}: {exc}") from exc

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

    def sweep(self, tiles: set[str]) -> None:
        """Remove what a crash left: temporary files, and tiles that are none of these.

        Raises
        ------
        StoreError
            Something cannot be removed; it may hold what was deleted.
        """
        remove_orphans(self.segments, tiles)
        remove_orphans(self.path, {p.name for p in self.path.iterdir() if not p.name.endswith(TEMPORARY)})

    def nbytes(self) -> int:
        """Bytes of all files of the store."""
        return sum(p.stat().st_size for p in self.path.rglob("*") if p.is_file())
