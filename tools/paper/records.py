"""What was measured, and what the authors published, as CSV files: a row a figure."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["AUTHORS", "MEASURED", "Record", "Records", "authors", "stamp"]

AUTHORS = Path(__file__).parent / "authors"
MEASURED = Path(__file__).parent / "measured"

Record = dict[str, str]
STAMP = ("machine", "date", "commit")


def authors(table: str) -> list[Record]:
    """Rows of the authors' result file of a table."""
    with (AUTHORS / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def stamp() -> Record:
    """Where and when a figure was measured."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
        )
        commit = asked.stdout.strip()
    except FileNotFoundError:  # the figures are worth more than their label
        commit = ""
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    return {"machine": machine, "date": time.strftime("%Y-%m-%d"), "commit": commit or "unknown"}


@dataclass(frozen=True)
class Records:
    """A file of figures that grows by a row as each is known, so that a run that ends early loses only the last.

    Parameters
    ----------
    path : Path
    keys, values : sequence of str
        Columns that say what was measured, and what came out. Every row ends with machine, date and commit.
    """

    path: Path
    keys: Sequence[str]
    values: Sequence[str]

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.keys, *self.values, *STAMP)

    def __iter__(self) -> Iterator[Record]:
        if not self.path.exists():
            return
        with self.path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)

    def has(self, asked: Mapping[str, object]) -> bool:
        """Whether a row with these values of the columns named is there."""
        wanted = {name: str(value) for name, value in asked.items()}
        return any(wanted.items() <= row.items() for row in self)

    def add(self, row: Mapping[str, object]) -> None:
        """Append a row. A figure that is there already stays beside it: readers take the last."""
        fresh = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            if fresh:
                writer.writeheader()
            writer.writerow({**row, **stamp()})

    def latest(self) -> list[Record]:
        """Rows, the last one for each thing that was measured, in the order of their first."""
        found: dict[tuple[str, ...], Record] = {}
        for row in self:
            found[tuple(row[key] for key in self.keys)] = row
        return list(found.values())
