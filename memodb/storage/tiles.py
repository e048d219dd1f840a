"""Segment tiles: the matrices of one segment as one immutable file.

A tile is derived: whatever is wrong with one, the segment can be memorised again from its documents. So a tile is
either believed, byte for byte, or not used at all.

Format, version 1 (integers little-endian)::

    offset  size  what
    0       8     magic, b"MEMODB\\x01\\n"
    8       4     H, length of the header, at most 1 MiB
    12      H     header: msgpack map
                    "facts"    map   what the writer says of the segment, opaque here
                    "arrays"   list  of [name, dtype, length, packed size, SHA-256 of the packed bytes]
    12 + H  ...   the arrays, in that order, each one zstd frame of its little-endian bytes

A tile is named by the SHA-256 of its header, which the catalog keeps: the header vouches for the arrays, the catalog
for the header. Every digest is verified before what it covers is decoded.

Rejected: a snapshot of presence bits and popcounts too. They follow from the counts in a tenth of the time that reading
them would take. Rejected: one file per matrix; a segment would then need its own commit point.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
import zstandard

from memodb.errors import CorruptStore, StoreError
from memodb.storage.durable import sync_directory, write_file

__all__ = ["read_tile", "remove_orphans", "write_tile"]

_MAGIC = b"MEMODB\x01\n"
_LENGTH = struct.Struct("<I")
_HEADER_LIMIT = 1 << 20
_DTYPES: dict[str, np.dtype[Any]] = {"u1": np.dtype("<u1"), "i8": np.dtype("<i8"), "u8": np.dtype("<u8")}
_LEVEL = 1
"""zstd level: counts are nearly random bits, so higher levels take longer and save nothing."""

Arrays = Mapping[str, npt.NDArray[Any]]


def write_tile(directory: Path, facts: Mapping[str, Any], arrays: Arrays) -> str:
    """Write a tile.

    Parameters
    ----------
    directory : Path
        Made where it is missing.
    facts : mapping
        What msgpack can carry.
    arrays : mapping of name to uint8, int64 or uint64 array (n,)

    Returns
    -------
    str
        The tile's name: SHA-256 of its header, hexadecimal. Durable when this returns.

    Raises
    ------
    StoreError
        The file cannot be written; nothing of it is left.
    """
    packer = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
    frames, entries = [], []
    for name, array in arrays.items():
        code = array.dtype.kind + str(array.dtype.itemsize)
        frame = packer.compress(np.ascontiguousarray(array, dtype=_DTYPES[code]).data)
        frames.append(frame)
        entries.append([name, code, int(array.size), len(frame), hashlib.sha256(frame).digest()])
    header = msgpack.packb({"facts": dict(facts), "arrays": entries})
    name = hashlib.sha256(header).hexdigest()
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        write_file(directory / name, [_MAGIC, _LENGTH.pack(len(header)), header, *frames])
    except OSError as exc:
        raise StoreError(f"the tile {directory / name} cannot be written: {exc}") from exc
    return name


def read_tile(directory: Path, name: str) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read a tile that :func:`write_tile` named.

    Returns
    -------
    facts : dict
    arrays : dict of name to array
        Read-only where NumPy can share the decoded bytes.

    Raises
    ------
    CorruptStore
        The file is missing, truncated, or differs from what was written; the message names it.
    """
    path = directory / name
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise CorruptStore(f"the tile {path} cannot be read: {exc}") from exc
    start = len(_MAGIC) + _LENGTH.size
    if len(data) < start or not data.startswith(_MAGIC):
        raise CorruptStore(f"{path} is no tile of this version")
    (length,) = _LENGTH.unpack_from(data, len(_MAGIC))
    header = data[start : start + length]
    if length > _HEADER_LIMIT or hashlib.sha256(header).hexdigest() != name:
        raise CorruptStore(f"the header of the tile {path} is damaged")
    stated = msgpack.unpackb(header, max_array_len=4096, max_map_len=4096, max_ext_len=0)
    arrays: dict[str, npt.NDArray[Any]] = {}
    at = start + length
    view = memoryview(data)
    for array, code, size, packed, digest in stated["arrays"]:
        frame = view[at : at + packed]
        if hashlib.sha256(frame).digest() != digest:
            raise CorruptStore(f"{array!r} in the tile {path} is damaged")
        raw = zstandard.ZstdDecompressor().decompress(frame, max_output_size=size * _DTYPES[code].itemsize)
        arrays[array] = np.frombuffer(raw, dtype=_DTYPES[code])
        at += packed
    if at != len(data):
        raise CorruptStore(f"the tile {path} is longer than its header says")
    return stated["facts"], arrays


def remove_orphans(directory: Path, kept: set[str]) -> list[str]:
    """Remove the files of a directory whose names are none of these, durably: superseded tiles, and what a crash left.

    Returns
    -------
    list of str
        The names removed.

    Raises
    ------
    StoreError
        One cannot be removed. It may hold what was deleted, so this is never passed over.
    """
    if not directory.is_dir():
        return []
    orphans = sorted(path for path in directory.iterdir() if path.is_file() and path.name not in kept)
    try:
        for path in orphans:
            path.unlink(missing_ok=True)
        if orphans:
            sync_directory(directory)
    except OSError as exc:
        raise StoreError(f"superseded files in {directory} cannot be removed: {exc}") from exc
    return [path.name for path in orphans]
