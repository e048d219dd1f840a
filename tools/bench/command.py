"""The command: what is asked for is measured, printed, and put into the page."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import compare, goals, growth, inside, page, profile, stream, tuning
from bench.machine import describe, memory_rates

__all__ = ["main"]

QUESTIONS = ("goals", "peers", "growth", "profile")
"""Each a section of docs/benchmarks.md."""

PLAIN = "plain"
"""The goals with NumPy alone: a section of docs/benchmarks.md too, in a process of its own."""

TUNING = "tuning"
"""The one question that has a page of its own, docs/tuning.md, with a section for each parameter; not among all."""


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write where that is wanted; 0 also where a goal is missed, because machines differ."""
    parser = argparse.ArgumentParser(prog="python tools/bench/run.py", description=__doc__)
    parser.add_argument("question", choices=[*QUESTIONS, PLAIN, TUNING, "all"])
    parser.add_argument("--tokens", type=_number, default=1_000_000, help="of the store; 1,000,000 by default")
    parser.add_argument("--device", default="cpu", help="where memodb's matrices live: cpu, cuda or auto")
    parser.add_argument("--repeats", type=_number, default=7, help="of each timing; 7 by default")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="put it into the pages of DOCS, with the plots")
    wanted = parser.parse_args(arguments)
    sizes = goals.Sizes(repeats=wanted.repeats, builds=max(1, round(wanted.repeats / 3)))
    given = stream.read(wanted.tokens, sizes.spare)
    say(given.describe())
    asked = QUESTIONS if wanted.question == "all" else (wanted.question,)
    figures: list[goals.Figure] = []

    def publish(section: str, table: str) -> None:
        """At once, so that what was measured is not lost with what comes after it."""
        text = f"{describe(given)}\n\n{table}"
        print(f"{section}\n\n{text}\n", flush=True)
        if wanted.write is not None and section in asked:
            page.write(wanted.write / "benchmarks.md", section, text)

    def publish_tuning(section: str, text: str) -> None:
        print(f"{section}\n\n{text}\n", flush=True)
        if wanted.write is not None:
            page.write(wanted.write / "tuning.md", section, text)

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if "peers" in asked:
            compared = compare.compare(given, wanted.repeats, device=wanted.device, say=say)
            publish("peers", page.comparison_table(compared))
        if "profile" in asked:
            measured, lines = profile.profiles(place / "profile", given, device=wanted.device, say=say)
            rates = [memory_rates(megabytes) for megabytes in (1, 8, 64, 512)]
            publish("profile", f"{page.profile_table(measured)}\n\n{page.rates_table(rates, lines)}")
        if "goals" in asked:
            figures += goals.measure(place / "goals", given, sizes, device=wanted.device, say=say)
            publish("goals", page.goals_table(figures))
        if PLAIN in asked:
            inside.hide_kernels()
            publish(PLAIN, page.goals_table(goals.measure(place / PLAIN, given, sizes, device=wanted.device, say=say)))
        if TUNING in asked:
            for name, table in tuning.tables(place / TUNING, given, wanted.repeats, device=wanted.device, say=say):
                publish_tuning(name, table)
            publish_tuning("machine", describe(given))
    if "growth" in asked:
        points = growth.grow(growth.sizes(wanted.tokens), min(wanted.repeats, 5), device=wanted.device, say=say)
        publish("growth", page.growth_table(points))
        figures += growth.figures(points)
        publish("goals", page.goals_table(figures))  # once more: growth has goals too
        if wanted.write is not None:
            page.draw(points, wanted.write)
    return 0


def _number(text: str) -> int:
    """1000000 or 1_000_000 or 1,000,000."""
    value = int(text.replace(",", ""))
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value
