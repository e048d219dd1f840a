"""Decoded residue: does the memory, or the trace, still answer what only a deleted document said?

The oracle is the set of all contexts of the kept documents, taken from their token ids: it shares no code with the
memory. Every distinct context of the deleted documents that no kept document holds is an unknown one and may be
answered at the promised rate of false recall, no more often. The same is asked with documents that were never stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, fisher_exact

import memodb
from forgetting.measures import Figure
from memodb.memory.codes import context_symbols
from memodb.memory.willshaw_memory import WillshawMemory

__all__ = ["SPANS", "Answered", "Traced", "answers", "ask", "contexts", "figures", "trace_all"]

SPANS = (16, 4)
"""Tokens of the contexts that a store looks at by default; at 1 token nearly everything is known."""

ALARM = 0.001
"""A run whose p-value is below this has not kept its promise: six tests, so one run in 170 is wrong by chance."""

_AT_ONCE = 4096

Rows = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Answered:
    """Unknown contexts of ``span`` tokens, and how many of them the memory answered from as many tokens.

    Parameters
    ----------
    known : int
        Distinct contexts left out, since a kept document holds them.
    """

    span: int
    known: int
    asked: int
    answered: int

    @property
    def rate(self) -> float:
        return self.answered / self.asked if self.asked else 0.0


@dataclass(frozen=True)
class Traced:
    """What ``trace`` said of some texts.

    Parameters
    ----------
    texts : int
    spans : int
        Named with a kept document that holds them, letter by letter.
    wrong : int
        Named with a document that does not hold them, or with one that is not kept.
    """

    texts: int
    spans: int
    wrong: int


def contexts(ids: npt.NDArray[np.int32], span: int) -> Rows:
    """The last ``span`` tokens before every position but the first, and before the end: int32 (n, span).

    Of the longest contexts also those at the document's beginning, which are shorter: -1 pads them on their left.
    """
    if span == max(SPANS):
        ids = np.concatenate([np.full(span - 1, -1, dtype=np.int32), ids.astype(np.int32)])
    if len(ids) < span:
        return np.zeros((0, span), dtype=np.int32)
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(ids.astype(np.int32), span))


def _keys(rows: Rows) -> Iterator[bytes]:
    data, width = rows.tobytes(), rows.shape[1] * rows.itemsize
    return (data[at : at + width] for at in range(0, len(data), width))


def ask(db: memodb.Store, texts: Iterable[str], kept: Iterable[str], span: int) -> Answered:
    """Ask the memory every distinct context of some texts that no kept text holds."""
    encode = db.tokenizer.encode
    asked = {key for text in texts for key in _keys(contexts(encode(text), span))}
    known = {key for text in kept for key in _keys(contexts(encode(text), span)) if key in asked}
    unknown = sorted(asked - known)
    answered = 0
    for at in range(0, len(unknown), _AT_ONCE):
        rows = np.frombuffer(b"".join(unknown[at : at + _AT_ONCE]), dtype=np.int32).reshape(-1, span)
        answered += int(answers(db, rows).sum())
    return Answered(span, len(known), len(unknown), answered)


def answers(db: memodb.Store, rows: Rows) -> npt.NDArray[np.bool_]:
    """Whether the memory answers each context from all of its tokens: bool (n,).

    What ``db.lookup(rows).context_length`` says, asked of the layer itself: where the longest context is unknown
    ``lookup`` goes on to shorter ones, and lists the thousands of tokens that follow a single one, which takes
    milliseconds a context.
    """
    span = rows.shape[1]
    with db._collection.reading() as memory:
        level = memory.configuration.spans.index(span)
        framed = np.full((len(rows), memory.configuration.longest), memory.configuration.begin, dtype=np.int64)
        framed[:, -span:] = np.where(rows < 0, memory.configuration.begin, rows)
        symbols = context_symbols(memory.backend.to_device(framed), memory.codebook.contexts)[: level + 1]
        found = np.zeros(len(rows), dtype=bool)
        for segment in cast(WillshawMemory, memory).segments.values():
            places, _ = segment.read(symbols).candidates(level, memory.backend.xp.arange(len(rows)))
            found[memory.backend.to_host(places)] = True
    return found


def trace_all(db: memodb.Store, texts: Iterable[str], kept: Mapping[str, str]) -> Traced:
    """Trace texts, and hold every answer against the kept documents' own letters."""
    count = spans = wrong = 0
    for text in texts:
        count += 1
        for span in db.trace(text):
            for source in span.documents:
                held = kept.get(source.id, "")[source.offset : source.offset + len(span.text)] == span.text
                spans += held
                wrong += not held
    return Traced(count, spans, wrong)


def figures(
    forgotten: list[Answered], never: list[Answered], traced: tuple[Traced, Traced], promise: float, bound: float
) -> list[Figure]:
    """Rows of the table.

    Parameters
    ----------
    promise, bound : float
        The store's promised rate of false recall, and the bound on it as the store is filled.
    """
    rows: list[tuple[str, str, str, bool | None]] = [
        ("bound on false recall as the store is filled", f"{bound:.3%}", "", None)
    ]
    for gone, other in zip(forgotten, never, strict=True):
        chance = binomtest(gone.answered, gone.asked, promise, alternative="greater").pvalue if gone.asked else 1.0
        rows.append(
            (
                f"contexts of {gone.span} tokens that only deleted documents held: answered",
                f"{gone.answered:,} of {gone.asked:,} ({gone.rate:.3%}; p = {chance:.3f})",
                f"at most {promise:.1%}",
                chance >= ALARM,
            )
        )
        table = [[x.answered, x.asked - x.answered] for x in (gone, other)]
        same = float(fisher_exact(table).pvalue)
        rows.append(
            (
                "... of documents never stored: answered",
                f"{other.answered:,} of {other.asked:,} ({other.rate:.3%}; the same rate with p = {same:.3f})",
                "the same",
                same >= ALARM,
            )
        )
    for name, found in zip(("deleted", "never stored"), traced, strict=True):
        rows.append(
            (
                f"trace of {found.texts:,} {name} documents: spans named with a document that does not hold them",
                f"{found.wrong:,} (and {found.spans:,} that kept documents do hold)",
                "0",
                found.wrong == 0,
            )
        )
    return [Figure("decoded residue", label, reached, goal, held) for label, reached, goal, held in rows]
