"""Decoding answers what trying every item would answer."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memodb.memory import Backend, decoding
from memodb.memory.decoding import CodeTable


def brute_force(words: np.ndarray, codes: np.ndarray) -> list[tuple[int, int]]:
    return [
        (row, item)
        for row in range(len(words))
        for item in range(len(codes))
        if all(int(words[row, column // 64]) >> (column % 64) & 1 for column in codes[item].tolist())
    ]


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, int, np.ndarray]:
    columns, ones = draw(st.sampled_from([(256, 2), (256, 4), (512, 4), (512, 2)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    items = draw(st.sampled_from([0, 1, 3, 40, 300]))
    block = columns // ones
    codes = rng.integers(0, draw(st.sampled_from([1, 3, block])), (items, ones)) + np.arange(ones) * block
    bits = rng.random((draw(st.integers(0, 12)), columns)) < draw(st.sampled_from([0, 0.02, 0.3, 0.6, 1]))
    for row in range(len(bits)):  # one item's own columns: a row with a sure answer
        if items and draw(st.booleans()):
            bits[row, codes[rng.integers(0, items)]] = True
    weights = np.uint64(1) << np.arange(64, dtype=np.uint64)
    words = (bits.reshape(len(bits), columns // 64, 64) * weights).sum(axis=2, dtype=np.uint64)
    return codes.astype(np.int64), columns, words


@given(tables(), st.sampled_from([1, 7, 100, 1 << 21]))
@settings(deadline=None)
def test_decoding_is_trying_every_item(table: tuple[np.ndarray, int, np.ndarray], at_once: int) -> None:
    """Also where the rows are cut into many parts."""
    codes, columns, words = table
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "_ITEMS_AT_ONCE", at_once)
        row, item = CodeTable(Backend(), codes, columns).decode(words)
    assert row.dtype == item.dtype == np.int64
    assert list(zip(row.tolist(), item.tolist(), strict=True)) == brute_force(words, codes)


@given(tables())
@settings(deadline=None)
def test_pairs_are_of_the_columns_of_the_first_two_blocks(table: tuple[np.ndarray, int, np.ndarray]) -> None:
    codes, columns, words = table
    block = columns // codes.shape[1]
    ones = [[int(word) >> bit & 1 for word in row for bit in range(64)] for row in words]
    expected = [sum(each[:block]) * sum(each[block : 2 * block]) for each in ones]
    assert CodeTable(Backend(), codes, columns).pairs(words).tolist() == expected


def test_saturated_rows_are_decoded_in_bounded_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 64, (200, 4)) + np.arange(4) * 64
    table = CodeTable(Backend(), codes, 256)
    words = np.full((20, 4), 2**64 - 1, dtype=np.uint64)
    parts: list[int] = []
    plain = table._decode_crowd

    def spy(words: np.ndarray, rows: np.ndarray) -> Any:
        parts.append(rows.size)
        return plain(words, rows)

    monkeypatch.setattr(table, "_decode_crowd", spy)
    monkeypatch.setattr(decoding, "_ITEMS_AT_ONCE", 3 * 200)
    row, item = table.decode(words)
    assert len(parts) > 5
    assert max(parts) <= 4
    assert sum(parts) == 20
    assert np.array_equal(row, np.repeat(np.arange(20), 200))
    assert np.array_equal(item, np.tile(np.arange(200), 20))
