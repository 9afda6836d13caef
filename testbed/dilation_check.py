"""Transfers at the dilation of a run beside the same transfers, with the same bytes and work, at k = 1."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from netem.units import format_rate
from testbed.pairing import setting
from testbed.record import Row
from testbed.setting import setting_text

# How near a dilated transfer comes to the undilated one.
GOAL = 0.02


@dataclass(frozen=True)
class Point:
    """All transfers of one direction and rate under one setting of the sweep.

    Attributes:
        setting: values of the axes other than the codec's and the uplink's rate, in words.
        differences: dilated less undilated, as a share of undilated, one a transfer.
        dilations: smallest and largest k of the dilated ones.
    """

    direction: str
    rate_bps: float
    setting: str
    differences: tuple[float, ...]
    dilations: tuple[float, float]

    @property
    def median(self) -> float:
        """Of the differences' sizes."""
        return statistics.median(abs(value) for value in self.differences)

    @property
    def worst(self) -> float:
        """The largest difference, signed."""
        return max(self.differences, key=abs)


def points(dilated: Sequence[Row], undilated: Sequence[Row]) -> list[Point]:
    """Pair the rows of two runs of the same work by cell, round and client; rows without an update are left out."""
    plain = {(row.cell, row.round, row.client): row for row in undilated if row.status == "ok"}
    found: dict[tuple[str, float, str], list[tuple[float, float]]] = {}
    for row in dilated:
        like = plain.get((row.cell, row.round, row.client))
        if like is None or row.status != "ok":
            continue
        where = setting_text(setting(row.values))
        for direction, rate_bps in (
            ("downlink", row.downlink_rate_bps),
            ("uplink", row.uplink_rate_bps),
        ):
            difference = row.seconds(direction) / like.seconds(direction) - 1.0
            found.setdefault((direction, rate_bps, where), []).append((difference, row.dilation))
    return [
        Point(
            direction,
            rate_bps,
            where,
            tuple(difference for difference, _ in seen),
            (min(k for _, k in seen), max(k for _, k in seen)),
        )
        for (direction, rate_bps, where), seen in sorted(found.items())
    ]


def table(found: Sequence[Point]) -> Table:
    """The points for a terminal."""
    shown = Table(
        title="Dilated against undilated transfers",
        caption="difference: dilated less k = 1, share of k = 1; k of the uploads",
        title_justify="left",
        caption_justify="left",
    )
    settings = any(point.setting for point in found)
    shown.add_column("direction")
    if settings:
        shown.add_column("setting", overflow="fold")
    for heading in ("rate", "k", "transfers", "median size", "worst"):
        shown.add_column(heading, justify="right")
    for point in found:
        low, high = point.dilations
        shown.add_row(
            point.direction,
            *([point.setting] if settings else []),
            format_rate(point.rate_bps),
            f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}",
            str(len(point.differences)),
            f"{point.median:.2%}",
            f"{point.worst:+.2%}",
        )
    return shown


def verdict(found: Sequence[Point]) -> tuple[bool, str]:
    """Whether the median difference of every point is within `GOAL`, and that in words."""
    if not found:
        return False, "no transfer went well in both runs; nothing can be said"
    worst = max(found, key=lambda point: point.median)
    good = worst.median <= GOAL
    where = " ".join(filter(None, (worst.direction, format_rate(worst.rate_bps), worst.setting)))
    text = f"largest median difference {worst.median:.2%} ({where}; goal {GOAL:.0%})"
    return good, f"{text}; {'dilation changes nothing' if good else 'dilation is NOT true here and now'}"
