"""How much faster than the scenario's links the host's links shall run in one round.

Dilation k runs links at k times their rate and a k-th of their delay and multiplies measured time by k. Above 1 it
saves waiting at low rates; below 1 it makes rates that the host cannot shape, or cannot carry for all clients at once,
measurable at all, and stretches transfers that would be over before a clock can time them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from netem.flow import Direction, FlowRequest
from netem.link import HIGHEST_RATE_BPS, LinkSpec, Topology
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
    total_bps: float = 1.6e9
    shortest_s: float = 0.025
    longest_k: float = 200.0


@dataclass(frozen=True)
class Dilation:
    """The chosen k and what limited it, in words."""

    k: float
    because: str


class RoundDilation:
    """Chooses k for one round: one for its uploads, a smaller one where need be while downloads are still to come.

    Args:
        fixed: k for everything, as a scenario may ask; None to choose the largest at which every transfer of *plans*
            stays inside *host*'s truthful range.
        reshape: brings the links to another k.
    """

    def __init__(
        self,
        topology: Topology,
        plans: Sequence[ClientPlan],
        host: TruthfulRange,
        reshape: Callable[[float], None],
        fixed: float | None = None,
    ) -> None:
        if fixed is None:
            self.uplink = choose(topology, plans, host, ("uplink",))
            self.both = choose(topology, plans, host, ("uplink", "downlink"))
        else:
            self.uplink = self.both = Dilation(fixed, "given in the scenario")
        self._reshape = reshape

    def __call__(self, request: FlowRequest) -> float:
        """The k at which *request*, which ends a silence, and what may follow it run; the links are there by then."""
        # All downloads start together at the beginning of the round, so a silence that an upload ends is behind them.
        chosen = self.both if request.direction == "downlink" else self.uplink
        self._reshape(chosen.k)
        return chosen.k


def choose(
    topology: Topology, plans: Iterable[ClientPlan], host: TruthfulRange, directions: Iterable[Direction]
) -> Dilation:
    """The largest k at which every transfer of *plans* in *directions* stays inside *host*'s truthful range."""
    wanted = tuple(directions)
    plans = list(plans)
    k, because = host.longest_k, f"the largest dilation in use ({host.longest_k:g})"
    fastest_bps = max(topology.server.uplink.rate_bps, topology.server.downlink.rate_bps)
    if HIGHEST_RATE_BPS / fastest_bps < k:
        k, because = HIGHEST_RATE_BPS / fastest_bps, "the server's link, at the highest rate that can be asked for"
    for direction in wanted:
        shared = topology.server.downlink if direction == "uplink" else topology.server.uplink
        total = 0.0
        for plan in plans:
            link: LinkSpec = getattr(topology.clients[plan.client], direction)
            payload: bytes | int = getattr(plan, direction)
            size = payload if isinstance(payload, int) else len(payload)
            rate = min(link.rate_bps, shared.rate_bps)
            total += rate
            for limit, reason in (
                (host.link_bps / link.rate_bps, f"the {direction} of {plan.client}, the fastest link in use"),
                (
                    8 * size / rate / host.shortest_s,
                    f"the {direction} of {plan.client}, the shortest transfer",
                ),
                (host.total_bps / min(total, shared.rate_bps), f"the sum of all {direction}s"),
            ):
                if 0 < limit < k:
                    k, because = limit, reason
    return Dilation(k, because)
