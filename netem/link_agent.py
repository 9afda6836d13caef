"""Setting links, and replaying traces on them, in the shaper's process."""

from __future__ import annotations

import heapq
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from netem.agent import Agent
from netem.shaper import NetemSettings, Shape
from netem.trace import Trace
from netem.traffic_control import QueueState


class LinkAgent(Agent):
    """Does what its owner asks to interfaces in any namespace; each answer ends with ``done`` or ``error``."""

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
        """Write sysctls of each namespace: path below /proc/sys -> value."""
        for index in namespaces:
            self.enter(index)
            for path, value in values.items():
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
            control.shape(ifindex, _shape(link["new"]), _shape(link["old"]) if link["old"] else None)
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
            self._replays = [_Replay(**link) for link in json.load(content)]
        self._due = []
        for number in range(len(self._replays)):
            self._set(number)
        self.tell(event="done")

    def _set(self, number: int) -> None:
        """Set the rate that is in force now, and come back at the next change."""
        replay = self._replays[number]
        at_s = max(time.monotonic() - replay.from_s, 0.0)
        rate = max(round(replay.trace.rate_at(at_s) / 8), 1)
        index, ifindex = replay.place
        self.control(index).set_rate(
            ifindex, rate, max(round(rate * replay.burst_s), replay.least_burst_bytes)
        )
        next_s = replay.trace.next_change(at_s)
        if next_s != float("inf"):
            heapq.heappush(self._due, (replay.from_s + next_s, number))


class _Replay:
    """One interface whose rate follows a trace; *from_s* is the instant of its beginning."""

    def __init__(
        self,
        place: list[int],
        from_s: float,
        burst_s: float,
        least_burst_bytes: int,
        times_s: list[float],
        rates_bps: list[float],
        end: Any,
        length_s: float,
    ) -> None:
        self.place = place
        self.from_s = from_s
        self.burst_s = burst_s
        self.least_burst_bytes = least_burst_bytes
        self.trace = Trace(tuple(times_s), tuple(rates_bps), end, length_s)


def _shape(fields: dict[str, Any]) -> Shape:
    netem = fields["netem"]
    return Shape(**{**fields, "netem": NetemSettings(**netem) if netem else None})


def _row(state: QueueState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in state.__slots__}
