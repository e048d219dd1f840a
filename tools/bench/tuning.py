"""What the settings cost and buy that are fixed when a store is created: one is varied, the others stay as they are.

Every value gets a store of its own, beside one with the defaults. What is timed takes turns, and a ratio is the median
over the rounds, each to the default's of the same round. All but appending is measured after ``compact()``: before it a
store has up to half as many rows again as it needs, depending on where in its growth it is, which would hide the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

import memodb
from bench import inside
from bench.compare import BATCH
from bench.page import number
from bench.questions import fingerprints
from bench.stream import END, SEED, Document, Stream, pairs
from bench.timing import alternate, steady, timed
from memodb.memory import KohonenConfiguration, WillshawConfiguration
from memodb.memory.capacity import limits, rows_for

__all__ = [
    "COLUMNS",
    "Choice",
    "Cost",
    "Parameter",
    "Questions",
    "measure",
    "parameters",
    "relative",
    "table",
    "tables",
]

LENGTH = 64
"""Tokens of the contexts that every store is asked: the longest that any of them looks at."""

SHORT = 8
"""Tokens of the short contexts: fewer than the default's 16, more than its 4."""

UNKNOWN = 8
"""A batch of unknown contexts is so many times smaller: in plain NumPy they take so much longer."""

SHARE = 20
"""The engines are compared on so small a part of the stream: correlation matrices are over-full with it already."""

_CHANCE = 1e-6
"""A promise counts as broken where a kept one had so many false answers with a probability below this."""

_SEED = bytes(32)
"""Of every store's matrices, so that two runs find the same bytes and the same false answers."""

_ALL_CANDIDATES = 256
"""Known contexts of which every candidate is looked at."""

Contexts = npt.NDArray[np.int64]
Configuration = WillshawConfiguration | KohonenConfiguration


@dataclass(frozen=True)
class Choice:
    """A value as a table names it, and what ``memodb.connect`` is given for it: nothing for the default."""

    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def configuration(self) -> Configuration:
        """What such a store is built to."""
        given = {name: value for name, value in self.settings.items() if name != "engine"}
        if self.settings.get("engine") == KohonenConfiguration.engine:
            return KohonenConfiguration(vocabulary=END, **given)
        return WillshawConfiguration(vocabulary=END, **given)


@dataclass(frozen=True)
class Parameter:
    """A table.

    Parameters
    ----------
    name : str
    choices : sequence of Choice
        The default first.
    columns : sequence of str
        Keys of ``COLUMNS``.
    batch : int
        Known contexts of one timed lookup.
    turns : int
        So many times more rounds of lookups than of anything else: a few milliseconds each, one is easily disturbed.
    deletions : int
        Documents that are deleted from each store, one by one.
    share : int
        The first 1/share of the stream is stored.
    """

    name: str
    choices: Sequence[Choice]
    columns: Sequence[str]
    batch: int = BATCH
    turns: int = 5
    deletions: int = 3
    share: int = 1


def parameters(tokens: int) -> list[Parameter]:
    """What is varied for a stream of so many tokens.

    With other ``heads`` the layers are those with which the longest context is nearest to 16 tokens: 16, 27, 8, 16.
    """
    d = WillshawConfiguration(vocabulary=END)
    heads = [Choice(f"{h}, layers {n}", {"heads": h, "layers": n}) for h, n in ((2, 4), (3, 3), (8, 1), (16, 1))]
    sizes = {max(4096, tokens // part) for part in (2, 8, 32)}  # 4096: the smallest that a store takes
    segments = [Choice(f"{size:,}", {"segment_tokens": size}) for size in sorted(sizes, reverse=True)]
    kohonen = [Choice(f"kohonen, dim {dim:,}", {"engine": "kohonen", "dim": dim}) for dim in (512, 1024)]
    costs = ("read", "memory", "files", "append", "known", "unknown", "delete")

    def varied(name: str, *values: float) -> list[Choice]:
        return [Choice(f"**{getattr(d, name):.10g}**"), *(Choice(f"{value:.10g}", {name: value}) for value in values)]

    return [
        Parameter("heads", [Choice(f"**{d.heads}, layers {d.layers}**"), *heads],
                  ["contexts", *costs, "lines", "right", "short", "false"]),
        Parameter("layers", varied("layers", 1, 3), ["contexts", *costs, "lines", "right", "short", "false"]),
        Parameter("false_recall", varied("false_recall", 0.1, 0.001, 0.0001), ["ones", *costs, "lines", "false"]),
        Parameter("segment_tokens", [Choice(f"**{d.segment_tokens:,}**"), *segments],
                  ["segments", *costs, "again", "lines", "false"], deletions=8),
        Parameter("window", varied("window", 4, 16), ["memory", "files", "append", "delete", "trace", "spans"]),
        Parameter("engine", [Choice("**willshaw**"), *kohonen],
                  ["segments", *costs, "right", "missed", "false"], batch=256, turns=1, deletions=1, share=SHARE),
    ]  # fmt: skip


class Questions:
    """What every store of a table is asked, and counts of what it stores.

    Parameters
    ----------
    documents : sequence of Document
    asked : int
        Contexts of each kind.

    Attributes
    ----------
    known : int64 (asked, 64)
        Tokens in a row from inside of a document, drawn by position.
    following : uint16 (asked,)
        What follows them there.
    shuffled : int64 (asked, 64)
        The same tokens, each column in another order.
    """

    def __init__(self, documents: Sequence[Document], asked: int) -> None:
        self.documents = documents
        self._stored, following = pairs(documents, LENGTH)
        self._generator = np.random.default_rng(SEED)
        drawn = self._generator.choice(len(following), asked)
        self.known: Contexts = self._stored[drawn].astype(np.int64)
        self.following = following[drawn]
        self.shuffled: Contexts = self._generator.permuted(self.known, axis=0)
        self._joined: dict[tuple[int, int], Contexts] = {}

    def joined(self, span: int, known: int) -> Contexts:
        """Contexts whose last ``span`` tokens are stored nowhere and whose last ``known`` are: int64 (n, 64).

        The end of one place in the stream behind the beginning of another: the unknown that a store is likeliest to
        answer, because its shorter layers do.
        """
        if (span, known) not in self._joined:
            number = len(self.known)
            beginnings, ends = self._generator.integers(0, len(self._stored), (2, number))
            found = self._stored[beginnings].astype(np.int64)
            found[:, -known:] = self._stored[ends][:, -known:]
            stored = fingerprints(pairs(self.documents, span)[0])
            self._joined[span, known] = found[~np.isin(fingerprints(found[:, -span:]), stored)]
        return self._joined[span, known]

    def votes(self, span: int, tokens: int) -> int:
        """N of the layer of ``span`` tokens, of about so many tokens: distinct contexts with what follows them.

        Of the first documents that have them together: the stream is shuffled, and so is what a segment holds.
        """
        begin, end = [END + 1] * span, [END]
        runs = [np.concatenate([begin, document.ids, end]) for document in self._first(tokens)]
        return int(np.unique(np.concatenate([_marks(run, span + 1) for run in runs])).size)

    def windows(self, length: int, tokens: int) -> int:
        """N of the provenance layer: the distinct windows of each document."""
        return sum(np.unique(_marks(document.ids, length)).size for document in self._first(tokens))

    def _first(self, tokens: int) -> Sequence[Document]:
        held = np.cumsum([document.ids.size for document in self.documents])
        return self.documents[: int(np.searchsorted(held, tokens)) + 1]

    def even_bytes(self, configuration: Configuration, segments: Sequence[int]) -> tuple[float, float]:
        """Bytes per token of the read path and of the matrices, if every row were filled alike.

        ``rows_for`` gives the rows; a cell is a bit of the presence view and four of a count. With the engine kohonen
        4 l d² bytes a segment, and the provenance layer.
        """
        c = configuration
        spans = c.spans[: len(c.layer_ones)]
        ones = (*c.layer_ones, c.provenance_ones)
        cells = np.zeros(len(ones))
        for ordinal, tokens in enumerate(segments):
            stored = [*(self.votes(span, tokens) for span in spans), self.windows(c.window, tokens)]
            for at, (n, rate, s) in enumerate(zip(stored, limits(c, ordinal), ones, strict=True)):
                cells[at] += rows_for(n, rate, c.columns, s, c.ones) * c.columns
        dense = c.correlation_bytes * len(segments) if isinstance(c, KohonenConfiguration) else 0
        total = sum(segments)
        return float(cells[:-1].sum() / 8 + dense) / total, float(cells.sum() * 5 / 8 + dense) / total


def _marks(ids: npt.NDArray[Any], length: int) -> npt.NDArray[np.uint64]:
    """A hash of every run of ``length`` tokens."""
    if ids.size < length:
        return np.zeros(0, dtype=np.uint64)
    return fingerprints(np.lib.stride_tricks.sliding_window_view(ids, length))


@dataclass(frozen=True)
class Cost:
    """What was measured of one choice.

    Parameters
    ----------
    configuration : WillshawConfiguration or KohonenConfiguration
    segments : tuple of int
        Tokens of each.
    read, memory, files : float
        Bytes per token.
    even : (float, float)
        Of ``read`` and ``memory``, by the formula: see :meth:`Questions.even_bytes`.
    lines : int
        Of 64 bytes, which is a row, that a context reads where all layers know it.
    right, short, missed : float
        Shares of the known contexts: what follows is the likeliest candidate; also after the last 8 tokens alone; it
        is no candidate at all.
    bound : float
        Of false recall, as the store is filled.
    false, asked : int
        Unknown contexts of the worst layer that were answered as known, and all.
    spans : int
        That ``trace`` found.
    seconds : mapping of what was timed to seconds of each round
    """

    label: str
    configuration: Configuration
    segments: tuple[int, ...]
    read: float
    memory: float
    files: float
    even: tuple[float, float]
    lines: int
    right: float
    short: float
    missed: float
    bound: float
    false: int
    asked: int
    spans: int
    seconds: Mapping[str, Sequence[float]]

    def fault(self) -> str:
        """Which promise was broken; empty where all were kept, or none was made."""
        promise = self.configuration.promised_false_recall
        if promise is None:
            return ""
        if self.missed:
            return f"{self.missed:.2%} of the known contexts are answered without what follows them"
        broken = float(binom.sf(self.false - 1, self.asked, promise)) < _CHANCE
        return f"{self.false} of {self.asked} unknown contexts are answered, promised {promise:.2%}" if broken else ""


def measure(
    place: Path,
    parameter: Parameter,
    stream: Stream,
    questions: Questions,
    repeats: int,
    *,
    device: str,
    say: Callable[[str], None],
) -> list[Cost]:
    """Every choice of a parameter.

    Parameters
    ----------
    stream : Stream
        Whose stored documents ``questions`` is about.

    Raises
    ------
    SystemExit
        A store misses something, or answers more unknown contexts than it promises.
    """
    records = [{"id": f"{at}", "text": document.text} for at, document in enumerate(stream.stored)]
    quoted = [document.ids[50:150] for turn in zip(stream.stored, stream.spare, strict=False) for document in turn]
    text = "\n".join(map(memodb.Tokenizer.shipped().decode, quoted[:20]))
    doomed = np.linspace(0, len(records), parameter.deletions + 1, endpoint=False).astype(int)
    seconds: dict[str, dict[str, Sequence[float]]] = {choice.label: {} for choice in parameter.choices}
    with ExitStack() as stack:
        stores: dict[str, memodb.Store] = {}
        fresh = count()

        def build(choice: Choice) -> float:
            if choice.label in stores:
                stores[choice.label].close()
            path = place / f"{parameter.name} {next(fresh)}"
            db = memodb.connect(path, seed=_SEED, device=device, **choice.settings)
            stores[choice.label] = stack.enter_context(db)
            return timed(partial(db.append_many, records))

        def timing(what: str, act: Callable[[memodb.Store], object], rounds: int) -> None:
            taken = alternate({label: partial(act, db) for label, db in stores.items()}, rounds)
            for label, each in taken.items():
                seconds[label][what] = each

        with steady():
            for turn in range(max(1, round(repeats / 3))):
                say(f"{parameter.name}: {len(parameter.choices)} stores of {stream.tokens:,} tokens, {turn + 1}")
                for choice in parameter.choices:
                    seconds[choice.label]["append"] = [*seconds[choice.label].get("append", ()), build(choice)]
        for db in stores.values():
            db.compact()
            db.checkpoint()
        found = [
            _cost(choice, stores[choice.label], questions, parameter.batch, text, seconds[choice.label])
            for choice in parameter.choices
        ]
        for cost in found:
            if cost.fault():
                raise SystemExit(f"{parameter.name} {cost.label}: {cost.fault()}")
        say(f"{parameter.name}: lookups and deletions")
        turns = repeats * parameter.turns
        timing("known", lambda db: db.lookup(questions.known[: parameter.batch]), turns)
        timing("unknown", lambda db: db.lookup(questions.shuffled[: parameter.batch // UNKNOWN]), turns)
        timing("trace", lambda db: db.trace(text), repeats)
        pending = {id(db): iter(doomed.tolist()) for db in stores.values()}
        for db in stores.values():  # a handle's first deletion takes half as long again
            _delete(db, f"{next(pending[id(db)])}")
        timing("delete", lambda db: _delete(db, f"{next(pending[id(db)])}"), parameter.deletions)
    return found


def _cost(
    choice: Choice,
    db: memodb.Store,
    questions: Questions,
    batch: int,
    text: str,
    seconds: Mapping[str, Sequence[float]],
) -> Cost:
    """All but the times, which are still to come."""
    stats = db.stats()
    segments = tuple(segment.tokens for segment in stats.segments)
    configuration = choice.configuration
    known, following = questions.known[:batch], questions.following[:batch]
    right, short = (db.lookup(asked, k=1).token_ids[:, 0] == following for asked in (known, known[:, -SHORT:]))
    every = db.lookup(known[:_ALL_CANDIDATES], k=END + 1).token_ids
    missed = ~(every == following[:_ALL_CANDIDATES, None]).any(axis=1)
    false, asked = 0, 1
    for shorter, span in zip(configuration.spans, configuration.spans[1:], strict=False):
        unknown = questions.joined(span, shorter)[:batch]
        answered = int((db.lookup(unknown, k=1).context_length >= span).sum())
        if answered * asked >= false * len(unknown):
            false, asked = answered, len(unknown)
    return Cost(
        choice.label,
        configuration,
        segments,
        sum(segment.read_bytes for segment in stats.segments) / stats.tokens,
        stats.memory_bytes / stats.tokens,
        stats.disk_bytes / stats.tokens,
        questions.even_bytes(configuration, segments),
        inside.touched(db).presence,
        float(right.mean()),
        float(short.mean()),
        float(missed.mean()),
        stats.false_recall,
        false,
        asked,
        len(db.trace(text)),
        seconds,
    )


def _delete(db: memodb.Store, name: str) -> None:
    if not db.delete(name).verified:
        raise SystemExit("a deletion was not verified")


def relative(cost: Cost, default: Cost, what: str) -> float:
    """How many times the default's time it took: the median over the rounds of the ratio in each."""
    return float(np.median(np.divide(cost.seconds[what], default.seconds[what])))


def _rate(what: str) -> Callable[[Cost, Cost], str]:
    return lambda cost, default: number(1 / relative(cost, default, what))


def _milliseconds(what: str) -> Callable[[Cost, Cost], str]:
    """The mean: what it costs whoever does it often, in segments of different sizes."""

    def cell(cost: Cost, default: Cost) -> str:
        mean, base = (float(np.mean(each.seconds[what])) for each in (cost, default))
        return f"{number(1e3 * mean)} ({number(mean / base)})"

    return cell


def _false(cost: Cost, default: Cost) -> str:
    promise = cost.configuration.promised_false_recall
    said = "none" if promise is None else f"{promise:.10g}"
    return f"{said}; {cost.bound:.2g}; {cost.false:,} of {cost.asked:,}"


COLUMNS: dict[str, tuple[str, Callable[[Cost, Cost], str]]] = {
    "contexts": ("contexts, tokens", lambda cost, _: ", ".join(map(str, cost.configuration.spans))),
    "ones": ("rows a context, layer by layer", lambda cost, _: ", ".join(map(str, cost.configuration.layer_ones))),
    "segments": ("segments", lambda cost, _: f"{len(cost.segments)}"),
    "read": ("read path, B/token (even rows)", lambda cost, _: f"{number(cost.read)} ({number(cost.even[0])})"),
    "memory": ("memory, B/token (even rows)", lambda cost, _: f"{number(cost.memory)} ({number(cost.even[1])})"),
    "files": ("files, B/token", lambda cost, _: number(cost.files)),
    "append": ("append, × rate", _rate("append")),
    "known": ("known contexts, × rate", _rate("known")),
    "unknown": ("unknown contexts, × rate", _rate("unknown")),
    "delete": ("verified deletion, ms (× time)", _milliseconds("delete")),
    "again": (
        "tokens that it memorises again",
        lambda cost, _: number(sum(held * held for held in cost.segments) / sum(cost.segments)),
    ),
    "lines": ("rows a context reads", lambda cost, _: f"{cost.lines}"),
    "right": (f"next token right, after {LENGTH}", lambda cost, _: f"{cost.right:.1%}"),
    "short": (f"after {SHORT}", lambda cost, _: f"{cost.short:.1%}"),
    "missed": ("next token no candidate", lambda cost, _: f"{cost.missed:.2%}"),
    "false": ("false recall: promised; bound as filled; met", _false),
    "trace": ("`trace`, ms (× time)", _milliseconds("trace")),
    "spans": ("spans it finds", lambda cost, _: f"{cost.spans:,}"),
}


def table(parameter: Parameter, costs: Sequence[Cost]) -> str:
    """A row a choice, the default's first; above it the default's own rates."""
    default = costs[0]
    tokens = sum(default.segments)
    amounts = {"append": tokens, "known": parameter.batch, "unknown": parameter.batch // UNKNOWN}
    rate = {what: number(amount / float(np.median(default.seconds[what]))) for what, amount in amounts.items()}
    titles, cells = zip(*(COLUMNS[name] for name in parameter.columns), strict=True)
    return "\n".join(
        [
            f"{tokens:,} tokens. The default's rates: {rate['append']} tokens/s appended, {rate['known']} known "
            f"contexts/s in batches of {amounts['known']:,}, {rate['unknown']} unknown ones in batches of "
            f"{amounts['unknown']:,}.",
            "",
            f"| `{parameter.name}` | {' | '.join(titles)} |",
            "| --- |" + " ---: |" * len(titles),
            *(f"| {cost.label} | {' | '.join(cell(cost, default) for cell in cells)} |" for cost in costs),
        ]
    )


def tables(
    place: Path, stream: Stream, repeats: int, *, device: str, say: Callable[[str], None]
) -> Iterator[tuple[str, str]]:
    """Each parameter's name and its table, as soon as it is measured."""
    place.mkdir()
    with memodb.connect(place / "first", device=device) as db:  # what is loaded or compiled once is nobody's cost
        db.append_many([document.text for document in stream.stored])
        db.lookup(np.zeros((BATCH, LENGTH), dtype=np.int64))
    asked: dict[int, Questions] = {}
    for parameter in parameters(stream.tokens):
        stored = stream.stored[: max(1, len(stream.stored) // parameter.share)]
        part = Stream(stored, stream.spare)
        if parameter.share not in asked:
            asked[parameter.share] = Questions(stored, BATCH)
        costs = measure(place, parameter, part, asked[parameter.share], repeats, device=device, say=say)
        yield parameter.name, table(parameter, costs)
