"""Seeded mutations of bytes: bits, bytes, insertions, deletions, repetitions, pieces of others, and evil values."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

# Where msgpack's, zstd's and our own formats change their meaning.
MARKERS = bytes(
    [0x00, 0x01, 0x7F, 0x80, 0x81, 0x8F, 0x90, 0x91, 0x95, 0x9F, 0xA0, 0xBF, *range(0xC0, 0xE0), 0xE0, 0xFF]
)

EVIL: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 255, 256, 2**31, 2**32 - 1, 2**48 - 1, 2**48, 2**63 - 1, 2**63, 2**64 - 1, -(2**63),
    0.0, 4.0, math.nan, math.inf, -math.inf, "", "u1", "i8", "u8", "f8", "O8", "cells", "../../x", "\0", "x" * 300,
    b"", b"\0" * 32, b"x" * 33, [], {}, [[]], {"": []}, {"a": {"b": [1.5]}}, ["u1"],
)  # fmt: skip


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One to three mutations of one of the seeds."""
    draw = rng.random
    data = bytearray(seeds[int(draw() * len(seeds))])
    for _ in range(1 + int(draw() * draw() * 3)):
        size = len(data)
        at = int(draw() * size) if size else 0
        kind = int(draw() * 9)
        if kind <= 2 and size:
            data[at] ^= 1 << int(draw() * 8)
        elif kind == 3 and size:
            data[at] = int(draw() * 256)
        elif kind == 4 and size:
            data[at] = MARKERS[int(draw() * len(MARKERS))]
        elif kind == 5:
            data[at:at] = bytes([int(draw() * 256) for _ in range(1 + int(draw() * 4))])
        elif kind == 6:
            del data[at : at + 1 + int(draw() * draw() * 20)]
        elif kind == 7:
            data[at:at] = data[at : at + 1 + int(draw() * 40)]
        else:
            other = seeds[int(draw() * len(seeds))]
            start = int(draw() * len(other))
            piece = other[start : start + 1 + int(draw() * 40)]
            data[at : at + len(piece)] = piece
    return bytes(data)


def exchanged(rng: random.Random, value: Any) -> Any:
    """A copy of nested maps and lists in which one thing, or a few, is replaced by an evil one."""
    if rng.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return rng.choice(EVIL)
    if isinstance(value, list):
        copy = list(value)
        chosen = rng.randrange(len(copy))
        if rng.random() < 0.1:
            copy.insert(chosen, copy[chosen])
        else:
            copy[chosen] = exchanged(rng, copy[chosen])
        return copy
    key = rng.choice(list(value))
    if rng.random() < 0.1:
        return {(rng.choice(("facts", "arrays", "x")) if name == key else name): item for name, item in value.items()}
    return {**value, key: exchanged(rng, value[key])}
