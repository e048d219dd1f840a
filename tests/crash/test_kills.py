"""A process is killed at a change of a file: before it, in the middle of a write, after the last.

What SIGKILL cannot show is a missing sync, since the kernel keeps what a dead process wrote: see test_power_loss.py.
What it does show is every order of changes that a store cannot recover from.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from crash.harness import COUNT, DIE_AFTER, DIE_BEFORE, DIE_MIDWAY, Case, Outcome, Stock
from crash.sizes import size, spread
from crash.verifying import reader_view, verify, verify_outcome
from crash.workload import BY_NAME, SAMPLE, SCENARIOS, Scenario, State, Step, every_text

CATALOG = "store/catalog.db"
THOROUGH_EVERY = 25
"""Of so many points one is checked with a second opening, a rebuilt memory and new writes."""


def points(stock: Stock, scenarios: Sequence[Scenario]) -> list[tuple[Scenario, int, int]]:
    """Every point at which a process may die: (scenario, mode, number of the change)."""
    found = []
    for scenario in scenarios:
        changes = stock.changes(scenario)
        found += [(scenario, DIE_BEFORE, at) for at in range(1, len(changes) + 1)]
        found += [(scenario, DIE_MIDWAY, at) for at, name in enumerate(changes, 1) if "write" in name.split()[0]]
        found.append((scenario, DIE_AFTER, len(changes)))
    return found


def killed(stock: Stock, scenario: Scenario, mode: int, at: int) -> tuple[Path, State, Outcome] | None:
    """What a process leaves that dies there: directory, what its store held before, what was said; None if it lives."""
    root, state = stock.copy(scenario)
    outcome = stock.zygote.run(Case(root, scenario.steps, mode, at))
    return (root, state, outcome) if outcome.killed else None


def kill_at_changes(stock: Stock, scenarios: Sequence[Scenario], count: int) -> dict[str, int]:
    every = points(stock, scenarios)
    # Half by what is about to happen, so that every sort of change is met; half by what has just happened too.
    chosen = spread(every, count // 2, lambda point: stock.kind(point[0], point[2])[1], seed=1)
    others = [point for point in every if point not in chosen]
    chosen += spread(others, count - len(chosen), lambda point: stock.kind(point[0], point[2]), seed=1)
    reached = 0
    for number, (scenario, mode, at) in enumerate(chosen):
        found = killed(stock, scenario, mode, at)
        if found is None:
            continue
        reached += 1
        root, state, outcome = found
        try:
            verify_outcome(root, scenario, state, outcome, thorough=number % THOROUGH_EVERY == 0)
        except BaseException as exc:
            exc.add_note(f"killed in scenario {scenario.name!r}, mode {mode}, change {at}")
            raise
    assert reached > 0.9 * len(chosen)
    return {"points": reached, "points_there_are": len(every)}


def test_a_kill_at_any_change_loses_nothing(stock: Stock, figures: Callable[..., None]) -> None:
    figures(**kill_at_changes(stock, SAMPLE, size(22, 0, long=False)))


@pytest.mark.stress
def test_a_kill_at_each_change_loses_nothing(stock: Stock, figures: Callable[..., None]) -> None:
    """At factor 1 the five hundred points of docs/reliability.md; from factor 17 every point there is."""
    figures(**kill_at_changes(stock, SCENARIOS, size(0, 520, long=True)))


def test_a_kill_between_the_pages_of_a_commit_undoes_it(stock: Stock, figures: Callable[..., None]) -> None:
    """Where the journal is all that there is to undo half a commit by: too rare in the sample above."""
    reached = 0
    for name, count in (("create", 3), ("transaction", 5), ("checkpoint", 4)):
        scenario = BY_NAME[name]
        changes = stock.changes(scenario)
        pages = [at for at in range(2, len(changes)) if changes[at - 2 : at] == [f"pwrite64 {CATALOG}"] * 2]
        for at in sorted(random.Random(7).sample(pages, count)):
            found = killed(stock, scenario, DIE_MIDWAY, at)
            assert found is not None
            root, state, outcome = found
            verify_outcome(root, scenario, state, outcome)
            reached += 1
    figures(points=reached)


def kill_while_recovering(stock: Stock, disk: Path, scenarios: Sequence[Scenario], count: int) -> dict[str, int]:
    """Kill at a change, open, and kill that opening at a change of its own: then open in peace.

    Only where the first kill left something to mend: there the opening makes more changes than it makes in peace.
    """
    chance = random.Random(2)
    every = points(stock, scenarios)
    opening = (Step("open"),)
    first = reached = 0
    again = disk / "again"
    in_peace = len(stock.changes(Scenario("opening", BY_NAME["append"].before, opening)))
    while reached < count:
        scenario, mode, at = chance.choice(every)
        found = killed(stock, scenario, mode, at)
        if found is None:
            continue
        root, state, outcome = found
        seen = reader_view(root / "store")
        allowed = outcome.possible(state, scenario.steps) if seen is None else frozenset({seen})
        shutil.copytree(root, again)
        changes = stock.zygote.run(Case(again, opening, COUNT)).count
        if changes <= in_peace:
            shutil.rmtree(again)
            continue
        first += 1
        for second in sorted(chance.sample(range(1, changes + 1), min(changes, 4))):
            shutil.rmtree(again)
            shutil.copytree(root, again)
            how = chance.choice((DIE_BEFORE, DIE_MIDWAY, DIE_AFTER))
            if stock.zygote.run(Case(again, opening, how, second)).killed:
                reached += 1
                try:
                    verify(again / "store", allowed, every_text((*scenario.before, *scenario.steps)))
                except BaseException as exc:
                    exc.add_note(f"{scenario.name!r}, mode {mode}, change {at}; opening: mode {how}, change {second}")
                    raise
        shutil.rmtree(again)
    return {"first_kills": first, "second_kills": reached}


def test_a_kill_while_recovering_loses_nothing(stock: Stock, disk: Path, figures: Callable[..., None]) -> None:
    figures(**kill_while_recovering(stock, disk, SAMPLE, size(8, 0, long=False)))


@pytest.mark.stress
def test_many_kills_while_recovering_lose_nothing(stock: Stock, disk: Path, figures: Callable[..., None]) -> None:
    """At factor 1 a hundred and fifty second kills; docs/reliability.md asks for no figure of its own."""
    figures(**kill_while_recovering(stock, disk, SCENARIOS, size(0, 150, long=True)))
