"""The shaped links of one emulated star: brought into shape in place, read back, replayed, cut."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from netem.agent import memory_file
from netem.errors import LinkSpecError, ShapingError, TransferError
from netem.link import AccessLink, LinkSpec, Topology
from netem.processes import AgentProcess, batches
from netem.shaper import FRAME_BYTES, MTU_BYTES, UNCUT_BYTES, Shape, differences, shape
from netem.sharing import LAST_MEMBER, member_shape, member_states
from netem.star import SERVER, SWITCH, Interface, Star
from netem.trace import Trace
from netem.traffic_control import QueueState

_UNKNOWN_RATE = -1  # no shape has it, so the next one sets its own


@dataclass(slots=True)
class _Direction:
    """One shaped interface.

    Attributes:
        members: who shares it in turns, by the low 16 bits of their addresses; empty where one queue serves all.
        by: where in a packet a member's address stands.
        shape: what the kernel has, as far as we set it.
        frames: the longest packet that the interface's stack makes.
        seeds: how many seeds it has had.
    """

    label: str
    interface: Interface
    members: tuple[int, ...] = ()
    by: Literal["source", "destination"] = "source"
    shape: Shape | None = None
    frames: int = 0
    seeds: int = 0

    def differences(self, states: Sequence[QueueState]) -> Iterator[tuple[str, str]]:
        """What the kernel has against what it was asked for."""
        assert self.shape is not None
        if not self.members:
            yield from differences(self.shape, states)
        for member in self.members:
            yield from differences(
                member_shape(self.shape, member, len(self.members)), member_states(states, member)
            )


class Links:
    """Uplinks are shaped where they leave a host, downlinks at the switch's port to it.

    Args:
        burst_s: token bucket of every link, in time at its rate.
        seed: of netem's random numbers, where the kernel takes one; each link has its own made from it.
        turns: the server's link serves its clients in turns of equal bytes; else first come, first served.
    """

    def __init__(
        self,
        shaper: AgentProcess,
        star: Star,
        index: Mapping[str, int],
        *,
        burst_s: float,
        seed: int | None,
        turns: bool,
    ) -> None:
        self._shaper = shaper
        self._index = index
        self._burst_s = burst_s
        self._seed = seed
        if turns and max(index.values()) > LAST_MEMBER:
            raise LinkSpecError(
                "clients", len(index), f"at most {LAST_MEMBER - 1} clients take turns on a link"
            )
        members = tuple(index.values()) if turns else ()  # a host's index is the low half of its address
        self._directions = [
            _Direction("server.uplink", star.hosts[SERVER], members, "destination"),
            _Direction("server.downlink", star.ports[SERVER], members, "source"),
            *(
                _Direction(f"{name}.{side}", interface)
                for name, number in index.items()
                for side, interface in (("uplink", star.hosts[number]), ("downlink", star.ports[number]))
            ),
        ]
        self._replaying = False

    def apply(self, topology: Topology, dilation: float, trace_from_s: float) -> None:
        """Bring every link to *topology* at *dilation*; traces are at their beginning at *trace_from_s*.

        Raises:
            ShapingError: the kernel has something else now.
        """
        if self._replaying:
            self._replay([], [])
        wanted = list(self._wanted(topology))
        frames = self._frames(topology, dilation)
        changed: list[tuple[_Direction, Shape]] = []
        orders: list[dict[str, Any]] = []
        for direction, spec in zip(self._directions, wanted, strict=True):
            new = self._new_shape(direction, spec, dilation)
            longest = frames[direction.label]
            if new == direction.shape and longest == direction.frames:
                continue
            orders.append(
                {
                    "place": direction.interface.place,
                    "new": asdict(new),
                    "old": asdict(direction.shape) if direction.shape else None,
                    "members": direction.members,
                    "by": direction.by,
                    "frames": longest if longest != direction.frames else 0,
                }
            )
            changed.append((direction, new))
            direction.frames = longest
        for batch in batches(orders):
            self._ask(do="shape", links=batch)
        for direction, new in changed:
            direction.shape = new
        self._check([direction for direction, _ in changed])
        self._follow(wanted, dilation, trace_from_s)

    def _follow(self, wanted: Sequence[LinkSpec], dilation: float, trace_from_s: float) -> None:
        """Start to replay the traces that links have."""
        traces: dict[int, tuple[int, Trace]] = {}  # by identity: many links share one, and it may be long
        links = []
        for direction, spec in zip(self._directions, wanted, strict=True):
            if spec.trace is None:
                continue
            assert direction.shape is not None
            scaled = spec.trace.scaled(dilation, 1.0 / dilation) if id(spec.trace) not in traces else None
            if scaled is not None:
                traces[id(spec.trace)] = (len(traces), scaled)
            links.append(
                {
                    "place": direction.interface.place,
                    "from_s": trace_from_s,
                    "burst_s": self._burst_s,
                    "segment_bytes": direction.shape.segment_bytes,
                    "trace": traces[id(spec.trace)][0],
                }
            )
            direction.shape = replace(direction.shape, rate_bytes_s=_UNKNOWN_RATE)
        if links:
            fields = [
                {"times_s": t.times_s, "rates_bps": t.rates_bps, "end": t.end, "length_s": t.length_s}
                for _, t in traces.values()
            ]
            self._replay(fields, links)

    def _wanted(self, topology: Topology) -> Iterator[LinkSpec]:
        accesses: list[AccessLink] = [topology.server, *(topology.clients[name] for name in self._index)]
        for access in accesses:
            yield access.uplink
            yield access.downlink

    def _frames(self, topology: Topology, dilation: float) -> dict[str, int]:
        """How many frames each host's stack may make into one packet; 0 for the switch's ports, which only pass on.

        Cutting a packet costs far more time than never making it. The server's packets go to all clients, so theirs
        may be as long as the fastest of them takes; the ports of the others cut.
        """
        longest = {
            direction.label: shape(spec, dilation).segment_bytes
            for direction, spec in zip(self._directions, self._wanted(topology), strict=True)
        }
        longest["server.uplink"] = min(
            longest["server.uplink"], max(longest[f"{client}.downlink"] for client in self._index)
        )
        return {
            direction.label: (
                0
                if direction.interface.namespace == SWITCH
                else min(max(longest[direction.label] // FRAME_BYTES, 1), UNCUT_BYTES // MTU_BYTES)
            )
            for direction in self._directions
        }

    def _new_shape(self, direction: _Direction, spec: LinkSpec, dilation: float) -> Shape:
        """What the kernel is to have. A link that changes goes on with another seed: with the same again, netem would
        start its random numbers anew, and each round would lose the packets that the first one lost."""
        new = self._shape(direction, spec, dilation)
        if direction.shape is not None and new != direction.shape and new.netem is not None:
            direction.seeds += 1
            new = self._shape(direction, spec, dilation)
        return new

    def _shape(self, direction: _Direction, spec: LinkSpec, dilation: float) -> Shape:
        seed = self._seed_of(f"{direction.label}/{direction.seeds}")
        return shape(spec, dilation, burst_s=self._burst_s, seed=seed)

    def _seed_of(self, label: str) -> int | None:
        if self._seed is None:
            return None
        return int.from_bytes(
            hashlib.blake2b(f"{self._seed}/{label}".encode(), digest_size=8).digest(), "little"
        )

    def _check(self, directions: Sequence[_Direction]) -> None:
        found = self._read(directions)
        for direction, states in zip(directions, found, strict=True):
            for asked, got in direction.differences(states):
                raise ShapingError(f"{direction.label} ({direction.interface.name})", asked, got)

    def _read(self, directions: Sequence[_Direction]) -> list[list[QueueState]]:
        found: list[list[QueueState]] = []
        for batch in batches([direction.interface.place for direction in directions], size=50):
            rows = self._ask(do="queues", places=batch)["queues"]
            found += [[QueueState(**row) for row in states] for states in rows]
        return found

    def queues(self) -> dict[str, list[QueueState]]:
        """What the kernel has and counted, by ``"client.uplink"`` and the like."""
        found = self._read(self._directions)
        return {direction.label: states for direction, states in zip(self._directions, found, strict=True)}

    def _replay(self, traces: list[dict[str, Any]], links: list[dict[str, Any]]) -> None:
        file = memory_file("traces", json.dumps({"traces": traces, "links": links}).encode())
        try:
            self._ask([file], do="replay")
        finally:
            os.close(file)
        self._replaying = bool(links)

    def set_port(self, port: Interface, *, up: bool) -> None:
        """Plug a host's cable in or out at the switch."""
        self._ask(do="up", place=port.place, up=up)

    def _ask(self, descriptors: Sequence[int] = (), **message: Any) -> dict[str, Any]:
        try:
            return self._shaper.ask(descriptors, **message)
        except TransferError as error:
            if os.strerror(errno.ENODEV) in str(error):
                raise TransferError(
                    f"an interface of this run's network is gone, removed from outside? {error}"
                ) from error
            raise ShapingError("links", str(message["do"]), str(error)) from error
