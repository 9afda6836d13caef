"""What is missing is named together with what it costs and how to get it."""

from __future__ import annotations

import pytest

from netem import capabilities
from netem.capabilities import Capability
from netem.errors import CapabilityError
from netem.link import AccessLink, LinkSpec, Topology

PLAIN = AccessLink(LinkSpec(1e6), LinkSpec(1e6))
FAR = AccessLink(LinkSpec(1e6, delay_s=0.01), LinkSpec(1e6))


@pytest.fixture
def all_there(monkeypatch):
    for name in (
        "root",
        "namespaces",
        "mnexec",
        "mininet",
        "iproute2",
        "htb",
        "tbf",
        "cls_bpf",
        "bridge",
        "netem",
        "openvswitch",
    ):
        monkeypatch.setattr(capabilities, name, lambda: Capability("x", True, "", ""))


def test_nothing_missing_is_nothing_said(all_there):
    capabilities.require_for(Topology(PLAIN, {"a": FAR}), "reno", "auto")


def test_netem_is_asked_for_only_by_links_that_need_it(all_there, monkeypatch):
    lacking = Capability("netem", False, "delay", "`modprobe sch_netem`", "unknown kind")
    monkeypatch.setattr(capabilities, "netem", lambda: lacking)
    capabilities.require_for(Topology(PLAIN, {"a": PLAIN}), "reno", "auto")
    with pytest.raises(
        CapabilityError,
        match=r"^this machine lacks netem \(unknown kind\), needed for delay, jitter, loss or reordering on "
        r"a\.uplink and 1 more; `modprobe sch_netem`$",
    ):
        capabilities.require_for(Topology(PLAIN, {"a": FAR, "b": FAR}), "reno", "auto")


def test_an_unknown_congestion_control_is_named_with_those_that_are_there(all_there):
    with pytest.raises(
        CapabilityError, match=r"lacks congestion control warp \(this kernel has .*`modprobe tcp_warp`$"
    ):
        capabilities.require_for(Topology(PLAIN, {"a": PLAIN}), "warp", "auto")


def test_every_capability_says_what_its_absence_costs_and_how_to_get_it():
    found = capabilities.capabilities()
    assert all(item.name and item.costs_you and item.fix for item in found)
    assert len({item.name for item in found}) == len(found)
