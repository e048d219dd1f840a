"""Break memodb on purpose, one line at a time, and see each test that guards the line fail.

    python tools/mutants/run.py                    all of tools/mutants/*.toml
    python tools/mutants/run.py faults seal        those whose topic or name contains one of the words

A test that cannot fail guards nothing. Each mutant names a file, a text that occurs in it once, what takes its place,
and the test that must fail then; it is applied to a copy of the tree. Exits with 1 where a mutant survives, or no
longer fits the code.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("memodb", "tests", "tools", "pyproject.toml", "README.md", "docs", "Makefile")
FAILED = 1
"""Exit code of pytest where tests failed; others mean that they could not be run."""


@dataclass(frozen=True)
class Mutant:
    """One change that a test must notice."""

    topic: str
    name: str
    file: str
    old: str
    new: str
    test: str


def mutants(words: list[str]) -> list[Mutant]:
    """Those of tools/mutants/*.toml that are asked for."""
    found = []
    for path in sorted((ROOT / "tools" / "mutants").glob("*.toml")):
        for entry in tomllib.loads(path.read_text())["mutant"]:
            found.append(Mutant(path.stem, **entry))
    return [m for m in found if not words or any(word in f"{m.topic} {m.name}" for word in words)]


def survives(mutant: Mutant) -> str | None:
    """Why a mutant was not caught; None where it was."""
    with tempfile.TemporaryDirectory() as place:
        for name in COPIED:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, Path(place) / name)
        victim = Path(place) / mutant.file
        code = victim.read_text()
        if code.count(mutant.old) != 1:
            return f"its text occurs {code.count(mutant.old)} times in {mutant.file}"
        victim.write_text(code.replace(mutant.old, mutant.new))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.test],
            cwd=place,
            env={**os.environ, "PYTHONPATH": place, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == FAILED:
        return None
    last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1:]
    return f"pytest exited with {done.returncode}: {' '.join(last)}"


def main() -> int:
    """Run them, two at a time, and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only mutants whose topic or name contains one of these")
    chosen = mutants(parser.parse_args().words)
    started = time.perf_counter()
    alive = 0
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        for mutant, reason in zip(chosen, pool.map(survives, chosen), strict=True):
            alive += reason is not None
            print(f"{'ALIVE ' if reason else 'caught'}  {mutant.topic}: {mutant.name}{': ' + reason if reason else ''}")
    print(f"{len(chosen) - alive} of {len(chosen)} mutants caught in {time.perf_counter() - started:.0f} s")
    return int(alive > 0)


if __name__ == "__main__":
    sys.exit(main())
