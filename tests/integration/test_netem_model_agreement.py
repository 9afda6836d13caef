"""Modelled against emulated transfers on real links: within 3 % (median) and 10 % (worst)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from looks import seen

from netem.agreement import (
    GOAL_MEDIAN,
    GOAL_WORST,
    Comparison,
    PlannedFlow,
    as_rows,
    compare,
    staggered,
    summarise,
)
from netem.link import AccessLink, LinkSpec, Topology
from netem.trace import Trace

NAMES = [f"c{i}" for i in range(6)]
SLOW, FAST = LinkSpec(10e6), LinkSpec(50e6)


def star(uplink: LinkSpec, server_down_bps: float) -> Topology:
    server = AccessLink(LinkSpec(1e9), LinkSpec(server_down_bps))
    return Topology(server, dict.fromkeys(NAMES, AccessLink(uplink, FAST)))


def check(topology: Topology, schedule: list[PlannedFlow], state_dir: Path, dilation: float = 1.0) -> None:
    look = partial(compare, topology, schedule, state_dir=state_dir, dilation=dilation)
    found = summarise(seen(look, lambda comparisons: summarise(comparisons).good, looks=5))
    assert found.median <= GOAL_MEDIAN
    assert found.worst <= GOAL_WORST


@pytest.mark.root
def test_transfers_that_do_not_meet_take_what_the_model_says(tmp_path):
    schedule = staggered(NAMES[:3], "uplink", 400_000, 0.1)
    schedule += [PlannedFlow(name, "downlink", 2_000_000, 1.0 + i / 10) for i, name in enumerate(NAMES[3:])]
    check(star(SLOW, 1e9), schedule, tmp_path)


@pytest.mark.root
def test_six_clients_that_start_one_after_the_other_on_a_shared_uplink(tmp_path):
    check(star(SLOW, 20e6), staggered(NAMES, "uplink", 1_500_000, 0.5), tmp_path)


@pytest.mark.root
def test_a_dilated_rate_over_time(tmp_path):
    trace = Trace((0, 1, 2, 3), (8e6, 2e6, 1e6, 20e6))
    topology = star(LinkSpec(8e6, trace=trace), 1e9)
    check(topology, staggered(NAMES[:2], "uplink", 3_000_000, 0.5), tmp_path, dilation=4)


@pytest.mark.root
def test_an_outage_ends_when_the_trace_says_so(tmp_path):
    trace = Trace((0, 0.5, 1.0), (8e6, 0, 8e6), end="hold")
    topology = star(LinkSpec(8e6, trace=trace), 1e9)
    schedule = staggered(NAMES[:2], "uplink", 1_000_000, 0.1)
    seen(
        partial(compare, topology, schedule, state_dir=tmp_path, limit_s=60.0),
        # TCP notices the end of the silence with its next retransmission, up to as long again after it.
        lambda rows: all(row.modelled_s * 0.97 < row.emulated_s < row.modelled_s + 0.5 for row in rows),
        looks=5,
    )


def test_differences_are_shares_of_the_emulated_duration():
    rows = [Comparison("a", "uplink", 1_000_000, 0.5, 2.0, modelled) for modelled in (2.1, 1.98, 2.0)]
    assert [row.difference for row in rows] == pytest.approx([0.05, -0.01, 0.0])
    found = summarise(rows)
    assert (found.transfers, found.median, found.worst) == (3, pytest.approx(0.01), pytest.approx(0.05))
    assert found.good
    assert list(as_rows(rows[:1]))[1] == ("a", "uplink", "1.000 MB", "0.50 s", "2.000 s", "2.100 s", "+5.0%")
