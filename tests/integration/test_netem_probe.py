"""Probes find the links as they are, keep what they found for one boot, and say so when a link is not what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from netem import probe as module
from netem.link import AccessLink, LinkSpec, Topology
from netem.mininet_backend import MininetNetwork
from netem.probe import HostRange, ProbeRow, band, probe, truthful_range

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
        assert (
            -0.06 < row.error < 0.2
        )  # a gift of two frames is 5 % of so short a transfer; a busy host makes it long
        assert 0 < row.measured_rtt_s < 0.01
    assert network.wait(0.0) == []


def test_a_link_that_is_not_what_it_says_is_found(network):
    """The shape that the network believes in is not the one that its links have."""
    believed = network._topology
    network.reshape(Topology(WIDE, dict.fromkeys(believed.clients, AccessLink(LinkSpec(5e6), QUICK))))
    network._topology = believed
    (row, *_) = probe(network, wall_s=0.05, looks=1)
    network.reshape(believed)
    assert row.error > 0.8
    assert not row.ok


def test_the_hosts_range_is_measured_once_a_boot(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RATES_BPS", (10e6, 20e6))
    monkeypatch.setattr(module, "TOTALS_BPS", (80e6,))
    monkeypatch.setattr(module, "DURATIONS_S", (0.05,))
    monkeypatch.setattr(module, "band", lambda rate: 0.5)
    noted: list[ProbeRow] = []
    measured = truthful_range(tmp_path, note=noted.append)
    assert isinstance(measured, HostRange)
    assert (measured.link_bps, measured.total_bps) == (20e6, 80e6)
    assert list(measured.rows) == noted
    monkeypatch.setattr(module, "_measure", None)  # must not be called again
    assert truthful_range(tmp_path) == measured
    path = tmp_path / "host-range.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "another"}))
    with pytest.raises(TypeError):
        truthful_range(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_bands_are_those_of_the_design():
    assert [band(rate) for rate in (10e6, 1e9, 2e9, 5e9)] == [0.01, 0.01, 0.02, 0.05]


def test_an_error_is_relative_and_slow_is_positive():
    row = ProbeRow("a", "uplink", 2, 3, 1e6, 1000, 1.0, 1.02, 0.0, 0.01, 0.0, 0.0)
    assert row.error == pytest.approx(0.02)
    assert not row.ok
    assert row.expected_goodput_bps == 16_000
    assert row.goodput_bps == pytest.approx(16_000 / 1.02)
