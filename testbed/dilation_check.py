"""Transfers at the dilation of a run beside the same transfers, with the same bytes and work, at k = 1."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from netem.units import format_rate
from testbed.record import Row

# How near a dilated transfer comes to the undilated one.
GOAL = 0.02


@dataclass(frozen=True)
class Point:
    """All transfers of one direction and rate.

    Attributes:
        differences: dilated less undilated, as a share of undilated, one a transfer.
        dilations: smallest and largest k of the dilated ones.
    """

    direction: str
    rate_bps: float
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
    found: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for row in dilated:
        like = plain.get((row.cell, row.round, row.client))
        if like is None or row.status != "ok":
            continue
        for direction, rate_bps in (
            ("downlink", row.downlink_rate_bps),
            ("uplink", row.uplink_rate_bps),
        ):
            difference = row.seconds(direction) / like.seconds(direction) - 1.0
            found.setdefault((direction, rate_bps), []).append((difference, row.dilation))
    return [
        Point(
            direction,
            rate_bps,
            tuple(difference for difference, _ in seen),
            (min(k for _, k in seen), max(k for _, k in seen)),
        )
        for (direction, rate_bps), seen in sorted(found.items())
    ]


def table(found: Sequence[Point]) -> Table:
    """The points for a terminal."""
    shown = Table(
        title="Dilated against undilated transfers",
        caption="difference: dilated less k = 1, share of k = 1; k of the uploads",
        title_justify="left",
        caption_justify="left",
    )
    shown.add_column("direction")
    for heading in ("rate", "k", "transfers", "median size", "worst"):
        shown.add_column(heading, justify="right")
    for point in found:
        low, high = point.dilations
        shown.add_row(
            point.direction,
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
    where = f"{worst.direction} {format_rate(worst.rate_bps)}"
    text = f"largest median difference {worst.median:.2%} ({where}; goal {GOAL:.0%})"
    return good, f"{text}; {'dilation changes nothing' if good else 'dilation is NOT true here and now'}"
