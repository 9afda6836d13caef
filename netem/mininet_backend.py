"""The emulated network: Mininet hosts around one switch, links shaped by the kernel, real TCP between namespaces."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from netem.capabilities import require_for
from netem.errors import LinkSpecError, ShapingError, TransferError
from netem.flow import FlowRequest, FlowResult
from netem.ledger import Ledger, process_name, sweep
from netem.link import AccessLink, LinkSpec, Topology
from netem.mininet_nodes import Holders, LeanBridge, LeanHost, LeanIntf, LeanLink, LeanMininet, run_batch
from netem.shaper import FRAME_BYTES, MTU_BYTES, UNCUT_BYTES, Shape, burst_s, differences, shape, tc_lines
from netem.transfers import Endpoint, Transfers

SWITCH, SERVER, FIRST_CLIENT = 0, 1, 2
_BASE_ADDRESS = int(ipaddress.IPv4Address("10.0.0.0"))
_HOST_IFINDEX = 10
_PORT_IFINDEX = 1000
# A receive window that is never what limits a transfer; Linux's own largest default is 6 MB.
_SOCKET_MEMORY = {
    "tcp_rmem": "4096 131072 134217728",
    "tcp_wmem": "4096 65536 134217728",
    # Linux remembers the threshold that the last connection to a peer ended with; each transfer starts afresh here.
    "tcp_no_metrics_save": "1",
}


@dataclass(slots=True)
class _Direction:
    """One shaped interface: where it is, what it was asked to be."""

    label: str
    namespace: int
    interface: str
    ifindex: int
    spec: LinkSpec
    shape: Shape | None = None
    super_packet_frames: int = 0  # 0: not set yet


class MininetNetwork:
    """A star of clients and one server, emulated.

    Times in results are `time.monotonic` seconds of the wall.

    Args:
        topology: rates, delays and the like, before dilation.
        dilation: k; links run at k times the rate and a k-th of the delay.
        state_dir: where the ledger of this run is kept; dead runs found there are swept first.
        keep_received: keep what arrived until it is fetched with `received`.
        defer_digests: results carry no digest; `digests` computes them when no flow can be disturbed.
        timeout_s: a transfer for which no byte arrives for this long has failed.
        burst_s: the links' token buckets, in time at their rate; None measures how late this machine's timers are.
    Raises:
        CapabilityError: this machine cannot emulate what was asked; nothing was started.
        ShapingError: the kernel did not take a setting.
    """

    engine = "mininet"

    def __init__(
        self,
        topology: Topology,
        *,
        dilation: float = 1.0,
        congestion_control: str = "cubic",
        state_dir: Path,
        switch: Literal["auto", "bridge", "ovs"] = "auto",
        keep_received: bool = False,
        defer_digests: bool = False,
        timeout_s: float = 30.0,
        burst_s: float | None = None,
    ) -> None:
        self._topology = topology
        self._dilation = dilation
        self._congestion_control = congestion_control
        self._state_dir = state_dir
        self._switch_kind = switch
        self._keep_received = keep_received
        self._defer_digests = defer_digests
        self._timeout_s = timeout_s
        self.burst_s = burst_s
        self._stack = ExitStack()
        self._index = {name: FIRST_CLIENT + position for position, name in enumerate(topology.clients)}
        self._directions: list[_Direction] = []
        self.swept: list[str] = []
        self.net: Any = None

    def __enter__(self) -> MininetNetwork:
        require_for(self._topology, self._congestion_control, self._switch_kind)
        with ExitStack() as stack:
            self.swept = sweep(self._state_dir)
            ledger = stack.enter_context(Ledger(self._state_dir))
            self._build(stack, ledger)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # --- building -------------------------------------------------------------------------------------

    def _build(self, stack: ExitStack, ledger: Ledger) -> None:
        def note_process(pid: int) -> None:
            name = process_name(pid)
            ledger.note("process", name)
            stack.callback(ledger.gone, "process", name)

        clients = len(self._index)
        LeanMininet.raise_file_limit(8 * clients)
        holders = Holders(note_process)
        stack.callback(holders.close)
        host_class = type("RunHost", (LeanHost,), {"holders": holders})
        bridge_class = type("RunBridge", (LeanBridge,), {"holders": holders})
        self.net = net = LeanMininet(
            host=host_class, switch=bridge_class, link=LeanLink, intf=LeanIntf, controller=None, build=False
        )
        stack.callback(net.stop)
        run = f"fz{ledger.run_id}"
        bridge = net.addSwitch(f"{run}s", dpid="1", inNamespace=True)
        hosts = {SERVER: net.addHost(f"{run}h{SERVER}")}
        for index in self._index.values():
            hosts[index] = net.addHost(f"{run}h{index}")
        self._make_links(bridge, hosts)
        net.build()
        net.start()
        self._pids = {SWITCH: bridge.pid, **{index: host.pid for index, host in hosts.items()}}
        self.transfers = stack.enter_context(
            Transfers(
                note_process,
                congestion_control=self._congestion_control,
                timeout_s=self._timeout_s,
                keep_received=self._keep_received,
                defer_digests=self._defer_digests,
            )
        )
        self.transfers.enter(self._pids, [self._endpoint(index) for index in hosts])
        if self.burst_s is None:
            self.burst_s = burst_s(self.transfers.timer_lateness_s())
        self._place_directions()
        self._apply(self._topology, self._dilation)

    def _make_links(self, bridge: Any, hosts: dict[int, Any]) -> None:
        """Every veth pair in one batch, then each host's side in one batch per host."""
        lines = [f"link add name {bridge.name} type bridge", f"link set {bridge.name} up"]
        for index, host in hosts.items():
            pair = (
                f"link add name {_port(bridge, index)} index {_PORT_IFINDEX + index} mtu {MTU_BYTES} type veth "
                f"peer name {host.name}-0 index {_HOST_IFINDEX} address {_mac(index)} mtu {MTU_BYTES} netns {host.pid}"
            )
            lines += [pair, f"link set {_port(bridge, index)} master {bridge.name} up"]
        run_batch("ip", lines, bridge.pid)
        for index, host in hosts.items():
            peers = [SERVER] if index != SERVER else self._index.values()
            run_batch("ip", _host_lines(f"{host.name}-0", index, peers), host.pid)
            for name, value in _SOCKET_MEMORY.items():
                host.cmd(f"echo {value} > /proc/sys/net/ipv4/{name}")
            link = self.net.addLink(bridge, host, port1=index, port2=0)
            link.intf2.ip, link.intf2.prefixLen, link.intf2.mac = _address(index), 8, _mac(index)

    def _endpoint(self, index: int) -> Endpoint:
        return Endpoint(index, _address(index))

    # --- shaping --------------------------------------------------------------------------------------

    def _place_directions(self) -> None:
        """Uplinks are shaped where they leave the host, downlinks at the switch's port to it."""
        bridge = self.net.switches[0]
        for name, index, access in self._accesses(self._topology):
            host = f"{self.net.hosts[index - SERVER].name}-0"
            self._directions.append(_Direction(f"{name}.uplink", index, host, _HOST_IFINDEX, access.uplink))
            self._directions.append(
                _Direction(
                    f"{name}.downlink", SWITCH, _port(bridge, index), _PORT_IFINDEX + index, access.downlink
                )
            )

    def _accesses(self, topology: Topology) -> Iterator[tuple[str, int, AccessLink]]:
        yield "server", SERVER, topology.server
        for name, index in self._index.items():
            yield name, index, topology.clients[name]

    def reshape(self, topology: Topology, dilation: float = 1.0) -> None:
        """Change every link in place, and read back that the kernel took it.

        Raises:
            LinkSpecError: other clients than at the start.
            ShapingError: the kernel has something else now.
        """
        if set(topology.clients) != set(self._index):
            raise LinkSpecError(
                "clients", sorted(topology.clients), "a network keeps the clients it was started with"
            )
        self._apply(topology, dilation)

    def _apply(self, topology: Topology, dilation: float) -> None:
        assert self.burst_s is not None
        specs = [
            spec for _, _, access in self._accesses(topology) for spec in (access.uplink, access.downlink)
        ]
        lines: dict[int, list[str]] = {}
        changed: list[_Direction] = []
        for direction, spec in zip(self._directions, specs, strict=True):
            new = shape(spec, dilation, self.burst_s)
            if new != direction.shape:
                lines.setdefault(direction.namespace, []).extend(
                    tc_lines(direction.interface, new, direction.shape)
                )
                changed.append(direction)
            direction.spec, direction.shape = spec, new
        for namespace, batch in lines.items():
            run_batch("tc", batch, self._pids[namespace])
        self._limit_super_packets()
        self._topology, self._dilation = topology, dilation
        self._check(changed)

    def _limit_super_packets(self) -> None:
        """Have each sender's stack make packets that its link need not cut: cutting them costs far more time.

        The server's packets go to all clients, so the longest that any of them takes; the others' ports cut.
        """
        longest = {
            direction.label: direction.shape.segment_bytes
            for direction in self._directions
            if direction.shape
        }
        longest["server.uplink"] = min(
            longest["server.uplink"], max(longest[f"{client}.downlink"] for client in self._index)
        )
        for direction in self._directions:
            frames = min(max(longest[direction.label] // FRAME_BYTES, 1), UNCUT_BYTES // MTU_BYTES)
            if direction.namespace != SWITCH and direction.super_packet_frames != frames:
                line = f"link set dev {direction.interface} gso_max_segs {frames}"
                run_batch("ip", [line], self._pids[direction.namespace])
                direction.super_packet_frames = frames

    def _check(self, directions: list[_Direction]) -> None:
        states = self.transfers.queues([(direction.namespace, direction.ifindex) for direction in directions])
        for direction in directions:
            assert direction.shape is not None
            for asked, got in differences(direction.shape, states[direction.namespace, direction.ifindex]):
                raise ShapingError(f"{direction.label} ({direction.interface})", asked, got)

    @property
    def shaped(self) -> Topology:
        """The links as they run on this host now, dilation included."""
        return self._topology.dilated(self._dilation)

    # --- transfers ------------------------------------------------------------------------------------

    def start(self, request: FlowRequest) -> None:
        """Start one transfer; the sender connects as soon as its process gets the word."""
        try:
            client = self._index[request.client]
        except KeyError:
            raise TransferError(f"no client {request.client!r} in this network") from None
        if request.direction == "uplink":
            source, target, meter = client, SERVER, (client, _HOST_IFINDEX)
        else:
            source, target, meter = SERVER, client, (SWITCH, _PORT_IFINDEX + client)
        self.transfers.start(request, self._endpoint(source), self._endpoint(target), meter)

    def wait(self, timeout_s: float) -> list[FlowResult]:
        """Transfers that came to an end: returns as soon as there is one, or ``[]`` after *timeout_s*."""
        return self.transfers.wait(timeout_s)

    def prepare(self, payloads: Iterable[bytes]) -> None:
        """Lay payloads ready; see `Transfers.prepare`."""
        self.transfers.prepare(payloads)

    def digests(self) -> dict[int, str]:
        """SHA-256 of what arrived, by flow; see `Transfers.digests`."""
        return self.transfers.digests()

    def discard(self, flow_id: int) -> None:
        """Forget what arrived in a finished transfer: neither hash nor keep it."""
        self.transfers.discard(flow_id)

    def received(self, flow_id: int) -> bytes:
        """What arrived in a finished transfer (``keep_received=True``); freed by this call."""
        return self.transfers.received(flow_id)

    def cut(self, client: str) -> None:
        """Pull the client's cable: its link goes down in both directions and stays down."""
        self._set_link(client, "down")

    def mend(self, client: str) -> None:
        """Plug the cable in again."""
        self._set_link(client, "up")

    def _set_link(self, client: str, state: str) -> None:
        bridge = self.net.switches[0]
        run_batch("ip", [f"link set {_port(bridge, self._index[client])} {state}"], self._pids[SWITCH])


def _port(bridge: Any, index: int) -> str:
    return f"{bridge.name}-{index}"


def _address(index: int) -> str:
    return str(ipaddress.IPv4Address(_BASE_ADDRESS + index))


def _mac(index: int) -> str:
    return "02:00:" + ":".join(f"{byte:02x}" for byte in (_BASE_ADDRESS + index).to_bytes(4, "big"))


def _host_lines(interface: str, index: int, peers: Any) -> Iterator[str]:
    yield f"address add {_address(index)}/8 dev {interface}"
    yield f"link set {interface} up"
    for peer in peers:
        # Known neighbours: a question and answer over a slow link would be part of the first transfer.
        yield f"neighbour add {_address(peer)} lladdr {_mac(peer)} dev {interface} nud permanent"
