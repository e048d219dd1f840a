"""How a store grows: sizes a factor of ten apart, each in a process of its own, beside the peers that keep up."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bench import stream
from bench.check import faults
from bench.compare import BATCH, lookups, ready
from bench.goals import Figure
from bench.indexes import Tokengrams
from bench.peers import Memodb, NumPy, Peer
from bench.questions import kinds
from bench.timing import timed
from memodb.memory import backend_for

__all__ = ["Point", "figures", "grow", "sizes"]

PEERS: tuple[type[Peer], ...] = (Memodb, NumPy, Tokengrams)


@dataclass(frozen=True)
class Point:
    """One size.

    Parameters
    ----------
    tokens : int
    appended : float
        memodb's tokens a second, text to durable.
    rates : mapping of (kind of context, peer) to contexts a second
    nbytes : mapping of what is measured to bytes per token
    disk : int
        Bytes of memodb's files.
    """

    tokens: int
    appended: float
    rates: Mapping[tuple[str, str], float]
    nbytes: Mapping[str, float]
    disk: int


def sizes(tokens: int) -> list[int]:
    """From a hundredth to ten times as many; no store smaller than a document."""
    return sorted({max(1000, int(tokens * factor)) for factor in (0.01, 0.1, 1, 10)})


def grow(wanted: Sequence[int], repeats: int, *, device: str, say: Callable[[str], None]) -> list[Point]:
    """Measure each size. Lookups of all sizes take turns, since a machine that has been slower for a minute would look
    like a store that is."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools, built = [], []
        for tokens in wanted:
            say(f"a store of {tokens:,} tokens")
            pools.append(stack.enter_context(ProcessPoolExecutor(1, mp_context=context)))
            stack.callback(_closed, pools[-1])
            built.append(pools[-1].submit(_build, tokens, device).result())
        rounds = []
        for turn in range(repeats):
            say(f"lookups of every size, {turn + 1} of {repeats}")
            rounds.append([pool.submit(_ask).result() for pool in pools])
    points = []
    for (tokens, appended, nbytes, disk), its in zip(built, zip(*rounds, strict=True), strict=True):
        rates = {what: float(np.median([each[what] for each in its])) for what in its[0]}
        points.append(Point(tokens, appended, rates, nbytes, disk))
    return points


_here: dict[str, Any] = {}
"""What a process that holds a size keeps between two questions."""


def _build(tokens: int, device: str) -> tuple[int, float, dict[str, float], int]:
    """Fill every peer and see that it answers right: tokens, memodb's tokens a second, and `_bytes`."""
    given = stream.read(tokens)
    backend_for(device).kernels_for(1 << 62)  # which a small store would import in the midst of what is timed
    asked = [kind for kind in kinds(given.stored, 4 * BATCH) if kind.known or "random" in kind.name]
    stack = ExitStack()
    _here["stack"] = stack
    peers = {kind.name: stack.enter_context(ready(kind, device)) for kind in PEERS if not kind.missing()}
    taken = {name: timed(partial(peer.ingest, given.stored)) for name, peer in peers.items()}
    for name, peer in peers.items():
        fault = faults(peer, given.stored, asked, 50)
        if fault:
            raise SystemExit(f"{name} answers wrong at {tokens:,} tokens: {fault}")
    _here.update(peers=peers, asked=asked)
    return given.tokens, given.tokens / taken[Memodb.name], *_bytes(peers, given.tokens)


def _ask() -> dict[tuple[str, str], float]:
    """Contexts a second, of each kind and peer, once."""
    return {
        (kind.name, name): float(rate)
        for kind in _here["asked"]
        for name, rate in lookups(_here["peers"], kind, 1).items()
    }


def _closed(pool: ProcessPoolExecutor) -> None:
    pool.submit(_close).result()


def _close() -> None:
    if "stack" in _here:
        _here.pop("stack").close()


def _bytes(peers: Mapping[str, Peer], tokens: int) -> tuple[dict[str, float], int]:
    found: dict[str, float] = {}
    disk = 0
    for name, peer in peers.items():
        if isinstance(peer, Memodb):
            stats = peer.db.stats()
            disk = stats.disk_bytes
            found["memodb, read path"] = sum(segment.read_bytes for segment in stats.segments) / tokens
            found["memodb, matrices in memory"] = stats.memory_bytes / tokens
            found["memodb, files"] = disk / tokens
        elif isinstance(peer, NumPy):
            held = sum(array.nbytes for table in peer.tables.values() for array in table)
            found["NumPy, two orders in memory"] = held / tokens
        else:
            found[f"{name}, files"] = peer.disk_bytes() / tokens
    return found, disk


def figures(points: Sequence[Point]) -> list[Figure]:
    """The goals of growth, judged against the second size."""
    base = points[min(1, len(points) - 1)]
    found = []
    for kind, name in base.rates:
        if name == Memodb.name:
            slowest = min(points, key=lambda point: point.rates[kind, name])
            ratio = base.rates[kind, name] / slowest.rates[kind, name]
            found.append(Figure("growth", f"{kind}: slowest at {slowest.tokens:,}", ratio, None, len(points)))
    larger = [point for point in points if point.tokens >= base.tokens]
    for what in base.nbytes:
        if what.startswith(Memodb.name):
            most = max(larger, key=lambda point: point.nbytes[what])
            ratio = most.nbytes[what] / base.nbytes[what]
            found.append(Figure("flat", f"{what}: most at {most.tokens:,}", ratio, None, len(larger)))
    return [*found, Figure("small", f"{points[0].tokens:,} tokens", points[0].disk / 1e6)]
