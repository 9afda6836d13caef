"""Which transfers of a round may be under way together, told by the modelled network before the first packet flies.

All work of a round is known by then, so what is uncertain is how long transfers take, and by how much the host is late.
Transfers that may meet, directly or by way of others, form a busy period. Downloads and uploads that overlap in time do
not meet where neither fills the server's links: they have no use for the same direction of the same link.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from netem.flow import Direction
from netem.link import LinkSpec, Topology
from netem.probe import by_chance, path
from testbed.round import RoundOutcome

# By this share of its length a transfer may be longer or shorter than modelled; no row further off is believed.
_SLACK = 0.2
# A client that starts so much (emulated) after another's last byte may still meet it: both had woken a process.
_WAKING_S = 0.01
# A server's link that is used to less than this has room for the acknowledgements of what flies the other way.
_FILLED = 0.9


@dataclass(frozen=True)
class ExpectedFlow:
    """One transfer as the modelled network has it; emulated seconds since the round's beginning.

    Attributes:
        size: payload bytes.
        started_s, finished_s: when it would begin and end.
        slack_s: by how much later it may end; its beginning may shift by *early_s* either way.
    """

    client: str
    direction: Direction
    size: int
    started_s: float
    finished_s: float
    early_s: float = 0.0
    slack_s: float = 0.0

    @property
    def earliest_s(self) -> float:
        """From when on it may be under way."""
        return self.started_s - self.early_s

    @property
    def latest_s(self) -> float:
        """Until when it may be under way."""
        return self.finished_s + self.slack_s

    def ways(self, topology: Topology) -> tuple[LinkSpec, LinkSpec]:
        """The client's link and the server's, in its direction."""
        access, shared, *_ = path(topology, self.client, self.direction)
        return access, shared


def expected_flows(topology: Topology, outcome: RoundOutcome) -> list[ExpectedFlow]:
    """The transfers of a round that was played over modelled links, each with the time during which it may fly.

    Where packets are lost or delayed by chance no time is promised: each transfer may be under way at any time.
    """
    flows: list[ExpectedFlow] = []
    for client in outcome.clients:
        early_s = _WAKING_S  # by which this client's next transfer may come sooner or later
        for direction, seen in client.transfers():
            chance = by_chance(path(topology, client.client, direction))
            slack_s = early_s + _SLACK * seen.seconds
            flows.append(
                ExpectedFlow(
                    client.client,
                    direction,
                    seen.flow.payload_bytes,
                    seen.started_s,
                    seen.finished_s,
                    outcome.round_s if chance else early_s,
                    outcome.round_s if chance else slack_s,
                )
            )
            early_s = slack_s
    return flows


def busy_periods(
    topology: Topology, flows: Sequence[ExpectedFlow], *, part: bool = True
) -> Iterator[Sequence[ExpectedFlow]]:
    """The flows, grouped into those that may meet.

    Args:
        part: downloads and uploads that do not meet may be parted although they overlap in time.
    """
    down = [flow for flow in flows if flow.direction == "downlink"]
    up = [flow for flow in flows if flow.direction == "uplink"]
    apart = part and _all_begun(down, up) and not (_fills(topology, down) or _fills(topology, up))
    for group in (down, up) if apart else (flows,):
        yield from _overlapping(group)


def length_s(period: Sequence[ExpectedFlow]) -> float:
    """How much of the modelled time at least one flow of the period is under way, emulated seconds."""
    total_s = reach_s = 0.0
    for flow in sorted(period, key=lambda flow: flow.started_s):
        total_s += max(flow.finished_s - max(flow.started_s, reach_s), 0.0)
        reach_s = max(reach_s, flow.finished_s)
    return total_s


def busiest_bps(topology: Topology, flows: Iterable[ExpectedFlow]) -> float:
    """The highest rate at which all flows together may move bytes at any one time."""
    changes: list[tuple[float, bool, Direction, float]] = []
    shared_bps = {"uplink": topology.server.downlink.top_bps, "downlink": topology.server.uplink.top_bps}
    for flow in flows:
        rate_bps = min(link.top_bps for link in flow.ways(topology))
        changes.append((flow.earliest_s, False, flow.direction, rate_bps))
        changes.append((flow.latest_s, True, flow.direction, -rate_bps))
    now_bps = dict.fromkeys(shared_bps, 0.0)
    most_bps = 0.0
    for _, _, direction, rate_bps in sorted(changes):
        now_bps[direction] += rate_bps
        most_bps = max(most_bps, sum(min(now_bps[way], shared_bps[way]) for way in shared_bps))
    return most_bps


def _overlapping(flows: Iterable[ExpectedFlow]) -> Iterator[Sequence[ExpectedFlow]]:
    period: list[ExpectedFlow] = []
    until_s = 0.0
    for flow in sorted(flows, key=lambda flow: flow.earliest_s):
        if period and flow.earliest_s > until_s:
            yield period
            period = []
        until_s = max(until_s, flow.latest_s) if period else flow.latest_s
        period.append(flow)
    if period:
        yield period


def _all_begun(down: Sequence[ExpectedFlow], up: Sequence[ExpectedFlow]) -> bool:
    """Whether every download has begun by when the first upload may: none is late for having let an upload wait."""
    return max((flow.started_s + flow.early_s for flow in down), default=0.0) < min(
        (flow.earliest_s for flow in up), default=1.0
    )


def _fills(topology: Topology, flows: Sequence[ExpectedFlow]) -> bool:
    """Whether these flows of one direction fill the server's link."""
    if not flows:
        return False
    _, shared = flows[0].ways(topology)
    return busiest_bps(topology, flows) > _FILLED * shared.top_bps
