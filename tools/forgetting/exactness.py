"""Exactness, the question of MeMo's authors: memorise A, memorise B, forget A; what is left of A in the matrices?

The residue of a matrix is the norm of its difference to the matrix of a memory that saw only B, relative to the norm
of that one. It is asked of any engine that can memorise, forget, and show its matrices (MeMo, arXiv 2502.12851, forgets
by subtracting outer products of real vectors).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

import memodb
from forgetting.decoded import contexts
from forgetting.measures import Figure
from memodb.memory import Backend, Batch, Configuration, first_geometry, memory_for

__all__ = ["Engine", "Residue", "Stored", "beside", "figures", "measure", "shared"]

Matrices = dict[str, npt.NDArray[Any]]


class Engine(Protocol):
    """A memory of texts that can be looked into."""

    def memorise(self, texts: Mapping[str, str]) -> None:
        """Add texts by id."""

    def forget(self, texts: Mapping[str, str]) -> None:
        """Take texts out that were added under these ids."""

    def matrices(self) -> Matrices:
        """Every matrix by name, copied."""


class Stored:
    """An engine of memodb's: one segment of a fixed geometry, so that two memories can be compared cell by cell.

    Parameters
    ----------
    configuration : Configuration
        Of the engine.
    tokenizer : Tokenizer
    tokens : int
        That the geometry is laid out for.
    seed : bytes
        The matrices' secret, 32 bytes: equal for memories to be compared.
    """

    def __init__(self, configuration: Configuration, tokenizer: memodb.Tokenizer, tokens: int, seed: bytes) -> None:
        self._encode = tokenizer.encode
        geometry = first_geometry(configuration, 0, tokens)
        self._segment = memory_for(Backend(), configuration, seed).new_segment(geometry)

    def _batch(self, texts: Mapping[str, str]) -> Batch:
        return Batch.of([(self._symbol(name), self._encode(text)) for name, text in texts.items()])

    @staticmethod
    def _symbol(name: str) -> int:
        return int.from_bytes(name.encode().rjust(8, b"\0")[-8:], "little")

    def memorise(self, texts: Mapping[str, str]) -> None:
        self._segment.add(self._segment.contribution(self._batch(texts)))

    def forget(self, texts: Mapping[str, str]) -> None:
        self._segment.subtract(self._segment.contribution(self._batch(texts)))

    def matrices(self) -> Matrices:
        """True counts of every counting matrix and the packed bits that queries read; every correlation matrix."""
        found: Matrices = {}
        for number, matrix in enumerate(self._segment.matrices):
            name = "provenance" if matrix is self._segment.provenance else f"layer {number}"
            found[f"counts of {name}"] = matrix.counts_of(np.arange(matrix.rows * matrix.columns))
            found[f"presence of {name}"] = np.unpackbits(matrix.presence.view(np.uint8)).astype(np.int64)
        for number, correlation in enumerate(self._segment.correlations, 1):
            found[f"correlations of layer {number}"] = correlation.copy()
        return found


@dataclass(frozen=True)
class Residue:
    """What forgetting A left in a memory of A and B.

    Parameters
    ----------
    before, after : dict of str to float
        Relative difference of each matrix to that of a memory of B alone, before A was forgotten and after.
    cells : int
        Numbers that were compared.
    unequal : int
        Numbers that differ after forgetting.
    """

    before: dict[str, float]
    after: dict[str, float]
    cells: int
    unequal: int


def measure(engine: Callable[[], Engine], first: Mapping[str, str], second: Mapping[str, str]) -> Residue:
    """Memorise both, forget the first, and compare with a memory that saw only the second.

    Parameters
    ----------
    engine : callable
        Makes an empty memory; each it makes has the same seed and size.
    """
    both, only = engine(), engine()
    both.memorise(first)
    both.memorise(second)
    only.memorise(second)
    reference = only.matrices()
    before = _relative(both.matrices(), reference)
    both.forget(first)
    after = both.matrices()
    return Residue(
        before,
        _relative(after, reference),
        sum(matrix.size for matrix in reference.values()),
        sum(int((after[name] != matrix).sum()) for name, matrix in reference.items()),
    )


def _relative(found: Matrices, reference: Matrices) -> dict[str, float]:
    return {
        name: float(np.linalg.norm(found[name].astype(np.float64) - matrix) / np.linalg.norm(matrix.astype(np.float64)))
        for name, matrix in reference.items()
    }


def beside(name: str, found: Residue, *, exact: bool) -> Figure:
    """What another engine leaves of A, as a row to compare with."""
    return Figure(
        "exactness",
        f"the same with {name}: relative residue, most of {len(found.after)} matrices; cells that differ",
        f"{max(found.after.values()):.1g}; {found.unequal:,} of {found.cells:,}",
        "0" if exact else "rounding, below 1e-5",
        found.unequal == 0 if exact else max(found.after.values()) < 1e-5,
    )


def shared(tokenizer: memodb.Tokenizer, first: Mapping[str, str], second: Mapping[str, str], span: int) -> float:
    """Share of A's distinct runs of ``span`` tokens that B has too."""

    def runs(texts: Mapping[str, str]) -> set[bytes]:
        return {row.tobytes() for text in texts.values() for row in contexts(tokenizer.encode(text), span)}

    ours = runs(first)
    return len(ours & runs(second)) / len(ours)


def figures(found: Residue, common: Mapping[int, float], verified: bool) -> list[Figure]:
    """Rows of the table.

    Parameters
    ----------
    common : dict of int to float
        Length of a run of tokens to the share of A's runs that B has too.
    verified : bool
        Whether the store's own receipts compared the memory with its rebuild, and found them equal.
    """
    worst = max(found.after.values())
    return [
        Figure(
            "exactness",
            f"A's distinct runs of {', '.join(map(str, common))} tokens that B has too",
            ", ".join(f"{share:.1%}" for share in common.values()),
        ),
        Figure(
            "exactness",
            "relative residue before A is forgotten, least and most of all matrices",
            f"{min(found.before.values()):.3f}, {max(found.before.values()):.3f}",
            "above 0",
            min(found.before.values()) > 0,
        ),
        Figure(
            "exactness", f"relative residue of A, most of {len(found.after)} matrices", f"{worst:g}", "0", worst == 0
        ),
        Figure(
            "exactness",
            "cells that differ from the memory of B alone",
            f"{found.unequal:,} of {found.cells:,}",
            "0",
            found.unequal == 0,
        ),
        Figure(
            "exactness",
            "store: memory equal to its rebuild after the deletions, byte for byte",
            "yes" if verified else "no",
            "yes",
            verified,
        ),
    ]
