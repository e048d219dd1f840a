"""What documents add to a counting matrix: pairs, which fit one of any shape, and the cells that these hit in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memodb.memory.backend import Array, Backend
from memodb.memory.codes import select_columns, select_rows

__all__ = ["Tally", "Votes", "tally"]


@dataclass(frozen=True)
class Tally:
    """What a set of documents adds to a matrix: distinct flat cell numbers, ascending, and their counts."""

    cells: Array
    counts: Array


def tally(backend: Backend, cells: Array) -> Tally:
    """Count repeated cell numbers (n,) by sorting them in place: exact for any multiplicity, no scratch matrix."""
    xp = backend.xp
    cells.sort()
    ordered = cells
    first = xp.ones(ordered.size, dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    places = xp.flatnonzero(first)
    counts = xp.empty(places.size, dtype=np.uint32 if ordered.size < 1 << 32 else np.int64)  # half the bytes
    if places.size:
        counts[:-1] = places[1:] - places[:-1]
        counts[-1] = ordered.size - places[-1]
    return Tally(ordered[places], counts)


class Votes:
    """What a set of documents adds to a matrix of any number of rows: 1 to each cell of each of their pairs.

    Parameters
    ----------
    backend : Backend
    symbols : uint64 (n,)
        Contexts.
    values : int64 (n,)
    codes : int64 (values, q)
    selector : uint64 (s // 2 + 2,)
        See :func:`memodb.memory.codes.select_rows`.
    ones : int
        s.
    """

    def __init__(
        self, backend: Backend, symbols: Array, values: Array, codes: Array, selector: np.ndarray, ones: int
    ) -> None:
        self._backend = backend
        self._codes = codes
        self.hits = int(symbols.size) * ones * codes.shape[1]
        self.pairs = symbols, values, codes.astype(np.int16), selector, ones
        self._tally: tuple[int, int, Tally] | None = None

    @classmethod
    def joined(cls, parts: Sequence[Votes]) -> Votes:
        """What several sets of documents add to a matrix, as one; codes that they share are kept once."""
        first, xp = parts[0], parts[0]._backend.xp
        begins: dict[int, int] = {}
        tables: list[Array] = []
        for part in parts:
            if id(part._codes) not in begins:
                begins[id(part._codes)] = sum(map(len, tables))
                tables.append(part._codes)
        symbols = xp.concatenate([part.pairs[0] for part in parts])
        values = xp.concatenate([part.pairs[1] + begins[id(part._codes)] for part in parts])
        codes = tables[0] if len(tables) == 1 else xp.concatenate(tables)
        return cls(first._backend, symbols, values, codes, *first.pairs[3:])

    def cells(self, rows: int, columns: int) -> Array:
        """Flat numbers of the cells that are hit in a matrix of this shape, as often as they are: (hits,)."""
        symbols, values, codes, selector, ones = self.pairs
        small = np.uint32 if rows * columns <= 1 << 32 else np.int64  # half the bytes to sort
        chosen, rotation = select_rows(symbols, selector, rows, ones, columns)
        hit = select_columns(codes[values].astype(np.int64), rotation, columns).astype(small)
        cells: Array = (chosen * columns).astype(small)[:, :, None] + hit
        return cells.reshape(-1)

    def tally(self, rows: int, columns: int) -> Tally:
        """The cells that are hit in a matrix of this shape, and how often; kept until another shape is asked for."""
        if self._tally is None or self._tally[:2] != (rows, columns):
            self._tally = (rows, columns, tally(self._backend, self.cells(rows, columns)))
        return self._tally[2]
