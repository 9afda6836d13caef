"""The gate probes each kind of link once, says what it found of the links a round uses, and watches the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from netem.errors import TransferError
from netem.link import AccessLink, LinkSpec, Topology
from netem.probe import ProbeRow, longest_wait_s
from netem.trace import Trace
from testbed import gate as module
from testbed.gate import Gate, Leg

WIDE = AccessLink(LinkSpec(40e9), LinkSpec(40e9))
PI, PHONE = AccessLink(LinkSpec(10e6), LinkSpec(50e6)), AccessLink(LinkSpec(10e6), LinkSpec(100e6))
STAR = Topology(WIDE, {"pi-0": PI, "pi-1": PI, "phone-0": PHONE})
NAMES = list(STAR.clients)
UP, DOWN = Leg("uplink", 20.0), Leg("downlink", 5.0)


class Links:
    """Stands where a network stands; *faulty* says which probes come out badly, and how often."""

    def __init__(self) -> None:
        self.reshaped: list[tuple[Topology, float]] = []
        self.probed: list[tuple[tuple[str, ...], str]] = []
        self.faulty: dict[tuple[str, ...], int] = {}

    def reshape(self, topology: Topology, dilation: float) -> None:
        self.reshaped.append((topology, dilation))

    def probe(self, network: object, clients: Sequence[str], direction: str, **_: object) -> ProbeRow:
        assert network is self
        chosen = tuple(clients)
        self.probed.append((chosen, direction))
        left = self.faulty.get(chosen, 0)
        self.faulty[chosen] = left - 1
        took_s = 1.5 if left > 0 else 1.0
        return ProbeRow(
            chosen[0],
            direction,
            len(chosen),
            3,
            1e6,
            1000,
            1.0,
            took_s,
            took_s,
            0.0,
            0.01,
            0.0,
            0.0,
            0.0,  # type: ignore[arg-type]
        )


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> Links:
    made = Links()
    monkeypatch.setattr(module, "probe_path", made.probe)
    return made


def gate(links: Any) -> Gate:
    return Gate(links)


def test_each_kind_of_link_alone_and_all_together_once(links: Links) -> None:
    mine = gate(links)
    rows = mine.probe(STAR, NAMES, [DOWN, UP])
    assert links.probed == [
        (("pi-0",), "downlink"),
        (("phone-0",), "downlink"),
        (tuple(NAMES), "downlink"),
        (("pi-0",), "uplink"),
        (tuple(NAMES), "uplink"),
    ]
    assert len(rows) == 5
    assert {k for _, k in links.reshaped} == {5.0, 20.0}
    assert mine.probe(STAR, NAMES, [DOWN, UP, Leg("uplink", 20.4)]) == []  # no other link worth a look
    assert len(mine.probe(STAR, NAMES, [Leg("uplink", 60.0)])) == 2


def test_what_runs_alike_here_is_one_kind_whatever_it_stands_for(links: Links) -> None:
    """10 Mbit/s at dilation 20 and 100 Mbit/s at dilation 2 are the same link to the kernel."""
    mine = gate(links)
    mine.probe(STAR, NAMES, [UP])
    faster = AccessLink(LinkSpec(100e6), LinkSpec(50e6))
    leg = Leg("uplink", 2.0)
    for server_bps in (40e9, 5e9):  # more than they need, in both
        server = AccessLink(LinkSpec(server_bps), LinkSpec(server_bps))
        assert mine.probe(Topology(server, dict.fromkeys(NAMES, faster)), NAMES, [leg]) == []
    crowded = AccessLink(LinkSpec(250e6), LinkSpec(250e6))  # enough for each alone, not for all
    assert [
        row.flows for row in mine.probe(Topology(crowded, dict.fromkeys(NAMES, faster)), NAMES, [leg])
    ] == [3]
    delayed = AccessLink(LinkSpec(10e6, delay_s=0.02), LinkSpec(50e6))
    assert mine.probe(Topology(WIDE, dict.fromkeys(NAMES, delayed)), NAMES, [UP])


def test_traces_are_probed_at_their_highest_rate(links: Links) -> None:
    trace = Trace((0.0, 1.0), (1e6, 8e6))
    bus = AccessLink(LinkSpec(1e6, trace=trace), LinkSpec(50e6))
    gate(links).probe(Topology(WIDE, {"bus": bus}), ["bus"], [UP])
    (topology, k) = links.reshaped[0]
    assert (topology.clients["bus"].uplink, k) == (LinkSpec(8e6), 20.0)


def test_a_probe_that_met_other_work_is_made_again(links: Links) -> None:
    links.faulty["pi-0",] = 2
    mine = gate(links)
    (row, _) = mine.probe(STAR, ["pi-0", "pi-1"], [UP])
    assert row.fault == ""
    assert mine.doubt(STAR, ["pi-0", "pi-1"], "pi-0", UP) == ""


def test_a_link_that_stays_untrue_is_doubted_until_it_is_not(links: Links) -> None:
    links.faulty["pi-0",] = 4
    mine = gate(links)
    (row, _) = mine.probe(STAR, ["pi-0", "pi-1"], [UP])
    assert row.fault
    why = "probe before the round: 50.0% slower than theory in 3 looks (band 1%)"
    assert mine.doubt(STAR, ["pi-0", "pi-1"], "pi-0", UP) == why
    assert mine.doubt(STAR, ["pi-0", "pi-1"], "pi-1", UP) == why  # its link is of the same kind
    assert mine.doubt(STAR, ["pi-0", "pi-1"], "pi-1", DOWN) == ""
    mine.probe(STAR, ["pi-0", "pi-1"], [UP])  # once more, and it fails for the fourth time
    assert mine.doubt(STAR, ["pi-0", "pi-1"], "pi-0", UP) == why
    (again,) = mine.probe(STAR, ["pi-0", "pi-1"], [UP])
    assert again.fault == ""
    assert mine.doubt(STAR, ["pi-0", "pi-1"], "pi-0", UP) == ""
    assert mine.probe(STAR, ["pi-0", "pi-1"], [UP]) == []


def test_a_host_that_cannot_carry_all_at_once_is_found(links: Links) -> None:
    links.faulty[tuple(NAMES)] = 9
    mine = gate(links)
    mine.probe(STAR, NAMES, [UP])
    assert mine.doubt(STAR, NAMES, "phone-0", UP).startswith(
        "probe before the round: 3 at once, 50.0% slower"
    )


def test_a_probe_that_ends_in_an_error_is_a_doubt_not_the_end_of_the_run(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> ProbeRow:
        raise TransferError("a probe of pi-0 failed: no byte for 30 s")

    monkeypatch.setattr(module, "probe_path", fails)
    mine = gate(links)
    assert mine.probe(STAR, ["pi-0"], [UP]) == []
    assert mine.doubt(STAR, ["pi-0"], "pi-0", UP).endswith("a probe of pi-0 failed: no byte for 30 s")


def test_a_network_that_is_gone_is_waited_for_once_and_all_of_it_doubted(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[str]] = []

    def gone(network: object, clients: Sequence[str], *_: object, **__: object) -> ProbeRow:
        asked.append(clients)
        raise TransferError("a probe of pi-0 was not through after 5 s")

    mine = gate(links)
    with monkeypatch.context() as lost:
        lost.setattr(module, "probe_path", gone)
        assert mine.probe(STAR, NAMES, [DOWN, UP]) == []
    assert asked == [["pi-0"]]  # five were due, each of which would have waited as long
    for leg in (DOWN, UP):
        for name in NAMES:
            assert "was not through after 5 s" in mine.doubt(STAR, NAMES, name, leg)
    assert len(mine.probe(STAR, NAMES, [DOWN, UP])) == 5  # it was not gone after all
    assert not any(mine.doubt(STAR, NAMES, name, leg) for name in NAMES for leg in (DOWN, UP))


@pytest.mark.parametrize("expected_s", [0.1, 2.0])
def test_a_probe_is_waited_for_in_proportion_to_what_it_should_take(expected_s: float) -> None:
    wait_s = longest_wait_s(expected_s, [LinkSpec(1e9)])
    assert 5 * expected_s < wait_s < 5 + 10 * expected_s
    # A connection request that was lost is sent again after 1, 2 and 4 s.
    assert longest_wait_s(expected_s, [LinkSpec(1e9, loss=0.01)]) == wait_s + 7.0


def test_more_clients_than_are_probed_at_once(links: Links) -> None:
    many = Topology(WIDE, {f"c{number}": replace(PI) for number in range(30)})
    gate(links).probe(many, list(many.clients), [UP])
    assert [len(clients) for clients, _ in links.probed] == [1, 8]
