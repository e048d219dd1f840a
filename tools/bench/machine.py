"""Where a run was made, and two figures of the machine that bound what any store in memory can do."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import psutil

from bench.stream import Stream
from bench.timing import alternate

__all__ = ["MemoryRates", "describe", "memory_rates"]

_PACKAGES = ("numpy", "numba", "cupy-cuda12x", "tokengrams", "infini-gram")


def describe(stream: Stream) -> str:
    """Machine, versions, commit, load and input, as a paragraph."""
    versions = [f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{_processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.machine()}; {', '.join(versions)}. {time.strftime('%Y-%m-%d')}, commit "
        f"{_commit()}; load averages at the end {load} (1 is this run's own). Input: {stream.describe()}"
    )


def _processor() -> str:
    """Its name, as Linux or macOS tell it."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str:
    """The checked out commit, and whether files differ from it."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True).stdout.strip()

    return (
        f"{git('rev-parse', '--short', 'HEAD') or 'unknown'}{' with changes' if git('status', '--porcelain') else ''}"
    )


@dataclass(frozen=True)
class MemoryRates:
    """How fast one core reads this machine's memory through NumPy.

    Parameters
    ----------
    megabytes : float
        Size of the array that is read.
    lines : float
        64-byte lines a second, each at a random place.
    bandwidth : float
        Bytes a second, from the first to the last.
    """

    megabytes: float
    lines: float
    bandwidth: float


def memory_rates(megabytes: float, repeats: int = 5) -> MemoryRates:
    """Read an array of some size in a random order, line by line, and in its own.

    The random reads are independent of each other, as those of a batch are: a core waits for many at a time. A store
    that touches m lines a context answers at most ``lines / m`` contexts a second and core in batches.
    """
    lines = max(1, int(megabytes * 2**20 / 64))
    array = np.ones((lines, 8), dtype=np.uint64)
    order = np.random.default_rng(0).integers(0, lines, 200_000)
    into = np.empty((order.size, 8), dtype=np.uint64)
    seconds = alternate(
        {"random": lambda: np.take(array, order, axis=0, out=into, mode="clip"), "whole": lambda: array.sum()}, repeats
    )
    fastest = {name: min(taken) for name, taken in seconds.items()}
    return MemoryRates(megabytes, order.size / fastest["random"], array.nbytes / fastest["whole"])
