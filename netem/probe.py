"""How far this host's links may be believed: TCP goodput of shaped links against theory.

`probe` looks at the links of one network before a run; `truthful_range` at the host itself, once for every boot.
Theory is the modelled engine: headers, handshake and slow start on the same links.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast, get_args

from netem.errors import TransferError
from netem.flow import Direction, FlowRequest, FlowResult
from netem.link import AccessLink, LinkSpec, Topology
from netem.mininet_backend import MininetNetwork
from netem.model_backend import ModelNetwork
from netem.tcp import SYN_BYTES

# Numbers that no flow of a run has, so that a probe cannot be mistaken for one.
_FIRST_FLOW = 1 << 48
_LEAST_PAYLOAD_BYTES, _LARGEST_PAYLOAD_BYTES = 1, 256_000_000
_FLOW_LIMIT_S = 20.0

RATES_BPS = (10e6, 100e6, 500e6, 1e9, 2e9, 5e9, 10e9)
TOTALS_BPS = (500e6, 1e9, 2e9, 3e9, 4e9, 6e9, 8e9)
FLOWS = 8
DURATIONS_S = (0.002, 0.005, 0.01, 0.025, 0.05)
_TRIES = 3  # other work on the machine may spoil one
_SHORTEST_SPREAD = 0.05  # between the extremes of nine looks; one that a busy host spoils may do that
_RTT_BAND, _RTT_SLACK_S = 0.05, 0.0005
_SCHEMA = 2


def band(rate_bps: float) -> float:
    """How far goodput may lie from theory (relative): 1 % to 1 Gbit/s, 2 % to 2 Gbit/s, 5 % above."""
    return 0.01 if rate_bps <= 1e9 else 0.02 if rate_bps <= 2e9 else 0.05


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """One look: *flows* transfers of *payload_bytes* each, started together.

    Attributes:
        client: whose link, or the first of several.
        rate_bps: of the link, as it ran on this host (dilation included).
        expected_s, measured_s: the longest of the transfers, wall time; measured is the median of *looks*.
        spread_s: between the fastest and the slowest look.
        band: largest relative error that passes.
        expected_rtt_s, measured_rtt_s: of an idle link, without and with what the host adds; median.
    """

    client: str
    direction: Direction
    flows: int
    looks: int
    rate_bps: float
    payload_bytes: int
    expected_s: float
    measured_s: float
    spread_s: float
    band: float
    expected_rtt_s: float
    measured_rtt_s: float

    @property
    def error(self) -> float:
        """Relative; positive is slower than theory."""
        return self.measured_s / self.expected_s - 1.0

    @property
    def ok(self) -> bool:
        late_s = abs(self.measured_rtt_s - self.expected_rtt_s)
        return abs(self.error) <= self.band and late_s <= _RTT_BAND * self.expected_rtt_s + _RTT_SLACK_S

    @property
    def goodput_bps(self) -> float:
        return 8.0 * self.flows * self.payload_bytes / self.measured_s

    @property
    def expected_goodput_bps(self) -> float:
        return 8.0 * self.flows * self.payload_bytes / self.expected_s


@dataclass(frozen=True, slots=True)
class HostRange:
    """Where this host shapes and times truthfully.

    Attributes:
        link_bps: highest rate of one link; 0 where not even the lowest passed.
        total_bps: highest sum of rates of links that carry flows at the same time.
        shortest_s: shortest transfer whose length is within a percent of theory.
        load: runnable processes when it was measured; a busy host is less truthful.
        burst_s: token bucket that the links had.
    """

    link_bps: float
    total_bps: float
    shortest_s: float
    load: float
    burst_s: float
    rows: tuple[ProbeRow, ...]


def probe(network: MininetNetwork, *, wall_s: float = 0.1, looks: int = 3) -> list[ProbeRow]:
    """One row for each distinct link of *network*, as it is shaped now. Call it while no flow is under way.

    Args:
        wall_s: about how long one transfer takes; loss and delay need longer ones to show.
    """
    topology = network.shaped
    rows = []
    for direction in get_args(Direction):
        seen: set[LinkSpec] = set()
        for client, access in topology.clients.items():
            spec: LinkSpec = getattr(access, direction)
            if spec not in seen:
                seen.add(spec)
                rows.append(_look(network, topology, [client], direction, wall_s, looks, band(spec.rate_bps)))
    return rows


def truthful_range(
    state_dir: Path, *, refresh: bool = False, note: Callable[[ProbeRow], None] | None = None
) -> HostRange:
    """What this host can do, measured once for every boot (some ten seconds) and kept in *state_dir*.

    Args:
        note: called with every row as it is measured.
    """
    path = state_dir / "host-range.json"
    if not refresh and (known := _read(path)) is not None:
        return known
    measured = _measure(state_dir, note or (lambda _: None))
    _write(path, measured)
    return measured


def _measure(state_dir: Path, note: Callable[[ProbeRow], None]) -> HostRange:
    clients = [f"probe-{number}" for number in range(FLOWS)]
    rows: list[ProbeRow] = []

    def star(rate_bps: float) -> Topology:
        access = AccessLink(LinkSpec(rate_bps), LinkSpec(rate_bps))
        wide = AccessLink(LinkSpec(40e9), LinkSpec(40e9))
        return Topology(wide, dict.fromkeys(clients, access))

    def look(
        rate_bps: float,
        chosen: Sequence[str],
        direction: Direction,
        wall_s: float,
        looks: int,
        allowed: float,
    ) -> ProbeRow:
        topology = star(rate_bps)
        network.reshape(topology)
        for _ in range(_TRIES):
            row = _look(network, topology, chosen, direction, wall_s, looks, allowed)
            if row.ok:
                break
        rows.append(row)
        note(row)
        return row

    load = os.getloadavg()[0]
    with MininetNetwork(star(1e9), state_dir=state_dir, defer_digests=True) as network:
        link_bps = _highest(
            RATES_BPS,
            lambda rate: all(
                look(rate, clients[:1], direction, 0.15, 3, band(rate)).ok
                for direction in get_args(Direction)
            ),
        )
        total_bps = _highest(
            (total for total in TOTALS_BPS if total / FLOWS <= link_bps),
            lambda total: look(total / FLOWS, clients, "uplink", 0.15, 3, band(total)).ok,
        )
        shortest_s = next(
            (
                duration_s
                for duration_s in DURATIONS_S
                if (row := look(min(1e9, link_bps or 1e9), clients[:1], "uplink", duration_s, 9, 0.01)).ok
                and row.spread_s <= _SHORTEST_SPREAD * row.expected_s
            ),
            DURATIONS_S[-1],
        )
        assert network.burst_s is not None
        return HostRange(link_bps, total_bps, shortest_s, load, network.burst_s, tuple(rows))


def _highest(values: Iterator[float] | Sequence[float], passes: Callable[[float], bool]) -> float:
    """The last of rising *values* before the first that does not pass; 0 if none does."""
    highest = 0.0
    for value in values:
        if not passes(value):
            break
        highest = value
    return highest


def _look(
    network: MininetNetwork,
    topology: Topology,
    clients: Sequence[str],
    direction: Direction,
    wall_s: float,
    looks: int,
    allowed: float,
) -> ProbeRow:
    rate_bps = getattr(topology.clients[clients[0]], direction).rate_bps
    shared: LinkSpec = topology.server.downlink if direction == "uplink" else topology.server.uplink
    share_bps = min(rate_bps, shared.rate_bps / len(clients))
    size = min(max(round(share_bps / 8 * wall_s), _LEAST_PAYLOAD_BYTES), _LARGEST_PAYLOAD_BYTES)
    payload = bytes(size)
    requests = [
        FlowRequest(_FIRST_FLOW + number, client, direction, payload) for number, client in enumerate(clients)
    ]
    model = ModelNetwork(topology)
    for request in requests:
        model.start(request, 0.0)
    expected_s = max(result.duration_s for result in model.run())
    network.prepare([payload] * len(requests))
    seen = [_all(network, requests) for _ in range(looks)]
    network.prepare([])
    measured = [max(result.duration_s for result in results) for results in seen]
    handshakes = [results[0].handshake_s or 0.0 for results in seen]
    return ProbeRow(
        client=clients[0],
        direction=direction,
        flows=len(clients),
        looks=looks,
        rate_bps=rate_bps,
        payload_bytes=size,
        expected_s=expected_s,
        measured_s=statistics.median(measured),
        spread_s=max(measured) - min(measured),
        band=allowed,
        expected_rtt_s=_round_trip_s(topology, clients[0]),
        measured_rtt_s=statistics.median(handshakes),
    )


def _round_trip_s(topology: Topology, client: str) -> float:
    """Of a connection request and its answer on idle links."""
    access = topology.clients[client]
    ways = (access.uplink, access.downlink, topology.server.uplink, topology.server.downlink)
    return sum(link.delay_s + 8 * SYN_BYTES / link.rate_bps for link in ways)


def _all(network: MininetNetwork, requests: Sequence[FlowRequest]) -> list[FlowResult]:
    for request in requests:
        network.start(request)
    done: list[FlowResult] = []
    deadline_s = time.monotonic() + _FLOW_LIMIT_S
    while len(done) < len(requests):
        done += network.wait(1.0)
        if time.monotonic() > deadline_s:
            raise TransferError(f"a probe of {requests[0].client} was not through after {_FLOW_LIMIT_S:g} s")
    for result in done:
        network.discard(result.flow_id)
        if result.status != "ok":
            raise TransferError(f"a probe of {result.client} failed: {result.error}")
    return sorted(done, key=lambda result: result.flow_id)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _read(path: Path) -> HostRange | None:
    """What was measured since this boot, or None."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if record.get("schema") != _SCHEMA or record.get("boot") != _boot():
        return None
    fields = cast("dict[str, object]", record["range"])
    rows = tuple(ProbeRow(**row) for row in cast("list[dict[str, object]]", fields.pop("rows")))  # type: ignore[arg-type]
    return HostRange(**fields, rows=rows)  # type: ignore[arg-type]


def _write(path: Path, measured: HostRange) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"schema": _SCHEMA, "boot": _boot(), "range": asdict(measured)}, indent=1)
    draft, name = tempfile.mkstemp(dir=path.parent, prefix=".host-range-")
    try:
        with os.fdopen(draft, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
