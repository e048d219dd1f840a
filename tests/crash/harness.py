"""The tests' side: a zygote and its cases, and which states a store may be in after what a case said.

A case that was killed or broken leaves not one expected state but a few: a step that was not acknowledged may have
happened or not. Every later observation narrows them down, and one that fits none is a violation.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from crash.workload import Scenario, State, Step, after

import memodb

__all__ = ["Case", "Outcome", "Stock", "Zygote"]

OFF, COUNT, DIE_BEFORE, DIE_AFTER, FAIL_ONCE, FAIL_FROM, DIE_MIDWAY, FULL_FROM = range(8)
"""The modes of shim.c."""


@dataclass(frozen=True)
class Case:
    """What one child does, and what is done to it.

    Parameters
    ----------
    root : Path
        Directory of the case; the store is ``root/store``.
    steps : sequence of Step
    mode, at, error : int
        See shim.c: at change number ``at`` something happens.
    kill_after : float or None
        Seconds after which the child is killed, wherever it is.
    random : str or None
        Seed of steps without end, beginning at ``state``, in the place of ``steps``.
    """

    root: Path
    steps: Sequence[Step] = ()
    mode: int = COUNT
    at: int = 0
    error: int = 0
    kill_after: float | None = None
    random: str | None = None
    state: State = frozenset()
    prefix: str = "d"


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Parameters
    ----------
    lines : list
        What the child said, in order.
    killed : bool
    count : int
        Changes of files that it attempted.
    failed : int
        Calls that were made to fail.
    last, broken : str
        The last change, and the first that was made to fail, as "call file".
    names : list of str
        Where changes were only counted: each of them.
    """

    lines: list[list[Any]]
    killed: bool
    count: int
    failed: int
    last: str
    broken: str
    names: list[str]

    def possible(self, state: State, steps: Iterable[Step]) -> frozenset[State]:
        """The states that a store may be in, given what the child said; AssertionError where it said what cannot be.

        With fewer steps than the child did: after those.

        A step that was acknowledged happened. One that was refused with a StoreError, or during which the child was
        killed, happened or did not. One that was refused as invalid must be invalid in the state that the store then
        had. A view that the same handle gave after an error is true.
        """
        possible = {state}
        numbered = dict(enumerate(steps))
        heard = -1
        for line in self.lines:
            kind = line[0]
            assert kind != "alien", line[1]
            if kind in ("done", "refused", "invalid"):
                if line[1] not in numbered:
                    break
                heard = line[1]
                possible = _told(possible, numbered[heard], kind)
            elif kind == "view":
                seen = frozenset((a, b, c) for a, b, c in line[1])
                possible &= {seen}
            assert possible, (f"said {line[:4]} after {self.broken or self.last!r}", self.lines[-4:])
        if self.killed and heard + 1 in numbered:
            possible |= {becomes for before in possible if (becomes := after(before, numbered[heard + 1])) is not None}
        return frozenset(possible)


class Zygote:
    """The process of zygote.py, under the shim; a context manager that ends it."""

    def __init__(self, shim: Path) -> None:
        environment = {
            **os.environ,
            "LD_PRELOAD": str(shim),
            "PYTHONPATH": str(Path(memodb.__file__).parents[1]),  # the memodb that is under test, wherever it lies
            "TOKENIZERS_PARALLELISM": "false",  # threads and forks do not mix
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the zygote died: see its error output"
        return line.strip()

    def run(self, case: Case) -> Outcome:
        """Fork a child for the case and wait for its end."""
        fields = {field.name: getattr(case, field.name) for field in dataclasses.fields(case)}
        fields["root"] = str(case.root)
        fields["steps"] = [dataclasses.asdict(step) for step in case.steps]
        fields["state"] = sorted(case.state)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(fields) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._read()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


class Stock:
    """Stores as scenarios find them: made once in peace, copied for every case.

    Parameters
    ----------
    zygote : Zygote
    disk : Path
        An empty directory; each copy lies below it until `clear`.
    """

    def __init__(self, zygote: Zygote, disk: Path) -> None:
        self.zygote = zygote
        self._disk = disk
        self._made: dict[str, tuple[Path, State]] = {}
        self._changes: dict[str, list[str]] = {}

    def copy(self, scenario: Scenario) -> tuple[Path, State]:
        """A fresh directory with the scenario's store in it, and what that store holds."""
        if scenario.name not in self._made:
            root = self._disk / f"stock {scenario.name}"
            root.mkdir()
            if scenario.before:
                outcome = self.zygote.run(Case(root, scenario.before))
                assert [line[0] for line in outcome.lines] == ["done"] * len(scenario.before) + ["end"], outcome.lines
            state: State = frozenset()
            for step in scenario.before:
                becomes = after(state, step)
                assert becomes is not None
                state = becomes
            self._made[scenario.name] = (root, state)
        root, state = self._made[scenario.name]
        self.clear()
        return shutil.copytree(root, self._disk / "case"), state

    def changes(self, scenario: Scenario) -> list[str]:
        """The changes that the scenario's steps make when nothing is done to them, each as "call file"."""
        if scenario.name not in self._changes:
            root, _ = self.copy(scenario)
            outcome = self.zygote.run(Case(root, scenario.steps, COUNT))
            assert [line[0] for line in outcome.lines] == ["done"] * len(scenario.steps) + ["end"], outcome.lines
            self._changes[scenario.name] = outcome.names
        return self._changes[scenario.name]

    def kind(self, scenario: Scenario, at: int) -> tuple[str, str]:
        """What sort of change one is and what sort came before, whatever the names of tiles and temporary files."""
        names = ["", *self.changes(scenario)]
        before, this = (re.sub(r"[0-9a-f]{12,}", "*", name) for name in names[at - 1 : at + 1])
        return before, this

    def clear(self) -> None:
        """Remove the last copy."""
        shutil.rmtree(self._disk / "case", ignore_errors=True)


def _told(possible: set[State], step: Step, kind: str) -> set[State]:
    following = {before: after(before, step) for before in possible}
    if kind == "invalid":
        return {before for before, becomes in following.items() if becomes is None}
    done = {becomes for becomes in following.values() if becomes is not None}
    return done if kind == "done" else possible | done
