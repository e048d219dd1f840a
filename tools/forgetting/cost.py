"""Deletion cost: seconds and bytes written, against the length of the document and the size of the store.

Bytes are those that the process handed to the system to write (``wchar`` of Linux' /proc/self/io), so they do not
depend on the disk; seconds do. ``verify=False`` is the deletion itself; the default also memorises the touched segment
anew and compares, which is a pass over the store on purpose. Each document is appended to a store of other documents,
checkpointed, and deleted alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import psutil

import memodb
from forgetting.corpus import identified, pieces
from forgetting.measures import Figure, slope

__all__ = ["Cost", "Many", "figures", "many", "measure", "written"]

_FILLER = 1000
"""Tokens of the documents that make up the store."""


@dataclass(frozen=True)
class Cost:
    """One kind of deletion: medians of some repetitions.

    Parameters
    ----------
    store, length : int
        Tokens of the other documents, and of the deleted one.
    verify : bool
    seconds : float
    nbytes : float
        Written; nan where the system does not tell.
    """

    store: int
    length: int
    verify: bool
    seconds: float
    nbytes: float


@dataclass(frozen=True)
class Many:
    """As many documents deleted in one call and in one call each, (seconds, bytes) of all, and tokens of the store."""

    documents: int
    store: int
    together: tuple[float, float]
    apart: tuple[float, float]


def written(act: Callable[[], object]) -> tuple[float, float]:
    """Seconds that something takes, and bytes that this process writes meanwhile."""
    process = psutil.Process()
    counters = getattr(process, "io_counters", None)  # Linux and Windows only
    before = counters().write_chars if counters else np.nan
    began = time.perf_counter()
    act()
    seconds = time.perf_counter() - began
    return seconds, float((counters().write_chars if counters else np.nan) - before)


def measure(path: Path, store: int, lengths: Sequence[int], seed: int, *, repeats: int, verified: int) -> list[Cost]:
    """Delete documents of several lengths, one at a time, from a store of a certain size.

    Parameters
    ----------
    path : Path
        Where the store is made.
    store : int
        Tokens of the documents that stay.
    repeats, verified : int
        Deletions of each length without verification and with it.
    """
    found = []
    with memodb.connect(path) as db:
        filler = list(islice(pieces(db.tokenizer, _FILLER, seed), store // _FILLER))
        db.append_many({"id": name, "text": text} for name, text in identified("k", filler).items())
        del filler
        for length in lengths:
            texts = list(islice(pieces(db.tokenizer, length, seed + 1), repeats + verified))
            for verify, chosen in ((False, texts[:repeats]), (True, texts[repeats:])):
                costs = []
                for text in chosen:
                    db.append(text, id="gone")
                    db.checkpoint()
                    costs.append(written(lambda v=verify: db.delete("gone", verify=v)))  # type: ignore[misc]
                seconds, nbytes = np.median(np.array(costs), axis=0).tolist()
                found.append(Cost(store, length, verify, seconds, nbytes))
    return found


def many(path: Path, store: int, count: int, length: int, seed: int) -> Many:
    """Delete ``count`` documents in one call each, then as many others in one call, from one store."""
    with memodb.connect(path) as db:
        filler = list(islice(pieces(db.tokenizer, length, seed), store // length))
        if len(filler) < 2 * count:
            raise ValueError("the store is too small for what is to be deleted from it")
        db.append_many({"id": name, "text": text} for name, text in identified("d", filler).items())
        db.checkpoint()
        names = list(identified("d", filler))

        def one_by_one() -> None:
            for name in names[:count]:
                db.delete(name, verify=False)

        apart = written(one_by_one)
        together = written(lambda: db.delete(*names[count : 2 * count], verify=False))
        return Many(count, store, together, apart)


def figures(costs: Sequence[Cost], batch: Many) -> list[Figure]:
    """Rows of the table: every measurement, then exponents of power laws through them."""
    rows = [
        Figure(
            "cost",
            f"deleting {c.length:,} tokens from a store of {c.store:,}, {'verified' if c.verify else 'not verified'}",
            f"{c.seconds * 1000:,.0f} ms, {c.nbytes / 1000:,.0f} kB written",
            timed=True,
        )
        for c in sorted(costs, key=lambda c: (c.verify, c.store, c.length))
    ]
    bare = [c for c in costs if not c.verify]
    stores, lengths = sorted({c.store for c in bare}), sorted({c.length for c in bare})
    for name, value in (("seconds", _seconds), ("bytes written", _nbytes)):
        with_store = [
            slope(stores, [value(c) for s in stores for c in bare if (c.store, c.length) == (s, length)])
            for length in lengths
        ]
        with_length = [
            slope(lengths, [value(c) for n in lengths for c in bare if (c.store, c.length) == (store, n)])
            for store in stores
        ]
        rows += [
            Figure(
                "cost",
                f"{name}, not verified: exponent of growth with the store ({_list(lengths)} tokens deleted)",
                ", ".join(f"{e:.2f}" for e in with_store),
                "below 0.1",
                max(with_store) < 0.1,
                timed=True,
            ),
            Figure(
                "cost",
                f"{name}, not verified: exponent of growth with the document (stores of {_list(stores)} tokens)",
                ", ".join(f"{e:.2f}" for e in with_length),
                "at most 1",
                max(with_length) <= 1,
                timed=True,
            ),
        ]
    ratio = [alone / joint for alone, joint in zip(batch.apart, batch.together, strict=True)]
    rows.append(
        Figure(
            "cost",
            f"{batch.documents:,} documents in as many calls over in one call (store of {batch.store:,} tokens)",
            f"{ratio[0]:.0f} times the seconds ({batch.apart[0]:.1f} s, {batch.together[0]:.2f} s), "
            f"{ratio[1]:.0f} times the bytes",
            timed=True,
        )
    )
    return rows


def _seconds(found: Cost) -> float:
    return found.seconds


def _nbytes(found: Cost) -> float:
    return found.nbytes


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(f"{number:,}" for number in numbers)
