"""`LinkSpec` -> the kernel's settings, and whether the kernel has them: pure arithmetic, nothing is set here.

One direction of a link is three queues:

    htb class    the rate. Its bucket is what an idle link gives away: with the usual 4 ms (and Mininet's fixed 15 kB,
                 12 ms at 10 Mbit/s) a 30 ms transfer comes out 13 to 40 % too fast. It need only bridge the time by
                 which this machine's timers are late; an eighth of a millisecond keeps 10 Gbit/s full on most.
    tbf          cuts the 64 kB super-packets of the sender's stack into frames, and holds the queue. Uncut, one
                 of them passes a 10 Mbit/s link in no time and then blocks it for 52 ms, and netem loses 44 frames
                 at once. Its own rate is out of reach; it never waits.
    netem        below tbf, only where delay, jitter, loss or reordering is asked for.

Mininet's own ``bw`` is never used: it ignores rates above 1 Gbit/s and carries 7 % too little at 1 Gbit/s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netem.link import LinkSpec

if TYPE_CHECKING:
    from netem.traffic_control import QueueState

MTU_BYTES = 1500
ETHERNET_HEADER_BYTES = 14
FRAME_BYTES = MTU_BYTES + ETHERNET_HEADER_BYTES

# What the rate delivers while the kernel is late in serving the queue; also what an idle link gives away.
LEAST_BURST_S, LARGEST_BURST_S = 0.000125, 0.004
_LATENESSES = 3  # the bucket in times of how late timers usually are at worst (their 95th percentile)
QUANTUM_BYTES = 60_000
# Packets longer than this time at the link's rate are cut into frames, as far as that is finer than 64 kB.
SEGMENT_S = 0.0005
UNCUT_BYTES = 70_000
CUTTER_RATE_BYTES_S = 12_500_000_000
# The queue before a link, in time at the link's rate; enough that one cubic flow keeps the link full.
QUEUE_S = 0.2
LEAST_QUEUE_BYTES = 10 * FRAME_BYTES
_LARGEST_QUEUE_BYTES = (1 << 31) - 1  # the kernel counts in 32 bits

_TICK_NS = 64  # the kernel's unit of packet time
_LARGEST_BURST_NS = _TICK_NS * 0xFFFF_FFFF

ROOT_HANDLE = 0x1_0000
CLASS_HANDLE = 0x1_0001
CUTTER_HANDLE = 0x10_0000
NETEM_HANDLE = 0x20_0000


@dataclass(frozen=True, slots=True)
class NetemSettings:
    """What the netem queue is told.

    Attributes:
        limit_packets: how many it holds; all that is under way, and the backlog behind the rate as well.
        keep_order: no packet overtakes the one before it however its delay is drawn (netem does that when it has a
            rate; ours is out of reach).
        seed: of its random numbers, for kernels from 6.6 on; older ones draw their own.
    """

    delay_ns: int
    jitter_ns: int
    loss: float
    reorder: float
    limit_packets: int
    keep_order: bool
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """One direction of a link as the kernel is told: bytes per second, bytes, packets."""

    rate_bytes_s: int
    burst_bytes: int
    segment_bytes: int
    queue_bytes: int
    netem: NetemSettings | None


def burst_s(timer_lateness_s: float) -> float:
    """The bucket of every link on a machine whose timers come so late, in seconds at the link's rate."""
    return min(max(_LATENESSES * timer_lateness_s, LEAST_BURST_S), LARGEST_BURST_S)


def shape(
    spec: LinkSpec, dilation: float = 1.0, *, burst_s: float = LEAST_BURST_S, seed: int | None = None
) -> Shape:
    """The settings that make *spec* true at *dilation* (rates times it, delays divided by it).

    The queue keeps its bytes under dilation, as a queue of the real link would. A trace is not looked at.
    """
    fast = spec.dilated(dilation)
    rate = round(fast.rate_bps / 8)
    queue = min(max(round(spec.rate_bps / 8 * QUEUE_S), LEAST_QUEUE_BYTES), _LARGEST_QUEUE_BYTES)
    segment = min(max(round(rate * SEGMENT_S), FRAME_BYTES), UNCUT_BYTES)
    if fast.jitter_s or fast.loss or fast.reorder:
        segment = FRAME_BYTES  # chance must fall on single frames
    netem = None
    if fast.needs_netem:
        held = rate * (fast.delay_s + fast.jitter_s) + queue
        netem = NetemSettings(
            delay_ns=round(fast.delay_s * 1e9),
            jitter_ns=round(fast.jitter_s * 1e9),
            loss=fast.loss,
            reorder=fast.reorder,
            limit_packets=max(math.ceil(1.5 * held / FRAME_BYTES), 100),  # not every packet is full
            keep_order=bool(fast.jitter_s) and not fast.reorder,
            seed=seed,
        )
    return Shape(
        rate_bytes_s=rate,
        burst_bytes=max(round(rate * burst_s), 1),
        segment_bytes=segment,
        queue_bytes=queue,
        netem=netem,
    )


def differences(asked: Shape, states: Sequence[QueueState]) -> Iterator[tuple[str, str]]:
    """What the kernel has against what it was asked for: ``(asked, got)`` for each thing that differs.

    Integers must agree exactly; what the kernel keeps in units of its own (64 ns ticks, 2^-32) within one unit.
    """
    by_place = {(state.kind, state.handle): state for state in states}
    wanted: list[tuple[str, int, dict[str, tuple[float, float]]]] = [
        (
            "htb",
            CLASS_HANDLE,
            {
                "rate_bytes_s": (asked.rate_bytes_s, 0),
                "burst_ns": (min(asked.burst_bytes / asked.rate_bytes_s * 1e9, _LARGEST_BURST_NS), _TICK_NS),
            },
        ),
        (
            "tbf",
            CUTTER_HANDLE,
            {
                "burst_bytes": (asked.segment_bytes, _TICK_NS * CUTTER_RATE_BYTES_S / 1e9),
                "rate_bytes_s": (CUTTER_RATE_BYTES_S, 0),
                **({} if asked.netem else {"limit": (asked.queue_bytes, 0)}),
            },
        ),
    ]
    if asked.netem is not None:
        wanted.append(("netem", NETEM_HANDLE, _netem_expected(asked.netem)))
    for kind, handle, expected in wanted:
        state = by_place.get((kind, handle))
        if state is None:
            yield f"a queue of kind {kind}", "none"
            continue
        for name, (value, tolerance) in expected.items():
            got = state.options.get(name)
            if got is None or abs(got - value) > tolerance:
                yield f"{kind} {name} {value:.12g}", "none" if got is None else f"{got:.12g}"
    if asked.netem is None and ("netem", NETEM_HANDLE) in by_place:
        yield "no netem", "netem"


def _netem_expected(netem: NetemSettings) -> dict[str, tuple[float, float]]:
    return {
        "delay_ns": (netem.delay_ns, 0),
        "jitter_ns": (netem.jitter_ns, 0),
        "loss": (netem.loss, 1e-9),
        "reorder": (netem.reorder, 1e-9),
        "limit": (netem.limit_packets, 0),
        "rate_bytes_s": (CUTTER_RATE_BYTES_S if netem.keep_order else 0, 0),
    }


def cutter_arguments(wanted: Shape) -> str:
    """The queue that cuts super-packets, in the words of `tc`."""
    rate, burst = f"{CUTTER_RATE_BYTES_S * 8}bit", f"{wanted.segment_bytes}b"
    return f"tbf rate {rate} burst {burst} limit {wanted.queue_bytes}b"


def netem_arguments(netem: NetemSettings) -> str:
    """The delay queue, in the words of `tc`. Names what is zero, too: what a change does not name stays as it was."""
    rate = f"{CUTTER_RATE_BYTES_S * 8}bit" if netem.keep_order else "0bit"
    return (
        f"netem limit {netem.limit_packets} delay {netem.delay_ns / 1e3:g}us {netem.jitter_ns / 1e3:g}us "
        f"loss random {netem.loss * 100:.9f}% reorder {netem.reorder * 100:.9f}% rate {rate}"
    )
