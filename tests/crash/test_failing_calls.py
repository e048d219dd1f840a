"""A full disk and a failing one: every change of a file is refused in turn, once or from then on.

A call must then raise an error of memodb, or be acknowledged and true; the same handle must work correctly or refuse;
and what was acknowledged must be there when the store is next opened, exactly.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Sequence

import pytest
from crash.harness import FAIL_FROM, FAIL_ONCE, FULL_FROM, Case, Outcome, Stock
from crash.sizes import size, spread
from crash.verifying import verify_outcome
from crash.workload import BY_NAME, SAMPLE, SCENARIOS, Scenario, Step, text_of

THOROUGH_EVERY = 25
"""Of so many cases one is checked with a second opening, a rebuilt memory and new writes."""

KINDS = (
    (FAIL_ONCE, errno.ENOSPC),
    (FAIL_ONCE, errno.EIO),
    (FAIL_FROM, errno.EIO),
    (FULL_FROM, errno.ENOSPC),
)
"""How calls fail: a moment without space, a hiccup of the device, a dead device, a disk that stays full."""


def cases(stock: Stock, scenarios: Sequence[Scenario]) -> list[tuple[Scenario, int, int, int]]:
    """Every case there is: (scenario, mode, error, number of the change)."""
    return [
        (scenario, mode, error, at)
        for scenario in scenarios
        for at in range(1, len(stock.changes(scenario)) + 1)
        for mode, error in KINDS
    ]


def break_calls(stock: Stock, scenarios: Sequence[Scenario], count: int) -> dict[str, int]:
    every = cases(stock, scenarios)
    chosen = spread(every, count, lambda case: stock.kind(case[0], case[3])[1], seed=3)
    reached = raised = 0
    for number, (scenario, mode, error, at) in enumerate(chosen):
        root, state = stock.copy(scenario)
        outcome = stock.zygote.run(Case(root, scenario.steps, mode, at, error))
        try:
            assert not outcome.killed
            require_poison(scenario, outcome)
            verify_outcome(root, scenario, state, outcome, thorough=number % THOROUGH_EVERY == 0)
        except BaseException as exc:
            exc.add_note(
                f"{errno.errorcode[error]} in scenario {scenario.name!r}, mode {mode}, change {at}: {outcome.broken!r};"
                f" said {[line for line in outcome.lines if line[0] not in ('view', 'alien')]}"
            )
            raise
        reached += outcome.failed > 0
        raised += any(line[0] == "refused" for line in outcome.lines)
    assert reached > 0.9 * len(chosen)
    return {"cases": reached, "of_which_raised": raised, "cases_there_are": len(every)}


def require_poison(scenario: Scenario, outcome: Outcome) -> None:
    """After a sync of the catalog failed, the call raised and the handle refuses every later change.

    A kernel may drop the pages that it could not write and then report the next sync as good, so the handle cannot know
    what is on the disk. SQLite swallows errors of a directory's sync; those the power-loss test is about.
    """
    call, _, file = outcome.broken.partition(" ")
    if call not in ("fsync", "fdatasync") or file not in ("store/catalog.db", "store/catalog.db-journal"):
        return
    said = [line for line in outcome.lines if line[0] in ("done", "refused", "invalid")]
    number = next((place for place, line in enumerate(said) if line[0] == "refused"), None)
    assert number is not None, f"nobody was told that {outcome.broken!r} failed"
    for line in said[number + 1 :]:
        step = scenario.steps[line[1]]
        if scenario.steps[said[number][1]].do in ("open", "reopen") or step.do == "reopen":
            break  # another handle, whose opening recovers
        assert line[0] == "refused", f"a handle went on after {outcome.broken!r} failed"


def test_a_call_that_fails_anywhere_is_an_error_and_no_damage(stock: Stock, figures: Callable[..., None]) -> None:
    figures(**break_calls(stock, SAMPLE, size(7, 0, long=False)))


@pytest.mark.stress
def test_each_call_that_fails_is_an_error_and_no_damage(stock: Stock, figures: Callable[..., None]) -> None:
    """At factor 1 the six hundred cases of docs/reliability.md; from factor 31 every case there is."""
    figures(**break_calls(stock, SCENARIOS, size(0, 620, long=True)))


def test_a_file_that_cannot_be_written_leaves_nothing(stock: Stock, figures: Callable[..., None]) -> None:
    """Each sort of change to a temporary file: it is gone when the call has failed, not only when somebody opens."""
    cases = {}
    for scenario in (BY_NAME["create"], BY_NAME["checkpoint"]):
        for at, name in enumerate(stock.changes(scenario), 1):
            if ".tmp" in name and "unlink" not in name:
                cases[stock.kind(scenario, at)[1]] = (scenario, at)
    for scenario, at in cases.values():
        root, state = stock.copy(scenario)
        outcome = stock.zygote.run(Case(root, scenario.steps, FAIL_ONCE, at, errno.ENOSPC))
        assert outcome.failed == 1
        assert not list(root.rglob("*.tmp")), f"left after {outcome.broken!r}"
        verify_outcome(root, scenario, state, outcome)
    figures(cases=len(cases))


def fail_syncs(stock: Stock, count: int) -> dict[str, int]:
    """Let syncs of the catalog fail, in two appends with a deletion between them."""
    whole = BY_NAME["append"]
    more = (Step("delete", drop=("a2",)), Step("append", put=(("last", text_of("last", 1, 20)),)))
    scenario = Scenario("few steps", whole.before, (*whole.steps[:2], *more))
    catalog = ("fsync store/catalog.db", "fdatasync store/catalog.db")
    every = [at for at, name in enumerate(stock.changes(scenario), 1) if name.startswith(catalog)]
    chosen = random.Random(6).sample(every, min(count, len(every)))
    for at in chosen:
        root, state = stock.copy(scenario)
        outcome = stock.zygote.run(Case(root, scenario.steps, FAIL_ONCE, at, errno.EIO))
        assert outcome.broken.startswith(catalog), outcome.broken
        require_poison(scenario, outcome)
        verify_outcome(root, scenario, state, outcome)
    return {"syncs": len(chosen), "syncs_there_are": len(every)}


def test_a_failed_sync_of_the_catalog_is_the_end_of_the_handle(stock: Stock, figures: Callable[..., None]) -> None:
    figures(**fail_syncs(stock, size(3, 0, long=False)))


@pytest.mark.stress
def test_each_failed_sync_of_the_catalog_is_the_end_of_the_handle(stock: Stock, figures: Callable[..., None]) -> None:
    """At factor 1 every one of them."""
    figures(**fail_syncs(stock, size(0, 100, long=True)))
