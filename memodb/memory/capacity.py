"""What a memory holds and what it promises: the configuration, the geometry of a segment, and every formula.

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
from dataclasses import asdict, dataclass
from typing import Any

from memodb.errors import CorruptStore, InvalidConfiguration
from memodb.memory.backend import Array

__all__ = [
    "FIRST_CAPACITY",
    "PROVENANCE_PASS_RATE",
    "Configuration",
    "Geometry",
    "even_pass_rate",
    "expected_fill",
    "first_geometry",
    "measured_pass_rate",
    "pass_rate_limit",
    "rows_for",
    "stored_pairs",
]

PROVENANCE_PASS_RATE = 2e-5
"""False candidates per window and document of the provenance layer. The catalog verifies every candidate, so this buys
speed, not truth: at 25 cells a window the least false work that the space allows."""

MOST_CELLS = 1 << 34
"""Cells of one matrix, far beyond any use: what a damaged catalog may at most ask memory for."""

FIRST_CAPACITY = 4096
"""Tokens that the first geometry of a segment is laid out for: small stores stay small, and growing is a doubling."""

_PAIRS_PER_TOKEN = {0: 0.5, 1: 0.85}
"""Distinct pairs per token that a first geometry expects of layers 0 and 1 (measured on small collections of prose)."""


@dataclass(frozen=True)
class Configuration:
    """What a collection's memory is built to; fixed when the store is created.

    Parameters
    ----------
    vocabulary : int
        Token ids are 0..vocabulary-1; the two ids above are the begin and end marks.
    heads, layers : int
        Layer L (0..layers) looks at the last heads^L tokens.
    false_recall : float
        Promise: the highest probability that an unknown context is answered, over all segments of the collection.
    window : int
        Tokens of a provenance window.
    columns, ones : int
        c and q: columns of every matrix (a power of two) and ones of every value (a power of two that divides it).
    segment_tokens : int
        Tokens of the first segment when it is sealed; each next segment takes twice as many.
    """

    vocabulary: int
    heads: int = 4
    layers: int = 2
    false_recall: float = 0.01
    window: int = 8
    columns: int = 512
    ones: int = 4
    segment_tokens: int = 1 << 20

    def __post_init__(self) -> None:
        def require(holds: bool, message: str) -> None:
            if not holds:
                raise InvalidConfiguration(message)

        for name in ("vocabulary", "heads", "layers", "window", "columns", "ones", "segment_tokens"):
            value = getattr(self, name)
            require(isinstance(value, int) and not isinstance(value, bool), f"{name} must be an int, not {value!r}")
        require(isinstance(self.false_recall, float | int), f"false_recall must be a number, not {self.false_recall!r}")
        require(1 <= self.vocabulary < 2**31 - 2, f"vocabulary must be 1..2**31-3, not {self.vocabulary}")
        require(2 <= self.heads <= 16, f"heads must be 2..16, not {self.heads}")
        require(0 <= self.layers <= 6, f"layers must be 0..6, not {self.layers}")
        require(self.heads**self.layers <= 4096, f"heads**layers must be at most 4096, not {self.heads**self.layers}")
        require(1e-9 <= self.false_recall <= 0.5, f"false_recall must be 1e-9..0.5, not {self.false_recall}")
        require(2 <= self.window <= 64, f"window must be 2..64 tokens, not {self.window}")
        require(
            self.columns in (256, 512, 1024, 2048, 4096),
            f"columns must be 256..4096, a power of two, not {self.columns}",
        )
        require(self.ones in (2, 4), f"ones must be 2 or 4, not {self.ones}")
        require(
            FIRST_CAPACITY <= self.segment_tokens <= 1 << 40,
            f"segment_tokens must be {FIRST_CAPACITY}..2**40, not {self.segment_tokens}",
        )

    @property
    def end(self) -> int:
        """The mark that follows every document's last token."""
        return self.vocabulary

    @property
    def begin(self) -> int:
        """The mark that stands before every document, as often as the longest context has tokens; never an answer."""
        return self.vocabulary + 1

    @property
    def answers(self) -> int:
        """V, the number of values a context may have: every token and the end mark."""
        return self.vocabulary + 1

    @property
    def spans(self) -> tuple[int, ...]:
        """Context lengths of the layers, in tokens: 1, h, h^2, ..."""
        return tuple(self.heads**level for level in range(self.layers + 1))

    @property
    def longest(self) -> int:
        """Tokens of the longest context."""
        return int(self.heads**self.layers)

    def key_ones(self, level: int) -> int:
        """s of a layer: so many that the promise is met near half fill, where a cell holds the most (f = 1/2).

        Layer 0 gets two more: its contexts, single tokens, fill their own rows, and a wider key finds an emptier one.
        """
        bits = math.log2(self.answers / self.false_recall)
        return max(2, round(bits / self.ones)) + 2 * (level == 0)

    @property
    def provenance_ones(self) -> int:
        """s of the provenance layer, near half fill."""
        return max(2, round(math.log2(1 / PROVENANCE_PASS_RATE) / self.ones))

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-ready values, in a fixed order."""
        return asdict(self)


@dataclass(frozen=True)
class Geometry:
    """The shape of one segment.

    Parameters
    ----------
    rows : tuple of int
        R of each answering layer, a multiple of the layer's s.
    provenance_rows : int
        R of the provenance layer.
    ordinal : int
        Place of the segment in its collection: sets its share of the promise and how many tokens it takes.
    """

    rows: tuple[int, ...]
    provenance_rows: int
    ordinal: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {"rows": list(self.rows), "provenance_rows": self.provenance_rows, "ordinal": self.ordinal}

    @classmethod
    def from_dict(cls, data: Any, configuration: Configuration) -> Geometry:
        """What :meth:`to_dict` gave.

        Raises
        ------
        CorruptStore
            No segment of this configuration has such a shape.
        """
        try:
            geometry = cls(tuple(data["rows"]), data["provenance_rows"], data["ordinal"])
            keys = [*map(configuration.key_ones, range(configuration.layers + 1)), configuration.provenance_ones]
            for rows, ones in zip((*geometry.rows, geometry.provenance_rows), keys, strict=True):
                if type(rows) is not int or not 0 < rows * configuration.columns <= MOST_CELLS or rows % ones:
                    raise ValueError(f"{rows!r} rows")
            if type(geometry.ordinal) is not int or not 0 <= geometry.ordinal < 64:
                raise ValueError(f"ordinal {geometry.ordinal!r}")
        except (KeyError, TypeError, ValueError) as exc:
            raise CorruptStore(f"the catalog gives a segment an impossible shape: {exc}") from exc
        return geometry


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
    """
    density = (ones_per_row.reshape(key_ones, -1) / columns) ** value_ones
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


def pass_rate_limit(configuration: Configuration, ordinal: int) -> float:
    """The highest g that a layer of the ``ordinal``-th segment may reach.

    Shares of the promise are 4/5, 4/25, 4/125, ...: they sum to the promise however many segments a collection has. A
    flat split would have to know their number beforehand.
    """
    share = 0.8 * 0.2**ordinal
    return configuration.false_recall * share / configuration.answers


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


def first_geometry(configuration: Configuration, ordinal: int, tokens: int = FIRST_CAPACITY) -> Geometry:
    """The shape a segment starts with, laid out for ``tokens`` tokens of text nobody has seen yet."""
    rate = pass_rate_limit(configuration, ordinal)
    rows = tuple(
        rows_for(
            _PAIRS_PER_TOKEN.get(level, 1.0) * tokens,
            rate,
            configuration.columns,
            configuration.key_ones(level),
            configuration.ones,
        )
        for level in range(configuration.layers + 1)
    )
    provenance = rows_for(
        tokens, PROVENANCE_PASS_RATE, configuration.columns, configuration.provenance_ones, configuration.ones
    )
    return Geometry(rows, provenance, ordinal)
