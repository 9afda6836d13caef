"""Sweeps: which cells there are, in which order, and what each one runs."""

from __future__ import annotations

import pytest

from fedsz import ErrorBound
from netem.link import LinkSpec
from testbed.errors import ScenarioErrors
from testbed.scenario import Dirichlet, loads

BASE = """
name: s
fleets:
  - {name: pi, count: 1, device: raspberry-pi-4, uplink: {rate: 1 Mbit/s, delay: 5 ms}, downlink: 50 Mbit/s}
  - {name: phone, count: 1, device: pixel-6, uplink: 1 Mbit/s, downlink: 50 Mbit/s}
"""


def cells(sweep: str):
    return loads(BASE + f"sweep: {sweep}").cells()


def test_no_axes_is_one_cell():
    (cell,) = loads(BASE).cells()
    assert (cell.index, cell.variant, cell.repeat, dict(cell.values), cell.label) == (0, 0, 0, {}, "")
    assert cell.scenario == loads(BASE)


def test_repeats_are_interleaved_and_the_last_axis_moves_fastest():
    found = cells("{uplink.rate: [1 Mbit/s, 2 Mbit/s], codec: [none, sz2], repeats: 2}")
    assert [(cell.index, cell.variant, cell.repeat, cell.label) for cell in found] == [
        (0, 0, 0, "uplink.rate 1 Mbit/s, codec none"),
        (1, 1, 0, "uplink.rate 1 Mbit/s, codec sz2"),
        (2, 2, 0, "uplink.rate 2 Mbit/s, codec none"),
        (3, 3, 0, "uplink.rate 2 Mbit/s, codec sz2"),
        (4, 0, 1, "uplink.rate 1 Mbit/s, codec none"),
        (5, 1, 1, "uplink.rate 1 Mbit/s, codec sz2"),
        (6, 2, 1, "uplink.rate 2 Mbit/s, codec none"),
        (7, 3, 1, "uplink.rate 2 Mbit/s, codec sz2"),
    ]


def test_a_short_axis_sets_every_fleet_and_a_long_one_only_its_own():
    (_, second) = cells("{uplink.rate: [1 Mbit/s, 2 Mbit/s]}")
    assert [fleet.uplink.rate_bps for fleet in second.scenario.fleets] == [2e6, 2e6]
    assert second.scenario.fleets[0].uplink.delay_s == 0.005  # the rest of the link stays
    (_, second) = cells("{fleets.pi.uplink.rate: [1 Mbit/s, 2 Mbit/s]}")
    assert [fleet.uplink.rate_bps for fleet in second.scenario.fleets] == [2e6, 1e6]


@pytest.mark.parametrize(
    ("axis", "values", "read", "expected"),
    [
        ("codec", "[sz2, sz3]", lambda s: s.compression.codec, ["sz2", "sz3"]),
        ("bound", "[REL 1e-1, {mode: ABS, value: 2}]", lambda s: s.compression.bound,
         [ErrorBound("REL", 0.1), ErrorBound("ABS", 2.0)]),
        ("split", "[iid, {dirichlet: 0.1}]", lambda s: s.learning.split, ["iid", Dirichlet(0.1)]),
        ("lr", "0.1, 0.2", lambda s: s.learning.lr, [0.1, 0.2]),
        ("seed", "1, 2, 3", lambda s: s.seed, [1, 2, 3]),
        ("max_steps", "[null, 5]", lambda s: s.learning.max_steps, [None, 5]),
        ("network.congestion_control", "[cubic, reno]", lambda s: s.network.congestion_control, ["cubic", "reno"]),
        ("device", "laptop", lambda s: s.fleets[0].device, ["laptop"]),
        ("downlink.rate", "10, 20 Mbit/s", lambda s: s.fleets[1].downlink.rate_bps, [10e6, 20e6]),
        ("downlink.rate", "10, 20 kbit/s, 1 Mbit/s", lambda s: s.fleets[1].downlink.rate_bps, [10e6, 20e3, 1e6]),
        ("uplink", "[1 Mbit/s, {rate: 5 Mbit/s, delay: 3 ms}]", lambda s: s.fleets[1].uplink,
         [LinkSpec(1e6), LinkSpec(5e6, 0.003)]),
        ("compression.reference", "[true, false]", lambda s: s.compression.reference, [True, False]),
        ("network.server.downlink.rate", "[1 Gbit/s]", lambda s: s.network.server.downlink.rate_bps, [1e9]),
        ("sample", "50 %, 100 %", lambda s: s.rounds_policy.sample, [0.5, 1.0]),
    ],
)  # fmt: skip
def test_any_field_can_be_an_axis(axis, values, read, expected):
    found = cells(f"{{{axis}: {values}}}" if values[0] in "[{" else f"\n  {axis}: {values}")
    assert [read(cell.scenario) for cell in found] == expected
    assert [cell.values[axis] for cell in found] == expected


def test_axes_walked_side_by_side():
    found = cells("{codec: [sz2, sz3], lr: [0.1, 0.2], combine: list}")
    assert [dict(cell.values) for cell in found] == [{"codec": "sz2", "lr": 0.1}, {"codec": "sz3", "lr": 0.2}]


def test_a_cell_describes_itself():
    cell = cells("{uplink.rate: [3 Mbit/s], bound: [REL 1e-3], repeats: 2, work: drawn}")[1]
    data = cell.to_dict()
    assert (data["index"], data["variant"], data["repeat"]) == (1, 0, 1)
    assert data["values"] == {"uplink.rate": "3 Mbit/s", "bound": "REL 0.001"}
    again = loads(cell.scenario.to_yaml())
    assert again == cell.scenario
    assert again.sweep.work == "drawn"
    assert len(again.cells()) == 1


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("{name: [a]}", "unknown axis 'name'"),
        ("{fleets: [a]}", "unknown axis 'fleets'"),
        ("{sweep.repeats: [1]}", "unknown axis 'sweep.repeats'"),
        ("{uplink.rat: [1 Mbit/s]}", "did you mean 'uplink.rate'?"),
        ("{repeat: 3}", "did you mean 'repeats'?"),
        ("{codec: []}", "sweep.codec: an axis has at least one value"),
        ("{codec: [sz2, sz3], lr: [1], combine: list}", "equally many values; codec has 2, lr has 1"),
        (
            "{fleets.tablet.count: [1, 2]}",
            "axis 'fleets.tablet.count': there is no fleet 'tablet'; allowed: pi",
        ),
        ("{rounds_policy.ask: [1, 2, 3]}", "asks 3 clients but the fleets have 2"),
        ("{uplink.jitter: [6 ms]}", "jitter is at most the delay"),
        ("[1]", "sweep: got a list"),
    ],
)
def test_sweeps_that_make_no_sense(sweep, message):
    with pytest.raises(ScenarioErrors) as caught:
        cells(sweep)
    assert message in str(caught.value).replace("\n    ", " ")


def test_a_list_may_name_a_value_twice_but_not_a_variant():
    text = """
name: pairs
fleets: [{name: a, count: 1, device: cloud-vm, uplink: 1 Mbit/s, downlink: 1 Mbit/s}]
sweep: {combine: list, codec: [none, none, sz2], uplink.rate: "1, 2, 1 Mbit/s"}
"""
    assert [cell.label for cell in loads(text).cells()] == [
        "codec none, uplink.rate 1 Mbit/s",
        "codec none, uplink.rate 2 Mbit/s",
        "codec sz2, uplink.rate 1 Mbit/s",
    ]
    with pytest.raises(ScenarioErrors, match="variant 1 is the same as variant 0; 'repeats' measures again"):
        loads(text.replace("1, 2, 1", "1, 1, 1"))
