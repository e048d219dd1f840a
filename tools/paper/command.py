"""The command line: what to measure, and where to write."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from paper import measuring, page, plots

__all__ = ["main"]

QUICK_DIMS, QUICK_SEEDS = (512, 1024), (1,)
LAYERS, DECOYS = (1, 2, 3, 4), (0, 20, 40)
LENGTHS = (1000, 3000, 10_000, 100_000)
SEVERAL_ENGINES = ("gaussian", "rademacher", "willshaw cells", "willshaw bits")
SOME = (0, 1, 3, 6, 9)
"""Iterations of table 2 after which large memories are read: at d = 4096 a reading takes minutes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked and not known yet, print the tables, write the page."""
    parser = argparse.ArgumentParser(description="MeMo's published tables, reproduced and compared.")
    parser.add_argument("table", choices=[*page.TABLES, "all"])
    parser.add_argument("--dims", type=_numbers, default=QUICK_DIMS, metavar="D,D", help="512,1024 by default")
    parser.add_argument("--seeds", type=_numbers, default=QUICK_SEEDS, metavar="N,N", help="1 by default")
    parser.add_argument("--layers", type=_numbers, default=LAYERS, metavar="L,L", help="of table 2; 1,2,3,4 by default")
    parser.add_argument("--decoys", type=_numbers, default=DECOYS, metavar="M,M", help="of table 2; 0,20,40 by default")
    parser.add_argument("--engines", default=SEVERAL_ENGINES, type=_names, metavar="E,E", help="of tables 1 and 2")
    parser.add_argument("--draw-only", action="store_true", help="measure nothing")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="put tables into DOCS/paper.md, plots beside it")
    given = parser.parse_args(arguments)
    tables = list(page.TABLES) if given.table == "all" else [given.table]
    for table in tables:
        if not given.draw_only:
            _measure(table, given)
        print(f"{page.TABLES[table]()}\n", flush=True)
    if given.write is not None:
        page.write(given.write / "paper.md")
        plots.draw(given.write)
    return 0


def _measure(table: str, given: argparse.Namespace) -> None:
    if table == "single":
        for engine in given.engines:
            measuring.single_table(engine, given.dims, given.seeds)
    elif table == "several":
        lines = measuring.several_lines(given.dims, given.decoys, given.layers)
        for line in lines:
            large = SOME if line.dim > 1024 else None
            for engine in given.engines:
                measuring.several_table(engine, [line], given.seeds, None if engine.startswith("willshaw") else large)
        finding = [line for line in lines if line.dim == 1024 and line.layers in (2, 3) and line.decoys in (0, 20)]
        for codes in {"gaussian", "rademacher"}.intersection(given.engines):
            measuring.several_table(f"{codes} recalled", finding, given.seeds[:1], (0, 1))
    elif table == "prose":
        measuring.prose_table(1024, LENGTHS, given.seeds, (1, 2, 3))
    else:
        measuring.forget((256, 1024), given.seeds)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in SEVERAL_ENGINES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(SEVERAL_ENGINES)}")
    return names
