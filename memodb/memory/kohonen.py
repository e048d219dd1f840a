"""MeMo's associative memory as published: linear correlation matrices over dense codes.

Zanzotto et al., "Towards Language Models with Associative Memory Mechanisms" (arXiv 2502.12851), with the multi-layer
form of the authors' public implementation; the memory of one layer is Kohonen's ("Correlation matrix memories", 1972).

A token w has a vector e(w) of d numbers. A block of layer 1 is a token's vector; h blocks in order make

- a *key* of d numbers: each block through the layer's head projection W_v (d x d/h), the h results side by side;
- an *encoding* of d numbers: all blocks side by side, through the layer's sequence projection Prj (hd x d). Encodings
  are the blocks of the layer above, so layer L sees h^L tokens.

``C += k v^T`` stores a pair, ``k C`` reads it, and the token whose vector has the largest inner product with what was
read is the answer. Layer L < l stores (key, encoding) in its own matrix; the keys of *every* layer are stored with the
next token's vector in the matrix of the last layer, and reading adds them up: so the layers vote.

Codes, all a function of the collection's seed:

- ``gaussian``, the paper's: vectors and projections are independent normals, scaled so that keys, encodings and token
  vectors have an expected norm of 1. Sums depend on their order, by rounding: forgetting is not exact.
- ``rademacher``: every number of a token's vector and a projection is 1 or -1, and what a projection gives is reduced
to
  its sign (0 where it is 0). A pair then changes each cell by -1, 0 or 1, so sums of up to 2^24 pairs are integers that
  float32 holds exactly, in whatever order BLAS adds them up: forgetting is exact to the bit. Norms are about sqrt(d).

Rejected: the authors' ``penalize`` weight, which divides what is stored by how often the matrix seems to hold it at
that moment. It makes what a text adds depend on what came before, so no later subtraction can undo it (docs/paper.md,
table 4). Here a pair counts once a document, as in the other engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from memodb.memory.backend import Array, Backend
from memodb.memory.capacity import key_length
from memodb.memory.codes import Keys, hashed
from memodb.memory.configuration import KohonenConfiguration

__all__ = ["Codes", "correlated", "dense", "sliding"]

_WORDS_AT_ONCE = 1 << 22
"""Hashed words drawn in one step: bounds the temporaries of :func:`dense` at about 150 MB."""

_BLOCK_NUMBERS = 1 << 24
"""Numbers of blocks that are encoded in one step: 64 MB, and large enough that BLAS runs at its full speed."""


def dense(backend: Backend, keys: Keys, label: str, rows: int, columns: int, kind: str) -> Array:
    """Independent codes of variance 1: standard normals, or 1 and -1; float32 (rows, columns).

    A function of the seed and the label. Rademacher codes are the bits of a hashed counter (SplitMix64), normals the
    transform of Box and Muller (1958) of its halves, so the first are the same on every machine, the second up to the
    last digits of its logarithm.
    """
    xp = backend.xp
    multipliers = keys.multipliers(f"dense {label}", 1)
    codes = xp.empty(rows * columns, dtype=np.float32)
    each = 64 if kind == "rademacher" else 2
    for at in range(0, codes.size, _WORDS_AT_ONCE * each):
        part = codes[at : at + _WORDS_AT_ONCE * each]
        words = -(-part.size // each)
        drawn = hashed(xp.arange(at // each, at // each + words).astype(np.uint64), multipliers)
        part[:] = (_signs(backend, drawn) if kind == "rademacher" else _normals(backend, drawn))[: part.size]
    return codes.reshape(rows, columns)


def _signs(backend: Backend, words: Array) -> Array:
    bits = backend.xp.unpackbits(words.view(np.uint8), bitorder="little")
    return 1 - 2 * bits.astype(np.float32)


def _normals(backend: Backend, words: Array) -> Array:
    xp = backend.xp
    radius = ((words >> np.uint64(40)).astype(np.float32) + np.float32(1)) * np.float32(2**-24)
    angle = (words & np.uint64(0xFFFFFF)).astype(np.float32) * np.float32(2**-24 * 2 * math.pi)
    radius = xp.sqrt(-2 * xp.log(radius))
    return xp.stack([radius * xp.cos(angle), radius * xp.sin(angle)], axis=1).reshape(-1)


def correlated(keys: Array, values: Array) -> Array:
    """The sum of outer products, K^T V: float32 (d_key, d_value) from (n, d_key) and (n, d_value), in one product."""
    return keys.T @ values


def sliding(backend: Backend, places: Array, heads: int, stride: int) -> Array:
    """Places of the h blocks that end at each place of a stream: int64 (n, h), ``stride`` apart, in order."""
    return places[:, None] + (backend.xp.arange(heads) - (heads - 1))[None, :] * stride


class Codes:
    """All vectors and projections that a seed and a configuration stand for, and what they make of blocks.

    Attributes
    ----------
    vectors : float32 (V + 2, d)
        Of tokens, the end mark, the begin mark, and last the zero vector of a block that is not there.
    unit : float
        What a pair that is stored once scores on average: |k|^2 |v|^2.

    Raises
    ------
    OutOfMemory
        The device has no room for them; nothing was allocated.
    """

    def __init__(self, backend: Backend, configuration: KohonenConfiguration, keys: Keys) -> None:
        c = configuration
        backend.require_room(c.codebook_bytes, f"a codebook of dim {c.dim} for {c.vocabulary} tokens")
        self.backend = backend
        self.configuration = c

        def drawn(label: str, rows: int, columns: int, parts: int) -> Array:
            codes = dense(backend, keys, label, rows, columns, c.codes)
            if c.codes == "gaussian":  # so that d numbers made of blocks of norm 1 have an expected norm of 1
                codes *= np.float32(1 / math.sqrt(c.dim * parts))
            return codes

        self.vectors = drawn("vectors", c.padding + 1, c.dim, 1)
        self.vectors[c.padding] = 0
        self._heads = [drawn(f"heads {level}", c.dim, c.dim // c.heads, 1) for level in range(1, c.layers + 1)]
        self._sequences = [drawn(f"sequence {level}", c.heads * c.dim, c.dim, c.heads) for level in range(1, c.layers)]
        self.unit = key_length(c)

    def keys(self, level: int, blocks: Array) -> Array:
        """Keys of layer ``level`` (from 1) for blocks float32 (n, h, d): float32 (n, d)."""
        c = self.configuration
        projected = blocks.reshape(-1, c.dim) @ self._heads[level - 1]
        if c.codes == "rademacher":
            projected = self.backend.xp.sign(projected)
        return projected.reshape(-1, c.dim)

    def encodings(self, level: int, blocks: Array) -> Array:
        """Encodings that layer ``level`` (below the last) makes of blocks (n, h, d): float32 (n, d)."""
        encoded = blocks.reshape(blocks.shape[0], -1) @ self._sequences[level - 1]
        return self.backend.xp.sign(encoded) if self.configuration.codes == "rademacher" else encoded

    def stream(self, tokens: Array) -> Iterator[tuple[int, int, Array, Array | None]]:
        """Keys and encodings of every context in a stream of token ids, part by part, in each part layer by layer.

        Parameters
        ----------
        tokens : int64 (n,)

        Yields
        ------
        level, start, keys, encodings : int, int, float32 (m, d), float32 (m, d) or None
            Row i is the context of h^level tokens that *ends before* place start + i; the last layer encodes nothing.
            Parts overlap by the longest context, so that no more than a part is ever held.
        """
        c, xp = self.configuration, self.backend.xp
        size = max(c.longest, _BLOCK_NUMBERS // (c.heads * c.dim))
        for begin in range(0, int(tokens.size), size):
            low = max(0, begin - c.longest)
            part = tokens[low : begin + size]
            # row i of ``below`` is the block that ends with place first + i of the part
            below, first, stride = self.vectors[part], 0, 1
            for level in range(1, c.layers + 1):
                reach = (c.heads - 1) * stride
                rows = below.shape[0] - reach
                if rows <= 0:
                    break
                blocks = below[sliding(self.backend, xp.arange(reach, below.shape[0]), c.heads, stride)]
                encodings = self.encodings(level, blocks) if level < c.layers else None
                first += reach
                known = max(0, begin - low - first)  # of the part before
                if known < rows:
                    above = None if encodings is None else encodings[known:]
                    yield level, low + first + known + 1, self.keys(level, blocks[known:]), above
                if encodings is None:
                    break
                below, stride = encodings, stride * c.heads

    def context_keys(self, contexts: Array, correlations: list[list[Array]] | None = None) -> list[Array]:
        """Keys of whole contexts, one a layer, and of the last token alone.

        Parameters
        ----------
        contexts : int64 (n, h^l)
            Padded on the left with ``configuration.padding``, where they are shorter than that.
        correlations : list of matrices a segment, optional
            Where encodings are to be recalled from the matrices of the lower layers instead of computed: what every
            segment recalls is added up.

        Returns
        -------
        list of float32 (n, d)
            Entry 0 is the part of layer 1's key that the last token makes, the rest of it zero; entry L the key of the
            last h^L tokens.
        """
        c, xp = self.configuration, self.backend.xp
        n = contexts.shape[0]
        below = self.vectors[contexts]
        found = []
        for level in range(1, c.layers + 1):
            blocks = below.reshape(-1, c.heads, c.dim)
            last = blocks.reshape(n, -1, c.heads, c.dim)[:, -1]
            found.append(self.keys(level, last))
            if level < c.layers and correlations is None:
                below = self.encodings(level, blocks)
            elif level < c.layers and correlations is not None:
                below = self._recalled(self.keys(level, blocks), [each[level - 1] for each in correlations])
        single = xp.zeros_like(found[0])
        width = c.dim // c.heads
        single[:, -width:] = found[0][:, -width:]
        return [single, *found]

    def _recalled(self, keys: Array, matrices: list[Array]) -> Array:
        xp = self.backend.xp
        total = xp.zeros_like(keys)
        for matrix in matrices:
            total += keys @ matrix
        return xp.sign(total) if self.configuration.codes == "rademacher" else total

    def scores(self, read: Array) -> Array:
        """What each token and the end mark score for vectors (n, d) that were read: float32 (n, V), 1 a stored pair."""
        found = read @ self.vectors[: self.configuration.answers].T
        found *= np.float32(1 / self.unit)
        return found

    def nearest(self, read: Array) -> Array:
        """The paper's decoding: the token whose vector has the largest inner product with what was read, int64 (n,)."""
        xp = self.backend.xp
        at_once = max(1, _BLOCK_NUMBERS // self.configuration.answers)
        return xp.concatenate(
            [self.scores(read[at : at + at_once]).argmax(axis=1) for at in range(0, read.shape[0], at_once)]
        )
