"""What is measured for each table, and where it is kept: figures that are known are not measured again."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from paper import counting, forgetting, prose, several, single
from paper.records import MEASURED, Records, authors

__all__ = [
    "FORGETTING",
    "PROSE",
    "SEVERAL",
    "SINGLE",
    "counted_heads",
    "forget",
    "prose_table",
    "several_table",
    "single_table",
]

SINGLE = Records(
    MEASURED / "single.csv",
    ("engine", "heads", "d_in", "d_out", "seed", "pairs_asked"),
    ("stored_pairs", "opened_at", "opening", "closing", "fill", "predicted_false", "measured_false", "seconds"),
)
SEVERAL = Records(
    MEASURED / "several.csv",
    ("engine", "d", "heads", "layers", "decoys", "seed", "iteration"),
    ("accuracy_first_texts", "accuracy_current_texts", "fill", "candidates", "seconds"),
)
PROSE = Records(
    MEASURED / "prose.csv",
    ("engine", "d", "layers", "tokens", "seed"),
    ("accuracy", "fill", "candidates", "seconds"),
)
FORGETTING = Records(
    MEASURED / "forgetting.csv", ("kind", "length", "seed"), ("intermediate", "output", "unequal", "cells", "seconds")
)

SIZES = {"cells": 1, "bits": 32}
"""Presence bits of a counting memory for each cell of MeMo's matrix."""

AT_LIMIT = "limit"
"""Instead of a number of pairs: where the accuracy fell to 0.9."""


def _say(table: str, row: Mapping[str, object]) -> None:
    print(f"{table}: " + ", ".join(f"{name} {value}" for name, value in row.items()), file=sys.stderr, flush=True)


def _add(records: Records, row: dict[str, object], began: float) -> None:
    row["seconds"] = round(time.perf_counter() - began, 1)
    records.add(row)
    _say(records.path.stem, row)


# -- table 1 -----------------------------------------------------------------------------------------------------------


def single_lines(dims: Collection[int]) -> Iterator[single.Setting]:
    """Lines of the authors' file with d_in = d_out, and at the smaller of the dims those that are not square."""
    for row in authors("single_layer"):
        setting = single.Setting(int(row["heads"]), int(row["d_in"]), int(row["d_out"]))
        if setting.d_in in dims and setting.d_out in dims and (setting.d_in == setting.d_out or setting.cells < 2**21):
            yield setting


def counted_heads(dim: int) -> int:
    """The heads with which a counting matrix is measured beside d x d: 4, or the fewest of the authors' lines.

    To it a context is a symbol, so that heads change nothing.
    """
    found = {int(row["heads"]) for row in authors("single_layer") if int(row["d_in"]) == int(row["d_out"]) == dim}
    return 4 if 4 in found else min(found)


def single_table(engine: str, dims: Collection[int], seeds: Collection[int], records: Records = SINGLE) -> None:
    """Fill matrices; ``engine`` is "gaussian", "rademacher", "willshaw cells" or "willshaw bits"."""
    for setting in single_lines(dims):
        for seed in seeds:
            key = {"engine": engine, "heads": setting.heads, "d_in": setting.d_in, "d_out": setting.d_out}
            key |= {"seed": seed, "pairs_asked": AT_LIMIT}
            if records.has(key):
                continue
            began = time.perf_counter()
            if not engine.startswith("willshaw"):
                filled = single.linear(setting, engine, seed)
                _add(records, {**key, **_filled(filled)}, began)
            elif setting.d_in == setting.d_out and setting.heads == counted_heads(setting.d_in):
                _counting(setting, engine, seed, key, records)


def _filled(filled: single.Filled) -> dict[str, object]:
    return {
        "stored_pairs": filled.pairs,
        "opened_at": filled.opened_at,
        "opening": round(filled.opening, 4),
        "closing": round(filled.closing, 4),
    }


def _counting(setting: single.Setting, engine: str, seed: int, key: Mapping[str, object], records: Records) -> None:
    """Fill a counting matrix, and look at unknown contexts at the paper's number of pairs and at its own limit."""
    shape = single.best_shape(SIZES[engine.split()[1]] * setting.cells, setting.vocabulary)
    papers = max(
        int(row["stored_pairs"])
        for row in authors("single_layer")
        if int(row["d_in"]) == setting.d_in and int(row["d_out"]) == setting.d_out
    )
    memory = single.Counting(setting, shape, seed)
    stored = 0
    began = time.perf_counter()

    def store(contexts: single.Ids, following: single.Ids) -> None:
        nonlocal stored
        memory.store(contexts, following)
        stored += len(contexts)
        if stored == papers:
            row = {**key, "pairs_asked": papers, "stored_pairs": papers}
            row["closing"] = round(memory.accuracy(contexts, following), 4)
            _add(records, row | _false_recall(memory, seed), began)

    def expected(pairs: int) -> float:
        return float(np.exp(-shape.false_candidates(pairs, setting.vocabulary) / 2))

    filled = single.fill_up(setting, seed, store, memory.accuracy, expected)
    _add(records, {**key, **_filled(filled), **_false_recall(memory, seed)}, began)


def _false_recall(memory: single.Counting, seed: int) -> dict[str, object]:
    bound, measured = memory.false_recall(seed)
    return {"fill": round(memory.fill, 4), "predicted_false": f"{bound:.3g}", "measured_false": f"{measured:.3g}"}


# -- table 2 -----------------------------------------------------------------------------------------------------------


def several_lines(dims: Collection[int], decoys: Collection[int], layers: Collection[int]) -> list[several.Setting]:
    """Settings of the authors' file, each once."""
    found = {
        several.Setting(int(row["d"]), int(row["layers"]), int(row["decoys"])): None
        for row in authors("several_layers")
        if int(row["d"]) in dims and int(row["decoys"]) in decoys and int(row["layers"]) in layers
    }
    return list(found)


def several_line(
    engine: str,
    setting: several.Setting,
    seed: int,
    evaluated: Collection[int] | None = None,
    records: Records = SEVERAL,
) -> None:
    """Measure one line, if it is not known; a line that was ended is begun again, since a memory is not kept.

    Parameters
    ----------
    engine : str
        "gaussian", "rademacher", either with " recalled", "willshaw cells", or "willshaw bits".
    """
    key: dict[str, object] = {"engine": engine, "d": setting.dim, "heads": setting.heads, "layers": setting.layers}
    key |= {"decoys": setting.decoys, "seed": seed}
    asked = [i for i in range(setting.iterations) if evaluated is None or i in evaluated]
    if all(records.has({**key, "iteration": iteration}) for iteration in asked):
        return
    began = time.perf_counter()
    if engine.startswith("willshaw"):
        for iteration, first, current, fill in counted(setting, SIZES[engine.split()[1]], seed):
            row = {**key, "iteration": iteration, "accuracy_first_texts": round(first.accuracy, 5)}
            row |= {"accuracy_current_texts": round(current.accuracy, 5), "fill": round(fill, 4)}
            _add(records, row | {"candidates": f"{first.candidates:.5g}"}, began)
        return
    codes, _, how = engine.partition(" ")
    for outcome in several.linear(setting, codes, seed, evaluated=asked, recalled=how == "recalled"):
        row = {**key, "iteration": outcome.iteration, "accuracy_first_texts": round(outcome.first, 5)}
        _add(records, {**row, "accuracy_current_texts": round(outcome.current, 5)}, began)


def counted(
    setting: several.Setting, size: int, seed: int
) -> Iterator[tuple[int, counting.Asked, counting.Asked, float]]:
    """Table 2 with the engine ``willshaw``: iteration, answers about the first texts and the current ones, fill."""
    s = setting
    pairs = s.iterations * s.samples * (s.length + 2)
    memory = counting.Counting(s.vocabulary, s.heads, s.layers, size * s.dim * s.dim, pairs, seed)
    opening: several.Ids | None = None
    for iteration, texts in enumerate(several.batches(s, seed)):
        memory.memorise(texts)
        opening = texts if opening is None else opening
        first = memory.ask(opening, s.heads, s.length - 1)
        current = first if iteration == 0 else memory.ask(texts, s.heads, s.length - 1)
        yield iteration, first, current, memory.fill


def several_table(
    engine: str,
    settings: Collection[several.Setting],
    seeds: Collection[int],
    evaluated: Collection[int] | None = None,
    records: Records = SEVERAL,
) -> None:
    """Measure lines of table 2."""
    for setting in settings:
        for seed in seeds:
            several_line(engine, setting, seed, evaluated, records)


# -- table 3 -----------------------------------------------------------------------------------------------------------


def prose_table(
    dim: int, lengths: Collection[int], seeds: Collection[int], layers: Collection[int], records: Records = PROSE
) -> None:
    """Measure table 3, all engines and both optima."""
    text = prose.prose(max(lengths))
    for n in sorted(lengths):
        for level in layers:
            for engine in ("occurrences", "votes"):
                _prose_line(text, engine, dim, level, n, 0, records)
            for seed in seeds:
                for engine in ("gaussian", "rademacher", "every occurrence", "willshaw cells", "willshaw bits"):
                    _prose_line(text, engine, dim, level, n, seed, records)


def _prose_line(text: prose.Prose, engine: str, dim: int, level: int, n: int, seed: int, records: Records) -> None:
    key = {"engine": engine, "d": dim, "layers": level, "tokens": n, "seed": seed}
    if records.has(key):
        return
    began = time.perf_counter()
    values: dict[str, object]
    if engine in ("occurrences", "votes"):
        by_count, by_vote = prose.optima(text.tokens[:n], prose.HEADS**level)
        values = {"accuracy": by_count if engine == "occurrences" else by_vote}
    elif engine == "every occurrence":
        values = {"accuracy": round(prose.every_occurrence(text, n, level, "gaussian", dim, seed), 5)}
    elif engine.startswith("willshaw"):
        asked, memory = prose.counting(text, n, level, SIZES[engine.split()[1]] * dim * dim, seed)
        values = {"accuracy": round(asked.accuracy, 5), "candidates": f"{asked.candidates:.5g}"}
        values["fill"] = round(memory.fill, 4)
    else:
        values = {"accuracy": round(prose.engine(text, n, level, engine, dim, seed), 5)}
    _add(records, {**key, **values}, began)


# -- table 4 -----------------------------------------------------------------------------------------------------------


def forget(lengths: Collection[int], seeds: Collection[int], records: Records = FORGETTING) -> None:
    """Measure table 4."""
    for kind in forgetting.KINDS:
        for length in lengths:
            for seed in seeds:
                key: dict[str, object] = {"kind": kind, "length": length, "seed": seed}
                if records.has(key):
                    continue
                began = time.perf_counter()
                found = forgetting.residue(kind, seed, length)
                row: dict[str, object] = {"intermediate": f"{found.intermediate:.3g}", "output": f"{found.output:.3g}"}
                _add(records, {**key, **row, "unequal": found.unequal, "cells": found.cells}, began)
