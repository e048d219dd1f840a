"""The plots of docs/paper.md, as SVG that depends on the figures alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from paper.measuring import AT_LIMIT, SINGLE
from paper.page import COLUMN, prose_known, several_authors, several_known
from paper.records import authors

__all__ = ["PLOTS", "draw"]

COLOURS = {
    "authors": "black",
    "gaussian": "tab:blue",
    "rademacher": "tab:purple",
    "willshaw cells": "tab:orange",
    "willshaw bits": "tab:green",
    "every occurrence": "tab:cyan",
    "occurrences": "black",
    "votes": "grey",
}
NAMES = {
    "gaussian": "MeMo, Gaussian codes",
    "rademacher": "MeMo, Rademacher codes",
    "willshaw cells": "willshaw, as many cells",
    "willshaw bits": "willshaw, as many bits",
    "every occurrence": "MeMo, every occurrence",
    "occurrences": "best possible by counts",
    "votes": "best possible by one vote",
}


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "memodb"  # else ids differ from run to run
    import matplotlib.pyplot as plt

    return plt


def single(plt: Any) -> Any:
    """Pairs that one matrix holds."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    theirs: dict[int, list[int]] = {}
    for row in authors("single_layer"):
        if row["d_in"] == row["d_out"]:
            theirs.setdefault(int(row["d_in"]), []).append(int(row["stored_pairs"]))
    dims = sorted(theirs)
    axes.plot(dims, [np.mean(theirs[d]) for d in dims], "x", ms=9, color=COLOURS["authors"], label="authors, MeMo")
    rows = [row for row in SINGLE.latest() if row["pairs_asked"] == AT_LIMIT and row["d_in"] == row["d_out"]]
    for engine in ("gaussian", "rademacher", "willshaw cells", "willshaw bits"):
        ours: dict[int, list[float]] = {}
        for row in rows:
            if row["engine"] == engine:
                ours.setdefault(int(row["d_in"]), []).append(float(row["stored_pairs"]))
        dims = sorted(ours)
        axes.plot(dims, [np.mean(ours[d]) for d in dims], "o-", ms=4, color=COLOURS[engine], label=NAMES[engine])
    axes.set(xlabel="d", ylabel="pairs stored until accuracy is 0.9")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.legend(fontsize=8)
    return figure


def several(plt: Any) -> Any:
    """Accuracy on the first texts, iteration by iteration, with 20 decoys."""
    known, theirs = several_known(), several_authors()
    dims, stacks = (1024, 2048, 4096), (1, 2, 3)
    figure, grid = plt.subplots(
        len(stacks), len(dims), figsize=(9, 7.5), sharex=True, sharey=True, layout="constrained"
    )
    for row, layers in enumerate(stacks):
        for column, d in enumerate(dims):
            axes = grid[row][column]
            published = theirs[d, layers, 20]
            axes.plot(
                list(published),
                [float(rows[0][COLUMN]) for rows in published.values()],
                "x",
                color=COLOURS["authors"],
                label="authors, MeMo",
            )
            for engine in ("gaussian", "rademacher", "willshaw cells", "willshaw bits"):
                found = known.get((engine, d, layers, 20), {})
                steps = sorted(found)
                means = [np.mean([float(each[COLUMN]) for each in found[step]]) for step in steps]
                axes.plot(steps, means, "o-", ms=3, color=COLOURS[engine], label=NAMES[engine])
            axes.set_title(f"d = {d}, l = {layers}", fontsize=9)
    grid[0][0].legend(fontsize=7)
    figure.supxlabel("iteration (30 texts each)")
    figure.supylabel("accuracy on the first texts")
    return figure


def prose(plt: Any) -> Any:
    """Accuracy on real prose, for contexts of 16 tokens."""
    known = prose_known()
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    lengths = sorted({tokens for tokens, layers in known if layers == 2})
    for engine in ("occurrences", "votes", "willshaw bits", "willshaw cells", "rademacher", "gaussian"):
        points = [(n, np.mean(known[n, 2][engine])) for n in lengths if engine in known[n, 2]]
        if not points:
            continue
        style = "--" if engine in ("occurrences", "votes") else "o-"
        axes.plot(*zip(*points, strict=True), style, ms=4, color=COLOURS[engine], label=NAMES[engine])
    axes.set(xscale="log", xlabel="tokens of prose stored (d = 1024, l = 2)", ylabel="accuracy at every position")
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=8)
    return figure


PLOTS: dict[str, Callable[[Any], Any]] = {"single": single, "several": several, "prose": prose}


def draw(folder: Path) -> None:
    """Draw docs/paper-*.svg."""
    plt = _pyplot()
    for name, make in PLOTS.items():
        figure = make(plt)
        figure.savefig(folder / f"paper-{name}.svg", metadata={"Date": None})
        plt.close(figure)
