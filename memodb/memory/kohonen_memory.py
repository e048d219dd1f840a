"""The engine of MeMo as published: correlation matrices that answer by the nearest token vector.

What it cannot promise. A stored pair scores 1 on average and an absent one 0, both with a deviation sigma that grows
with what is stored (:func:`memodb.memory.capacity.crosstalk`). A score of 1/2 or more is an answer, and the rounded
score its support: so a pair may be missed, and an unknown context be answered, each at a rate that a formula gives for
unrelated contexts and no formula gives for text. What a document holds is certain only in the provenance layer, which
is a counting matrix in both engines.
"""

from __future__ import annotations

import math

import numpy as np

from memodb.memory.answers import Answers
from memodb.memory.backend import Array, Backend
from memodb.memory.capacity import code_spread, crosstalk, linear_false_recall, linear_miss
from memodb.memory.configuration import Geometry, KohonenConfiguration
from memodb.memory.kohonen import Codes, correlated
from memodb.memory.memory import Memory
from memodb.memory.pairs import DocumentPairs, PairSet, distinct
from memodb.memory.segment import Codebook, Segment

__all__ = ["KohonenCodebook", "KohonenMemory", "KohonenSegment"]

_SCORES_AT_ONCE = 1 << 23
"""Scores, or numbers of context vectors, held in one step: 32 MB."""

_MOST_CANDIDATES = 1024
"""Candidates of a context: an over-full memory scores half its vocabulary above 1/2."""


class KohonenCodebook(Codebook):
    """With the vectors of tokens and the projections."""

    configuration: KohonenConfiguration

    def __init__(self, backend: Backend, configuration: KohonenConfiguration, seed: bytes) -> None:
        super().__init__(backend, configuration, seed)
        self.codes = Codes(backend, configuration, self.keys)


class KohonenSegment(Segment):
    """A segment that answers from correlation matrices, one a layer; the last holds what follows every layer's keys."""

    codebook: KohonenCodebook

    def __init__(self, codebook: KohonenCodebook, geometry: Geometry) -> None:
        c = codebook.configuration
        codebook.backend.require_room(c.correlation_bytes, f"a segment of dim {c.dim} with {c.layers} layers")
        super().__init__(codebook, geometry)
        xp = codebook.backend.xp
        self.correlations = [xp.zeros((c.dim, c.dim), dtype=np.float32) for _ in range(c.layers)]

    def _layer_correlations(self, pairs: DocumentPairs) -> tuple[Array, ...]:
        """One product a part of the batch and matrix: keys of distinct contexts with their encodings, and of distinct
        pairs with the next token's vector."""
        codes, backend = self.codebook.codes, self.codebook.backend
        updates = [backend.xp.zeros_like(matrix) for matrix in self.correlations]
        places = [pairs.places[layer.positions] for layer in pairs.layers]
        contexts = [_contexts(backend, pairs, layer) for layer in pairs.layers]
        for level, start, keys, encodings in codes.stream(pairs.stream):
            chosen = _between(backend, places[level], start, keys.shape[0])
            values = pairs.layers[level].values[chosen]
            updates[-1] += correlated(keys[places[level][chosen] - start], codes.vectors[values])
            if encodings is not None:
                known = contexts[level]
                known = known[_between(backend, known, start, keys.shape[0])] - start
                updates[level - 1] += correlated(keys[known], encodings[known])
        return tuple(updates)

    def false_recall(self) -> float:
        """V Q(1 / (2 sigma)): of unrelated contexts, by the longest context (see :mod:`memodb.memory.capacity`)."""
        return linear_false_recall(self.sigma(), self.codebook.configuration.answers)

    def miss_rate(self) -> float:
        """Q(1 / (2 sigma)), and a little more where codes differ in length: of unrelated contexts."""
        return linear_miss(self.sigma(), code_spread(self.codebook.configuration))

    def sigma(self) -> float:
        """Crosstalk of the matrix that answers, in units of one stored pair."""
        squares = self.codebook.backend.xp.square(self.correlations[-1]).sum(dtype=np.float64)
        norm = math.sqrt(float(squares) / self.codebook.codes.unit)
        return crosstalk(self.codebook.configuration, norm)


def _contexts(backend: Backend, pairs: DocumentPairs, layer: PairSet) -> Array:
    """One place for each distinct context of a document, whatever follows it there."""
    documents = pairs.documents[layer.positions]
    once = distinct(backend, layer.symbols, backend.xp.zeros_like(layer.values), documents)
    places: Array = pairs.places[layer.positions[once]]
    return places


def _between(backend: Backend, places: Array, start: int, count: int) -> Array:
    """Which of some places are start..start + count - 1."""
    return backend.xp.flatnonzero((places >= start) & (places < start + count))


class KohonenMemory(Memory):
    """Segments with one codebook: what they recall adds up, so they answer as one matrix would."""

    codebook: KohonenCodebook

    def __init__(self, backend: Backend, configuration: KohonenConfiguration, seed: bytes) -> None:
        super().__init__(KohonenCodebook(backend, configuration, seed))

    def new_segment(self, geometry: Geometry) -> KohonenSegment:
        return KohonenSegment(self.codebook, geometry)

    def recalled(self, contexts: Array) -> list[Array]:
        """What the matrices hold at the keys of contexts.

        Parameters
        ----------
        contexts : int64 (n, longest)
            On the device.

        Returns
        -------
        list of float32 (n, d)
            Entry 0 for the last token alone (of which the score is 1/h of a pair's), entry L for the last h^L tokens.
            The paper's answer is the token nearest to the sum of the entries from 1 on.
        """
        segments = [segment.correlations for segment in self.segments.values()]
        computed = self.codebook.configuration.encodings == "computed"
        keys = self.codebook.codes.context_keys(contexts, None if computed else segments)
        found = [self.backend.xp.zeros_like(key) for key in keys]
        for total, key in zip(found, keys, strict=True):
            for matrices in segments:
                total += key @ matrices[-1]
        return found

    def nearest(self, contexts: np.ndarray) -> np.ndarray:
        """The paper's answers: of each context (n, longest) the token whose vector is nearest to what is recalled."""
        found = [np.zeros(0, dtype=np.int64)]
        for part in self._parts(contexts):
            votes = sum(self.recalled(self.backend.to_device(part))[1:])
            found.append(self.backend.to_host(self.codebook.codes.nearest(votes)))
        return np.concatenate(found)

    def _parts(self, contexts: np.ndarray) -> list[np.ndarray]:
        c = self.codebook.configuration
        at_once = max(1, _SCORES_AT_ONCE // max(c.answers, c.longest * c.dim))
        return [contexts[at : at + at_once] for at in range(0, len(contexts), at_once)]

    def follows(self, context: np.ndarray, token: int, level: int) -> bool:
        return bool((self.lookup(context[None], deepest=level).token == token).any())

    def _lookup_part(self, contexts: np.ndarray, top: int) -> Answers:
        return Answers.joined([self._answers(part, top) for part in self._parts(contexts)])

    def _answers(self, contexts: np.ndarray, top: int) -> Answers:
        c, xp = self.codebook.configuration, self.backend.xp
        recalled = self.recalled(self.backend.to_device(contexts))[: top + 1]
        level = np.full(len(contexts), -1, dtype=np.int64)
        lengths = (contexts != c.padding).sum(axis=1)
        found = []
        for asked in range(top, -1, -1):
            # A block of tokens that are not all there has an encoding unlike any that is stored.
            pending = np.flatnonzero((level < 0) & (lengths >= (c.spans[asked] if asked > 1 else asked + 1)))
            if not pending.size or not self.segments:
                continue
            places = self.backend.to_device(pending)
            scores = self.codebook.codes.scores(recalled[asked][places])
            if asked < 2:  # h blocks of one token, of which so many are asked with
                present = np.minimum(lengths[pending], c.spans[asked])
                scores *= self.backend.to_device((c.heads / present).astype(np.float32))[:, None]
            row, token = xp.nonzero(scores >= 0.5)
            score = scores[row, token]
            support = xp.floor(score + 0.5).astype(np.int64)  # rint would round 1/2 to the even 0
            votes = score
            if asked > 1:
                total: Array = sum(recalled[1 : asked + 1])
                votes = self.codebook.codes.scores(total[places])[row, token]
            to_host = self.backend.to_host
            rows = pending[to_host(row)]
            chosen = _ranked(rows, to_host(token), to_host(support), to_host(votes))
            level[rows] = asked
            found.append(chosen)
        return Answers.ranked(found, level)


def _ranked(
    rows: np.ndarray, tokens: np.ndarray, supports: np.ndarray, votes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidates best first within a row: by support, then by the votes of all layers, then by token id; no more than
    ``_MOST_CANDIDATES`` of each row."""
    order = np.lexsort((tokens, -votes, -supports, rows))
    rows = rows[order]
    place = np.arange(rows.size) - np.searchsorted(rows, rows)
    kept = order[place < _MOST_CANDIDATES]
    return rows[place < _MOST_CANDIDATES], tokens[kept], supports[kept]
