"""A link that several clients share, served in turns: every client's packets in a queue of their own.

With one FIFO for all, who gets how much is decided by who came first and whose window was cut last: six equal flows
that start one after the other on a shared uplink end up to 60 % away from equal shares, another way each time
(measured, docs/network-model.md). That is noise in every comparison of codecs whose updates meet on a link. Here each
client has an htb class of its own below the link's, which may borrow all of the link's rate; htb hands that out in
turns of equal bytes: max-min fairness, as fq_codel and CAKE have it on the access routers of today. The same flows then
end within 0.5 % of the modelled shares (median).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from netem.netlink import CREATE, attribute, nested
from netem.shaper import (
    CLASS_HANDLE,
    CUTTER_HANDLE,
    CUTTER_RATE_BYTES_S,
    FRAME_BYTES,
    LEAST_QUEUE_BYTES,
    NETEM_HANDLE,
    ROOT_HANDLE,
    Shape,
)
from netem.traffic_control import (
    _DELETE_QDISC,
    _HTB_CEIL64,
    _HTB_GLOBAL,
    _HTB_INIT,
    _HTB_PARMS,
    _HTB_TAIL,
    _KIND,
    _LARGEST_U32,
    _LINKLAYER_ETHERNET,
    _NEW_CLASS,
    _OPTIONS,
    _RATESPEC,
    _TC_ROOT,
    _TCMSG,
    _TICK_NS,
    QueueState,
    TrafficControl,
    _netem_options,
    _tbf_options,
)

# Members are the low 16 bits of IPv4 addresses; 1:1 is the link's own class. Handles of a member's queues lie apart.
FIRST_MEMBER, LAST_MEMBER = 2, 0x2FFF
_CUTTER_BASE, _NETEM_BASE = 0x4000_0000, 0x8000_0000
# What stands in a member's queue when the others leave crosses at the whole link's rate, faster than its own access
# link would let it; a long queue for each makes that a visible gift.
_QUEUE_PARTS = 4
# A class may send this without borrowing: next to nothing, so that the link's own class decides.
_OWN_BYTES_S = 125
_BURST_NS = 1_000_000
_NEW_FILTER = 44
_BPF_OPS_LEN, _BPF_OPS = 4, 5
_BPF_INSTRUCTION = struct.Struct("=HBBI")
_LOAD_WORD, _AND, _OR, _RETURN = 0x20, 0x54, 0x44, 0x16
_ETHERTYPE_IPV4 = 0x0800
# From the Ethernet header on.
_ADDRESS_OFFSET = {"source": 26, "destination": 30}


def cutter_handle(member: int) -> int:
    """Handle of the queue that cuts this member's super-packets."""
    return _CUTTER_BASE + (member << 16)


def netem_handle(member: int) -> int:
    """Handle of this member's delay queue."""
    return _NETEM_BASE + (member << 16)


def member_shape(whole: Shape, member: int, count: int) -> Shape:
    """What the queues of one of *count* members are told, of a link of shape *whole*."""
    queue = max(whole.queue_bytes // min(count, _QUEUE_PARTS), LEAST_QUEUE_BYTES)
    netem = whole.netem
    if netem is not None and netem.seed is not None:  # or all members would lose the same packets
        netem = replace(netem, seed=(netem.seed + member) % 2**64)
    return replace(whole, queue_bytes=queue, netem=netem)


def member_states(states: Sequence[QueueState], member: int) -> list[QueueState]:
    """What the kernel has for one member, under the handles that a link of its own would have."""
    own = {
        cutter_handle(member): CUTTER_HANDLE,
        netem_handle(member): NETEM_HANDLE,
        CLASS_HANDLE: CLASS_HANDLE,
    }
    return [replace(state, handle=own[state.handle]) for state in states if state.handle in own]


class SharedTrafficControl(TrafficControl):
    """Also knows links that are shared in turns."""

    def share(
        self,
        ifindex: int,
        members: Sequence[int],
        by: Literal["source", "destination"],
        new: Shape,
        old: Shape | None = None,
    ) -> None:
        """Bring an interface into *shape*, shared among *members*. With *old*, what stands is changed in place.

        Args:
            members: low 16 bits of the members' IPv4 addresses, `FIRST_MEMBER` to `LAST_MEMBER`; the same at every
                call.
            by: where in a packet the member's address stands: on the server's way out it is the destination.
        """
        create = CREATE if old is None else 0
        if old is None:
            init = attribute(_HTB_INIT, _HTB_GLOBAL.pack(3, 10, members[0], 0, 0))
            self._set_queue(ifindex, "htb", ROOT_HANDLE, _TC_ROOT, nested(_OPTIONS, init), CREATE)
        if old is None or (new.rate_bytes_s, new.burst_bytes) != (old.rate_bytes_s, old.burst_bytes):
            self.set_rate(ifindex, new.rate_bytes_s, new.burst_bytes, create)
        for member in members:
            if old is None or new.segment_bytes != old.segment_bytes:
                self._set_turn(ifindex, member, new.segment_bytes, create)
            before = None if old is None else member_shape(old, member, len(members))
            self._set_queues(ifindex, member, member_shape(new, member, len(members)), before)
        if old is None:
            self._sort_packets(ifindex, by)

    def _set_turn(self, ifindex: int, member: int, segment_bytes: int, flags: int) -> None:
        own = _RATESPEC.pack(0, _LINKLAYER_ETHERNET, 0, 0, 0, _OWN_BYTES_S)
        unlimited = _RATESPEC.pack(0, _LINKLAYER_ETHERNET, 0, 0, 0, _LARGEST_U32)
        turn = max(
            segment_bytes, 2 * FRAME_BYTES
        )  # less than the longest packet would make htb go round in vain
        ticks = _BURST_NS // _TICK_NS
        options = nested(
            _OPTIONS,
            attribute(_HTB_PARMS, own + unlimited + _HTB_TAIL.pack(ticks, ticks, turn, 0, 0)),
            attribute(_HTB_CEIL64, struct.pack("=Q", CUTTER_RATE_BYTES_S)),
        )
        body = (
            _TCMSG.pack(0, ifindex, ROOT_HANDLE | member, CLASS_HANDLE, 0)
            + attribute(_KIND, b"htb\0")
            + options
        )
        self.change(_NEW_CLASS, body, flags, what=f"giving member {member} its turn on interface {ifindex}")

    def _set_queues(self, ifindex: int, member: int, new: Shape, old: Shape | None) -> None:
        """The member's queues, as `TrafficControl.shape` sets those of a link that is nobody else's."""
        create = CREATE if old is None else 0
        parent, cutter, delay = ROOT_HANDLE | member, cutter_handle(member), netem_handle(member)
        if old is None or (new.segment_bytes, new.queue_bytes) != (old.segment_bytes, old.queue_bytes):
            self._set_queue(ifindex, "tbf", cutter, parent, _tbf_options(new), create)
        had = old.netem if old is not None else None
        if new.netem == had:
            return
        if new.netem is not None:
            self._set_queue(
                ifindex, "netem", delay, cutter | 1, _netem_options(new.netem), 0 if had else CREATE
            )
            return
        body = _TCMSG.pack(0, ifindex, delay, cutter | 1, 0)
        self.change(_DELETE_QDISC, body, what=f"removing netem from interface {ifindex}")
        # tbf holds nothing now and drops everything until it is told its limit again.
        self._set_queue(ifindex, "tbf", cutter, parent, _tbf_options(new), 0)

    def _sort_packets(self, ifindex: int, by: Literal["source", "destination"]) -> None:
        """A program of four steps makes a class number of an address, however many members there are."""
        steps = [(_LOAD_WORD, _ADDRESS_OFFSET[by]), (_AND, 0xFFFF), (_OR, ROOT_HANDLE), (_RETURN, 0)]
        program = b"".join(_BPF_INSTRUCTION.pack(code, 0, 0, value) for code, value in steps)
        length = attribute(_BPF_OPS_LEN, struct.pack("=H", len(steps)))
        info = 1 << 16 | socket.htons(
            _ETHERTYPE_IPV4
        )  # priority 1; packets of other protocols go to the first member
        body = _TCMSG.pack(0, ifindex, 0, ROOT_HANDLE, info) + attribute(_KIND, b"bpf\0")
        body += nested(_OPTIONS, length, attribute(_BPF_OPS, program))
        self.change(_NEW_FILTER, body, CREATE, what=f"sorting packets of interface {ifindex}")
