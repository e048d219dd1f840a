"""The same questions to memodb and its peers in one process, in turns, after each has been seen to answer right."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from bench.check import faults
from bench.footprint import measure as weigh
from bench.indexes import InfiniGram, Tokengrams
from bench.peers import Dict, Memodb, NumPy, Peer, SQLite
from bench.questions import LENGTHS, Kind, kinds
from bench.stream import Document, Stream
from bench.timing import Latency, alternate, latencies, steady, timed

__all__ = ["BATCH", "PEERS", "Comparison", "Line", "compare", "lookups", "ready"]

PEERS: tuple[type[Peer], ...] = (Memodb, Dict, NumPy, SQLite, Tokengrams, InfiniGram)
BATCH = 4096
CHANGED = 10
"""Documents of about 1,000 tokens that are appended and deleted at once."""

_SAMPLE = 200


@dataclass(frozen=True)
class Line:
    """One question and every peer's figure.

    Parameters
    ----------
    label, unit : str
    more_is_better : bool
    values : mapping of peer's name to figure
        In the unit; a text says why there is none.
    """

    label: str
    unit: str
    more_is_better: bool
    values: Mapping[str, float | str]

    def advantage(self, peer: str) -> float | None:
        """How many times better memodb is than a peer; below 1 it is worse."""
        ours, theirs = self.values.get(Memodb.name), self.values.get(peer)
        if not isinstance(ours, float) or not isinstance(theirs, float) or not ours or not theirs:
            return None
        return ours / theirs if self.more_is_better else theirs / ours


@dataclass
class Comparison:
    """Who is compared, all lines, and the peers that are not compared, with the reason."""

    names: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


def compare(stream: Stream, repeats: int, *, device: str, calls: int = 1000, say: Callable[[str], None]) -> Comparison:
    """Build every peer from the stream, check it, and time it.

    Parameters
    ----------
    stream : Stream
        With at least ``CHANGED`` spare documents.
    repeats : int
        Of each timing; a third of it of building.
    calls : int
        Single contexts of each kind.
    """
    result = Comparison()
    present = []
    for kind in PEERS:
        reason = kind.missing()
        if reason:
            result.absent[kind.name] = reason
        else:
            present.append(kind)
    asked = kinds(stream.stored, 4 * BATCH)
    with ExitStack() as stack:
        peers = {}
        builds = max(1, round(repeats / 3))
        ingested: dict[str, list[float]] = {kind.name: [] for kind in present}
        for turn in range(builds):
            for kind in present:
                say(f"{kind.name}: taking {stream.tokens:,} tokens, {turn + 1} of {builds}")
                peer = stack.enter_context(ready(kind, device)) if turn == builds - 1 else None
                if peer is None:
                    with ready(kind, device) as passing:
                        ingested[kind.name].append(timed(partial(passing.ingest, stream.stored)))
                else:
                    ingested[kind.name].append(timed(partial(peer.ingest, stream.stored)))
                    peers[kind.name] = peer
        for name, peer in list(peers.items()):
            fault = faults(peer, stream.stored, asked, _SAMPLE)
            if fault:
                say(f"{name} is not compared: {fault}")
                result.absent[name] = f"answers wrong: {fault}"
                del peers[name], ingested[name]
        result.names = list(peers)
        rates = {name: stream.tokens / float(np.median(taken)) for name, taken in ingested.items()}
        result.lines.append(Line("ingest", "tokens/s", True, rates))
        for question in asked:
            say(f"batches: {question.name}")
            result.lines.append(
                Line(f"batches: {question.name}", "contexts/s", True, lookups(peers, question, repeats))
            )
        for question in asked:
            if question.known or "shuffled" in question.name:
                say(f"one at a time: {question.name}")
                result.lines += _singles(peers, question, calls)
        say("appending and deleting")
        result.lines += _changes(peers, stream.spare[:CHANGED], repeats, rates, stream.tokens)
        for name, peer in peers.items():  # what was appended and deleted left nothing behind
            fault = faults(peer, stream.stored, asked[:1], _SAMPLE) if peer.changes else ""
            if fault:
                raise SystemExit(f"{name} answers wrong after a deletion: {fault}")
    result.lines += _footprints([kind for kind in present if kind.name in peers], stream.tokens, say)
    return result


@contextmanager
def ready(kind: type[Peer], device: str) -> Iterator[Peer]:
    """An empty peer with a directory of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        peer = Memodb(place, device) if issubclass(kind, Memodb) else kind(place)
        try:
            yield peer
        finally:
            peer.close()


def lookups(peers: Mapping[str, Peer], question: Kind, repeats: int) -> dict[str, float | str]:
    """Contexts a second of each peer, in batches of ``BATCH``, or of what a slow one does in a third of a second; all
    that is timed was asked once before."""
    acts, amounts = {}, {}
    for name, peer in peers.items():
        peer.batch(question.contexts[:64])  # the first call of anything is no measure
        rate = 64 / timed(partial(peer.batch, question.contexts[64:128]))
        size = int(np.clip(rate / 3, 32, BATCH))
        batches = int(np.clip(rate / 5 / size, 1, len(question.contexts) // BATCH))
        parts = [question.contexts[at * size : (at + 1) * size] for at in range(batches)]
        acts[name] = partial(_ask, peer, parts)
        amounts[name] = sum(map(len, parts))
    alternate(acts, 1)
    taken = alternate(acts, repeats)
    return {name: amounts[name] / float(np.median(seconds)) for name, seconds in taken.items()}


def _ask(peer: Peer, parts: Sequence[np.ndarray]) -> None:
    for part in parts:
        peer.batch(part)


def _singles(peers: Mapping[str, Peer], question: Kind, calls: int) -> list[Line]:
    """Median and 99th percentile of single calls, the peers taking turns."""
    contexts = question.contexts[:calls].tolist()
    turns = 4
    taken: dict[str, list[float]] = {name: [] for name in peers}
    with steady():
        for turn, (name, peer) in itertools.product(range(turns), peers.items()):
            part = contexts[turn::turns]
            taken[name] += latencies(lambda number, ask=peer.one, part=part: ask(part[number]), len(part))  # type: ignore[misc]
    found = {name: Latency.of(seconds) for name, seconds in taken.items()}
    label = f"one at a time: {question.name}"
    return [
        Line(f"{label}, median", "µs", False, {name: 1e6 * each.p50 for name, each in found.items()}),
        Line(f"{label}, 99th percentile", "µs", False, {name: 1e6 * each.p99 for name, each in found.items()}),
    ]


def _changes(
    peers: Mapping[str, Peer], documents: Sequence[Document], repeats: int, rates: Mapping[str, float], tokens: int
) -> list[Line]:
    """Documents appended in one call and deleted in one, so that each repetition meets the same store."""
    added: dict[str, list[float]] = {name: [] for name in peers}
    removed: dict[str, list[float]] = {name: [] for name in peers}
    with steady():
        for _, (name, peer) in itertools.product(range(repeats), peers.items()):
            if peer.changes:
                added[name].append(timed(partial(peer.append, documents)))
                removed[name].append(timed(partial(peer.delete, documents)))
    count = sum(document.ids.size for document in documents)
    lines = []
    for verb, taken in (("append", added), ("delete", removed)):
        values: dict[str, float | str] = {}
        for name, peer in peers.items():
            anew = f"cannot; all anew {1e3 * tokens / rates[name]:,.0f}"
            values[name] = 1e3 * float(np.median(taken[name])) if peer.changes else anew
        lines.append(Line(f"{verb} {len(documents)} documents, {count:,} tokens", "ms", False, values))
    durable: dict[str, float | str] = {name: "yes" if peer.durable else "no" for name, peer in peers.items()}
    return [*lines, Line("durable when it returns", "", True, durable)]


def _footprints(kinds_of_peers: Sequence[type[Peer]], tokens: int, say: Callable[[str], None]) -> list[Line]:
    """Bytes per token of every peer, each in a process of its own."""
    memory: dict[str, float | str] = {}
    disk: dict[str, float | str] = {}
    for kind in kinds_of_peers:
        say(f"{kind.name}: weighing")
        with tempfile.TemporaryDirectory() as folder:
            found = weigh(kind, Path(folder), tokens)
        memory[kind.name] = found.memory
        disk[kind.name] = found.disk if found.disk else "none"
    orders = f"contexts of {' and '.join(map(str, LENGTHS))}"
    return [
        Line(f"resident memory, {orders}", "bytes per token", False, memory),
        Line(f"files, {orders}", "bytes per token", False, disk),
    ]
