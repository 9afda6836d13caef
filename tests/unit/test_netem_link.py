"""Links and topologies are checked when they are built."""

from __future__ import annotations

import pickle

import pytest

from netem.errors import LinkSpecError
from netem.flow import FlowRequest, FlowResult
from netem.link import AccessLink, LinkSpec, Topology


@pytest.mark.parametrize(
    ("field", "value", "others"),
    [
        ("rate_bps", 0, {}),
        ("rate_bps", float("nan"), {}),
        ("rate_bps", 2e12, {}),
        ("delay_s", -0.001, {}),
        ("delay_s", float("nan"), {}),
        ("jitter_s", 0.02, {"delay_s": 0.01}),
        ("loss", 1.0, {}),
        ("loss", -0.1, {}),
        ("reorder", 0.1, {}),
        ("reorder", float("nan"), {"delay_s": 0.01}),
    ],
)
def test_a_link_that_cannot_be_is_refused(field, value, others):
    with pytest.raises(LinkSpecError, match=f"^{field}: got "):
        LinkSpec(**{"rate_bps": 1e6, **others, field: value})


def test_dilation_speeds_rates_up_and_shortens_delays():
    link = LinkSpec(10e6, delay_s=0.02, jitter_s=0.01, loss=0.01, reorder=0.02)
    assert link.dilated(50) == LinkSpec(500e6, delay_s=0.0004, jitter_s=0.0002, loss=0.01, reorder=0.02)
    assert link.dilated(1) == link


@pytest.mark.parametrize("dilation", [0, -1, float("nan"), float("inf")])
def test_a_dilation_is_a_positive_number(dilation):
    with pytest.raises(LinkSpecError, match=r"^dilation: got "):
        LinkSpec(1e6).dilated(dilation)


def test_a_topology_has_clients_and_keeps_them():
    access = AccessLink(LinkSpec(1e6), LinkSpec(2e6))
    with pytest.raises(LinkSpecError, match=r"^clients: got \{\}; a topology has at least one client$"):
        Topology(access, {})
    clients = {"a": access}
    topology = Topology(access, clients)
    clients["b"] = access
    assert list(topology.clients) == ["a"]
    assert pickle.loads(pickle.dumps(topology)) == topology


def test_only_a_rate_needs_no_netem():
    assert not LinkSpec(1e6).needs_netem
    assert LinkSpec(1e6, delay_s=0.001).needs_netem
    assert LinkSpec(1e6, loss=0.001).needs_netem


def test_goodput_counts_the_payload_over_the_whole_transfer():
    result = FlowResult(1, "a", "uplink", "ok", 10.0, 12.0, 1_000_000, None, "")
    assert result.duration_s == 2.0
    assert result.goodput_bps == 4e6
    assert FlowRequest(1, "a", "uplink", b"12345").payload_bytes == 5
    assert FlowRequest(1, "a", "uplink", 12345).payload_bytes == 12345
