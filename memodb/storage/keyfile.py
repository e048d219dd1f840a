"""The keys of a store in one file, each of which can be overwritten where it lies.

::

    offset       bytes  what
    0            64     header: b"memodb keys 1\\n", then zeros
    64 n         64     slot n, from 1: free, which is 64 zeros, or
                          0    8   tag, random
                          8    32  key
                          40   8   BLAKE2b (RFC 7693) of tag, key and the slot's number, personalised
                          48   16  zeros

A key's name is the number of its slot, 8 bytes big-endian, and its tag: a slot that is used again has another tag, so
that an old name never finds a new key. A slot lies within one sector of 512 bytes, which a disk writes whole or not at
all.

What destroying a key here means: 64 zeros over the slot, confirmed by the disk (fsync), read back. A file system that
writes in place (ext4, XFS without reflinks) puts them where the key was. One that copies on write (Btrfs, ZFS, APFS),
a snapshot, and the flash translation of an SSD put them elsewhere and may keep the older block, until they have use for
it: there the key is gone for everybody who asks the file system, and not for who reads the chips. Where that is too
little, keep the keys in a service or module that is none of this machine's files (:class:`memodb.cipher.KeyService`).

Rejected: a file for each key, which leaves a destroyed one in a directory's and a journal's blocks, and costs 4 KiB
each. Rejected: a table of SQLite's, whose journal copies each page that a deletion changes, keys included.

Crashes: :meth:`KeyFile.create` comes before the commit that names the keys, so that one in between leaves keys that
nothing names (:meth:`KeyFile.orphans`); :meth:`KeyFile.destroy` comes after the commit that removes what they were for.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import struct
import threading
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from memodb.cipher import KEY_BYTES
from memodb.errors import CorruptStore, ReadOnlyStore, StoreClosed, StoreError
from memodb.storage.durable import extents, open_own, saying, sync, write_file

__all__ = ["KeyFile"]

_SLOT = 64
_HEADER = b"memodb keys 1\n".ljust(_SLOT, b"\0")
_FREE = bytes(_SLOT)
_TAG = 8
_NAME = struct.Struct(f">Q{_TAG}s")
_CHECK = _TAG + KEY_BYTES
_END = _CHECK + 8
_REST = bytes(_SLOT - _END)
_PAGE = 64
"""Slots that are read though nobody asked for them, if that saves a call: 4 KiB, which the kernel reads anyway."""
_SPAN = 1 << 14
_BATCH = 1 << 16
_NO_FILE = {None, errno.ELOOP, errno.EISDIR, errno.ENXIO}
_TRIES = 5
_PAUSE = 0.002


class KeyFile:
    """A key service (:class:`memodb.cipher.KeyService`) in one file of the store's, mode 0600.

    One handle writes at a time, which the store's writer lock is for; any number reads, in any process, at any time.
    Nothing of a key is kept between two calls, so what a writer destroyed no reader can have.

    Parameters
    ----------
    path : Path
        A file that :meth:`make` made.
    read_only : bool

    Raises
    ------
    CorruptStore
        It is missing, a link or a pipe, or no key file of this version.
    StoreError
        It cannot be opened.
    """

    kind = "key file"

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self._path = path
        self._read_only = read_only
        self._lock = threading.Lock()  # of the descriptor, for an instant
        self._turn = threading.Lock()  # of those who write
        self._free: array[int] | None = None
        self._descriptor: int | None = None
        try:
            self._descriptor = open_own(path, os.O_RDONLY if read_only else os.O_RDWR)
            header = os.pread(self._descriptor, _SLOT, 0)
        except FileNotFoundError as exc:
            raise CorruptStore(f"{path} is missing, and without its keys nothing can be read: put it back") from exc
        except OSError as exc:
            self.close()
            kind = CorruptStore if exc.errno in _NO_FILE else StoreError
            raise kind(f"the key file {path} cannot be opened: {exc}") from exc
        if header != _HEADER:
            self.close()
            raise CorruptStore(f"{path} is no key file of this version of memodb: put back the one that was there")

    @staticmethod
    def make(path: Path) -> None:
        """Make a key file without keys, durably and whole; one that is there is left alone.

        Apart from opening, because a store whose key file is lost must not get an empty one, and with that be told that
        all its documents were forgotten.

        Raises
        ------
        DiskFull, StoreError, SyncFailed
        """
        with saying(f"{path} cannot be looked at"):
            if path.exists():
                return
        write_file(path, [_HEADER])

    @staticmethod
    def make_of(path: Path, keys: Mapping[bytes, bytes]) -> None:
        """Make a key file of keys that have names like its own: those of a store in memory.

        Raises
        ------
        DiskFull, StoreError, SyncFailed
        """
        slots = {_place(name)[0]: (name, key) for name, key in keys.items()}

        def parts() -> Iterator[bytes]:
            yield _HEADER
            for slot in range(1, max(slots, default=0) + 1):
                if slot not in slots:
                    yield _FREE
                    continue
                name, key = slots[slot]
                tag = _place(name)[1]
                yield (tag + key + _check(tag, key, slot)).ljust(_SLOT, b"\0")

        write_file(path, parts())

    def create(self, count: int) -> list[bytes]:
        """Make so many new keys, durable when this returns; their names, 16 bytes each.

        Raises
        ------
        DiskFull, StoreError, SyncFailed
            Some slots may have been filled: with keys that nobody has a name for.
        """
        with self._writing() as descriptor, saying(f"{self._path} cannot be written"):
            names = []
            try:
                for run in _runs(self._reserved(descriptor, count), 1):
                    data = bytearray()
                    for slot in run:
                        tag, key = secrets.token_bytes(_TAG), secrets.token_bytes(KEY_BYTES)
                        data += (tag + key + _check(tag, key, slot)).ljust(_SLOT, b"\0")
                        names.append(_NAME.pack(slot, tag))
                    _write(descriptor, data, run[0] * _SLOT)
                if names:
                    sync(descriptor, self._path)
            except BaseException:
                self._free = None  # which of the slots were filled is looked up before the next key
                raise
            return names

    def read(self, names: Sequence[bytes]) -> list[bytes | None]:
        """The keys of these names; None where it was destroyed or never made.

        A name that no slot can have, or whose slot lies behind the file's end, was never made.

        Raises
        ------
        CorruptStore
            A slot is damaged: neither free nor a key, nor the key of another name.
        StoreError
            The file cannot be read.
        """
        found: list[bytes | None] = []
        with self._borrowed() as descriptor, saying(f"{self._path} cannot be read"):
            for start in range(0, len(names), _BATCH):
                places = list(map(_place, names[start : start + _BATCH]))
                slots = _slots(descriptor, {slot for slot, _ in places})
                found += [self._key(descriptor, slot, tag, slots.get(slot, _FREE)) for slot, tag in places]
        return found

    def destroy(self, names: Iterable[bytes]) -> int:
        """Overwrite keys with zeros, confirmed by the disk and read back; how many of them were there.

        Needs no space. A damaged slot is overwritten under each name that has its number: whose key it was cannot be
        told any more, and of a key that is to be destroyed nothing may stay.

        Raises
        ------
        StoreError, SyncFailed
            Some may still be there.
        """
        destroyed = array("q")
        with self._writing() as descriptor, saying(f"{self._path} cannot be overwritten"):
            asked = iter(names)
            while batch := list(map(_place, islice(asked, _BATCH))):
                slots = _slots(descriptor, {slot for slot, _ in batch})
                doomed = {slot for slot, tag in batch if _is_of(slots.get(slot, _FREE), slot, tag)}
                for run in _runs(sorted(doomed), 1):
                    _write(descriptor, bytes(len(run) * _SLOT), run[0] * _SLOT)
                destroyed.extend(sorted(doomed))
            if destroyed:
                sync(descriptor, self._path)
            for start in range(0, len(destroyed), _BATCH):
                left = _slots(descriptor, set(destroyed[start : start + _BATCH]))
                if any(data != _FREE for data in left.values()):
                    raise StoreError(f"{self._path} still holds keys after they were overwritten: check the disk")
            if self._free is not None:
                self._free.extend(destroyed)
        return len(destroyed)

    def orphans(self, named: Iterable[bytes]) -> Iterator[bytes]:
        """Names of the keys that are none of these: what a crash between :meth:`create` and a commit leaves.

        A damaged slot whose number one of these has is no orphan: it is that one's, and must be told of when it is
        read, not destroyed. Holds 16 bytes for each name.

        Raises
        ------
        StoreError
            The file cannot be read.
        """
        asked, parts = iter(named), [np.zeros((0, 2), np.uint64)]
        while batch := list(islice(asked, _BATCH)):
            whole = b"".join(name for name in batch if isinstance(name, bytes) and len(name) == _NAME.size)
            parts.append(np.frombuffer(whole, ">u8").astype(np.uint64).reshape(-1, 2))
        pairs = np.concatenate(parts)
        numbers, mixed = np.sort(pairs[:, 0]), np.sort(_mixed(pairs[:, 0], pairs[:, 1]))
        for slots, data in self._used():
            tags = data[:, :_TAG].copy().view(">u8")[:, 0].astype(np.uint64)
            for at in np.flatnonzero(~_among(_mixed(slots, tags), mixed)).tolist():
                slot = int(slots[at])
                if _is_sound(data[at].tobytes(), slot) or not _among(slots[at : at + 1], numbers)[0]:
                    yield from _names(slots[at : at + 1], data[at : at + 1])

    @property
    def count(self) -> int:
        """Slots in use: counted, so ask once."""
        return sum(len(slots) for slots, _ in self._used())

    def close(self) -> None:
        """Close the file; idempotent. Calls that are under way finish."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[int]:
        """A descriptor for the block, which closing the service does not take away."""
        with self._lock:
            if self._descriptor is None:
                raise StoreClosed(f"the key file {self._path} was closed")
            with saying(f"{self._path} cannot be used"):
                descriptor = os.dup(self._descriptor)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[int]:
        if self._read_only:
            raise ReadOnlyStore(f"{self._path} was opened for reading only: keys are made and destroyed by a writer")
        with self._turn, self._borrowed() as descriptor:
            yield descriptor

    def _reserved(self, descriptor: int, count: int) -> list[int]:
        """So many free slots, in order: those that were given up, then new ones at the end."""
        end = max(1, os.fstat(descriptor).st_size // _SLOT)
        if self._free is None:
            self._free = array("q")
            for first, data in _stream(descriptor):
                self._free.extend((np.flatnonzero(~data.view(np.uint64).any(axis=1)) + first).tolist())
        kept = max(0, len(self._free) - max(0, count))
        chosen = sorted(self._free[kept:])
        del self._free[kept:]
        if any(data != _FREE for data in _slots(descriptor, set(chosen)).values()):
            raise StoreError(f"{self._path} was written by another process: close it there, and ask again")
        return [*chosen, *range(end, end + count - len(chosen))]

    def _key(self, descriptor: int, slot: int, tag: bytes, data: bytes) -> bytes | None:
        for attempt in range(_TRIES):
            if data == _FREE:
                return None
            if _is_sound(data, slot):
                return data[_TAG:_CHECK] if data[:_TAG] == tag else None
            # Or half of it: a read beside another process's write sees what has reached the page by then.
            time.sleep(_PAUSE * (attempt > 0))
            data = _slots(descriptor, {slot}).get(slot, _FREE)
        raise CorruptStore(f"slot {slot} of {self._path} is damaged: the key in it is lost, unless a copy has it")

    def _used(self) -> Iterator[tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]]:
        """Numbers (n,) and bytes (n, 64) of the slots in use, some at a time."""
        with self._borrowed() as descriptor, saying(f"{self._path} cannot be read"):
            for first, data in _stream(descriptor):
                used = np.flatnonzero(data.view(np.uint64).any(axis=1))
                yield (used + first).astype(np.uint64), data[used]


def _check(tag: bytes, key: bytes, slot: int) -> bytes:
    whole = tag + key + slot.to_bytes(8, "big")
    return hashlib.blake2b(whole, digest_size=_END - _CHECK, person=b"memodb keys").digest()


def _is_sound(data: bytes, slot: int) -> bool:
    return data[_CHECK:] == _check(data[:_TAG], data[_TAG:_CHECK], slot) + _REST


def _is_of(data: bytes, slot: int, tag: bytes) -> bool:
    """Whether a slot holds the key of this tag, or nobody can tell."""
    return data != _FREE and (data[:_TAG] == tag or not _is_sound(data, slot))


def _place(name: bytes) -> tuple[int, bytes]:
    """Slot and tag of a name; slot 0, which is the header, where it is none."""
    # a catalog's column holds anything, whatever it declares
    slot, tag = _NAME.unpack(name) if isinstance(name, bytes) and len(name) == _NAME.size else (0, b"")
    return slot, tag


def _names(slots: npt.NDArray[np.uint64], data: npt.NDArray[np.uint8]) -> Iterator[bytes]:
    whole = np.hstack([slots.astype(">u8").view(np.uint8).reshape(-1, 8), data[:, :_TAG]]).tobytes()
    for at in range(0, len(whole), _NAME.size):
        yield whole[at : at + _NAME.size]


def _mixed(slots: npt.NDArray[np.uint64], tags: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """One number for slot and tag; tags are random, so that two names share theirs by a chance of 2**-64."""
    return tags ^ (slots * np.uint64(0x9E3779B97F4A7C15))


def _among(numbers: npt.NDArray[np.uint64], ordered: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    if not ordered.size:
        return np.zeros(numbers.size, bool)
    found: npt.NDArray[np.bool_] = ordered[np.searchsorted(ordered, numbers).clip(max=ordered.size - 1)] == numbers
    return found


def _runs(slots: Iterable[int], gap: int) -> Iterator[list[int]]:
    """Slots in order, cut where two lie further apart, and so that each run fits a buffer."""
    run: list[int] = []
    for slot in slots:
        if run and (slot - run[-1] > gap or slot - run[0] >= _SPAN):
            yield run
            run = []
        run.append(slot)
    if run:
        yield run


def _slots(descriptor: int, wanted: set[int]) -> dict[int, bytes]:
    """What these slots hold; those that the file does not have are left out."""
    end = os.fstat(descriptor).st_size // _SLOT
    found = {}
    for run in _runs(sorted(slot for slot in wanted if 0 < slot < end), _PAGE):
        data = os.pread(descriptor, (run[-1] - run[0] + 1) * _SLOT, run[0] * _SLOT)
        for slot in run:
            at = (slot - run[0]) * _SLOT
            if at + _SLOT <= len(data):
                found[slot] = data[at : at + _SLOT]
    return found


def _stream(descriptor: int) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """The file behind its header, but for holes, which hold no key: number of the first slot, and bytes (n, 64)."""
    first = 1
    for start, end in extents(descriptor, os.fstat(descriptor).st_size):
        first = max(first, start // _SLOT)
        while first * _SLOT < end:
            data = os.pread(descriptor, min(_SPAN, -(-end // _SLOT) - first) * _SLOT, first * _SLOT)
            whole = len(data) // _SLOT  # the last slot may have been torn while the file grew
            if not whole:
                break
            yield first, np.frombuffer(data, np.uint8, whole * _SLOT).reshape(-1, _SLOT)
            first += whole


def _write(descriptor: int, data: bytes | bytearray, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written
