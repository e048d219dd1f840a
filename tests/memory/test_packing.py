"""Packed counts: the same again, with kernels and without; and nothing else is taken for them."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memodb.errors import CorruptStore
from memodb.memory import Backend
from memodb.memory.backend import FastBackend
from memodb.memory.packing import packed, unpacked

BACKENDS = [Backend(), *([FastBackend(worth=0)] if importlib.util.find_spec("numba") else [])]
COUNTS = st.integers(0, 4) | st.sampled_from([8, 14, 15])
CELLS = st.integers(0, 10).flatmap(
    lambda words: st.lists(COUNTS, min_size=16 * words, max_size=16 * words).map(lambda each: np.array(each, np.uint8))
)
"""Of whole words, as a row's are."""


def two_a_byte(counts: np.ndarray) -> np.ndarray:
    packed: np.ndarray = counts[0::2] + 16 * counts[1::2]
    return packed


@given(st.lists(CELLS, max_size=3))
def test_counts_come_back(matrices: list[np.ndarray]) -> None:
    state = {"symbols": np.arange(3, dtype=np.uint64)}
    for number, cells in enumerate(matrices):
        state |= {f"cells {number}": two_a_byte(cells), f"large {number}": np.flatnonzero(cells == 15)}
    forms = [packed(backend, state) for backend in BACKENDS]
    for backend, arrays in zip(BACKENDS, forms, strict=True):
        for name, array in arrays.items():
            assert array.dtype == forms[0][name].dtype
            assert np.array_equal(array, forms[0][name])
        back = unpacked(backend, arrays, [cells.size // 2 for cells in matrices])
        assert list(back) == list(state)
        assert all(np.array_equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("low", "more"),
    [
        ([0b11, 0], []),
        ([0b11, 0], [2]),
        ([0b11, 0], [16]),
        ([0b11, 0], [0]),
        ([0b11, 0], [3, 3]),
        ([0b10, 0], [3]),
        ([0b11], [3]),
        ([0b11, 0, 0], [3]),
    ],
)
def test_other_counts_are_refused(backend: Backend, low: list[int], more: list[int]) -> None:
    arrays = {"low 0": np.array(low, np.uint8), "more 0": np.array(more, np.uint8)}
    with pytest.raises(CorruptStore, match="matrix"):
        unpacked(backend, arrays, [4])


def test_a_packed_cell_takes_two_bits_and_no_more_than_ten() -> None:
    cells = two_a_byte(np.array([0, 1, 2, 3, 4, 5, 15, 0], np.uint8))
    assert {name: array.tolist() for name, array in packed(Backend(), {"cells 0": cells}).items()} == {
        "low 0": [0b11100100, 0b00111111],
        "more 0": [4, 15, 3, 5],
    }
