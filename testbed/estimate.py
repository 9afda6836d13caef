"""Where a difference changes its sign, and how sure we are: numbers in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import bootstrap

Array = np.ndarray[Any, np.dtype[np.float64]]
Where = Literal["within", "below", "above", "unknown"]

LEVEL = 0.95
RESAMPLES = 2000
# With n values no distribution-free interval of a median is wider than their range, which covers it with probability
# 1 - 2 ** (1 - n): 93.75 % for five, 96.9 % for six.
ENOUGH_REPEATS = 6


@dataclass(frozen=True)
class Estimate:
    """A bandwidth and its interval.

    Attributes:
        where: ``within`` the swept range; ``below`` its lowest rate (never pays in it); ``above`` its highest (pays all
            through); ``unknown`` where nothing can be said, and *note* says why.
        value_bps: None unless *where* is ``within``.
        low_bps, high_bps: ends of the interval; None where that end lies outside of the swept range or there is no
            interval (``repeats`` of 1).
        repeats: how many repeats stand behind it.
        per_repeat_bps: the same from each repeat alone; None where a repeat has no crossing within the range.
        note: what a reader must know, in words.
    """

    where: Where
    value_bps: float | None = None
    low_bps: float | None = None
    high_bps: float | None = None
    repeats: int = 0
    per_repeat_bps: tuple[float | None, ...] = ()
    level: float = LEVEL
    note: str = ""

    @property
    def has_interval(self) -> bool:
        return self.repeats > 1 and self.where != "unknown"


def zero_crossing(rates_bps: Array, extra_s: Array) -> float:
    """The rate at which *extra_s*, seconds that a codec adds, turns from gain (< 0) to loss.

    Between two rates the difference is linear in 1/rate, because both payloads take bits / rate; so that is where we
    interpolate. It can only grow with the rate: noise that says otherwise is pooled (isotonic regression) first, which
    leaves at most one crossing.

    Args:
        rates_bps: rising, at least one.
        extra_s: one for each rate.

    Returns:
        0.0 if it is a loss already at the lowest rate, inf if it is a gain even at the highest.
    """
    level: Array = np.asarray(isotonic_regression(extra_s).x, dtype=np.float64)
    if level[0] >= 0.0:
        return 0.0
    if level[-1] < 0.0:
        return math.inf
    after = int(np.argmax(level >= 0.0))
    gain, loss = level[after - 1], level[after]
    slow, fast = 1.0 / rates_bps[after - 1], 1.0 / rates_bps[after]
    return float(1.0 / (slow + (fast - slow) * (-gain) / (loss - gain)))


def interval(
    repeats: int, statistic: Callable[[np.ndarray[Any, Any]], float], lowest: float, highest: float
) -> tuple[float | None, float | None]:
    """Percentile bootstrap over whole repeats; an end that falls outside (lowest, highest) is None.

    Args:
        repeats: how many there are; fewer than 2 give (None, None).
        statistic: indices of repeats (with replacement) -> bandwidth, 0.0 and inf allowed.
    """
    if repeats < 2:
        return None, None
    # Logarithms, because bandwidths are compared by ratio, and clipped so that "outside" can be sorted with the rest.
    floor, ceiling = math.log(lowest) - 1.0, math.log(highest) + 1.0

    def clipped(chosen: np.ndarray[Any, Any]) -> float:
        value = statistic(chosen.astype(np.intp))
        return min(max(math.log(value) if value > 0.0 else -math.inf, floor), ceiling)

    result = bootstrap(
        (np.arange(repeats),),
        clipped,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        vectorized=False,
        rng=np.random.default_rng(0),  # the same records give the same interval
    )
    ends = [math.exp(float(end)) for end in result.confidence_interval]
    tolerance = 1e-9
    low = ends[0] if ends[0] > lowest * (1 - tolerance) else None
    high = ends[1] if ends[1] < highest * (1 + tolerance) else None
    return low, high


def place(value: float) -> Where:
    """Where a result of `zero_crossing` lies."""
    return "below" if value == 0.0 else "above" if value == math.inf else "within"


def finite(values: Sequence[float]) -> tuple[float | None, ...]:
    """None for what lies outside of the range."""
    return tuple(value if 0.0 < value < math.inf else None for value in values)
