"""Which dilation is chosen, worked out by hand from what limits it."""

from __future__ import annotations

import pytest

from netem.flow import Direction, FlowRequest
from netem.link import AccessLink, LinkSpec, Topology
from netem.model_backend import ModelNetwork
from testbed.busy_period import ExpectedFlow, busy_periods, expected_flows, length_s
from testbed.clock import ModelledEnvironment
from testbed.dilation import RoundDilation, TruthfulRange, choose
from testbed.round import ClientPlan, run_round

HOST = TruthfulRange(link_bps=1e9, total_bps=1.5e9, shortest_s=0.02, longest_k=100.0)
ONE_S_AT_10_MBIT = 1_250_000


def star(
    uplink_bps: float, downlink_bps: float, clients: int = 2, server_bps: float = 1e10, loss: float = 0.0
) -> Topology:
    access = AccessLink(uplink=LinkSpec(uplink_bps, loss=loss), downlink=LinkSpec(downlink_bps))
    server = AccessLink(uplink=LinkSpec(server_bps), downlink=LinkSpec(server_bps))
    return Topology(server, {f"c{index}": access for index in range(clients)})


def flow(
    client: str, size: int, start_s: float = 0.0, end_s: float = 1.0, direction: Direction = "uplink"
) -> ExpectedFlow:
    return ExpectedFlow(client, direction, size, start_s, end_s)


@pytest.mark.parametrize(
    ("uplink_bps", "size", "clients", "expected", "reason"),
    [
        (10e6, 125_000_000, 1, 100.0, "the largest dilation in use (100)"),
        (100e6, 125_000_000, 1, 10.0, "the uplink of c0, the fastest link in use"),
        (100e6, 125_000_000, 4, 3.75, "the sum of what flies together"),
        (100e6, 1_250_000, 1, 5.0, "the uplink of c0, the shortest transfer"),
        (5e9, 1_250_000, 1, 0.1, "the uplink of c0, the shortest transfer"),
        (5e9, 125_000_000, 1, 0.2, "the uplink of c0, the fastest link in use"),
    ],
)
def test_the_tightest_limit_wins(
    uplink_bps: float, size: int, clients: int, expected: float, reason: str
) -> None:
    flows = [flow(f"c{index}", size) for index in range(clients)]
    found = choose(star(uplink_bps, 1e6, clients), flows, HOST)
    assert found.k == pytest.approx(expected)
    assert found.because == reason


def test_a_server_link_is_never_dilated_past_the_highest_rate_there_is() -> None:
    assert choose(star(1e6, 1e6, server_bps=40e9), [flow("c0", 10**9)], HOST).k == 25.0


def test_only_what_flies_at_the_same_time_adds_up() -> None:
    topology = star(500e6, 400e6, 3)
    after_another = [flow(f"c{index}", 10**9, float(index), index + 1.0) for index in range(3)]
    assert choose(topology, after_another, HOST).k == pytest.approx(
        1.5e9 / 1000e6
    )  # one ends as the next begins
    with_a_gap = [flow(f"c{index}", 10**9, float(index), index + 0.9) for index in range(3)]
    assert choose(topology, with_a_gap, HOST).k == pytest.approx(1e9 / 500e6)
    # Both directions load the host.
    both = [*with_a_gap, flow("c1", 10**9, 0.1, 0.2, "downlink"), flow("c2", 10**9, 0.15, 0.3, "downlink")]
    assert choose(topology, both, HOST).k == pytest.approx(1.5e9 / (500e6 + 2 * 400e6))
    # Never more than the server's link lets through.
    narrow = star(500e6, 400e6, 3, server_bps=700e6)
    assert choose(narrow, [flow(f"c{n}", 10**9) for n in range(3)], HOST).k == pytest.approx(2.0)


def test_transfers_that_may_meet_share_a_period_and_a_gap_parts_them() -> None:
    topology = star(1e6, 1e6, 4)
    a, b, c = flow("c0", 1, 0.0, 2.0), flow("c1", 1, 1.5, 4.0), flow("c2", 1, 4.1, 5.0)
    assert list(busy_periods(topology, [c, a, b])) == [[a, b], [c]]
    assert list(busy_periods(topology, [])) == []
    inside = flow("c3", 1, 0.5, 1.0)  # an early end inside a longer transfer does not end the period
    assert list(busy_periods(topology, [a, inside, b])) == [[a, inside, b]]
    assert length_s([c, inside, a, b]) == pytest.approx(4.9)


DOWN = [flow("c0", 1, 0.0, 1.0, "downlink"), flow("c1", 1, 0.2, 3.0, "downlink")]


@pytest.mark.parametrize(
    ("server_bps", "begins_s", "part", "apart"),
    [
        (10e6, 0.3, True, True),
        (1.9e6, 0.3, True, False),  # two downloads of 1 Mbit/s fill the server's link
        (10e6, 0.1, True, False),  # a download begins while the upload would be carried
        (10e6, 0.3, False, False),  # somebody may go away meanwhile
    ],
)
def test_downloads_and_uploads_meet_only_on_the_servers_links(
    server_bps: float, begins_s: float, part: bool, apart: bool
) -> None:
    topology = star(1e6, 1e6, server_bps=server_bps)
    up = [flow("c0", 1, begins_s, 2.0)]
    found = list(busy_periods(topology, [*up, *DOWN], part=part))
    assert found == ([DOWN, up] if apart else [sorted([*up, *DOWN], key=lambda flow: flow.started_s)])


def foreseen(topology: Topology, train_s: dict[str, float]) -> list[ExpectedFlow]:
    plans = [
        ClientPlan(name, ONE_S_AT_10_MBIT, ONE_S_AT_10_MBIT, seconds, 0.1, 0.1)
        for name, seconds in train_s.items()
    ]
    with ModelNetwork(topology) as network:
        return expected_flows(topology, run_round(ModelledEnvironment(network), plans, aggregate_s=0.0))


def test_what_is_expected_is_the_model_with_a_slack() -> None:
    down, up = foreseen(star(10e6, 10e6), {"c0": 5.0})
    assert (down.direction, down.size) == ("downlink", ONE_S_AT_10_MBIT)
    took_s = 1.05  # with headers
    assert down.earliest_s <= 0.0
    assert down.latest_s == pytest.approx(1.2 * took_s, rel=0.03)
    assert up.earliest_s == pytest.approx(5.1 + 0.8 * took_s, rel=0.03)
    assert up.latest_s == pytest.approx(5.1 + 2.4 * took_s, rel=0.03)


def ask(dilation: RoundDilation, direction: Direction, client: str = "c0") -> float:
    return dilation(FlowRequest(0, client, direction, 1))


def test_each_busy_period_has_a_k_of_its_own() -> None:
    asked: list[float] = []
    topology = star(5e9, 10e6)
    apart = RoundDilation(topology, foreseen(topology, {"c0": 10.0, "c1": 10.0}), HOST, asked.append)
    assert ask(apart, "downlink") == pytest.approx(50.0)
    assert ask(apart, "uplink") == pytest.approx(0.1)
    assert asked == [pytest.approx(50.0), pytest.approx(0.1)]
    assert apart.uplink.k == pytest.approx(0.1)
    assert apart.beside("c0", "uplink") == ("c0", "c1")
    assert [leg[0] for leg in apart.legs()] == ["downlink", "uplink"]
    # One after the other, each upload has the host for itself, here at its shortest length and not by the sum.
    turns = RoundDilation(
        star(1e9, 10e6), foreseen(star(1e9, 10e6), {"c0": 10.0, "c1": 20.0}), HOST, asked.append
    )
    assert ask(turns, "uplink") == ask(turns, "uplink", "c1") == pytest.approx(0.5)
    assert turns.beside("c1", "uplink") == ("c1",)


def test_an_upload_that_may_meet_a_download_shares_its_k() -> None:
    topology = star(5e9, 10e6)
    for train_s in (0.01, 0.1):  # at once, and by what a download may be late
        flows = foreseen(topology, {"c0": train_s, "c1": 10.0})
        soon = RoundDilation(topology, flows, HOST, lambda _: None, part=False)
        assert ask(soon, "downlink") == ask(soon, "uplink") == pytest.approx(0.1)
        assert ask(soon, "uplink", "c1") == pytest.approx(0.1)


def test_an_upload_that_uses_no_link_of_a_download_waits_for_it_in_wall_time() -> None:
    topology = Topology(
        star(1e6, 1e6, server_bps=40e9).server,
        {
            "c0": AccessLink(uplink=LinkSpec(5e9), downlink=LinkSpec(100e6)),
            "c1": AccessLink(uplink=LinkSpec(5e9), downlink=LinkSpec(10e6)),
        },
    )
    made = RoundDilation(topology, foreseen(topology, {"c0": 0.2, "c1": 10.0}), HOST, lambda _: None)
    download, upload = FlowRequest(0, "c1", "downlink", 1), FlowRequest(1, "c0", "uplink", 1)
    assert made.waits(upload, download)
    assert not made.waits(FlowRequest(2, "c1", "uplink", 1), upload)
    assert ask(made, "downlink") == pytest.approx(5.0)  # 0.1 s of c0's may not be shorter than 20 ms
    assert ask(made, "uplink") == pytest.approx(0.1)
    assert made.wall_s() == pytest.approx(1.05 / 5.0 + 2 * 0.0021 / 0.1, rel=0.05)


def test_where_chance_decides_how_long_transfers_take_all_may_meet() -> None:
    topology = star(5e9, 10e6, loss=0.01)
    lossy = RoundDilation(topology, foreseen(topology, {"c0": 10.0, "c1": 30.0}), HOST, lambda _: None)
    assert ask(lossy, "downlink") == ask(lossy, "uplink", "c1") == pytest.approx(0.1)


def test_a_transfer_that_nobody_expected_suits_the_whole_round() -> None:
    topology = star(5e9, 10e6)
    flows = [flow for flow in foreseen(topology, {"c0": 10.0, "c1": 10.0}) if flow.client == "c0"]
    surprised = RoundDilation(topology, flows, HOST, lambda _: None)
    assert ask(surprised, "downlink", "c1") == pytest.approx(0.1)
    assert surprised.beside("c1", "downlink") == ("c1",)


def test_what_the_scenario_asks_for_is_what_it_gets() -> None:
    topology = star(5e9, 10e6)
    fixed = RoundDilation(
        topology, foreseen(topology, {"c0": 1.0, "c1": 9.0}), HOST, lambda _: None, fixed=3.0
    )
    assert (ask(fixed, "downlink"), ask(fixed, "uplink")) == (3.0, 3.0)
    assert fixed.uplink.because == "given in the scenario"
