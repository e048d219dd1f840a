"""Mutated headers, tiles and blobs: CorruptStore, or something that holds together; never another exception.

Digests are made to be right, and frames encrypted as they should be, wherever a mutation would be found by that alone:
the decoder behind them is tested. Of what is encrypted, and then mutated, nothing may ever be accepted.
At ``MEMODB_STRESS=10`` the stress test covers eight million mutations.
"""

import hashlib
import io
import random
import struct
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import msgpack
import numpy as np
import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from memodb.catalog import codec
from memodb.cipher import decrypt
from memodb.errors import CorruptStore
from memodb.proof import OPS, Entry
from memodb.storage import tiles

ARRAYS = {
    "symbols": np.arange(1, 6, dtype=np.uint64) * 7919,
    "cells 0": np.random.default_rng(0).integers(0, 3, 700).astype(np.uint8),
    "large 0": np.array([5, 9], dtype=np.int64),
    "large_counts 0": np.zeros(0, dtype=np.int64),
}
FACTS = {"geometry": {"rows": [8, 8], "provenance_rows": 8, "ordinal": 0}, "tokens": 7}
LIMIT = 1 << 20
FRAMES = [zstandard.ZstdCompressor(level=1).compress(array.tobytes()) for array in ARRAYS.values()]
CODES = [array.dtype.kind + str(array.dtype.itemsize) for array in ARRAYS.values()]
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


def tile(bombs: Any, data: bytes, name: str) -> bool:
    """Whether a tile is accepted; if so its arrays must be what an independent decoder makes of its frames."""
    try:
        facts, arrays = tiles.decode_tile(io.BytesIO(data), len(data), name, bombs.KEY, limit=LIMIT)
    except CorruptStore:
        return False
    (length,) = struct.unpack_from("<I", data, 8)
    said = msgpack.unpackb(data[12 : 12 + length])
    assert said["facts"] == facts
    assert list(arrays) == [entry[0] for entry in said["arrays"]]
    at = 12 + length
    for index, (name_, code, items, packed, digest) in enumerate(said["arrays"]):
        piece = data[at : at + packed]
        at += packed
        about = bombs.binding(facts, name_, code, items, packed)
        frame = AESGCM(bombs.KEY).decrypt((index << 32 | 1).to_bytes(12, "big"), piece, about)
        whole = zstandard.ZstdDecompressor().stream_reader(frame, read_across_frames=True).read(LIMIT + 1)
        assert hashlib.sha256(piece).digest() == digest
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


def line(data: bytes) -> bool:
    try:
        found = Entry.from_bytes(data)
    except CorruptStore:
        return False
    assert found.to_bytes() == data
    assert found.op in OPS
    return True


LINES = [
    Entry(0, datetime(2026, 5, 1, tzinfo=UTC), "key", None, "0123456789abcdef").to_bytes(),
    Entry(
        17, datetime(2026, 5, 1, 8, 30, 1, 7, tzinfo=UTC), "hold", "00" * 8, "ff" * 16, "dpo-2", "case-17"
    ).to_bytes(),
    Entry(
        2**53 - 1, datetime(2026, 1, 1, tzinfo=UTC), "backup", None, "aa" * 8, until=datetime(2027, 1, 1, tzinfo=UTC)
    ).to_bytes(),
]


class Generator:
    """Mutants of each kind, a function of the seed."""

    def __init__(self, beside: Callable[[str], ModuleType], seed: int) -> None:
        self.rng = random.Random(seed)
        self.mutations, self.bombs = beside("mutations"), beside("bombs")
        self.whole, self.stated = self.made(FRAMES)
        small = np.random.default_rng(1)
        self.headers = [msgpack.packb(self.stated), msgpack.packb({"facts": {}, "arrays": []})]
        # under the key and number of a document's tokens, bound to its place in the catalog
        self.locked = self.bombs.AESGCM(self.bombs.KEY).encrypt((1).to_bytes(12, "big"), b"x" * 40, bytes(8))
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

    def made(self, frames: list[bytes], claims: dict[int, dict[str, Any]] | None = None) -> tuple[bytes, Any]:
        """A tile of these frames, encrypted as a writer would, and what its header states."""
        arrays = [
            self.bombs.Array(**{"name": name, "code": code, "length": array.size, "frame": frame, **claim})
            for (name, array), code, frame, claim in zip(
                ARRAYS.items(), CODES, frames, [(claims or {}).get(at, {}) for at in range(len(frames))], strict=True
            )
        ]
        data = self.bombs.tile(*arrays, facts=FACTS)
        (length,) = struct.unpack_from("<I", data, 8)
        return data, msgpack.unpackb(data[12 : 12 + length])

    def named(self, data: bytes) -> bool:
        """A tile under the name that it must have."""
        (length,) = struct.unpack_from("<I", data, 8) if len(data) >= 12 else (0,)
        return tile(self.bombs, data, hashlib.sha256(data[12 : 12 + length]).hexdigest())

    def header(self) -> bool:
        return header(self.mutations.mutated(self.rng, self.headers))

    def value(self) -> bool:
        """A header of the right spelling and wrong values."""
        return header(msgpack.packb(self.mutations.exchanged(self.rng, self.stated)))

    def raw_tile(self) -> bool:
        """Any byte of a tile, and the name that the result must have."""
        return self.named(self.mutations.mutated(self.rng, [self.whole]))

    def sealed_tile(self) -> bool:
        """A mutated frame, or a mutated claim about one, encrypted, and behind digests and sizes that are right."""
        frames, claims = list(FRAMES), {}
        at = self.rng.randrange(len(frames))
        if self.rng.random() < 0.8:
            frames[at] = self.mutations.mutated(self.rng, FRAMES)
        if self.rng.random() < 0.5:
            lengths = (0, 1, 2, 5, 40, 87, 88, 699, 700, 701, 5600, 1 << 16, 1 << 20)
            claims[at] = {"length": self.rng.choice(lengths)}
        if self.rng.random() < 0.2:
            claims[at] = {**claims.get(at, {}), "code": self.rng.choice(("u1", "i8", "u8"))}
        return self.named(self.made(frames, claims)[0])

    def encrypted_tile(self) -> bool:
        """A mutated frame after it was encrypted, behind a digest and a size that are right: never what was written."""
        at = self.rng.randrange(len(FRAMES))

        def then(data: bytes) -> bytes:
            found = self.mutations.mutated(self.rng, [data])
            return data[:-1] + bytes([data[-1] ^ 1]) if found == data else bytes(found)

        accepted = self.named(self.made(FRAMES, {at: {"then": then}})[0])
        assert not accepted
        return accepted

    def encrypted_content(self) -> bool:
        """Of what a document says, any bit of it, its number or its place."""
        data, number, place = self.mutations.mutated(self.rng, [self.locked]), 1, bytes(8)
        if data == self.locked:
            number, place = self.rng.choice(((2, place), (1, b"\1" + bytes(7))))
        with pytest.raises(CorruptStore):
            decrypt(self.bombs.KEY, number, data, place)
        return False

    def log_line(self) -> bool:
        return line(self.mutations.mutated(self.rng, LINES))

    def blob(self) -> bool:
        return tokens(self.mutations.mutated(self.rng, self.tokens))

    def stored_text(self) -> bool:
        return text(self.mutations.mutated(self.rng, self.texts))


ROUND = (
    "header", "header", "header", "value", "raw_tile", "sealed_tile", "encrypted_tile", "encrypted_content", "blob",
    "stored_text", "log_line",
)  # fmt: skip


@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.stress)], ids=["sample", "full"])
def test_mutations_are_refused_or_hold_together(
    beside: Callable[[str], ModuleType], size: Callable[..., int], covered: Callable[..., None], long: bool
) -> None:
    generator = Generator(beside, seed=20 + long)
    accepted: Counter[str] = Counter()
    rounds = size(1_500, 75_000, long=long)
    for _ in range(rounds):
        for kind in ROUND:
            accepted[kind] += getattr(generator, kind)()
    covered(mutations=rounds * len(ROUND), accepted=dict(accepted))
    refused = {"encrypted_tile", "encrypted_content"}
    assert all(bool(accepted[kind]) != (kind in refused) for kind in ROUND if kind != "raw_tile"), "too blunt"


def test_the_seeds_are_accepted(beside: Callable[[str], ModuleType]) -> None:
    generator = Generator(beside, seed=0)
    assert header(msgpack.packb(generator.stated))
    assert generator.named(generator.whole)
    assert all(map(line, LINES))
    assert decrypt(generator.bombs.KEY, 1, generator.locked, bytes(8)) == b"x" * 40
