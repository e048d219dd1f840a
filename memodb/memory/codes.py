"""Symbols and codes: how contexts, tokens and documents become ones in a matrix.

Everything here is a function of the collection's secret 32-byte seed and of what is coded, and of nothing else: no
counters, no order of arrival. That is what makes two stores with the same live documents hold the same bytes.

*Symbols* are 64-bit keyed hashes of contexts, composed as MeMo composes its sequence encoding (arXiv 2502.12851,
section 3): a context of layer L is h blocks of layer L-1, in order. One composition step is multilinear hashing with
secret odd multipliers (Lemire and Kaser, "Strongly universal string hashing is fast", 2014) followed by the SplitMix64
finaliser (Steele, Lea and Flood, 2014). Two contexts with one symbol would share cells: that can add a false candidate,
never hide a true one.

*Codes* are the ones of a value: a token (or a document) has one column in each of q equal blocks of the c columns.
Blocks instead of q arbitrary columns, because the pair (first block, second block) then names about one token in
16,000: reading decodes a row through a table of pairs instead of testing every token (measured: ten times fewer tests
per context).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from memodb.memory.backend import Array

__all__ = [
    "ContextKeys",
    "Keys",
    "block_codes",
    "context_symbols",
    "finalise",
    "hashed",
    "layer_symbols",
    "select_columns",
    "select_rows",
    "window_symbols",
]


class Keys:
    """The secret multipliers that a seed stands for.

    Parameters
    ----------
    seed : bytes
        32 secret bytes, one seed a collection.
    """

    def __init__(self, seed: bytes) -> None:
        self._seed = seed

    def derive(self, label: str, count: int) -> np.ndarray:
        """``count`` uint64 words of keyed pseudo-random data for one purpose (SHAKE-256 of the seed and a label)."""
        stream = hashlib.shake_256(b"memodb/1/" + label.encode() + b"\0" + self._seed).digest(8 * count)
        return np.frombuffer(stream, dtype="<u8").astype(np.uint64)

    def multipliers(self, label: str, count: int) -> np.ndarray:
        """``count`` odd uint64 multipliers and one addend: (count + 1,)."""
        words = self.derive(label, count + 1)
        words[:count] |= np.uint64(1)
        return words


def finalise(x: Array) -> Array:
    """The SplitMix64 finaliser, in place: a bijection of uint64; every output bit depends on every input bit."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def hashed(items: Array, multipliers: np.ndarray) -> Array:
    """Keyed pseudo-random words of items uint64 (n,), with a multiplier and the addend of :meth:`Keys.multipliers`."""
    return finalise(items * multipliers[0] + multipliers[-1])


def _compose(parts: list[Array], multipliers: np.ndarray) -> Array:
    """The symbol of a sequence of equally long parts: finalise(sum of a_i * part_i + b), each (n,) uint64."""
    total = parts[0] * multipliers[0]
    for part, multiplier in zip(parts[1:], multipliers[1:-1], strict=True):
        total += part * multiplier
    total += multipliers[-1]
    return finalise(total)


@dataclass(frozen=True)
class ContextKeys:
    """Multipliers of every composition step: tokens, each layer's blocks, the provenance window."""

    token: np.ndarray
    layers: tuple[np.ndarray, ...]
    window: np.ndarray

    @classmethod
    def derive(cls, keys: Keys, heads: int, layers: int, window: int) -> ContextKeys:
        return cls(
            keys.multipliers("token", 1),
            tuple(keys.multipliers(f"layer {level}", heads) for level in range(1, layers + 1)),
            keys.multipliers("window", window),
        )


def _along(below: Array, width: int, multipliers: np.ndarray, kernels: ModuleType | None) -> Array:
    """Symbols of so many parts of this width, one after another, that begin at each place of a stream."""
    parts = multipliers.size - 1
    length = max(below.shape[-1] - (parts - 1) * width, 0)
    if kernels is not None and below.ndim == 1:
        symbols: Array = kernels.composed(below, width, multipliers, length)
        return symbols
    return _compose([below[..., i * width : i * width + length] for i in range(parts)], multipliers)


def layer_symbols(tokens: Array, keys: ContextKeys, kernels: ModuleType | None = None) -> list[Array]:
    """Symbols of the contexts that end at each place of a stream, for every layer.

    Parameters
    ----------
    tokens : integer (n,) or (rows, n)
        Token ids with marks; along the last axis.
    kernels : module, optional
        :mod:`memodb.memory.fast`.

    Returns
    -------
    list of uint64 arrays
        Entry L covers contexts of h^L tokens; its element p is the context that *ends* at place p + h^L - 1, so it is
        h^L - 1 shorter along the last axis.
    """
    symbols = [_along(tokens.astype(np.uint64), 1, keys.token, kernels)]
    width = 1
    for multipliers in keys.layers:
        symbols.append(_along(symbols[-1], width, multipliers, kernels))
        width *= multipliers.size - 1
    return symbols


def context_symbols(contexts: Array, keys: ContextKeys) -> list[Array]:
    """Symbols of whole contexts, one a layer: the same values as :func:`layer_symbols`, without the contexts between.

    Parameters
    ----------
    contexts : int64 (n, h^l)

    Returns
    -------
    list of uint64 (n,)
        Entry L is the symbol of the last h^L tokens.
    """
    below = _compose([contexts.astype(np.uint64)], keys.token)
    symbols = [below[:, -1]]
    for multipliers in keys.layers:
        blocks = below.reshape(below.shape[0], -1, multipliers.size - 1)
        below = _compose([blocks[:, :, i] for i in range(blocks.shape[2])], multipliers)
        symbols.append(below[:, -1])
    return symbols


def window_symbols(tokens: Array, keys: ContextKeys, kernels: ModuleType | None = None) -> Array:
    """Symbols of the windows that *start* at each place of a stream (n,): uint64 (n - window + 1,)."""
    return _along(_along(tokens.astype(np.uint64), 1, keys.token, kernels), 1, keys.window, kernels)


def select_rows(symbols: Array, multipliers: Array, rows: int, ones: int, columns: int) -> tuple[Array, Array]:
    """The key of a context: its rows, one in each of ``ones`` equal bands, and the rotation of its values.

    Bands make the rows distinct: with rows drawn freely a small matrix would give some contexts the same row twice and
    a false-recall rate above the formula's.

    Parameters
    ----------
    symbols : uint64 (n,)
    multipliers : uint64 (ones // 2 + 2,)
        From :meth:`Keys.multipliers`, ones // 2 + 1 of them; each hashed word yields two 32-bit numbers.
    rows : int
        Rows of the matrix, a multiple of ``ones``, below 2**32.
    columns : int
        A power of two.

    Returns
    -------
    rows : int64 (ones, n)
        Row numbers, one a band.
    rotation : int64 (n,)
        Offset of the value's columns, 0..columns-1.
    """
    band = rows // ones
    words = finalise(symbols * multipliers[:-1, None] + multipliers[-1])
    # of each word the upper half, then the lower one: on every machine that is served the lower lies first
    halves = words.view(np.uint32).reshape(*words.shape, 2)[:, :, ::-1]
    numbers = halves.transpose(0, 2, 1).reshape(2 * len(words), symbols.size)
    # multiply and shift maps 32 bits evenly onto the band without a division (Lemire 2019)
    chosen = ((numbers[:ones].astype(np.uint64) * np.uint64(band)) >> np.uint64(32)).astype(np.int64)
    for i in range(1, ones):
        chosen[i] += i * band
    return chosen, (numbers[ones] & np.uint32(columns - 1)).astype(np.int64)


def block_codes(items: Array, multipliers: np.ndarray, columns: int, ones: int) -> Array:
    """The fixed codes of tokens or documents: one column in each of ``ones`` equal blocks.

    Parameters
    ----------
    items : uint64 (n,)
        Token ids or document symbols.
    multipliers : uint64 (ones // 2 + 2,)

    Returns
    -------
    int64 (n, ones)
    """
    block = columns // ones
    numbers: list[Array] = []
    for multiplier in multipliers[:-1]:
        word = finalise(items * multiplier + multipliers[-1])
        numbers += [word >> np.uint64(32), word & np.uint64(0xFFFFFFFF)]
    codes = [(numbers[i] & np.uint64(block - 1)).astype(np.int64) + i * block for i in range(ones)]
    stacked: Array = codes[0][:, None].repeat(ones, axis=1)
    for i in range(1, ones):
        stacked[:, i] = codes[i]
    return stacked


def select_columns(codes: Array, rotation: Array, columns: int) -> Array:
    """Columns of values (n, q) rotated by their contexts' offsets (n,): int64 (n, q)."""
    return (codes + rotation[:, None]) & (columns - 1)
