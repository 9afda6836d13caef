"""`LinkSpec` -> the kernel's settings: pure arithmetic and `tc` lines, nothing is run here.

One direction of a link is an htb class for the rate with one leaf: a byte-limited FIFO, or netem where delay,
jitter, loss or reordering is asked for. Mininet's own ``bw`` is never used: it ignores rates above 1 Gbit/s and its
fixed 15 kB burst costs 7 % at 1 Gbit/s (measured).
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

# A token bucket must hold what the rate delivers while the kernel is late in serving it, and no more: a full bucket is
# a gift to every transfer. With the customary 4 ms a compressed update of 1.3 MB crosses "2 Gbit/s" in 0.29 of the time
# that 2 Gbit/s takes; with an eighth of a millisecond it takes 0.997, and long transfers are as true as before up to 5
# Gbit/s (measured, docs/fidelity.md). Senders must then hand over no more at once than the bucket holds.
BURST_S = 0.000125
LEAST_BURST_BYTES = 2 * FRAME_BYTES
QUANTUM_BYTES = 60_000
# The queue before a link, in time at the link's rate; enough that one cubic flow keeps the link full.
QUEUE_S = 0.2
LEAST_QUEUE_BYTES = 10 * FRAME_BYTES
LARGEST_GSO_SEGMENTS = 44  # 64 kB, the kernel's own default

ROOT_HANDLE = 0x1_0000
CLASS_HANDLE = 0x1_0001
LEAF_HANDLE = 0x10_0000


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
    """One direction of a link as the kernel is told: bytes per second, bytes, packets.

    *gso_segments* is how many frames a sender may hand over as one.
    """

    rate_bytes_s: int
    burst_bytes: int
    queue_bytes: int
    netem: NetemSettings | None
    gso_segments: int


def shape(spec: LinkSpec, dilation: float = 1.0) -> Shape:
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
    whole_packets = bool(fast.loss or fast.reorder)  # a lost or overtaking packet is one frame, not 64 kB
    burst = max(round(rate * BURST_S), LEAST_BURST_BYTES)
    return Shape(
        rate_bytes_s=rate,
        burst_bytes=burst,
        queue_bytes=queue,
        netem=netem,
        gso_segments=1 if whole_packets else min(max(burst // FRAME_BYTES, 1), LARGEST_GSO_SEGMENTS),
    )


def tc_lines(interface: str, new: Shape, old: Shape | None = None) -> Iterator[str]:
    """Lines for ``tc -batch``. With *old*, what stands is changed in place and queued packets stay queued."""
    if old is None:
        yield f"qdisc replace dev {interface} root handle 1: htb default 1"
    if old is None or (new.rate_bytes_s, new.burst_bytes) != (old.rate_bytes_s, old.burst_bytes):
        verb = "add" if old is None else "change"
        rate, burst = f"{new.rate_bytes_s * 8}bit", f"{new.burst_bytes}b"
        yield (
            f"class {verb} dev {interface} parent 1: classid 1:1 htb rate {rate} ceil {rate} "
            f"burst {burst} cburst {burst} quantum {QUANTUM_BYTES}"
        )
    if old is not None and (new.netem, new.queue_bytes) == (old.netem, old.queue_bytes):
        return
    same_kind = old is not None and (new.netem is None) == (old.netem is None)
    verb = "add" if old is None else "change" if same_kind else "replace"
    yield f"qdisc {verb} dev {interface} parent 1:1 handle 10: {leaf_arguments(new)}"


def leaf_arguments(wanted: Shape) -> str:
    """The kind and options of the leaf queue."""
    netem = wanted.netem
    if netem is None:
        return f"bfifo limit {wanted.queue_bytes}"
    words = ["netem", "limit", str(netem.limit_packets)]
    if netem.delay_us or netem.jitter_us:
        words += ["delay", f"{netem.delay_us}us"]
    if netem.jitter_us:
        words.append(f"{netem.jitter_us}us")
    if netem.loss:
        words += ["loss", "random", f"{netem.loss * 100:.9f}%"]
    if netem.reorder:
        words += ["reorder", f"{netem.reorder * 100:.9f}%"]
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
    leaf = by_place.get(("netem" if asked.netem else "bfifo", LEAF_HANDLE))
    if leaf is None:
        yield leaf_arguments(asked), f"leaves {sorted(state.kind for state in states)}"
        return
    if asked.netem is None:
        if leaf.options["limit"] != asked.queue_bytes:
            yield f"queue {asked.queue_bytes} B", f"{leaf.options['limit']:.0f} B"
        return
    expected = {
        "delay_ns": (asked.netem.delay_us * 1e3, 64),
        "jitter_ns": (asked.netem.jitter_us * 1e3, 64),
        "loss": (asked.netem.loss, 1e-8),
        "reorder": (asked.netem.reorder, 1e-8),
        "limit": (asked.netem.limit_packets, 0),
    }
    for name, (wanted, tolerance) in expected.items():
        if abs(leaf.options[name] - wanted) > tolerance:
            yield f"netem {name} {wanted:g}", f"{leaf.options[name]:g}"
