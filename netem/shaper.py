"""`LinkSpec` -> the kernel's settings: pure arithmetic and `tc` lines, nothing is run here.

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

from netem.link import LinkSpec
from netem.netlink import QueueState

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
_CUTTER_RATE = "100gbit"
# The queue before a link, in time at the link's rate; enough that one cubic flow keeps the link full.
QUEUE_S = 0.2
LEAST_QUEUE_BYTES = 10 * FRAME_BYTES

ROOT_HANDLE = 0x1_0000
CLASS_HANDLE = 0x1_0001
CUTTER_HANDLE = 0x10_0000
NETEM_HANDLE = 0x20_0000


@dataclass(frozen=True, slots=True)
class NetemSettings:
    """What the netem leaf is told. Delay and jitter in microseconds, limit in packets."""

    delay_us: int
    jitter_us: int
    loss: float
    reorder: float
    limit_packets: int


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


def shape(spec: LinkSpec, dilation: float = 1.0, burst_s: float = LEAST_BURST_S) -> Shape:
    """The settings that make *spec* true at *dilation* (rates times it, delays divided by it).

    The queue keeps its bytes under dilation, as a queue of the real link would.
    """
    fast = spec.dilated(dilation)
    rate = round(fast.rate_bps / 8)
    queue = max(round(spec.rate_bps / 8 * QUEUE_S), LEAST_QUEUE_BYTES)
    netem = None
    if fast.needs_netem:
        # Everything under way sits in this queue, and the backlog behind the rate as well. Packets may be small.
        held = rate * (fast.delay_s + fast.jitter_s) + queue
        netem = NetemSettings(
            delay_us=round(fast.delay_s * 1e6),
            jitter_us=round(fast.jitter_s * 1e6),
            loss=fast.loss,
            reorder=fast.reorder,
            limit_packets=max(math.ceil(1.5 * held / FRAME_BYTES), 100),
        )
    segment = min(max(round(rate * SEGMENT_S), FRAME_BYTES), UNCUT_BYTES)
    if fast.jitter_s or fast.loss or fast.reorder:
        segment = FRAME_BYTES  # chance must fall on single frames
    return Shape(
        rate_bytes_s=rate,
        burst_bytes=max(round(rate * burst_s), FRAME_BYTES),
        segment_bytes=segment,
        queue_bytes=queue,
        netem=netem,
    )


def tc_lines(interface: str, new: Shape, old: Shape | None = None) -> Iterator[str]:
    """Lines for ``tc -batch``. With *old*, what stands is changed in place and queued packets stay queued."""
    verb = "add" if old is None else "change"
    if old is None:
        yield f"qdisc replace dev {interface} root handle 1: htb default 1"
    if old is None or (new.rate_bytes_s, new.burst_bytes) != (old.rate_bytes_s, old.burst_bytes):
        rate, burst = f"{new.rate_bytes_s * 8}bit", f"{new.burst_bytes}b"
        yield (
            f"class {verb} dev {interface} parent 1: classid 1:1 htb rate {rate} ceil {rate} "
            f"burst {burst} cburst {burst} quantum {QUANTUM_BYTES}"
        )
    if old is None or (new.segment_bytes, new.queue_bytes) != (old.segment_bytes, old.queue_bytes):
        yield f"qdisc {verb} dev {interface} parent 1:1 handle 10: {cutter_arguments(new)}"
    if new.netem == (old.netem if old else None):
        return
    if new.netem is None:
        yield f"qdisc del dev {interface} parent 10:1 handle 20:"  # tbf gets its FIFO back with the next line
        yield f"qdisc change dev {interface} parent 1:1 handle 10: {cutter_arguments(new)}"
    else:
        verb = "change" if old is not None and old.netem else "add"
        yield f"qdisc {verb} dev {interface} parent 10:1 handle 20: {netem_arguments(new.netem)}"


def cutter_arguments(wanted: Shape) -> str:
    """The kind and options of the queue that cuts super-packets."""
    return f"tbf rate {_CUTTER_RATE} burst {wanted.segment_bytes}b limit {wanted.queue_bytes}b"


def netem_arguments(netem: NetemSettings) -> str:
    """The kind and options of the delay queue."""
    words = ["netem", "limit", str(netem.limit_packets)]
    if netem.delay_us:
        words += ["delay", f"{netem.delay_us}us"]
    if netem.jitter_us:
        words.append(f"{netem.jitter_us}us")
    if netem.loss:
        words += ["loss", "random", f"{netem.loss * 100:.9f}%"]
    if netem.reorder:
        words += ["reorder", f"{netem.reorder * 100:.9f}%"]
    if netem.jitter_us and not netem.reorder:
        # With a rate, netem never lets a packet overtake the one before it; this rate adds nothing itself.
        words += ["rate", _CUTTER_RATE]
    return " ".join(words)


def differences(asked: Shape, states: Sequence[QueueState]) -> Iterator[tuple[str, str]]:
    """What the kernel has against what it was asked for: ``(asked, got)`` for each thing that differs.

    Integers must agree exactly; what the kernel keeps in units of its own (64 ns ticks, 2^-32) within one unit.
    """
    by_place = {(state.kind, state.handle): state for state in states}
    htb = by_place.get(("htb", CLASS_HANDLE))
    if htb is None:
        yield "an htb class", "none"
        return
    rate, burst_ns = htb.options["rate_bytes_s"], htb.options["burst_ns"]
    if rate != asked.rate_bytes_s:
        yield f"rate {asked.rate_bytes_s * 8} bit/s", f"{rate * 8:.0f} bit/s"
    if abs(burst_ns - asked.burst_bytes / asked.rate_bytes_s * 1e9) > 1_100:  # tc counts whole microseconds
        yield f"burst {asked.burst_bytes} B", f"{burst_ns * asked.rate_bytes_s / 1e9:.0f} B"
    cutter = by_place.get(("tbf", CUTTER_HANDLE))
    if cutter is None:
        yield cutter_arguments(asked), "no tbf"
        return
    if abs(cutter.options["burst_bytes"] - asked.segment_bytes) > 800:  # one tick of 64 ns at 100 Gbit/s
        yield f"segments of {asked.segment_bytes} B", f"{cutter.options['burst_bytes']:.0f} B"
    if asked.netem is None:
        if cutter.options["limit"] != asked.queue_bytes:
            yield f"queue {asked.queue_bytes} B", f"{cutter.options['limit']:.0f} B"
        return
    delays = by_place.get(("netem", NETEM_HANDLE))
    if delays is None:
        yield netem_arguments(asked.netem), "no netem"
        return
    expected = {
        "delay_ns": (asked.netem.delay_us * 1e3, 64),
        "jitter_ns": (asked.netem.jitter_us * 1e3, 64),
        "loss": (asked.netem.loss, 1e-8),
        "reorder": (asked.netem.reorder, 1e-8),
        "limit": (asked.netem.limit_packets, 0),
    }
    for name, (wanted, tolerance) in expected.items():
        if abs(delays.options[name] - wanted) > tolerance:
            yield f"netem {name} {wanted:g}", f"{delays.options[name]:g}"
