"""The emulated network: Mininet hosts around one switch, links shaped by the kernel, real TCP between namespaces."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from netem.capabilities import require_for
from netem.errors import LinkSpecError, TransferError
from netem.flow import FlowRequest, FlowResult
from netem.ledger import Ledger, sweep
from netem.link import Topology
from netem.links import Links
from netem.processes import AgentProcess
from netem.sampling import QueueWatch
from netem.shaper import burst_s
from netem.star import FIRST_CLIENT, SERVER, Star, SwitchKind, address, note_processes
from netem.traffic_control import QueueState
from netem.transfers import Endpoint, Transfers


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
        seed: of random losses and jitter; kernels before 6.6 draw their own.
        sharing: how the server's link serves its clients: ``"turns"`` of equal bytes, as the fair queues of today's
            routers do, or one ``"queue"`` for all, where who came first gets more, another way each time.
        switch: ``"bridge"`` is a Linux bridge in a namespace of its own, where neither names nor the host's firewall
            can meet it; ``"ovs"`` an Open vSwitch, whose ports stand in the host's namespace. ``"auto"`` is the bridge.
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
        seed: int | None = None,
        sharing: Literal["turns", "queue"] = "turns",
    ) -> None:
        self._topology = topology
        self._dilation = dilation
        self.congestion_control = congestion_control
        self._state_dir = state_dir
        self._switch = switch
        self._keep_received = keep_received
        self._defer_digests = defer_digests
        self._timeout_s = timeout_s
        self.burst_s = burst_s
        self._seed = seed
        self._sharing = sharing
        self._trace_from_s = time.monotonic()
        self._cut_off: set[str] = set()
        self._dying: dict[int, str] = {}  # flow that will be cut -> its client
        self._stack = ExitStack()
        self._index = {name: FIRST_CLIENT + position for position, name in enumerate(topology.clients)}
        self.swept: list[str] = []
        self.watch = QueueWatch(self.queues)
        self.net: Any = None

    def __enter__(self) -> MininetNetwork:
        require_for(self._topology, self.congestion_control, self._switch, turns=self._sharing == "turns")
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

    def _build(self, stack: ExitStack, ledger: Ledger) -> None:
        kind: SwitchKind = "ovs" if self._switch == "ovs" else "bridge"
        self._star = star = Star(stack, ledger, len(self._index), kind)
        self.net = star.net
        started = note_processes(stack, ledger)
        shaper = AgentProcess("shaper", started)
        stack.callback(shaper.close)
        star.configure(shaper)
        if self.burst_s is None:
            self.burst_s = burst_s(shaper.ask(do="lateness")["late_s"])
        self.links = Links(
            shaper,
            star,
            self._index,
            burst_s=self.burst_s,
            seed=self._seed,
            turns=self._sharing == "turns",
        )
        self.links.apply(self._topology, self._dilation, self._trace_from_s)
        self.transfers = stack.enter_context(
            Transfers(
                started,
                congestion_control=self.congestion_control,
                timeout_s=self._timeout_s,
                keep_received=self._keep_received,
                defer_digests=self._defer_digests,
            )
        )
        self.transfers.enter(star.pids, [Endpoint(index, address(index)) for index in star.hosts])

    # --- links ----------------------------------------------------------------------------------------

    def reshape(
        self, topology: Topology, dilation: float = 1.0, *, trace_from_s: float | None = None
    ) -> None:
        """Change every link in place, and read back that the kernel took it.

        Args:
            trace_from_s: the instant (`time.monotonic`) at which traces are at their beginning; they run *dilation*
                times faster from there. None keeps the one before; the first is the building of the network.
        Raises:
            LinkSpecError: other clients than at the start.
            ShapingError: the kernel has something else now.
        """
        if set(topology.clients) != set(self._index):
            raise LinkSpecError(
                "clients", sorted(topology.clients), "a network keeps the clients it was started with"
            )
        if trace_from_s is not None:
            self._trace_from_s = trace_from_s
        self.links.apply(topology, dilation, self._trace_from_s)
        self._topology, self._dilation = topology, dilation

    @property
    def shaped(self) -> Topology:
        """The links as they run on this host now, dilation included."""
        return self._topology.dilated(self._dilation)

    def queues(self) -> dict[str, list[QueueState]]:
        """The kernel's queues and their counters, by ``"client.uplink"``, ``"server.downlink"`` and so on."""
        return self.links.queues()

    # --- transfers ------------------------------------------------------------------------------------

    def start(self, request: FlowRequest) -> None:
        """Start one transfer; the sender connects as soon as its process gets the word."""
        try:
            client = self._index[request.client]
        except KeyError:
            raise TransferError(f"no client {request.client!r} in this network") from None
        if request.direction == "uplink":
            source, target, meter = client, SERVER, self._star.hosts[client]
        else:
            source, target, meter = SERVER, client, self._star.ports[client]
        if request.cut_after_bytes is not None:
            if not 1 <= request.cut_after_bytes < request.payload_bytes:
                raise TransferError(
                    f"flow {request.flow_id}: a flow of {request.payload_bytes} bytes is cut after 1 to "
                    f"{request.payload_bytes - 1}, not {request.cut_after_bytes}"
                )
            self._dying[request.flow_id] = request.client
        self.transfers.start(
            request, Endpoint(source, address(source)), Endpoint(target, address(target)), meter.place
        )

    def wait(self, timeout_s: float) -> list[FlowResult]:
        """Transfers that came to an end: returns as soon as there is one, or ``[]`` after *timeout_s*."""
        self.watch.waits(timeout_s)
        results = self.transfers.wait(timeout_s)
        for result in results:
            client = self._dying.pop(result.flow_id, "")
            if client and client not in self._cut_off:
                self._cut_off.add(client)
                self.cut(
                    client
                )  # so that nothing of the flow that still stands in a queue crosses anybody's link
        return results

    def abort(self, request: FlowRequest, reason: str) -> None:
        """Pull the client's cable and end a flow that is under way; it ends as failed, for *reason*.

        Cables that were pulled because of a flow are plugged in again by the next `prepare`.
        """
        if request.client not in self._cut_off:
            self._cut_off.add(request.client)
            self.cut(request.client)
        self.transfers.abort(request.flow_id, reason)

    def prepare(self, payloads: Iterable[bytes]) -> None:
        """Lay payloads ready; see `Transfers.prepare`."""
        while self._cut_off:
            self.mend(self._cut_off.pop())
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
        self.links.set_port(self._star.ports[self._index[client]], up=False)

    def mend(self, client: str) -> None:
        """Plug the cable in again."""
        self.links.set_port(self._star.ports[self._index[client]], up=True)
