"""docs/benchmarks.md: every section between markers of its own, so that each can be measured again alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.compare import Comparison, Line
from bench.goals import GOALS, Figure
from bench.growth import Point
from bench.inside import Lines, compiled
from bench.machine import MemoryRates
from bench.peers import Memodb
from bench.profile import Profile

__all__ = ["comparison_table", "draw", "goals_table", "growth_table", "profile_table", "rates_table", "write"]


def write(page: Path, section: str, text: str) -> None:
    """Replace what stands between a section's markers.

    Raises
    ------
    SystemExit
        The page has no such markers.
    """
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    before, found, rest = page.read_text("utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page} has no markers of the section {section}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if abs(value) >= 1000:
        scale = 10 ** (len(str(int(abs(value)))) - 3)
        return f"{round(value / scale) * scale:,.0f}"
    return f"{value:.3g}"


def goals_table(figures: Sequence[Figure]) -> str:
    """Every goal with its figures; a goal that this run did not measure says so."""
    lines = [
        f"Judged by the goals {'with `fast`' if compiled() else 'of NumPy only'}.",
        "",
        "| figure | case | measured | best | of | goal (NumPy only / with `fast`) | |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
    ]
    said = {True: "reached", False: "**not reached**", None: "no goal"}
    for key, goal in GOALS.items():
        measured = [figure for figure in figures if figure.goal == key]
        for figure in measured:
            best = "" if figure.best is None else number(figure.best)
            lines.append(
                f"| {goal.label} | {figure.case} | {number(figure.value)} {goal.unit} | {best} | {figure.count:,} | "
                f"{goal.said()} | {said[figure.reached]} |"
            )
        if not measured:
            lines.append(f"| {goal.label} | | | | | {goal.said()} | not measured |")
    return "\n".join(lines)


def comparison_table(comparison: Comparison) -> str:
    """Every question beside every peer's figure and memodb's ratio to it."""
    names = comparison.names
    lines = [
        "In parentheses how many times better memodb is: below 1 it is worse.",
        "",
        "| question | unit | " + " | ".join(names) + " |",
        "| --- | --- |" + " ---: |" * len(names),
    ]
    for line in comparison.lines:
        lines.append(f"| {line.label} | {line.unit} | " + " | ".join(_cell(line, name) for name in names) + " |")
    lines += [""] + [f"Not compared: {name}, {reason}." for name, reason in comparison.absent.items()]
    return "\n".join(lines).rstrip()


def _cell(line: Line, name: str) -> str:
    value = line.values.get(name, "")
    if isinstance(value, str):
        return value
    ratio = None if name == Memodb.name else line.advantage(name)
    return number(value) if ratio is None else f"{number(value)} ({number(ratio)})"


def growth_table(points: Sequence[Point]) -> str:
    """Sizes as columns."""
    lines = [
        "| | " + " | ".join(f"{point.tokens:,} tokens" for point in points) + " |",
        "| --- |" + " ---: |" * len(points),
        "| memodb, appended, tokens/s | " + " | ".join(number(point.appended) for point in points) + " |",
    ]
    for kind, name in points[0].rates:
        rates = " | ".join(number(point.rates[kind, name]) for point in points)
        lines.append(f"| {name}, contexts/s: {kind} | {rates} |")
    for what in points[0].nbytes:
        lines.append(f"| {what}, bytes per token | " + " | ".join(number(p.nbytes[what]) for p in points) + " |")
    lines.append("| memodb, files, MB | " + " | ".join(number(point.disk / 1e6) for point in points) + " |")
    return "\n".join(lines)


def rates_table(rates: Sequence[MemoryRates], touched: Lines) -> str:
    """What one core of the machine can read, and how many lookups that makes at most."""
    each = touched.presence + touched.support
    lines = [
        f"A context that every layer answers touches {touched.presence} lines of the presence view, and for each "
        f"candidate at most {touched.support} of the counts (one that is 1 ends it), where none of them is in a cache: "
        f"with one candidate {each}.",
        "",
        "| array | random 64-byte lines a second, one core, NumPy | read through, GB/s | so many contexts/s at most |",
        "| ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r.megabytes:g} MiB | {number(r.lines)} | {r.bandwidth / 1e9:.1f} | {number(r.lines / max(1, each))} |"
        for r in rates
    ]
    return "\n".join(lines)


def profile_table(profiles: Sequence[Profile]) -> str:
    """Each operation's largest stages."""
    lines = [
        "| operation | seconds, profiled | stages: share of the time, foreign calls included |",
        "| --- | ---: | --- |",
    ]
    for each in profiles:
        stages = ", ".join(f"`{name}` {share:.0%}" for name, share in each.stages)
        lines.append(f"| {each.operation} | {each.seconds:.3f} | {stages} |")
    return "\n".join(lines)


def draw(points: Sequence[Point], docs: Path) -> None:
    """Bytes per token and lookups a second against store size."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "memodb"
    tokens = [point.tokens for point in points]
    nbytes = {what: [point.nbytes[what] for point in points] for what in points[0].nbytes}
    rates = {f"{name}: {kind}": [p.rates[kind, name] for p in points] for kind, name in points[0].rates}
    _plot(tokens, nbytes, "bytes per token", docs / "bench-bytes.svg")
    _plot(tokens, rates, "contexts a second, batches", docs / "bench-lookups.svg")


def _plot(tokens: list[int], curves: dict[str, list[float]], label: str, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    colours: dict[str, Any] = {}
    for name, values in curves.items():
        who = name.split(",")[0].split(":")[0]
        colour = colours.setdefault(who, f"C{len(colours)}")
        style = ("-", "--", ":", "-.")[
            sum(other.startswith(who) for other in list(curves)[: list(curves).index(name)]) % 4
        ]
        axes.plot(tokens, values, style, marker="o", markersize=4, color=colour, label=name)
    axes.set(xscale="log", yscale="log", xlabel="tokens in the store", ylabel=label)
    figure.legend(loc="outside right upper", fontsize=7)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
