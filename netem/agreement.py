"""The modelled against the emulated network: one topology, one schedule, both engines, transfer by transfer."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from netem.errors import TransferError
from netem.flow import Direction, FlowRequest, FlowResult
from netem.link import AccessLink, Topology
from netem.mininet_backend import MininetNetwork
from netem.model_backend import ModelNetwork
from netem.tcp import CongestionControl

GOAL_MEDIAN, GOAL_WORST = 0.03, 0.10


@dataclass(frozen=True, slots=True)
class PlannedFlow:
    """One transfer to be made on both networks, *at_s* after the first; emulated time."""

    client: str
    direction: Direction
    payload_bytes: int
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """One transfer on both networks; times in emulated seconds, whatever the dilation.

    Attributes:
        at_s: when the emulated sender really started; the model starts it at this instant too, so that what
            differs is the network.
        emulated_s, modelled_s: durations.
    """

    client: str
    direction: Direction
    payload_bytes: int
    at_s: float
    emulated_s: float
    modelled_s: float

    @property
    def difference(self) -> float:
        """Modelled less emulated, as a share of emulated: above 0, the model is slower."""
        return self.modelled_s / self.emulated_s - 1.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """What many comparisons come to; differences without their sign."""

    transfers: int
    median: float
    worst: float

    @property
    def good(self) -> bool:
        """Whether the model stands for the emulated network as we ask of it."""
        return self.median <= GOAL_MEDIAN and self.worst <= GOAL_WORST


def summarise(comparisons: Sequence[Comparison]) -> Agreement:
    """Median and worst difference of at least one comparison."""
    differences = [abs(comparison.difference) for comparison in comparisons]
    return Agreement(len(differences), statistics.median(differences), max(differences))


def staggered(
    client_names: Sequence[str], direction: Direction, payload_bytes: int, every_s: float
) -> list[PlannedFlow]:
    """One transfer a client, each *every_s* after the one before: sharing that grows and shrinks."""
    return [
        PlannedFlow(name, direction, payload_bytes, position * every_s)
        for position, name in enumerate(client_names)
    ]


def compare(
    topology: Topology,
    schedule: Sequence[PlannedFlow],
    *,
    state_dir: Path,
    congestion_control: CongestionControl = "cubic",
    dilation: float = 1.0,
    limit_s: float = 600.0,
) -> list[Comparison]:
    """Make the transfers of *schedule* on both networks.

    Args:
        topology: links before dilation.
        schedule: in any order; starts are emulated seconds.
        state_dir: for the emulated network's ledger.
        dilation: k, emulated seconds per wall second.
        limit_s: wall time after which the emulated transfers are given up.
    Raises:
        TransferError: an emulated transfer failed or is not done in time.
    """
    plan = sorted(schedule, key=lambda flow: flow.at_s)
    began_s, results = _emulate(topology, plan, state_dir, congestion_control, dilation, limit_s)
    first_s = min(result.started_s for result in results)
    network = ModelNetwork(
        topology,
        congestion_control=congestion_control,
        dilation=dilation,
        trace_from_s=began_s - first_s,
    )
    for result in sorted(results, key=lambda result: result.started_s):
        flow = plan[result.flow_id]
        request = FlowRequest(result.flow_id, flow.client, flow.direction, flow.payload_bytes)
        network.start(request, result.started_s - first_s)
    modelled = {result.flow_id: result.duration_s for result in network.run()}
    return [
        Comparison(
            result.client,
            result.direction,
            result.payload_bytes,
            (result.started_s - first_s) * dilation,
            result.duration_s * dilation,
            modelled[result.flow_id] * dilation,
        )
        for result in sorted(results, key=lambda result: result.flow_id)
    ]


def _emulate(
    topology: Topology,
    plan: Sequence[PlannedFlow],
    state_dir: Path,
    congestion_control: CongestionControl,
    dilation: float,
    limit_s: float,
) -> tuple[float, list[FlowResult]]:
    """The instant at which traces began, and what came of the flows; the times of both are the wall's."""
    # Incompressible, and the same for flows of one size: what is in them makes no difference to a link.
    payloads = {flow.payload_bytes: os.urandom(flow.payload_bytes) for flow in plan}
    used = {flow.client for flow in plan}
    links: dict[str, AccessLink] = {name: link for name, link in topology.clients.items() if name in used}
    done: list[FlowResult] = []
    network_topology = replace(topology, clients=links)
    with MininetNetwork(
        network_topology,
        state_dir=state_dir,
        congestion_control=congestion_control,
        dilation=dilation,
    ) as network:
        network.prepare(payloads.values())
        began_s = time.monotonic()
        network.reshape(network_topology, dilation, trace_from_s=began_s)
        for flow_id, flow in enumerate(plan):
            while (left_s := began_s + flow.at_s / dilation - time.monotonic()) > 0:
                done += network.wait(left_s)
            network.start(FlowRequest(flow_id, flow.client, flow.direction, payloads[flow.payload_bytes]))
        while len(done) < len(plan):
            if time.monotonic() - began_s > limit_s:
                raise TransferError(f"{len(plan) - len(done)} transfers are not done after {limit_s:g} s")
            done += network.wait(1.0)
    for result in done:
        if result.status != "ok":
            raise TransferError(f"{result.client} {result.direction}: {result.error}")
    return began_s, done


def as_rows(comparisons: Sequence[Comparison]) -> Iterator[tuple[str, ...]]:
    """Cells of a table, the heading first."""
    yield "client", "direction", "payload", "start", "emulated", "modelled", "difference"
    for row in comparisons:
        yield (
            row.client,
            row.direction,
            f"{row.payload_bytes / 1e6:.3f} MB",
            f"{row.at_s:.2f} s",
            f"{row.emulated_s:.3f} s",
            f"{row.modelled_s:.3f} s",
            f"{row.difference:+.1%}",
        )
