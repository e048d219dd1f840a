"""Whether the paper's decoding, the largest inner product with all token vectors, gives the true token."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["correct", "hits"]

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

_ROWS = 2048
_TOKENS = 4096
"""Rows and tokens of one product. Its scores, 32 MB, are read once more for their maximum: 1 % of the time."""


def correct(read: Floats, truth: Ids, vectors: Floats, suspects: Ids | None = None) -> npt.NDArray[np.bool_]:
    """Rows whose true token is the arg max over all tokens; of equal scores the lowest id wins, as arg max has it.

    Nothing but a comparison with the true token's own score is needed, so a row is left out as soon as any token beats
    it: the result is that of the whole arg max, and a memory that is mostly wrong is read several times faster.

    Parameters
    ----------
    read : float32 (n, d)
        What was read from a matrix.
    truth : int64 (n,)
    vectors : float32 (V, d)
        Of all tokens that can be answered.
    suspects : int64 (m,), optional
        Distinct tokens to try first, since they beat many others: it changes the time, never the result.

    Returns
    -------
    bool (n,)
    """
    held = np.zeros(len(truth), dtype=bool)
    for at in range(0, len(truth), _ROWS):
        held[at : at + _ROWS] = _correct(read[at : at + _ROWS], truth[at : at + _ROWS], vectors, suspects)
    return held


def _correct(read: Floats, truth: Ids, vectors: Floats, suspects: Ids | None) -> npt.NDArray[np.bool_]:
    own = np.einsum("nd,nd->n", read, vectors[truth])
    left = np.arange(len(truth))
    if suspects is not None:
        left = left[_unbeaten(read, truth, own, vectors[suspects], suspects)]
    for at in range(0, len(vectors), _TOKENS):
        if not left.size:
            break
        some = vectors[at : at + _TOKENS]
        left = left[_unbeaten(read[left], truth[left], own[left], some, np.arange(at, at + len(some)))]
    held = np.zeros(len(truth), dtype=bool)
    held[left] = True
    return held


def _unbeaten(read: Floats, truth: Ids, own: Floats, vectors: Floats, tokens: Ids) -> npt.NDArray[np.bool_]:
    """Rows that none of these tokens beats."""
    scores = read @ vectors.T
    # The product rounds the true token's score otherwise than the sum that made ``own``: it must not beat itself.
    order = np.argsort(tokens, kind="stable")
    place = np.minimum(np.searchsorted(tokens[order], truth), len(tokens) - 1)
    among = np.flatnonzero(tokens[order][place] == truth)
    scores[among, order[place[among]]] = -np.inf
    best = scores.max(axis=1)
    kept: npt.NDArray[np.bool_] = best < own
    for row in np.flatnonzero(best == own):
        kept[row] = tokens[scores[row] == own[row]].min() > truth[row]
    return kept


def hits(read: Floats, truth: Ids, vectors: Floats, suspects: Ids | None = None) -> float:
    """Share of rows whose true token is the arg max."""
    return float(correct(read, truth, vectors, suspects).mean())
