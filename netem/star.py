"""Building the star with Mininet: a switch, the server and the clients, unshaped."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from netem.ledger import Ledger, process_name
from netem.mininet_nodes import (
    Holders,
    LeanBridge,
    LeanHost,
    LeanIntf,
    LeanLink,
    LeanMininet,
    LeanOpenVSwitch,
    run_batch,
)
from netem.processes import AgentProcess, batches
from netem.shaper import MTU_BYTES

SwitchKind = Literal["bridge", "ovs"]

SWITCH, SERVER, FIRST_CLIENT = 0, 1, 2
PREFIX_LENGTH = 8
_BASE_ADDRESS = int(ipaddress.IPv4Address("10.0.0.0"))
_PREFIX = "fz"
_HOST_IFINDEX = 10
_PORT_IFINDEX = 1000
_SETTINGS = {
    # A receive window that is never what limits a transfer; Linux's own largest default is 6 MB.
    "net/ipv4/tcp_rmem": "4096 131072 134217728",
    "net/ipv4/tcp_wmem": "4096 65536 134217728",
    # Linux remembers the threshold that the last connection to a peer ended with; each transfer starts afresh here.
    "net/ipv4/tcp_no_metrics_save": "1",
    # Neighbour discovery would be counted among the bytes on the wire.
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv6/conf/default/disable_ipv6": "1",
}


@dataclass(frozen=True, slots=True)
class Interface:
    """Where an interface is: namespace (by index), name, and number in it."""

    namespace: int
    name: str
    ifindex: int

    @property
    def place(self) -> tuple[int, int]:
        return self.namespace, self.ifindex


class Star:
    """A Mininet of our own making. Everything is owned by the stack that it is built on.

    Attributes:
        net: the `mininet.net.Mininet`, started.
        pids: namespace index -> a process that lives there; 0 is the switch, 1 the server, then the clients.
        hosts: index -> the host's end of its link.
        ports: index -> the switch's end.
    """

    def __init__(self, stack: ExitStack, ledger: Ledger, clients: int, switch: SwitchKind) -> None:
        self._run = f"{_PREFIX}{ledger.run_id}"
        self._switch = switch
        indices = range(SERVER, FIRST_CLIENT + clients)
        LeanMininet.raise_file_limit(8 * clients)
        holders = Holders(note_processes(stack, ledger))
        stack.callback(holders.close)
        holders.prepare(len(indices) + (switch == "bridge"))
        kinds = {"bridge": LeanBridge, "ovs": LeanOpenVSwitch}
        self.net: Any = LeanMininet(
            host=type("RunHost", (LeanHost,), {"holders": holders}),
            switch=type("RunSwitch", (kinds[switch],), {"holders": holders}),
            link=LeanLink,
            intf=LeanIntf,
            controller=None,
            build=False,
        )
        if switch == "ovs":
            names = [
                ("ovs-bridge", f"{self._run}s"),
                *(("interface", self._port_name(index)) for index in indices),
            ]
            for kind, name in names:
                ledger.note(kind, name)
                stack.callback(ledger.remove, kind, name)
        stack.callback(self.net.stop)
        bridge = self.net.addSwitch(f"{self._run}s", dpid="1", inNamespace=switch == "bridge")
        hosts = {index: self.net.addHost(f"{self._run}h{index}") for index in indices}
        self.pids = {SWITCH: bridge.pid, **{index: host.pid for index, host in hosts.items()}}
        self._make_links(bridge, hosts, switch)
        self.hosts = {
            index: Interface(index, f"{host.name}-0", _HOST_IFINDEX) for index, host in hosts.items()
        }
        self.ports = {
            index: Interface(SWITCH, self._port_name(index), self._port_number(index)) for index in hosts
        }
        self.net.build()
        self.net.start()

    def _port_name(self, index: int) -> str:
        return f"{self._run}s-{index}"

    def _port_number(self, index: int) -> int:
        """Interface number of a port. In the host's namespace, where others have theirs, far up and by run."""
        if self._switch == "bridge":
            return _PORT_IFINDEX + index
        return (1 << 24) + (int(self._run.removeprefix(_PREFIX), 16) << 10) + index

    def _make_links(self, bridge: Any, hosts: dict[int, Any], switch: SwitchKind) -> None:
        """Every veth pair, with its host's end in the host's namespace, in one batch."""
        lines = []
        if switch == "bridge":
            lines += [f"link add name {bridge.name} type bridge", f"link set {bridge.name} up"]
        for index, host in hosts.items():
            port = self._port_name(index)
            join = f"master {bridge.name} " if switch == "bridge" else ""
            near = f"name {port} index {self._port_number(index)} mtu {MTU_BYTES}"
            far = f"name {host.name}-0 index {_HOST_IFINDEX} address {link_address(index)} mtu {MTU_BYTES}"
            lines.append(f"link add {near} type veth peer {far} netns {host.pid}")
            lines.append(f"link set {port} {join}up")
        run_batch("ip", lines, bridge.pid if switch == "bridge" else None)
        for index, host in hosts.items():
            link = self.net.addLink(bridge, host, port1=index, port2=0)
            link.intf2.ip, link.intf2.prefixLen = address(index), PREFIX_LENGTH
            link.intf2.mac = link_address(index)

    def configure(self, shaper: AgentProcess) -> None:
        """Addresses, neighbours and TCP's limits of every host."""
        shaper.enter(self.pids)
        clients = [index for index in self.hosts if index != SERVER]
        for batch in batches(list(self.hosts)):
            shaper.ask(do="settings", namespaces=batch, values=_SETTINGS)
            hosts = [self._host(index, clients if index == SERVER else [SERVER]) for index in batch]
            shaper.ask(do="hosts", hosts=hosts)

    def _host(self, index: int, peers: Iterable[int]) -> dict[str, Any]:
        return {
            "namespace": index,
            "ifindex": self.hosts[index].ifindex,
            "address": address(index),
            "prefix_length": PREFIX_LENGTH,
            # Known neighbours: a question and answer over a slow link would be part of the first transfer.
            "neighbours": [[address(peer), link_address(peer)] for peer in peers],
        }


def note_processes(stack: ExitStack, ledger: Ledger) -> Callable[[int], None]:
    """A function that writes down processes by number, and that they are gone when the stack is unwound past there."""

    def note(pid: int) -> None:
        name = process_name(pid)
        ledger.note("process", name)
        stack.callback(ledger.gone, "process", name)

    return note


def address(index: int) -> str:
    """IPv4 address of the server or a client."""
    return str(ipaddress.IPv4Address(_BASE_ADDRESS + index))


def link_address(index: int) -> str:
    """Ethernet address of the server or a client; locally administered."""
    return "02:00:" + ":".join(f"{byte:02x}" for byte in (_BASE_ADDRESS + index).to_bytes(4, "big"))
