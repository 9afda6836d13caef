"""One look at a shaped link before it is believed: TCP goodput and round trip, against theory.

Theory is the modelled engine: headers, handshake and slow start on the same links.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from netem.errors import TransferError
from netem.flow import Direction, FlowRequest, FlowResult
from netem.link import LinkSpec, Topology
from netem.mininet_backend import MininetNetwork
from netem.model_backend import ModelNetwork
from netem.real_time import real_time
from netem.shaper import FRAME_BYTES
from netem.tcp import SYN_BYTES
from netem.traffic_control import QueueState

# Numbers that no flow of a run has, so that a probe cannot be mistaken for one.
_FIRST_FLOW = 1 << 48
_LEAST_PAYLOAD_BYTES, _LARGEST_PAYLOAD_BYTES = 1, 256_000_000
# Longest wait for the transfers of one look: so long at least, and so many times what theory says.
_LEAST_LIMIT_S, _LIMIT_FACTOR = 4.0, 8.0

RTT_BAND, RTT_SLACK_S = 0.05, 0.0005
LONGEST_WALL_S = 2.0
# A probe is at least so many frames of its link and so many round trips long, as far as `LONGEST_WALL_S` allows.
_FRAMES, _ROUND_TRIPS = 30, 8
# htb lets a frame go when it begins, a wire when it ends: one at either end of a transfer.
_GIFT_FRAMES = 1.5
# Over links with delay the model itself may be so far off: slow start over a long way (docs/network-model.md).
_DELAYED_BAND, _DELAYED_BBR_BAND = 0.10, 0.20
MOST_TOGETHER = 8


def band(rate_bps: float) -> float:
    """How far goodput may lie from theory (relative): 1 % to 1 Gbit/s, 2 % to 2 Gbit/s, 5 % above."""
    return 0.01 if rate_bps <= 1e9 else 0.02 if rate_bps <= 2e9 else 0.05


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """One look: *flows* transfers, started together.

    Attributes:
        client: whose link, or the first of several.
        rate_bps: of that link, as it ran on this host (dilation included).
        payload_bytes: of all flows together.
        expected_s, measured_s: the longest of the transfers, wall time; measured is the median of *looks*, each in
            proportion to what the model expects of flows that start when its senders really did.
        fastest_s: of the looks. Other work on a host only ever makes a transfer longer.
        spread_s: between the fastest and the slowest look.
        band: largest relative error that passes; None where packets are lost, delayed or reordered by chance, so that
            a single transfer may take any time.
        expected_rtt_s, measured_rtt_s: of an idle link, without and with what the host adds; median.
        fastest_rtt_s: the shortest of the looks.
        rtt_slack_s: by how much the round trip may be off, in addition to 5 %.
        kernel: the queues of the client's link in this direction, as the kernel has them.
    """

    client: str
    direction: Direction
    flows: int
    looks: int
    rate_bps: float
    payload_bytes: int
    expected_s: float
    measured_s: float
    fastest_s: float
    spread_s: float
    band: float | None
    expected_rtt_s: float
    measured_rtt_s: float
    fastest_rtt_s: float
    rtt_slack_s: float = RTT_SLACK_S
    kernel: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """Relative; positive is slower than theory."""
        return self.measured_s / self.expected_s - 1.0

    @property
    def ok(self) -> bool:
        """Whether the host kept this link true in most looks."""
        within = self.band is None or abs(self.error) <= self.band
        return within and self._in_time(self.measured_rtt_s)

    @property
    def fault(self) -> str:
        """Why the link itself is not what it was asked to be, in words; empty where it is.

        A look that other work held up says nothing about the link, so the fastest look counts against a slow one.
        """
        slowest = self.fastest_s / self.expected_s - 1.0
        if self.band is not None and slowest > self.band:
            return f"{slowest:.1%} slower than theory in {self.looks} looks (band {self.band:.0%})"
        if self.band is not None and self.error < -self.band:
            return f"{-self.error:.1%} faster than theory (band {self.band:.0%})"
        if not self._in_time(self.fastest_rtt_s):
            found, wanted = self.fastest_rtt_s * 1e3, self.expected_rtt_s * 1e3
            return f"a round trip took {found:.3g} ms, not {wanted:.3g} ms"
        return ""

    def _in_time(self, rtt_s: float) -> bool:
        late_s = abs(rtt_s - self.expected_rtt_s)
        return self.flows > 1 or late_s <= RTT_BAND * self.expected_rtt_s + self.rtt_slack_s

    @property
    def goodput_bps(self) -> float:
        return 8.0 * self.payload_bytes / self.measured_s

    @property
    def expected_goodput_bps(self) -> float:
        return 8.0 * self.payload_bytes / self.expected_s


def probe_row(fields: Mapping[str, Any]) -> ProbeRow:
    """A row again from what `dataclasses.asdict` and JSON made of it."""
    return ProbeRow(**{**fields, "kernel": tuple(fields.get("kernel", ()))})


def probe(network: MininetNetwork, *, wall_s: float = 0.1, looks: int = 3) -> list[ProbeRow]:
    """One row for each distinct link of *network*, as it is shaped now. Call it while no flow is under way.

    Args:
        wall_s: about how long one transfer takes at least.
    """
    topology = network.shaped
    return [
        probe_path(network, [client], direction, wall_s=wall_s, looks=looks)
        for client, direction in distinct(topology)
    ]


def distinct(topology: Topology) -> Iterator[tuple[str, Direction]]:
    """The first client of each kind of link, uplinks first."""
    for direction in get_args(Direction):
        seen: set[LinkSpec] = set()
        for client, access in topology.clients.items():
            spec: LinkSpec = getattr(access, direction)
            if spec not in seen:
                seen.add(spec)
                yield client, direction


def probe_path(
    network: MininetNetwork,
    clients: Sequence[str],
    direction: Direction,
    *,
    wall_s: float = 0.1,
    looks: int = 3,
    allowed: float | None = None,
) -> ProbeRow:
    """Transfers of *clients*, all started together, *looks* times, over the links as they are shaped now.

    Args:
        clients: at most `MOST_TOGETHER`; of links without traces.
        allowed: instead of the band of the rate.
    Raises:
        TransferError: a transfer failed.
    """
    topology = network.shaped
    ways = path(topology, clients[0], direction)
    rate_bps = ways[0].rate_bps
    rtt_s = _round_trip_s(ways)
    shares = _shares(topology, clients, direction)
    frame_s = 8 * FRAME_BYTES / min(shares)
    wall_s = max(wall_s, min(max(_FRAMES * frame_s, _ROUND_TRIPS * rtt_s), LONGEST_WALL_S))
    sizes = [
        min(max(round(share_bps / 8 * wall_s), _LEAST_PAYLOAD_BYTES), _LARGEST_PAYLOAD_BYTES)
        for share_bps in shares
    ]
    payloads = {size: bytes(size) for size in sizes}
    requests = [
        FlowRequest(_FIRST_FLOW + number, client, direction, payloads[size])
        for number, (client, size) in enumerate(zip(clients, sizes, strict=True))
    ]
    network.prepare(payloads.values())
    expected_s = _modelled_s(topology, [(request, 0.0) for request in requests])
    limit_s = longest_wait_s(expected_s, ways)
    with real_time():
        seen = [_all(network, requests, limit_s) for _ in range(looks)]
    network.prepare([])
    # In units of the theory for flows that start at the same instant, which no host can do.
    measured = [
        max(result.duration_s for result in results)
        * (expected_s / _modelled_s(topology, list(zip(requests, _starts_s(results), strict=True))))
        for results in seen
    ]
    handshakes = [results[0].handshake_s or 0.0 for results in seen]
    limit: float | None = allowed
    if allowed is None and not by_chance(ways):
        limit = max(
            band(rate_bps), _GIFT_FRAMES * frame_s / expected_s, delay_band(ways, network.congestion_control)
        )
    return ProbeRow(
        client=clients[0],
        direction=direction,
        flows=len(clients),
        looks=looks,
        rate_bps=rate_bps,
        payload_bytes=sum(sizes),
        expected_s=expected_s,
        measured_s=statistics.median(measured),
        fastest_s=min(measured),
        spread_s=max(measured) - min(measured),
        band=limit,
        expected_rtt_s=rtt_s,
        measured_rtt_s=statistics.median(handshakes),
        fastest_rtt_s=min(handshakes),
        rtt_slack_s=RTT_SLACK_S + 2 * sum(link.jitter_s for link in ways) + _retry_s(ways),
        kernel=tuple(map(described, network.queues()[f"{clients[0]}.{direction}"])),
    )


def described(state: QueueState) -> str:
    """``htb rate_bytes_s=1250000 burst_ns=125056 quantum_bytes=60000``: everything that was read back."""
    return " ".join([state.kind, *(f"{name}={value:.12g}" for name, value in state.options.items())])


def path(
    topology: Topology, client: str, direction: Direction
) -> tuple[LinkSpec, LinkSpec, LinkSpec, LinkSpec]:
    """The four links of a flow's way: the client's, the server's, and both on the way back."""
    access, server = topology.clients[client], topology.server
    up, down = (access.uplink, server.downlink), (access.downlink, server.uplink)
    return (*up, *down) if direction == "uplink" else (*down, *up)


def by_chance(ways: Iterable[LinkSpec]) -> bool:
    """Whether chance decides how long a transfer over these links takes."""
    return any(link.loss or link.jitter_s or link.reorder for link in ways)


def delay_band(ways: Iterable[LinkSpec], congestion_control: str) -> float:
    """How far the model may be off over these links because they have delay (relative); 0 where none has."""
    if not any(link.delay_s for link in ways):
        return 0.0
    return _DELAYED_BBR_BAND if congestion_control == "bbr" else _DELAYED_BAND


def _retry_s(ways: Iterable[LinkSpec]) -> float:
    """A lost connection request is sent again after a second, and where packets are lost some are."""
    return 7.0 if any(link.loss for link in ways) else 0.0


def _shares(topology: Topology, clients: Sequence[str], direction: Direction) -> list[float]:
    """About what each of *clients* gets when all send."""
    shared_bps = path(topology, clients[0], direction)[1].rate_bps / len(clients)
    return [min(path(topology, client, direction)[0].rate_bps, shared_bps) for client in clients]


def _modelled_s(topology: Topology, schedule: Sequence[tuple[FlowRequest, float]]) -> float:
    """The longest of the transfers, each started at its instant."""
    used = {request.client: topology.clients[request.client] for request, _ in schedule}
    model = ModelNetwork(replace(topology, clients=used))
    for request, at_s in sorted(schedule, key=lambda item: item[1]):
        model.start(replace(request, payload=request.payload_bytes), at_s)
    return max(result.duration_s for result in model.run())


def _starts_s(results: Sequence[FlowResult]) -> list[float]:
    """When each sender really started, after the first."""
    first_s = min(result.started_s for result in results)
    return [result.started_s - first_s for result in results]


def _round_trip_s(ways: Iterable[LinkSpec]) -> float:
    """Of a connection request and its answer on idle links."""
    return sum(link.delay_s + 8 * SYN_BYTES / link.rate_bps for link in ways)


def longest_wait_s(expected_s: float, ways: Iterable[LinkSpec]) -> float:
    """For transfers that should take *expected_s*: a busy host gets its time, a network that is gone is seen soon."""
    return _LEAST_LIMIT_S + _LIMIT_FACTOR * expected_s + _retry_s(ways)


def _all(network: MininetNetwork, requests: Sequence[FlowRequest], limit_s: float) -> list[FlowResult]:
    for request in requests:
        network.start(request)
    done: list[FlowResult] = []
    deadline_s = time.monotonic() + limit_s
    while len(done) < len(requests):
        done += network.wait(1.0)
        if time.monotonic() > deadline_s:
            raise TransferError(f"a probe of {requests[0].client} was not through after {limit_s:.2g} s")
    for result in done:
        network.discard(result.flow_id)
        if result.status != "ok":
            raise TransferError(f"a probe of {result.client} failed: {result.error}")
    return sorted(done, key=lambda result: result.flow_id)
