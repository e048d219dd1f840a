"""Recall: prompts in, answers out. Next tokens, completions, scores and batched lookups over one collection."""

from memodb.recall.answers import (
    Candidate,
    Completion,
    Lookup,
    Score,
    Step,
    StopReason,
    TokenScore,
    complete,
    lookup,
    next_tokens,
    score,
)

__all__ = [
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
