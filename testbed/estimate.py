"""Where a difference changes its sign, and how sure we are: numbers in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import isotonic_regression

Array = np.ndarray[Any, np.dtype[np.float64]]
Indices = np.ndarray[Any, np.dtype[np.intp]]
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
        doubt: whether the interval carries the stated doubt of the device's factors as well.
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
    doubt: bool = False

    @property
    def has_interval(self) -> bool:
        return (self.repeats > 1 or self.doubt) and self.where != "unknown"


def zero_crossing(rates_bps: Array, extra_s: Array) -> Array:
    """The rate at which *extra_s*, seconds that a codec adds, turns from gain (< 0) to loss.

    Between two rates the difference is linear in 1/rate, because both payloads take bits / rate; so that is where we
    interpolate. It can only grow with the rate: noise that says otherwise is pooled (isotonic regression) first, which
    leaves at most one crossing.

    Args:
        rates_bps: rising, shape (rates,), at least one.
        extra_s: shape (..., rates).

    Returns:
        Shape (...): 0.0 where it is a loss already at the lowest rate, inf where it is a gain even at the highest.
    """
    level = np.array(extra_s, dtype=np.float64, ndmin=2)
    flat = level.reshape(-1, len(rates_bps))
    for row in np.flatnonzero((np.diff(flat, axis=1) < 0.0).any(axis=1)):
        flat[row] = isotonic_regression(flat[row]).x
    after = np.argmax(flat >= 0.0, axis=1)
    inside = (flat[:, 0] < 0.0) & (flat[:, -1] >= 0.0)
    rows = np.arange(len(flat))
    before = np.maximum(after - 1, 0)
    gain, loss = flat[rows, before], flat[rows, after]
    slow, fast = 1.0 / rates_bps[before], 1.0 / rates_bps[after]
    share = -gain / np.where(inside, loss - gain, 1.0)
    crossing = np.where(
        inside, 1.0 / (slow + (fast - slow) * share), np.where(flat[:, 0] >= 0.0, 0.0, math.inf)
    )
    return crossing.reshape(np.shape(extra_s)[:-1])


def median(values: Array) -> Array:
    """Median over the last axis that passes over NaN; NaN where there is nothing else. No warning, and one sort."""
    ordered = np.sort(values, axis=-1)  # NaN last
    count = np.count_nonzero(~np.isnan(values), axis=-1)[..., np.newaxis]
    middle = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[-1] - 1)])
    lower, upper = (np.take_along_axis(ordered, index, axis=-1)[..., 0] for index in middle)
    found: Array = (lower + upper) / 2.0
    return found


@dataclass(frozen=True)
class Device:
    """What a device's time may be instead of what its profile says, as multipliers, one for each resample.

    Attributes:
        compress: of lossy compression, shape (resamples,).
        lossless: of packing the raw state, likewise.
    """

    compress: Array
    lossless: Array

    @classmethod
    def drawn(cls, compress_spread: float, lossless_spread: float) -> Device:
        """Log-normal draws whose central 95 % reach from 1 / spread to spread, as `devices.DeviceProfile.drawn` has it;
        the same every time."""
        rng = np.random.default_rng(1)
        spreads = (compress_spread, lossless_spread)
        return cls(*(np.exp(rng.normal(0.0, math.log(spread) / 1.96, RESAMPLES)) for spread in spreads))


Statistic = Callable[[Indices, Device | None], Array]


def interval(
    repeats: int, statistic: Statistic, lowest: float, highest: float, device: Device | None = None
) -> tuple[float | None, float | None]:
    """Percentile bootstrap over whole repeats; an end that falls outside of [lowest, highest] is None.

    Args:
        repeats: how many there are; fewer than 2 without *device* give (None, None).
        statistic: indices of repeats (with replacement), shape (resamples, repeats) -> bandwidths, 0.0 and inf
            allowed, shape (resamples,).
        device: with each resample of the repeats goes one plausible device; None: the profile is taken at its word.
    """
    if repeats < 2 and device is None:
        return None, None
    # Logarithms, because bandwidths are compared by ratio, and clipped so that "outside" can be sorted with the rest.
    floor, ceiling = math.log(lowest) - 1.0, math.log(highest) + 1.0
    rng = np.random.default_rng(0)  # the same records give the same interval
    chosen = rng.integers(0, repeats, (RESAMPLES, repeats))
    with np.errstate(divide="ignore"):
        logarithms = np.clip(np.log(statistic(chosen, device)), floor, ceiling)
    tail = 100.0 * (1.0 - LEVEL) / 2.0
    ends = [math.exp(float(end)) for end in np.percentile(logarithms, [tail, 100.0 - tail])]
    tolerance = 1e-9
    low = ends[0] if ends[0] > lowest * (1 - tolerance) else None
    high = ends[1] if ends[1] < highest * (1 + tolerance) else None
    return low, high


def place(value: float) -> Where:
    """Where a result of `zero_crossing` lies."""
    return "below" if value == 0.0 else "above" if value == math.inf else "within"


def finite(values: Iterable[float]) -> tuple[float | None, ...]:
    """None for what lies outside of the range."""
    return tuple(float(value) if 0.0 < value < math.inf else None for value in values)
