"""A tile is believed byte for byte, or not used at all."""

import hashlib
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memodb.errors import CorruptStore, StoreError
from memodb.storage import read_tile, remove_orphans, write_tile

ARRAYS = {
    "symbols": np.arange(5, dtype=np.uint64),
    "cells": np.arange(3000, dtype=np.uint8),
    "large": np.array([2**40, 2**41], dtype=np.int64),
    "none": np.zeros(0, dtype=np.int64),
}
FACTS = {"geometry": {"rows": [1, 2]}, "tokens": 7}


@given(st.lists(st.tuples(st.sampled_from(["<u1", "<i8", "<u8"]), st.integers(0, 300), st.integers(0, 2**32))))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[str, int, int]]) -> None:
    folder = tmp_path_factory.mktemp("tiles")
    arrays = {
        str(number): np.random.default_rng(seed).integers(0, 200, size).astype(kind)
        for number, (kind, size, seed) in enumerate(shapes)
    }
    facts, back = read_tile(folder, write_tile(folder, FACTS, arrays))
    assert facts == FACTS
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        assert np.array_equal(back[name], array)


def test_the_file_is_private_and_no_temporary_is_left(tmp_path: Path) -> None:
    name = write_tile(tmp_path / "segments", FACTS, ARRAYS)
    assert [p.name for p in (tmp_path / "segments").iterdir()] == [name]
    assert (tmp_path / "segments" / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "segments").stat().st_mode & 0o777 == 0o700


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    name = write_tile(tmp_path, FACTS, ARRAYS)
    data = (tmp_path / name).read_bytes()
    generator = random.Random(0)
    for _ in range(2000):
        place, bit = generator.randrange(len(data)), generator.randrange(8)
        damaged = bytearray(data)
        damaged[place] ^= 1 << bit
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(CorruptStore, match=name):
            read_tile(tmp_path, name)


def test_every_truncation_and_extension_is_found(tmp_path: Path) -> None:
    name = write_tile(tmp_path, FACTS, ARRAYS)
    data = (tmp_path / name).read_bytes()
    for size in range(0, len(data), 7):
        (tmp_path / name).write_bytes(data[:size])
        with pytest.raises(CorruptStore):
            read_tile(tmp_path, name)
    (tmp_path / name).write_bytes(data + b"\0")
    with pytest.raises(CorruptStore, match="longer"):
        read_tile(tmp_path, name)
    (tmp_path / name).unlink()
    with pytest.raises(CorruptStore):
        read_tile(tmp_path, name)


def test_a_tile_is_named_by_its_header(tmp_path: Path) -> None:
    """Another sound tile under this name is not the one that the catalog means."""
    name = write_tile(tmp_path, FACTS, ARRAYS)
    other = write_tile(tmp_path, {**FACTS, "tokens": 8}, ARRAYS)
    (tmp_path / other).replace(tmp_path / name)
    with pytest.raises(CorruptStore, match="header"):
        read_tile(tmp_path, name)


def test_nothing_is_decoded_before_its_digest_is_verified(tmp_path: Path) -> None:
    """A header that claims an array of 2**60 items, sealed by nothing, is never looked at."""
    bomb = b"MEMODB\x01\n" + (4).to_bytes(4, "little") + b"\xdf\xff\xff\xff"
    name = hashlib.sha256(b"something else").hexdigest()
    (tmp_path / name).write_bytes(bomb)
    with pytest.raises(CorruptStore, match="header"):
        read_tile(tmp_path, name)


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
    write_tile(tmp_path, FACTS, ARRAYS)
    assert calls == ["file", "rename", "directory"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write_tile(tmp_path, FACTS, ARRAYS)
    assert list(tmp_path.iterdir()) == []


def test_orphans_go_and_named_tiles_stay(tmp_path: Path) -> None:
    name = write_tile(tmp_path, FACTS, ARRAYS)
    orphan = write_tile(tmp_path, {**FACTS, "tokens": 8}, ARRAYS)
    (tmp_path / "0123.tmp").write_bytes(b"half")
    assert remove_orphans(tmp_path, {name}) == sorted(["0123.tmp", orphan])
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert remove_orphans(tmp_path / "missing", set()) == []
