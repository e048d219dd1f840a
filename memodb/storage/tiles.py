"""Segment tiles: the matrices of one segment as one immutable file.

A tile is derived: whatever is wrong with one, the segment can be memorised again from its documents. So a tile is
either believed, byte for byte, or not used at all.

Format, version 1 (integers little-endian)::

    offset  size  what
    0       8     magic, b"MEMODB\\x02\\n"
    8       4     H, length of the header, at most 64 KiB
    12      H     header: msgpack map, in the one spelling that msgpack.packb has for it
                    "facts"    map   what the writer says of the segment, opaque here: JSON's values, 8 levels deep
                    "arrays"   list  of [name, dtype, length, packed size, SHA-256 of the packed bytes]
    12 + H  ...   the arrays, in that order, and nothing after them: of each the zstd frame of its little-endian bytes,
                  encrypted 64 MiB at a time, each piece 16 bytes longer than what it holds

A tile is named by the SHA-256 of its header, which the catalog keeps: the header vouches for the arrays, the catalog
for the header. Every digest is verified before what it covers is decoded.

A memory is text, to whoever has the seed: so its arrays are encrypted, under a key that belongs to this tile alone and
is kept elsewhere (`memodb.cipher`), and destroying the key destroys every copy of the tile that a device or a snapshot
keeps. Piece p (from 0) of array a has the number a << 32 | p + 1, and is bound to the facts and to what the header says
of its array's name, type and sizes, so that no piece can stand in another's place, and none be left out. The header
stays readable and says how many documents and tokens a segment has, never which; its digests are of encrypted bytes,
with which no guess at a text can be tested.

Digests find damage; they do not stop somebody who writes the catalog's row too. So every claim is checked before it is
acted on, and what a tile can cost is bounded: a header of 64 KiB decodes within 8 MiB; an array is allocated when the
file is as long as the header says and the frame itself states the array's size, which a frame of that length can hold;
and `read_tile` takes a limit from the caller, who knows the segment's shape.

Rejected: a snapshot of presence bits and popcounts too. They follow from the counts in a tenth of the time that reading
them would take. Rejected: one file per matrix; a segment would then need its own commit point.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
import struct
from collections.abc import Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgpack
import numpy as np
import numpy.typing as npt
import zstandard

from memodb.cipher import TAG_BYTES, decrypt, encrypt
from memodb.errors import CorruptStore, StoreError
from memodb.storage.durable import destroy_file, open_own, saying, sync_directory, write_file

__all__ = [
    "HEADER_LIMIT",
    "Destroyed",
    "Entry",
    "Header",
    "decode_header",
    "decode_tile",
    "destroy_orphans",
    "read_tile",
    "write_tile",
]

HEADER_LIMIT = 1 << 16
"""Bytes of a header: thirty times the largest that a configuration allows. A byte of it decodes to 72 at most."""

_MAGIC = b"MEMODB\x02\n"
_OLDER = b"MEMODB\x01\n"
_PIECE = 1 << 26
_LENGTH = struct.Struct("<I")
_START = len(_MAGIC) + _LENGTH.size
_DTYPES: dict[str, np.dtype[Any]] = {code: np.dtype(f"<{code}") for code in ("u1", "i8", "u8", "f4")}
_LEVEL = 1
"""zstd level: counts are nearly random bits, so higher levels take longer and save nothing."""

_WORTH_THREADS = 1 << 20
"""Bytes of arrays that take so many milliseconds that starting threads does not matter."""

_MOST_ARRAYS = 256
_MOST_MEMBERS = 256
_MOST_NAME = 64
_DEEPEST = 8
_LARGEST = 1 << 48
"""Items or bytes that one array may claim: products of these stay far below 2**63."""
_BLOCK_BYTES = 1 << 17
_SMALLEST_BLOCK = 4
_NAME = re.compile(r"[0-9a-f]{64}")

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Entry:
    """What a header says of one array: its name, type, items, and the bytes and SHA-256 of its frame."""

    name: str
    dtype: np.dtype[Any]
    length: int
    packed: int
    digest: bytes

    @property
    def nbytes(self) -> int:
        """Bytes of the array, decoded."""
        return self.length * self.dtype.itemsize

    @property
    def frame(self) -> int:
        """Bytes of its frame, decrypted."""
        return self.packed - TAG_BYTES * -(-self.packed // (_PIECE + TAG_BYTES))


@dataclass(frozen=True)
class Header:
    """A header that holds what it must, and nothing else."""

    facts: dict[str, Any]
    arrays: tuple[Entry, ...]


@dataclass(frozen=True)
class Destroyed:
    """What :func:`destroy_orphans` did: the names of the files that are gone, and the bytes it overwrote in them."""

    names: tuple[str, ...]
    nbytes: int


def write_tile(directory: Path, facts: Mapping[str, Any], arrays: Arrays, key: bytes) -> str:
    """Write a tile.

    Parameters
    ----------
    directory : Path
        Made where it is missing; a symbolic link is refused.
    facts : mapping
        Values that JSON has, at most 8 levels deep.
    arrays : mapping of name to uint8, int64, uint64 or float32 array (n,)
    key : bytes (32,)
        For this call alone: whether it succeeds or not, the key must never be given to another.

    Returns
    -------
    str
        The tile's name: SHA-256 of its header, hexadecimal. Durable when this returns.

    Raises
    ------
    StoreError
        The file cannot be written; nothing of it is left.
    """
    sealed = partial(_sealed, dict(facts), key)
    given = list(enumerate(arrays.items()))
    if sum(array.nbytes for array in arrays.values()) < _WORTH_THREADS:
        written = list(map(sealed, given))
    else:  # zstandard and hashlib let go of the interpreter's lock
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            written = list(pool.map(sealed, given))
    entries = [entry for entry, _ in written]
    parts = [piece for _, pieces in written for piece in pieces]
    header = msgpack.packb({"facts": dict(facts), "arrays": entries})
    try:
        decode_header(header)
    except CorruptStore as exc:  # better no checkpoint than one that no reader takes
        raise StoreError(f"a tile cannot carry what it was given: {exc}") from exc
    name = hashlib.sha256(header).hexdigest()
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        _require_own(directory)
        write_file(directory / name, [_MAGIC, _LENGTH.pack(len(header)), header, *parts])
    except OSError as exc:
        raise StoreError(f"the tile {directory / name} cannot be written: {exc}") from exc
    return name


def _sealed(
    facts: Mapping[str, Any], key: bytes, numbered: tuple[int, tuple[str, npt.NDArray[Any]]]
) -> tuple[list[Any], list[bytes]]:
    """What the header says of an array, by its number, and its encrypted pieces."""
    index, (name, array) = numbered
    packer = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
    code = array.dtype.kind + str(array.dtype.itemsize)
    frame = memoryview(packer.compress(np.ascontiguousarray(array, dtype=_DTYPES[code]).data))
    starts = range(0, len(frame), _PIECE)
    packed = len(frame) + TAG_BYTES * len(starts)
    about, state = _about(facts, name, code, int(array.size), packed), hashlib.sha256()
    pieces = []
    for number, at in enumerate(starts, index << 32 | 1):
        pieces.append(encrypt(key, number, frame[at : at + _PIECE], about))
        state.update(pieces[-1])
    return [name, code, int(array.size), packed, state.digest()], pieces


def _about(facts: Mapping[str, Any], *entry: str | int) -> bytes:
    """What a piece is bound to: the format, the facts, and what the header says of its array."""
    return _MAGIC + bytes(msgpack.packb([hashlib.sha256(msgpack.packb(dict(facts))).digest(), *entry]))


def read_tile(
    directory: Path, name: str, key: bytes | None, *, limit: int | None = None
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read a tile that :func:`write_tile` named.

    Parameters
    ----------
    name : str
        64 hexadecimal digits. Anything else names no tile, so that no row of a catalog can lead out of the directory;
        nor can a symbolic link.
    key : bytes (32,) or None
        That it was written with; None where it was destroyed.
    limit : int, optional
        Bytes that all arrays together may take; checked before the first is decoded.

    Returns
    -------
    facts : dict
    arrays : dict of name to array
        Read-only: NumPy shares the decoded bytes.

    Raises
    ------
    CorruptStore
        The file is missing, truncated, claims more than the limit, or differs from what was written; or the key was
        destroyed, or is another; or an older memodb wrote it. The message names it. Whatever it is, the segment can be
        memorised again from its documents.
    """
    path = directory / str(name)
    try:
        with _open(directory, name) as file:
            return decode_tile(file, os.fstat(file.fileno()).st_size, name, key, limit=limit)
    except CorruptStore as exc:
        raise CorruptStore(f"the tile {path}: {exc}") from exc
    except OSError as exc:
        raise CorruptStore(f"the tile {path} cannot be read: {exc}") from exc


def _open(directory: Path, name: str) -> BinaryIO:
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise CorruptStore("its name is not the digest of a header")
    # Relative to a directory that is none of a link's.
    parent = os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY)
    try:
        return os.fdopen(open_own(name, directory=parent), "rb")
    finally:
        os.close(parent)


def decode_tile(
    file: BinaryIO, size: int, name: str, key: bytes | None, *, limit: int | None = None
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Facts and arrays from the bytes of a tile: see :func:`read_tile`. Holds a frame and two pieces beside the arrays.

    Parameters
    ----------
    file : binary file at its beginning
    size : int
        Bytes of the file.
    """
    start = file.read(_START)
    if len(start) < _START or not start.startswith(_MAGIC):
        older = "; an older memodb wrote it, and the documents decide" if start.startswith(_OLDER) else ""
        raise CorruptStore(f"it is no tile of this version{older}")
    (length,) = _LENGTH.unpack_from(start, len(_MAGIC))
    if length > HEADER_LIMIT:
        raise CorruptStore(f"it claims a header of {length} bytes, more than {HEADER_LIMIT}")
    header = file.read(length)
    if hashlib.sha256(header).hexdigest() != name:
        raise CorruptStore("its header is damaged, or another tile's")
    stated = decode_header(header)
    end = _START + length + sum(entry.packed for entry in stated.arrays)
    if end != size:
        raise CorruptStore(f"it is {'longer' if size > end else 'shorter'} than its header says")
    nbytes = sum(entry.nbytes for entry in stated.arrays)
    if limit is not None and nbytes > limit:
        raise CorruptStore(f"it claims {nbytes} bytes of arrays where {limit} are the most")
    if key is None:
        raise CorruptStore("its key was destroyed, and with it what it held")
    arrays = {}
    for index, entry in enumerate(stated.arrays):
        arrays[entry.name] = _decode_array(entry, _decrypt_frame(file, stated.facts, index, entry, key))
    return stated.facts, arrays


def decode_header(header: bytes) -> Header:
    """What a header says, every claim of it checked.

    Raises
    ------
    CorruptStore
        It is not what `write_tile` writes: another shape, another type, a number out of range, a name that comes twice,
        or another spelling of the same.
    """
    if len(header) > HEADER_LIMIT:
        raise CorruptStore(f"a header of {len(header)} bytes is larger than {HEADER_LIMIT}")
    try:
        stated = msgpack.unpackb(
            header, max_array_len=_MOST_ARRAYS, max_map_len=_MOST_MEMBERS, max_ext_len=0, strict_map_key=True
        )
    except (ValueError, msgpack.UnpackException) as exc:
        raise CorruptStore(f"its header cannot be unpacked: {exc}") from exc
    if not isinstance(stated, dict) or list(stated) != ["facts", "arrays"]:
        raise CorruptStore("its header is no map of facts and arrays")
    facts, arrays = stated["facts"], stated["arrays"]
    if not isinstance(facts, dict) or not isinstance(arrays, list):
        raise CorruptStore("its header is no map of facts and arrays")
    _require_plain(facts, _DEEPEST)
    entries = tuple(map(_entry, arrays))
    if len({entry.name for entry in entries}) != len(entries):
        raise CorruptStore("its header names an array twice")
    # Two spellings would be two names of one tile; and a map whose key comes twice shows here, as nowhere else.
    if msgpack.packb(stated) != header:
        raise CorruptStore("its header is not spelt as it would be written")
    return Header(facts, entries)


def _entry(stated: Any) -> Entry:
    if not isinstance(stated, list) or len(stated) != 5:
        raise CorruptStore("its header describes an array by other than five things")
    name, code, length, packed, digest = stated
    if not isinstance(name, str) or not 0 < len(name) <= _MOST_NAME:
        raise CorruptStore("its header gives an array no proper name")
    if not isinstance(code, str) or code not in _DTYPES:
        raise CorruptStore(f"its header gives array {name!r} an unknown type")
    for number in (length, packed):
        # type(), not isinstance(): True is an int to Python
        if type(number) is not int or not 0 <= number < _LARGEST:
            raise CorruptStore(f"its header gives array {name!r} an impossible size")
    if not isinstance(digest, bytes) or len(digest) != hashlib.sha256().digest_size:
        raise CorruptStore(f"its header gives array {name!r} no digest")
    entry = Entry(name, _DTYPES[code], length, packed, digest)
    if entry.frame <= 0 or packed % (_PIECE + TAG_BYTES) in range(1, TAG_BYTES + 1):
        raise CorruptStore(f"{packed} bytes are no encrypted frame: its header on array {name!r}")
    if entry.nbytes > (entry.frame // _SMALLEST_BLOCK + 1) * _BLOCK_BYTES:
        raise CorruptStore(f"{packed} bytes cannot hold the {entry.nbytes} that its header promises of array {name!r}")
    # else a sparse file of a terabyte, which costs its writer nothing, would be read to find out that it is wrong
    if entry.frame > entry.nbytes + entry.nbytes // 64 + 1024:
        raise CorruptStore(f"{packed} bytes are more than {entry.nbytes} ever take: its header on array {name!r}")
    return entry


def _require_plain(value: Any, depth: int) -> None:
    """Refuse what JSON has no word for, and what is nested so deep that comparing it would end in a RecursionError."""
    if isinstance(value, dict | list):
        if depth == 0:
            raise CorruptStore("the facts in its header are nested too deep")
        if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
            raise CorruptStore("the facts in its header have a key that is no text")
        for item in value.values() if isinstance(value, dict) else value:
            _require_plain(item, depth - 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise CorruptStore("the facts in its header hold a number that is none")
    elif value is not None and not isinstance(value, str | int):
        raise CorruptStore(f"the facts in its header hold a {type(value).__name__}")


def _decrypt_frame(file: BinaryIO, facts: Mapping[str, Any], index: int, entry: Entry, key: bytes) -> bytearray:
    """The frame of an array, from where the file stands.

    Read once: each piece is decrypted as it comes, and what is wrong with it told when the digest of all is known,
    because a key that fits nothing and a damaged piece look alike to the cipher.
    """
    about = _about(facts, entry.name, entry.dtype.str[1:], entry.length, entry.packed)
    frame, state, refused = bytearray(entry.frame), hashlib.sha256(), False
    for number, at in enumerate(range(0, entry.frame, _PIECE), index << 32 | 1):
        part = file.read(min(_PIECE, entry.frame - at) + TAG_BYTES)
        state.update(part)
        if not refused:
            try:
                frame[at : at + _PIECE] = decrypt(key, number, part, about)
            except CorruptStore:
                refused = True
    if state.digest() != entry.digest:
        raise CorruptStore(f"array {entry.name!r} is damaged")
    if refused:
        raise CorruptStore(f"array {entry.name!r} is of another key: the one it was written with was destroyed")
    return frame


def _decode_array(entry: Entry, frame: bytearray) -> npt.NDArray[Any]:
    try:
        # The decompressor allocates what the frame claims, whatever limit it is given: so the claim is read first.
        if zstandard.get_frame_parameters(frame).content_size != entry.nbytes:
            raise CorruptStore(f"the frame of array {entry.name!r} contradicts the header")
        if not entry.nbytes:
            # decompress() looks no further than a content size of 0, whatever follows it
            stream = zstandard.ZstdDecompressor().decompressobj()
            if stream.decompress(frame) or not stream.eof or stream.unused_data:
                raise CorruptStore(f"the frame of array {entry.name!r} holds more than an empty array")
        raw = zstandard.ZstdDecompressor().decompress(frame, max_output_size=entry.nbytes, allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError) as exc:
        raise CorruptStore(f"array {entry.name!r} cannot be decoded: {exc}") from exc
    if len(raw) != entry.nbytes:
        raise CorruptStore(f"array {entry.name!r} has {len(raw)} bytes where {entry.nbytes} were promised")
    return np.frombuffer(raw, dtype=entry.dtype)


def destroy_orphans(directory: Path, kept: Set[str]) -> Destroyed:
    """Overwrite and remove the files of a directory whose names are none of these, durably: superseded tiles, and what
    a crash left.

    Directories stay. Links and pipes go as what they are, and a file that has another name as well is only removed:
    nothing is done to what is somebody else's too. Whatever a crash leaves of this, the next call goes on with.

    Raises
    ------
    StoreError
        One cannot be overwritten or removed. It may hold what was deleted, so this is never passed over; DiskFull where
        the file system needs space even for that. Or the directory is a symbolic link: the files behind it are somebody
        else's.
    SyncFailed
        The disk did not confirm it.
    """
    with saying(f"superseded files in {directory} cannot be destroyed"):
        if not _require_own(directory):
            return Destroyed((), 0)
        with os.scandir(directory) as found:
            orphans = sorted(e.name for e in found if e.name not in kept and not e.is_dir(follow_symlinks=False))
        nbytes = sum(destroy_file(directory / name) for name in orphans)
        if orphans:
            sync_directory(directory)
    return Destroyed(tuple(orphans), nbytes)


def _require_own(directory: Path) -> bool:
    """Whether the directory is there.

    Raises
    ------
    StoreError
        Its name is a symbolic link, or no directory.
    """
    try:
        mode = directory.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(mode):
        raise StoreError(f"{directory} is a link or a file, not a directory of the store: remove it")
    return True
