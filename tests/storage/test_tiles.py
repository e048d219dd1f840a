"""A tile is believed byte for byte, or not used at all."""

import hashlib
import os
import random
import struct
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from memodb.errors import CorruptStore, StoreError
from memodb.storage import read_tile, tiles, write_tile

ARRAYS = {
    "symbols": np.arange(5, dtype=np.uint64),
    "cells": np.arange(3000, dtype=np.uint8),
    "large": np.array([2**40, 2**41], dtype=np.int64),
    "none": np.zeros(0, dtype=np.int64),
}
KEY = bytes(range(32))
FACTS = {"geometry": {"rows": [1, 2]}, "tokens": 7}


@given(st.lists(st.tuples(st.sampled_from(["<u1", "<i8", "<u8"]), st.integers(0, 300), st.integers(0, 2**32))))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[str, int, int]]) -> None:
    folder = tmp_path_factory.mktemp("tiles")
    arrays = {
        str(number): np.random.default_rng(seed).integers(0, 200, size).astype(kind)
        for number, (kind, size, seed) in enumerate(shapes)
    }
    facts, back = read_tile(folder, write_tile(folder, FACTS, arrays, KEY), KEY)
    assert facts == FACTS
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        assert np.array_equal(back[name], array)


def test_the_file_is_private_and_no_temporary_is_left(tmp_path: Path) -> None:
    name = write_tile(tmp_path / "segments", FACTS, ARRAYS, KEY)
    assert [p.name for p in (tmp_path / "segments").iterdir()] == [name]
    assert (tmp_path / "segments" / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "segments").stat().st_mode & 0o777 == 0o700


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    name = write_tile(tmp_path, FACTS, ARRAYS, KEY)
    data = (tmp_path / name).read_bytes()
    generator = random.Random(0)
    for _ in range(2000):
        place, bit = generator.randrange(len(data)), generator.randrange(8)
        damaged = bytearray(data)
        damaged[place] ^= 1 << bit
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(CorruptStore, match=name):
            read_tile(tmp_path, name, KEY)


def test_every_truncation_and_extension_is_found(tmp_path: Path) -> None:
    name = write_tile(tmp_path, FACTS, ARRAYS, KEY)
    data = (tmp_path / name).read_bytes()
    for size in range(0, len(data), 7):
        (tmp_path / name).write_bytes(data[:size])
        with pytest.raises(CorruptStore):
            read_tile(tmp_path, name, KEY)
    (tmp_path / name).write_bytes(data + b"\0")
    with pytest.raises(CorruptStore, match="longer"):
        read_tile(tmp_path, name, KEY)
    (tmp_path / name).unlink()
    with pytest.raises(CorruptStore):
        read_tile(tmp_path, name, KEY)


def test_a_tile_is_named_by_its_header(tmp_path: Path) -> None:
    """Another sound tile under this name is not the one that the catalog means."""
    name = write_tile(tmp_path, FACTS, ARRAYS, KEY)
    other = write_tile(tmp_path, {**FACTS, "tokens": 8}, ARRAYS, KEY)
    (tmp_path / other).replace(tmp_path / name)
    with pytest.raises(CorruptStore, match="header"):
        read_tile(tmp_path, name, KEY)


def test_nothing_is_decoded_before_its_digest_is_verified(tmp_path: Path) -> None:
    """A header that claims an array of 2**60 items, sealed by nothing, is never looked at."""
    bomb = b"MEMODB\x02\n" + (4).to_bytes(4, "little") + b"\xdf\xff\xff\xff"
    name = hashlib.sha256(b"something else").hexdigest()
    (tmp_path / name).write_bytes(bomb)
    with pytest.raises(CorruptStore, match="header"):
        read_tile(tmp_path, name, KEY)


def test_write_order_is_file_sync_rename_directory_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    sync, rename = os.fsync, Path.replace

    def traced_sync(descriptor: int) -> None:
        calls.append("directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        sync(descriptor)

    def traced_rename(path: Path, target: Path) -> Path:
        calls.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", traced_sync)
    monkeypatch.setattr(Path, "replace", traced_rename)
    write_tile(tmp_path, FACTS, ARRAYS, KEY)
    assert calls == ["file", "rename", "directory"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write_tile(tmp_path, FACTS, ARRAYS, KEY)
    assert list(tmp_path.iterdir()) == []


# -- what only a key opens ---------------------------------------------------------------------------------------------


def opened(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and body of a tile, read as the format says."""
    data = path.read_bytes()
    assert data[:8] == b"MEMODB\x02\n"
    (length,) = struct.unpack_from("<I", data, 8)
    return msgpack.unpackb(data[12 : 12 + length]), data[12 + length :]


def resealed(folder: Path, header: dict[str, Any], body: bytes) -> str:
    """A tile of this header and body, with every digest right, as somebody makes it who may write the catalog."""
    at = 0
    for entry in header["arrays"]:
        entry[4] = hashlib.sha256(body[at : at + entry[3]]).digest()
        at += entry[3]
    packed = msgpack.packb(header)
    name = hashlib.sha256(packed).hexdigest()
    (folder / name).write_bytes(b"MEMODB\x02\n" + struct.pack("<I", len(packed)) + packed + body)
    return name


def test_without_its_key_a_tile_is_said_to_have_none(tmp_path: Path) -> None:
    name = write_tile(tmp_path, FACTS, ARRAYS, KEY)
    for key in (None, bytes(32), KEY[::-1], b"", KEY[:16]):
        with pytest.raises(CorruptStore, match=f"{name}.*destroyed"):
            read_tile(tmp_path, name, key)
    damaged = bytearray((tmp_path / name).read_bytes())
    damaged[-1] ^= 1
    (tmp_path / name).write_bytes(damaged)
    with pytest.raises(CorruptStore, match="is damaged"):  # which is not taken for forgetting
        read_tile(tmp_path, name, KEY)


def test_an_older_memodbs_tile_is_said_to_be_one(tmp_path: Path) -> None:
    name = write_tile(tmp_path, FACTS, ARRAYS, KEY)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data.replace(b"MEMODB\x02\n", b"MEMODB\x01\n"))
    with pytest.raises(CorruptStore, match="an older memodb wrote it, and the documents decide"):
        read_tile(tmp_path, name, KEY)


def test_nothing_of_an_array_is_in_the_file(tmp_path: Path) -> None:
    secret = np.frombuffer(random.Random(5).randbytes(4096), np.uint8)  # noise, which zstd stores as it is
    data = (tmp_path / write_tile(tmp_path, FACTS, {"secret": secret}, KEY)).read_bytes()
    assert not any(secret.tobytes()[at : at + 8] in data for at in range(0, 4096, 8))
    assert hashlib.sha256(secret.tobytes()).digest() not in data


def test_the_same_memory_twice_is_two_tiles(tmp_path: Path) -> None:
    """Else a digest would let anybody who has the old one test whether a segment came back to what it was."""
    assert len({write_tile(tmp_path, FACTS, ARRAYS, bytes([number]) * 32) for number in range(5)}) == 5


@pytest.mark.parametrize("piece", [16, 100, 1 << 26])
def test_pieces_have_a_number_each_and_the_cipher_is_the_standard_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """An independent reader: AES-GCM with the documented numbers gives back each frame."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    numbers: list[int] = []
    real = tiles.encrypt
    monkeypatch.setattr(tiles, "_PIECE", piece)
    monkeypatch.setattr(
        tiles, "encrypt", lambda key, number, *rest: (numbers.append(number), real(key, number, *rest))[1]
    )
    name = write_tile(tmp_path, FACTS, ARRAYS, KEY)
    assert len(set(numbers)) == len(numbers) >= 4
    facts, back = read_tile(tmp_path, name, KEY)
    assert facts == FACTS
    assert all(np.array_equal(back[name], array) for name, array in ARRAYS.items())
    header, body = opened(tmp_path / name)
    at = 0
    for index, (title, code, length, packed, _) in enumerate(header["arrays"]):
        digest = hashlib.sha256(msgpack.packb(FACTS)).digest()
        about = b"MEMODB\x02\n" + msgpack.packb([digest, title, code, length, packed])
        frame, end, chunk = b"", at + packed, 0
        while at < end:
            chunk, part = chunk + 1, body[at : min(end, at + piece + 16)]
            frame += AESGCM(KEY).decrypt((index << 32 | chunk).to_bytes(12, "big"), part, about)
            at += len(part)
        assert zstandard.ZstdDecompressor().decompress(frame) == ARRAYS[title].tobytes()
    assert at == len(body)
    assert numbers == sorted(numbers)


def test_frames_cannot_be_exchanged_dropped_or_said_to_be_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By somebody who may write every file and row, and has no key."""
    monkeypatch.setattr(tiles, "_PIECE", 64)
    noise = random.Random(0).randbytes
    arrays = {name: np.frombuffer(noise(183), np.uint8) for name in ("a", "b")}  # frames of 192 bytes: three pieces
    name = write_tile(tmp_path, FACTS, arrays, KEY)
    header, body = opened(tmp_path / name)
    size = header["arrays"][0][3]
    assert size == 3 * 80

    def changed(number: int) -> tuple[dict[str, Any], bytes]:
        said, parts = opened(tmp_path / name)
        pieces = [parts[at : at + 80] for at in range(0, len(parts), 80)]
        first, second = said["arrays"]
        if number == 0:  # the arrays' frames
            pieces = pieces[3:] + pieces[:3]
        elif number == 1:  # their names, the frames staying
            first[0], second[0] = second[0], first[0]
        elif number == 2:  # two pieces of one
            pieces[0], pieces[1] = pieces[1], pieces[0]
        elif number == 3:  # the last piece of the first left out
            del pieces[2]
            first[3] -= 80
        elif number == 4:
            said["facts"]["tokens"] += 1
        elif number == 5:
            first[2] -= 1
        elif number == 6:  # a piece of the other in its place
            pieces[1] = pieces[4]
        elif number == 7:  # the order of both
            said["arrays"] = [second, first]
            pieces = pieces[3:] + pieces[:3]
        return said, b"".join(pieces)

    assert read_tile(tmp_path, resealed(tmp_path, header, body), KEY)[0] == FACTS
    for number in range(8):
        with pytest.raises(CorruptStore, match=r"of another key|contradicts"):
            read_tile(tmp_path, resealed(tmp_path, *changed(number)), KEY)
    other = write_tile(tmp_path, FACTS, arrays, bytes(32))
    with pytest.raises(CorruptStore, match="of another key"):
        read_tile(tmp_path, resealed(tmp_path, header, opened(tmp_path / other)[1]), KEY)


@pytest.mark.parametrize("packed", [0, 1, 16, (1 << 26) + 16 + 1, (1 << 26) + 32])
def test_sizes_that_no_encrypted_frame_has_are_refused(packed: int) -> None:
    entry = ["a", "u1", (1 << 26) if packed > 99 else 0, packed, bytes(32)]
    with pytest.raises(CorruptStore, match="no encrypted frame"):
        tiles.decode_header(msgpack.packb({"facts": {}, "arrays": [entry]}))
