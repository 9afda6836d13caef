"""The gate of a run on emulated links: links are probed before their first round, and the host is watched in each.

What it costs: a probe takes a third of a second, once for every kind of link, dilation included, and less than a
millisecond for each client and round goes into reading counters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from netem.errors import TransferError
from netem.flow import Direction
from netem.link import AccessLink, LinkSpec, Topology
from netem.mininet_backend import MininetNetwork
from netem.probe import MOST_TOGETHER, ProbeRow, path, probe_path
from netem.sampling import HostSample, Strain, sample, strain
from netem.traffic_control import QueueState

# Links whose rates are nearer to each other than this share one probe: the kernel is told any rate in the same way.
_ALIKE = 1.1
_PROBE_WALL_S, _LOOKS = 0.1, 3
# A server's link with this many times what the clients can send together is one that nobody notices, however wide.
_ROOM = 2.0
# A probe that fails may have met other work; it is made again at once, and again before the next round of its kind.
_TRIES = 3

Kind = tuple[object, ...]


@dataclass(frozen=True)
class Leg:
    """Transfers of one direction at one dilation, which a round may make."""

    direction: Direction
    k: float


class Gate:
    """Probes and samples of one network."""

    def __init__(self, network: MininetNetwork) -> None:
        self._network = network
        self._passed: set[Kind] = set()
        self._faults: dict[Kind, str] = {}  # of kinds whose last probe failed
        self._before: HostSample | None = None
        self._queues: Mapping[str, Sequence[QueueState]] = {}

    def probe(self, topology: Topology, clients: Sequence[str], legs: Iterable[Leg]) -> list[ProbeRow]:
        """Probe what *clients* will use in *legs* and nobody has probed yet. The links are left as the probes had them.

        Each kind of link alone, and then up to eight clients at once: the server's link, and what the host can carry.
        Where a probe does not end, the network may be gone: nothing else is probed, and all that would have been is
        doubted, so that the round itself finds out, soon.
        """
        rows: list[ProbeRow] = []
        broken = ""
        plain = _steady(topology)
        for leg in dict.fromkeys(legs):
            for chosen in _groups(plain, clients, leg):
                kind = _kind(plain, chosen, leg)
                if kind in self._passed:
                    continue
                if broken:
                    self._faults[kind] = f"not probed: {broken}"
                    continue
                try:
                    rows += self._probed(plain, chosen, leg, kind)
                except TransferError as error:
                    self._faults[kind] = broken = str(error)
        return rows

    def _probed(self, topology: Topology, chosen: Sequence[str], leg: Leg, kind: Kind) -> Iterator[ProbeRow]:
        self._network.reshape(topology, leg.k)
        for _ in range(1 if kind in self._faults else _TRIES):
            row = probe_path(self._network, chosen, leg.direction, wall_s=_PROBE_WALL_S, looks=_LOOKS)
            fault = row.fault
            if not fault:
                self._passed.add(kind)
                self._faults.pop(kind, None)
                break
            self._faults[kind] = fault
        yield row

    def doubt(self, topology: Topology, clients: Sequence[str], client: str, leg: Leg) -> str:
        """Why a transfer of *client* among *clients* should not be believed; empty where its probes passed."""
        if not self._faults:
            return ""
        plain = _steady(topology)
        for chosen in ([client], _together(clients)):
            fault = self._faults.get(_kind(plain, chosen, leg))
            if fault:
                alone = "" if len(chosen) == 1 else f"{len(chosen)} at once, "
                return f"probe before the round: {alone}{fault}"
        return ""

    def begin(self) -> None:
        """The first packet is about to fly."""
        self._queues = self._network.queues()
        self._network.watch.begin()
        self._before = sample()

    def end(self) -> Strain:
        """The last packet has arrived: what the host was up to since `begin`."""
        after = sample()
        assert self._before is not None
        return strain(
            self._before, after, self._queues, self._network.queues(), self._network.watch.fullest_bytes
        )


def _together(clients: Sequence[str]) -> Sequence[str]:
    return clients[:MOST_TOGETHER]


def _groups(topology: Topology, clients: Sequence[str], leg: Leg) -> Iterator[Sequence[str]]:
    seen: set[Kind] = set()
    for client in clients:
        kind = _kind(topology, [client], leg)
        if kind not in seen:
            seen.add(kind)
            yield [client]
    if len(clients) > 1:
        yield _together(clients)


def _steady(topology: Topology) -> Topology:
    """Links with traces at the highest rate that they reach."""

    def steady(link: LinkSpec) -> LinkSpec:
        return link if link.trace is None else replace(link, rate_bps=link.top_bps, trace=None)

    def both(access: AccessLink) -> AccessLink:
        return AccessLink(steady(access.uplink), steady(access.downlink))

    return Topology(both(topology.server), {name: both(link) for name, link in topology.clients.items()})


def _kind(topology: Topology, chosen: Sequence[str], leg: Leg) -> Kind:
    """Equal for probes that would tell the same: the rates and delays of the way, as they run on this host."""
    needed_bps = sum(path(topology, name, leg.direction)[0].rate_bps for name in chosen)
    return leg.direction, *sorted(_way(topology, name, leg, needed_bps) for name in chosen)


def _way(topology: Topology, client: str, leg: Leg, needed_bps: float) -> tuple[float, ...]:
    near, shared, *back = path(topology, client, leg.direction)
    forth = [_step(near.rate_bps * leg.k), _step(min(shared.rate_bps / needed_bps, _ROOM))]
    chances = [(link.loss, link.reorder, _step(link.jitter_s / leg.k)) for link in (near, shared, *back)]
    # Of the way back the delay matters; its rate delays nothing but acknowledgements.
    delays = [_step(link.delay_s / leg.k) for link in (near, shared, *back)]
    return *forth, *delays, *itertools.chain.from_iterable(chances)


def _step(value: float) -> int:
    return round(math.log(value) / math.log(_ALIKE)) if value > 0.0 else -(1 << 30)
