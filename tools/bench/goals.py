"""memodb beside its goals, one figure after the other, on one store."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import memodb
from bench import inside
from bench.check import without_misses
from bench.compare import BATCH
from bench.questions import Kind, followers, kinds
from bench.stream import SEED, Document, Stream
from bench.timing import Latency, Timing, alternate, latencies, timed

__all__ = ["GOALS", "Figure", "Goal", "Sizes", "measure"]


_PATIENCE = 5.0
"""Seconds from which on a batch is asked only once."""


@dataclass(frozen=True)
class Goal:
    """What a figure is to reach: with NumPy alone, and with the compiled kernels.

    Parameters
    ----------
    label, unit : str
    plain, fast : float or None
        In the unit; None where there is no goal.
    more_is_better : bool
    """

    label: str
    unit: str
    plain: float | None
    fast: float | None
    more_is_better: bool = False

    def said(self) -> str:
        """The goals in words: NumPy alone / with ``fast``, where they differ."""
        texts = ["none" if value is None else f"{value:,.10g}" for value in (self.plain, self.fast)]
        return f"{texts[0] if texts[0] == texts[1] else ' / '.join(texts)} {self.unit}"


GOALS = {
    "lookup": Goal("`lookup`, batches of 4,096", "contexts/s", 150e3, 1.5e6, True),
    "next p50": Goal("`next_tokens`, one prompt, median", "µs", 500, 150),
    "next p99": Goal("`next_tokens`, one prompt, 99th percentile", "µs", 2000, 500),
    "complete": Goal("`complete`, greedy", "tokens/s", None, 10e3, True),
    "memorise": Goal("memorise token arrays, all layers and provenance", "tokens/s", 0.7e6, 2e6, True),
    "append_many": Goal("`append_many`, text to durable", "tokens/s", 250e3, 250e3, True),
    "trace": Goal("`trace` of 10,000 tokens, verified", "ms", 50, 50),
    "append": Goal("`append` one document of 1,000 tokens, durable", "ms", 15, 15),
    "hidden": Goal("`delete` one document of 1,000 tokens: hidden", "ms", 10, 10),
    "verified": Goal("`delete` one document of 1,000 tokens: verified, durable", "ms", 500, 500),
    "thousand": Goal("`delete` a thousand in one call, verified", "s", 10, 10),
    "read path": Goal("answering layers' read path", "bytes per token", 8, 8),
    "memory": Goal("matrices in memory", "bytes per token", 50, 50),
    "disk": Goal("files", "bytes per token", 20, 20),
    "growth": Goal("`lookup` as the store grows, slowest size", "times the second size's time", 2, 2),
    "flat": Goal("bytes per token as the store grows, most", "times the second size's", 1.25, 1.25),
    "small": Goal("a small store on disk", "MB", 1, 1),
    "open": Goal("open, to the first answer", "ms", 300, 300),
    "import": Goal("`import memodb`", "ms", 200, 200),
}


@dataclass(frozen=True)
class Figure:
    """A measured figure, in its goal's unit.

    Parameters
    ----------
    goal : str
        Key of ``GOALS``.
    case : str
        Which of several.
    value : float
        Median, or the quantile that the goal names.
    best : float or None
        The best of all repetitions.
    count : int
        Repetitions, or calls.
    """

    goal: str
    case: str
    value: float
    best: float | None = None
    count: int = 1

    @property
    def reached(self) -> bool | None:
        """Whether it reaches the goal; None where there is none."""
        goal = GOALS[self.goal]
        limit = goal.fast if inside.compiled() else goal.plain
        if limit is None:
            return None
        return self.value >= limit if goal.more_is_better else self.value <= limit


@dataclass(frozen=True)
class Sizes:
    """How much is asked.

    Parameters
    ----------
    repeats : int
    builds : int
        Repetitions of what takes the whole stream.
    calls : int
        Single prompts of each kind.
    singles : int
        Documents appended one by one.
    deleted : int
        Documents deleted one by one, while ``budget`` seconds are not over.
    many : int
        Documents deleted in one call.
    budget : float
    """

    repeats: int = 7
    builds: int = 3
    calls: int = 1000
    singles: int = 50
    deleted: int = 20
    many: int = 1000
    budget: float = 60.0

    @property
    def spare(self) -> int:
        """Documents that the stream needs beside those that are stored."""
        return max(self.singles, self.many, self.deleted) + 20


def measure(place: Path, stream: Stream, sizes: Sizes, *, device: str, say: Callable[[str], None]) -> list[Figure]:
    """All figures of one store but those of its growth."""
    figures = [_import(said, sizes.repeats) for said in ("import memodb", "import memodb; memodb.connect")]
    builds = []
    for turn in range(sizes.builds):
        say(f"append_many: {stream.tokens:,} tokens, {turn + 1} of {sizes.builds}")
        with memodb.connect(place / f"{turn}", device=device) as db:
            builds.append(timed(partial(db.append_many, _records(stream.stored))))
    figures.append(_rate("append_many", "", Timing(tuple(builds), stream.tokens)))
    path = place / f"{sizes.builds - 1}"
    with memodb.connect(path, device=device) as db:
        db.checkpoint()
        figures += _bytes(db, "as appended")
        asked = kinds(stream.stored, 4 * BATCH)
        _check(db, stream, asked)
        say("memorising token arrays")
        taken = [_timed_memorising(db, stream) for _ in range(sizes.builds)]
        amount = taken[0][1]
        figures.append(_rate("memorise", "", Timing(tuple(seconds for seconds, _ in taken), amount)))
        for kind in asked:
            say(f"lookup: {kind.name}")
            figures.append(_lookup(db, kind, sizes.repeats))
        say("next_tokens, complete, trace")
        figures += _prompts(db, stream, sizes.calls)
        figures.append(_complete(db, stream, sizes.calls, sizes.repeats))
        figures.append(_trace(db, stream, sizes.repeats))
        say("append and delete")
        figures += _changes(db, stream, sizes)
        db.compact()
        db.checkpoint()
        figures += _bytes(db, "after compact()")
    figures.append(_open(path, asked[0], sizes.repeats, device))
    return figures


def _records(documents: Sequence[Document], prefix: str = "") -> list[dict[str, str]]:
    return [{"id": f"{prefix}{number}", "text": document.text} for number, document in enumerate(documents)]


def _rate(goal: str, case: str, timing: Timing) -> Figure:
    return Figure(goal, case, timing.rate, timing.amount / timing.fastest, len(timing.seconds))


def _time(goal: str, case: str, seconds: Sequence[float], unit: float) -> Figure:
    """The median in units of a second."""
    return Figure(goal, case, float(np.median(seconds)) * unit, min(seconds) * unit, len(seconds))


def _check(db: memodb.Store, stream: Stream, asked: Sequence[Kind]) -> None:
    """Nothing is timed that answers wrong."""
    for kind in asked:
        fault = without_misses(db, kind, followers(stream.stored, kind.contexts[:100])).fault
        if fault:
            raise SystemExit(f"memodb answers wrong: {kind.name}: {fault}")


def _timed_memorising(db: memodb.Store, stream: Stream) -> tuple[float, int]:
    began = time.perf_counter()
    tokens = inside.memorised(db, stream.stored)
    return time.perf_counter() - began, tokens


def _lookup(db: memodb.Store, kind: Kind, repeats: int) -> Figure:
    """Whole batches, also where one takes long."""
    contexts = kind.contexts[:BATCH]
    seconds = alternate({"": partial(db.lookup, contexts)}, 1)[""]
    if seconds[0] < _PATIENCE:
        seconds = alternate({"": partial(db.lookup, contexts)}, repeats)[""]
    return _rate("lookup", kind.name, Timing(seconds, len(contexts)))


def _prompts(db: memodb.Store, stream: Stream, calls: int) -> list[Figure]:
    """Text in, text out: prompts of 24 and of 4 tokens that are stored, and of 24 that are not."""
    generator = np.random.default_rng(SEED)
    excerpts = [_excerpt(stream.stored, 24, generator) for _ in range(calls)]
    cases = {
        "known prompt of 24 tokens": excerpts,
        "known prompt of 4 tokens": [ids[:4] for ids in excerpts],
        "unknown prompt of 24 tokens": [generator.permuted(ids) for ids in excerpts],
    }
    figures = []
    for case, rows in cases.items():
        prompts = [db.tokenizer.decode(ids) for ids in rows]
        db.next_tokens(prompts[0])
        found = Latency.of(latencies(lambda number, said=prompts: db.next_tokens(said[number]), calls))  # type: ignore[misc]
        figures += [
            Figure("next p50", case, 1e6 * found.p50, None, calls),
            Figure("next p99", case, 1e6 * found.p99, None, calls),
        ]
    return figures


def _excerpt(documents: Sequence[Document], length: int, generator: np.random.Generator) -> np.ndarray:
    """So many tokens in a row from anywhere in a document that has them."""
    while True:
        ids = documents[int(generator.integers(len(documents)))].ids
        if ids.size > length:
            at = int(generator.integers(ids.size - length))
            return ids[at : at + length]


def _complete(db: memodb.Store, stream: Stream, calls: int, repeats: int) -> Figure:
    generator = np.random.default_rng(SEED)
    prompts = [db.tokenizer.decode(_excerpt(stream.stored, 24, generator)) for _ in range(min(20, calls))]
    steps = 0

    def act() -> None:
        nonlocal steps
        steps = sum(len(db.complete(prompt, max_tokens=64).steps) for prompt in prompts)

    act()
    seconds = alternate({"": act}, repeats)[""]
    return _rate("complete", "prompts of 24 tokens", Timing(seconds, steps))


def _trace(db: memodb.Store, stream: Stream, repeats: int) -> Figure:
    """A text of 10,000 tokens: excerpts of 100 from stored documents, and as many from others, in turns."""
    generator = np.random.default_rng(SEED)
    parts = [_excerpt((stream.stored, stream.spare)[turn % 2], 100, generator) for turn in range(100)]
    text = "\n".join(db.tokenizer.decode(ids) for ids in parts)
    spans = db.trace(text)
    held = sum(any(span.text in said for span in spans) for said in map(db.tokenizer.decode, parts[::2]))
    if held < 0.9 * len(parts[::2]):
        raise SystemExit(f"trace finds {held} of {len(parts[::2])} quoted excerpts")
    seconds = alternate({"": partial(db.trace, text)}, repeats)[""]
    return _time("trace", f"half of it quoted, {len(spans)} spans found", seconds, 1e3)


def _changes(db: memodb.Store, stream: Stream, sizes: Sizes) -> list[Figure]:
    """Appending, deleting one by one, deleting many: of documents that the store did not have."""
    names = [f"s{number}" for number in range(sizes.singles)]
    chosen = stream.spare[: sizes.singles]
    db.append(stream.spare[-1].text, id="first")
    added = latencies(lambda number: db.append(chosen[number].text, id=names[number]), len(chosen))
    figures = [_time("append", "", added, 1e3)]
    hidden, verified = [], []
    began = time.perf_counter()
    for name in names[: sizes.deleted]:
        gone, done = _deletion(db, name)
        hidden.append(gone)
        verified.append(done)
        if time.perf_counter() - began > sizes.budget:
            break
    figures += [
        _time("hidden", "seen by another thread", hidden, 1e3),
        _time("verified", f"from {db.stats().tokens:,} tokens", verified, 1e3),
    ]
    many = _records(stream.spare[: sizes.many], "m")
    db.append_many(many)
    seconds = timed(lambda: _verified(db, *(record["id"] for record in many)))
    figures.append(Figure("thousand", f"{len(many):,} from {db.stats().tokens:,} tokens", seconds))
    return figures


def _verified(db: memodb.Store, *names: str) -> None:
    if not db.delete(*names).verified:
        raise SystemExit("a deletion was not verified")


def _deletion(db: memodb.Store, name: str) -> tuple[float, float]:
    """Seconds until another thread does not find a document any more, and until its deletion is verified."""
    began = time.perf_counter()
    gone: list[float] = []

    def watch() -> None:
        while name in db:
            time.sleep(0.0005)
        gone.append(time.perf_counter() - began)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    _verified(db, name)
    done = time.perf_counter() - began
    watcher.join()
    return gone[0], done


def _bytes(db: memodb.Store, case: str) -> list[Figure]:
    """Per token, as the store itself says: of its matrices, and of all its files."""
    stats = db.stats()
    read = sum(segment.read_bytes for segment in stats.segments)
    return [
        Figure(goal, f"{case}, {len(stats.segments)} segment(s)", value / stats.tokens)
        for goal, value in (("read path", read), ("memory", stats.memory_bytes), ("disk", stats.disk_bytes))
    ]


def _open(path: Path, kind: Kind, repeats: int, device: str) -> Figure:
    """From a path to an answer, in a process that has memodb loaded and files that the system has read before."""

    def act() -> None:
        with memodb.connect(path, create=False, device=device) as db:
            db.lookup(kind.contexts[:1])

    with memodb.connect(path, create=False, device=device) as db:
        tokens = db.stats().tokens
    seconds = alternate({"": act}, repeats)[""]
    return _time("open", f"{tokens:,} tokens", seconds, 1e3)


def _import(statement: str, repeats: int) -> Figure:
    """In a process of its own each time, compiled already; Python's own start is not counted."""
    code = f"import time; began = time.perf_counter(); {statement}; print(time.perf_counter() - began)"
    home = str(Path(memodb.__file__).parents[1])
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=True).stdout)
        for _ in range(repeats)
    ]
    return _time("import", f"`{statement}`", seconds, 1e3)
