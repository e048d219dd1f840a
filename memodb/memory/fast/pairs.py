"""Pairs that a batch of documents stores: symbols of its contexts, and each pair of a document once."""

from __future__ import annotations

from typing import Any

import numpy as np

from memodb.memory.fast.compiling import compiled, finalise

__all__ = ["composed", "distinct"]

_AT_ONCE = 1024
"""Symbols that are made together."""


@compiled
def composed(below: Any, width: int, multipliers: Any, length: int) -> Any:
    """:func:`memodb.memory.codes._along` of a stream: the first ``length`` symbols. Some at a time, each of which takes
    part in one step: so several are multiplied by one instruction."""
    found = np.empty(length, dtype=np.uint64)
    for begin in range(0, length, _AT_ONCE):
        some = found[begin : begin + _AT_ONCE]
        some[:] = multipliers[-1]
        for part in range(multipliers.size - 1):
            multiplier, parts = multipliers[part], below[begin + part * width :]
            for i in range(some.size):
                some[i] += parts[i] * multiplier
        for i in range(some.size):
            some[i] = finalise(some[i])
    return found


@compiled
def _same(symbols: Any, values: Any, documents: Any, i: Any, k: Any) -> Any:
    return (symbols[k] == symbols[i]) & (values[k] == values[i]) & (documents[k] == documents[i])


@compiled
def distinct(symbols: Any, values: Any, documents: Any) -> Any:
    """:func:`memodb.memory.pairs.distinct`, the first ones, in their order: by a table of places, by hash. Where each
    document stands in one piece it has a table of its own, which stays in a core's cache."""
    found, left = np.empty(symbols.size + 1, dtype=np.int64), 0  # one more is written than is found
    ascending = True
    for i in range(1, symbols.size):
        ascending &= documents[i - 1] <= documents[i]
    table, begin = np.empty(64, dtype=np.int32), 0
    while begin < symbols.size:
        end = begin + 1 if ascending else symbols.size
        while end < symbols.size and documents[end] == documents[begin]:
            end += 1
        bits = 6
        while 1 << bits < 4 * (end - begin):
            bits += 1
        if table.size < 1 << bits:
            table = np.empty(1 << bits, dtype=np.int32)
        table[: 1 << bits] = -1
        for i in range(begin, end):
            mixed = symbols[i] ^ np.uint64(values[i]) * np.uint64(0xC2B2AE3D27D4EB4F)
            mixed ^= np.uint64(documents[i]) * np.uint64(0x9E3779B97F4A7C15)
            at = np.int64(finalise(mixed) >> np.uint64(64 - bits))
            k = np.int64(table[at])
            known = (k >= 0) & _same(symbols, values, documents, i, max(k, 0))
            while (k >= 0) & ~known:  # another's place, which is seldom: whether it is known is seldom foreseen
                at = (at + 1) & ((1 << bits) - 1)
                k = np.int64(table[at])
                known = (k >= 0) & _same(symbols, values, documents, i, max(k, 0))
            table[at] = k if known else i
            found[left] = i
            left += not known
        begin = end
    return found[:left].copy()
