"""How much faster than the scenario's links the host's links shall run in one round.

Dilation k runs links at k times their rate and a k-th of their delay and multiplies measured time by k. Above 1 it
saves waiting at low rates; below 1 it makes rates that the host cannot shape, or cannot carry for all clients at once,
measurable at all, and stretches transfers that would be over before a clock can time them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from netem.flow import Direction, FlowRequest
from netem.host_range import DURATIONS_S, HostRange
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


def usable(measured: HostRange | None) -> TruthfulRange:
    """What a run relies on: the range above, or less where `testbed check` found this host less truthful.

    Never more: a host that shapes 10 Gbit/s while it is quiet is not quiet in every minute of a long sweep.
    """
    usual = TruthfulRange()
    if measured is None or not (measured.link_bps and measured.total_bps):
        return usual
    shortest_s = measured.shortest_s or 2 * DURATIONS_S[-1]
    return TruthfulRange(
        link_bps=min(usual.link_bps, measured.link_bps),
        total_bps=min(usual.total_bps, measured.total_bps),
        shortest_s=max(usual.shortest_s, shortest_s),
    )


@dataclass(frozen=True)
class Dilation:
    """The chosen k and what limited it, in words."""

    k: float
    because: str


class RoundDilation:
    """Chooses k for one round: one for its uploads, another for its downloads.

    Where a fast client's upload may begin while a slow one still downloads, both must suit one k.

    Args:
        fixed: k for everything, as a scenario may ask; None to choose the largest at which every transfer of *plans*
            stays inside *host*'s truthful range.
        reshape: brings the links to another k.

    Attributes:
        apart: all downloads are expected to be over before the first upload begins, or one k serves both.
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
            traced = any(
                top_bps(link.downlink) != link.downlink.rate_bps for link in topology.clients.values()
            )
            self.apart = not traced and (
                _latest_download_s(topology, plans) * _APART < _earliest_upload_s(topology, plans)
            )
            self.downlink = choose(
                topology, plans, host, ("downlink",) if self.apart else ("uplink", "downlink")
            )
        else:
            self.uplink = self.downlink = Dilation(fixed, "given in the scenario")
            self.apart = True
        self._reshape = reshape

    def __call__(self, request: FlowRequest) -> float:
        """The k at which *request*, which ends a silence, and what may follow it run; the links are there by then."""
        # All downloads start together at the beginning of the round, so a silence that an upload ends is behind them.
        chosen = self.downlink if request.direction == "downlink" else self.uplink
        self._reshape(chosen.k)
        return chosen.k


# Downloads are expected to be over by this much before the first upload; estimates are for links without surprises.
_APART = 1.25


def _alone_s(topology: Topology, plan: ClientPlan) -> float:
    """How long one client's download takes when nobody else's does."""
    rate = min(topology.clients[plan.client].downlink.rate_bps, topology.server.uplink.rate_bps)
    return 8 * _size(plan.downlink) / rate + topology.clients[plan.client].downlink.delay_s


def _latest_download_s(topology: Topology, plans: Sequence[ClientPlan]) -> float:
    """By when all downloads are over at the latest: one after the other through the server's link, then the slowest."""
    shared_s = sum(8 * _size(plan.downlink) for plan in plans) / topology.server.uplink.rate_bps
    return shared_s + max(plan.pack_s + _alone_s(topology, plan) for plan in plans)


def _earliest_upload_s(topology: Topology, plans: Sequence[ClientPlan]) -> float:
    """When the first upload begins, at the earliest."""
    return min(
        plan.pack_s + _alone_s(topology, plan) + plan.unpack_s + plan.train_s + plan.compress_s
        for plan in plans
    )


def _size(payload: bytes | int) -> int:
    return payload if isinstance(payload, int) else len(payload)


def choose(
    topology: Topology, plans: Iterable[ClientPlan], host: TruthfulRange, directions: Iterable[Direction]
) -> Dilation:
    """The largest k at which every transfer of *plans* in *directions* stays inside *host*'s truthful range."""
    wanted = tuple(directions)
    plans = list(plans)
    k, because = host.longest_k, f"the largest dilation in use ({host.longest_k:g})"
    fastest_bps = max(top_bps(topology.server.uplink), top_bps(topology.server.downlink))
    if HIGHEST_RATE_BPS / fastest_bps < k:
        k, because = (
            HIGHEST_RATE_BPS / fastest_bps,
            "the server's link, at the highest rate that can be asked for",
        )
    for direction in wanted:
        shared = topology.server.downlink if direction == "uplink" else topology.server.uplink
        total = 0.0
        for plan in plans:
            link: LinkSpec = getattr(topology.clients[plan.client], direction)
            payload: bytes | int = getattr(plan, direction)
            size = _size(payload)
            rate = min(top_bps(link), top_bps(shared))
            total += rate
            for limit, reason in (
                (host.link_bps / top_bps(link), f"the {direction} of {plan.client}, the fastest link in use"),
                (
                    _step_s(link) / host.shortest_s,
                    f"the {direction} of {plan.client}, whose rate changes soonest",
                ),
                (
                    8 * size / rate / host.shortest_s,
                    f"the {direction} of {plan.client}, the shortest transfer",
                ),
                (host.total_bps / min(total, top_bps(shared)), f"the sum of all {direction}s"),
            ):
                if 0 < limit < k:
                    k, because = limit, reason
    return Dilation(k, because)


def top_bps(link: LinkSpec) -> float:
    """The highest rate that a link ever has."""
    return link.rate_bps if link.trace is None else link.trace.peak_bps


def _step_s(link: LinkSpec) -> float:
    """The shortest time for which a link keeps its rate."""
    trace = link.trace
    if trace is None:
        return math.inf
    return min(end - start for start, end in pairwise((*trace.times_s, trace.length_s)))
