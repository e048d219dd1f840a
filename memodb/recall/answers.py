"""Asking a memory in text: what follows, a whole continuation, how well a text is known.

The memory answers token contexts; this room frames prompts, turns candidates into text, and decides when to stop.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from memodb.collection import Collection
from memodb.errors import InvalidInput
from memodb.memory import Memory

__all__ = [
    "BACK_OFF",
    "Candidate",
    "Completion",
    "Lookup",
    "Score",
    "Step",
    "StopReason",
    "TokenScore",
    "complete",
    "lookup",
    "next_tokens",
    "score",
]

BACK_OFF = 0.4
"""Factor for each layer that is skipped because the token does not follow its context (Brants, Popat, Xu, Och and Dean,
"Large language models in machine translation", 2007)."""

_ALTERNATIVES = 5

StopReason = Literal["unknown_context", "end_of_document", "stop", "max_tokens"]


@dataclass(frozen=True)
class Candidate:
    """One token that may follow.

    Parameters
    ----------
    text : str
        The token's text; empty for the end of a document.
    token_id : int
    support : int
        At least the number of documents in which it follows the context.
    context_length : int
        Tokens of context that the answer rests on; the begin of a document counts as one.
    probability : float
        Its share of the supports of all tokens that may follow that context.
    is_end : bool
        Whether a document ends here.
    """

    text: str
    token_id: int
    support: int
    context_length: int
    probability: float
    is_end: bool = False


@dataclass(frozen=True)
class Step:
    """One token of a completion, and what else could have been."""

    chosen: Candidate
    alternatives: tuple[Candidate, ...]


@dataclass(frozen=True)
class Completion:
    """A continuation of a prompt, without the prompt."""

    text: str
    steps: tuple[Step, ...]
    stop_reason: StopReason


@dataclass(frozen=True)
class Lookup:
    """Answers to n contexts.

    Parameters
    ----------
    token_ids : int64 (n, k)
        Best first, -1 where there are fewer.
    support : int64 (n, k)
        0 where there is no token.
    context_length : int64 (n,)
        Tokens that the answer rests on, the begin of a document counted as one; 0 where nothing is known.
    """

    token_ids: npt.NDArray[np.int64]
    support: npt.NDArray[np.int64]
    context_length: npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenScore:
    """How one token of a text is known.

    Parameters
    ----------
    text : str
    token_id : int
    known : bool
        Whether some document holds it after at least the token before it.
    context_length : int
        Longest context after which it is stored; 0 where unknown.
    log_probability : float
        Natural logarithm of its share of the supports at that context, times ``BACK_OFF`` for each longer context that
        is known but never continued so; an unknown token counts as one of the whole vocabulary.
    """

    text: str
    token_id: int
    known: bool
    context_length: int
    log_probability: float


@dataclass(frozen=True)
class Score:
    """How well a text is known, token by token."""

    tokens: tuple[TokenScore, ...]

    @property
    def log_probability(self) -> float:
        """Sum over the tokens, natural logarithm."""
        return math.fsum(token.log_probability for token in self.tokens)

    @property
    def known(self) -> float:
        """Share of tokens that are known; 1.0 for a text without tokens."""
        return sum(token.known for token in self.tokens) / len(self.tokens) if self.tokens else 1.0


def lookup(collection: Collection, contexts: Any, k: int = 10) -> Lookup:
    """Answer many contexts of token ids at once: see :meth:`memodb.Store.lookup`."""
    _require_positive("k", k)
    tokens, lengths = _context_rows(contexts, collection.configuration.vocabulary)
    with collection.reading() as memory:
        best = memory.best(memory.framed(tokens, lengths), k)
    return Lookup(best.token, best.support, memory.context_lengths(best.level, lengths))


def _context_rows(contexts: Any, vocabulary: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Checked rows without padding: their token ids, one row after another, and their lengths."""
    if isinstance(contexts, np.ndarray):
        if contexts.ndim != 2 or not np.issubdtype(contexts.dtype, np.integer):
            raise InvalidInput(
                f"contexts must be an integer array (n, length), not {contexts.dtype} of {contexts.ndim} dimensions"
            )
        if contexts.size and contexts.min() >= 0:  # a table, whole
            tokens, lengths = contexts.reshape(-1), np.full(len(contexts), contexts.shape[1])
        else:
            held = contexts != -1
            if bool((held[:, :-1] & ~held[:, 1:]).any()):
                raise InvalidInput("contexts are right-aligned: -1 pads a row on its left only")
            tokens, lengths = contexts[held], held.sum(axis=1)
    else:
        try:
            rows = [np.asarray(row) for row in contexts]
        except (TypeError, ValueError) as exc:
            raise InvalidInput("contexts must be an integer array (n, length) or a list of rows of token ids") from exc
        if any(row.ndim != 1 or (row.size and not np.issubdtype(row.dtype, np.integer)) for row in rows):
            raise InvalidInput("every row of contexts must hold token ids")
        tokens = np.concatenate([row for row in rows if row.size] or [np.zeros(0, dtype=np.int64)])
        lengths = np.array([row.size for row in rows], dtype=np.int64)
    if tokens.size and (tokens.min() < 0 or tokens.max() >= vocabulary):
        bad = np.flatnonzero((tokens < 0) | (tokens >= vocabulary))
        row = int(np.searchsorted(np.cumsum(lengths), bad[0], side="right"))
        raise InvalidInput(f"row {row} of contexts has a token id outside 0..{vocabulary - 1}")
    return tokens.astype(np.int64, copy=False), lengths.astype(np.int64, copy=False)


def _framed(memory: Memory, ids: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """One context of a prompt's ids: int64 (1, longest)."""
    context: npt.NDArray[np.int64] = memory.framed(ids, np.array([len(ids)], dtype=np.int64))
    return context


def next_tokens(collection: Collection, prompt: str, k: int = 10) -> list[Candidate]:
    """The k likeliest tokens after a prompt: see :meth:`memodb.Store.next_tokens`."""
    _require_positive("k", k)
    ids = collection.tokenizer.encode(prompt)
    with collection.reading() as memory:
        return _aligned(collection, memory, prompt, ids, k)[1]


def _aligned(
    collection: Collection, memory: Memory, prompt: str, ids: npt.NDArray[np.int32], k: int
) -> tuple[npt.NDArray[np.int32], list[Candidate]]:
    """The prompt's tokens, as they stand inside a document where that is what is known; and the best k after them.

    "The sky" begins a document with other tokens than it continues one with, behind a blank. Where the prompt as
    written is not known whole, and its first token is in sight of the longest context, the prompt behind a blank is
    tried too and taken if it is known further; if that is as far, where only its first token is ever followed by its
    second.
    """
    written = _candidates(collection, memory, ids, k)
    seen = bool(prompt) and not prompt[0].isspace() and len(ids) <= memory.configuration.longest
    if not seen or _reach(written) >= len(ids):
        return ids, written
    behind = collection.tokenizer.encode(f" {prompt}")
    continued = _candidates(collection, memory, behind, k)
    further = _reach(continued) - _reach(written)
    if not further:
        further = _linked(memory, behind) - _linked(memory, ids)
    return (behind, continued) if further > 0 else (ids, written)


def _reach(candidates: list[Candidate]) -> int:
    """Tokens that the best answer to a prompt rests on."""
    return candidates[0].context_length if candidates else 0


def _linked(memory: Memory, ids: npt.NDArray[Any]) -> bool:
    """Whether a prompt's first token is ever followed by its second."""
    return len(ids) > 1 and memory.follows(_framed(memory, ids[:1])[0], int(ids[1]), 0)


def _candidates(collection: Collection, memory: Memory, ids: npt.NDArray[Any], k: int) -> list[Candidate]:
    ahead_too = len(ids) + 1 in memory.configuration.spans
    context = _framed(memory, ids)
    answers = memory.lookup(context) if ahead_too else memory.best(context, k)
    length = int(memory.context_lengths(answers.level, np.array([len(ids)]))[0])
    tokens, supports = answers.token.reshape(-1), answers.support.reshape(-1)
    if not ahead_too:
        tokens, supports = tokens[supports > 0], supports[supports > 0]
    total = int(answers.total[0])
    found: list[Candidate] = []
    if length < len(ids) and ahead_too:
        # One token short of a layer's context. Each candidate completes such a context, and that is either stored or
        # not: the layer above says which candidates follow the whole prompt. The end of a document completes none, so
        # it stays a candidate of the shorter context.
        seen, ahead = _look_ahead(memory, ids, tokens)
        found = _named(collection, memory, tokens[seen][:k], ahead[:k], int(ahead.sum()), len(ids))
        if found:
            ends = np.flatnonzero(tokens == memory.configuration.end)
            tokens, supports = tokens[ends], supports[ends]
    left = k - len(found)
    return found + _named(collection, memory, tokens[:left], supports[:left], total, length)


def _look_ahead(
    memory: Memory, ids: npt.NDArray[Any], tokens: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which tokens complete a stored context behind the prompt, best first, and the supports of what follows that."""
    level = memory.configuration.spans.index(len(ids) + 1)
    possible = np.flatnonzero(tokens < memory.configuration.end)
    rows = np.column_stack([np.tile(ids, (possible.size, 1)), tokens[possible]])
    best = memory.best(memory.framed(rows.ravel(), np.full(possible.size, len(ids) + 1)), 1)
    support = np.where(best.level < level, 0, best.total)
    order = np.argsort(-support, kind="stable")
    order = order[support[order] > 0]
    return possible[order], support[order]


def _named(
    collection: Collection,
    memory: Memory,
    tokens: npt.NDArray[np.int64],
    supports: npt.NDArray[np.int64],
    total: int,
    length: int,
) -> list[Candidate]:
    end = memory.configuration.end
    return [
        Candidate(
            "" if token == end else collection.tokenizer.piece(token),
            token,
            support,
            length,
            support / total,
            token == end,
        )
        for token, support in zip(tokens.tolist(), supports.tolist(), strict=True)
    ]


def complete(
    collection: Collection,
    prompt: str,
    max_tokens: int = 64,
    *,
    stop: str | Sequence[str] = (),
    temperature: float = 0.0,
    seed: int | None = None,
    min_context: int = 3,
) -> Completion:
    """Continue a prompt from what is stored: see :meth:`memodb.Store.complete`."""
    _require_positive("max_tokens", max_tokens)
    _require_positive("min_context", min_context)
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
        raise InvalidInput(f"seed must be a whole number from 0 up, not {seed!r}")
    stops = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, Iterable) else (stop,)
    if any(not isinstance(text, str) or not text for text in stops):
        raise InvalidInput("stop must be a text or several, none of them empty")
    if not isinstance(temperature, int | float) or not 0 <= temperature < math.inf:
        raise InvalidInput(f"temperature must be 0 (greedy) or more, not {temperature!r}")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
        raise InvalidInput(f"seed must be a whole number from 0 up, not {seed!r}")
    generator = np.random.default_rng(seed)
    encoded = collection.tokenizer.encode(prompt)
    longest = collection.configuration.longest
    steps: list[Step] = []
    reason: StopReason = "max_tokens"
    text = ""
    with collection.reading() as memory:
        k = _ALTERNATIVES if temperature == 0 else 4096
        aligned, candidates = _aligned(collection, memory, prompt, encoded, k)
        ids = aligned.tolist()
        prompt_length = len(ids)
        while len(steps) < max_tokens:
            if steps:
                # ``longest`` tokens: a prompt that is longer never looks like the beginning of a document
                tail = np.array(ids[-longest:], dtype=np.int64)
                candidates = _candidates(collection, memory, tail, k)
            # a prompt too short for min_context has nothing longer to rest on
            needed = min_context if len(ids) >= min_context else 1
            if not candidates or candidates[0].context_length < needed:
                reason = "unknown_context"
                break
            chosen = candidates[_pick(candidates, temperature, generator)]
            others = tuple(c for c in candidates[: _ALTERNATIVES + 1] if c is not chosen)[:_ALTERNATIVES]
            steps.append(Step(chosen, others))
            if chosen.is_end:
                reason = "end_of_document"
                break
            ids.append(chosen.token_id)
            if stops:
                text = _continuation(collection, ids, prompt_length)
                cut = min((at for s in stops if (at := text.find(s)) >= 0), default=None)
                if cut is not None:
                    return Completion(text[:cut], tuple(steps), "stop")
    return Completion(_continuation(collection, ids, prompt_length), tuple(steps), reason)


def _pick(candidates: list[Candidate], temperature: float, generator: np.random.Generator) -> int:
    """Place of the next token: the best, or one drawn with probability proportional to support^(1/temperature)."""
    if temperature == 0:
        return 0
    weights = np.log([candidate.support for candidate in candidates])
    with np.errstate(over="ignore"):  # the best is at 0, whatever the temperature; the others may go to -inf
        weights = np.exp((weights - weights.max()) / temperature)
    return int(generator.choice(len(candidates), p=weights / weights.sum()))


def _continuation(collection: Collection, ids: list[int], prompt_length: int) -> str:
    """Text of the tokens after the prompt, as they read behind its last tokens: some decoders join with a space."""
    tail = ids[max(0, prompt_length - 4) : prompt_length]
    before = collection.tokenizer.decode(tail)
    whole = collection.tokenizer.decode([*tail, *ids[prompt_length:]])
    return whole[len(before) :] if whole.startswith(before) else collection.tokenizer.decode(ids[prompt_length:])


def score(collection: Collection, text: str) -> Score:
    """How well a text is known: see :meth:`memodb.Store.score`."""
    tokenizer, configuration = collection.tokenizer, collection.configuration
    ids = tokenizer.encode(text)
    n = len(ids)
    framed = np.concatenate([np.full(configuration.longest, configuration.begin), ids]).astype(np.int64)
    contexts = np.lib.stride_tricks.sliding_window_view(framed[:-1], configuration.longest) if n else framed[:0]
    longest_known = np.full(n, -1)
    found = np.full(n, -1)
    share = np.ones(n)
    with collection.reading() as memory:
        pending = np.arange(n)
        for level in range(configuration.layers, -1, -1):
            if not pending.size:
                break
            answers = memory.lookup(np.ascontiguousarray(contexts[pending]), deepest=level)
            answered = answers.level == level
            longest_known[pending] = np.maximum(longest_known[pending], answers.level)
            totals = np.bincount(answers.row, weights=answers.support, minlength=pending.size)
            hits = np.flatnonzero((answers.token == ids[pending[answers.row]]) & answered[answers.row])
            rows = answers.row[hits]
            found[pending[rows]] = level
            share[pending[rows]] = answers.support[hits] / totals[rows]
            pending = pending[found[pending] < 0]
    skipped = longest_known - found
    share[found < 0] = 1 / configuration.answers
    logarithms = np.log(share) + skipped * math.log(BACK_OFF)
    spans = np.array([*configuration.spans, 0])
    lengths = np.minimum(spans[found], np.where(found < 0, 0, np.arange(n) + 1))
    return Score(
        tuple(
            TokenScore(piece, token, level >= 0, length, logarithm)
            for piece, token, level, length, logarithm in zip(
                tokenizer.pieces(ids), ids.tolist(), found.tolist(), lengths.tolist(), logarithms.tolist(), strict=True
            )
        )
    )


def _require_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidInput(f"{name} must be a whole number from 1 up, not {value!r}")
