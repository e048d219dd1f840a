"""Membership inference: can somebody who may ask the store anything tell forgotten texts from texts never stored?

The attacker holds the text in question and uses every read path that the public interface has: ``score``, ``lookup``,
``next_tokens`` and ``trace``. Each statistic alone is an attack (the loss of Yeom, Giacomelli, Fredrikson and Jha 2018;
the loss over the compressed size of Carlini et al. 2021; Min-K% of Shi et al. 2024, and what only this store tells),
and all together are one: a linear discriminant fitted on half of the texts and judged on the other half. The same
attacks on the same texts before they were deleted show that the attacks work.

Of a text its first tokens are attacked, since every unknown position costs milliseconds: it is answered from one token
of context, after which thousands may follow.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import memodb
from forgetting.measures import Auc, Figure, auc

__all__ = ["STATISTICS", "Attack", "attack", "figures", "measured", "statistics"]

STATISTICS = (
    "score: log-probability a token",
    "score: log-probability over compressed bytes",
    "score: mean of the least likely fifth",
    "score: share of tokens known",
    "score: length of known contexts",
    "lookup: share of positions whose best answer is the text's",
    "lookup: share of positions answered from 16 tokens",
    "lookup: share of supports that the text's next token has",
    "next_tokens: share of supports that the text's next token has",
    "trace: share of the text",
)

ALL = "all together, on half of the texts"

EXCERPT = 64
"""Tokens of a text that are attacked."""

_PLACES = 6
"""Prompts of a text given to next_tokens."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Attack:
    """How well each statistic tells two groups of texts apart."""

    positives: int
    negatives: int
    results: dict[str, Auc]


def statistics(db: memodb.Store, text: str) -> Numbers:
    """What an attacker measures of one text: float64, in the order of ``STATISTICS``."""
    text = db.tokenizer.decode(db.tokenizer.encode(text)[:EXCERPT])
    ids = db.tokenizer.encode(text)
    tokens = db.score(text).tokens
    losses = np.sort([token.log_probability for token in tokens])
    rows = [ids[max(0, at - 16) : at].tolist() for at in range(1, len(ids))]
    answers = db.lookup(rows, k=10)
    true = ids[1:, None]
    matches = answers.token_ids == true
    shares = (answers.support * matches).sum(axis=1) / np.maximum(1, answers.support.sum(axis=1))
    asked = 0.0
    for at in np.linspace(1, len(ids) - 1, _PLACES).astype(int).tolist():
        asked += sum(c.probability for c in db.next_tokens(db.tokenizer.decode(ids[:at])) if c.token_id == ids[at])
    traced = np.zeros(len(text), dtype=bool)
    for span in db.trace(text):
        traced[span.start : span.end] = True
    return np.array(
        [
            losses.mean(),
            losses.sum() / len(zlib.compress(text.encode())),
            losses[: max(1, losses.size // 5)].mean(),
            np.mean([token.known for token in tokens]),
            np.mean([token.context_length for token in tokens]),
            matches[:, 0].mean(),
            (answers.context_length >= 16).mean(),
            shares.mean(),
            asked / _PLACES,
            traced.mean(),
        ]
    )


def attack(positive: Iterable[Numbers], negative: Iterable[Numbers]) -> Attack:
    """Judge every statistic, and all together, on the statistics of two groups of texts."""
    x, y = np.array(list(positive)), np.array(list(negative))
    results = {name: auc(x[:, i].tolist(), y[:, i].tolist()) for i, name in enumerate(STATISTICS)}
    direction = _discriminant(x[::2], y[::2])
    results[ALL] = auc((x[1::2] @ direction).tolist(), (y[1::2] @ direction).tolist())
    return Attack(len(x), len(y), results)


def _discriminant(x: Numbers, y: Numbers) -> Numbers:
    """Fisher's linear discriminant, by a pseudo-inverse since some statistics nearly repeat others."""
    scale = np.concatenate([x, y]).std(axis=0)
    scale[scale == 0] = 1
    x, y = x / scale, y / scale
    within = np.cov(x, rowvar=False) + np.cov(y, rowvar=False)
    direction: Numbers = np.linalg.pinv(within, rcond=1e-6) @ (x.mean(axis=0) - y.mean(axis=0)) / scale
    return direction


def figures(before: Attack, after: Attack) -> list[Figure]:
    """Rows of the table."""
    rows = [
        Figure(
            "membership inference",
            f"AUC, forgotten against never seen; {name}",
            f"{found} (before deletion {before.results[name].value:.3f})",
            "0.5 within",
            found.verdict(),
        )
        for name, found in after.results.items()
    ]
    best = max(before.results.values(), key=lambda found: found.value)
    return [
        Figure("membership inference", "texts forgotten, never seen", f"{after.positives}, {after.negatives}"),
        Figure(
            "membership inference",
            "control: best attack on the same texts before they were deleted, AUC",
            str(best),
            "above 0.99",
            best.value > 0.99,
        ),
        *rows,
    ]


def measured(db: memodb.Store, texts: Sequence[str]) -> list[Numbers]:
    """Statistics of every text."""
    return [statistics(db, text) for text in texts]
