"""Mutated headers, tiles and blobs: CorruptStore, or something that holds together; never another exception.

Digests are made to be right wherever a mutation would be found by them alone: the decoder behind them is
tested.
At ``MEMODB_STRESS=10`` the stress test covers eight million mutations.
"""

import hashlib
import io
import random
import struct
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import msgpack
import numpy as np
import pytest
import zstandard

from memodb.catalog import codec
from memodb.errors import CorruptStore
from memodb.storage import tiles

ARRAYS = {
    "symbols": np.arange(1, 6, dtype=np.uint64) * 7919,
    "cells 0": np.random.default_rng(0).integers(0, 3, 700).astype(np.uint8),
    "large 0": np.array([5, 9], dtype=np.int64),
    "large_counts 0": np.zeros(0, dtype=np.int64),
}
FACTS = {"geometry": {"rows": [8, 8], "provenance_rows": 8, "ordinal": 0}, "tokens": 7}
LIMIT = 1 << 20
MAGIC = b"MEMODB\x01\n"


def stated(arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], list[bytes]]:
    frames = [zstandard.ZstdCompressor(level=1).compress(array.tobytes()) for array in arrays.values()]
    entries = [
        [name, array.dtype.kind + str(array.dtype.itemsize), array.size, len(frame), hashlib.sha256(frame).digest()]
        for (name, array), frame in zip(arrays.items(), frames, strict=True)
    ]
    return {"facts": FACTS, "arrays": entries}, frames


HEADER, FRAMES = stated(ARRAYS)
PLAIN: tuple[type, ...] = (dict, list, str, int, float, bool, type(None))


def require_plain(value: Any, depth: int = 0) -> None:
    assert depth < 64
    assert type(value) in PLAIN
    for item in value.items() if isinstance(value, dict) else value if isinstance(value, list) else ():
        require_plain(list(item) if isinstance(item, tuple) else item, depth + 1)


def header(data: bytes) -> bool:
    """Whether a header is accepted; if so it must say what its bytes say, within bounds."""
    try:
        found = tiles.decode_header(data)
    except CorruptStore:
        return False
    codes = [entry.dtype.kind + str(entry.dtype.itemsize) for entry in found.arrays]
    entries = [[e.name, c, e.length, e.packed, e.digest] for e, c in zip(found.arrays, codes, strict=True)]
    assert msgpack.packb({"facts": found.facts, "arrays": entries}) == data
    assert set(codes) <= {"u1", "i8", "u8"}
    assert len({e.name for e in found.arrays}) == len(found.arrays)
    for e in found.arrays:
        assert type(e.length) is int
        assert 0 <= e.length * e.dtype.itemsize < 2**52
        assert 0 <= e.packed <= e.length * e.dtype.itemsize * 2 + 2048
        assert len(e.digest) == 32
    require_plain(found.facts)
    return True


def tile(data: bytes, name: str) -> bool:
    """Whether a tile is accepted; if so its arrays must be what an independent decoder makes of its frames."""
    try:
        facts, arrays = tiles.decode_tile(io.BytesIO(data), len(data), name, limit=LIMIT)
    except CorruptStore:
        return False
    (length,) = struct.unpack_from("<I", data, 8)
    said = msgpack.unpackb(data[12 : 12 + length])
    assert said["facts"] == facts
    assert list(arrays) == [entry[0] for entry in said["arrays"]]
    at = 12 + length
    for name_, code, items, packed, digest in said["arrays"]:
        frame = data[at : at + packed]
        at += packed
        whole = zstandard.ZstdDecompressor().stream_reader(frame, read_across_frames=True).read(LIMIT + 1)
        assert hashlib.sha256(frame).digest() == digest
        assert arrays[name_].tobytes() == whole
        assert arrays[name_].shape == (items,)
        assert arrays[name_].dtype == np.dtype(f"<{code}")
    assert at == len(data)
    return True


def tokens(data: bytes) -> bool:
    try:
        found = codec.decode_tokens(data)
    except CorruptStore:
        return False
    assert found.dtype == np.int32
    assert codec.decode_tokens(codec.encode_tokens(found)).tolist() == found.tolist()
    return True


def text(data: bytes) -> bool:
    try:
        found = codec.decode_text(data)
    except CorruptStore:
        return False
    assert codec.decode_text(codec.encode_text(found)) == found
    return True


class Generator:
    """Mutants of each kind, a function of the seed."""

    def __init__(self, mutations: ModuleType, seed: int) -> None:
        self.rng = random.Random(seed)
        self.mutations = mutations
        small = np.random.default_rng(1)
        self.headers = [msgpack.packb(HEADER), msgpack.packb({"facts": {}, "arrays": []})]
        self.tokens = [
            codec.encode_tokens(array)
            for array in (
                np.arange(0),
                np.arange(3),
                np.arange(400) % 7,
                small.integers(0, 60_000, 40),
                small.integers(0, 2**31 - 1, 20),
                np.full(3000, 70_000),
            )
        ]
        self.texts = [codec.encode_text(each) for each in ("", "a", "gruß \U0001f600", "the same again " * 40)]

    def header(self) -> bool:
        return header(self.mutations.mutated(self.rng, self.headers))

    def value(self) -> bool:
        """A header of the right spelling and wrong values."""
        return header(msgpack.packb(self.mutations.exchanged(self.rng, HEADER)))

    def raw_tile(self) -> bool:
        """Any byte of a tile, and the name that the result must have."""
        data = self.mutations.mutated(self.rng, [WHOLE])
        (length,) = struct.unpack_from("<I", data, 8) if len(data) >= 12 else (0,)
        return tile(data, hashlib.sha256(data[12 : 12 + length]).hexdigest())

    def sealed_tile(self) -> bool:
        """A mutated frame, or a mutated claim about one, behind digests and sizes that are right."""
        frames = list(FRAMES)
        at = self.rng.randrange(len(frames))
        entries = [list(entry) for entry in HEADER["arrays"]]
        if self.rng.random() < 0.8:
            frames[at] = self.mutations.mutated(self.rng, FRAMES)
            entries[at][3:] = [len(frames[at]), hashlib.sha256(frames[at]).digest()]
        if self.rng.random() < 0.5:
            entries[at][2] = self.rng.choice((0, 1, 2, 5, 40, 87, 88, 699, 700, 701, 5600, 1 << 16, 1 << 20))
        if self.rng.random() < 0.2:
            entries[at][1] = self.rng.choice(("u1", "i8", "u8"))
        packed = msgpack.packb({"facts": FACTS, "arrays": entries})
        data = MAGIC + struct.pack("<I", len(packed)) + packed + b"".join(frames)
        return tile(data, hashlib.sha256(packed).hexdigest())

    def blob(self) -> bool:
        return tokens(self.mutations.mutated(self.rng, self.tokens))

    def stored_text(self) -> bool:
        return text(self.mutations.mutated(self.rng, self.texts))


WHOLE = MAGIC + struct.pack("<I", len(msgpack.packb(HEADER))) + msgpack.packb(HEADER) + b"".join(FRAMES)
ROUND = ("header", "header", "header", "value", "raw_tile", "sealed_tile", "blob", "stored_text")


@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.stress)], ids=["sample", "full"])
def test_mutations_are_refused_or_hold_together(
    beside: Callable[[str], ModuleType], size: Callable[..., int], covered: Callable[..., None], long: bool
) -> None:
    generator = Generator(beside("mutations"), seed=20 + long)
    accepted: Counter[str] = Counter()
    rounds = size(4_000, 100_000, long=long)
    for _ in range(rounds):
        for kind in ROUND:
            accepted[kind] += getattr(generator, kind)()
    covered(mutations=rounds * len(ROUND), accepted=dict(accepted))
    assert all(accepted[kind] for kind in ("header", "value", "sealed_tile", "blob", "stored_text")), "too blunt"


def test_the_seeds_are_accepted() -> None:
    assert header(msgpack.packb(HEADER))
    assert tile(WHOLE, hashlib.sha256(msgpack.packb(HEADER)).hexdigest())
