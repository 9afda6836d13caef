"""At which bandwidth does compressing stop paying: measured, and by the closed form from the same rows.

Both leave untrusted and unfinished rounds out and say how many. ``docs/crossover.md`` explains the method.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from devices.profile import Work
from netem.units import format_rate, parse_rate
from testbed.errors import NewerSchemaError
from testbed.estimate import (
    ENOUGH_REPEATS,
    Array,
    Device,
    Estimate,
    Indices,
    Statistic,
    finite,
    interval,
    median,
    place,
    zero_crossing,
)
from testbed.files import write_derived
from testbed.pairing import Group, Pair, Pairing, pair_up
from testbed.row import CodecUsed, Row

SCHEMA = 1
FILE = "crossover.json"


@dataclass(frozen=True)
class Point:
    """What the pairs at one rate say: median and quartiles of the seconds that the codec adds."""

    rate_bps: float
    pairs: int
    extra_s: float
    lower_quartile_s: float
    upper_quartile_s: float


@dataclass(frozen=True)
class Crossover:
    """The answer for one fleet and codec.

    Attributes:
        measured: from paired round times; a rate of the link.
        closed_form: 8 (S - S') / (t_C + t_D) with S, S' the payloads without and with the codec, t_C and t_D the time
            that compressing and decompressing take, as the literature writes it.
        closed_form_net: the same with the time taken off that packing and checking the raw payload take, which
            sending raw costs as well: what *measured* would be on a link without headers.
        points: one a swept rate, rates rising.
        compression_ratio, compress_s, decompress_s: medians over the usable rows.
        untrusted, failed: pairs left out because a side of them is untrusted, or did not end.
    """

    fleet: str
    device: str
    codec: CodecUsed
    setting: dict[str, str]
    measured: Estimate
    closed_form: Estimate
    closed_form_net: Estimate
    points: tuple[Point, ...]
    compression_ratio: float | None
    compress_s: float | None
    decompress_s: float | None
    pairs: int
    untrusted: int
    failed: int
    alone: int

    @property
    def at_one_rate(self) -> str:
        """Where one rate alone was run, what compressing is worth there: median over pairs; empty otherwise."""
        if self.measured.where != "unknown" or len(self.points) != 1 or self.measured.value_bps is not None:
            return ""
        (point,) = self.points
        verdict, more = ("pays", "less") if point.extra_s < 0 else ("does not pay", "more")
        return f"{verdict} at {format_rate(point.rate_bps, 3)}: {_seconds(abs(point.extra_s))} {more} a round"

    @property
    def sentence(self) -> str:
        """The answer in words."""
        return self.at_one_rate or sentence(self.measured, [point.rate_bps for point in self.points])


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1e-3 else f"{1e3 * seconds:.2g} ms"


def sentence(estimate: Estimate, rates_bps: list[float]) -> str:
    """One line for people."""
    if estimate.where == "unknown" or not rates_bps:
        return f"unknown: {estimate.note}"
    if estimate.where == "above":
        text = f"compressing pays all the way to {format_rate(max(rates_bps))}, the highest rate of the sweep"
        return f"{text}; the crossover is not within the swept range"
    if estimate.where == "below":
        text = f"compressing does not pay even at {format_rate(min(rates_bps))}, the lowest rate of the sweep"
        return f"{text}; the crossover is not within the swept range"
    assert estimate.value_bps is not None
    return f"compressing pays below {rate_text(estimate.value_bps)}{interval_text(estimate)}"


def interval_text(estimate: Estimate) -> str:
    """`` [161, 190]`` in the value's unit, with words for an end outside of the swept range; empty if there is none."""
    if not estimate.has_interval or estimate.value_bps is None:
        return ""
    unit = format_rate(estimate.value_bps).split()[1]
    scale = parse_rate(f"1 {unit}")
    low = "below the range" if estimate.low_bps is None else f"{_three_digits(estimate.low_bps / scale)}"
    high = "above the range" if estimate.high_bps is None else f"{_three_digits(estimate.high_bps / scale)}"
    return f" [{low}, {high}]"


def rate_text(rate_bps: float) -> str:
    """``182 Mbit/s``, ``1.20 Gbit/s``: always three digits, so that columns compare by eye."""
    unit = format_rate(rate_bps).split()[1]
    return f"{_three_digits(rate_bps / parse_rate(f'1 {unit}'))} {unit}"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")


def crossovers(
    rows: Iterable[Row], doubt: Mapping[str, Mapping[Work, float]] | None = None
) -> list[Crossover]:
    """One for each fleet, codec and setting that has rows, in the order of the rows.

    Args:
        doubt: device -> work -> spread of its factor (`testbed.device_record.doubt_of`), to be carried into the
            intervals; None takes the profiles at their word. Training is the same work with and without a codec, so
            that its factor moves no crossover.
    """
    return [_crossover(pairing, doubt or {}) for pairing in pair_up(rows)]


def _crossover(pairing: Pairing, doubt: Mapping[str, Mapping[Work, float]]) -> Crossover:
    pairs = pairing.pairs
    group: Group = pairing.group
    spread = doubt.get(group.device)
    device = Device.drawn(spread["compress"], spread["lossless"]) if spread else None
    return Crossover(
        fleet=group.fleet,
        device=group.device,
        codec=group.codec,
        setting=dict(group.setting),
        measured=_measured(pairing, device),
        closed_form=_closed_form(pairing, device, net=False),
        closed_form_net=_closed_form(pairing, device, net=True),
        points=_points(pairs),
        compression_ratio=_median([p.coded.update_bytes / p.coded.payload_bytes for p in pairs]),
        compress_s=_median([p.coded.compress_s for p in pairs]),
        decompress_s=_median([p.coded.decompress_s for p in pairs]),
        pairs=len(pairs),
        untrusted=pairing.untrusted,
        failed=pairing.failed,
        alone=pairing.alone,
    )


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None


def _points(pairs: tuple[Pair, ...]) -> tuple[Point, ...]:
    points = []
    for rate in sorted({pair.rate_bps for pair in pairs}):
        extra = [pair.extra_s for pair in pairs if pair.rate_bps == rate]
        low, middle, high = np.percentile(extra, [25, 50, 75])
        points.append(Point(rate, len(extra), float(middle), float(low), float(high)))
    return tuple(points)


def _few(repeats: int, device: Device | None) -> str:
    if repeats < 2:
        return (
            "one repeat: no interval"
            if device is None
            else "one repeat: the interval is the device's doubt alone"
        )
    if repeats < ENOUGH_REPEATS:
        return f"{repeats} repeats: the interval covers less than 95 %, which takes {ENOUGH_REPEATS}"
    return ""


def _why_nothing(pairing: Pairing) -> str:
    if pairing.untrusted or pairing.failed:
        return f"no usable pair ({pairing.untrusted} untrusted, {pairing.failed} unfinished)"
    return "no round without compression to compare with; add the codec 'none' to the sweep"


def _measured(pairing: Pairing, device: Device | None) -> Estimate:
    if not pairing.pairs:
        return Estimate("unknown", note=_why_nothing(pairing))
    repeats = sorted({pair.repeat for pair in pairing.pairs})
    rates = sorted({pair.rate_bps for pair in pairing.pairs})
    if len(rates) < 2:
        why = "rounds at one rate alone are trusted" if pairing.gaps_bps else "one rate was run"
        return Estimate("unknown", repeats=len(repeats), note=f"{why}; a crossover takes at least two")
    extra = _cube(pairing.pairs, rates, repeats, lambda pair: pair.extra_s)
    coded = _cube(pairing.pairs, rates, repeats, lambda pair: pair.coded.compress_s)
    raw = _cube(pairing.pairs, rates, repeats, lambda pair: pair.raw.compress_s)
    rate_array: Array = np.array(rates)

    def crossing(chosen: Indices, one: Device | None) -> Array:
        # (rates, resamples, repeats, client-rounds) -> (resamples, rates)
        part = extra[:, chosen, :]
        if one is not None:
            more, less = (
                factors[:, np.newaxis, np.newaxis] - 1.0 for factors in (one.compress, one.lossless)
            )
            part = part + more * coded[:, chosen, :] - less * raw[:, chosen, :]
        return zero_crossing(rate_array, _filled(median(part.reshape(len(rates), len(chosen), -1))).T)

    found = _estimate(len(repeats), crossing, rates[0], rates[-1], device=device)
    hidden = _hidden(found, rates, pairing.gaps_bps)
    return replace(found, where="unknown", value_bps=None, note=hidden) if hidden else found


def _hidden(found: Estimate, rates: list[float], gaps_bps: tuple[float, ...]) -> str:
    """Why no crossover can be named: it lies where rounds were run and none is trusted. Empty where it does not."""
    value = {"below": 0.0, "above": math.inf}.get(found.where, found.value_bps or 0.0)
    low = max((rate for rate in rates if rate <= value), default=None)
    high = min((rate for rate in rates if rate > value), default=None)
    between = [rate for rate in gaps_bps if (low or 0.0) < rate < (high or math.inf)]
    if not between:
        return ""
    if low is None:
        text = f"compressing does not pay from {format_rate(rates[0])} on"
    elif high is None:
        text = f"compressing pays up to {format_rate(low)}"
    else:
        text = f"the crossover lies between {format_rate(low)} and {format_rate(high)}"
    return f"{text}; no round at {', '.join(format_rate(rate) for rate in between)} is trusted"


def _estimate(
    repeats: int,
    statistic: Statistic,
    lowest: float,
    highest: float,
    note: str = "",
    device: Device | None = None,
) -> Estimate:
    everything = np.arange(repeats)
    value = float(statistic(everything[np.newaxis], None)[0])
    low, high = interval(repeats, statistic, lowest, highest, device)
    where = place(value)
    return Estimate(
        where,
        value if where == "within" else None,
        low,
        high,
        repeats,
        finite(statistic(everything[:, np.newaxis], None)),
        note=note or _few(repeats, device),
        doubt=device is not None,
    )


def _filled(extra_s: Array) -> Array:
    """A resample may lack a rate altogether (all of its pairs untrusted): its lower neighbour stands in, or the next
    higher, which leaves the crossing between the rates that are there."""
    for row in range(1, len(extra_s)):
        extra_s[row] = np.where(np.isnan(extra_s[row]), extra_s[row - 1], extra_s[row])
    for row in range(len(extra_s) - 2, -1, -1):
        extra_s[row] = np.where(np.isnan(extra_s[row]), extra_s[row + 1], extra_s[row])
    return extra_s


def _cube(
    pairs: tuple[Pair, ...], rates: list[float], repeats: list[int], value: Callable[[Pair], float]
) -> Array:
    """*value*, in seconds, by rate, repeat and client-round; NaN where a pair is missing."""
    columns: dict[tuple[str, int], int] = {}
    for pair in pairs:
        columns.setdefault((pair.client, pair.coded.round), len(columns))
    cube: Array = np.full((len(rates), len(repeats), len(columns)), np.nan)
    rate_rows = {rate: row for row, rate in enumerate(rates)}
    repeat_rows = {repeat: row for row, repeat in enumerate(repeats)}
    for pair in pairs:
        column = columns[pair.client, pair.coded.round]
        cube[rate_rows[pair.rate_bps], repeat_rows[pair.repeat], column] = value(pair)
    return cube


def _closed_form(pairing: Pairing, device: Device | None, *, net: bool) -> Estimate:
    if not pairing.pairs:
        return Estimate("unknown", note=_why_nothing(pairing))
    repeats = sorted({pair.repeat for pair in pairing.pairs})
    saved = _by_repeat(pairing.pairs, repeats, _saved_bits)
    added = _by_repeat(pairing.pairs, repeats, _added_s if net else _coding_s)
    coded = _by_repeat(pairing.pairs, repeats, lambda pair: pair.coded.compress_s)
    raw = _by_repeat(pairing.pairs, repeats, lambda pair: pair.raw.compress_s if net else 0.0)

    def formula(chosen: Indices, one: Device | None) -> Array:
        bits = median(saved[chosen].reshape(len(chosen), -1))
        extra = added[chosen]
        if one is not None:
            more, less = (
                factors[:, np.newaxis, np.newaxis] - 1.0 for factors in (one.compress, one.lossless)
            )
            extra = extra + more * coded[chosen] - less * raw[chosen]
        seconds = median(extra.reshape(len(chosen), -1))
        quotient = bits / np.where(seconds > 0.0, seconds, 1.0)
        return np.where(bits <= 0.0, 0.0, np.where(seconds > 0.0, quotient, math.inf))

    value = float(formula(np.arange(len(repeats))[np.newaxis], None)[0])
    note = {"below": "the payload is not smaller", "above": "coding takes no longer"}.get(place(value), "")
    # A formula knows no swept range.
    return _estimate(len(repeats), formula, 1.0, 1e15, note, device)


def _by_repeat(pairs: tuple[Pair, ...], repeats: list[int], value: Callable[[Pair], float]) -> Array:
    """Shape (repeats, most pairs in one); NaN where a repeat has fewer."""
    lists = [[value(pair) for pair in pairs if pair.repeat == repeat] for repeat in repeats]
    table: Array = np.full((len(lists), max(len(one) for one in lists)), np.nan)
    for row, one in enumerate(lists):
        table[row, : len(one)] = one
    return table


def _saved_bits(pair: Pair) -> float:
    return 8.0 * (pair.raw.payload_bytes - pair.coded.payload_bytes)


def _coding_s(pair: Pair) -> float:
    return pair.coded.compress_s + pair.coded.decompress_s


def _added_s(pair: Pair) -> float:
    coded, raw = pair.coded, pair.raw
    return coded.compress_s - raw.compress_s + coded.decompress_s - raw.decompress_s


def doubt_note(found: Iterable[Crossover]) -> str:
    """What a reader of intervals must know where they carry the devices' doubt; empty where none does."""
    if not any(item.measured.doubt or item.closed_form.doubt for item in found):
        return ""
    return "the intervals carry the stated doubt (95 %) of the devices' factors"


def write_crossovers(folder: Path, found: list[Crossover]) -> Path:
    """Keep them as ``crossover.json``; computed from the rows, so that an older file is replaced."""
    path = folder / FILE
    data = {"schema": SCHEMA, "crossovers": [asdict(item) | {"sentence": item.sentence} for item in found]}
    write_derived(path, json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    return path


def read_crossovers(folder: Path) -> list[Crossover]:
    """What `write_crossovers` wrote. NewerSchemaError if a later build did."""
    path = folder / FILE
    data = json.loads(path.read_text(encoding="utf-8"))
    if data["schema"] > SCHEMA:
        raise NewerSchemaError(str(path), data["schema"], SCHEMA)
    return [_from_dict(item) for item in data["crossovers"]]


def _from_dict(item: dict[str, Any]) -> Crossover:
    values = {name: value for name, value in item.items() if name != "sentence"}
    values["codec"] = CodecUsed(**values["codec"])
    values["points"] = tuple(Point(**point) for point in values["points"])
    for name in ("measured", "closed_form", "closed_form_net"):
        estimate = dict(values[name])
        estimate["per_repeat_bps"] = tuple(estimate["per_repeat_bps"])
        values[name] = Estimate(**estimate)
    return Crossover(**values)
