"""Links with a wall clock of their own, for tests of the clock: what the modelled network computes, in made-up time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from netem.flow import FlowRequest, FlowResult
from netem.link import Topology
from netem.model_backend import ModelNetwork


class VirtualLinks:
    """Stands where an emulated network stands. Flows are as long as the model says, so that any difference to a
    modelled round is the clock's.

    Args:
        start_lag_s: wall seconds that the host takes to have a sender start.
        notice_s: wall seconds that it takes to tell of a completion.
    """

    def __init__(self, topology: Topology, *, start_lag_s: float = 0.0, notice_s: float = 0.0) -> None:
        self.wall_s = 1000.0
        self.start_lag_s, self.notice_s = start_lag_s, notice_s
        self.reshaped: list[float] = []
        self._network = ModelNetwork(topology)
        self._told: list[FlowResult] = []
        self._digests: dict[int, str] = {}

    def now(self) -> float:
        return self.wall_s

    def reshape(
        self, topology: Topology, dilation: float = 1.0, *, trace_from_s: float | None = None
    ) -> None:
        assert not self._network.in_flight, "links change while a flow is in flight"
        self.reshaped.append(dilation)
        self._network.reshape(topology, dilation, trace_from_s=trace_from_s)

    def prepare(self, payloads: Iterable[bytes]) -> None:
        for _ in payloads:
            pass

    def start(self, request: FlowRequest) -> None:
        self.wall_s += self.start_lag_s
        self._collect(self.wall_s)
        self._network.start(replace(request, payload=request.payload_bytes), self.wall_s)
        self._digests[request.flow_id] = f"digest of flow {request.flow_id}"

    def wait(self, timeout_s: float) -> list[FlowResult]:
        until_s = self.wall_s + timeout_s
        while not self._told and self._network.next_completion_s() + self.notice_s <= until_s:
            self._collect(self._network.next_completion_s())
        told_s = min((result.finished_s + self.notice_s for result in self._told), default=math.inf)
        if told_s > until_s:
            self.wall_s = until_s
            return []
        self.wall_s = max(self.wall_s, told_s)
        told = [result for result in self._told if result.finished_s + self.notice_s <= self.wall_s]
        self._told = [result for result in self._told if result not in told]
        return told

    def abort(self, request: FlowRequest, reason: str) -> None:
        self._collect(self.wall_s)
        self._network.abort(request, self.wall_s, reason)

    def digests(self) -> dict[int, str]:
        return self._digests

    def _collect(self, to_s: float) -> None:
        self._told += self._network.advance(to_s)
