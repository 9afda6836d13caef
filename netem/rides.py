"""What the modelled network (`netem.model_backend`) keeps of transfers in flight: flows, and who competes with whom."""

from __future__ import annotations

import math

from netem.fairness import FairLink, Rider, grain
from netem.flow import FlowRequest
from netem.route import Route
from netem.trace import Trace


class Flow:
    """A transfer in flight."""

    __slots__ = ("bits", "folded", "order", "request", "route", "side", "started_s")

    def __init__(
        self, request: FlowRequest, order: int, started_s: float, bits: float, route: Route, side: Side
    ) -> None:
        self.request = request
        self.order = order
        self.started_s = started_s
        self.bits = bits  # on the wire, headers counted, what was lost and sent again not
        self.route = route
        self.side = side
        self.folded = True


class Ride(Rider):
    """A flow that competes: on the shared link for one *stint* after the other, between them waiting for a window."""

    __slots__ = (
        "ceiling",
        "flow",
        "leaf",
        "left",
        "limit",
        "over",
        "phase_left",
        "phases",
        "round_s",
        "stint",
        "window",
    )

    def __init__(self, flow: Flow, leaf: Leaf) -> None:
        super().__init__(flow.order)
        self.flow = flow
        self.leaf = leaf
        self.left = flow.bits  # not yet arrived, the stint under way included
        self.phases = flow.route.phases(flow.bits)[::-1]  # those to come, the next one last
        self.phase_left, self.limit = self.phases.pop()  # of the one under way; the pace that loss sets in it
        self.stint = 0.0
        self.window = flow.route.window_bits
        self.round_s = 0.0
        self.ceiling = 0.0
        self.over = False

    def had(self, bits: float) -> None:
        """*bits* more have arrived."""
        self.left -= bits
        while bits >= self.phase_left and self.phases:
            bits -= self.phase_left
            self.phase_left, self.limit = self.phases.pop()
        self.phase_left -= bits


class Leaf:
    """A client's link in one direction, while rides are on it."""

    __slots__ = ("active", "armed", "client", "dark_s", "rides", "route", "side")

    def __init__(self, client: str, route: Route, side: Side) -> None:
        self.client = client
        self.route = route
        self.side = side
        self.rides: list[Ride] = []
        self.active: list[Ride] = []  # those with a stint under way
        self.armed = False  # a timer stands for the trace's next change
        self.dark_s = math.inf  # since when nothing moves

    def ceilings(self, rate_bps: float) -> list[float]:
        """Max-min shares of this link alone at *rate_bps*, one for each active ride, in their order."""
        left_bps = rate_bps
        if len(self.active) == 1:
            return [min(left_bps, self.active[0].limit)]
        shares = [0.0] * len(self.active)
        by_limit = sorted(range(len(self.active)), key=lambda i: self.active[i].limit)
        for waiting, i in zip(range(len(by_limit), 0, -1), by_limit, strict=True):
            shares[i] = min(left_bps / waiting, self.active[i].limit)
            left_bps -= shares[i]
        return [max(grain(share), 2.0**-10) for share in shares]


class Side:
    """One direction: the server's link that all share, and the clients' links that are in use."""

    __slots__ = (
        "armed",
        "busy",
        "certain",
        "fair",
        "needed_bps",
        "rate_bps",
        "routes",
        "trace",
        "trough_bps",
    )

    def __init__(self) -> None:
        self.fair = FairLink(math.inf)
        self.trace: Trace | None = None
        self.armed = False
        self.rate_bps = math.inf  # without a trace
        self.trough_bps = math.inf  # the least that the server's link ever carries
        self.needed_bps = 0.0  # what the clients' links in use carry together
        self.busy: dict[str, Flow | Leaf] = {}
        self.certain: list[tuple[float, int, Flow]] = []  # ends of folded flows
        self.routes: dict[tuple[float, float, float, float, int], Route] = {}
