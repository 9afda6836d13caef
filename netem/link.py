"""What links are asked to be: plain data, checked when built, the same for both engines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from netem.errors import LinkSpecError

if TYPE_CHECKING:
    from netem.trace import Trace

# A byte a second: below it the kernel's 64-bit byte rate rounds to nothing.
LOWEST_RATE_BPS = 8.0
# tc takes 64-bit rates; one terabit is beyond any host that runs this.
HIGHEST_RATE_BPS = 1e12


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """One direction of one link.

    Attributes:
        rate_bps: bits per second on the wire, Ethernet headers counted (as ``tc`` does), preamble and
            inter-frame gap not. With a *trace*, the rate before its first point.
        delay_s: one-way propagation delay.
        jitter_s: each packet's delay is drawn from ``delay_s`` ± ``jitter_s``; packets keep their order.
        loss: chance that a packet is lost, independent from packet to packet, 0 <= loss < 1.
        reorder: chance that a packet overtakes those before it; needs a delay to jump.
        trace: rate over time; replayed by changing the rate in place.
    """

    rate_bps: float
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    trace: Trace | None = None

    def __post_init__(self) -> None:
        if not LOWEST_RATE_BPS <= self.rate_bps <= HIGHEST_RATE_BPS:  # written so that NaN fails
            raise LinkSpecError("rate_bps", self.rate_bps, "a rate is from 8 bit/s to 1 Tbit/s")
        for name in ("delay_s", "jitter_s"):
            value = getattr(self, name)
            if not 0.0 <= value <= 60.0:
                raise LinkSpecError(name, value, "a delay is from 0 to 60 s")
        for name in ("loss", "reorder"):
            value = getattr(self, name)
            if not 0.0 <= value < 1.0:
                raise LinkSpecError(name, value, "a chance is at least 0 and below 1")
        if self.jitter_s > self.delay_s:
            raise LinkSpecError("jitter_s", self.jitter_s, f"jitter is at most the delay ({self.delay_s} s)")
        if self.reorder and not self.delay_s:
            raise LinkSpecError(
                "reorder", self.reorder, "reordering needs a delay: an undelayed packet overtakes no one"
            )

    def dilated(self, dilation: float) -> LinkSpec:
        """The same link *dilation* times faster: rates x k, delays / k; chances and the trace stay."""
        if not (math.isfinite(dilation) and dilation > 0):
            raise LinkSpecError("dilation", dilation, "a dilation is a finite number above 0")
        return replace(
            self,
            rate_bps=self.rate_bps * dilation,
            delay_s=self.delay_s / dilation,
            jitter_s=self.jitter_s / dilation,
        )

    @property
    def top_bps(self) -> float:
        """The highest rate that the link ever has."""
        return self.rate_bps if self.trace is None else self.trace.peak_bps

    @property
    def needs_netem(self) -> bool:
        """Whether more than a rate is asked for."""
        return bool(self.delay_s or self.jitter_s or self.loss or self.reorder)


@dataclass(frozen=True, slots=True)
class AccessLink:
    """A node's two directions: *uplink* carries what leaves it, *downlink* what enters it."""

    uplink: LinkSpec
    downlink: LinkSpec

    def dilated(self, dilation: float) -> AccessLink:
        return AccessLink(self.uplink.dilated(dilation), self.downlink.dilated(dilation))


@dataclass(frozen=True, slots=True)
class Topology:
    """A star: clients and one server around a switch that is never the bottleneck.

    ``server.uplink`` carries what the server sends, to all clients together; ``server.downlink`` what it
    receives. Both are really shared.
    """

    server: AccessLink
    clients: Mapping[str, AccessLink]

    def __post_init__(self) -> None:
        if not self.clients:
            raise LinkSpecError("clients", dict(self.clients), "a topology has at least one client")
        object.__setattr__(self, "clients", dict(self.clients))  # later changes must not reach us

    def dilated(self, dilation: float) -> Topology:
        return Topology(
            self.server.dilated(dilation),
            {name: link.dilated(dilation) for name, link in self.clients.items()},
        )
