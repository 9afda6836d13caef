"""Whether to compress: `auto` is as good as the better of always and never, and beats both on a mixed fleet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from testbed_bench import UPDATE_BYTES, Speed, SteadyBench

from testbed.carrier import ModelCarrier
from testbed.experiment import Experiment
from testbed.row import Row
from testbed.scenario import Candidate, Scenario, Sweep, load, loads

MIXED = Path(__file__).parents[2] / "scenarios" / "mixed-bandwidth.yaml"
# SZ2's crossover is at 8 x 8 MB x 0.85 / 0.154 s = 353 Mbit/s, fedsz-q's at about 3 Gbit/s.
SPEEDS = {
    "none": Speed(0.003, 0.003, 1.0),
    "sz2": Speed(0.1, 0.06, 0.15),
    "fedsz-q": Speed(0.015, 0.008, 0.14),
}


def play(scenario: Scenario, policy: str, speeds: dict[str, Speed] | None = None) -> list[Row]:
    choice: Any = policy
    scenario = replace(
        scenario, sweep=Sweep(), compression=replace(scenario.compression, policy=choice)
    ).with_engine("model")
    bench: Any = SteadyBench(speeds or SPEEDS)
    rows, _ = Experiment("test", bench, ModelCarrier()).cell(scenario.cells()[0])
    return rows


def busy_s(rows: list[Row], fleet: str = "") -> float:
    """Mean way through the round; waiting for others is no merit of anybody's policy."""
    return fmean(row.busy_s for row in rows if fleet in ("", row.fleet))


@pytest.mark.parametrize("among", [(), (Candidate("sz2"), Candidate("fedsz-q"))])
def test_auto_is_as_good_as_the_better_for_each_fleet_and_beats_both_on_all(
    among: tuple[Candidate, ...],
) -> None:
    scenario = load(MIXED)
    scenario = replace(scenario, compression=replace(scenario.compression, among=among))
    rows = {policy: play(scenario, policy) for policy in ("never", "always", "auto")}
    for fleet in scenario.fleets:
        better_s = min(busy_s(rows["never"], fleet.name), busy_s(rows["always"], fleet.name))
        assert busy_s(rows["auto"], fleet.name) <= 1.03 * better_s, fleet.name
    assert busy_s(rows["auto"]) < busy_s(rows["never"])
    assert busy_s(rows["auto"]) < busy_s(rows["always"])
    assert rows["auto"][-1].round_s <= 1.03 * min(rows["never"][-1].round_s, rows["always"][-1].round_s)
    assert {row.codec.id for row in rows["auto"]} == {"none", "fedsz-q" if among else "sz2"}


@pytest.mark.parametrize(
    ("uplink", "chosen"), [("1 Mbit/s", "sz2"), ("100 Mbit/s", "fedsz-q"), ("40 Gbit/s", "none")]
)
def test_each_bandwidth_has_its_codec(uplink: str, chosen: str) -> None:
    """A small slow codec on slow links, a fast one on faster links, none on the fastest."""
    scenario = loads(f"""
name: one
fleets: [{{name: a, count: 1, device: cloud-vm, uplink: {uplink}, downlink: 1 Gbit/s}}]
network: {{server: {{uplink: 100 Gbit/s, downlink: 100 Gbit/s}}}}
compression: {{policy: auto, among: [sz2, fedsz-q]}}
""")
    speeds = {**SPEEDS, "sz2": Speed(0.1, 0.06, 0.1)}
    assert {row.codec.id for row in play(scenario, "auto", speeds)} == {chosen}


def test_auto_learns_what_a_shared_link_leaves_of_the_rate() -> None:
    """Twenty clients of 1 Gbit/s share 1 Gbit/s: raw values look cheap before the first upload, not after it."""
    scenario = loads("""
name: crowd
learning: {rounds: 2}
network: {engine: model, server: {uplink: 100 Gbit/s, downlink: 1 Gbit/s}}
fleets: [{name: a, count: 20, device: cloud-vm, uplink: 1 Gbit/s, downlink: 1 Gbit/s}]
compression: {codec: sz2, policy: auto}
""")
    rows = play(scenario, "auto")
    assert [{row.codec.id for row in rows if row.round == number} for number in (0, 1)] == [{"none"}, {"sz2"}]
    assert all(row.payload_bytes == UPDATE_BYTES for row in rows if row.round == 0)


def test_auto_learns_what_a_reference_is_worth() -> None:
    """Alone the codec does not pay at 5 Gbit/s; given the last model it does, as the first update shows."""
    scenario = loads("""
name: held
learning: {rounds: 3}
network: {engine: model, server: {uplink: 100 Gbit/s, downlink: 100 Gbit/s}}
fleets: [{name: a, count: 2, device: cloud-vm, uplink: 5 Gbit/s, downlink: 5 Gbit/s}]
compression: {codec: fedsz-q-dither, policy: auto, reference: true}
""")
    speeds = {
        "none": SPEEDS["none"],
        "fedsz-q-dither": Speed(0.015, 0.008, 0.14),
        "fedsz-q-dither, given": Speed(0.004, 0.003, 0.02),
    }
    rows = play(scenario, "auto", speeds)
    assert [{row.codec.id for row in rows if row.round == number} for number in range(3)] == [
        {"none"},
        {"fedsz-q-dither"},
        {"fedsz-q-dither"},
    ]


def test_a_bound_of_its_own_goes_with_a_candidate() -> None:
    scenario = loads("""
name: one
fleets: [{name: a, count: 1, device: cloud-vm, uplink: 1 Mbit/s, downlink: 1 Gbit/s}]
compression: {policy: auto, bound: REL 1e-3, among: [{codec: fedsz-q, bound: REL 1e-1}]}
""")
    (row,) = play(scenario, "auto")
    assert (row.codec.id, row.codec.bound) == ("fedsz-q", 0.1)
    assert loads(scenario.to_yaml()) == scenario
