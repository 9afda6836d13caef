"""The modelled network: the same calls as the emulated one, answered by arithmetic in virtual time.

A fluid model. Flows are rates, not packets; every link is shared max-min fairly; TCP adds headers, a handshake, slow
start and, where packets are lost, a published throughput formula. `docs/network-model.md` states the model and how far
measured transfers lie from it.

Two regimes keep the cost of an event independent of the number of other flows. While the access links of all clients
that are sending fit into the server's link together, no flow can hold up another: each is *folded*, its end computed
once when it starts. When they no longer fit, folded flows unfold into *rides* on the server's `FairLink`, each at most
once in its life.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from heapq import heappop, heappush
from types import TracebackType
from typing import Any, Literal, Self

from netem.errors import NetemError
from netem.fairness import FairLink, grain
from netem.flow import FlowRequest, FlowResult
from netem.link import LinkSpec, Topology
from netem.rides import Flow, Leaf, Ride, Side
from netem.route import Route
from netem.tcp import CONGESTION_CONTROLS, MSS, CongestionControl, data_bytes, flow_bytes
from netem.trace import OUTAGE_BPS, Trace

# A round trip that is shorter than the last window by less than this is rounding, not a pause.
_SAME = 1e-9
# Fleets have few kinds of links; where every client has its own, old ones make room.
_ROUTES_KEPT = 100_000


class ModelError(NetemError, ValueError):
    """A call that the modelled network cannot make sense of."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return self.what


_Timer = tuple[float, int, Callable[[Any], None], Any]
_Source = list[Any] | FairLink | None  # ends of folded flows, timers, or rides


class ModelNetwork:
    """Transfers over *topology* in virtual time; nothing sleeps, needs root or carries bytes.

    The same calls give the same results, bit for bit, however often `advance` is called in between.

    Args:
        topology: links, as for the emulated network. Jitter and reordering have no effect here.
        congestion_control: whose reaction to loss is modelled; see `netem.tcp.loss_phases`.
        mss: payload bytes of a full packet.
        dilation: k runs the links at k times their rate and a k-th of their delay, traces k times faster, as on
            the emulated network.
        timeout_s: a flow whose link has been dark for this long has failed, as on the emulated network.
        trace_from_s: the instant at which traces are at their beginning.
    """

    engine: Literal["model"] = "model"

    def __init__(
        self,
        topology: Topology,
        *,
        congestion_control: CongestionControl = "cubic",
        mss: int = MSS,
        dilation: float = 1.0,
        timeout_s: float = 30.0,
        trace_from_s: float = 0.0,
    ) -> None:
        if congestion_control not in CONGESTION_CONTROLS:
            known = ", ".join(CONGESTION_CONTROLS)
            raise ModelError(f"no model of congestion control {congestion_control!r}; known: {known}")
        if mss < 1:
            raise ModelError(f"a packet carries at least 1 byte, not {mss}")
        if not timeout_s > 0.0:
            raise ModelError(f"a time-out is above 0 s, not {timeout_s}")
        self._control: CongestionControl = congestion_control
        self._mss = mss
        self._timeout_s = timeout_s
        self._now_s = 0.0
        self._order = 0  # number of flows started; orders completions at one instant
        self._tie = 0
        self._in_flight = 0
        self._cut: set[str] = set()
        self._up, self._down = Side(), Side()
        self._timers: list[_Timer] = []
        self._ready: list[FlowResult] = []
        self._topology, self._dilation, self._trace_from_s = topology, dilation, trace_from_s
        self._traces: dict[int, tuple[Trace, Trace]] = {}  # by identity: the original, and as it runs here
        self.reshape(topology, dilation)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    @property
    def now_s(self) -> float:
        """The latest instant that any call has named."""
        return self._now_s

    @property
    def in_flight(self) -> int:
        """Flows started and not yet handed out by `advance`."""
        return self._in_flight + len(self._ready)

    # -- what callers do -----------------------------------------------------------------------------------

    def start(self, request: FlowRequest, at_s: float) -> None:
        """Start a transfer at *at_s*: not before any instant named so far, unless nothing is in flight.

        Raises:
            ModelError: an unknown client, nothing to send, or an instant that has passed.
        """
        if at_s != self._now_s:
            self._move_to(at_s)
        side = self._up if request.direction == "uplink" else self._down
        route = self._route(side, request.client)
        size = request.payload_bytes
        if size < 1:
            raise ModelError(f"flow {request.flow_id}: a transfer has at least 1 byte, not {size}")
        if request.cut_after_bytes is not None:  # until then it is a flow like any other
            size = _cut_bytes(request)
        bits = 8.0 * data_bytes(size, self._mss)
        flow = Flow(request, self._order, at_s, bits, route, side)
        self._order += 1
        self._in_flight += 1
        before = side.busy.get(request.client)
        if before is None:
            side.needed_bps += route.rate_bps
            if (
                side.needed_bps <= side.trough_bps
                and route.folds(self._timeout_s)
                and request.client not in self._cut
            ):
                side.busy[request.client] = flow
                heappush(side.certain, (route.lone_s(at_s + route.entry_s, bits), flow.order, flow))
                return
            if side.needed_bps > side.trough_bps:
                self._unfold_all(side)
            leaf = side.busy[request.client] = Leaf(request.client, route, side)
        else:
            leaf = self._unfold(before) if isinstance(before, Flow) else before
        self._ride(flow, leaf)

    def next_completion_s(self) -> float:
        """An instant before which no flow ends if none is started; inf when none is in flight.

        It *is* the next completion unless a shared link is short or a trace is at work: there it may be an earlier
        instant at which shares change. ``advance(next_completion_s())`` then returns nothing, and the next call
        gives a later instant: loop until there is a result.
        """
        if self._ready:
            return self._ready[0].finished_s
        return max(self._next()[0], self._now_s) if self._in_flight else math.inf

    def advance(self, to_s: float) -> list[FlowResult]:
        """Move to *to_s*; every flow that ended by then and was not handed out before, in order of time."""
        if to_s >= self._now_s:
            self._move_to(to_s)
        done, self._ready = self._ready, []
        return done

    def run(self) -> list[FlowResult]:
        """Let everything that is in flight end; the results in order of time."""
        done = self.advance(self._now_s)
        while self._in_flight:
            done += self.advance(self.next_completion_s())
        return done

    def abort(self, request: FlowRequest, at_s: float, reason: str) -> None:
        """End a flow that is in flight at *at_s*, with what has arrived by then; nothing where it has ended."""
        self._move_to(at_s)
        side = self._up if request.direction == "uplink" else self._down
        here = side.busy.get(request.client)
        if isinstance(here, Flow):
            here = self._unfold(here)
        for ride in here.rides if here is not None else []:
            if ride.flow.request.flow_id == request.flow_id:
                self._drop(ride, reason)
                return

    def cut(self, client: str) -> None:
        """Pull the client's cable now: both directions carry nothing until `mend`."""
        self._route(self._up, client)
        self._cut.add(client)
        self._relight(client)

    def mend(self, client: str) -> None:
        """Plug the cable in again."""
        self._cut.discard(client)
        self._relight(client)

    def reshape(
        self, topology: Topology, dilation: float = 1.0, *, trace_from_s: float | None = None
    ) -> None:
        """Other links for the same clients from now on; flows in flight go on over them."""
        if self._order and topology.clients.keys() != self._topology.clients.keys():
            raise ModelError("a network is reshaped with the clients that it was made with")
        self._topology, self._dilation = topology, dilation
        if trace_from_s is not None:
            self._trace_from_s = trace_from_s
        self._traces = {}
        for side, spec in ((self._up, topology.server.downlink), (self._down, topology.server.uplink)):
            self._unfold_all(side)
            side.routes = {}
            side.rate_bps = side.trough_bps = grain(spec.rate_bps * dilation)
            side.trace = self._trace(spec)
            if side.trace is not None:
                rates = [rate for _, rate in side.trace.changes(side.trace.length_s)]
                side.trough_bps = grain(min(rates))
            self._set_capacity(side)
            side.needed_bps = 0.0
            for leaf in side.busy.values():
                assert isinstance(leaf, Leaf)
                leaf.route = self._route(side, leaf.client)
                for ride in leaf.rides:
                    ride.flow.route = leaf.route
                side.needed_bps += leaf.route.rate_bps
                self._share(leaf)

    # -- time ----------------------------------------------------------------------------------------------

    def _move_to(self, to_s: float) -> None:
        if to_s < self._now_s:
            if self.in_flight:
                raise ModelError(f"{to_s!r} s has passed; flows are in flight at {self._now_s!r} s")
            self._rewind(to_s)
        elif not to_s >= self._now_s:
            raise ModelError(f"{to_s!r} is no instant")
        while self._in_flight:
            next_s, source = self._next()
            if next_s > to_s or source is None:
                break
            if next_s > self._now_s:
                self._now_s = next_s
            if isinstance(source, FairLink):
                ride = source.pop()[1]
                assert isinstance(ride, Ride)
                self._stint_over(ride)
            elif source is self._timers:
                _, _, handler, what = heappop(self._timers)
                handler(what)
            else:
                self._finish(heappop(source)[2])
        if not math.isinf(to_s):
            self._now_s = max(to_s, self._now_s)

    def _rewind(self, to_s: float) -> None:
        """With nothing in flight there is no time to keep."""
        self._now_s = to_s
        self._timers.clear()
        for side in (self._up, self._down):
            side.fair, side.armed = FairLink(math.inf), False
            self._set_capacity(side)

    def _next(self) -> tuple[float, _Source]:
        """The next event and what holds it; inf and None where only starts could bring one."""
        next_s = math.inf
        source: _Source = None
        for side in (self._up, self._down):
            heap = side.certain
            while heap and not heap[0][2].folded:
                heappop(heap)
            if heap and heap[0][0] < next_s:
                next_s, source = heap[0][0], heap
            if side.fair.due_s < next_s:
                next_s, source = side.fair.due_s, side.fair
        if self._timers and self._timers[0][0] < next_s:
            next_s, source = self._timers[0][0], self._timers
        return next_s, source

    def _at(self, at_s: float, handler: Callable[[Any], None], what: object) -> None:
        self._tie += 1
        heappush(self._timers, (at_s, self._tie, handler, what))

    # -- links ---------------------------------------------------------------------------------------------

    def _route(self, side: Side, client: str) -> Route:
        """The route of *client*; one object for all clients whose links are alike."""
        access = self._topology.clients.get(client)
        if access is None:
            raise ModelError(f"no client {client!r} in this network")
        server = self._topology.server
        if side is self._up:
            near, shared = access.uplink, server.downlink
            back_s = server.uplink.delay_s + access.downlink.delay_s
        else:
            near, shared = access.downlink, server.uplink
            back_s = access.uplink.delay_s + server.downlink.delay_s
        key = (near.rate_bps, near.delay_s, near.loss, back_s, id(near.trace))
        route = side.routes.get(key)
        if route is None:
            if len(side.routes) > _ROUTES_KEPT:
                side.routes.clear()
            k = self._dilation
            route = side.routes[key] = Route(
                near if k == 1.0 else near.dilated(k),
                shared if k == 1.0 else shared.dilated(k),
                back_s / k,
                control=self._control,
                mss=self._mss,
                trace=self._trace(near),
                trace_from_s=self._trace_from_s,
            )
        return route

    def _trace(self, spec: LinkSpec) -> Trace | None:
        """The link's trace at the network's dilation, made once for all links that share it."""
        trace = spec.trace
        if trace is None or self._dilation == 1.0:
            return trace
        if id(trace) not in self._traces:
            self._traces[id(trace)] = (trace, trace.scaled(self._dilation, 1.0 / self._dilation))
        return self._traces[id(trace)][1]

    def _set_capacity(self, side: Side) -> None:
        """What the server's link carries now, and a timer for the next change while it has a trace."""
        trace, now_s = side.trace, self._now_s
        if trace is None:
            side.fair.resize(side.rate_bps, now_s)
            return
        at_s = max(now_s - self._trace_from_s, 0.0)
        side.fair.resize(grain(trace.rate_at(at_s)), now_s)
        if not side.armed:
            side.armed = True
            change_s = trace.next_change(at_s) + self._trace_from_s
            self._at(max(change_s, math.nextafter(now_s, math.inf)), self._server_change, side)

    def _server_change(self, side: Side) -> None:
        side.armed = False
        if not side.fair.idle:
            self._set_capacity(side)

    def _relight(self, client: str) -> None:
        for side in (self._up, self._down):
            here = side.busy.get(client)
            if here is not None:
                self._share(self._unfold(here) if isinstance(here, Flow) else here)

    # -- rides ---------------------------------------------------------------------------------------------

    def _unfold_all(self, side: Side) -> None:
        flows = [flow for _, _, flow in side.certain if flow.folded]
        side.certain.clear()
        for flow in flows:
            self._unfold(flow)

    def _unfold(self, flow: Flow) -> Leaf:
        flow.folded = False
        side = flow.side
        leaf = side.busy[flow.request.client] = Leaf(flow.request.client, flow.route, side)
        self._ride(flow, leaf)
        return leaf

    def _ride(self, flow: Flow, leaf: Leaf) -> None:
        """From now on *flow* competes, from wherever it is."""
        flow.folded = False
        ride = Ride(flow, leaf)
        leaf.rides.append(ride)
        entered_s = flow.started_s + flow.route.entry_s
        ride.round_s = entered_s
        if self._now_s < entered_s:
            self._at(entered_s, self._window, ride)
            return
        here = flow.route.position(entered_s, flow.bits, self._now_s)
        ride.had(here.sent_bits)
        ride.window, ride.round_s = here.window_bits, here.round_s
        if self._now_s < here.round_s:
            self._at(here.round_s, self._window, ride)
        else:
            self._work(ride, here.window_left_bits)

    def _window(self, ride: Ride) -> None:
        """The first bit of the next window arrives."""
        if not ride.over:
            ride.round_s = self._now_s
            self._work(ride, ride.window)

    def _work(self, ride: Ride, window_left: float) -> None:
        """Begin a stint: to the end of the window, of the phase or of the flow, whichever comes first."""
        ride.stint = min(window_left, ride.left, ride.phase_left)
        ride.ceiling = 0.0
        ride.leaf.active.append(ride)
        self._share(ride.leaf)

    def _share(self, leaf: Leaf) -> None:
        """Give the active rides of *leaf* their ceilings and keep watch over the traces that matter to them."""
        if not leaf.active:
            leaf.dark_s = math.inf  # nobody is there to give up
            return
        side, now_s = leaf.side, self._now_s
        if side.trace is not None and not side.armed:
            self._set_capacity(side)
        rate_bps = OUTAGE_BPS if leaf.client in self._cut else leaf.route.rate_at(now_s)
        self._watch(leaf, rate_bps)
        for ride, ceiling in zip(leaf.active, leaf.ceilings(rate_bps), strict=True):
            if ride.group is None:
                side.fair.add(ride, ceiling, ride.stint, now_s)
            elif ride.ceiling != ceiling:
                left = side.fair.remove(ride, now_s)
                side.fair.add(ride, ceiling, left, now_s)
            ride.ceiling = ceiling
        if leaf.route.trace is not None and not leaf.armed:
            leaf.armed = True
            self._at(leaf.route.next_change(now_s), self._leaf_change, leaf)

    def _leaf_change(self, leaf: Leaf) -> None:
        leaf.armed = False
        self._share(leaf)

    def _stint_over(self, ride: Ride) -> None:
        leaf = ride.leaf
        leaf.active.remove(ride)
        ride.had(ride.stint)
        now_s, rtt_s = self._now_s, leaf.route.rtt_s
        if ride.left <= 0.0:
            self._finish(ride.flow)
        elif ride.limit == math.inf and now_s - ride.round_s < rtt_s * (1.0 - _SAME):
            ride.window *= 2.0
            self._at(ride.round_s + rtt_s, self._window, ride)
            self._share(leaf)
        else:  # the pipe is full, or loss sets the pace
            ride.window = math.inf
            self._work(ride, math.inf)

    def _watch(self, leaf: Leaf, rate_bps: float) -> None:
        """Note since when the leaf is dark; its flows give up when that lasts too long."""
        if rate_bps > OUTAGE_BPS:
            leaf.dark_s = math.inf
        elif leaf.dark_s == math.inf:
            leaf.dark_s = self._now_s
            if not math.isinf(self._timeout_s):
                self._at(self._now_s + self._timeout_s, self._give_up, (leaf, leaf.dark_s))

    def _give_up(self, what: tuple[Leaf, float]) -> None:
        leaf, dark_s = what
        if leaf.dark_s != dark_s:  # there was light in between
            return
        for ride in leaf.active[:]:
            self._drop(ride, f"no byte for {self._timeout_s:g} s")

    def _drop(self, ride: Ride, reason: str) -> None:
        """End a ride before its flow has arrived."""
        leaf, left = ride.leaf, ride.left
        if ride in leaf.active:
            left += leaf.side.fair.remove(ride, self._now_s) - ride.stint
            leaf.active.remove(ride)
        self._finish(ride.flow, missing=left / ride.flow.bits, reason=reason)

    def _finish(self, flow: Flow, *, missing: float = 0.0, reason: str = "") -> None:
        request, side = flow.request, flow.side
        leaf = side.busy[request.client]
        if isinstance(leaf, Leaf):
            for ride in leaf.rides:
                if ride.flow is flow:
                    ride.over = True
            leaf.rides = [ride for ride in leaf.rides if not ride.over]
            self._share(leaf)
        if not isinstance(leaf, Leaf) or not leaf.rides:
            del side.busy[request.client]
            side.needed_bps -= flow.route.rate_bps
        self._in_flight -= 1
        self._ready.append(self._result(flow, missing, reason))

    def _result(self, flow: Flow, missing: float, reason: str) -> FlowResult:
        """*missing* is the share of the flow that will never arrive, for *reason*."""
        request, payload = flow.request, flow.request.payload
        size = request.payload_bytes
        digest = error = ""
        wire: int | None = None
        if missing:
            arrived = int((request.cut_after_bytes or size) * (1.0 - missing))
            error = f"{reason}; {arrived} of {size} had arrived"
        elif request.cut_after_bytes is not None:
            arrived, error = request.cut_after_bytes, request.cut_reason()
        else:
            arrived, wire = size, flow_bytes(flow.bits / 8.0, flow.route.loss)
            if not isinstance(payload, int):
                digest = hashlib.sha256(payload).hexdigest()
        return FlowResult(
            request.flow_id,
            request.client,
            request.direction,
            "failed" if error else "ok",
            flow.started_s,
            self._now_s,
            arrived,
            wire,
            digest,
            error,
        )


def _cut_bytes(request: FlowRequest) -> int:
    """How many bytes arrive of a flow that will be cut."""
    size = request.cut_after_bytes
    if size is None or not 1 <= size < request.payload_bytes:
        raise ModelError(
            f"flow {request.flow_id}: a flow of {request.payload_bytes} bytes is cut after 1 to "
            f"{request.payload_bytes - 1}, not {size}"
        )
    return size
