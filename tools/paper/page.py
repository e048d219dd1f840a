"""The tables of docs/paper.md, made from what was measured and from what the authors published."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paper.measuring import AT_LIMIT, FORGETTING, PROSE, SEVERAL, SINGLE, counted_heads
from paper.records import Record, authors

__all__ = ["TABLES", "Agreement", "agreement", "write"]

SHOWN = (0, 1, 9)
"""Iterations of table 2 that are printed; the plot and the files have all that were measured."""


@dataclass(frozen=True)
class Agreement:
    """How far a figure of ours is from the authors'.

    Parameters
    ----------
    difference : float
    expected : float
        Standard deviation of the difference, from the spread of our seeds and from sampling.
    """

    difference: float
    expected: float

    @property
    def holds(self) -> bool:
        return abs(self.difference) <= 3 * self.expected


def agreement(ours: Sequence[float], theirs: float, noise: float) -> Agreement:
    """Compare our seeds with their one run, which varies as any of ours does.

    Parameters
    ----------
    noise : float
        Standard deviation that a figure has at least; with one seed it is all that is known.
    """
    spread = float(np.std(ours, ddof=1)) if len(ours) > 1 else 0.0
    return Agreement(float(np.mean(ours)) - theirs, max(spread, noise) * math.sqrt(1 + 1 / len(ours)))


def _spread(values: Sequence[float], shown: Callable[[float], str]) -> str:
    """Mean, and the spread of several seeds."""
    if not values:
        return ""
    found = shown(float(np.mean(values)))
    return f"{found} ± {shown(float(np.std(values, ddof=1)))}" if len(values) > 1 else found


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _measured_by(records: Iterable[Record]) -> str:
    """Where and when: the machines, days and commits of some rows."""
    rows = list(records)
    if not rows:
        return "Nothing is measured yet."
    days = sorted({row["date"] for row in rows})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    where = "; ".join(sorted({row["machine"] for row in rows}))
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    seconds = sum(float(row["seconds"]) for row in rows if "iteration" not in row)
    last: dict[tuple[str, ...], float] = {}
    for row in rows:
        if "iteration" in row:  # seconds are those since the line was begun
            line = tuple(row[name] for name in ("engine", "d", "layers", "decoys", "seed"))
            last[line] = max(last.get(line, 0.0), float(row["seconds"]))
    return f"{where}, {span}, commit {commits}; {(seconds + sum(last.values())) / 60:,.0f} minutes of measuring."


# -- table 1 -----------------------------------------------------------------------------------------------------------


def _pairs(value: float) -> str:
    return f"{value:,.0f}"


def single() -> str:
    """Capacity of one matrix."""
    known: defaultdict[tuple[str, int, int, int], list[Record]] = defaultdict(list)
    papers: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
    rows = SINGLE.latest()
    for row in rows:
        if row["pairs_asked"] == AT_LIMIT:
            known[row["engine"], int(row["heads"]), int(row["d_in"]), int(row["d_out"])].append(row)
        else:
            papers[row["engine"], int(row["d_in"])].append(row)

    def stored(engine: str, heads: int, d_in: int, d_out: int) -> list[float]:
        return [float(row["stored_pairs"]) for row in known[engine, heads, d_in, d_out]]

    linear = []
    for line in authors("single_layer"):
        heads, d_in, d_out = int(line["heads"]), int(line["d_in"]), int(line["d_out"])
        theirs = int(line["stored_pairs"])
        gaussian, rademacher = (stored(kind, heads, d_in, d_out) for kind in ("gaussian", "rademacher"))
        if not gaussian:
            continue
        # a run stops at a whole number of batches, and one more or less is a matter of 2,000 answers
        said = agreement(gaussian, theirs, 1000 / 3 + 0.01 * theirs)
        linear.append(
            [
                str(heads),
                f"{d_in} x {d_out}",
                f"{theirs:,}",
                f"{_spread(gaussian, _pairs)} ({len(gaussian)})",
                "yes" if said.holds else f"no, {said.difference:+,.0f}",
                _spread(rademacher, _pairs),
                f"{np.mean(gaussian) / d_in / d_out:.4f}",
            ]
        )
    counting = []
    for kind in ("cells", "bits"):
        for d in sorted({key[2] for key in known if key[0] == f"willshaw {kind}"}):
            at = known[f"willshaw {kind}", counted_heads(d), d, d]
            before = papers[f"willshaw {kind}", d]
            pairs = [float(row["stored_pairs"]) for row in at]
            counting.append(
                [
                    f"{d} x {d} {kind if kind == 'cells' else 'x 32 bits'}",
                    f"{_spread(pairs, _pairs)} ({len(pairs)})",
                    f"{np.mean(pairs) / d / d:.4f}",
                    _mean(at, "fill", ".2f"),
                    f"{_mean(at, 'measured_false', '.1%')} (at most {_mean(at, 'predicted_false', '.1%')})",
                    ", ".join(sorted({f"{int(row['stored_pairs']):,}" for row in before})),
                    _mean(before, "closing", ".3f"),
                    f"{_mean(before, 'measured_false', '.2%')} (at most {_mean(before, 'predicted_false', '.2%')})",
                ]
            )
    head = ["h", "d_in x d_out", "authors", "Gaussian, mean ± sd (seeds)", "the same", "Rademacher", "pairs per cell"]
    head_counting = [
        "willshaw in",
        "pairs, mean ± sd (seeds)",
        "pairs per cell of MeMo's",
        "fill",
        "unknown contexts answered",
        "at the paper's pairs",
        "accuracy there",
        "unknown answered there",
    ]
    return "\n\n".join([_measured_by(rows), _table(head, linear), _table(head_counting, counting)])


def _mean(rows: Sequence[Record], column: str, shown: str) -> str:
    values = [float(row[column]) for row in rows if row[column]]
    return format(float(np.mean(values)), shown) if values else ""


# -- table 2 -----------------------------------------------------------------------------------------------------------


Line = tuple[str, int, int, int]
"""Engine, d, layers, decoys."""


def several_known() -> dict[Line, dict[int, list[Record]]]:
    """Rows of table 2 by line, then iteration: one a seed."""
    found: defaultdict[Line, defaultdict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for row in SEVERAL.latest():
        line = row["engine"], int(row["d"]), int(row["layers"]), int(row["decoys"])
        found[line][int(row["iteration"])].append(row)
    return {line: dict(by_iteration) for line, by_iteration in found.items()}


def several_authors() -> dict[tuple[int, int, int], dict[int, list[Record]]]:
    """The authors' rows by d, layers, decoys, then iteration; some lines were run twice."""
    found: defaultdict[tuple[int, int, int], defaultdict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for row in authors("several_layers"):
        found[int(row["d"]), int(row["layers"]), int(row["decoys"])][int(row["iteration"])].append(row)
    return {line: dict(by_iteration) for line, by_iteration in found.items()}


COLUMN = "accuracy_first_texts"


def _firsts(by_iteration: dict[int, list[Record]], iteration: int) -> list[float]:
    return [float(row[COLUMN]) for row in by_iteration.get(iteration, [])]


def _spread_of(known: dict[Line, dict[int, list[Record]]], layers: int, decoys: int) -> float:
    """The largest spread of seeds that was seen with so many layers and decoys, at any d and iteration."""
    spreads = [
        float(np.std(values, ddof=1))
        for (engine, _, its, copies), by_iteration in known.items()
        if engine == "gaussian" and (its, copies) == (layers, decoys)
        for values in (_firsts(by_iteration, iteration) for iteration in by_iteration)
        if len(values) > 1
    ]
    return max(spreads, default=0.0)


def several_agreements(
    known: dict[Line, dict[int, list[Record]]], line: tuple[int, int, int], theirs: dict[int, list[Record]]
) -> list[Agreement]:
    """Ours against the authors' first run of a line, iteration by iteration."""
    d, layers, decoys = line
    ours = known.get(("gaussian", d, layers, decoys), {})
    found = []
    for iteration, rows in theirs.items():
        values = _firsts(ours, iteration)
        if not values:
            continue
        wanted = float(rows[0][COLUMN])
        sampling = math.sqrt(wanted * (1 - wanted) / 30_570)
        spread = _spread_of(known, layers, decoys) if len(values) == 1 else 0.0
        found.append(agreement(values, wanted, max(sampling, spread, 0.0005)))
    return found


def _steps(by_iteration: dict[int, list[Record]]) -> str:
    return " / ".join(
        f"{np.mean(values):.3f}" if (values := _firsts(by_iteration, iteration)) else "–" for iteration in SHOWN
    )


def several() -> str:
    """Several layers."""
    known = several_known()
    lines = []
    for (d, layers, decoys), theirs in sorted(several_authors().items(), key=lambda item: item[0][::-1]):
        ours = known.get(("gaussian", d, layers, decoys), {})
        others = [
            known.get((kind, d, layers, decoys), {}) for kind in ("rademacher", "willshaw cells", "willshaw bits")
        ]
        if not ours and not any(others):
            continue
        seeds = max((len(rows) for rows in ours.values()), default=0)
        compared = several_agreements(known, (d, layers, decoys), theirs)
        said = ""
        if compared:
            worst = max(compared, key=lambda each: abs(each.difference) / each.expected)
            held = sum(each.holds for each in compared)
            said = f"{held} of {len(compared)}; farthest {worst.difference:+.3f}, sd {worst.expected:.3f}"
        lines.append(
            [
                str(decoys),
                str(layers),
                str(d),
                _authors_steps(theirs),
                f"{_steps(ours)} ({seeds})" if ours else "",
                said,
                *(_steps(other) if other else "" for other in others),
            ]
        )
    head = [
        "decoys",
        "l",
        "d",
        "authors",
        "Gaussian (seeds)",
        "within 3 sd",
        "Rademacher",
        "willshaw, d² cells",
        "willshaw, 32 d² bits",
    ]
    return "\n\n".join([_measured_by(SEVERAL.latest()), _table(head, lines), recalled(known)])


def _authors_steps(theirs: dict[int, list[Record]]) -> str:
    runs = max(len(rows) for rows in theirs.values())
    return "; ".join(
        " / ".join(f"{float(theirs[iteration][run][COLUMN]):.3f}" for iteration in SHOWN) for run in range(runs)
    )


def recalled(known: dict[Line, dict[int, list[Record]]]) -> str:
    """Encodings computed, against recalled."""
    rows = []
    for (engine, d, layers, decoys), by_iteration in sorted(known.items()):
        codes, _, how = engine.partition(" ")
        if how != "recalled":
            continue
        computed = known.get((codes, d, layers, decoys), {})
        for iteration in sorted(by_iteration):
            rows.append(
                [
                    codes,
                    str(d),
                    str(layers),
                    str(decoys),
                    str(iteration),
                    _spread(_firsts(computed, iteration)[:1], "{:.3f}".format),
                    _spread(_firsts(by_iteration, iteration)[:1], "{:.3f}".format),
                ]
            )
    return _table(["codes", "d", "l", "decoys", "iteration", "computed", "recalled"], rows)


# -- tables 3 and 4 ----------------------------------------------------------------------------------------------------

PROSE_COLUMNS = {
    "occurrences": "best by counts",
    "votes": "best by one vote",
    "gaussian": "kohonen, Gaussian",
    "rademacher": "kohonen, Rademacher",
    "every occurrence": "Gaussian, every occurrence",
    "willshaw cells": "willshaw, d² cells",
    "willshaw bits": "willshaw, 32 d² bits",
}


def prose_known() -> dict[tuple[int, int], dict[str, list[float]]]:
    """Accuracies of table 3 by tokens and layers, then engine."""
    found: defaultdict[tuple[int, int], defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in PROSE.latest():
        found[int(row["tokens"]), int(row["layers"])][row["engine"]].append(float(row["accuracy"]))
    return {line: dict(by_engine) for line, by_engine in found.items()}


def prose() -> str:
    """Real prose."""
    rows = [
        [f"{tokens:,}", str(layers), *(_spread(by_engine.get(each, []), "{:.3f}".format) for each in PROSE_COLUMNS)]
        for (tokens, layers), by_engine in sorted(prose_known().items())
    ]
    return "\n\n".join([_measured_by(PROSE.latest()), _table(["tokens", "l", *PROSE_COLUMNS.values()], rows)])


def forgetting() -> str:
    """Residues."""
    known: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
    for row in FORGETTING.latest():
        known[row["kind"], int(row["length"])].append(row)
    rows = []
    for (kind, length), found in known.items():
        lower = [float(row["intermediate"]) for row in found]
        output = [float(row["output"]) for row in found]
        counting = kind == "willshaw"
        rows.append(
            [
                kind,
                f"{length:,}",
                "none kept" if counting else _spread(lower, "{:.2g}".format),
                f"{np.mean(output):.1g}",
                f"{max(int(row['unequal']) for row in found):,} of {int(found[0]['cells']):,}",
            ]
        )
    head = [
        "memory",
        "tokens of A and of B",
        "intermediate matrices",
        "answering matrices",
        "cells that differ, at most",
    ]
    return "\n\n".join([_measured_by(FORGETTING.latest()), _table(head, rows)])


TABLES: dict[str, Callable[[], str]] = {
    "single": single,
    "several": several,
    "prose": prose,
    "forgetting": forgetting,
}


def write(page: Path) -> None:
    """Put every table between its markers.

    Raises
    ------
    SystemExit
        The page lacks a marker; it is left as it is.
    """
    text = page.read_text("utf-8")
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if begin not in text or end not in text:
            raise SystemExit(f"{page} has no markers for the table {name}")
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{make()}\n{end}{rest.partition(end)[2]}"
    page.write_text(text, "utf-8")
