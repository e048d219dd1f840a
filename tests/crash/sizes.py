"""How much each test of this folder does: a short sample in the ordinary suite, the full size under ``stress``.

``MEMODB_STRESS`` (default 1.0) multiplies the stress sizes only. At 1.0 the folder's stress tests take a few minutes on
two cores; each test says in its docstring which factor reaches the figure that docs/reliability.md promises.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

__all__ = ["STRESS", "factor", "size", "spread"]

Point = TypeVar("Point")

STRESS = "MEMODB_STRESS"


def factor() -> float:
    """The multiplier of the stress sizes."""
    return float(os.environ.get(STRESS, "1.0"))


def size(ordinary: int, stress: int, *, long: bool) -> int:
    """Cases to run: ``ordinary``, or with ``long`` the stress size under the current factor (never fewer than one)."""
    return max(1, round(stress * factor())) if long else ordinary


def spread(points: Iterable[Point], count: int, kind: Callable[[Point], Hashable], *, seed: int) -> list[Point]:
    """So many of the points, drawn at random, each kind in turn: the rare ones are as likely as the frequent."""
    chance = random.Random(seed)
    drawn: dict[Hashable, list[Point]] = defaultdict(list)
    for point in points:
        drawn[kind(point)].append(point)
    groups = list(drawn.values())
    chance.shuffle(groups)
    for group in groups:
        chance.shuffle(group)
    found: list[Point] = []
    while groups and len(found) < count:
        found += [group.pop() for group in groups][: count - len(found)]
        groups = [group for group in groups if group]
    return found
