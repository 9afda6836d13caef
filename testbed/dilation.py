"""How much faster than the scenario's links the host's links shall run while packets fly.

Dilation k runs links at k times their rate and a k-th of their delay and multiplies measured time by k. Above 1 it
saves waiting at low rates; below 1 it makes rates that the host cannot shape, or cannot carry for all clients at once,
measurable at all, and stretches transfers that would be over before a clock can time them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from netem.flow import Direction, FlowRequest
from netem.host_range import DURATIONS_S, HostRange
from netem.link import HIGHEST_RATE_BPS, LinkSpec, Topology
from testbed.busy_period import ExpectedFlow, busiest_bps, busy_periods, length_s


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
    """Chooses k for one round: one for every busy period, as k can only change while nothing is in flight.

    Args:
        flows: the transfers expected (`testbed.busy_period`).
        host: where links are truthful; k is the largest at which every transfer of a busy period stays inside.
        reshape: brings the links to another k.
        fixed: k for everything, as a scenario may ask; None to choose.
        part: transfers that have no use for the same link may be carried one after the other, where that suits the host
            better; False where one may be cut off by what happens meanwhile.
    """

    def __init__(
        self,
        topology: Topology,
        flows: Sequence[ExpectedFlow],
        host: TruthfulRange,
        reshape: Callable[[float], None],
        fixed: float | None = None,
        part: bool = True,
    ) -> None:
        self._topology, self._flows, self._host, self._fixed = topology, flows, host, fixed
        self._reshape = reshape
        periods = [flows] if fixed is not None else busy_periods(topology, flows, part=part)
        self._periods = [(period, self._choose(period)) for period in periods]
        self._of = {
            (flow.client, flow.direction): (period, chosen)
            for period, chosen in self._periods
            for flow in period
        }

    def __call__(self, request: FlowRequest) -> float:
        """The k at which *request*, which ends a silence, and what may follow it run; the links are there by then."""
        k = self.of(request.client, request.direction).k
        self._reshape(k)
        return k

    def waits(self, request: FlowRequest, flying: FlowRequest) -> bool:
        """Whether *request*, due now, is carried once *flying* is over: they use no link in the same direction."""
        period, _ = self._of.get((request.client, request.direction), (None, None))
        other, _ = self._of.get((flying.client, flying.direction), (None, None))
        known = period is not None and other is not None
        return known and period is not other and request.direction != flying.direction

    def of(self, client: str, direction: Direction) -> Dilation:
        """The k of one transfer; of one that nobody expected, the k that suits the whole round."""
        found = self._of.get((client, direction))
        return found[1] if found else self._choose(self._flows)

    def beside(self, client: str, direction: Direction) -> tuple[str, ...]:
        """The clients whose transfers in this direction may meet this one, itself among them."""
        period, _ = self._of.get((client, direction), ((), None))
        return tuple(flow.client for flow in period if flow.direction == direction) or (client,)

    def wall_s(self) -> float:
        """How long the packets of the round fly, in wall-clock seconds, if all goes as expected."""
        return sum(length_s(period) / chosen.k for period, chosen in self._periods)

    def legs(self) -> Iterator[tuple[Direction, float, tuple[str, ...]]]:
        """What links will be used for: direction, k, and the clients that may send at the same time."""
        for period, chosen in self._periods:
            for direction in dict.fromkeys(flow.direction for flow in period):
                yield (
                    direction,
                    chosen.k,
                    tuple(flow.client for flow in period if flow.direction == direction),
                )

    @property
    def uplink(self) -> Dilation:
        """The smallest k of any upload."""
        chosen = [
            dilation
            for period, dilation in self._periods
            if any(flow.direction == "uplink" for flow in period)
        ]
        return min(chosen or [self._choose(self._flows)], key=lambda dilation: dilation.k)

    def _choose(self, flows: Sequence[ExpectedFlow]) -> Dilation:
        if self._fixed is not None:
            return Dilation(self._fixed, "given in the scenario")
        return choose(self._topology, flows, self._host)


def choose(topology: Topology, flows: Sequence[ExpectedFlow], host: TruthfulRange) -> Dilation:
    """The largest k at which each of *flows*, and all that fly together, stay inside *host*'s truthful range."""
    k, because = host.longest_k, f"the largest dilation in use ({host.longest_k:g})"
    fastest_bps = max(topology.server.uplink.top_bps, topology.server.downlink.top_bps)
    for limit, reason in (
        (HIGHEST_RATE_BPS / fastest_bps, "the server's link, at the highest rate that can be asked for"),
        *(found for flow in flows for found in _limits(topology, flow, host)),
        (host.total_bps / (busiest_bps(topology, flows) or math.inf), "the sum of what flies together"),
    ):
        if 0 < limit < k:
            k, because = limit, reason
    return Dilation(k, because)


def _limits(topology: Topology, flow: ExpectedFlow, host: TruthfulRange) -> Iterator[tuple[float, str]]:
    link, shared = flow.ways(topology)
    rate_bps = min(link.top_bps, shared.top_bps)
    whose = f"the {flow.direction} of {flow.client}"
    yield host.link_bps / link.top_bps, f"{whose}, the fastest link in use"
    yield _step_s(link) / host.shortest_s, f"{whose}, whose rate changes soonest"
    yield 8 * flow.size / rate_bps / host.shortest_s, f"{whose}, the shortest transfer"


def _step_s(link: LinkSpec) -> float:
    """The shortest time for which a link keeps its rate."""
    trace = link.trace
    if trace is None:
        return math.inf
    return min(end - start for start, end in pairwise((*trace.times_s, trace.length_s)))
