"""One context by itself, in Python's own numbers.

NumPy takes a microsecond for a step, however few numbers are in it, and a context takes some hundred steps of a few.
Here a row of a presence view is one number of c bits, what a context's rows have in common is their AND, and the layers
agree by another. Contexts with many candidates are left to NumPy, which takes all of them in one step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Any

import numpy as np

from memodb.memory.codes import ContextKeys
from memodb.memory.decoding import CodeTable
from memodb.memory.willshaw import LARGE, WillshawMatrix

__all__ = ["Numbers", "Reading", "ask", "read", "symbols"]

_MANY = 16
"""Candidates from which on NumPy is as fast."""

_WORD = (1 << 64) - 1

Matrices = Sequence[WillshawMatrix]


@dataclass(frozen=True)
class Numbers:
    """What a codebook is, in Python's numbers.

    Parameters
    ----------
    token : list
        Multiplier and addend.
    layers, selectors : list of lists
        As in :class:`memodb.memory.codes.ContextKeys`, and those that :func:`memodb.memory.codes.select_rows` is given.
    key_ones : sequence of int
        Of the layers.
    columns : int
        c.
    tokens : CodeTable
    """

    token: list[int]
    layers: list[list[int]]
    selectors: list[list[int]]
    key_ones: Sequence[int]
    columns: int
    tokens: CodeTable

    @classmethod
    def of(cls, keys: ContextKeys, selectors: Sequence[Any], key_ones: Sequence[int], tokens: CodeTable) -> Numbers:
        """Of host arrays."""
        layers, rows = ([each.tolist() for each in arrays] for arrays in (keys.layers, selectors))
        return cls(keys.token.tolist(), layers, rows, key_ones, tokens.columns, tokens)


@dataclass(frozen=True)
class Reading:
    """What one segment says about a context.

    Parameters
    ----------
    matrices : sequence of WillshawMatrix
        Its layers.
    keys : list of (rows, rotation)
        A pair a layer.
    agreed : list of int
        Entry L: the columns that survive layers 0..L, a bit each; shorter where none is left.
    """

    matrices: Matrices
    keys: list[tuple[list[int], int]]
    agreed: list[int]

    def holds(self, level: int, code: Sequence[int]) -> bool:
        """Whether layers 0..level answer the item of this code."""
        return level < len(self.agreed) and all(self.agreed[level] >> column & 1 for column in code)

    def support(self, layer: int, code: Sequence[int]) -> int:
        """As :meth:`WillshawMatrix.support`, of an item that this layer answers."""
        matrix, (rows, rotation) = self.matrices[layer], self.keys[layer]
        places = [(column + rotation) & (matrix.columns - 1) for column in code]
        cells, least = memoryview(matrix.cells), LARGE
        for row in rows:
            for place in places:
                cell = row * matrix.columns + place
                least = min(least, cells[cell >> 1] >> ((cell & 1) << 2) & LARGE)
            if least == 1:  # a cell that is set counts 1 at least
                return 1
        if least < LARGE:
            return least
        return int(matrix.counts_of(np.add.outer(np.array(rows) * matrix.columns, places)).min())


def _finalised(x: int) -> int:
    """:func:`memodb.memory.codes.finalise`."""
    x &= _WORD
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & _WORD
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & _WORD
    return x ^ x >> 31


def symbols(context: Sequence[int], numbers: Numbers) -> list[int]:
    """:func:`memodb.memory.codes.context_symbols` of one context (h^l,)."""
    multiplier, addend = numbers.token
    below = [_finalised(token * multiplier + addend) for token in context]
    found = [below[-1]]
    for *heads, addend in numbers.layers:
        blocks = range(0, len(below), len(heads))
        below = [_finalised(sum(map(mul, below[at : at + len(heads)], heads), addend)) for at in blocks]
        found.append(below[-1])
    return found


def _key(symbol: int, selector: list[int], rows: int, ones: int, columns: int) -> tuple[list[int], int]:
    """:func:`memodb.memory.codes.select_rows` of one symbol."""
    *multipliers, addend = selector
    band, halves = rows // ones, []
    for multiplier in multipliers:
        word = _finalised(symbol * multiplier + addend)
        halves += [word >> 32, word & 0xFFFFFFFF]
    return [(half * band >> 32) + at * band for at, half in enumerate(halves[:ones])], halves[ones] & (columns - 1)


def read(matrices: Matrices, names: Sequence[int], numbers: Numbers) -> Reading:
    """Ask the layers of a segment about a context, by its symbols, as far as any column is left."""
    columns, size = numbers.columns, numbers.columns >> 3
    left = every = (1 << columns) - 1
    keys, agreed = [], []
    for matrix, name, selector, ones in zip(matrices, names, numbers.selectors, numbers.key_ones, strict=False):
        rows, rotation = _key(name, selector, matrix.rows, ones, columns)
        presence, common = memoryview(matrix.presence).cast("B"), every
        for row in rows:
            common &= int.from_bytes(presence[row * size : (row + 1) * size], "little")
        left &= common >> rotation | common << columns - rotation
        if not left:
            break
        keys.append((rows, rotation))
        agreed.append(left)
    return Reading(matrices, keys, agreed)


def _bits(number: int) -> list[int]:
    """Places of the bits that are set, ascending."""
    found = []
    while number:
        lowest = number & -number
        found.append(lowest.bit_length() - 1)
        number ^= lowest
    return found


def _candidates(table: CodeTable, agreed: int, first: int, second: int) -> Iterator[int]:
    """As :meth:`CodeTable.decode` of one row, in no order; by the columns of its first two blocks."""
    starts, members, seconds = memoryview(table.starts), memoryview(table.members), _bits(second)
    for column in _bits(first):
        for other in seconds:
            bucket = column * table.block + other
            for place in range(starts[bucket], starts[bucket + 1]):
                item = members[place]
                if all(agreed >> further & 1 for further in table.codes[item, 2:].tolist()):
                    yield item


def ask(
    context: Sequence[int], top: int, segments: Sequence[Matrices], numbers: Numbers, patience: int
) -> tuple[int, list[tuple[int, int]], int] | None:
    """The answers of layers 0..top of all segments.

    Parameters
    ----------
    context : sequence of int (h^l,)
    patience : int
        Pairs of columns above which a context is left.

    Returns
    -------
    level, answers, left
        The layer that answers, -1 where none does; (token, support) in order, as in
        :class:`memodb.memory.answers.Answers`; and the layer at which the context is left, -1 where it is not. None
        where there are too many candidates for this way.
    """
    table = numbers.tokens
    names = symbols(context, numbers)[: top + 1]
    readings = [read(matrices, names, numbers) for matrices in segments]
    block = (1 << table.block) - 1
    for level in range(top, -1, -1):
        tokens: set[int] = set()
        for reading in readings:
            if level < len(reading.agreed):
                agreed = reading.agreed[level]
                first, second = agreed & block, agreed >> table.block & block
                if first.bit_count() * second.bit_count() > patience:
                    return -1, [], level
                tokens.update(_candidates(table, agreed, first, second))
        if len(tokens) > _MANY:
            return None
        if tokens:
            return level, _ranked(sorted(tokens), level, readings, table), -1
    return -1, [], -1


def _ranked(tokens: list[int], level: int, readings: list[Reading], table: CodeTable) -> list[tuple[int, int]]:
    """Candidates of a layer with their supports there: those that have the same by what layers below say, then by
    token."""
    codes = dict(zip(tokens, table.codes[tokens].tolist(), strict=True))
    held = {token: [reading for reading in readings if reading.holds(level, codes[token])] for token in tokens}

    def support(token: int, layer: int) -> int:
        return sum(reading.support(layer, codes[token]) for reading in held[token])

    supports = {token: support(token, level) for token in tokens}
    alike = Counter(supports.values())

    def place(token: int) -> tuple[int, list[int], int]:
        tied = alike[supports[token]] > 1
        below = [-support(token, layer) for layer in range(level - 1, -1, -1)] if tied else []
        return -supports[token], below, token

    return [(token, supports[token]) for token in sorted(tokens, key=place)]
