"""The ledger: what must outlive a copy of a store, and must not be in its backups.

::

    ledger/                  mode 0700, in the store's directory or where its owner keeps it
      log.jsonl              mode 0600; the audit log's entries, one canonical JSON line each, in order
      signing.pem            mode 0600; the Ed25519 private key (PKCS 8, RFC 5958) that signs receipts and tree heads
      suppression.key        mode 0600; 32 random bytes, under which the texts that must not come back are hashed

A store that is restored from a backup, or set back to a snapshot, knows nothing of what was erased since: the log, in
which each erasure stands before it is acknowledged, does. The two keys stay here because a backup is what leaves the
house: with the one, receipts can be forged; with the other, guesses at deleted texts can be tested.

The lines are opaque here. An entry is a line once its newline is on the disk; what a crash leaves behind the last
newline is none, and the next append cuts it off. A crash in an append of several may leave the first ones as lines.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from memodb.errors import Conflict, CorruptStore, InvalidInput, StoreError
from memodb.storage.copying import beside, place
from memodb.storage.durable import open_own, saying, sync, write_file

__all__ = ["LINE_BYTES", "SUPPRESSION_BYTES", "Ledger"]

LINE_BYTES = 4096
"""Bytes of a line, its newline included."""

SUPPRESSION_BYTES = 32

_SIGNING_BYTES = 1 << 14
_CHUNK = 1 << 20


class Ledger:
    """The directory, by name: nothing is held open between two calls.

    Who appends holds the writer lock of the store.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = path / "log.jsonl"
        self._signing = path / "signing.pem"
        self._suppression = path / "suppression.key"

    def exists(self) -> bool:
        """Whether there is one. It is made whole, so files that are missing in it were lost, and reading them says so.

        Raises
        ------
        StoreError
            There is something else: a link, or a file.
        """
        with saying(f"the ledger {self.path} cannot be looked at"):
            try:
                mode = self.path.lstat().st_mode
            except FileNotFoundError:
                return False
        if not stat.S_ISDIR(mode):
            raise StoreError(f"{self.path} is a link or a file where the ledger belongs: move it away")
        return True

    def create(self, signing: bytes, suppression: bytes, lines: Iterable[bytes] = ()) -> None:
        """Make the ledger: whole and durable when this returns, or not at all.

        Parameters
        ----------
        signing : bytes
            The private key, PEM.
        suppression : bytes (32,)
        lines : iterable of bytes
            Of the log, which is empty without.

        Raises
        ------
        InvalidInput
            A key is of no possible length.
        Conflict
            There is a ledger: it is never replaced.
        DiskFull, StoreError, SyncFailed
        """
        if not 0 < len(signing) <= _SIGNING_BYTES or len(suppression) != SUPPRESSION_BYTES:
            raise InvalidInput(f"a ledger has a signing key and {SUPPRESSION_BYTES} bytes of a suppression key")
        if self.exists():
            raise Conflict(f"{self.path} is there: the ledger of another store, or of one that was here before")
        with beside(self.path) as made:
            write_file(made / self._signing.name, [signing])
            write_file(made / self._suppression.name, [suppression])
            write_file(made / self._log.name, (line + b"\n" for line in lines))
            place(made, self.path)

    def signing(self) -> bytes:
        """The private key that signs, PEM.

        Raises
        ------
        CorruptStore
            It is missing or damaged.
        StoreError
            It cannot be read; or others than its owner can read it too.
        """
        data = self._secret(self._signing, _SIGNING_BYTES)
        if not data:
            raise CorruptStore(f"{self._signing} is empty: {_PUT_BACK}")
        return data

    def suppression(self) -> bytes:
        """The key of the hashes of suppressed texts, 32 bytes; errors as of :meth:`signing`."""
        data = self._secret(self._suppression, SUPPRESSION_BYTES)
        if len(data) != SUPPRESSION_BYTES:
            raise CorruptStore(f"{self._suppression} has {len(data)} bytes instead of {SUPPRESSION_BYTES}: {_PUT_BACK}")
        return data

    def lines(self) -> Iterator[bytes]:
        """The entries, in order, without their newlines.

        Raises
        ------
        CorruptStore
            The log is missing, or a line is longer than `LINE_BYTES`.
        StoreError
            It cannot be read.
        """
        number = 0
        with self._opened() as file:
            while (line := file.readline(LINE_BYTES)).endswith(b"\n"):
                number += 1
                yield line[:-1]
            if len(line) == LINE_BYTES:
                raise CorruptStore(f"line {number + 1} of {self._log} is longer than {LINE_BYTES} bytes: {_PUT_BACK}")

    def count(self) -> int:
        """Entries: newlines, counted at about the speed of reading; errors as of :meth:`lines`."""
        with self._opened() as file:
            count = 0
            for chunk in iter(lambda: file.read(_CHUNK), b""):
                lines = chunk.count(b"\n")
                if not lines and len(chunk) == _CHUNK:  # a hole, or anything but a log
                    raise CorruptStore(f"{self._log} holds {_CHUNK} bytes without a line: {_PUT_BACK}")
                count += lines
            return count

    def append(self, lines: Sequence[bytes]) -> None:
        """Append entries, durable when this returns, in one write.

        Raises
        ------
        InvalidInput
            A line is empty, too long, or has a newline in it; nothing was written.
        CorruptStore
            The log is missing, or what is behind its last newline was never a line's beginning.
        DiskFull, StoreError
            Nothing was appended.
        SyncFailed
            The disk did not confirm it: the entries are there, the first of them, or none.
        """
        for line in lines:
            if not 0 < len(line) < LINE_BYTES or b"\n" in line:
                raise InvalidInput(f"an entry is one line of 1 to {LINE_BYTES - 1} bytes")
        if not lines:
            return
        with self._opened(os.O_RDWR) as file, saying(f"{self._log} cannot be written"):
            descriptor = file.fileno()
            end = self._end(descriptor)
            os.ftruncate(descriptor, end)
            try:
                rest, at = memoryview(b"\n".join([*lines, b""])), end
                while rest:
                    written = os.pwrite(descriptor, rest, at)
                    rest, at = rest[written:], at + written
            except BaseException:
                os.ftruncate(descriptor, end)
                raise
            sync(descriptor, self._log)

    def copy_to(self, path: Path) -> None:
        """Copy the ledger, whole and durably.

        Raises
        ------
        CorruptStore
            Something of it is missing or damaged; nothing is left of the copy.
        Conflict
            There is a ledger already.
        DiskFull, StoreError, SyncFailed
        """
        Ledger(path).create(self.signing(), self.suppression(), self.lines())

    def _end(self, descriptor: int) -> int:
        """Where the last line ends."""
        size = os.fstat(descriptor).st_size
        start = max(0, size - LINE_BYTES)
        end = start + os.pread(descriptor, LINE_BYTES, start).rfind(b"\n") + 1
        if size - end >= LINE_BYTES:
            raise CorruptStore(f"{self._log} ends in {LINE_BYTES} bytes that are no line: {_PUT_BACK}")
        return end

    @contextlib.contextmanager
    def _opened(self, flags: int = os.O_RDONLY) -> Iterator[BinaryIO]:
        with (
            self._found(self._log, flags) as descriptor,
            saying(f"{self._log} cannot be read"),
            os.fdopen(descriptor, "rb", closefd=False) as file,
        ):
            yield file

    def _secret(self, path: Path, most: int) -> bytes:
        with self._found(path) as descriptor, saying(f"{path} cannot be read"):
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            if mode & 0o077:
                raise StoreError(
                    f"{path} can be read or written by others than its owner (mode {mode:04o}): who has it can sign in "
                    f"this store's name, or test guesses at deleted texts. `chmod 600` it if nobody else was here"
                )
            data = os.read(descriptor, most + 1)
        if len(data) > most:
            raise CorruptStore(f"{path} is longer than {most} bytes: {_PUT_BACK}")
        return data

    @contextlib.contextmanager
    def _found(self, path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
        """A file of the ledger, open for the block."""
        if not self.exists():
            raise StoreError(f"the ledger {self.path} is missing: put it back from where it was kept")
        try:
            descriptor = open_own(path, flags)
        except FileNotFoundError as exc:
            raise CorruptStore(f"{path} is missing: {_PUT_BACK}") from exc
        except OSError as exc:
            raise StoreError(f"{path} cannot be opened: {exc}") from exc
        try:
            yield descriptor
        finally:
            os.close(descriptor)


_PUT_BACK = "put back the ledger from where copies of it are kept"
