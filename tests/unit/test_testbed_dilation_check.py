"""Dilated against undilated rows: pairs, points and the verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest
from testbed_rows import sweep_rows

from testbed.dilation_check import points, verdict
from testbed.row import Row

ROWS = sweep_rows(repeats=1, codecs=("none",), rates=(10e6, 100e6))


def slower(row: Row, share: float) -> Row:
    """The same row with an upload that took longer by *share*."""
    more_s = share * row.uplink_s
    return replace(row, uplink_s=row.uplink_s + more_s, round_s=row.round_s + more_s, spans=(), dilation=20.0)


@pytest.mark.parametrize(
    ("share", "good"), [(0.0, True), (0.019, True), (-0.019, True), (0.021, False), (-0.021, False)]
)
def test_two_percent_is_the_goal_at_every_rate(share: float, good: bool) -> None:
    seen = [slower(row, share if row.uplink_rate_bps == 10e6 else 0.0) for row in ROWS]
    found = points(seen, ROWS)
    assert {(point.direction, point.rate_bps) for point in found} >= {("uplink", 10e6), ("uplink", 100e6)}
    worst = max(found, key=lambda point: point.median)
    assert worst.median == pytest.approx(abs(share))
    assert verdict(found)[0] is good


def test_what_did_not_arrive_in_both_runs_is_left_out() -> None:
    seen = [replace(row, status="dropped") for row in ROWS]
    assert points(seen, ROWS) == points(ROWS, seen) == []
    assert verdict([]) == (False, "no transfer went well in both runs; nothing can be said")


def test_settings_of_the_sweep_are_points_of_their_own() -> None:
    crowded = [
        replace(row, cell=row.cell + 100, values={**row.values, "network.server.downlink.rate": "15 Mbit/s"})
        for row in ROWS
    ]
    seen = [slower(row, 0.05) if row.cell >= 100 else row for row in [*ROWS, *crowded]]
    found = points(seen, [*ROWS, *crowded])
    assert {point.setting for point in found} == {"", "server downlink 15 Mbit/s"}
    assert {
        (point.setting != "", round(point.median, 3)) for point in found if point.direction == "uplink"
    } == {
        (False, 0.0),
        (True, 0.05),
    }
    good, text = verdict(found)
    assert not good
    assert "server downlink 15 Mbit/s; goal 2%" in text
