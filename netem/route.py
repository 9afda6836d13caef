"""The way one flow takes, seen from the receiver: when its bytes can arrive if nobody else is on the shared link."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

from netem.fairness import grain
from netem.link import LinkSpec
from netem.tcp import HEADER_BYTES, INITIAL_WINDOW, CongestionControl, loss_phases
from netem.trace import Trace

_UNPACED = [(math.inf, math.inf)]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a lone flow is at some instant of its start.

    Attributes:
        sent_bits: had arrived.
        window_bits: of the window that is arriving or due next; inf once the pipe is full.
        window_left_bits: not yet arrived of that window; inf where no other window follows it.
        round_s: when that window's first bit arrived, or will.
    """

    sent_bits: float
    window_bits: float
    window_left_bits: float
    round_s: float


class Route:
    """One direction between one client and the server, without the server's shared link.

    Args:
        near: the client's link in this direction.
        shared: the server's link in this direction: its delay and loss count, its rate does not.
        back_s: one-way delay of the way back.
        trace: the client's rate over time, its instants counted from *trace_from_s*.

    Attributes:
        rate_bps: what one flow alone gets; the peak with a trace.
        entry_s: from the sender's request to the arrival of the first bit: one round trip for the handshake, one way.
    """

    __slots__ = (
        "_control",
        "_outage_s",
        "_ramp_bits",
        "_ramp_stall_s",
        "_segment_bits",
        "entry_s",
        "loss",
        "rate_bps",
        "rtt_s",
        "trace",
        "trace_from_s",
        "window_bits",
    )

    def __init__(
        self,
        near: LinkSpec,
        shared: LinkSpec,
        back_s: float,
        *,
        control: CongestionControl,
        mss: int,
        trace: Trace | None = None,
        trace_from_s: float = 0.0,
    ) -> None:
        forth_s = near.delay_s + shared.delay_s
        self.rtt_s = forth_s + back_s
        self.entry_s = self.rtt_s + forth_s
        self.trace, self.trace_from_s = trace, trace_from_s
        self._outage_s = 0.0 if trace is None else trace.longest_outage_s
        self.rate_bps = grain(near.rate_bps if trace is None else trace.peak_bps)
        self.loss = 1.0 - (1.0 - near.loss) * (1.0 - shared.loss)
        self._control: CongestionControl = control
        self._segment_bits = 8.0 * (mss + HEADER_BYTES)
        self.window_bits = INITIAL_WINDOW * self._segment_bits
        self._ramp_bits, self._ramp_stall_s = self._ramp()

    def _ramp(self) -> tuple[list[float], list[float]]:
        """(bits, stalls): a flow that has more than ``bits[k]`` to send waits ``stalls[k + 1]`` in all for windows."""
        bits, stalls = [], [0.0]
        window, sent, waited_s = self.window_bits, 0.0, 0.0
        while self.rtt_s > window / self.rate_bps:
            sent += window
            waited_s += self.rtt_s - window / self.rate_bps
            bits.append(sent)
            stalls.append(waited_s)
            window *= 2.0
        return bits, stalls

    def phases(self, bits: float) -> list[tuple[float, float]]:
        """(bits, limit in bit/s) after each other: how loss paces a transfer of *bits*; without loss, no limit."""
        if self.loss == 0.0:
            return _UNPACED
        segment = self._segment_bits
        # A packet's own time on the link is the least round trip there is.
        rtt_s = self.rtt_s + segment / self.rate_bps
        paces = loss_phases(self._control, rtt_s, self.loss, bits / segment, self.rate_bps / segment)
        return [
            (count * segment, grain(pace * segment) if pace < math.inf else pace) for count, pace in paces
        ]

    def folds(self, timeout_s: float) -> bool:
        """Whether `lone_s` knows this route: not a rate over time that loss may hold down at times, nor one that is
        dark for so long that flows give up."""
        return self.trace is None or (self.loss == 0.0 and self._outage_s < timeout_s)

    def lone_s(self, entered_s: float, bits: float) -> float:
        """Instant at which the last of *bits* arrives when the first could at *entered_s* and no one else is there."""
        if self.trace is not None:
            return self._walk(entered_s, bits, math.inf)[1]
        phases = self.phases(bits)
        at_s = entered_s
        if self.rtt_s:
            at_s += self._ramp_stall_s[bisect_left(self._ramp_bits, min(bits, phases[0][0]))]
        if phases is _UNPACED:
            return at_s + bits / self.rate_bps
        for length, limit in phases:
            share = min(bits, length)
            at_s += share / min(limit, self.rate_bps)
            bits -= share
        return at_s

    def position(self, entered_s: float, bits: float, now_s: float) -> Position:
        """Where a flow of *bits* that is alone is at *now_s*, not before *entered_s* and before its end."""
        return self._walk(entered_s, bits, now_s)[0]

    def _walk(self, entered_s: float, bits: float, stop_s: float) -> tuple[Position, float]:
        """Window after window, then phase after phase: the position at *stop_s*, and the end if it comes before."""
        (fast, _), *later = self.phases(bits)
        fast = min(bits, fast)
        sent, window, at_s = 0.0, self.window_bits, entered_s
        while sent < fast:
            last = fast - sent <= window  # asked once: sums of parts may round to a hair less than the whole
            share = fast - sent if last else window
            end_s = self._carry(at_s, share)
            stalls = not last and end_s - at_s < self.rtt_s
            if not stalls and not last:
                window, share = math.inf, fast - sent
                end_s = self._carry(at_s, share)
            if stop_s < end_s:
                had = self._carried(at_s, stop_s)
                return Position(
                    sent + had, window, max(share - had, 0.0) if stalls else math.inf, at_s
                ), end_s
            if not stalls:
                sent, at_s = fast, end_s
                break
            sent += share
            at_s += self.rtt_s
            window *= 2.0
            if stop_s < at_s:
                return Position(sent, window, window, at_s), at_s
        for length, limit in later:
            pace = min(limit, self.rate_bps)
            end_s = at_s + min(length, bits - sent) / pace
            if stop_s < end_s:
                return Position(sent + (stop_s - at_s) * pace, math.inf, math.inf, at_s), end_s
            sent += min(length, bits - sent)
            at_s = end_s
        return Position(bits, math.inf, 0.0, at_s), at_s

    def rate_at(self, now_s: float) -> float:
        """The link's rate at *now_s*."""
        return self.rate_bps if self.trace is None else grain(self.trace.rate_at(now_s - self.trace_from_s))

    def next_change(self, now_s: float) -> float:
        """When that rate next changes; inf for never."""
        if self.trace is None:
            return math.inf
        # Rounding of the sum must not bring back an instant that has passed.
        change_s = self.trace.next_change(now_s - self.trace_from_s) + self.trace_from_s
        return change_s if change_s > now_s else math.nextafter(now_s, math.inf)

    def _carry(self, from_s: float, bits: float) -> float:
        if self.trace is None:
            return from_s + bits / self.rate_bps
        return self.trace.instant_of(from_s - self.trace_from_s, bits) + self.trace_from_s

    def _carried(self, from_s: float, to_s: float) -> float:
        if self.trace is None:
            return (to_s - from_s) * self.rate_bps
        until = self.trace.bits_until
        return until(to_s - self.trace_from_s) - until(from_s - self.trace_from_s)
