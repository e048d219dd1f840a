"""The figures of docs/memory.md: what the memory costs and promises on real text, measured.

    python tools/memory_report.py            prints the table
    python tools/memory_report.py --write docs   also puts it into docs/memory.md and draws docs/false_recall.svg

Input: the installed Python's ``Lib/**/*.py`` (one document a file, without site-packages) and its documentation topics.
The oracle, exact n-gram counts of the same orders, is computed here from the token ids and shares no code with the
memory.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np

import memodb
from memodb.memory import Backend, Batch, Memory, WillshawConfiguration, first_geometry, memory_for
from memodb.memory.capacity import measured_pass_rate
from memodb.memory.configuration import PROVENANCE_PASS_RATE
from memodb.memory.willshaw_memory import WillshawSegment

SPANS = (1, 4, 16)
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
MIXED = np.uint64(0x9E3779B97F4A7C15)


# -- input -------------------------------------------------------------------------------------------------------------


def library() -> dict[str, str]:
    """Texts of the standard library's modules by path, those that are UTF-8."""
    root = Path(sysconfig.get_path("stdlib"))
    found = {}
    for path in sorted(root.rglob("*.py")):
        if "site-packages" in path.parts or "dist-packages" in path.parts:
            continue
        try:
            found[str(path.relative_to(root))] = path.read_text("utf-8")
        except (UnicodeDecodeError, OSError):
            continue
    return {name: text for name, text in found.items() if len(text) <= memodb.MAX_TEXT_CHARACTERS}


# -- the oracle --------------------------------------------------------------------------------------------------------


def positions(documents: list[np.ndarray], vocabulary: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every position of every document: 16 tokens of context, the next token (or the end mark), the document."""
    contexts, following, owner = [], [], []
    for number, tokens in enumerate(documents):
        framed = np.concatenate([np.full(16, vocabulary + 1), tokens, [vocabulary]]).astype(np.int32)
        contexts.append(np.lib.stride_tricks.sliding_window_view(framed[:-1], 16))
        following.append(framed[16:])
        owner.append(np.full(len(tokens) + 1, number, dtype=np.int32))
    return np.concatenate(contexts), np.concatenate(following), np.concatenate(owner)


def fingerprints(contexts: np.ndarray, span: int) -> np.ndarray:
    """64-bit fingerprints of the last ``span`` tokens: in one run of a million two contexts share one."""
    draws = np.random.default_rng(span).integers(0, 2**63, size=span, dtype=np.uint64) | np.uint64(1)
    total = np.full(len(contexts), span, dtype=np.uint64)
    for draw, column in zip(draws, contexts[:, -span:].T, strict=True):
        total += (column.astype(np.uint64) + np.uint64(1)) * draw
        total ^= total >> np.uint64(29)
        total *= MIXED
    return total ^ (total >> np.uint64(32))


def exact_top1(contexts: np.ndarray, following: np.ndarray, owner: np.ndarray, *, by_document: bool) -> float:
    """Share of positions whose next token has the highest exact count after its 16-token context.

    Every position's whole context is stored, so back-off never happens and the longest order decides.
    """
    context = fingerprints(contexts, 16)
    pair = (context ^ (following.astype(np.uint64) * MIXED)) * MIXED
    distinct, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
    if by_document:
        voter = (pair ^ (owner.astype(np.uint64) + np.uint64(1)) * np.uint64(0xC2B2AE3D27D4EB4F)) * MIXED
        _, votes = np.unique(voter, return_index=True)
        counts = np.bincount(inverse[votes], minlength=distinct.size)
    else:
        counts = np.bincount(inverse)
    order = np.lexsort((following[first], -counts, context[first]))
    leading = np.ones(order.size, dtype=bool)
    leading[1:] = context[first][order[1:]] != context[first][order[:-1]]
    best = np.zeros(distinct.size, dtype=bool)
    best[order[leading]] = True
    return float(best[inverse].mean())


# -- measurements ------------------------------------------------------------------------------------------------------


@dataclass
class Recall:
    """Answers at every stored position."""

    positions: int
    missed: int
    top1: float
    candidates: float
    contexts_per_second: float


def recall(db: memodb.Store, contexts: np.ndarray, following: np.ndarray) -> Recall:
    """Ask for the token after every position."""
    missed = hits = answers_seen = 0
    began = time.perf_counter()
    with db._collection.reading() as memory:
        for at in range(0, len(contexts), 1 << 16):
            part, truth = contexts[at : at + (1 << 16)].astype(np.int64), following[at : at + (1 << 16)]
            answers = memory.lookup(part)
            found = np.zeros(len(part), dtype=bool)
            found[answers.row[answers.token == truth[answers.row]]] = True
            missed += int((~found).sum())
            starts = answers.starts[:-1]
            hits += int((answers.token[np.minimum(starts, answers.token.size - 1)] == truth).sum())
            answers_seen += answers.row.size
    seconds = time.perf_counter() - began
    n = len(contexts)
    return Recall(n, missed, hits / n, answers_seen / n, n / seconds)


@dataclass
class FalseRecall:
    """Unknown contexts of ``span`` tokens whose last ``known`` tokens are stored."""

    span: int
    known: int
    asked: int
    answered: float
    below: np.ndarray


def false_recall(db: memodb.Store, contexts: np.ndarray, span: int, known: int, asked: int) -> FalseRecall:
    """Join the end of one stored context to the beginning of another; ask for those that are not stored."""
    generator = np.random.default_rng(span)
    ends, heads = generator.integers(0, len(contexts), (2, 2 * asked))
    joined = contexts[heads].astype(np.int64)
    joined[:, -known:] = contexts[ends][:, -known:]
    stored = np.unique(fingerprints(contexts, span))
    marks = fingerprints(joined, span)
    place = np.minimum(np.searchsorted(stored, marks), stored.size - 1)
    unknown = joined[stored[place] != marks][:asked]
    level = SPANS.index(span)
    with db._collection.reading() as memory:
        answers = memory.lookup(unknown, deepest=level)
        below = np.bincount(memory.lookup(unknown, deepest=level - 1).row, minlength=len(unknown))
    return FalseRecall(span, known, len(unknown), float((answers.level == level).mean()), below)


def costs(db: memodb.Store) -> dict[str, float]:
    """Cells and bytes per token as the store stands."""
    stats = db.stats()
    tokens = stats.tokens
    return {
        "segments": len(stats.segments),
        "cells, answering layers": sum(s.layer_cells for s in stats.segments) / tokens,
        "cells, provenance": sum(s.provenance_cells for s in stats.segments) / tokens,
        "bytes on the answering layers' read path": sum(s.read_bytes for s in stats.segments) / tokens,
        "bytes in RAM": stats.memory_bytes / tokens,
        "bytes on disk": stats.disk_bytes / tokens,
        "bound of false recall": stats.false_recall,
    }


def measure(name: str, texts: dict[str, str]) -> dict[str, Any]:
    """Everything about one input, through a store on disk."""
    with tempfile.TemporaryDirectory() as folder, memodb.connect(Path(folder) / "store") as db:
        say(f"{name}: appending {len(texts)} documents")
        began = time.perf_counter()
        result = db.append_many({"id": key, "text": text} for key, text in texts.items())
        appended = time.perf_counter() - began
        grown = costs(db)
        say(f"{name}: {result.tokens:,} tokens in {appended:.0f} s; compacting")
        began = time.perf_counter()
        db.compact()
        compacted = time.perf_counter() - began
        tight = costs(db)
        say(f"{name}: compacted in {compacted:.0f} s; asking every position")
        tokens = [db.tokens(key) for key in texts]
        contexts, following, owner = positions(tokens, db.tokenizer.vocabulary_size)
        answers = recall(db, contexts, following)
        say(f"{name}: {answers.contexts_per_second:,.0f} contexts/s; exact counts")
        occurrences = exact_top1(contexts, following, owner, by_document=False)
        by_document = exact_top1(contexts, following, owner, by_document=True)
        say(f"{name}: unknown contexts")
        unknown = [false_recall(db, contexts, 16, 4, 20_000), false_recall(db, contexts, 4, 1, 2_000)]
        return {
            "name": name,
            "documents": len(texts),
            "tokens": result.tokens,
            "append": result.tokens / appended,
            "grown": grown,
            "tight": tight,
            "recall": answers,
            "occurrences": occurrences,
            "by_document": by_document,
            "unknown": unknown,
            "promise": db.stats().promised_false_recall,
        }


# -- the plot ----------------------------------------------------------------------------------------------------------


def filling(texts: dict[str, str], tokens: int = 300_000, asked: int = 60_000) -> list[dict[str, Any]]:
    """One segment as it fills, from empty to half as full again as it may be: predicted and measured false recall."""
    tokenizer = memodb.Tokenizer.shipped()
    configuration = WillshawConfiguration(vocabulary=tokenizer.vocabulary_size)
    memory = memory_for(Backend(), configuration, bytes(32))
    order = np.random.default_rng(0).permutation(len(texts))
    names = list(texts)
    chosen, count = [], 0
    for number in order:
        ids = tokenizer.encode(texts[names[number]])
        if len(ids) > 20_000:
            continue
        chosen.append((int(number) + 1, ids))
        count += len(ids)
        if count > 1.6 * tokens:
            break
    # the tight segment of the first documents, filled from the start and then beyond its limit
    within, size = [], 0
    for document in chosen:
        if size >= tokens:
            break
        within.append(document)
        size += len(document[1])
    tight: Any = memory.new_segment(first_geometry(configuration, 0, size))
    for _ in range(2):
        for at in range(0, len(within), 32):
            tight.add(tight.contribution(Batch.of(within[at : at + 32])))
        tight = memory.new_segment(tight.fitted(1.0))
    return [
        _point(memory, tight, share, asked) for share in _fill_in_steps(tight, chosen, size)
    ]  # evaluated step by step: the generator adds documents between points


def _fill_in_steps(segment: WillshawSegment, documents: list[tuple[int, np.ndarray]], size: int) -> Any:
    """Add documents; yield the share of the segment's capacity at a dozen points."""
    held, following = 0, 0.1
    for at in range(0, len(documents), 8):
        group = documents[at : at + 8]
        segment.add(segment.contribution(Batch.of(group)))
        held += sum(len(ids) for _, ids in group)
        if held / size >= following:
            yield held / size
            following += 0.125


def _point(memory: Memory, segment: WillshawSegment, share: float, asked: int) -> dict[str, Any]:
    """Predicted and measured rates of the segment as it stands, each layer alone, for contexts drawn at random."""
    generator = np.random.default_rng(7)
    symbols = generator.integers(0, 2**63, asked, dtype=np.uint64) * np.uint64(2)
    predicted, measured = [], []
    for level, matrix in enumerate(segment.layers):
        ones = segment.codebook.key_ones[level]
        rate = measured_pass_rate(matrix.ones, ones, matrix.columns, memory.configuration.ones)
        predicted.append(memory.configuration.answers * rate)
        answered = 0
        for at in range(0, asked, 4096):
            words = matrix.read(*segment.codebook.keys_of(level, symbols[at : at + 4096], matrix.rows))
            answered += np.unique(segment.codebook.tokens.decode(words)[0]).size
        measured.append(answered / asked)
    return {"share": share, "predicted": predicted, "measured": measured}


def draw(points: list[dict[str, Any]], path: Path, promise: float) -> None:
    """Measured against predicted false recall as a segment fills."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "memodb"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    share = [point["share"] for point in points]
    for level, (span, colour) in enumerate(zip(SPANS, ("tab:blue", "tab:orange", "tab:green"), strict=True)):
        axes.plot(share, [p["predicted"][level] for p in points], color=colour, label=f"context {span}: predicted V·g")
        axes.plot(
            share,
            [p["measured"][level] or np.nan for p in points],
            "o",
            color=colour,
            label=f"context {span}: measured",
        )
    axes.axhline(promise, color="black", lw=0.8, ls="--", label="promise")
    axes.axvline(1, color="grey", lw=0.8, ls=":")
    axes.set(yscale="log", xlabel="tokens held / tokens that fill the segment", ylabel="unknown contexts answered")
    axes.set_ylim(1e-6, 1)
    axes.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


# -- the table ---------------------------------------------------------------------------------------------------------


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def thin_rate(unknown: FalseRecall, bits: float) -> float:
    """What a layer of ``bits`` bits of rejection would answer of these unknown contexts, given what lies below."""
    return float((-np.expm1(unknown.below * np.log1p(-(2.0**-bits)))).mean())


def table(inputs: list[dict[str, Any]], points: list[dict[str, Any]]) -> str:
    """Markdown of all figures."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}; "
        f"{time.strftime('%Y-%m-%d')}, commit {commit or 'unknown'}. Bytes and cells are per token.",
        "",
        "| figure | goal | " + " | ".join(f"{i['name']}" for i in inputs) + " |",
        "| --- | --- |" + " ---: |" * len(inputs),
    ]

    def row(label: str, goal: str, *values: str) -> None:
        lines.append(f"| {label} | {goal} | " + " | ".join(values) + " |")

    row("documents", "", *(f"{i['documents']:,}" for i in inputs))
    row("tokens", "3 M", *(f"{i['tokens']:,}" for i in inputs))
    row("positions whose true next token is a candidate", "100 %",
        *(f"{1 - i['recall'].missed / i['recall'].positions:.4%}" for i in inputs))  # fmt: skip
    row("top-1, memory", "", *(f"{i['recall'].top1:.5f}" for i in inputs))
    row("top-1, exact counts of occurrences", "", *(f"{i['occurrences']:.5f}" for i in inputs))
    row("top-1, exact counts of documents", "", *(f"{i['by_document']:.5f}" for i in inputs))
    row("top-1, memory / exact (occurrences)", "0.995", *(f"{i['recall'].top1 / i['occurrences']:.4f}" for i in inputs))
    row("candidates a context", "", *(f"{i['recall'].candidates:.3f}" for i in inputs))
    for unknown in range(2):
        first = inputs[0]["unknown"][unknown]
        row(f"unknown contexts of {first.span} answered, last {first.known} known", f"{inputs[0]['promise']:.1%}",
            *(f"{i['unknown'][unknown].answered:.3%}" for i in inputs))  # fmt: skip
    goals = {
        "cells, answering layers": "60",
        "cells, provenance": "25",
        "bytes on the answering layers' read path": "8",
        "bytes in RAM": "95",
        "bytes on disk": "30",
    }
    for state, title in (("tight", "after compact()"), ("grown", "as appended")):
        for key in inputs[0][state]:
            value = (f"{i[state][key]:.2%}" if "false" in key else f"{i[state][key]:.1f}" for i in inputs)
            row(f"{key}, {title}", goals.get(key, "1.0%" if "false" in key else ""), *value)
    row("lookups/s in batches (with `fast`)", "", *(f"{i['recall'].contexts_per_second:,.0f}" for i in inputs))
    row("appended, tokens/s (with `fast`, text to durable)", "", *(f"{i['append']:,.0f}" for i in inputs))
    long_unknown = [i["unknown"][0] for i in inputs]
    row("if the top layer rejected 12 bits instead of 20: unknown contexts of 16 answered", "1.0%",
        *(f"{thin_rate(u, 12):.2%}" for u in long_unknown))  # fmt: skip
    row("... candidates from below, mean / 99th percentile", "",
        *(f"{u.below.mean():.0f} / {np.percentile(u.below, 99):.0f}" for u in long_unknown))  # fmt: skip
    lines += [
        "",
        "As one segment fills (each layer alone, random unknown contexts; predicted V·g, then measured):",
        "",
        "| held / capacity | " + " | ".join(f"context {span}" for span in SPANS) + " |",
        "| ---: |" + " ---: |" * 3,
    ]
    lines += [
        f"| {p['share']:.2f} | "
        + " | ".join(f"{a:.2e}, {b:.2e}" for a, b in zip(p["predicted"], p["measured"], strict=True))
        + " |"
        for p in points
    ]
    lines += ["", f"Provenance layers are sized for {PROVENANCE_PASS_RATE:g} false candidates a window and document."]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--write", type=Path, metavar="DOCS", help="put the figures into DOCS/memory.md and draw the plot"
    )
    arguments = parser.parse_args()
    texts = library()
    inputs = [measure("topics", dict(topics)), measure("library", texts)]
    say("filling one segment")
    points = filling(texts)
    figures = table(inputs, points)
    print(figures)
    if arguments.write is not None:
        page = arguments.write / "memory.md"
        before, _, rest = page.read_text("utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        page.write_text(f"{before}{BEGIN}\n{figures}\n{END}{after}", "utf-8")
        draw(points, arguments.write / "false_recall.svg", inputs[0]["promise"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
