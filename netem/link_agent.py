"""Setting links, and replaying traces on them, in the shaper's process."""

from __future__ import annotations

import heapq
import json
import math
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netem.agent import Agent
from netem.shaper import NetemSettings, Shape
from netem.sharing import SharedTrafficControl
from netem.trace import Trace
from netem.traffic_control import QueueState

# In an outage the rate is set anew whenever this part of what remains has passed.
_OUTAGE_STEP = 0.2
_LEAST_STEP_S = 0.001


class LinkAgent(Agent):
    """Does what its owner asks to interfaces in any namespace; each answer ends with ``done`` or ``error``."""

    control_class = SharedTrafficControl

    def __init__(self, channel: socket.socket) -> None:
        super().__init__(channel)
        self._replays: list[_Replay] = []
        self._due: list[tuple[float, int]] = []  # when, index into replays

    def patience_s(self) -> float | None:
        return max(self._due[0][0] - time.monotonic(), 0.0) if self._due else None

    def tick(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, number = heapq.heappop(self._due)
            self._set(number)

    # --- set-up ---------------------------------------------------------------------------------------

    def on_settings(self, descriptors: list[int], namespaces: list[int], values: dict[str, str]) -> None:
        """Write sysctls of each namespace: path below /proc/sys -> value. A kernel without IPv6 has none of its."""
        for index in namespaces:
            self.enter(index)
            for path, value in values.items():
                if not path.startswith("net/ipv6/") or Path("/proc/sys/net/ipv6").exists():
                    Path("/proc/sys", path).write_text(value, encoding="ascii")
        self.tell(event="done")

    def on_hosts(self, descriptors: list[int], hosts: list[dict[str, Any]]) -> None:
        """Give hosts their address and their neighbours, and switch their interface on."""
        for host in hosts:
            control = self.control(host["namespace"])
            control.add_address(host["ifindex"], host["address"], host["prefix_length"])
            control.set_up(host["ifindex"])
            for address, link_address in host["neighbours"]:
                control.add_neighbour(host["ifindex"], address, link_address)
        self.tell(event="done")

    def on_up(self, descriptors: list[int], place: list[int], up: bool) -> None:
        """Switch an interface on or off."""
        index, ifindex = place
        self.control(index).set_up(ifindex, up=up)
        self.tell(event="done")

    # --- queues ---------------------------------------------------------------------------------------

    def on_shape(self, descriptors: list[int], links: list[dict[str, Any]]) -> None:
        """Bring interfaces into shape, and have their stacks make no longer packets than they take."""
        for link in links:
            index, ifindex = link["place"]
            control = self.control(index)
            if link["frames"]:
                control.limit_super_packets(ifindex, link["frames"])
            new, old = _shape(link["new"]), _shape(link["old"]) if link["old"] else None
            if link["members"]:
                assert isinstance(control, SharedTrafficControl)
                control.share(ifindex, link["members"], link["by"], new, old)
            else:
                control.shape(ifindex, new, old)
        self.tell(event="done")

    def on_queues(self, descriptors: list[int], places: list[list[int]]) -> None:
        """Report queues and classes of interfaces."""
        by_namespace: dict[int, list[int]] = {}
        for index, ifindex in places:
            by_namespace.setdefault(index, []).append(ifindex)
        states = {index: self.control(index).queues(ifindexes) for index, ifindexes in by_namespace.items()}
        found = [[_row(state) for state in states[index][ifindex]] for index, ifindex in places]
        self.tell(event="done", queues=found)

    # --- traces ---------------------------------------------------------------------------------------

    def on_replay(self, descriptors: list[int]) -> None:
        """Replay what a memory file says from now on, instead of whatever was replayed; an empty list stops."""
        (file,) = descriptors
        with os.fdopen(file, "rb") as content:
            plan = json.load(content)
        traces = [
            Trace(tuple(trace["times_s"]), tuple(trace["rates_bps"]), trace["end"], trace["length_s"])
            for trace in plan["traces"]
        ]
        self._replays = [_Replay(**{**link, "trace": traces[link["trace"]]}) for link in plan["links"]]
        self._due = []
        for number in range(len(self._replays)):
            self._set(number)
        self.tell(event="done")

    def _set(self, number: int) -> None:
        """Set the rate that is in force now, and come back when it ends.

        htb charges a packet in time, at the rate of the moment it leaves, and keeps that debt when the rate changes:
        one frame at a byte a second blocks a link for 25 minutes (or the kernel's limit of one). So no rate is set at
        which a packet would take longer than the rate lasts; during an outage one passes, and blocks until its end.
        """
        replay = self._replays[number]
        at_s = time.monotonic() - replay.from_s
        change_s = replay.trace.next_change(at_s)
        rate = replay.trace.rate_at(at_s) / 8
        least = replay.segment_bytes / (change_s - at_s)
        if rate < least:
            rate = least
            change_s = min(change_s, at_s + max(_OUTAGE_STEP * (change_s - at_s), _LEAST_STEP_S))
        bytes_s = max(round(rate), 1)
        index, ifindex = replay.place
        burst = max(round(bytes_s * replay.burst_s), 1)
        self.control(index).set_rate(ifindex, bytes_s, burst)
        if change_s != math.inf:
            heapq.heappush(self._due, (replay.from_s + change_s, number))


@dataclass(frozen=True, slots=True)
class _Replay:
    """One interface whose rate follows a trace; *from_s* is the instant of its beginning."""

    place: list[int]
    from_s: float
    burst_s: float
    segment_bytes: int
    trace: Trace


def _shape(fields: dict[str, Any]) -> Shape:
    netem = fields["netem"]
    return Shape(**{**fields, "netem": NetemSettings(**netem) if netem else None})


def _row(state: QueueState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in state.__slots__}
