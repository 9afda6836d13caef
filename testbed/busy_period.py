"""Which transfers of a round may be under way together, told by the modelled network before the first packet flies.

All work of a round is known by then, so what is uncertain is how long transfers take, and by how much the host is late.
Transfers that may overlap, directly or by way of others, form a busy period; between two of them nothing is in flight.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from netem.flow import Direction
from netem.link import Topology
from netem.probe import by_chance, path
from testbed.round import RoundOutcome

# By this share of its length a transfer may be longer or shorter than modelled; no row further off is believed.
_SLACK = 0.2
# A client that starts so much (emulated) after another's last byte may still meet it: both had woken a process.
_WAKING_S = 0.01


@dataclass(frozen=True)
class ExpectedFlow:
    """One transfer as the modelled network has it.

    Attributes:
        size: payload bytes.
        earliest_s, latest_s: when it may be under way, emulated seconds since the round's beginning.
    """

    client: str
    direction: Direction
    size: int
    earliest_s: float
    latest_s: float


def expected_flows(topology: Topology, outcome: RoundOutcome) -> list[ExpectedFlow]:
    """The transfers of a round that was played over modelled links, each with the time during which it may fly.

    Where packets are lost or delayed by chance no time is promised: each transfer may be under way at any time.
    """
    flows: list[ExpectedFlow] = []
    for client in outcome.clients:
        moved_s = 0.0  # by which this client's next transfer may come sooner or later
        for direction, seen in client.transfers():
            chance = by_chance(path(topology, client.client, direction))
            before_s = moved_s + _WAKING_S
            moved_s += _SLACK * seen.seconds
            flows.append(
                ExpectedFlow(
                    client.client,
                    direction,
                    seen.flow.payload_bytes,
                    0.0 if chance else seen.started_s - before_s,
                    outcome.round_s if chance else seen.finished_s + moved_s + _WAKING_S,
                )
            )
    return flows


def busy_periods(flows: Iterable[ExpectedFlow]) -> Iterator[Sequence[ExpectedFlow]]:
    """The flows, grouped into those that may meet, in the order of time."""
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
