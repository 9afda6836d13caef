"""Reading queues and their counters straight from the kernel over one rtnetlink socket per namespace.

`tc -s` would cost a process per reading and rounds what it prints: a rate of 12345678 bit/s reads ``12345Kbit``.
Structures are those of ``linux/rtnetlink.h``, ``linux/pkt_sched.h`` and ``linux/gen_stats.h``.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from netem.errors import NetemError

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_TCMSG = struct.Struct("=BxxxiIII")  # family, ifindex, handle, parent, info
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_RATESPEC = struct.Struct("=BBHhHI")  # cell_log, linklayer, overhead, cell_align, mpu, rate
_HTB_TAIL = struct.Struct("=IIIII")  # buffer, cbuffer, quantum, level, prio
_TBF_TAIL = struct.Struct("=III")  # limit, buffer, mtu
_NETEM = struct.Struct("=IIIIII")  # latency, limit, loss, gap, duplicate, jitter
_QUEUE_STATS = struct.Struct("=IIIII")  # qlen, backlog, drops, requeues, overlimits

_GET_QDISC, _GET_CLASS = 38, 42
_REQUEST_DUMP = 0x1 | 0x300
_ERROR, _DONE = 2, 3
_TCA_KIND, _TCA_OPTIONS, _TCA_STATS2 = 1, 2, 7
_STATS_BASIC, _STATS_QUEUE = 1, 3
_HTB_PARMS, _HTB_RATE64 = 1, 6
_TBF_PARMS, _TBF_RATE64 = 1, 4
_NETEM_REORDER, _NETEM_LATENCY64, _NETEM_JITTER64 = 3, 10, 11
_NESTED = 0x8000
_TICK_NS = 64  # the kernel's unit of packet time, PSCHED_SHIFT = 6


class NetlinkError(NetemError):
    """The kernel refused a question."""

    def __init__(self, what: str, errno: int) -> None:
        super().__init__(what, errno)
        self.what, self.errno = what, errno

    def __str__(self) -> str:
        return f"{self.what}: {os.strerror(self.errno)}"


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue or class as the kernel has it, with its counters.

    Attributes:
        kind: ``"htb"``, ``"tbf"``, ``"netem"``, ...
        handle: ``major << 16 | minor``.
        wire_bytes: bytes handed to the device since it was made, headers of every segment counted.
        options: what we know how to read; ``rate_bytes_s``, ``burst_ns``, ``quantum_bytes`` of an htb class,
            ``burst_bytes``, ``limit`` of tbf, ``delay_ns``, ``jitter_ns``, ``loss``, ``reorder``, ``limit`` of netem.
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


class TrafficControl:
    """Questions about queues in the network namespace in which this object was made."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def classes(self, ifindex: int) -> list[QueueState]:
        return self._dump(_GET_CLASS, ifindex)

    def queues(self, ifindex: int) -> list[QueueState]:
        return self._dump(_GET_QDISC, ifindex)

    def wire_bytes(self, ifindex: int) -> int:
        """Bytes that left through the shaped class of one interface since it was shaped."""
        return sum(state.wire_bytes for state in self.classes(ifindex) if state.kind == "htb")

    def _dump(self, question: int, ifindex: int) -> list[QueueState]:
        self._sequence += 1
        length = _HEADER.size + _TCMSG.size
        self._socket.send(
            _HEADER.pack(length, question, _REQUEST_DUMP, self._sequence, 0)
            + _TCMSG.pack(0, ifindex, 0, 0, 0)
        )
        found: list[QueueState] = []
        while True:
            answer = memoryview(self._socket.recv(1 << 18))
            while answer:
                size, kind, _, sequence, _ = _HEADER.unpack_from(answer)
                if sequence == self._sequence:
                    if kind == _DONE:
                        return found
                    if kind == _ERROR:
                        raise NetlinkError(
                            f"reading the queues of interface {ifindex}",
                            -struct.unpack_from("=i", answer, _HEADER.size)[0],
                        )
                    state = _read_state(answer[_HEADER.size : size])
                    if state.ifindex == ifindex:
                        found.append(state)
                answer = answer[(size + 3) & ~3 :]


def _attributes(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & ~_NESTED, data[_ATTRIBUTE.size : size]
        data = data[(size + 3) & ~3 :]


def _read_state(data: memoryview) -> QueueState:
    _, ifindex, handle, _, _ = _TCMSG.unpack_from(data)
    attributes = dict(_attributes(data[_TCMSG.size :]))
    kind = bytes(attributes[_TCA_KIND]).rstrip(b"\0").decode("ascii")
    stats = dict(_attributes(attributes[_TCA_STATS2])) if _TCA_STATS2 in attributes else {}
    wire_bytes, packets = struct.unpack_from("=QI", stats[_STATS_BASIC]) if _STATS_BASIC in stats else (0, 0)
    qlen, backlog, drops, _, _ = (
        _QUEUE_STATS.unpack_from(stats[_STATS_QUEUE]) if _STATS_QUEUE in stats else (0, 0, 0, 0, 0)
    )
    options = attributes.get(_TCA_OPTIONS)
    return QueueState(
        ifindex=ifindex,
        kind=kind,
        handle=handle,
        wire_bytes=wire_bytes,
        packets=packets,
        drops=drops,
        backlog_bytes=backlog,
        backlog_packets=qlen,
        options=_read_options(kind, options) if options is not None else {},
    )


def _read_options(kind: str, data: memoryview) -> dict[str, float]:
    if kind == "tbf":
        attributes = dict(_attributes(data))
        parms = attributes[_TBF_PARMS]
        rate = _RATESPEC.unpack_from(parms)[5]
        if _TBF_RATE64 in attributes:
            (rate,) = struct.unpack_from("=Q", attributes[_TBF_RATE64])
        limit, buffer, _ = _TBF_TAIL.unpack_from(parms, 2 * _RATESPEC.size)
        return {"rate_bytes_s": rate, "burst_bytes": buffer * _TICK_NS * rate / 1e9, "limit": limit}
    if kind == "htb":
        attributes = dict(_attributes(data))
        if _HTB_PARMS not in attributes:  # the root, not a class
            return {}
        parms = attributes[_HTB_PARMS]
        rate = _RATESPEC.unpack_from(parms)[5]
        if _HTB_RATE64 in attributes:
            (rate,) = struct.unpack_from("=Q", attributes[_HTB_RATE64])
        burst, _, quantum, _, _ = _HTB_TAIL.unpack_from(parms, 2 * _RATESPEC.size)
        return {"rate_bytes_s": rate, "burst_ns": burst * _TICK_NS, "quantum_bytes": quantum}
    if kind == "netem":
        latency, limit, loss, _, _, jitter = _NETEM.unpack_from(data)
        attributes = dict(_attributes(data[_NETEM.size :]))
        delay_ns, jitter_ns, reorder = latency * _TICK_NS, jitter * _TICK_NS, 0
        if _NETEM_LATENCY64 in attributes:
            (delay_ns,) = struct.unpack_from("=q", attributes[_NETEM_LATENCY64])
        if _NETEM_JITTER64 in attributes:
            (jitter_ns,) = struct.unpack_from("=q", attributes[_NETEM_JITTER64])
        if _NETEM_REORDER in attributes:
            (reorder,) = struct.unpack_from("=I", attributes[_NETEM_REORDER])
        return {
            "delay_ns": delay_ns,
            "jitter_ns": jitter_ns,
            "loss": loss / 0xFFFFFFFF,
            "reorder": reorder / 0xFFFFFFFF,
            "limit": limit,
        }
    return {}
