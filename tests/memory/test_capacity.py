"""The formulas agree with simulation, with one another, and refuse what they do not cover."""

import dataclasses
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memodb.errors import CorruptStore, InvalidConfiguration
from memodb.memory import Geometry, WillshawConfiguration, capacity, first_geometry

rates = st.floats(1e-12, 0.3)
key_ones = st.integers(2, 12)
value_ones = st.sampled_from([2, 4])


@pytest.mark.parametrize(("pairs", "s", "q"), [(500, 5, 4), (2000, 5, 4), (6000, 7, 2), (9000, 5, 4)])
def test_expected_fill_is_the_simulated_one(pairs: int, s: int, q: int) -> None:
    rng = np.random.default_rng(pairs)
    band, block = 60, 256 // q
    cells = np.zeros((s * band, 256), dtype=bool)
    rows = rng.integers(0, band, (pairs, s)) + np.arange(s) * band
    columns = (rng.integers(0, block, (pairs, q)) + np.arange(q) * block + rng.integers(0, 256, (pairs, 1))) % 256
    cells[rows[:, :, None], columns[:, None, :]] = True
    assert cells.mean() == pytest.approx(capacity.expected_fill(pairs, s * band, 256, s, q), rel=0.01)


@given(st.floats(0.001, 0.99), st.integers(8, 10**6), key_ones, value_ones)
def test_stored_pairs_undoes_expected_fill(fill: float, rows: int, s: int, q: int) -> None:
    pairs = capacity.stored_pairs(fill, rows, 512, s, q)
    assert capacity.expected_fill(pairs, rows, 512, s, q) == pytest.approx(fill, rel=1e-9)


@given(st.integers(1000, 10**5), rates, key_ones, value_ones)
def test_rows_hold_the_pairs_they_are_laid_out_for(pairs: int, rate: float, s: int, q: int) -> None:
    rows = capacity.rows_for(pairs, rate, 512, s, q)
    assert rows % s == 0
    assert rows >= 8 * s

    def even_rate(number: int) -> float:
        fill = capacity.expected_fill(pairs, number, 512, s, q)
        alike = np.full(number, fill * 512)
        measured = capacity.measured_pass_rate(alike, s, 512, q)
        assert capacity.even_pass_rate(fill, number, s, q) == pytest.approx(measured)
        return measured

    assert even_rate(rows) <= rate * (1 + 1e-9)
    if rows > 8 * s:  # and not a row more in any band
        assert even_rate(rows - s) > rate * (1 - 1e-9)


@given(st.lists(st.integers(0, 256), min_size=12, max_size=12), st.sampled_from([2, 3, 4]), value_ones)
def test_the_pass_rate_is_that_of_bands_that_agree(ones: list[int], s: int, q: int) -> None:
    """Against every choice of rows: at least the mean over bands of the s-th moment, computed row set by row set."""
    band = 12 // s
    measured = capacity.measured_pass_rate(np.array(ones), s, 256, q)
    independent, touching = 1.0, 1.0
    for number in range(s):
        passing = [(k / 256) ** q for k in ones[number * band : (number + 1) * band]]
        # distribution of the number of rows of this band that hold one set of columns
        chances = [1.0]
        for p in passing:
            chances = [a * (1 - p) + b * p for a, b in zip([*chances, 0], [0, *chances], strict=True)]
        touching *= sum(chance * (i / band) ** s for i, chance in enumerate(chances)) ** (1 / s)
        independent *= sum(passing) / band
    assert independent <= touching * (1 + 1e-9) + 1e-300
    assert touching <= measured * (1 + 1e-9) + 1e-300
    # Poisson's moments, from the definition
    lam = [sum((k / 256) ** q for k in ones[i * band : (i + 1) * band]) for i in range(s)]
    poisson = [sum(i**s * math.exp(-m) * m**i / math.factorial(i) for i in range(80)) for m in lam]
    assert measured == pytest.approx(math.prod(p ** (1 / s) / band for p in poisson), rel=1e-6, abs=1e-300)


@pytest.mark.parametrize(("skew", "most"), [(1.3, 5), (2.0, 20), (3.0, 300)])
@pytest.mark.parametrize("share", [0.4, 0.7, 1.5])
def test_rows_are_refitted_to_pairs_that_fill_them_unevenly(skew: float, most: int, share: float) -> None:
    """From a share of the rows that these pairs need: found by trial, each time simulated anew."""
    s, q, columns, rate = 4, 4, 256, 1e-7
    rng = np.random.default_rng(0)
    values = np.minimum(rng.zipf(skew, 20_000), most)
    key = np.repeat(np.arange(values.size), values)
    places = rng.random((values.size, s))
    value_ones = rng.integers(0, columns // q, (key.size, q)) + np.arange(q) * (columns // q)

    def filled(band: int) -> np.ndarray:
        cells = np.zeros((s * band, columns), dtype=bool)
        chosen = (places * band).astype(int) + np.arange(s) * band
        cells[chosen[key][:, :, None], value_ones[:, None, :]] = True
        return cells.sum(axis=1)

    few, needed = 8, 8000
    while needed - few > 1:
        middle = (few + needed) // 2
        holds = capacity.measured_pass_rate(filled(middle), s, columns, q) <= rate
        few, needed = (few, middle) if holds else (middle, needed)
    before = filled(int(share * needed))
    rows = capacity.rows_refitted(before, 1.0, rate, columns, s, q)
    assert rows % s == 0
    assert rows == pytest.approx(s * needed, rel=0.05)
    assert capacity.rows_refitted(before, 1.1, rate, columns, s, q) == pytest.approx(1.1 * rows, rel=0.02)


@pytest.mark.parametrize(("vocabulary", "promise"), [(1, 0.5), (3000, 0.01), (50_000, 1e-9)])
def test_shares_never_sum_to_more_than_the_promise(vocabulary: int, promise: float) -> None:
    configuration = WillshawConfiguration(vocabulary=vocabulary, false_recall=promise)
    limits = [capacity.pass_rate_limit(configuration, ordinal) for ordinal in range(40)]
    assert all(later < earlier for earlier, later in itertools.pairwise(limits))
    whole = sum(limits) * (vocabulary + 1)
    assert whole <= promise * (1 + 1e-12)
    assert whole == pytest.approx(promise)
    assert limits[0] * (vocabulary + 1) == pytest.approx(0.8 * promise)


WRONG: dict[str, list[Any]] = {
    "vocabulary": [0, -1, 2**31 - 2, 1.5, "9", None, True, np.int64(9)],
    "heads": [1, 0, 17, 2.0, True, None],
    "layers": [-1, 7, 1.0, False, None],
    "false_recall": [0, 0.0, -0.1, 0.51, 1, True, False, math.nan, math.inf, "0.1", None, 9e-10],
    "window": [1, 65, 0, 8.0, True, None],
    "columns": [128, 500, 8192, 512.0, 0, None],
    "ones": [1, 3, 8, 0, 4.0, True, None],
    "segment_tokens": [4095, 0, -1, 4096.0, True, None],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_every_field_is_looked_at(field: str, value: Any) -> None:
    with pytest.raises(InvalidConfiguration, match=field):
        WillshawConfiguration(**{"vocabulary": 100, field: value})


def test_every_field_has_wrong_values_above() -> None:
    assert set(WRONG) == {field.name for field in dataclasses.fields(WillshawConfiguration)}


def test_the_longest_context_is_bounded() -> None:
    assert WillshawConfiguration(vocabulary=9, heads=16, layers=3).longest == 4096
    assert WillshawConfiguration(vocabulary=9, heads=4, layers=6).longest == 4096
    with pytest.raises(InvalidConfiguration, match="heads"):
        WillshawConfiguration(vocabulary=9, heads=5, layers=6)


@pytest.mark.parametrize(
    "extreme",
    [
        {"vocabulary": 1, "heads": 2, "layers": 0, "false_recall": 0.5, "window": 2, "columns": 256, "ones": 2},
        {"vocabulary": 2**31 - 3, "heads": 16, "layers": 3, "false_recall": 1e-9, "window": 64, "columns": 4096},
    ],
)
def test_the_outermost_configurations_are_fine(extreme: dict[str, Any]) -> None:
    configuration = WillshawConfiguration(**extreme)
    assert configuration.end == configuration.vocabulary
    assert configuration.begin == configuration.answers == configuration.vocabulary + 1
    assert configuration.spans == tuple(configuration.heads**level for level in range(configuration.layers + 1))
    assert WillshawConfiguration(**json.loads(json.dumps(configuration.to_dict()))) == configuration
    for level in range(configuration.layers + 1):
        assert configuration.key_ones(level) >= 2
    for ordinal in range(6):
        geometry = first_geometry(configuration, ordinal)
        assert geometry.ordinal == ordinal
        assert len(geometry.rows) == configuration.layers + 1
        for level, rows in enumerate(geometry.rows):
            assert rows % configuration.key_ones(level) == 0


@given(st.integers(0, 40), st.integers(1, 2**20), st.data())
def test_a_geometry_survives_json_and_an_impossible_one_is_refused(
    ordinal: int, tokens: int, data: st.DataObject
) -> None:
    configuration = WillshawConfiguration(vocabulary=1000)
    geometry = first_geometry(configuration, ordinal, tokens)
    stated = json.loads(json.dumps(geometry.to_dict()))
    assert Geometry.from_dict(stated, configuration) == geometry
    odd = st.sampled_from([None, -1, 0, True, 7.5, "8", [], {}, [1], 2**60, 2**31 + 1])
    where = data.draw(st.sampled_from([*stated, 0, 1, 2]))
    if isinstance(where, int):
        stated["rows"][where] = data.draw(odd)
    elif data.draw(st.booleans()):
        del stated[where]
    else:
        stated[where] = data.draw(odd)
    with pytest.raises(CorruptStore):
        # an ordinal of 0 is a possible one
        Geometry.from_dict(stated if stated.get("ordinal") != 0 else None, configuration)
