"""The clock: virtual while devices work, real while packets fly.

One SimPy environment for both engines. With no flow in flight it leaps from event to event like any SimPy run. With
flows in flight it does what the engine demands: on emulated links it follows the wall clock times the dilation, on
modelled links it asks the model for its next completion. `docs/clock.md` states what this guarantees.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import simpy
from simpy.events import NORMAL, Event

from netem.flow import Direction, FlowRequest, FlowResult

# A wait is cut into pieces of this length (wall seconds), so that signals are served and no time-out is infinite.
LONGEST_WAIT_S = 1.0


class Dilate(Protocol):
    """Chooses k where nothing is in flight, and what may be in flight together."""

    def __call__(self, request: FlowRequest) -> float:
        """The k at which *request*, which ends a silence, and what joins it run; the links are there by then."""
        ...

    def waits(self, request: FlowRequest, flying: FlowRequest) -> bool:
        """Whether *request*, due now, is carried once *flying* is over, at a k of its own."""
        ...


@dataclass(frozen=True)
class FixedDilation:
    """One k for everything; everything flies together."""

    k: float

    def __call__(self, request: FlowRequest) -> float:
        return self.k

    def waits(self, request: FlowRequest, flying: FlowRequest) -> bool:
        return False


class EmulatedNetwork(Protocol):
    """Real links: flows take wall time, results carry `time.monotonic()` instants."""

    def start(self, request: FlowRequest) -> None: ...
    def wait(self, timeout_s: float) -> list[FlowResult]: ...
    def abort(self, request: FlowRequest, reason: str) -> None: ...


class ModelledNetwork(Protocol):
    """Computed links: flows take virtual time, results carry virtual instants."""

    def start(self, request: FlowRequest, at_s: float) -> None: ...
    def next_completion_s(self) -> float: ...
    def advance(self, to_s: float) -> list[FlowResult]: ...
    def abort(self, request: FlowRequest, at_s: float, reason: str) -> None: ...


@dataclass(frozen=True)
class Transfer:
    """One finished transfer as the clock saw it; times in emulated seconds.

    Attributes:
        flow: what the engine reported, in the engine's own time base.
        started_s, finished_s: on the environment's clock; their difference is the measured duration times the
            dilation, plus *late_s*.
        start_lag_s: how much later than its due instant the sender really started. It shifts this flow against the
            others (contention) and is not part of the duration.
        late_s: how much later than its instant the completion became known after an event that should have come
            later had been processed; 0.0 nearly always. It is part of the duration, so that time never runs back.
        dilation: emulated seconds per wall second of this transfer.
    """

    flow: FlowResult
    started_s: float
    finished_s: float
    start_lag_s: float
    late_s: float
    dilation: float

    @property
    def seconds(self) -> float:
        """Emulated duration."""
        return self.finished_s - self.started_s

    @property
    def ok(self) -> bool:
        """Whether every byte arrived."""
        return self.flow.status == "ok"

    @property
    def lag_s(self) -> float:
        """How far this transfer was from the schedule, start and end together."""
        return self.start_lag_s + self.late_s


class TransferEvent(Event):
    """Succeeds with a `Transfer` when the flow has ended, well or badly."""

    def __init__(self, env: FlowEnvironment, request: FlowRequest) -> None:
        super().__init__(env)
        self.request = request
        self.started_s: float = env.now


class FlowEnvironment(simpy.Environment):
    """What both clocks share: SimPy's queue plus flows that end when the engine says so."""

    def __init__(self, flow_ids: Iterator[int] | None = None) -> None:
        super().__init__()
        self._flows: dict[int, TransferEvent] = {}
        self._flow_ids = itertools.count() if flow_ids is None else flow_ids

    def transfer(
        self,
        client: str,
        direction: Direction,
        payload: bytes | int,
        *,
        cut_after_bytes: int | None = None,
    ) -> TransferEvent:
        """Start to send *payload* now; the returned event succeeds with a `Transfer`.

        Args:
            client: the client's name in the topology.
            direction: ``"uplink"`` (client to server) or ``"downlink"``.
            payload: the bytes that cross the link, at least one; over modelled links their number will do.
            cut_after_bytes: the client's connection is lost when so many have arrived; None: it holds.
        """
        request = FlowRequest(next(self._flow_ids), client, direction, payload, cut_after_bytes)
        event = TransferEvent(self, request)
        self._flows[request.flow_id] = event
        self._start(request)
        return event

    def abort(self, event: TransferEvent, reason: str) -> None:
        """End a transfer now, and with it the client's connection; the event comes, failed for *reason*."""
        if event.request.flow_id in self._flows:
            self._abort(event.request, reason)

    @property
    def in_flight(self) -> int:
        """Number of flows that have started and not ended."""
        return len(self._flows)

    def _start(self, request: FlowRequest) -> None:
        raise NotImplementedError

    def _abort(self, request: FlowRequest, reason: str) -> None:
        raise NotImplementedError

    def _finish(self, result: FlowResult, at_s: float, start_lag_s: float, dilation: float) -> None:
        """Put the end of a flow into the queue at emulated instant *at_s*, or now where that has passed."""
        event = self._flows.pop(result.flow_id)
        finished_s = max(at_s, self.now)
        event._ok = True
        event._value = Transfer(result, event.started_s, finished_s, start_lag_s, finished_s - at_s, dilation)
        self.schedule(event, NORMAL, finished_s - self.now)


class ModelledEnvironment(FlowEnvironment):
    """The clock over modelled links: purely virtual, deterministic, never sleeps."""

    def __init__(self, network: ModelledNetwork) -> None:
        super().__init__()
        self._network = network

    def _start(self, request: FlowRequest) -> None:
        self._network.start(request, self.now)

    def _abort(self, request: FlowRequest, reason: str) -> None:
        self._network.abort(request, self.now, reason)

    def step(self) -> None:
        """Process the next event; completions of the model come in their order among SimPy's events."""
        while self._flows:
            ends_s = self._network.next_completion_s()
            if ends_s > self.peek() or math.isinf(ends_s):
                break
            for result in self._network.advance(ends_s):
                self._finish(result, result.finished_s, 0.0, 1.0)
        super().step()


class EmulatedEnvironment(FlowEnvironment):
    """The clock over real links.

    While a flow is in flight an event due at emulated t is processed when the wall clock has reached t / k after the
    *anchor*, the instant at which the first of the overlapping flows started. Without a flow the clock leaps, and the
    next flow sets a new anchor.

    Args:
        network: carries the flows.
        dilation: k, emulated seconds per wall second; links run at k times their rate. Or what says it for the flow
            that ends a silence, and has the links follow: k can only change while nothing is in flight. A flow that it
            has wait stops this clock until what is in flight is over, and then begins at its due instant.
        wall: the clock that the network's instants are in; replaced in tests.
        flow_ids: numbers for the flows, where one network outlives several environments.
    """

    def __init__(
        self,
        network: EmulatedNetwork,
        *,
        dilation: float | Dilate = 1.0,
        wall: Callable[[], float] = time.monotonic,
        flow_ids: Iterator[int] | None = None,
    ) -> None:
        super().__init__(flow_ids)
        self._network = network
        self._dilate: Dilate = FixedDilation(dilation) if isinstance(dilation, int | float) else dilation
        self._k = 1.0
        self._wall = wall
        self._anchor_s = 0.0  # emulated
        self._anchor_wall = 0.0
        self.flows_wall_s = 0.0  # wall time spent with at least one flow in flight
        self.worst_event_lag_s = (
            0.0  # emulated; the latest that any event was processed behind the wall clock
        )

    def _start(self, request: FlowRequest) -> None:
        if self._waits(request):
            while len(self._flows) > 1:
                self._collect(LONGEST_WAIT_S)
            self.flows_wall_s += self._wall() - self._anchor_wall
        if len(self._flows) == 1:
            self._k = self._dilate(request)
            if not (math.isfinite(self._k) and self._k > 0):
                raise ValueError(f"dilation is a positive number, got {self._k}")
            self._anchor_s, self._anchor_wall = self.now, self._wall()
        self._network.start(request)

    def _abort(self, request: FlowRequest, reason: str) -> None:
        self._network.abort(request, reason)

    def _waits(self, request: FlowRequest) -> bool:
        return any(
            self._dilate.waits(request, event.request)
            for flow_id, event in self._flows.items()
            if flow_id != request.flow_id
        )

    def _due_wall(self, at_s: float) -> float:
        return self._anchor_wall + (at_s - self._anchor_s) / self._k

    def _collect(self, timeout_s: float) -> None:
        for result in self._network.wait(timeout_s):
            event = self._flows[result.flow_id]
            lag_s = (result.started_s - self._due_wall(event.started_s)) * self._k
            took_s = (result.finished_s - result.started_s) * self._k
            self._finish(result, event.started_s + took_s, max(lag_s, 0.0), self._k)
            if not self._flows:
                self.flows_wall_s += self._wall() - self._anchor_wall

    def step(self) -> None:
        """Process the next event, not before the wall clock has reached it while a flow is in flight."""
        while self._flows:
            left_s = self._due_wall(self.peek()) - self._wall()
            if left_s <= 0:
                self._collect(0.0)  # a flow that ended before this event was due goes first
                if self._flows:
                    lag_s = (self._wall() - self._due_wall(self.peek())) * self._k
                    self.worst_event_lag_s = max(self.worst_event_lag_s, lag_s)
                break
            self._collect(min(left_s, LONGEST_WAIT_S))
        super().step()
