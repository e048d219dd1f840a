"""Tokens and texts as bytes: every array comes back, and no bytes do harm."""

import random
import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from memodb.catalog import codec
from memodb.errors import CorruptStore, InvalidInput

LARGEST = 2**31 - 1
arrays = st.one_of(
    st.lists(st.integers(0, top), max_size=200).map(lambda values: np.array(values, dtype=np.int32))
    for top in (0, 3, 255, 256, 65535, 65536, LARGEST)
)


@given(arrays)
def test_tokens_come_back_as_they_were(tokens: np.ndarray) -> None:
    back = codec.decode_tokens(codec.encode_tokens(tokens))
    assert back.dtype == np.int32
    assert back.flags.writeable
    assert back.tolist() == tokens.tolist()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_texts_come_back_as_they_were(text: str) -> None:
    assert codec.decode_text(codec.encode_text(text)) == text


@pytest.mark.parametrize(("largest", "width"), [(255, 1), (256, 2), (65535, 2), (65536, 4), (LARGEST, 4)])
def test_width_is_the_smallest_that_holds_the_largest_token(largest: int, width: int) -> None:
    assert codec.encode_tokens(np.array([largest, 0], dtype=np.int64)) == bytes([1 << 4 | width, 2]) + largest.to_bytes(
        width, "little"
    ) + bytes(width)


def test_repetition_is_compressed() -> None:
    assert len(codec.encode_tokens(np.full(100_000, 70_000, dtype=np.int32))) < 100


@pytest.mark.parametrize(
    "tokens",
    [
        np.array([-1]),
        np.array([2**31]),
        np.array([2**63], dtype=np.uint64),
        np.array([1.0]),
        np.array([True]),
        np.array([[1]]),
        np.array(["1"]),
        np.array(1),
        np.broadcast_to(np.int32(0), (codec.MAX_TOKENS + 1,)),
    ],
)
def test_what_is_no_token_array_is_refused(tokens: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        codec.encode_tokens(tokens)


def test_a_count_above_the_limit_is_refused_however_many_bytes_back_it(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = codec.encode_tokens(np.arange(11))
    monkeypatch.setattr(codec, "MAX_TOKENS", 10)
    with pytest.raises(CorruptStore, match="limit of 10"):
        codec.decode_tokens(blob)


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(InvalidInput, match="surrogate at position 1"):
        codec.encode_text("a\ud800")


def header(kind: int, width: int, count: int) -> bytes:
    return bytes([kind << 4 | width]) + codec._leb128(count)


ZEROS = zstandard.ZstdCompressor().compress(bytes(1000))
BOMB = zstandard.ZstdCompressor().compress(bytes(1 << 28))
UNSIZED = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        "text",
        None,
        17,
        b"\x00",
        b"\x11",
        b"\x13\x00",
        b"\x31\x00",
        b"\x51\x00",
        b"\x11\x80\x00",  # zero spelt in two bytes
        b"\x11\xff\xff\xff\xff\xff\xff",
        b"\x11\x02\x01",
        b"\x11\x01\x01\x01",
        header(1, 2, 1) + b"\x07\x00",  # 7 fits one byte
        header(1, 4, 1) + b"\x00\x00\x00\x80",  # above 2**31 - 1
        header(2, 1, 1000) + ZEROS + b"\x00",
        header(2, 1, 1000) + ZEROS + ZEROS,
        header(2, 1, 999) + ZEROS,
        header(2, 1, 1001) + ZEROS,
        header(2, 1, 1000) + UNSIZED,
        header(2, 1, 1000) + ZEROS[:-1],
        header(2, 1, 1000) + bytes(20),
        header(2, 1, 5) + zstandard.ZstdCompressor().compress(bytes(5)),  # larger than the tokens themselves
        header(2, 1, 1000) + BOMB,
        header(2, 4, codec.MAX_TOKENS) + ZEROS,
        header(2, 4, codec.MAX_TOKENS + 1) + BOMB,
        header(2, 4, (1 << 35) - 1) + BOMB,
    ],
)
def test_hostile_tokens_are_refused_before_they_cost_memory(blob: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CorruptStore):
            codec.decode_tokens(blob)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("blob", [b"\x31\x01\xff", b"\x32\x01aa", b"\x11\x01a", header(4, 1, 1000) + BOMB])
def test_hostile_texts_are_refused(blob: bytes) -> None:
    with pytest.raises(CorruptStore):
        codec.decode_text(blob)


def test_mutated_bytes_raise_nothing_but_corrupt_store() -> None:
    rng = random.Random(7)
    seeds = [codec.encode_tokens(np.arange(n, dtype=np.int32) % 700 * f) for n in (0, 3, 400) for f in (0, 1, 400)]
    refused = 0
    for _ in range(6000):
        blob = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(blob) + 1)
            blob[place : place + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2))
        try:
            tokens = codec.decode_tokens(bytes(blob))
        except CorruptStore:
            refused += 1
        else:
            # What still decodes must be an array that can be stored, not half of one.
            assert codec.decode_tokens(codec.encode_tokens(tokens)).tolist() == tokens.tolist()
    assert refused > 3000
