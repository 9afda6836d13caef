"""Two runs side by side: each client-round of one beside the same client-round of the other.

Which rounds are the same is said by what both set: fleet, codec with its bound, uplink rate, the sweep's other axes,
repeat, client and round. Differences are taken within pairs, so that what both runs share (the network, the device, the
amount of work) cancels, and the interval comes from resampling whole repeats, as for crossovers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from netem.units import format_rate
from testbed.estimate import ENOUGH_REPEATS, LEVEL, RESAMPLES
from testbed.pairing import setting
from testbed.results import Run
from testbed.row import CodecUsed, Row
from testbed.setting import setting_text
from testbed.split import codec_name

SCHEMA = 1
# What is compared: name, unit.
QUANTITIES = (
    "round_s",
    "train_s",
    "compress_s",
    "uplink_s",
    "decompress_s",
    "payload_bytes",
    "accuracy",
    "energy_j",
)


@dataclass(frozen=True)
class Difference:
    """Second run less first, over the pairs of one fleet, codec and rate.

    Attributes:
        pairs: how many client-rounds have both sides.
        first, second: medians.
        median: of the differences within pairs; None where no pair has the quantity.
        low, high: ends of the 95 % interval of *median*; None with fewer than two repeats.
        ratio: median of second / first; None where a first is 0.
    """

    pairs: int
    first: float | None
    second: float | None
    median: float | None
    low: float | None
    high: float | None
    ratio: float | None

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Compared:
    """One fleet, codec, rate and setting in both runs; *differences* by name of the quantity."""

    fleet: str
    codec: CodecUsed
    rate_bps: float
    setting: dict[str, str]
    repeats: int
    differences: dict[str, Difference]


@dataclass(frozen=True)
class Comparison:
    """All of it, and what had to stay out.

    Attributes:
        alone: client-rounds of one run without a partner in the other.
        unusable: pairs left out because a side is untrusted or did not end.
    """

    first: str
    second: str
    groups: tuple[Compared, ...]
    alone: tuple[int, int]
    unusable: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as ``testbed compare --json`` prints it."""
        return {"schema": SCHEMA, "level": LEVEL, **asdict(self)}


def compare(first: Run, second: Run) -> Comparison:
    """Pair the rows of two runs and say what differs."""
    mine, theirs = _by_key(first.rows), _by_key(second.rows)
    pairs: dict[tuple[Any, ...], list[tuple[Row, Row]]] = defaultdict(list)
    unusable = 0
    for key, row in mine.items():
        other = theirs.get(key)
        if other is None:
            continue
        if row.usable and other.usable:
            pairs[row.fleet, row.codec, row.uplink_rate_bps, setting(row.values)].append((row, other))
        else:
            unusable += 1
    both = len(mine.keys() & theirs.keys())
    groups = [
        Compared(fleet, codec, rate, dict(rest), len({row.repeat for row, _ in found}), _differences(found))
        for (fleet, codec, rate, rest), found in pairs.items()
    ]
    alone = (len(mine) - both, len(theirs) - both)
    return Comparison(str(first.folder), str(second.folder), tuple(groups), alone, unusable)


def _by_key(rows: Iterable[Row]) -> dict[tuple[Any, ...], Row]:
    """A raw round is measured once for each bound of a sweep: the first of such twins stands for all."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = (
            row.fleet,
            row.codec,
            row.uplink_rate_bps,
            setting(row.values),
            row.repeat,
            row.client,
            row.round,
        )
        found.setdefault(key, row)
    return found


def _differences(pairs: Sequence[tuple[Row, Row]]) -> dict[str, Difference]:
    return {name: _difference(name, pairs) for name in QUANTITIES}


def _difference(name: str, pairs: Sequence[tuple[Row, Row]]) -> Difference:
    values = [
        (row.repeat, float(one), float(two))
        for row, other in pairs
        if (one := getattr(row, name)) is not None and (two := getattr(other, name)) is not None
    ]
    if not values:
        return Difference(0, None, None, None, None, None, None)
    repeat, one, two = (np.array(column) for column in zip(*values, strict=True))
    change = two - one
    low, high = _interval(repeat, change)
    return Difference(
        pairs=len(values),
        first=float(np.median(one)),
        second=float(np.median(two)),
        median=float(np.median(change)),
        low=low,
        high=high,
        ratio=float(np.median(two / one)) if (one > 0).all() else None,
    )


def _interval(repeat: Any, change: Any) -> tuple[float | None, float | None]:
    """Percentile bootstrap over whole repeats: client-rounds of one repeat share weights, data and the host's mood."""
    blocks = [change[repeat == number] for number in np.unique(repeat)]
    if len(blocks) < 2:
        return None, None
    rng = np.random.default_rng(0)  # the same records give the same interval
    chosen = rng.integers(len(blocks), size=(RESAMPLES, len(blocks)))
    medians = [float(np.median(np.concatenate([blocks[index] for index in row]))) for row in chosen]
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(medians, [tail, 100 - tail])
    return float(low), float(high)


def table(found: Comparison) -> Table:
    """Round time, its parts that a codec changes, and bytes; bold where the interval leaves out 0."""
    few = min((group.repeats for group in found.groups), default=0)
    notes = [f"second less first, medians over pairs [{LEVEL:.0%} interval]; bold: the interval leaves out 0"]
    if 0 < few < ENOUGH_REPEATS:
        notes.append(f"{few} repeats: an interval covers less than {LEVEL:.0%}, which takes {ENOUGH_REPEATS}")
    if any(found.alone):
        notes.append(f"without a partner: {found.alone[0]} in the first run, {found.alone[1]} in the second")
    if found.unusable:
        notes.append(f"left out: {found.unusable} pairs with an untrusted or unfinished side")
    shown = Table(
        title=f"{found.second} against {found.first}",
        caption="\n".join(notes),
        title_justify="left",
        caption_justify="left",
    )
    known = [
        name
        for name in QUANTITIES
        if any(group.differences[name].median is not None for group in found.groups)
    ]
    for heading in ("fleet", "codec", "uplink", "pairs", *known):
        shown.add_column(heading, justify="left" if heading in ("fleet", "codec") else "right")
    for group in found.groups:
        shown.add_row(
            ", ".join(filter(None, (group.fleet, setting_text(group.setting.items())))),
            codec_name(group.codec),
            format_rate(group.rate_bps, 3),
            str(group.differences["round_s"].pairs),
            *(_cell(group.differences[name]) for name in known),
        )
    return shown


def _cell(difference: Difference) -> str:
    if difference.median is None:
        return "-"
    text = f"{difference.median:+.3g}"
    if difference.low is not None and difference.high is not None:
        text += f" \\[{difference.low:+.3g}, {difference.high:+.3g}]"
    return f"[bold]{text}[/bold]" if difference.certain else text
