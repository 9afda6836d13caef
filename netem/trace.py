"""Bandwidth over time: a rate that holds until the next point, then starts again or stays."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from netem.flow import Direction
from netem.trace_formats import TraceError, TraceFormat, read_points

__all__ = ["Trace", "TraceError", "TraceFormat", "read_trace", "write_trace"]

# Where a recording shows an outage, links carry this instead: the kernel has no rate of zero, and both engines must
# run the same link. One byte a second moves nothing that anybody waits for.
OUTAGE_BPS = 8.0
_HIGHEST_BPS = 1e12


@dataclass(frozen=True, slots=True)
class Trace:
    """A piecewise-constant rate.

    Attributes:
        times_s: when each rate begins; the first is 0, each later than the one before.
        rates_bps: bits per second on the wire, Ethernet headers counted; 0 is an outage.
        end: what follows: ``"repeat"`` from the start again, ``"hold"`` the last rate for ever.
        length_s: when the last rate ends. Default: it lasts as long as the one before it (a single rate: 1 s).
    """

    times_s: tuple[float, ...]
    rates_bps: tuple[float, ...]
    end: Literal["repeat", "hold"] = "repeat"
    length_s: float = 0.0
    _bits: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        times_s = tuple(float(t) for t in self.times_s)
        rates_bps = tuple(float(r) for r in self.rates_bps)
        if not times_s or len(times_s) != len(rates_bps):
            raise ValueError(f"a trace has one rate a time; got {len(times_s)} times, {len(rates_bps)} rates")
        if times_s[0] != 0.0:
            raise ValueError(f"a trace starts at 0 s, not at {times_s[0]:g} s")
        if not all(a < b for a, b in pairwise(times_s)):
            raise ValueError("the times of a trace rise")
        if not all(0.0 <= rate <= _HIGHEST_BPS for rate in rates_bps):
            raise ValueError("the rates of a trace are from 0 to 1 Tbit/s")
        if self.end not in ("repeat", "hold"):
            raise ValueError(f"a trace ends with 'repeat' or 'hold', not {self.end!r}")
        length_s = self.length_s or (2 * times_s[-1] - times_s[-2] if len(times_s) > 1 else 1.0)
        if not times_s[-1] < length_s < math.inf:
            raise ValueError(f"a trace ends after its last point ({times_s[-1]:g} s), not at {length_s:g} s")
        object.__setattr__(self, "times_s", times_s)
        object.__setattr__(self, "rates_bps", rates_bps)
        object.__setattr__(self, "length_s", length_s)
        bits, total = [], 0.0
        for start_s, end_s, rate in zip(times_s, (*times_s[1:], length_s), rates_bps, strict=True):
            bits.append(total)
            total += max(rate, OUTAGE_BPS) * (end_s - start_s)
        object.__setattr__(self, "_bits", (*bits, total))

    @property
    def mean_bps(self) -> float:
        """Mean over one length, outages as `OUTAGE_BPS`."""
        return self._bits[-1] / self.length_s

    @property
    def peak_bps(self) -> float:
        """Highest rate."""
        return max(*self.rates_bps, OUTAGE_BPS)

    @property
    def longest_outage_s(self) -> float:
        """Longest time without a rate above `OUTAGE_BPS`; inf where the trace stays dark for ever."""
        ends_s = (*self.times_s[1:], self.length_s)
        longest = dark_s = 0.0
        laps = 2 if self.end == "repeat" else 1  # an outage may go on from the end into the next lap
        for _ in range(laps):
            for start_s, end_s, rate in zip(self.times_s, ends_s, self.rates_bps, strict=True):
                dark_s = dark_s + end_s - start_s if rate <= OUTAGE_BPS else 0.0
                longest = max(longest, dark_s)
        stays_dark = dark_s > 0.0 and (self.end == "hold" or self.peak_bps <= OUTAGE_BPS)
        return math.inf if stays_dark else longest

    def rate_at(self, at_s: float) -> float:
        """The rate in force at *at_s*, never below `OUTAGE_BPS`; before 0 the first."""
        return max(self.rates_bps[self._place(at_s)[1]], OUTAGE_BPS)

    def next_change(self, after_s: float) -> float:
        """The first instant later than *after_s* at which a point begins; inf where none follows."""
        laps, index = self._place(after_s)
        if index + 1 < len(self.times_s):
            return laps * self.length_s + self.times_s[index + 1]
        return (laps + 1) * self.length_s if self.end == "repeat" else math.inf

    def _place(self, at_s: float) -> tuple[int, int]:
        """(lap, index) of the point in force. Compares instants as `next_change` computes them, rounding and
        all, so that the rate at a change is always the new one."""
        if at_s < 0.0:
            return 0, 0
        laps = 0
        if self.end == "repeat":
            laps = math.floor(at_s / self.length_s)
            if laps * self.length_s > at_s:
                laps -= 1
            elif (laps + 1) * self.length_s <= at_s:
                laps += 1
        base_s = laps * self.length_s
        index = max(bisect_right(self.times_s, at_s - base_s) - 1, 0)
        if index + 1 < len(self.times_s) and base_s + self.times_s[index + 1] <= at_s:
            index += 1
        elif base_s + self.times_s[index] > at_s:
            index -= 1
        return laps, index

    def changes(self, until_s: float) -> Iterator[tuple[float, float]]:
        """(instant, rate) for every point from 0 on that begins before *until_s*: what a replay has to set."""
        at_s = 0.0
        while at_s < until_s:
            yield at_s, self.rate_at(at_s)
            at_s = self.next_change(at_s)

    def bits_until(self, at_s: float) -> float:
        """What a link with this trace can carry from 0 to *at_s*."""
        laps, index = self._place(at_s)
        into_s = at_s - (laps * self.length_s + self.times_s[index])
        return laps * self._bits[-1] + self._bits[index] + max(self.rates_bps[index], OUTAGE_BPS) * into_s

    def instant_of(self, from_s: float, bits: float) -> float:
        """When a link with this trace that starts to send at *from_s* has carried *bits*."""
        target = self.bits_until(from_s) + bits
        if target < 0.0:
            return target / max(self.rates_bps[0], OUTAGE_BPS)
        laps = math.floor(target / self._bits[-1]) if self.end == "repeat" else 0
        within = target - laps * self._bits[-1]
        index = min(bisect_right(self._bits, within), len(self.times_s)) - 1
        into_s = (within - self._bits[index]) / max(self.rates_bps[index], OUTAGE_BPS)
        return max(laps * self.length_s + self.times_s[index] + into_s, from_s)

    def scaled(self, rate: float = 1.0, time: float = 1.0) -> Trace:
        """The same shape with every rate times *rate* and every instant times *time*; dilation k is (k, 1 / k)."""
        return Trace(
            tuple(t * time for t in self.times_s),
            tuple(r * rate for r in self.rates_bps),
            self.end,
            self.length_s * time,
        )


def read_trace(
    path: str | Path,
    *,
    format: TraceFormat | None = None,
    direction: Direction = "downlink",
    end: Literal["repeat", "hold"] = "repeat",
) -> Trace:
    """Read a bandwidth trace.

    Args:
        path: the file.
        format: ``"csv"`` (seconds,Mbit/s), ``"ms-kbit"``, ``"hsdpa"`` (six columns), ``"ucc"`` (4G and 5G CSV),
            ``"mahimahi"``; None finds it from the first line.
        direction: which column of a UCC file; the other formats have one.
        end: what follows the last point.
    Raises:
        TraceError: with file, line, what stood there and what belongs there.
    """
    points = read_points(Path(path), format, direction)
    try:
        return Trace(tuple(points.times_s), tuple(points.rates_bps), end, points.length_s)
    except ValueError as error:
        raise TraceError(str(path), 0, str(error)) from error


def write_trace(path: str | Path, trace: Trace, comment: str = "") -> None:
    """Write *trace* as 'seconds,Mbit/s'; `read_trace` reads the same points back."""
    lines = [f"# {line}" for line in comment.splitlines()] + ["seconds,Mbit/s"]
    points = zip(trace.times_s, trace.rates_bps, strict=True)
    lines += [f"{_short(at_s)},{_short(rate_bps / 1e6)}" for at_s, rate_bps in points]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _short(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)
