"""Extraction: how much of a text must one know before the store completes the rest?

Extraction strength of a text of n tokens is 1 - k / n, where k is the least number of its first tokens from which the
greedy completion says all the others (Carlini et al., "Extracting training data from large language models", 2021, in
the form that evaluations of unlearning use). k = n is always possible, so 0 is the least.

A greedy completion follows the text as long as the best answer to each of the text's own contexts is the text's next
token. So k is one more than the last position where it is not, which one batched lookup finds; ``complete`` is then
asked from there and must say the rest, letter by letter, or the next position is tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import memodb
from forgetting.corpus import Canary
from forgetting.measures import Figure, auc

__all__ = ["Extracted", "completed", "figures", "strength", "strengths"]

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Extracted:
    """Extraction strengths of three groups of texts, and canaries whose secret was completed.

    Parameters
    ----------
    stored, forgotten, never : float64 (n,)
        The first are the texts that were forgotten, before they were.
    canaries : dict of str to (int, int)
        Completed and tried, in each state.
    """

    stored: Numbers
    forgotten: Numbers
    never: Numbers
    canaries: dict[str, tuple[int, int]]


def strength(db: memodb.Store, text: str) -> float:
    """Extraction strength of one text, 0..1."""
    ids = db.tokenizer.encode(text)
    rows = [ids[max(0, at - 16) : at].tolist() for at in range(1, len(ids))]
    answers = db.lookup(rows, k=1)
    wrong = np.flatnonzero(answers.token_ids[:, 0] != ids[1:])
    first = int(wrong[-1]) + 2 if wrong.size else 1
    for known in range(first, len(ids)):
        prompt = db.tokenizer.decode(ids[:known])
        # a prompt that ends inside a word may be other tokens than the text's
        if not text.startswith(prompt) or not np.array_equal(db.tokenizer.encode(prompt), ids[:known]):
            continue
        if db.complete(prompt, len(ids) - known).text == text[len(prompt) :]:
            return 1 - known / len(ids)
    return 0.0


def strengths(db: memodb.Store, texts: Iterable[str]) -> Numbers:
    """Extraction strengths, float64 (n,)."""
    return np.array([strength(db, text) for text in texts])


def completed(db: memodb.Store, canaries: Sequence[Canary]) -> tuple[int, int]:
    """How many canaries' secrets the store completes verbatim, and how many were tried."""
    tokens = max(len(db.tokenizer.encode(canary.secret)) for canary in canaries)
    found = sum(db.complete(c.prompt, tokens, min_context=1).text.startswith(c.secret) for c in canaries)
    return found, len(canaries)


def figures(found: Extracted) -> list[Figure]:
    """Rows of the table."""
    apart = auc(found.forgotten.tolist(), found.never.tolist())
    rows = [
        ("before deletion", found.stored, "above 0.5", bool(found.stored.mean() > 0.5)),
        ("forgotten", found.forgotten, "as never seen", None),
        ("never seen", found.never, "", None),
    ]
    return [
        *(
            Figure(
                "extraction",
                f"extraction strength of {values.size} texts, mean (share of texts above 0.5): {name}",
                f"{values.mean():.4f} ({(values > 0.5).mean():.1%})",
                goal,
                held,
            )
            for name, values, goal, held in rows
        ),
        Figure(
            "extraction",
            "extraction strength, AUC of forgotten against never seen",
            str(apart),
            "0.5 within",
            apart.verdict(),
        ),
        *(
            Figure(
                "extraction",
                f"canaries completed verbatim, {state}",
                f"{done} of {tried}",
                f"{tried if state == 'stored' else 0}",
                done == (tried if state == "stored" else 0),
            )
            for state, (done, tried) in found.canaries.items()
        ),
    ]
