"""What a memory holds and what it promises: every formula.

Symbols, once for all: a matrix has R rows and c columns; a key has s ones (rows), a value q ones (columns); N distinct
(context, value) pairs are stored; V values can be answered (every token, and the end).

Fill (Willshaw, Buneman and Longuet-Higgins 1969; Bloom 1970)::

    f = 1 - exp(-N s q / (R c))

Pass rate: the chance that one absent value is read at a context that was never stored. Rows are drawn one a band,
evenly and independently. The columns J of the value are those of a row of n in a band with probability h_b(J), so the
rate is the mean over J of the product of h_b over the s bands. With k_r ones in row r, row r holds J with probability
(k_r / c)^q, and h_b(J) has the mean lambda_b / n where lambda_b = sum_r (k_r / c)^q. Were the bands independent, the
rate would be the product of these means, about f^(s q). They are not: a stored context sets the same columns in one row
of *every* band, so a J that passes one band is likelier to pass the next. By Hoelder's inequality the mean of the
product is at most the product of the s-th roots of the means of h_b^s; the number of rows of a band that hold J is a
sum of independent indicators, whose moments are at most those of a Poisson variable with the same mean, which are the
Touchard polynomials::

    g = prod_bands  T_s(lambda_b)^(1/s) / n,        T_s(x) = sum_k S(s, k) x^k,  S: Stirling numbers, second kind

In bands of hundreds of rows this costs some 3 % of space. In bands of 16 rows the product of the means alone was
measured to be too low by a factor of three to six, which broke the promise in every small store.

g is measured from the rows' popcounts and not derived from N: contexts with many continuations fill their own rows,
and the mean of a power is more than the power of the mean. A value's columns lie one a block, and by the inequality of
arithmetic and geometric means no arrangement of k_r ones in a row makes the product of the blocks' densities larger
than (k_r / c)^q, so g is an upper bound whatever the arrangement.

Promise: an unknown context is answered with probability at most ``V * g`` in each layer by itself, whatever the layers
below answer. A segment is full where any layer would break its share of ``false_recall``. Agreement between layers then
only lowers the rate further. (Rejected: thinner upper layers, sized for the few candidates that the layer below lets
through as a rule. A top layer of 12 bits would save ten cells a token, and on library code it would answer 4 % of
unknown contexts: some short contexts have thousands of continuations. docs/memory.md has the figures.)
"""

from __future__ import annotations

import math

import numpy as np

from memodb.memory.backend import Array
from memodb.memory.configuration import (
    FIRST_CAPACITY,
    PROVENANCE_PASS_RATE,
    Configuration,
    Geometry,
    KohonenConfiguration,
    WillshawConfiguration,
)

__all__ = [
    "code_spread",
    "crosstalk",
    "even_pass_rate",
    "expected_fill",
    "first_geometry",
    "key_length",
    "limits",
    "linear_false_recall",
    "linear_miss",
    "measured_pass_rate",
    "pass_rate_limit",
    "rows_for",
    "rows_refitted",
    "stored_pairs",
]

_PAIRS_PER_TOKEN = {0: 0.5, 1: 0.85}
"""Distinct pairs per token that a first geometry expects of layers 0 and 1 (measured on small collections of prose)."""


def expected_fill(pairs: float, rows: int, columns: int, key_ones: int, value_ones: int) -> float:
    """f = 1 - exp(-N s q / (R c)): share of cells above zero when ``pairs`` distinct pairs spread evenly."""
    return -math.expm1(-pairs * key_ones * value_ones / (rows * columns))


def stored_pairs(fill: float, rows: int, columns: int, key_ones: int, value_ones: int) -> float:
    """N that an even fill speaks of: the inverse of :func:`expected_fill`."""
    return -math.log1p(-fill) * rows * columns / (key_ones * value_ones)


def measured_pass_rate(ones_per_row: Array, key_ones: int, columns: int, value_ones: int) -> float:
    """g of a matrix as it stands: the product over bands of T_s(sum over rows of (k_r / c)^q)^(1/s) / n.

    Parameters
    ----------
    ones_per_row : integer (R,)
        Cells above zero in each row; bands are equal runs of rows.
    value_ones : int
        q, a power of two.
    """
    density = ones_per_row.reshape(key_ones, -1) / columns
    for _ in range(value_ones.bit_length() - 1):  # squared: a product is the same on every machine, and faster
        density = density * density
    rate = 1.0
    for expected in density.sum(axis=1).tolist():
        rate *= _touchard(key_ones, expected) ** (1 / key_ones) / density.shape[1]
    return float(rate)


def _touchard(power: int, mean: float) -> float:
    """T_power(mean): the power-th moment of a Poisson variable."""
    stirling = [1]  # S(i, 0..i), row by row: S(i, k) = k S(i-1, k) + S(i-1, k-1)
    for _ in range(power):
        stirling = [k * a + b for k, (a, b) in enumerate(zip([*stirling, 0], [0, *stirling], strict=True))]
    return math.fsum(number * mean**k for k, number in enumerate(stirling))


def pass_rate_limit(configuration: WillshawConfiguration, ordinal: int) -> float:
    """The highest g that a layer of the ``ordinal``-th segment may reach.

    Shares of the promise are 4/5, 4/25, 4/125, ...: they sum to the promise however many segments a collection has. A
    flat split would have to know their number beforehand.
    """
    share = 0.8 * 0.2**ordinal
    return configuration.false_recall * share / configuration.answers


def limits(configuration: Configuration, ordinal: int) -> tuple[float, ...]:
    """The highest g that each counting matrix of the ``ordinal``-th segment may reach, the provenance layer's last."""
    layer = pass_rate_limit(configuration, ordinal) if isinstance(configuration, WillshawConfiguration) else 0.0
    return (*(layer for _ in configuration.layer_ones), PROVENANCE_PASS_RATE)


def even_pass_rate(fill: float, rows: int, key_ones: int, value_ones: int) -> float:
    """g of a matrix whose rows are all filled alike: T_s(n f^q) / n^s with n = R / s rows a band."""
    band = rows / key_ones
    return _touchard(key_ones, band * fill**value_ones) / band**key_ones


def rows_for(pairs: float, rate: float, columns: int, key_ones: int, value_ones: int) -> int:
    """The least R that holds ``pairs`` evenly spread pairs at a pass rate: a multiple of s, at least 8 rows a band."""

    def suffices(band: int) -> bool:
        rows = band * key_ones
        return (
            even_pass_rate(expected_fill(pairs, rows, columns, key_ones, value_ones), rows, key_ones, value_ones)
            <= rate
        )

    few, many = 7, 8
    while not suffices(many):
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if suffices(middle) else (middle, many)
    return many * key_ones


def rows_refitted(
    ones_per_row: Array, headroom: float, rate: float, columns: int, key_ones: int, value_ones: int
) -> int:
    """The R that holds ``headroom`` times the pairs of these rows at a pass rate: a multiple of s.

    Rows fill unevenly, and the measured rate has a factor over the even one that the new rows must win back. It is not
    the same on them: a row's load, -ln(1 - k_r / c), is a sum over the keys that chose it, so its mean and its variance
    both go with the keys a row (a compound Poisson variable, whose cumulants are those of one key times their number),
    and more rows are relatively less even. So the factor is taken of these loads, drawn together to that mean and that
    variance.

    Parameters
    ----------
    ones_per_row : integer (R,)
        Cells above zero in each row; bands are equal runs of rows.
    """
    rows = len(ones_per_row)
    fill = min(float(ones_per_row.mean()) / columns, 0.999)
    pairs = stored_pairs(fill, rows, columns, key_ones, value_ones)
    loads = -np.log1p(-np.minimum(ones_per_row / columns, 1 - 0.5 / columns))  # a full row: half a cell short of it
    mean, share = float(loads.mean()), 1.0  # share: keys a row, of those there are
    for _ in range(3):  # the number of rows asks for the factor, and the factor for the number of rows
        density = -np.expm1(-np.maximum(share * mean + math.sqrt(share) * (loads - mean), 0.0))
        measured = measured_pass_rate(density * columns, key_ones, columns, value_ones)
        thinned = expected_fill(pairs * share, rows, columns, key_ones, value_ones)
        even = even_pass_rate(thinned, rows, key_ones, value_ones)
        uneven = max(1.0, measured / even) if even > 0 else 1.0
        fitted = rows_for(pairs * headroom, rate / uneven, columns, key_ones, value_ones)
        share = headroom * rows / fitted
    return fitted


def first_geometry(configuration: Configuration, ordinal: int, tokens: int = FIRST_CAPACITY) -> Geometry:
    """The shape a segment starts with, laid out for ``tokens`` tokens of text nobody has seen yet."""
    pairs = [_PAIRS_PER_TOKEN.get(level, 1.0) * tokens for level in range(len(configuration.layer_ones))]
    ones = (*configuration.layer_ones, configuration.provenance_ones)
    rows = [
        rows_for(count, rate, configuration.columns, each, configuration.ones)
        for count, rate, each in zip([*pairs, tokens], limits(configuration, ordinal), ones, strict=True)
    ]
    return Geometry(tuple(rows[:-1]), rows[-1], ordinal)


def crosstalk(configuration: KohonenConfiguration, correlation_norm: float) -> float:
    """sigma of a correlation matrix: the standard deviation of what an absent value scores at an unrelated key.

    A pair that is stored once scores 1 on average. With a key k and a value v of norm 1 in directions of their own,
    (k C v)^2 has the mean |C|_F^2 / d^2, and |C|_F^2 is the number N of pairs while these are unrelated too, so sigma
    is about sqrt(N) / d (Kohonen 1972). Keys are a little more alike than that: parts of two keys are projected by one
    matrix, so the inner product of two parts has, besides the variance h/d of random directions, that of the two
    tokens' own vectors: 1/d, or with signs (2/pi)^2 / d, the variance of the arcsine law (van Vleck and Middleton
    1966). Over the h parts of a key: 1 + 1/h, or 1 + 4 / (pi^2 h), times 1/d. On text keys are far more alike, and no
    formula holds.

    Parameters
    ----------
    configuration : KohonenConfiguration
    correlation_norm : float
        Frobenius norm |C|_F, in units of one pair.
    """
    c = configuration
    alike = 1 + (1 if c.codes == "gaussian" else 4 / math.pi**2) / c.heads
    return correlation_norm / c.dim * math.sqrt(alike)


def linear_false_recall(sigma: float, answers: int) -> float:
    """Probability that some of V absent values scores 1/2 or more at an unknown key: at most V Q(1 / (2 sigma))."""
    return min(1.0, answers * linear_miss(sigma))


def linear_miss(sigma: float, spread: float = 0.0) -> float:
    """Probability that a pair stored once scores below 1/2, and is missed: Q(1 / (2 sqrt(sigma^2 + spread))), Q the
    normal tail and ``spread`` the variance of :func:`code_spread`."""
    deviation = math.sqrt(sigma * sigma + spread)
    return 0.5 * math.erfc(0.5 / deviation / math.sqrt(2)) if sigma > 0 else 0.0


def code_spread(configuration: KohonenConfiguration) -> float:
    """Variance of what a pair stored alone scores, |k|^2 |v|^2, over keys and values.

    With Gaussian codes |v|^2 is a chi-square of d numbers, so its variance is 2/d. A key has h parts, each the square
    length of a token's vector times that of its projection to d/h numbers: 2/d + 2/(hd). Rademacher codes have one
    length but for sums of zero, which :func:`key_length` averages.
    """
    c = configuration
    return (4 + 2 / c.heads) / c.dim if c.codes == "gaussian" else 0.0


def key_length(configuration: KohonenConfiguration) -> float:
    """|k|^2 |v|^2 of a pair on average: 1 with Gaussian codes, d^2 with Rademacher codes, less the numbers of a key
    that are
    sums of zero, a share of sqrt(2 / (pi d)) where d terms are added up (Stirling)."""
    d = configuration.dim
    return 1.0 if configuration.codes == "gaussian" else d * d * (1 - math.sqrt(2 / (math.pi * d)))
