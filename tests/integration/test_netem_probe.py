"""Probes find the links as they are, keep what they found for one boot, and say so when a link is not what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from looks import seen

from netem import host_range as module
from netem.host_range import HostRange, known_range, truthful_range
from netem.link import AccessLink, LinkSpec, Topology
from netem.mininet_backend import MininetNetwork
from netem.probe import ProbeRow, band, probe, probe_path

pytestmark = pytest.mark.root

SLOW, QUICK = LinkSpec(10e6), LinkSpec(50e6)
WIDE = AccessLink(LinkSpec(10e9), LinkSpec(10e9))


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Iterator[MininetNetwork]:
    clients = {f"c{number}": AccessLink(SLOW, QUICK) for number in range(3)} | {
        "other": AccessLink(QUICK, QUICK)
    }
    with MininetNetwork(Topology(WIDE, clients), state_dir=tmp_path_factory.mktemp("state")) as up:
        yield up


def test_each_distinct_link_is_probed_once(network):
    rows = probe(network, wall_s=0.05)
    assert [(row.client, row.direction, row.rate_bps) for row in rows] == [
        ("c0", "uplink", 10e6),
        ("other", "uplink", 50e6),
        ("c0", "downlink", 50e6),
    ]
    for row in rows:
        assert row.expected_s == pytest.approx(0.05, rel=0.15)
        # A gift of two frames is 5 % of so short a transfer; a busy host makes it long.
        assert row.error > -0.06
        assert row.fastest_rtt_s > 0
    assert network.wait(0.0) == []
    seen(
        lambda: probe(network, wall_s=0.05),
        lambda rows: all(row.error < 0.2 and row.measured_rtt_s < 0.01 for row in rows),
    )


def test_a_link_that_is_not_what_it_says_is_found(network):
    """The shape that the network believes in is not the one that its links have."""
    believed = network._topology
    network.reshape(Topology(WIDE, dict.fromkeys(believed.clients, AccessLink(LinkSpec(5e6), QUICK))))
    network._topology = believed
    (row, *_) = probe(network, wall_s=0.05, looks=1)
    network.reshape(believed)
    assert row.error > 0.8
    assert not row.ok
    assert "slower than theory in 1 looks (band 3%)" in row.fault


def test_clients_that_share_a_link_are_probed_together(network):
    """Three clients of 50 Mbit/s into a server's 30: the expectation is that of the model, sharing included."""
    before = network._topology
    narrow = AccessLink(LinkSpec(10e9), LinkSpec(30e6))
    network.reshape(Topology(narrow, dict.fromkeys(before.clients, AccessLink(QUICK, QUICK))))
    row = seen(
        lambda: probe_path(network, ["c0", "c1", "c2"], "uplink", wall_s=0.05, looks=1),
        lambda row: -0.15 < row.error < 0.5,
    )
    network.reshape(before)
    assert (row.flows, row.rate_bps) == (3, 50e6)
    assert row.payload_bytes == pytest.approx(30e6 / 8 * 0.05, rel=0.01)
    assert row.expected_goodput_bps == pytest.approx(30e6 * 1448 / 1514, rel=0.1)


def test_the_hosts_range_is_measured_once_a_boot(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RATES_BPS", (10e6, 20e6))
    monkeypatch.setattr(module, "TOTALS_BPS", (80e6,))
    monkeypatch.setattr(module, "DURATIONS_S", (0.05,))
    monkeypatch.setattr(module, "band", lambda rate: 50.0)  # what passes is not the question here
    monkeypatch.setattr(ProbeRow, "_in_time", lambda row, rtt_s: True)
    noted: list[ProbeRow] = []
    measured = truthful_range(tmp_path, note=noted.append)
    assert isinstance(measured, HostRange)
    assert (measured.link_bps, measured.total_bps) == (20e6, 80e6)
    assert [*measured.links, *measured.totals, *measured.shorts] == noted
    monkeypatch.setattr(module, "_measure", None)  # must not be called again
    assert truthful_range(tmp_path) == measured
    path = tmp_path / "host-range.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "another"}))
    assert known_range(tmp_path) is None
    with pytest.raises(TypeError):
        truthful_range(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_bands_are_those_of_the_design():
    assert [band(rate) for rate in (10e6, 1e9, 2e9, 5e9)] == [0.01, 0.01, 0.02, 0.05]


def row(**changes: object) -> ProbeRow:
    values = {
        "client": "a",
        "direction": "uplink",
        "flows": 1,
        "looks": 3,
        "rate_bps": 1e6,
        "payload_bytes": 2000,
        "expected_s": 1.0,
        "measured_s": 1.0,
        "fastest_s": 1.0,
        "spread_s": 0.0,
        "band": 0.01,
        "expected_rtt_s": 0.1,
        "measured_rtt_s": 0.1,
        "fastest_rtt_s": 0.1,
    }
    return ProbeRow(**{**values, **changes})  # type: ignore[arg-type]


def test_an_error_is_relative_and_slow_is_positive():
    slow = row(measured_s=1.02)
    assert slow.error == pytest.approx(0.02)
    assert not slow.ok
    assert slow.expected_goodput_bps == 16_000
    assert slow.goodput_bps == pytest.approx(16_000 / 1.02)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"measured_s": 1.3, "spread_s": 0.5}, ""),  # one look got through: it was not the link
        ({"measured_s": 1.3, "fastest_s": 1.2}, "20.0% slower than theory in 3 looks (band 1%)"),
        ({"measured_s": 0.9, "fastest_s": 0.9}, "10.0% faster than theory (band 1%)"),
        ({"measured_rtt_s": 0.3, "fastest_rtt_s": 0.1}, ""),
        ({"measured_rtt_s": 0.3, "fastest_rtt_s": 0.2}, "a round trip took 200 ms, not 100 ms"),
        ({"measured_rtt_s": 0.3, "fastest_rtt_s": 0.2, "flows": 2}, ""),  # behind the others' packets
        ({"measured_s": 4.0, "fastest_s": 3.0, "band": None}, ""),
    ],
)
def test_a_link_is_at_fault_where_not_even_one_look_was_true(changes, fault):
    assert row(**changes).fault == fault
