"""A writer is killed at a random time, over and over, and its store goes on from what was left.

test_kills.py kills at changes of files; time also falls between them: inside computations, with several steps behind,
or in an opening that mends what the last kill left.
"""

from __future__ import annotations

import itertools
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from crash.harness import Case, Zygote
from crash.sizes import size
from crash.verifying import verify
from crash.workload import State, Step, every_text, random_steps

CYCLES_OF_A_STORE = 12
"""Then a new one is begun, so that creations are killed too and stores stay small."""
THOROUGH_EVERY = 40
STEPS = 12
"""A writer lives as long as so many steps take on this machine, at most, counted from its fork."""


def lifetime(zygote: Zygote, root: Path) -> float:
    """Seconds that some steps take here and now."""
    steps = [Step("open"), *itertools.islice(random_steps("how long"), STEPS)]
    root.mkdir()
    started = time.monotonic()
    zygote.run(Case(root, steps))
    return time.monotonic() - started


def kill_at_times(zygote: Zygote, disk: Path, cycles: int) -> dict[str, int]:
    chance = random.Random(4)
    longest = lifetime(zygote, disk / "timed")
    root, state = disk / "case", frozenset[tuple[str, str, str]]()
    known: set[tuple[str, str, str]] = set()
    acknowledged = appended = deleted = killed = 0
    for cycle in range(cycles):
        if cycle % CYCLES_OF_A_STORE == 0:
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir()
            state, known = frozenset(), set()
        seed, prefix = f"kill {cycle}", f"k{cycle}."
        lives = chance.uniform(0.01, longest)
        outcome = zygote.run(Case(root, random=seed, prefix=prefix, state=state, kill_after=lives))
        heard = [line[1] for line in outcome.lines]
        assert heard == list(range(len(heard))), outcome.lines[-3:]
        steps = [Step("open"), *itertools.islice(random_steps(seed, state, prefix=prefix), len(heard))]
        killed += outcome.killed
        acknowledged += len(heard)
        appended += sum(len(step.put) for step in steps[: len(heard)])
        known |= every_text(steps) | state
        before: State = state
        try:
            state = verify(root / "store", outcome.possible(state, steps), known, thorough=cycle % THOROUGH_EVERY == 1)
        except BaseException as exc:
            exc.add_note(f"cycle {cycle}, killed after {lives:.4f} s and {len(heard)} steps, at {outcome.last!r}")
            raise
        deleted += len(before - state)
    return {
        "cycles": cycles,
        "killed": killed,
        "acknowledged_steps": acknowledged,
        "acknowledged_appends": appended,
        "deletions_seen": deleted,
    }


def test_a_killed_writer_loses_nothing_that_it_acknowledged(
    zygote: Zygote, disk: Path, figures: Callable[..., None]
) -> None:
    figures(**kill_at_times(zygote, disk, size(5, 0, long=False)))


@pytest.mark.stress
def test_writers_killed_all_day_lose_nothing_that_they_acknowledged(
    zygote: Zygote, disk: Path, figures: Callable[..., None]
) -> None:
    """At factor 10 the three thousand cycles of docs/reliability.md."""
    figures(**kill_at_times(zygote, disk, size(0, 300, long=True)))
