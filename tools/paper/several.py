"""Table 2: several layers on texts of random tokens, with decoys.

The authors' protocol. In each of ten iterations 30 texts of 1,025 tokens are drawn evenly from 50,254. With m decoys,
m places j are drawn from [5 + h, 1024 - h), and in every text the tokens 5..5+h are copied to j..j+h, one place after
the other, so that a later copy may write over an earlier one. The first 1,024 tokens are the inputs, the last 1,024
the labels. Layer L stores every window of h^L tokens inside a text with the token that follows it, each time it
occurs; all layers write into one matrix. Then the tokens after places h..1022 are asked for, with the up to h^l
tokens before them (a block that is not there is a zero vector): the accuracy over the texts of the first iteration
and over those of this one.

The layers' keys of a place are stored with one value, so their sum is multiplied once. Encodings are computed from
the blocks when a context is read: that is what the authors' file was made with. ``recalled`` reads them from the
intermediate matrices instead, as the paper writes it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from memodb.memory.backend import Backend
from memodb.memory.codes import Keys
from memodb.memory.configuration import KohonenConfiguration
from memodb.memory.kohonen import Codes, correlated
from paper.decoding import hits

__all__ = ["Linear", "Outcome", "Setting", "add_from", "batches", "linear", "targets"]

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_CONTEXTS_AT_ONCE = 256
"""Contexts whose encodings are recalled in one step: at d = 1024 and 64 tokens, 64 MB of blocks."""

_SUSPECTS = 512
"""The most frequent tokens are tried first: their scores vary the most, since crosstalk grows with a value's count."""


@dataclass(frozen=True)
class Setting:
    """A line of the authors' file."""

    dim: int
    layers: int
    decoys: int
    heads: int = 4
    vocabulary: int = 50_254
    samples: int = 30
    length: int = 1024
    iterations: int = 10


@dataclass(frozen=True)
class Outcome:
    """Accuracy after an iteration, on the texts of the first one and on its own."""

    iteration: int
    first: float
    current: float
    seconds: float


def batches(setting: Setting, seed: int) -> Iterator[Ids]:
    """Texts of each iteration, int64 (samples, length + 1): the last token is a label only."""
    draw = np.random.default_rng(seed)
    h = setting.heads
    for _ in range(setting.iterations):
        texts = draw.integers(0, setting.vocabulary, (setting.samples, setting.length + 1))
        for place in draw.integers(5 + h, setting.length - h, setting.decoys):
            texts[:, place : place + h] = texts[:, 5 : 5 + h]
        yield texts


def targets(setting: Setting, texts: Ids) -> Ids:
    """Tokens that are asked for, text by text."""
    return texts[:, setting.heads : setting.length - 1].ravel()


def add_from(first: int, target: Floats, keys: Floats, place: int) -> None:
    """Add keys, of the contexts before ``place`` and those after it, to the rows of their places from ``first`` on."""
    skipped = min(len(keys), max(0, first - place))
    kept = keys[skipped:]
    target[place + skipped :][: len(kept)] += kept[: max(0, len(target) - place - skipped)]


class Linear:
    """MeMo over a batch of texts at a time."""

    def __init__(self, setting: Setting, codes: str, seed: int, recalled: bool) -> None:
        backend = Backend()
        self.setting = setting
        self.configuration = KohonenConfiguration(
            vocabulary=setting.vocabulary, heads=setting.heads, layers=setting.layers, codes=codes, dim=setting.dim
        )
        self.codes = Codes(backend, self.configuration, Keys(b"paper" + seed.to_bytes(27, "little")))
        self.output = np.zeros((setting.dim, setting.dim), dtype=np.float32)
        self.intermediate = [np.zeros_like(self.output) for _ in range(setting.layers - 1)] if recalled else []
        self.counts = np.zeros(setting.vocabulary, dtype=np.int64)

    def memorise(self, texts: Ids) -> Floats:
        """Store a batch; the keys, summed over the layers, of what will be asked about it: float32 (n, d)."""
        s, d = self.setting, self.setting.dim
        longest = s.heads**s.layers
        asked = np.empty((s.samples, s.length - 1 - s.heads, d), dtype=np.float32)
        for number, text in enumerate(texts):
            padded = np.concatenate([np.full(longest, self.configuration.padding), text[: s.length]])
            stored, read = (np.zeros((s.length + 1, d), dtype=np.float32) for _ in range(2))
            for level, start, keys, encodings in self.codes.stream(padded):
                add_from(0, read, keys, start - longest)
                add_from(s.heads**level, stored, keys, start - longest)
                if self.intermediate and encodings is not None:
                    whole = max(0, longest + s.heads**level - start)
                    self.intermediate[level - 1] += correlated(keys[whole:], encodings[whole:])
            self.output += correlated(stored, self.codes.vectors[text])
            asked[number] = read[s.heads : s.length - 1]
            self.counts += np.bincount(text[s.heads :], minlength=s.vocabulary)
        return asked.reshape(-1, d)

    def recalled_keys(self, texts: Ids) -> Floats:
        """Summed keys of what is asked, the encodings read from the intermediate matrices."""
        s = self.setting
        longest = s.heads**s.layers
        padded = np.full((s.samples, longest + s.length), self.configuration.padding)
        padded[:, longest:] = texts[:, : s.length]
        windows = np.lib.stride_tricks.sliding_window_view(padded, longest, axis=1)
        contexts = windows[:, s.heads : s.length - 1].reshape(-1, longest)
        found = np.zeros((len(contexts), s.dim), dtype=np.float32)
        for at in range(0, len(contexts), _CONTEXTS_AT_ONCE):
            for keys in self.codes.context_keys(contexts[at : at + _CONTEXTS_AT_ONCE], [self.intermediate])[1:]:
                found[at : at + _CONTEXTS_AT_ONCE] += keys
        return found

    def accuracy(self, keys: Floats, texts: Ids) -> float:
        suspects = np.argsort(-self.counts, kind="stable")[:_SUSPECTS]
        truth = targets(self.setting, texts)
        return hits(keys @ self.output, truth, self.codes.vectors[: self.setting.vocabulary], suspects)


def linear(
    setting: Setting, codes: str, seed: int, *, evaluated: Collection[int] | None = None, recalled: bool = False
) -> Iterator[Outcome]:
    """MeMo's accuracy, iteration by iteration.

    Parameters
    ----------
    codes : {"gaussian", "rademacher"}
    evaluated : collection of int, optional
        Iterations after which the accuracy is measured; all by default. Reading takes most of the time. Nothing is
        stored after the last of them.
    recalled : bool
        Read the encodings from the intermediate matrices.
    """
    memory = Linear(setting, codes, seed, recalled and setting.layers > 1)
    first_texts: Ids | None = None
    first_keys: Floats | None = None
    began = time.perf_counter()
    for iteration, texts in enumerate(batches(setting, seed)):
        keys = memory.memorise(texts)
        if first_texts is None or first_keys is None:
            first_texts, first_keys = texts, keys
        if evaluated is not None and iteration not in evaluated:
            continue
        if recalled:  # what the matrices return has changed since the texts were stored
            first_keys, keys = memory.recalled_keys(first_texts), memory.recalled_keys(texts)
        first = memory.accuracy(first_keys, first_texts)
        current = first if iteration == 0 else memory.accuracy(keys, texts)
        yield Outcome(iteration, first, current, time.perf_counter() - began)
        if evaluated is not None and iteration >= max(evaluated):
            return
