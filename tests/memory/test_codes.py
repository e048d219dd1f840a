"""Symbols and codes: every path gives the same symbol, and ones fall evenly."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from memodb.memory import codes
from memodb.memory.codes import ContextKeys, Keys

EVEN = 1e-4
"""Fixed seeds, so a level is no chance of a red build: it says how uneven the one fixed sample may look."""


def keys_for(heads: int, layers: int, window: int = 3, seed: bytes = bytes(32)) -> ContextKeys:
    return ContextKeys.derive(Keys(seed), heads, layers, window)


def evenly(numbers: np.ndarray, values: int) -> bool:
    return bool(stats.chisquare(np.bincount(numbers, minlength=values)).pvalue > EVEN)


@given(st.data())
@settings(deadline=None)
def test_a_stream_and_its_contexts_have_the_same_symbols(data: Any) -> None:
    heads = data.draw(st.integers(2, 4))
    layers = data.draw(st.integers(0, 2))
    keys = keys_for(heads, layers, seed=data.draw(st.binary(min_size=32, max_size=32)))
    longest = heads**layers
    stream = np.array(data.draw(st.lists(st.integers(0, 9), min_size=longest, max_size=longest + 30)), dtype=np.int64)
    along = codes.layer_symbols(stream, keys)
    assert [symbols.size for symbols in along] == [stream.size - heads**level + 1 for level in range(layers + 1)]
    whole = codes.context_symbols(np.lib.stride_tricks.sliding_window_view(stream, longest), keys)
    for level, symbols in enumerate(along):
        assert np.array_equal(symbols[longest - heads**level :], whole[level])
        spans = np.lib.stride_tricks.sliding_window_view(stream, heads**level)
        # equal spans, equal symbols; different spans, different ones
        assert len(np.unique(symbols)) == len(np.unique(spans, axis=0))
        assert len({(*span.tolist(), int(symbol)) for span, symbol in zip(spans, symbols, strict=True)}) == len(
            np.unique(symbols)
        )
    stacked = codes.layer_symbols(np.stack([stream, stream[::-1]]), keys)
    for one, two in zip(along, stacked, strict=True):
        assert np.array_equal(one, two[0])


def test_order_and_place_of_the_blocks_matter() -> None:
    keys = keys_for(2, 2)
    contexts = np.array([[1, 2, 3, 4], [2, 1, 3, 4], [3, 4, 1, 2], [1, 2, 4, 3]])
    one, two, four = codes.context_symbols(contexts, keys)
    assert len(set(four.tolist())) == 4
    assert len(set(two.tolist())) == 3
    assert two[0] == two[1]
    assert one[0] == one[1]


@given(st.lists(st.integers(0, 5), min_size=3, max_size=40))
@settings(deadline=None)
def test_windows_start_at_their_place(tokens: list[int]) -> None:
    symbols = codes.window_symbols(np.array(tokens), keys_for(2, 1, window=3)).tolist()
    spans = [tuple(tokens[at : at + 3]) for at in range(len(tokens) - 2)]
    assert len(symbols) == len(spans)
    assert len(set(symbols)) == len(set(spans)) == len(set(zip(symbols, spans, strict=True)))


def test_symbols_of_the_kinds_never_meet() -> None:
    """Tokens, contexts of each length and windows are hashed with multipliers of their own."""
    stream = np.arange(500)
    keys = keys_for(3, 2, window=3)
    found = [*codes.layer_symbols(stream, keys), codes.window_symbols(stream, keys)]
    assert len(np.unique(np.concatenate(found))) == sum(symbols.size for symbols in found)


def test_the_finaliser_can_be_undone() -> None:
    """So it merges no two words: undone here step by step in Python's own integers."""
    mask = 2**64 - 1

    def unshift(word: int, by: int) -> int:
        shown = word
        for _ in range(64 // by + 1):
            shown = word ^ (shown >> by)
        return shown

    rng = np.random.default_rng(0)
    words = np.append(rng.integers(0, 2**64, 2000, dtype=np.uint64), np.array([0, 1, mask], dtype=np.uint64))
    for before, after in zip(words.tolist(), codes.finalise(words.copy()).tolist(), strict=True):
        word = unshift(after, 31) * pow(0x94D049BB133111EB, -1, 2**64) & mask
        word = unshift(word, 27) * pow(0xBF58476D1CE4E5B9, -1, 2**64) & mask
        assert unshift(word, 30) == before


def test_multipliers_are_odd_and_each_label_has_its_own() -> None:
    keys = Keys(bytes(32))
    first, second, other = keys.multipliers("a", 4), keys.multipliers("b", 4), Keys(b"x" * 32).multipliers("a", 4)
    assert first.size == 5
    assert (first[:4] % 2 == 1).all()
    assert len(set(first) | set(second) | set(other)) == 15
    assert np.array_equal(first, Keys(bytes(32)).multipliers("a", 4))


@pytest.mark.parametrize("ones", range(2, 13))
def test_rows_one_a_band_evenly_and_the_rotation_too(ones: int) -> None:
    band, columns, n = 37, 512, 40_000
    multipliers = Keys(bytes(32)).multipliers("rows", ones // 2 + 1)
    symbols = codes._compose([np.arange(n, dtype=np.uint64)], keys_for(2, 1).token)
    rows, rotation = codes.select_rows(symbols, multipliers, band * ones, ones, columns)
    assert len(rows) == ones
    assert rotation.dtype == np.int64
    assert evenly(rotation, columns)
    for number, row in enumerate(rows):
        assert row.dtype == np.int64
        assert (row // band == number).all()
        assert evenly(row - number * band, band)
    # no two choices of one context tell of each other
    choices = [row - number * band for number, row in enumerate(rows)] + [rotation * band // columns]
    for i in range(len(choices)):
        for j in range(i):
            assert (
                stats.chi2_contingency(
                    np.bincount(choices[i] * band + choices[j], minlength=band**2).reshape(band, band)
                ).pvalue
                > EVEN / 10
            )


@pytest.mark.parametrize("rows", [5, 5 * 3, 5 * 1000, 5 * 800_000_000])
def test_rows_stay_in_their_bands_at_any_size(rows: int) -> None:
    multipliers = Keys(bytes(32)).multipliers("rows", 3)
    symbols = np.random.default_rng(1).integers(0, 2**64, 20_000, dtype=np.uint64)
    chosen, _ = codes.select_rows(symbols, multipliers, rows, 5, 256)
    for number, row in enumerate(chosen):
        assert row.min() >= number * (rows // 5)
        assert row.max() < (number + 1) * (rows // 5)
        assert evenly((row - number * (rows // 5)) * 5 // (rows // 5), 5) or rows == 5 * 3 or rows == 5


@pytest.mark.parametrize(("columns", "ones"), [(256, 2), (256, 4), (512, 4), (4096, 2), (4096, 4)])
def test_codes_have_one_column_a_block_evenly(columns: int, ones: int) -> None:
    multipliers = Keys(bytes(32)).multipliers("tokens", ones // 2 + 1)
    found = codes.block_codes(np.arange(50_000, dtype=np.uint64), multipliers, columns, ones)
    assert found.shape == (50_000, ones)
    assert found.dtype == np.int64
    block = columns // ones
    for number in range(ones):
        assert (found[:, number] // block == number).all()
        assert evenly(found[:, number] - number * block, block)
    assert evenly((found[:, 0] * 16 // block) * 16 + (found[:, 1] - block) * 16 // block, 256)


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), min_size=1, max_size=20))
def test_rotated_columns_wrap_around(pairs: list[tuple[int, int]]) -> None:
    base = np.array([[code, (code + 100) % 256] for code, _ in pairs])
    turned = codes.select_columns(base, np.array([rotation for _, rotation in pairs]), 256)
    assert turned.tolist() == [[(code + rotation) % 256, (code + 100 + rotation) % 256] for code, rotation in pairs]
