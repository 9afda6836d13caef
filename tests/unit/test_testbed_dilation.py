"""Which dilation is chosen, worked out by hand from what limits it."""

from __future__ import annotations

import pytest

from netem.flow import FlowRequest
from netem.link import AccessLink, LinkSpec, Topology
from testbed.dilation import RoundDilation, TruthfulRange, choose
from testbed.round import ClientPlan

HOST = TruthfulRange(link_bps=1e9, total_bps=1.5e9, shortest_s=0.02, longest_k=100.0)


def star(uplink_bps: float, downlink_bps: float, clients: int = 2, server_bps: float = 1e10) -> Topology:
    access = AccessLink(uplink=LinkSpec(uplink_bps), downlink=LinkSpec(downlink_bps))
    server = AccessLink(uplink=LinkSpec(server_bps), downlink=LinkSpec(server_bps))
    return Topology(server, {f"c{index}": access for index in range(clients)})


def plans(uplink: int, downlink: int, train_s: float = 10.0, clients: int = 2) -> list[ClientPlan]:
    return [ClientPlan(f"c{index}", downlink, uplink, train_s, 0.1, 0.1) for index in range(clients)]


@pytest.mark.parametrize(
    ("uplink_bps", "size", "clients", "expected", "reason"),
    [
        (10e6, 125_000_000, 1, 100.0, "the largest dilation in use (100)"),
        (100e6, 125_000_000, 1, 10.0, "the uplink of c0, the fastest link in use"),
        (100e6, 125_000_000, 4, 3.75, "the sum of all uplinks"),
        (100e6, 1_250_000, 1, 5.0, "the uplink of c0, the shortest transfer"),
        (5e9, 1_250_000, 1, 0.1, "the uplink of c0, the shortest transfer"),
        (5e9, 125_000_000, 1, 0.2, "the uplink of c0, the fastest link in use"),
    ],
)
def test_the_tightest_limit_wins(
    uplink_bps: float, size: int, clients: int, expected: float, reason: str
) -> None:
    found = choose(star(uplink_bps, 1e6, clients), plans(size, 1, clients=clients), HOST, ("uplink",))
    assert found.k == pytest.approx(expected)
    assert found.because == reason


def test_a_server_link_is_never_dilated_past_the_highest_rate_there_is() -> None:
    assert choose(star(1e6, 1e6, server_bps=40e9), plans(10**9, 10**9), HOST, ("uplink",)).k == 25.0


def ask(dilation: RoundDilation, direction: str) -> float:
    return dilation(FlowRequest(0, "c0", direction, 1))  # type: ignore[arg-type]


def test_downloads_have_a_k_of_their_own_where_no_upload_can_meet_them() -> None:
    asked: list[float] = []
    topology = star(5e9, 10e6)
    apart = RoundDilation(topology, plans(1_250_000, 1_250_000), HOST, asked.append)
    assert ask(apart, "downlink") == pytest.approx(50.0)
    assert ask(apart, "uplink") == pytest.approx(0.1)
    assert asked == [pytest.approx(50.0), pytest.approx(0.1)]
    together = RoundDilation(topology, plans(1_250_000, 1_250_000, train_s=0.01), HOST, asked.append)
    assert ask(together, "downlink") == pytest.approx(0.1)


def test_what_the_scenario_asks_for_is_what_it_gets() -> None:
    fixed = RoundDilation(star(5e9, 10e6), plans(1_250_000, 1_250_000), HOST, lambda _: None, fixed=3.0)
    assert (ask(fixed, "downlink"), ask(fixed, "uplink")) == (3.0, 3.0)
    assert fixed.uplink.because == "given in the scenario"
