"""Queues of the kernel: made, changed in place and read back exactly.

What `tc` does, without its rounding: it prints a rate of 12345678 bit/s as ``12345Kbit``. Structures are those of
``linux/pkt_sched.h`` and ``linux/gen_stats.h``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from netem.netlink import CREATE, Netlink, attribute, attributes, nested
from netem.shaper import (
    CLASS_HANDLE,
    CUTTER_HANDLE,
    CUTTER_RATE_BYTES_S,
    NETEM_HANDLE,
    QUANTUM_BYTES,
    ROOT_HANDLE,
    NetemSettings,
    Shape,
)

_TCMSG = struct.Struct("=BxxxiIII")  # family, ifindex, handle, parent, info
_RATESPEC = struct.Struct("=BBHhHI")  # cell_log, linklayer, overhead, cell_align, mpu, rate
_HTB_GLOBAL = struct.Struct("=IIIII")  # version, rate2quantum, default class, debug, direct packets
_HTB_TAIL = struct.Struct("=IIIII")  # buffer, cbuffer, quantum, level, prio
_TBF_TAIL = struct.Struct("=III")  # limit, buffer, mtu
_NETEM = struct.Struct("=IIIIII")  # latency, limit, loss, gap, duplicate, jitter
_QUEUE_STATS = struct.Struct("=IIIII")  # qlen, backlog, drops, requeues, overlimits

_NEW_QDISC, _DELETE_QDISC, _GET_QDISC = 36, 37, 38
_NEW_CLASS, _GET_CLASS = 40, 42
_TC_ROOT = 0xFFFF_FFFF
_KIND, _OPTIONS, _STATS2 = 1, 2, 7
_STATS_BASIC, _STATS_QUEUE = 1, 3
_HTB_PARMS, _HTB_INIT, _HTB_RATE64, _HTB_CEIL64 = 1, 2, 6, 7
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_NETEM_REORDER, _NETEM_RATE, _NETEM_RATE64 = 3, 6, 8
_NETEM_LATENCY64, _NETEM_JITTER64, _NETEM_SEED = 10, 11, 14
_LINKLAYER_ETHERNET = 1
_TICK_NS = 64  # the kernel's unit of packet time, PSCHED_SHIFT = 6
_LARGEST_U32 = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue or class as the kernel has it, with its counters.

    Attributes:
        kind: ``"htb"``, ``"tbf"``, ``"netem"``, ...
        handle: ``major << 16 | minor``.
        wire_bytes: bytes handed to the device since it was made, headers of every segment counted.
        options: what we know how to read; ``rate_bytes_s``, ``burst_ns``, ``quantum_bytes`` of an htb class,
            ``burst_bytes``, ``limit`` of tbf, ``delay_ns``, ``jitter_ns``, ``loss``, ``reorder``, ``rate_bytes_s``,
            ``limit`` and, where the kernel knows it, ``seed`` of netem.
    """

    ifindex: int
    kind: str
    handle: int
    wire_bytes: int
    packets: int
    drops: int
    backlog_bytes: int
    backlog_packets: int
    options: dict[str, float]


class TrafficControl(Netlink):
    """The queues of the interfaces in one network namespace."""

    # --- reading --------------------------------------------------------------------------------------

    def queues(self, ifindexes: Sequence[int]) -> dict[int, list[QueueState]]:
        """Queues and classes of interfaces, by number.

        The kernel lists the queues of all interfaces whichever was asked for, so many are best read at once.
        """
        found: dict[int, list[QueueState]] = {ifindex: [] for ifindex in ifindexes}
        for answer in self.dump(_GET_QDISC, _TCMSG.pack(0, 0, 0, 0, 0), what="reading the queues"):
            if _TCMSG.unpack_from(answer)[1] in found:
                state = _read_state(answer)
                found[state.ifindex].append(state)
        for ifindex in ifindexes:
            body = _TCMSG.pack(0, ifindex, 0, 0, 0)
            found[ifindex] += map(
                _read_state, self.dump(_GET_CLASS, body, what=f"reading the classes of {ifindex}")
            )
        return found

    def wire_bytes(self, ifindex: int) -> int:
        """Bytes that left through the shaped class of one interface since it was shaped."""
        body = _TCMSG.pack(0, ifindex, 0, 0, 0)
        answers = self.dump(_GET_CLASS, body, what=f"reading the counters of interface {ifindex}")
        return sum(state.wire_bytes for state in map(_read_state, answers) if state.handle == CLASS_HANDLE)

    # --- setting --------------------------------------------------------------------------------------

    def shape(self, ifindex: int, new: Shape, old: Shape | None = None) -> None:
        """Bring an interface into a shape. With *old*, what stands is changed and queued packets stay queued."""
        create = CREATE if old is None else 0
        if old is None:
            init = attribute(_HTB_INIT, _HTB_GLOBAL.pack(3, 10, CLASS_HANDLE & 0xFFFF, 0, 0))
            self._set_queue(ifindex, "htb", ROOT_HANDLE, _TC_ROOT, nested(_OPTIONS, init), CREATE)
        if old is None or (new.rate_bytes_s, new.burst_bytes) != (old.rate_bytes_s, old.burst_bytes):
            self.set_rate(ifindex, new.rate_bytes_s, new.burst_bytes, create)
        if old is None or (new.segment_bytes, new.queue_bytes) != (old.segment_bytes, old.queue_bytes):
            self._set_queue(ifindex, "tbf", CUTTER_HANDLE, CLASS_HANDLE, _tbf_options(new), create)
        had = old.netem if old is not None else None
        if new.netem == had:
            return
        parent = CUTTER_HANDLE | 1
        if new.netem is not None:
            options = _netem_options(new.netem)
            self._set_queue(ifindex, "netem", NETEM_HANDLE, parent, options, 0 if had else CREATE)
            return
        body = _TCMSG.pack(0, ifindex, NETEM_HANDLE, parent, 0)
        self.change(_DELETE_QDISC, body, what=f"removing netem from interface {ifindex}")
        # tbf holds nothing now and drops everything until it is told its limit again.
        self._set_queue(ifindex, "tbf", CUTTER_HANDLE, CLASS_HANDLE, _tbf_options(new), 0)

    def set_rate(self, ifindex: int, rate_bytes_s: int, burst_bytes: int, flags: int = 0) -> None:
        """Change the rate of a shaped interface in place; its bucket is neither filled nor emptied."""
        speed = _RATESPEC.pack(0, _LINKLAYER_ETHERNET, 0, 0, 0, min(rate_bytes_s, _LARGEST_U32))
        ticks = min(max(round(burst_bytes / rate_bytes_s * 1e9 / _TICK_NS), 1), _LARGEST_U32)
        options = nested(
            _OPTIONS,
            attribute(_HTB_PARMS, speed + speed + _HTB_TAIL.pack(ticks, ticks, QUANTUM_BYTES, 0, 0)),
            attribute(_HTB_RATE64, struct.pack("=Q", rate_bytes_s)),
            attribute(_HTB_CEIL64, struct.pack("=Q", rate_bytes_s)),
        )
        body = _TCMSG.pack(0, ifindex, CLASS_HANDLE, ROOT_HANDLE, 0) + attribute(_KIND, b"htb\0") + options
        self.change(_NEW_CLASS, body, flags, what=f"setting interface {ifindex} to {rate_bytes_s} byte/s")

    def _set_queue(
        self, ifindex: int, kind: str, handle: int, parent: int, options: bytes, flags: int
    ) -> None:
        body = (
            _TCMSG.pack(0, ifindex, handle, parent, 0)
            + attribute(_KIND, kind.encode("ascii") + b"\0")
            + options
        )
        self.change(_NEW_QDISC, body, flags, what=f"setting {kind} on interface {ifindex}")


def _tbf_options(new: Shape) -> bytes:
    speed = _RATESPEC.pack(0, _LINKLAYER_ETHERNET, 0, 0, 0, _LARGEST_U32)
    none = bytes(_RATESPEC.size)
    return nested(
        _OPTIONS,
        attribute(_TBF_PARMS, speed + none + _TBF_TAIL.pack(new.queue_bytes, 0, 0)),
        attribute(_TBF_RATE64, struct.pack("=Q", CUTTER_RATE_BYTES_S)),
        attribute(_TBF_BURST, struct.pack("=I", new.segment_bytes)),
    )


def _netem_options(netem: NetemSettings) -> bytes:
    """Names everything, also what is zero: what a change does not name stays as it was."""
    chance = round(netem.loss * _LARGEST_U32)
    reorder = round(netem.reorder * _LARGEST_U32)
    fixed = _NETEM.pack(0, netem.limit_packets, chance, 1 if reorder else 0, 0, 0)
    rate = CUTTER_RATE_BYTES_S if netem.keep_order else 0
    named = [
        attribute(_NETEM_LATENCY64, struct.pack("=q", netem.delay_ns)),
        attribute(_NETEM_JITTER64, struct.pack("=q", netem.jitter_ns)),
        attribute(_NETEM_REORDER, struct.pack("=II", reorder, 0)),
        attribute(_NETEM_RATE, struct.pack("=IiIi", min(rate, _LARGEST_U32), 0, 0, 0)),
        attribute(_NETEM_RATE64, struct.pack("=Q", rate)),
    ]
    if netem.seed is not None:
        named.append(attribute(_NETEM_SEED, struct.pack("=Q", netem.seed)))
    return attribute(_OPTIONS, fixed + b"".join(named))


def _read_state(data: memoryview) -> QueueState:
    _, ifindex, handle, _, _ = _TCMSG.unpack_from(data)
    found = dict(attributes(data[_TCMSG.size :]))
    kind = bytes(found[_KIND]).rstrip(b"\0").decode("ascii")
    stats = dict(attributes(found[_STATS2])) if _STATS2 in found else {}
    wire_bytes, packets = struct.unpack_from("=QI", stats[_STATS_BASIC]) if _STATS_BASIC in stats else (0, 0)
    qlen, backlog, drops, _, _ = (
        _QUEUE_STATS.unpack_from(stats[_STATS_QUEUE]) if _STATS_QUEUE in stats else (0, 0, 0, 0, 0)
    )
    return QueueState(
        ifindex=ifindex,
        kind=kind,
        handle=handle,
        wire_bytes=wire_bytes,
        packets=packets,
        drops=drops,
        backlog_bytes=backlog,
        backlog_packets=qlen,
        options=_read_options(kind, found[_OPTIONS]) if _OPTIONS in found else {},
    )


def _read_options(kind: str, data: memoryview) -> dict[str, float]:
    match kind:
        case "htb":
            return _read_htb(dict(attributes(data)))
        case "tbf":
            return _read_tbf(dict(attributes(data)))
        case "netem":
            return _read_netem(_NETEM.unpack_from(data), dict(attributes(data[_NETEM.size :])))
    return {}


def _read_htb(found: dict[int, memoryview]) -> dict[str, float]:
    if _HTB_PARMS not in found:  # the root, not a class
        return {}
    rate = _read_rate(found[_HTB_PARMS], found.get(_HTB_RATE64))
    burst, _, quantum, _, _ = _HTB_TAIL.unpack_from(found[_HTB_PARMS], 2 * _RATESPEC.size)
    return {"rate_bytes_s": rate, "burst_ns": burst * _TICK_NS, "quantum_bytes": quantum}


def _read_tbf(found: dict[int, memoryview]) -> dict[str, float]:
    rate = _read_rate(found[_TBF_PARMS], found.get(_TBF_RATE64))
    limit, buffer, _ = _TBF_TAIL.unpack_from(found[_TBF_PARMS], 2 * _RATESPEC.size)
    return {"rate_bytes_s": rate, "burst_bytes": buffer * _TICK_NS * rate / 1e9, "limit": limit}


def _read_rate(parms: memoryview, wide: memoryview | None) -> int:
    rate: int = _RATESPEC.unpack_from(parms)[5] if wide is None else struct.unpack_from("=Q", wide)[0]
    return rate


def _read_netem(fixed: tuple[int, ...], found: dict[int, memoryview]) -> dict[str, float]:
    latency, limit, loss, _, _, jitter = fixed
    wide = {
        "delay_ns": (_NETEM_LATENCY64, "=q", latency * _TICK_NS),
        "jitter_ns": (_NETEM_JITTER64, "=q", jitter * _TICK_NS),
        "reorder": (_NETEM_REORDER, "=I", 0),
        "rate_bytes_s": (_NETEM_RATE64 if _NETEM_RATE64 in found else _NETEM_RATE, "", 0),
    }
    options: dict[str, float] = {"loss": loss / _LARGEST_U32, "limit": limit}
    for name, (kind, layout, default) in wide.items():
        layout = layout or ("=Q" if kind == _NETEM_RATE64 else "=I")
        options[name] = struct.unpack_from(layout, found[kind])[0] if kind in found else default
    options["reorder"] /= _LARGEST_U32
    if _NETEM_SEED in found:
        (options["seed"],) = struct.unpack_from("=Q", found[_NETEM_SEED])
    return options
