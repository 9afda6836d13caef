"""Dilation on links with delay: k times the rate and a k-th of the delay give a transfer a k-th of its length."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from netem.flow import FlowRequest
from netem.link import AccessLink, LinkSpec, Topology
from netem.mininet_backend import MininetNetwork

pytestmark = pytest.mark.root

FAST = LinkSpec(1e9)
# Slow enough that a kernel which is one process on a busy machine keeps up at k times the rate.
LINKS = [LinkSpec(1e6, 0.2), LinkSpec(2e6, 0.08)]
SIZE, K = 120_000, 4.0
TRIES = 12


def topology(wire: LinkSpec) -> Topology:
    return Topology(AccessLink(FAST, FAST), {"wire": AccessLink(wire, FAST)})


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MininetNetwork]:
    with MininetNetwork(topology(FAST), state_dir=tmp_path_factory.mktemp("state")) as up:
        yield up


def transfer_s(network: MininetNetwork, number: int) -> float:
    """Wall seconds of one upload."""
    network.start(FlowRequest(number, "wire", "uplink", os.urandom(SIZE)))
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        for result in network.wait(1.0):
            assert result.status == "ok", result.error
            return result.duration_s
    raise AssertionError("no result within 30 s")


@pytest.mark.parametrize("link", LINKS, ids=["200ms", "80ms"])
def test_a_delayed_transfer_takes_the_same_emulated_time_at_any_dilation(
    network: MininetNetwork, link: LinkSpec
) -> None:
    found: dict[float, list[float]] = {1.0: [], K: []}
    while len(found[K]) < TRIES:  # a busy host can only slow a transfer down: the fastest of each counts
        for k, times in found.items():
            network.reshape(topology(link), k)
            times.append(k * transfer_s(network, len(times) + (0 if k == 1.0 else 100)))
        if min(found[K]) == pytest.approx(min(found[1.0]), rel=0.02):
            return
    pytest.fail(f"emulated seconds at k = 1: {found[1.0]}; at k = {K:g}: {found[K]}")
