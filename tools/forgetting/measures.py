"""What the questions share: a figure of the table, and the statistics that judge it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

__all__ = ["ATTACKS", "Auc", "Figure", "auc", "slope"]

Numbers = npt.NDArray[np.float64]

ATTACKS = 12
"""AUCs that a run compares with 0.5. Of so many intervals at 95 % one misses by chance in nearly every second run, so
the goals are judged by intervals at 1 - 0.05 / 12, of which all hold in 95 % of runs (Bonferroni)."""

JUDGED = 50
"""Values of a group from which on the normal interval of an AUC is trusted; fewer judge nothing."""


@dataclass(frozen=True)
class Figure:
    """A row of the table.

    Parameters
    ----------
    question, label : str
    reached : str
    goal : str
        Empty where the figure only explains another.
    held : bool or None
        Whether the goal is reached; None where there is none.
    timed : bool
        It depends on the machine's load: not reaching it is no failure of the run.
    """

    question: str
    label: str
    reached: str
    goal: str = ""
    held: bool | None = None
    timed: bool = False


@dataclass(frozen=True)
class Auc:
    """Probability that a positive scores above a negative, ties counted half.

    Parameters
    ----------
    value : float
    error : float
        Standard error.
    least : int
        Values of the smaller group.
    """

    value: float
    error: float
    least: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided normal interval, cut to [0, 1]."""
        reach = float(norm.ppf(0.5 + confidence / 2)) * self.error
        return max(0.0, self.value - reach), min(1.0, self.value + reach)

    def verdict(self) -> bool | None:
        """Whether 0.5 is within the interval that allows for all attacks of a run; None for too few values."""
        low, high = self.interval(1 - 0.05 / ATTACKS)
        return low <= 0.5 <= high if self.least >= JUDGED else None

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}]"


def auc(positive: Sequence[float], negative: Sequence[float]) -> Auc:
    """Area under the ROC curve with DeLong's variance.

    By mid-ranks, as in Sun and Xu, "Fast implementation of DeLong's algorithm", 2014: the placement of each positive
    among the negatives and the other way round; the variance is the sum of both groups' variances over their sizes
    (DeLong, DeLong and Clarke-Pearson 1988).

    Raises
    ------
    ValueError
        A group has fewer than two values.
    """
    x, y = np.asarray(positive, dtype=np.float64), np.asarray(negative, dtype=np.float64)
    if min(x.size, y.size) < 2:
        raise ValueError("an AUC needs two values of each group")
    ranks = rankdata(np.concatenate([x, y]))
    above = (ranks[: x.size] - rankdata(x)) / y.size
    below = 1 - (ranks[x.size :] - rankdata(y)) / x.size
    error = math.sqrt(above.var(ddof=1) / x.size + below.var(ddof=1) / y.size)
    return Auc(float(above.mean()), error, min(x.size, y.size))


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Exponent of a power law through the points: 1 where y grows with x, 0 where it does not."""
    fitted: Numbers = np.polyfit(np.log(x), np.log(y), 1)
    return float(fitted[0])
