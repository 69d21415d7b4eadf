"""Student's t, for means over a handful of seeds."""

import math
import statistics
from collections.abc import Sequence

from scipy import stats

# Two seeds give an interval some ten times as wide as their distance, which says nothing.
MIN_SEEDS = 3
_LEVEL = 0.95


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of two or more values."""
    deviation = statistics.stdev(values) / math.sqrt(len(values))
    return float(stats.t.ppf((1 + _LEVEL) / 2, df=len(values) - 1)) * deviation


def over_seeds(values: Sequence[float]) -> list[float] | None:
    """The 95 % interval [low, high] of the mean over seeds; None for fewer than three."""
    if len(values) < MIN_SEEDS:
        return None
    mean, half = statistics.fmean(values), half_width(values)
    return [mean - half, mean + half]
