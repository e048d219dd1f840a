"""Timing on a machine that others use too: what is compared takes turns, and the median counts."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

__all__ = ["Latency", "Timing", "alternate", "latencies", "steady", "timed"]


@dataclass(frozen=True)
class Timing:
    """Seconds of each repetition of something, and how much of it was done in one."""

    seconds: tuple[float, ...]
    amount: float = 1.0

    @property
    def median(self) -> float:
        """Seconds."""
        return float(np.median(self.seconds))

    @property
    def fastest(self) -> float:
        """Seconds."""
        return min(self.seconds)

    @property
    def rate(self) -> float:
        """Amount a second, by the median."""
        return self.amount / self.median


@dataclass(frozen=True)
class Latency:
    """Seconds of single calls: how many, and two of their quantiles."""

    calls: int
    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        return cls(len(seconds), *(float(q) for q in np.percentile(seconds, [50, 99])))


@contextmanager
def steady() -> Iterator[None]:
    """No garbage collection meanwhile: with a dict of millions of entries in the process, each would be charged to
    whoever happens to allocate next. Inside of another one it does nothing."""
    if not gc.isenabled():
        yield
        return
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def timed(act: Callable[[], object]) -> float:
    """Seconds that something takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def alternate(acts: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, ...]]:
    """Time several things in turns, the order rotated each round, so that a slow minute of the machine hits all.

    Returns
    -------
    dict of name to seconds of each repetition
    """
    names = list(acts)
    taken: dict[str, list[float]] = {name: [] for name in names}
    with steady():
        for turn in range(repeats):
            shift = turn % len(names) if names else 0
            for name in names[shift:] + names[:shift]:
                taken[name].append(timed(acts[name]))
    return {name: tuple(seconds) for name, seconds in taken.items()}


def latencies(ask: Callable[[int], object], calls: int) -> list[float]:
    """Seconds of each of ``calls`` single calls, ``ask(number)``."""
    taken = []
    with steady():
        for number in range(calls):
            began = time.perf_counter()
            ask(number)
            taken.append(time.perf_counter() - began)
    return taken
