"""From public benchmark scores to the factors of a `DeviceProfile`.

Nobody publishes how long a Raspberry Pi takes to quantise a model, so each kind of work is tied to the public
benchmark that is made of the same instructions:

=========  ======================================================  =====================================
work       score                                                   why
=========  ======================================================  =====================================
train      HPL, all cores, Gflop/s                                 dense multiply-add, uses every core
compress   sqrt(7-zip single-threaded MIPS x memcpy MB/s)          a pass over the floats, then entropy coding
lossless   7-zip single-threaded MIPS                              the same kind of integer code and cache misses
=========  ======================================================  =====================================

Where only Geekbench 6 exists (phones), 7-zip and HPL are estimated from it through the devices that have both; the
spread grows accordingly. `docs/devices.md` compares with a calibration on real hardware.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Multiplicative 95 % uncertainties: judgements about how well a benchmark follows the work that it stands for.
TRAIN_SPREAD = 2.0
COMPRESS_SPREAD = 1.4
LOSSLESS_SPREAD = 1.25


@dataclass(frozen=True, slots=True)
class Scores:
    """Benchmark results of one machine; None: not published.

    Attributes:
        sevenzip: 7-zip rating, one thread, MIPS (``7z b -mmt1``).
        memcpy: copy bandwidth of one core, MB/s of bytes copied (tinymembench "standard memcpy").
        hpl: High Performance Linpack, Gflop/s in float64 over all cores the machine would train with.
        geekbench_single, geekbench_multi: Geekbench 6 CPU scores.
        doubt: extra uncertainty of a score that was not measured on this very device, as a factor.
    """

    sevenzip: float | None = None
    memcpy: float | None = None
    hpl: float | None = None
    geekbench_single: float | None = None
    geekbench_multi: float | None = None
    doubt: Mapping[str, float] = field(default_factory=dict)

    def spread(self, score: str) -> float:
        """Uncertainty of that score itself, 1 where it was measured on this very device."""
        return self.doubt.get(score, 1.0)


SCORES = ("sevenzip", "memcpy", "hpl", "geekbench_single", "geekbench_multi")


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """``y = scale * x ** power`` through machines that have both scores; spread: their scatter (95 %) as a factor."""

    scale: float
    power: float
    spread: float

    def at(self, score: float) -> float:
        """The other score that goes with this one."""
        return self.scale * float(score**self.power)


def fit(pairs: Sequence[tuple[float, float]]) -> PowerLaw:
    """Least squares in the logarithms of at least three pairs with positive values."""
    xs, ys = [math.log(x) for x, _ in pairs], [math.log(y) for _, y in pairs]
    count = len(pairs)
    x_mean, y_mean = sum(xs) / count, sum(ys) / count
    power = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / sum(
        (x - x_mean) ** 2 for x in xs
    )
    level = y_mean - power * x_mean
    left = sum((y - level - power * x) ** 2 for x, y in zip(xs, ys, strict=True))
    return PowerLaw(math.exp(level), power, math.exp(1.96 * math.sqrt(left / (count - 2))))


@dataclass(frozen=True, slots=True)
class Conversion:
    """What Geekbench 6 says about the scores that we need: 7-zip from single-core, HPL from multi-core."""

    sevenzip: PowerLaw
    hpl: PowerLaw


@dataclass(frozen=True, slots=True)
class Factor:
    """Device time per host time, with its uncertainty and the way it came about."""

    value: float
    spread: float
    how: str


def _combine(*spreads: float) -> float:
    return math.exp(math.sqrt(sum(math.log(spread) ** 2 for spread in spreads)))


def train_factor(device: Scores, host: Scores, conversion: Conversion) -> Factor | None:
    """From HPL, or from Geekbench 6 multi-core; None where the device has neither."""
    assert host.hpl is not None
    if device.hpl is not None:
        return Factor(host.hpl / device.hpl, _combine(TRAIN_SPREAD, device.spread("hpl")), "HPL")
    if device.geekbench_multi is not None:
        hpl = conversion.hpl.at(device.geekbench_multi)
        spread = _combine(TRAIN_SPREAD, conversion.hpl.spread, device.spread("geekbench_multi"))
        return Factor(host.hpl / hpl, spread, "Geekbench 6 multi-core")
    return None


def lossless_factor(device: Scores, host: Scores, conversion: Conversion) -> Factor | None:
    """From 7-zip, or from Geekbench 6 single-core; None where the device has neither."""
    assert host.sevenzip is not None
    if device.sevenzip is not None:
        spread = _combine(LOSSLESS_SPREAD, device.spread("sevenzip"))
        return Factor(host.sevenzip / device.sevenzip, spread, "7-zip")
    if device.geekbench_single is not None:
        rating = conversion.sevenzip.at(device.geekbench_single)
        spread = _combine(LOSSLESS_SPREAD, conversion.sevenzip.spread, device.spread("geekbench_single"))
        return Factor(host.sevenzip / rating, spread, "Geekbench 6 single-core")
    return None


def compress_factor(device: Scores, host: Scores, conversion: Conversion) -> Factor | None:
    """From 7-zip and memory copy, the latter left out where it is not published."""
    integer = lossless_factor(device, host, conversion)
    if integer is None:
        return None
    if device.memcpy is None:
        return Factor(integer.value, _combine(integer.spread, COMPRESS_SPREAD), integer.how)
    assert host.memcpy is not None
    copy = host.memcpy / device.memcpy
    # Real codecs lie between the two: the spread reaches at least to either end.
    between = math.sqrt(max(copy, integer.value) / min(copy, integer.value))
    return Factor(
        math.sqrt(copy * integer.value),
        max(_combine(integer.spread / LOSSLESS_SPREAD, COMPRESS_SPREAD), between),
        f"{integer.how} and memcpy",
    )
