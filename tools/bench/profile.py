"""Where the time goes: each operation under Python's profiler, the time of libraries charged to who called them."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import memodb
from bench import inside
from bench.compare import BATCH
from bench.questions import kinds
from bench.stream import Stream
from bench.timing import steady

__all__ = ["Profile", "charged", "profiles"]

Place = tuple[str, int, str]
"""File, line and name of a function, as the profiler knows it."""

_HOME = str(Path(memodb.__file__).parent)
_ROUNDS = 100


@dataclass(frozen=True)
class Profile:
    """One operation.

    Parameters
    ----------
    operation : str
    seconds : float
        With the profiler's own cost, which is most where functions are small and many.
    stages : tuple of (function, share)
        Of memodb, with the time of everything foreign that it called, the largest first.
    """

    operation: str
    seconds: float
    stages: tuple[tuple[str, float], ...]


def profiles(
    place: Path, stream: Stream, *, device: str, say: Callable[[str], None]
) -> tuple[list[Profile], inside.Lines]:
    """Every operation that a goal is about, on one store; and the lines of memory that a lookup in it touches."""
    asked = {kind.name: kind.contexts for kind in kinds(stream.stored, BATCH)}
    with memodb.connect(place / "store", device=device) as db:
        records = [{"id": f"{number}", "text": document.text} for number, document in enumerate(stream.stored)]
        acts: dict[str, Callable[[], object]] = {
            f"append_many of {stream.tokens:,} tokens": lambda: db.append_many(records)
        }
        for name, contexts in asked.items():
            part = contexts[:256] if "shuffled" in name else contexts
            acts[f"lookup of {len(part):,} contexts: {name}"] = partial(db.lookup, part)
        prompts = [document.text[-200:-100] for document in stream.stored[:50]]
        text = "".join(document.text for document in stream.stored[:10])
        acts["next_tokens of 50 prompts"] = lambda: [db.next_tokens(prompt) for prompt in prompts]
        acts["complete of 10 prompts"] = lambda: [db.complete(prompt) for prompt in prompts[:10]]
        acts["trace of ten stored documents"] = lambda: db.trace(text)
        acts["append one document"] = lambda: db.append(stream.spare[0].text, id="one")
        acts["delete one document, verified"] = lambda: db.delete("one")
        found = []
        for operation, act in acts.items():
            say(f"profiling: {operation}")
            found.append(_profile(operation, act))
            db.checkpoint()
        return found, inside.touched(db)


def _profile(operation: str, act: Callable[[], object]) -> Profile:
    profiler = cProfile.Profile()
    with steady():
        profiler.runcall(act)
    stats: Any = pstats.Stats(profiler)
    total = float(stats.total_tt)
    own = charged(stats.stats)
    largest = sorted(own.items(), key=lambda item: -item[1])
    named = tuple((_named(function), seconds / total) for function, seconds in largest if seconds > 0.02 * total)
    return Profile(operation, total, named[:8])


def charged(
    stats: dict[Place, tuple[int, int, float, float, dict[Place, tuple[int, int, float, float]]]],
) -> dict[Place, float]:
    """Seconds of each of memodb's functions, its own and those of foreign functions below it.

    A foreign function's own time goes to its callers in the shares that the profiler measured, and on to theirs, until
    it reaches memodb; the little that circles in recursions after so many rounds is left out.
    """
    own: dict[Place, float] = {function: entry[2] for function, entry in stats.items() if _is_ours(function)}
    pending = {function: entry[2] for function, entry in stats.items() if not _is_ours(function)}
    for turn in range(_ROUNDS):
        passed: dict[Place, float] = {}
        for function, seconds in pending.items():
            callers = stats[function][4]
            # at first what the function itself took, by caller; then what it passes on from below
            weights = {caller: entry[2 if turn == 0 else 3] for caller, entry in callers.items()}
            total = sum(weights.values())
            for caller, weight in weights.items():
                share = seconds * weight / total if total else seconds / len(weights)
                target = own if _is_ours(caller) else passed
                target[caller] = target.get(caller, 0.0) + share
        pending = {function: seconds for function, seconds in passed.items() if seconds > 1e-7}
        if not pending:
            break
    return own


def _is_ours(function: Place) -> bool:
    return function[0].startswith(_HOME)


def _named(function: Place) -> str:
    file, _, name = function
    return f"{Path(file).relative_to(_HOME).as_posix()}: {name}"
