"""How much faster than the scenario's links the host's links shall run in one round.

Dilation k runs links at k times their rate and a k-th of their delay and multiplies measured time by k. Above 1 it
saves waiting at low rates; below 1 it makes rates that the host cannot shape, or cannot carry for all clients at once,
measurable at all, and stretches transfers that would be over before a clock can time them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netem.link import Topology
from testbed.round import ClientPlan


@dataclass(frozen=True)
class TruthfulRange:
    """Where this host shapes and times truthfully; the defaults were measured on two cores (docs/clock.md).

    Attributes:
        link_bps: highest rate of one link.
        total_bps: highest sum of the rates of links that carry flows at the same time.
        shortest_s: shortest transfer (wall) whose length is known within a percent.
        longest_k: largest dilation; microseconds of the host's own latency are multiplied by it.
    """

    link_bps: float = 2e9
    total_bps: float = 2.5e9
    shortest_s: float = 0.025
    longest_k: float = 200.0


@dataclass(frozen=True)
class Dilation:
    """The chosen k and what limited it, in words."""

    k: float
    because: str


def choose(topology: Topology, plans: Iterable[ClientPlan], host: TruthfulRange) -> Dilation:
    """The largest k at which every transfer of *plans* stays inside *host*'s truthful range."""
    k, because = host.longest_k, f"the largest dilation in use ({host.longest_k:g})"
    total = {"uplink": 0.0, "downlink": 0.0}
    for plan in plans:
        access = topology.clients[plan.client]
        for direction, link, shared, payload in (
            ("uplink", access.uplink, topology.server.downlink, plan.uplink),
            ("downlink", access.downlink, topology.server.uplink, plan.downlink),
        ):
            rate = min(link.rate_bps, shared.rate_bps)
            total[direction] += rate
            size = payload if isinstance(payload, int) else len(payload)
            alone_s = 8 * size / rate
            for limit, reason in (
                (host.link_bps / link.rate_bps, f"the {direction} of {plan.client}, the fastest link in use"),
                (alone_s / host.shortest_s, f"the {direction} of {plan.client}, the shortest transfer"),
            ):
                if limit < k:
                    k, because = limit, reason
    for direction, shared_bps in (
        ("uplink", topology.server.downlink.rate_bps),
        ("downlink", topology.server.uplink.rate_bps),
    ):
        limit = host.total_bps / min(total[direction], shared_bps)
        if limit < k:
            k, because = limit, f"the sum of all {direction}s"
    return Dilation(k, because)
